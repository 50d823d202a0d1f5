"""Level and robust scale of a channel, and the cumulative sums of what lies beyond them."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from twin_engine.kernels._jit import kernel
from twin_engine.ports import Bool, Float, Int

MEAN_TO_SIGMA = math.sqrt(math.pi / 2)  # of a normal law: sigma over the mean absolute deviation
LARGEST = 1e120  # a greater value is taken as missing
STUCK = 8  # a value repeated more often says nothing about the noise
OVERSHOOT = 0.5826  # mean overshoot of a standard normal walk over a barrier (Siegmund 1985)
COUNT, LEVEL, SCALE, LAST, REPEATS, UP, DOWN = range(7)
SCALARS = 7


class LevelSetting(NamedTuple):
    """memory, scale_memory, warm_up: samples. clip: sigmas that one sample may move the level by. drift: sigmas. restart: -log10 p."""

    memory: float
    scale_memory: float
    warm_up: float
    clip: float
    drift: float
    restart: float


@kernel
def standardise(x: float, s: Any, c: Any) -> float:
    """Return (x - level) / scale by the past alone, then learn from x. s: (SCALARS,)."""
    n = s[COUNT]
    if n == 0.0:
        s[LEVEL], s[LAST] = x, x
    s[COUNT] = n + 1.0
    gain = max(1.0 / c.memory, 1.0 / (n + 1.0))
    error, scale = x - s[LEVEL], s[SCALE]
    limit = c.clip * scale if n >= STUCK and scale > 0.0 else math.inf
    moved = min(max(error, -limit), limit)
    s[REPEATS] = s[REPEATS] + 1.0 if x == s[LAST] else 0.0
    s[LAST] = x
    s[LEVEL] += gain * moved
    if s[REPEATS] <= STUCK and n > 0.0:
        s[SCALE] += max(1.0 / c.scale_memory, 1.0 / n) * (MEAN_TO_SIGMA * abs(moved) - scale)
    if scale > 0.0:
        return error / (scale * math.sqrt(1.0 + gain / (2.0 - gain)))  # the level's own error included
    return 0.0


@kernel
def level_kernel(x: Float, valid: Bool, rows: Int, state: Float, c: Any, out: Float, said: Bool) -> None:
    """x, valid: ``(row, channel, time)``; state ``(asset, channel, SCALARS)``; out ``(3, row, channel, time)``: z, level, scale."""
    for i in range(len(rows)):
        for ch in range(x.shape[1]):
            s = state[rows[i], ch]
            for t in range(x.shape[2]):
                if not valid[i, ch, t] or not abs(x[i, ch, t]) < LARGEST:
                    continue
                level, scale = s[LEVEL], s[SCALE]
                z = standardise(x[i, ch, t], s, c)
                if s[COUNT] > c.warm_up:
                    out[0, i, ch, t], out[1, i, ch, t], out[2, i, ch, t] = z, level, scale
                    said[i, ch, t] = True


@kernel
def cumulate(z: float, s: Any, c: Any) -> float:
    """Return -log10 p of the larger of two cumulative sums of z beyond the drift, which start anew beyond c.restart."""
    per_sigma = 2.0 * c.drift / math.log(10.0)
    top = (100.0 + math.log10(2.0)) / per_sigma  # keeps the way back short
    s[UP] = min(max(0.0, s[UP] + z - c.drift), top)
    s[DOWN] = min(max(0.0, s[DOWN] - z - c.drift), top)
    largest = max(s[UP], s[DOWN])
    found = max(0.0, per_sigma * (largest + OVERSHOOT) - math.log10(2.0)) if largest > 0.0 else 0.0
    if found >= c.restart:
        s[COUNT], s[UP], s[DOWN] = 1.0, 0.0, 0.0
        s[LEVEL] = s[LAST]
    return found


@kernel
def cusum_kernel(x: Float, valid: Bool, rows: Int, state: Float, c: Any, out: Float, said: Bool) -> None:
    """x, valid: ``(row, channel, time)``; state ``(asset, channel, SCALARS)``; out ``(1, row, channel, time)``: -log10 p."""
    for i in range(len(rows)):
        for ch in range(x.shape[1]):
            s = state[rows[i], ch]
            for t in range(x.shape[2]):
                if not valid[i, ch, t] or not abs(x[i, ch, t]) < LARGEST:
                    continue
                z = standardise(x[i, ch, t], s, c)
                if s[COUNT] > c.warm_up:
                    out[0, i, ch, t] = cumulate(z, s, c)
                    said[i, ch, t] = True
