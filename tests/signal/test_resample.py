"""Resampling against interpolation point by point."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from twin_engine.errors import DefinitionError
from twin_engine.ports import Block, BlockSpec
from twin_engine.signal.resample import Resample

HOP = Fraction(6)
RATIOS = [(1, 4), (4, 1), (2, 3), (3, 2), (1, 1), (Fraction(1, 3), 2)]


def run(stage: Resample, rate: Fraction, lag: int, x: np.ndarray, valid: np.ndarray) -> tuple[np.ndarray, Block, Fraction]:
    """Return times of the inputs, the output and its lag; the source trails by ``lag`` samples."""
    op = stage.bind(HOP, {"source": BlockSpec(rate, ("a",), lag=lag / rate)})
    start = np.array([int(5 * HOP * rate) - lag])
    _, out = op.step(op.init(1), {"source": Block(x[None, None], valid[None, None], np.zeros(1, np.int64), start)})
    return (start + np.arange(len(x))) / float(rate), out["resampled"], op.outputs["resampled"].lag


@pytest.mark.parametrize("lag", [0, 1, 2])
@pytest.mark.parametrize(("slow", "fast"), RATIOS)
@pytest.mark.parametrize("how", ["linear", "hold"])
def test_agrees_with_interpolation_point_by_point(how: str, slow: Fraction, fast: Fraction, lag: int) -> None:
    rng = np.random.default_rng(3)
    n = int(slow * HOP * 10)
    x, valid = rng.normal(size=n), rng.random(n) > 0.2
    time, got, spread = run(Resample("x", fast, how), Fraction(slow), lag, np.where(valid, x, np.nan), valid)
    at = (got.start[0] + np.arange(got.n)) / float(fast)
    assert got.start[0] == (5 * HOP - spread) * fast
    assert got.n == fast * HOP * 10
    for t, value, ok in zip(at, got.values[0, 0], got.valid[0, 0], strict=True):
        i = int(np.floor((t - time[0]) * float(slow) + 1e-9))
        part = (t - time[0]) * float(slow) - i
        if how == "hold":
            known = 0 <= i < n and valid[i]
            want = x[i] if known else 0.0
        else:
            k = i + (part > 1e-9)
            known = i >= 0 and k < n and valid[i] and valid[k]
            want = x[i] * (1 - part) + x[k] * part if known else 0.0
        assert ok == known
        assert not known or abs(value - want) < 1e-9


def test_hold_lasts_as_long_as_its_age() -> None:
    x, valid = np.arange(10.0), np.zeros(10, bool)
    valid[2] = True
    _, got, lag = run(Resample("x", 2, "hold", age="3 s"), Fraction(1), 0, x[:6], valid[:6])
    assert lag == 0
    assert np.flatnonzero(got.valid[0, 0]).tolist() == [4, 5, 6, 7, 8, 9]
    assert (got.values[got.valid] == 2.0).all()


@pytest.mark.parametrize("stage", [Resample("x", Fraction(1, 7)), Resample("x", 2, "cubic"), Resample("x", 2, "linear", age=3)])
def test_what_cannot_work_is_refused(stage: Resample) -> None:
    with pytest.raises(DefinitionError):
        stage.bind(HOP, {"source": BlockSpec(Fraction(1), ("a",))})
