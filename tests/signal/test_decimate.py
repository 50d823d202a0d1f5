"""Decimation against scipy's polyphase filter, its band, and its place on the epoch's grid."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from scipy import signal

from twin_engine.errors import DefinitionError
from twin_engine.ports import Block, BlockSpec
from twin_engine.signal.decimate import Decimate

RATE, LOW = 4096, 1024


def run(x: np.ndarray, valid: np.ndarray | None = None, lag: int = 0) -> tuple[Block, int]:
    spec = BlockSpec(Fraction(RATE), tuple(map(str, range(x.shape[1]))), lag=Fraction(lag, RATE))
    op = Decimate("x", LOW).bind(Fraction(1, 16), {"source": spec})
    block = Block(x, np.ones(x.shape, bool) if valid is None else valid, np.arange(len(x)), np.full(len(x), 256 * 7 - lag))
    return op.step(op.init(len(x)), {"source": block})[1]["decimated"], int((op.outputs["decimated"].lag - Fraction(lag, RATE)) * LOW)


def design(lag: int) -> np.ndarray:
    return signal.firwin(2 * 4 * lag + 1, 0.9 * LOW / 2, window=("kaiser", signal.kaiser_beta(80)), fs=RATE)


def test_agrees_with_resample_poly() -> None:
    x = np.random.default_rng(1).normal(size=(2, 3, 4096))
    got, lag = run(x)
    want = signal.resample_poly(x, 1, 4, axis=-1, window=design(lag))
    assert got.start.tolist() == [64 * 7 - lag] * 2
    assert got.valid[..., 2 * lag :].all()
    assert not got.valid[..., : 2 * lag].any()
    np.testing.assert_allclose(got.values[..., 2 * lag :], want[..., lag:-lag], atol=1e-12)


def test_a_source_that_trails_by_part_of_an_output_sample_stays_on_the_grid() -> None:
    x = np.random.default_rng(2).normal(size=(1, 1, 8192))
    plain, lag = run(x)
    shifted, _ = run(x[..., 3:-1], lag=1)  # the same samples, each called one output sample earlier
    assert shifted.start[0] == plain.start[0] - 1
    same = slice(2 * lag + 1, shifted.n)
    assert shifted.valid[..., same].all()
    np.testing.assert_array_equal(shifted.values[..., same], plain.values[..., same])


@pytest.mark.parametrize(("frequency", "low", "high"), [(100, 0.9999, 1.0001), (405, 0.9998, 1.0002), (513, 0, 1.2e-4), (1000, 0, 1.2e-4)])
def test_keeps_the_passband_and_takes_out_what_would_alias(frequency: float, low: float, high: float) -> None:
    got, lag = run(np.sin(2 * np.pi * frequency * np.arange(16384) / RATE)[None, None])
    gain = np.sqrt(2 * np.mean(got.values[..., 2 * lag :] ** 2))
    assert low < gain < high


def test_a_missing_sample_masks_what_it_lies_under() -> None:
    x, valid = np.ones((1, 1, 4096)), np.ones((1, 1, 4096), bool)
    valid[..., 2000] = False
    got, lag = run(np.where(valid, x, np.nan), valid)
    bad = np.flatnonzero(~got.valid[0, 0, 2 * lag :]) + lag
    assert (bad[0], bad[-1]) == (2000 // 4 - lag, 2000 // 4 + lag)
    np.testing.assert_allclose(got.values[got.valid], 1.0, atol=1e-12)


@pytest.mark.parametrize("stage", [Decimate("x", 1000), Decimate("x", 8), Decimate("x", 8192), Decimate("x", 1024, passband=1.0)])
def test_what_cannot_work_is_refused(stage: Decimate) -> None:
    with pytest.raises(DefinitionError):
        stage.bind(Fraction(1, 16), {"source": BlockSpec(Fraction(RATE), ("a",))})
