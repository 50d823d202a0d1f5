"""Online tail of declustered peaks: peaks over threshold with a generalised Pareto law, of one row, in live time.

Two memories. ``ring``: the last peaks above a moving floor: each time the ring is full and peaks still come more than twice as often as is
wanted, the floor rises to the median, so that the ring holds the top of all that was seen. ``base``: the last peaks of any height, from
which the ring is started anew when the row has become so quiet that nothing has passed the floor for long.

Sources: Pickands 1975; Coles 2001, ch. 4-5 (runs declustering); Siffer et al. 2017 (SPOT). Different from SPOT: the fit is penalised
(a normal prior on the shape), alarmed peaks are censored at the threshold that they passed, the floor moves, and where a null law is
stated the fit takes its place only when the peaks speak against it.

Arguments everywhere: ``f`` and ``w`` are a row of AlarmState.real and .whole, the other arrays are a row of their namesakes.
"""

from __future__ import annotations

from math import exp, expm1, log, log1p
from typing import Any

import numpy as np

from twin_engine.kernels._jit import kernel, owning_kernel
from twin_engine.kernels.alarm_state import (
    BASE,
    BASE_COUNT,
    BASE_EXPOSURE,
    BASE_HEAD,
    COUNT,
    EXPOSURE,
    FLOOR,
    HEAD,
    RING,
    SCALE,
    SHAPE,
    SILENCE,
    STALE,
    STATED,
)  # fmt: skip
from twin_engine.ports import Bool, Float, Int

SHAPE_SD = 0.25  # prior standard deviation of the shape, around 0 (exponential)
SHAPE_MIN, SHAPE_MAX = -0.25, 1.0
QUIET = 0.5  # share of the ring's live time without a peak after which it is started anew: a night must not make it forget the day
OUTSIDE = 12.0  # median excesses: an exponential passes that once in 4000 peaks
GOLDEN = 0.6180339887498949


@kernel
def _penalised(x: Float, censored: Bool, n: int, free: float, theta: float) -> tuple[float, float, float]:
    """Return profile log-likelihood (with the prior), shape and scale at theta = shape / scale (Grimshaw 1993, with censoring)."""
    total = 0.0
    seen = 0.0
    for i in range(n):
        part = log1p(theta * x[i])
        total += part
        if not censored[i]:
            seen += part
    shape = min(max(total / free, SHAPE_MIN), SHAPE_MAX)
    scale = shape / theta
    if not scale > 0.0:
        return -np.inf, shape, scale
    return -free * log(scale) - seen - total / shape - shape * shape / (2.0 * SHAPE_SD * SHAPE_SD), shape, scale


@kernel
def fit(x: Float, censored: Bool, n: int, tiny: float) -> tuple[float, float]:
    """Return shape and scale (at least ``tiny``) of the generalised Pareto law of n excesses ``x >= 0``; a censored one says "at least"."""
    total, top, free = 0.0, 0.0, 0.0
    for i in range(n):
        total += x[i]
        top = max(top, x[i])
        free += 0.0 if censored[i] else 1.0
    free = max(free, 1.0)
    mean = total / free
    if mean <= tiny or n < 8:
        return 0.0, max(mean, tiny)
    low, high = -min(0.25, 0.9 * mean / top), 4.0  # theta in units of 1 / mean
    a, b = high - GOLDEN * (high - low), low + GOLDEN * (high - low)
    at_a, at_b, left = 0.0, 0.0, True
    for k in range(18):  # golden section, written with one call: each call is compiled again
        here = _penalised(x, censored, n, free, (a if left else b) / mean)[0]
        if left:
            at_a = here
        else:
            at_b = here
        if k == 0:
            left = False
            continue
        left = at_a >= at_b
        if left:
            high, b, at_b = b, a, at_a
            a = high - GOLDEN * (high - low)
        else:
            low, a, at_a = a, b, at_b
            b = low + GOLDEN * (high - low)
    theta = 0.5 * (low + high)
    if abs(theta) < 1e-3:
        return 0.0, mean
    _, shape, scale = _penalised(x, censored, n, free, theta / mean)
    return shape, max(scale, tiny)


@kernel
def _borne_out(x: Float, censored: Bool, n: int, shape: float, scale: float) -> bool:
    """Whether the stated law, exponential with mean 1, explains the excesses as well as the fitted one, which has two numbers more.

    By the criterion of Schwarz 1978. Extrapolated over several nats a fit to some 200 peaks errs by half a nat and more, and on average
    its alarms come too often: what a threshold too low lets through outweighs what one too high keeps back.
    """
    gain = -log(max(float(n), 2.0))
    for i in range(n):
        part = log1p(shape * x[i] / scale) if abs(shape) > 1e-9 else 0.0
        survival = part / shape if abs(shape) > 1e-9 else x[i] / scale
        gain += x[i] - survival
        if not censored[i]:
            gain -= log(scale) + part
    return gain < 0.0


@owning_kernel
def refit(f: Float, w: Int, ring: Any, censored: Bool) -> None:
    """Fit the ring again; a stated law stays until the peaks speak against it."""
    n = w[COUNT]
    x = np.empty(n)
    for i in range(n):
        x[i] = max(ring[i] - f[FLOOR], 0.0)
    f[SHAPE], f[SCALE] = fit(x, censored, n, 1e-6 * abs(f[FLOOR]) + 1e-300)
    if w[STATED] and _borne_out(x, censored, n, f[SHAPE], f[SCALE]):
        f[SHAPE], f[SCALE] = 0.0, 1.0
    w[STALE] = 0


@kernel
def frequency(f: Float, w: Int, x: float) -> float:
    """Return how often, a second of live time, a peak at least as high as x comes (never more than peaks above the floor do).

    A fitted law may end at a finite height (shape below 0). Beyond what was seen that end is not evidence: the exponential law, which has
    none, stands in for it, so nothing is told to be impossible.
    """
    rate = w[COUNT] / f[EXPOSURE]
    y = (x - f[FLOOR]) / f[SCALE]
    if not y > 0.0:
        return rate
    if f[SHAPE] < 1e-9:
        return max(rate * exp(-y), 1e-300)
    return rate * exp(-log(1.0 + f[SHAPE] * y) / f[SHAPE])


@kernel
def level(f: Float, w: Int, rate: float, least: float) -> float:
    """Return the height that peaks pass at ``rate`` a second of live time, at least ``least``; infinite while nothing is known."""
    if w[COUNT] == 0:
        return np.inf
    depth = log(w[COUNT] / f[EXPOSURE] / rate)
    if depth <= 0.0:
        return max(f[FLOOR], least)
    factor = depth if abs(f[SHAPE]) < 1e-9 else expm1(f[SHAPE] * depth) / f[SHAPE]
    return max(f[FLOOR] + f[SCALE] * factor, least)


@kernel
def _median(x: Any) -> float:
    """Return the upper median by counting: rare, short arrays, and a sort takes seconds to compile."""
    half = len(x) // 2
    for i in range(len(x)):
        below, equal = 0, 0
        for k in range(len(x)):
            below += x[k] < x[i]
            equal += x[k] == x[i]
        if below <= half < below + equal:
            return x[i]
    return np.nan


@owning_kernel
def _raise_floor(f: Float, w: Int, ring: Any, censored: Bool) -> None:
    """Lift the floor to the median of a full ring and keep what is above it, in order (what is equal too, where ties leave too little)."""
    floor = _median(ring)
    above = 0
    for i in range(RING):
        above += ring[i] > floor
    old, flags = ring.copy(), censored.copy()
    kept = 0
    for i in range(RING):
        at = (w[HEAD] + i) % RING
        if old[at] > floor or (above < RING // 4 and old[at] == floor):
            ring[kept], censored[kept] = old[at], flags[at]
            kept += 1
    w[COUNT], w[HEAD], f[FLOOR] = kept, 0, floor


@kernel
def push(f: Float, w: Int, ring: Any, censored: Bool, x: float, at_least: bool, wanted: float) -> None:
    """Add a peak to the tail if it is above the floor. at_least: it is censored. wanted: peaks a second above the floor."""
    if not x > f[FLOOR]:
        return
    f[SILENCE] = 0.0
    if w[COUNT] == RING and w[COUNT] / f[EXPOSURE] > 2.0 * wanted:
        _raise_floor(f, w, ring, censored)
        w[STALE] = RING
    if x > f[FLOOR]:
        at = w[COUNT]
        if at < RING:
            w[COUNT] += 1
        else:
            at = w[HEAD]
            w[HEAD] = (at + 1) % RING
            f[EXPOSURE] -= f[EXPOSURE] / RING
        ring[at], censored[at] = x, at_least
    w[STALE] += 1
    if w[STALE] > w[COUNT] >> 5:
        refit(f, w, ring, censored)


@kernel
def push_base(f: Float, w: Int, base: Any, x: float) -> None:
    """Add a peak of any height to the short memory."""
    at = w[BASE_HEAD]
    if w[BASE_COUNT] == BASE:
        f[BASE_EXPOSURE] -= f[BASE_EXPOSURE] / BASE
    else:
        w[BASE_COUNT] += 1
    base[at] = x
    w[BASE_HEAD] = (at + 1) % BASE


@kernel
def _reseed(f: Float, w: Int, ring: Any, censored: Bool, base: Any) -> None:
    """Start the tail anew from the upper half of the short memory; peaks far outside it, which no alarm has judged, are left out."""
    floor = _median(base)
    above, kept = 0, 0
    for i in range(BASE):
        above += base[i] > floor
    for i in range(BASE):
        x = base[(w[BASE_HEAD] + i) % BASE]
        if x > floor or (above < BASE // 4 and x == floor):
            ring[kept], censored[kept] = x, False
            kept += 1
    highest = floor + OUTSIDE * (_median(ring[:kept]) - floor)
    among, kept = kept, 0
    for i in range(among):
        if ring[i] <= highest:
            ring[kept] = ring[i]
            kept += 1
    w[COUNT], w[HEAD], f[FLOOR] = kept, 0, floor
    f[EXPOSURE], f[SILENCE] = f[BASE_EXPOSURE], 0.0
    refit(f, w, ring, censored)


@kernel
def pass_time(f: Float, w: Int, ring: Any, censored: Bool, base: Any, live: float) -> None:
    """Count live seconds; start the tail from the short memory when there is none yet, or when the row has become quiet."""
    f[EXPOSURE] += live
    f[BASE_EXPOSURE] += live
    f[SILENCE] += live
    quiet = f[SILENCE] > QUIET * f[EXPOSURE] and f[SILENCE] > f[BASE_EXPOSURE]  # and all of ``base`` is from the silence
    if w[BASE_COUNT] == BASE and (w[COUNT] == 0 or quiet):
        _reseed(f, w, ring, censored, base)
