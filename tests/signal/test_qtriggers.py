"""The Q transform against the plain one of the whole record, triggers where a glitch is, and their rate in noise."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from twin_engine.errors import DefinitionError
from twin_engine.ports import Block, BlockSpec, Marks
from twin_engine.signal import QTriggers, Refractory
from twin_engine.signal.qtiling import HALF_TAPS, half_width, q_planes, row_frequencies, spacing
from twin_engine.signal.qtriggers import _quarter_band

RATE = 1024
START = 64 * 10_000_000  # s
SPEC = BlockSpec(Fraction(RATE), ("h",), null="normal")


def run(stage: QTriggers, x: np.ndarray) -> tuple[Any, Marks, Block]:
    op = stage.bind(Fraction(1, 16), {"source": SPEC})
    block = Block(x[None, None], np.ones((1, 1, len(x)), bool), np.zeros(1, np.int64), np.array([RATE * START]))
    out: Any = op.step(op.init(1), {"source": block})[1]
    return op, out["triggers"], out["energy"]


def sine_gaussian(seconds: int, at: float, f: float, q: float, size: float) -> np.ndarray:
    t = np.arange(RATE * seconds) / RATE - at
    return size * np.exp(-((2 * np.pi * f * t / q) ** 2)) * np.cos(2 * np.pi * f * t)


def whole_record(x: np.ndarray, q: float, f: float) -> np.ndarray:
    """The slow, obvious transform: one row from one FFT of everything, in double precision."""
    duration = len(x) / RATE
    offset = np.arange(len(x) // 2 + 1) / duration - f
    u = offset / float(half_width(q, f))
    window = np.where(np.abs(u) < 1, (1 - u**2) ** 2, 0.0)
    window /= np.sqrt(len(x) * np.sum(window**2))
    spectrum = np.zeros(len(x), complex)
    spectrum[: len(window)] = np.fft.rfft(x) * window
    step = 2 ** math.floor(math.log2(spacing(0.2) / (2 * np.pi) * q / f * RATE))
    return np.abs(np.fft.ifft(spectrum) * len(x))[::step] ** 2


@pytest.mark.parametrize(("q", "f"), [(5.66, 30.0), (5.66, 250.0), (11.3, 45.0), (22.6, 25.0), (45.2, 60.0), (45.2, 300.0)])
def test_a_rows_peak_is_that_of_the_whole_record(q: float, f: float) -> None:
    x = np.random.default_rng(0).normal(size=16 * RATE) + sine_gaussian(16, 8.3, f, q, 2 * math.sqrt(f / q))
    one_row = QTriggers("x", band=(f / 1.00001, f * 1.00001), q=(q, q), memory="1000000000 s")  # the level stays that of unit noise
    _, _, energy = run(one_row, x)
    got = energy.values[energy.valid].max()
    assert got > 20
    assert abs(got / whole_record(x, q, f).max() - 1) < 0.005


@pytest.mark.parametrize(("f", "q"), [(40.0, 6.0), (150.0, 10.0), (300.0, 20.0)])
def test_one_trigger_where_the_glitch_is(f: float, q: float) -> None:
    size = 15 * math.sqrt(2 * 2 * f * math.sqrt(2 * np.pi) / q / RATE)
    x = np.random.default_rng(1).normal(size=12 * RATE) + sine_gaussian(12, 7.1, f, q, size)
    _, marks, _ = run(QTriggers("x", band=(20, 400), rate="1/5 min"), x)
    near = np.abs(marks.time / 1e9 - START - 7.1) < 0.5
    assert near.sum() == 1
    column = {name: values[near][0] for name, values in marks.columns.items()}
    assert abs(column["peak"] / 1e9 - START - 7.1) < 0.03
    assert column["start"] <= column["peak"] <= column["end"]
    assert abs(math.log(column["frequency"] / f)) < 0.25
    assert column["snr"] == pytest.approx(15, rel=0.2)


def test_no_signal_between_rows_loses_more_than_the_mismatch() -> None:
    rng = np.random.default_rng(2)
    stage = QTriggers("x", band=(40, 300), memory="1000000000 s")
    for _ in range(6):
        f, q = float(rng.uniform(60, 200)), float(rng.uniform(5, 40))
        x = sine_gaussian(8, 4 + float(rng.uniform(0, 1)), f, q, 1.0)
        _, _, energy = run(stage, 30 * x)
        best = 0.0
        for trial in np.geomspace(q * 0.6, q * 1.8, 25):
            best = max(best, whole_record(30 * x, float(trial), f).max())
        assert energy.values[energy.valid].max() > 0.78 * best


def test_noise_gives_about_the_rate_that_the_threshold_is_for() -> None:
    x = np.random.default_rng(3).normal(size=256 * RATE)
    op, marks, _ = run(QTriggers("x", band=(20, 400), rate="1/s"), x)
    count = int((marks.columns["score"] > 0).sum())
    assert 0.05 < count / 256 < 1.5
    spec = op.outputs["triggers"]
    assert spec.null == "exponential"
    assert math.log(spec.trials_hz) == pytest.approx(marks.columns["score"].min(), abs=0.5)


def test_the_tiling_covers_its_range() -> None:
    planes = q_planes(4, 64, 0.2)
    assert len(planes) == 4
    for q in planes:
        rows = row_frequencies(float(q), 20, 1024, 0.2)
        step = np.diff(np.log(rows)) * math.sqrt(2 + q**2) / 2
        assert step.max() <= spacing(0.2) + 1e-12


@pytest.mark.parametrize("change", [{"band": (400, 20)}, {"q": (2, 64)}, {"mismatch": 0}, {"band": (600, 700)}])
def test_what_cannot_work_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(DefinitionError):
        QTriggers("x", **change).bind(Fraction(1, 16), {"source": SPEC})


def test_a_score_after_a_louder_one_counts_less() -> None:
    op = Refractory("x", floor=10.0).bind(Fraction(1, 16), {"source": BlockSpec(Fraction(16), ("h",))})
    score = np.full((1, 1, 64), 5.0)
    score[..., [10, 26]] = 40.0
    block = Block(score, np.ones(score.shape, bool), np.zeros(1, np.int64), np.zeros(1, np.int64))
    out: Any = op.step(op.init(1), {"source": block})[1]["score"]
    assert out.values[0, 0, 10] == pytest.approx(40)
    assert 20 < out.values[0, 0, 26] < 24


def test_the_decimator_is_scipys() -> None:
    from scipy.signal import firwin

    taps = 2 * HALF_TAPS + 1
    np.testing.assert_allclose(_quarter_band(HALF_TAPS), firwin(taps, 0.25, window=("kaiser", 9.0)), rtol=0, atol=1e-15)
