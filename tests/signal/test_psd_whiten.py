"""The running spectrum against scipy's Welch, and whitening: flat, on time, not fooled by glitches or gaps."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from scipy import signal

from twin_engine.errors import DefinitionError
from twin_engine.ports import Block, BlockSpec
from twin_engine.signal import RunningPSD, Whiten

RATE = 512
SPEC = BlockSpec(Fraction(RATE), ("h",))


def run(stage: Any, x: np.ndarray, valid: np.ndarray | None = None) -> tuple[Any, Block]:
    op = stage.bind(Fraction(1, 4), {"source": SPEC})
    mask = np.ones(x.shape, bool) if valid is None else valid
    block = Block(x[None, None], mask[None, None], np.zeros(1, np.int64), np.array([RATE * 1000]))
    return op, next(iter(op.step(op.init(1), {"source": block})[1].values()))


def coloured(seconds: int, seed: int = 0) -> np.ndarray:
    white = np.random.default_rng(seed).normal(size=RATE * seconds)
    return 1e-21 * signal.lfilter([1.0], [1.0, -0.9], white)


@pytest.mark.parametrize("average", ["median", "mean"])
def test_the_running_spectrum_is_welchs(average: str) -> None:
    x = coloured(12)
    _, psd = run(RunningPSD("x", memory="8 s", average=average), x)
    frequency, want = signal.welch(x[-8 * RATE :], RATE, nperseg=RATE, average=average)
    assert len(frequency) == psd.values.shape[1]
    np.testing.assert_allclose(psd.values[0, :, -1], want, rtol=2e-6)


def test_whitened_noise_has_unit_density_and_keeps_its_time() -> None:
    x = coloured(64)
    x[40 * RATE] += 1e-18
    op, white = run(Whiten("x"), x)
    assert white.start[0] == RATE * 1000 - RATE // 2
    assert int(np.argmax(np.abs(white.values[0, 0]))) == 40 * RATE + RATE // 2
    late = white.values[0, 0, 42 * RATE :]
    frequency, density = signal.welch(late, RATE, nperseg=RATE)
    band = (frequency > 22) & (frequency < 240)
    assert abs(density[band].mean() * RATE / 2 - 1) < 0.08
    assert op.outputs["white"].null == "normal"


def test_valid_eight_seconds_after_the_start_and_not_near_a_gap() -> None:
    x, valid = coloured(20), np.ones(20 * RATE, bool)
    valid[14 * RATE : 15 * RATE] = False
    op, white = run(Whiten("x"), x, valid)
    assert op.outputs["white"].valid_after == 8
    shown = white.valid[0, 0]
    assert not shown[: 6 * RATE].any()
    assert shown[8 * RATE : 14 * RATE].all()
    assert not shown[14 * RATE : 16 * RATE - 1].any()
    assert shown[16 * RATE :].all()


def test_a_loud_transient_does_not_change_the_filter() -> None:
    x = coloured(30)
    loud = x.copy()
    loud[15 * RATE : 15 * RATE + 100] += 1e-17
    calm, stirred = run(Whiten("x"), x)[1], run(Whiten("x"), loud)[1]
    late = slice(20 * RATE, None)
    assert abs(np.std(stirred.values[0, 0, late]) / np.std(calm.values[0, 0, late]) - 1) < 0.06


@pytest.mark.parametrize("change", [{"low": "300 Hz"}, {"warm_up": "1 s"}, {"segment": "1/1000 s"}])
def test_what_cannot_work_is_refused(change: dict[str, str]) -> None:
    with pytest.raises(DefinitionError):
        Whiten("x", **change).bind(Fraction(1, 4), {"source": SPEC})
