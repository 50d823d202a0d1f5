"""Witness subtraction: against the offline oracle, and what it must never do."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from scipy import signal

from tests.oracles.wiener import residual
from twin_engine.errors import DefinitionError
from twin_engine.ports import Block, BlockSpec
from twin_engine.signal.subtract import Subtract

RATE, SLOW, SECONDS, HOP = 512, 128, 160, Fraction(1, 8)
STAGE = Subtract("x", "w", band=(4, 60), memory="32 s", segment="1 s")
NAMES = ("a", "b", "c", "tilt")
SPECS = {"source": BlockSpec(Fraction(RATE), ("h",)), "witness": BlockSpec(Fraction(SLOW), NAMES)}


def up(w: np.ndarray) -> np.ndarray:
    return signal.resample_poly(w, RATE // SLOW, 1, axis=-1, window=("kaiser", 12.0))


@pytest.fixture(scope="module")
def made() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the floor, the witnesses at their own rate, and a coupling that is linear in a and b and modulated by the tilt in c."""
    rng = np.random.default_rng(5)
    floor = 1e-21 * rng.normal(size=RATE * SECONDS)
    w = rng.normal(size=(4, SLOW * SECONDS))
    w[3] = signal.lfilter([1.0], [1.0, -0.99], w[3]) / 7.0 + 40.0
    shape = signal.butter(2, (8, 40), "bandpass", output="sos", fs=RATE)
    coupling = signal.sosfilt(shape, up(w[0])) - 2.0 * np.roll(up(w[1]), 9) + up((w[3] - 40.0) * w[2])
    return floor, w, 3e-21 * signal.sosfilt(shape, coupling)


def run(stage: Subtract, x: np.ndarray, w: np.ndarray, valid: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return clean, removed and the mask, put back in time with x (the last lag is missing)."""
    op = stage.bind(HOP, SPECS)
    rows = np.zeros(1, np.int64)
    inputs = {
        "source": Block(x[None, None], np.ones((1, 1, len(x)), bool), rows, rows),
        "witness": Block(w[None], np.ones((1, *w.shape), bool) if valid is None else valid[None], rows, rows),
    }
    _, out = op.step(op.init(1), inputs)
    lag = int(op.outputs["clean"].lag * RATE)
    return out["clean"].values[0, 0, lag:], out["removed"].values[0, 0, lag:], out["clean"].valid[0, 0, lag:]


def band_power(x: np.ndarray, lo: float = 5, hi: float = 59, after: float = 60) -> float:
    f, p = signal.welch(x[int(after * RATE) :], RATE, nperseg=RATE)
    return float(p[(f >= lo) & (f <= hi)].sum())


def test_comes_close_to_the_offline_oracle(made: tuple[np.ndarray, ...]) -> None:
    floor, w, coupling = made
    x = floor + coupling
    clean, removed, valid = run(replace(STAGE, products=(("tilt", "c"),)), x, w)
    assert valid.all()
    np.testing.assert_allclose(clean + removed, x[: len(clean)], rtol=0, atol=1e-32)
    inputs = [*up(w), up((w[3] - 40.0) * w[2])]
    f, before, left = residual(x[60 * RATE :], [i[60 * RATE :] for i in inputs], RATE, 2 * RATE)
    _, after = signal.welch(clean[60 * RATE :], RATE, "hann", 2 * RATE)
    inside = (f >= 10) & (f <= 40)
    assert before[inside].sum() > 20 * left[inside].sum()
    assert after[inside].sum() < 1.2 * left[inside].sum()


def test_witnesses_that_know_nothing_change_nothing(made: tuple[np.ndarray, ...]) -> None:
    floor, w, _ = made
    clean, _, _ = run(STAGE, floor, w)
    assert band_power(clean) < 1.002 * band_power(floor[: len(clean)])


def test_weak_coupling_comes_out_without_harm_elsewhere(made: tuple[np.ndarray, ...]) -> None:
    floor, w, coupling = made
    clean, _, _ = run(STAGE, floor + coupling / 12, w)
    x = (floor + coupling / 12)[: len(clean)]
    assert band_power(clean, 10, 40) < band_power(x, 10, 40)
    assert band_power(clean, 70, 250) < 1.001 * band_power(x, 70, 250)


def test_absent_witnesses_let_the_source_pass(made: tuple[np.ndarray, ...]) -> None:
    floor, w, coupling = made
    x = floor + coupling
    clean, removed, valid = run(STAGE, x, np.full_like(w, np.nan), np.zeros(w.shape, bool))
    assert valid.all()
    assert not removed.any()
    np.testing.assert_array_equal(clean, x[: len(clean)])


def test_a_witness_that_dies_is_given_up_and_the_others_go_on(made: tuple[np.ndarray, ...]) -> None:
    floor, w, coupling = made
    valid = np.ones(w.shape, bool)
    valid[2, 60 * SLOW :] = False
    clean, removed, mask = run(STAGE, floor + coupling, np.where(valid, w, np.nan), valid)
    x = (floor + coupling)[: len(clean)]
    assert mask.all()
    assert np.isfinite(clean).all()
    assert not removed[61 * RATE : 62 * RATE].any()
    assert band_power(clean, after=100) < 0.5 * band_power(x, after=100)


def test_a_glitch_of_the_source_stays_and_leaves_the_filter_alone(made: tuple[np.ndarray, ...]) -> None:
    floor, w, coupling = made
    x = floor + coupling
    t = np.arange(len(x)) / RATE - 90.0
    glitch = 1e-17 * np.exp(-((t / 0.05) ** 2)) * np.sin(2 * np.pi * 25 * t)
    plain, _, _ = run(STAGE, x, w)
    clean, _, _ = run(STAGE, x + glitch, w)
    left = clean - plain
    near = np.abs(t[: len(left)]) < 0.3
    assert np.sum((left - glitch[: len(left)])[near] ** 2) < 1e-5 * np.sum(glitch**2)
    assert band_power(left[92 * RATE :], after=0) < 0.05 * band_power(plain, after=92)


def test_a_glitch_of_a_sensor_is_not_put_into_the_source(made: tuple[np.ndarray, ...]) -> None:
    floor, w, coupling = made
    hit = w.copy()
    hit[1, 90 * SLOW + 5] += 300.0
    clean, _, _ = run(STAGE, floor + coupling, hit)
    seconds = (clean[: 150 * RATE] ** 2).reshape(-1, RATE).mean(axis=1)
    untouched = ((floor + coupling) ** 2)[: 150 * RATE].reshape(-1, RATE).mean(axis=1)
    assert seconds[89:92].max() < 1.5 * untouched[60:].max()
    assert np.median(seconds[100:]) < 0.6 * np.median(untouched[100:])


@pytest.mark.parametrize(
    "stage",
    [
        replace(STAGE, band=(4, 64)), replace(STAGE, band=(0, 60)), replace(STAGE, segment="1/64 s"), replace(STAGE, memory="1 s"),
        replace(STAGE, products=(("a", "z"),)), replace(STAGE, significance=0.0), replace(STAGE, witness=()),
    ],
)  # fmt: skip
def test_what_cannot_work_is_refused(stage: Subtract) -> None:
    with pytest.raises(DefinitionError):
        stage.bind(HOP, {k: v for k, v in SPECS.items() if k == "source" or stage.witness})
