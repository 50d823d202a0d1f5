"""The simulated detector: its spectrum, its seams, and what is put into it."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest
from scipy import signal

from twin_engine.clock import NS
from twin_engine.errors import InputError
from twin_engine.ports import Float
from twin_engine.sim import KINDS, Entry, Interferometer, Lines, Wander, Witness, curve

LINES = (("mains", Lines((50.0, 150.0), (20.0, 5.0), "mains", 60.0)), ("violin", Lines((442.125, 881.5), (60.0, 30.0), "mode", 10.0)))


def strain(sim: Interferometer, first: int = 0, blocks: int | None = None) -> Float:
    found = [r[0].values[0] for _, r in zip(range(10**9 if blocks is None else blocks), sim.blocks(first), strict=False)]
    return np.concatenate(found)


@cache
def quiet(seed: int, seconds: int) -> Float:
    return strain(Interferometer(duration=seconds, seed=seed))


def witness(sim: Interferometer) -> Float:
    return np.concatenate([r[1].values for r in sim.blocks()], axis=1)


@pytest.mark.parametrize("name", ["AdV", "ET-D", "aLIGO"])
def test_noise_follows_the_curve(name: str) -> None:
    sim = Interferometer(curve=name, duration=512, rate=2048, seed=3)
    frequency, power = signal.welch(strain(sim), 2048, "blackmanharris", nperseg=16 * 2048)
    low = max(5.0, sim.curve.frequency[0])
    known = curve(name)(frequency[1:]) ** 2
    for i in range(int(3 * np.log2(1000 / low))):
        inside = (frequency[1:] >= low * 2 ** (i / 3)) & (frequency[1:] < low * 2 ** ((i + 1) / 3))
        width = inside.sum() / 16
        level = np.sqrt(np.median(power[1:][inside] / known[inside]))
        assert abs(level - 1) < 0.02 + 4 * 0.5 / np.sqrt(width * 512), (name, low * 2 ** (i / 3), level)


@pytest.mark.parametrize(("name", "file"), [("AdV", "AdV_asd"), ("ET-D", "ET_D_asd"), ("aLIGO", "aLIGO_ZERO_DET_high_P_asd")])
def test_carried_curves_equal_the_published_tables(name: str, file: str) -> None:
    path = Path(__file__).parents[2] / "../shared/data/noise_curves" / f"{file}.txt"
    if not path.exists():
        pytest.skip(f"no {path.name}: the published tables are not carried")
    frequency, amplitude = np.loadtxt(path).T
    assert np.abs(curve(name)(frequency) / amplitude - 1).max() < 0.006


def test_a_curve_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "flat_psd.txt").write_text("# f S\n0 1\n1 4e-46\n100 4e-46\n")
    assert curve(str(tmp_path / "flat_psd.txt"))(np.array([0.1, 10.0, 1e4])) == pytest.approx(2e-23)
    with pytest.raises(InputError, match="AdV, ET-D, aLIGO or a text file"):
        curve("nonsense")


def test_bins_hold_the_power_of_narrow_lines(tmp_path: Path) -> None:
    (tmp_path / "line.txt").write_text("10 1\n49.99 1\n50 100\n50.01 1\n100 1\n")
    known = curve(str(tmp_path / "line.txt"))
    fine = np.arange(49.0, 51.0, 1e-5)
    assert known.averaged(np.array([49.0, 51.0]))[0] == pytest.approx(np.sqrt(np.mean(known(fine) ** 2)), rel=1e-2)


def test_any_block_can_be_made_first() -> None:
    options = {"witnesses": (Witness("w0", mains=1.0), Witness("w1", (20, 60), 2.0), Witness("w2", (20, 60), 1.0, by="w3"), Witness("w3"))}
    whole = list(Interferometer("V1", lines=LINES, seed=5, duration=96, glitches=20.0, **options).blocks())
    for first in (0, 1, 127, 128, 300):
        again = Interferometer("V1", lines=LINES, seed="5", duration="96 s", glitches="20", **options).blocks(first)
        for old, new in zip(whole[first : first + 6], again, strict=False):
            for a, b in zip(old, new, strict=True):
                assert np.array_equal(a.values, b.values)
                assert np.array_equal(a.times, b.times)
    assert len(whole) == 96 * 4


def test_time_goes_on_from_block_to_block() -> None:
    sim = Interferometer(duration=2, start=1_700_000_000 * NS)
    times = np.concatenate([r[0].times for r in sim.blocks()])
    assert times[0] == 1_700_000_000 * NS
    assert set(np.diff(times).tolist()) == {244140, 244141}


def test_seeds_and_assets_differ() -> None:
    a, b, c = (strain(Interferometer(name, seed=seed), blocks=40) for name, seed in (("H1", 0), ("L1", 0), ("H1", 1)))
    assert abs(np.corrcoef(np.diff([a, b, c], 3))[np.triu_indices(3, 1)]).max() < 0.05


def test_noise_has_no_seam() -> None:
    """Whitened by differences, the samples around a segment's edge are like all others."""
    sim = Interferometer(curve="aLIGO", rate=512, duration=32 * 40, seed=2)
    x = strain(sim)
    white = signal.lfilter(signal.firwin(63, [40, 200], pass_zero=False, fs=512), 1, x)
    n = 32 * 512
    edges = np.concatenate([white[k * n - 8 : k * n + 40] for k in range(1, 40)])
    assert np.std(edges) == pytest.approx(np.std(white), rel=0.1)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("at", [30.0, 31.9, 33.123])
def test_a_glitch_has_the_stated_snr_and_time(kind: str, at: float) -> None:
    sim = Interferometer(duration=64, seed=7, glitches=f"{kind}@{at}:12")
    wave = strain(sim) - quiet(7, 64)
    transform = np.fft.rfft(wave) / 4096
    frequency = np.arange(len(transform)) / 64
    inside = frequency >= 10
    density = curve("AdV")(frequency[inside]) ** 2
    assert np.sqrt(4 * np.sum(np.abs(transform[inside]) ** 2 / density) / 64) == pytest.approx(12, rel=0.03)
    (truth,) = sim.truth()
    assert (truth.kind, truth.time, truth.snr) == (kind, sim.start + round(at * NS), 12)
    white = np.fft.irfft(np.where(inside, transform / curve("AdV")(np.maximum(frequency, 10)), 0))
    energy = np.cumsum(white**2) / np.sum(white**2)
    begin, end = (round((t - sim.start) * 4096 / NS) for t in (truth.start, truth.end))
    assert energy[end] - energy[begin] == pytest.approx(0.99, abs=0.01)
    assert begin / 4096 < at < end / 4096


def test_a_matched_filter_finds_the_snr_in_the_noise() -> None:
    """The statistic of a matched filter over noise and glitch is normal about the SNR with unit scale."""
    found = []
    for seed in range(6):
        loud = strain(Interferometer(duration=32, seed=seed, glitches="Blip@16:12"))
        template, data = np.fft.rfft(loud - quiet(seed, 32)), np.fft.rfft(loud * signal.windows.tukey(len(loud), 0.2))
        frequency = np.arange(len(data)) / 32
        weight = np.where(frequency >= 10, 1 / curve("AdV")(np.maximum(frequency, 10)) ** 2, 0)
        norm = np.sqrt(4 * np.sum(np.abs(template) ** 2 * weight) / (32 * 4096**2))
        found.append(4 * np.sum((data * template.conj()).real * weight) / (32 * 4096**2) / norm)
    assert np.mean(found) == pytest.approx(12, abs=4 / np.sqrt(6))


def test_drawn_glitches_are_those_of_truth() -> None:
    sim = Interferometer(duration=600, glitches=6, snr=20)
    truth = sim.truth()
    assert 30 <= len(truth) <= 95
    assert {t.kind for t in truth} == set(KINDS)
    assert min(t.snr for t in truth) >= 20
    assert truth == sorted(truth, key=lambda t: t.time)
    assert sim.truth(60) == [t for t in truth if t.time < sim.start + 60 * NS]


def test_a_schedule_that_cannot_be_read() -> None:
    with pytest.raises(InputError, match="Kinds are Blip, Tomte"):
        Interferometer(glitches="blop@3:5")
    listed = Interferometer(glitches=[Entry("scattered-light", 3.0, 9.0)], duration=10).truth()
    assert [(t.kind, t.snr) for t in listed] == [("Scattered_Light", 9.0)]


def test_lines_drift_and_are_continuous() -> None:
    sim = Interferometer(lines=LINES, duration=192, seed=1, rate=2048)
    bare = Interferometer(duration=192, seed=1, rate=2048)
    lines = strain(sim) - strain(bare)
    time = np.arange(len(lines)) / 2048
    for frequency, knot in ((50.0, 60.0), (442.125, 10.0)):
        low_pass = signal.butter(4, 2.0, fs=2048, output="sos")
        envelope = signal.sosfiltfilt(low_pass, lines * np.exp(-2j * np.pi * frequency * time))[4096:-4096]
        level = np.abs(envelope)
        assert 0.02 < np.std(level) / np.mean(level) < 1.0
        step = np.abs(np.diff(envelope)).max() * 2048
        assert step < 8 * np.mean(level) / min(knot, 10.0), frequency
    jumps = np.abs(np.diff(lines, 2))
    edges = np.array([32, 64, 96, 128, 160]) * 2048
    assert jumps[edges - 1].max() < jumps.max()


def test_line_strength_is_in_units_of_the_curve() -> None:
    group = Lines((100.0,), (50.0,), "mode", 4.0)
    sim = Interferometer(lines=[("mode", group)], duration=640, rate=512, line_strength=2)
    lines = strain(sim) - strain(Interferometer(duration=640, rate=512))
    assert np.sqrt(np.mean(lines**2)) == pytest.approx(100 * curve("AdV")(np.array([100.0]))[0], rel=0.25)


def test_wander_is_smooth_and_of_unit_variance() -> None:
    values = Wander(0, "x", 2.0, 3).at(np.arange(0, 4000, 0.5))
    assert np.std(values, axis=1) == pytest.approx([1, 1, 1], rel=0.08)
    assert np.abs(np.diff(values, axis=1)).max() < 1.6
    assert np.array_equal(Wander(0, "x", 2.0, 3).at(np.array([1000.0, 1000.5])), values[:, 2000:2002])


def test_a_witness_couples_linearly_with_the_stated_ratio() -> None:
    sensors = (Witness("w1", (30, 80), 2.0, delay=0.004), Witness("w2", (30, 80)))
    sim = Interferometer(witnesses=sensors, duration=128, rate=1024)
    h, w = strain(sim), witness(sim)
    frequency, coherence = signal.coherence(h, w[0], 1024, nperseg=2048)
    inside = (frequency > 35) & (frequency < 75)
    assert np.mean(coherence[inside]) == pytest.approx(4 / 5, abs=0.04)
    assert np.mean(signal.coherence(h, w[1], 1024, nperseg=2048)[1][inside]) < 0.05
    _, cross = signal.csd(w[0], h, 1024, nperseg=2048)
    slope = np.polyfit(frequency[inside], np.unwrap(np.angle(cross[inside])), 1)[0]
    assert -slope / (2 * np.pi) == pytest.approx(0.004, rel=0.05)
    assert np.std(w[0]) == pytest.approx(1, rel=0.05)


def test_a_modulated_witness_shows_only_in_the_product() -> None:
    sensors = (Witness("fast", (30, 80), 3.0, by="slow"), Witness("slow"))
    sim = Interferometer(witnesses=sensors, duration=256, rate=1024)
    h, w = strain(sim), witness(sim)
    frequency, alone = signal.coherence(h, w[0], 1024, nperseg=4096)
    product = signal.coherence(h, w[0] * w[1], 1024, nperseg=4096)[1]
    inside = (frequency > 35) & (frequency < 75)
    assert np.mean(alone[inside]) < 0.15
    assert np.mean(product[inside]) > 0.75


def test_a_gap_is_a_time_without_readings() -> None:
    sim = Interferometer(duration=4, faults="gap@1.1:0.5")
    times = np.concatenate([r.times for block in sim.blocks() for r in block])
    seconds = (times - sim.start) / NS
    assert not ((seconds >= 1.1) & (seconds < 1.6)).any()
    assert len(times) == round(3.5 * 4096)
