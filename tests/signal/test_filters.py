"""Biquad cascades against scipy, their validity, and what is refused."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from scipy import signal

from twin_engine.errors import DefinitionError
from twin_engine.ports import Block, BlockSpec
from twin_engine.signal.filters import BandPass, HighPass, Notch
from twin_engine.stage import Stage

RATE = 512
SPEC = BlockSpec(Fraction(RATE), ("a", "b"), ("m", "m"))
DESIGNS = [
    (BandPass("x", (20, "60 Hz"), order=3), signal.butter(3, (20, 60), "bandpass", output="sos", fs=RATE)),
    (HighPass("x", 12.5), signal.butter(4, 12.5, "highpass", output="sos", fs=RATE)),
    (Notch("x", (50, 100, 150), q=12), np.array([np.hstack(signal.iirnotch(f, 12, fs=RATE)) for f in (50, 100, 150)])),
]


def run(stage: Stage, x: np.ndarray, valid: np.ndarray | None = None) -> tuple[Block, int]:
    op = stage.bind(Fraction(1, 8), {"source": SPEC})
    rows = np.arange(len(x))
    block = Block(x, np.ones(x.shape, bool) if valid is None else valid, rows, rows * 64)
    _, out = op.step(op.init(len(x)), {"source": block})
    return out["filtered"], int(op.memory * RATE)


@pytest.mark.parametrize(("stage", "sos"), DESIGNS)
def test_agrees_with_sosfilt_begun_at_rest_on_the_first_value(stage: Stage, sos: np.ndarray) -> None:
    x = np.random.default_rng(1).normal(300.0, 1.0, size=(3, 2, 4096))
    got, _ = run(stage, x)
    rest = signal.sosfilt_zi(sos)[:, None, None, :] * x[..., :1]
    want, _ = signal.sosfilt(sos, x, axis=-1, zi=rest)
    np.testing.assert_allclose(got.values, want, rtol=0, atol=3e-10)  # scipy's own rounding at an offset of 300


@pytest.mark.parametrize(("stage", "sos"), DESIGNS)
def test_is_valid_once_the_answer_to_a_step_has_settled(stage: Stage, sos: np.ndarray) -> None:
    x = np.ones((1, 2, 4096))
    x[..., 0] = 0.0
    got, settle = run(stage, x)
    assert not got.valid[..., :settle].any()
    assert got.valid[..., settle:].all()
    final = np.prod(sos[:, :3].sum(1) / sos[:, 3:].sum(1))
    assert np.abs(got.values[got.valid] - final).max() < 5e-3 * np.abs(got.values - final).max()


def test_an_invalid_sample_holds_the_last_and_masks_until_settled() -> None:
    stage, sos = DESIGNS[0]
    x = np.random.default_rng(2).normal(size=(1, 2, 8192))
    valid = np.ones(x.shape, bool)
    valid[0, 1, 3000:3005] = False
    got, settle = run(stage, np.where(valid, x, np.nan), valid)
    assert got.valid[0, 0, settle:].all()
    assert not got.valid[0, 1, 3000 : 3005 + settle].any()
    assert got.valid[0, 1, 3005 + settle :].all()
    x[0, 1, 3000:3005] = x[0, 1, 2999]
    want = signal.sosfilt(sos, x - x[..., :1], axis=-1)
    np.testing.assert_allclose(got.values, want, rtol=0, atol=1e-12)


def test_tiny_values_keep_their_precision() -> None:
    x = np.random.default_rng(3).normal(size=(1, 2, 1024))
    big, small = run(DESIGNS[0][0], x)[0].values, run(DESIGNS[0][0], x * 2.0**-70)[0].values
    np.testing.assert_array_equal(big * 2.0**-70, small)


def test_a_series_has_the_same_bits_alone_and_among_many() -> None:
    x = np.random.default_rng(4).normal(size=(20, 2, 1000))
    many = run(DESIGNS[0][0], x)[0].values
    for row in (0, 7, 19):
        np.testing.assert_array_equal(many[row], run(DESIGNS[0][0], x[row : row + 1])[0].values[0])


@pytest.mark.parametrize(
    "stage",
    [
        BandPass("x", (0, 20)), BandPass("x", (30, 20)), BandPass("x", (20, 256)), HighPass("x", 300), HighPass("x", 10, order=0),
        Notch("x", ()), Notch("x", (50,), q=0),
    ],
)  # fmt: skip
def test_what_cannot_work_is_refused(stage: Stage) -> None:
    with pytest.raises(DefinitionError):
        stage.bind(Fraction(1, 8), {"source": SPEC})
