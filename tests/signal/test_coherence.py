"""Running coherence against scipy's, and its floor."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from scipy import signal

from twin_engine.errors import DefinitionError
from twin_engine.ports import Block, BlockSpec
from twin_engine.signal.coherence import Coherence

HOP, RATE = Fraction(1, 4), 128


def run(stage: Coherence, x: np.ndarray, y: np.ndarray, rate_b: int = RATE, lag: Fraction = Fraction(0)) -> tuple[Block, Block, Fraction]:
    specs = {
        "a": BlockSpec(Fraction(RATE), tuple(f"a{i}" for i in range(len(x))), lag=lag),
        "b": BlockSpec(Fraction(rate_b), tuple(f"b{i}" for i in range(len(y))), lag=lag),
    }
    op = stage.bind(HOP, specs)
    rows = np.zeros(1, np.int64)
    inputs = {
        "a": Block(x[None], np.ones((1, *x.shape), bool), rows, rows - int(lag * RATE)),
        "b": Block(y[None], np.ones((1, *y.shape), bool), rows, rows - int(lag * rate_b)),
    }
    _, out = op.step(op.init(1), inputs)
    return out["coherence"], out["floor"], op.outputs["coherence"].lag


def related(seconds: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(6)
    x, y = rng.normal(size=(2, RATE * seconds)), rng.normal(size=(2, RATE * seconds))
    return x, y + 0.5 * np.roll(x[:1], 3, axis=1)


def test_agrees_with_scipy_when_nothing_is_forgotten() -> None:
    x, y = related(40)
    got, _, lag = run(Coherence("a", "b", ((4, 20), (30, 60)), "1 s", 1e7), x, y)
    assert lag == 0
    want = []
    for i in range(2):
        for j in range(2):
            f, c = signal.coherence(x[i], y[j], RATE, "hann", RATE)
            want += [c[(f >= lo) & (f <= hi)].mean() for lo, hi in ((4, 20), (30, 60))]
    np.testing.assert_allclose(got.values[0, :, -1], want, rtol=1e-5)


def test_forgets_with_its_time_constant() -> None:
    x, y = related(40)
    got, _, _ = run(Coherence("a", "b", ((4, 20),), "1 s", "5 s"), x, y)
    sums = np.zeros((3, RATE // 2 + 1), complex)
    window = signal.get_window("hann", RATE)
    for begin in range(0, RATE * 39 + 1, RATE // 2):
        a, b = (np.fft.rfft(window * signal.detrend(s[begin : begin + RATE], type="constant")) for s in (x[0], y[1]))
        sums = sums * np.exp(-0.1) + np.array([abs(a) ** 2, abs(b) ** 2, a * b.conj()])
    want = (abs(sums[2]) ** 2 / (sums[0] * sums[1]).real)[4:21].mean()
    np.testing.assert_allclose(got.values[0, 1, -1], want, rtol=1e-10)


def test_the_floor_is_what_strangers_show() -> None:
    x = np.random.default_rng(8).normal(size=(6, RATE * 120))
    got, floor, _ = run(Coherence("a", "b", ((4, 60),), "1 s", "8 s"), x[:3], x[3:])
    after = slice(200, None)
    assert got.valid[..., after].all()
    np.testing.assert_allclose(got.values[..., after].mean(), floor.values[..., after].mean(), rtol=0.05)


def test_rates_may_differ_and_a_lag_is_rounded_to_hops() -> None:
    x, _ = related(30)
    slow = signal.resample_poly(x[:1], 1, 2, axis=1)
    got, floor, lag = run(Coherence("a", "b", ((4, 20),), "1 s", "8 s"), x, slow, RATE // 2, Fraction(3, 64))
    assert (lag, got.start[0]) == (HOP, -1)
    assert got.values[0, 0, -1] > 0.99
    assert got.values[0, 1, -1] < 5 * floor.values[0, 1, -1]
    assert not got.valid[..., :15].any()


@pytest.mark.parametrize(
    "stage",
    [
        Coherence("a", "b", ((4, 64),)), Coherence("a", "b", ((0, 4),)), Coherence("a", "b", ()), Coherence("a", "b", ((4, 20),), "1/3 s"),
        Coherence("a", "b", ((4, 20),), "1 s", "2 s"),
    ],
)  # fmt: skip
def test_what_cannot_work_is_refused(stage: Coherence) -> None:
    with pytest.raises(DefinitionError):
        stage.bind(HOP, {"a": BlockSpec(Fraction(RATE), ("x",)), "b": BlockSpec(Fraction(RATE), ("y",))})
