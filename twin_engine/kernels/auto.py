"""The general univariate detector, one channel at a time: statistics, their surprise, the sum, the hold-off.

A statistic is a non-negative number that is large when something is odd; its unit does not matter, since each is judged by its own history.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from twin_engine.kernels._jit import kernel
from twin_engine.kernels.prototypes import box_novelty, lag_novelty
from twin_engine.kernels.surprise import remember, surprise
from twin_engine.ports import Bool, Float, Int

RING = 256
DAY_S, DAY_BINS = 900.0, 96  # bins of the day's profile
WEEK_S, WEEK_BINS = 1800.0, 336
DAY_GAIN, WEEK_GAIN = 0.2, 0.3  # weight of a bin's newest visit: memories of 5 days and of 3 weeks
CLIP = 5.0  # a profile learns at most so many mean absolute residuals at once
SHORT = 32  # samples over which variance and roughness are taken
RESIDUAL_MEANS = (4, 12, 36)  # samples
MEANS = (4, 8, SHORT, 128)
COLLECTIVE = 16  # samples, memory of the mean surprise
CAP, USUAL = 4.0, 0.5  # a statistic adds its surprise above USUAL, at most CAP
HALF = 8.0  # the sum at which an alarm begins
FLOOR = 0.6 * HALF  # the sum from which the hold-off reckons
ODD, TRAIL = 2.0, 8.0  # -log10 p from which a sample is odd in itself; samples without one after which an alarm ends
STATISTICS = 13  # those of `measure`, then the mean surprise, then the sum
STILL = 0.25  # of the usual step between samples: less is as good as none
LARGEST = 1e120  # a greater value is taken as missing: its square would not be finite
COUNT, LEVEL, RESIDUAL, VARIANCE, ROUGHNESS, MEAN, TIME, PERIOD = range(8)
SCALARS = 8
HELD = 5


class AutoState(NamedTuple):
    """State, each array ``(row, channel, ...)``."""

    scalar: Float  # (SCALARS,)
    ring: Float  # (2, RING): values and seasonal residuals
    profile: Float  # (DAY_BINS + WEEK_BINS, 2): mean and visits
    lag: Any  # float32 (strides, prototypes, LAGS)
    used: Int  # (strides, prototypes): sample at which each was last near
    box: Any  # float32 (boxes, 2, BOX): low and high corners
    boxes: Int  # (1,)
    span: Float  # (BOX, 2): range seen in the warm-up
    weight: Float  # (STATISTICS + 2, BINS): histories, see `twin_engine.kernels.surprise`
    total: Float
    meta: Float  # (STATISTICS + 2, 2)
    held: Float  # (HELD,), see `hold`


class _Measured(NamedTuple):
    """What the statistics of one channel are taken from: of AutoState."""

    scalar: Float
    ring: Float
    profile: Float
    lag: Any
    used: Int
    box: Any
    boxes: Int
    span: Float


class AutoSetting(NamedTuple):
    """Time constants in samples. memory: of level, variance, roughness; warm_up: before anything is said; hold_off: after an alarm."""

    memory: float
    history: float
    warm_up: float
    hold_off: float


@kernel
def _window_mean(ring: Float, last: int, n: int) -> float:
    """Return the mean of the n newest values of a ring whose length is a power of two."""
    total = 0.0
    for i in range(n):
        total += ring[(last - i) & (RING - 1)]
    return total / n


@kernel
def _seasonal_residual(x: float, time: float, scalar: Float, profile: Float) -> float:
    """Return x less the nearer of what the day's and the week's profile say (the level where both are new), and teach both."""
    gap = time - scalar[TIME]
    scalar[TIME] = time
    if 0.0 < gap <= WEEK_S:
        scalar[PERIOD] += (gap - scalar[PERIOD]) * (0.01 if scalar[PERIOD] > 0.0 else 1.0)
    r = math.inf
    for season in range(2):
        b = int((time % 86400.0) / DAY_S) if season == 0 else DAY_BINS + int((time % 604800.0) / WEEK_S)
        visit = DAY_S if season == 0 else WEEK_S
        gain = (DAY_GAIN if season == 0 else WEEK_GAIN) / max(1.0, visit / max(scalar[PERIOD], 1e-9))
        mean, visits = profile[b, 0], profile[b, 1]
        d = x - mean
        if visits > 0.0:
            if abs(d) < abs(r):
                r = d
            limit = CLIP * scalar[RESIDUAL]
            if limit > 0.0:
                d = min(max(d, -limit), limit)
        profile[b, 0] = mean + max(gain, 1.0 / (visits + 1.0)) * d
        profile[b, 1] = visits + 1.0
    return r if r < math.inf else x - scalar[LEVEL]


@kernel
def _drop(now: float, usual: float) -> float:
    """Return by how many octaves a spread lies below its usual size, at most 10."""
    return max(0.0, math.log2(1.001 / (now / usual + 0.001))) if usual > 0.0 else 0.0


@kernel
def _measure(x: float, time: float, s: Any, c: Any, f: Float, vector: Float, lags: Any) -> None:
    """Take one value, put the STATISTICS into f and update all but the histories."""
    n = int(s.scalar[COUNT])
    if n == 0:
        for i in range(RING):
            s.ring[0, i] = x
        s.scalar[LEVEL] = x
    last = n & (RING - 1)
    s.ring[0, last] = x
    s.ring[1, last] = _seasonal_residual(x, time, s.scalar, s.profile)
    level, variance, roughness = s.scalar[LEVEL], s.scalar[VARIANCE], s.scalar[ROUGHNESS]
    f[0] = abs(s.ring[1, last])
    for k, length in enumerate(RESIDUAL_MEANS):
        f[1 + k] = abs(_window_mean(s.ring[1], last, length))
    for k, length in enumerate(MEANS):
        vector[k] = _window_mean(s.ring[0], last, length)
    m8, m32 = vector[1], vector[2]
    f[4] = abs(m8 - level)
    f[5] = abs(m32 - level)
    var, rough = 0.0, 0.0
    for i in range(SHORT):
        a = s.ring[0, (last - i) & (RING - 1)]
        var += (a - m32) ** 2 / SHORT
        rough += abs(a - s.ring[0, (last - i - 1) & (RING - 1)]) / SHORT
    f[6] = _drop(math.sqrt(var), math.sqrt(variance))
    f[7] = _drop(rough, roughness)
    f[8] = max(0.0, math.log2(rough / roughness)) if roughness > 0.0 and rough > 0.0 else 0.0
    vector[1], vector[4], vector[5] = m8 - x, x, math.sqrt(var)
    f[12] = box_novelty(vector, n, c.warm_up, s.span, s.box, s.boxes)
    lag_novelty(s.ring[0], n, s.lag, s.used, math.sqrt(variance), lags, f, 9)
    gain = max(1.0 / c.memory, 1.0 / (n + 1.0))
    s.scalar[LEVEL] += gain * (x - level)
    s.scalar[RESIDUAL] += gain * (f[0] - s.scalar[RESIDUAL])
    s.scalar[VARIANCE] += gain * (var - variance)
    s.scalar[ROUGHNESS] += gain * (rough - roughness)
    s.scalar[COUNT] = n + 1.0


@kernel
def _judge(f: float, weight: Float, total: Float, meta: Float, limit: float) -> float:
    """Return the surprise of a statistic and add it to its history."""
    found = surprise(f, weight, total, meta)
    remember(f, weight, total, meta, limit)
    return found


@kernel
def hold(total: float, own: float, held: Float, hold_off: float) -> tuple[float, bool]:
    """Return the sum, or 0 where one at least half as large was let through less than the hold-off ago, and whether an alarm is on.

    own: how odd the sample is in itself, -log10 p. held: (HELD,), the last sum let through above FLOOR, samples since, alarm on, the
    alarm's highest sum, samples since one that kept it on. An alarm begins at a sum of HALF that is let through. It ends when the sum falls
    below FLOOR; after TRAIL samples of which none was odd in itself or made the sum higher than before, because long windows remember an
    excursion that is over; and after the hold-off, so that a sensor that stays odd does not alarm for ever.
    """
    held[1] += 1.0
    silent = held[0] > 0.0 and held[1] <= hold_off and total <= 2.0 * held[0]
    if not silent and total > FLOOR:
        held[0], held[1] = total, 0.0
    if not silent and total >= HALF:
        held[2], held[3], held[4] = 1.0, total, 0.0
    else:
        held[4] = 0.0 if own >= ODD or total > held[3] else held[4] + 1.0
        held[3] = max(held[3], total)
        if total < FLOOR or held[1] >= hold_off or held[4] >= TRAIL:
            held[2] = 0.0
    return 0.0 if silent else total, held[2] > 0.0


@kernel
def hold_kernel(total: Float, own: Float, held: Float, hold_off: float, out: Float, on: Bool) -> None:
    """Run the hold-off over sums (time,); out and on, (time,), get what it lets through and where an alarm is on."""
    for t in range(len(total)):
        out[t], on[t] = hold(total[t], own[t], held, hold_off)


@kernel
def auto_kernel(
    x: Float, valid: Bool, time: Float, rows: Int, state: Any, c: Any, f: Float, vector: Float, lags: Any, out: Float, said: Bool
) -> None:
    """Run all rows and channels.

    x, valid: ``(row, channel, time)``; a value beyond LARGEST is taken as missing. time: ``(row, time)``, Unix seconds. out: ``(4, row,
    channel, time)``, gets the sum, the sample's own oddness, the sum's surprise and the alarm. said: where they are valid.
    f ``(STATISTICS,)``, vector and lags ``(LAGS,)``, float32 the last: room to work in.
    A sample is as odd in itself as its residual is, or, where it hardly differs from the one before, as the drop of variance or roughness.
    """
    for i in range(len(rows)):
        for ch in range(x.shape[1]):
            row, held = rows[i], state.held[rows[i], ch]
            s = _Measured(
                state.scalar[row, ch], state.ring[row, ch], state.profile[row, ch], state.lag[row, ch], state.used[row, ch],
                state.box[row, ch], state.boxes[row, ch], state.span[row, ch],
            )  # fmt: skip
            weight, sums, meta = state.weight[row, ch], state.total[row, ch], state.meta[row, ch]
            for t in range(x.shape[2]):
                if not valid[i, ch, t] or not abs(x[i, ch, t]) < LARGEST or not abs(time[i, t]) < LARGEST:
                    continue
                _measure(x[i, ch, t], time[i, t], s, c, f, vector, lags)
                last = int(s.scalar[COUNT]) - 1
                still = abs(x[i, ch, t] - s.ring[0, (last - 1) & (RING - 1)]) <= STILL * s.scalar[ROUGHNESS]
                total, own = 0.0, 0.0
                for k in range(STATISTICS):
                    found = _judge(f[k], weight[k], sums[k], meta[k], c.history)
                    total += min(max(found - USUAL, 0.0), CAP)
                    if k == 0 or (still and (k == 6 or k == 7)):
                        own = max(own, found)
                s.scalar[MEAN] += (total - s.scalar[MEAN]) / COLLECTIVE
                n = STATISTICS
                total += 2.0 * min(max(_judge(s.scalar[MEAN], weight[n], sums[n], meta[n], c.history) - USUAL, 0.0), CAP)
                rare = _judge(total, weight[n + 1], sums[n + 1], meta[n + 1], math.inf)
                if s.scalar[COUNT] > c.warm_up:
                    said[i, ch, t] = True
                    out[0, i, ch, t], out[1, i, ch, t], out[2, i, ch, t] = total, own, rare
                    _, on = hold(total, own, held, c.hold_off)
                    out[3, i, ch, t] = 1.0 if on else 0.0
