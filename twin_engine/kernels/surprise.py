"""Surprise of a non-negative statistic: -log10 of its tail probability under its own running history.

A history is a log-histogram in half octaves, ``count`` and ``total`` (BINS,), and ``meta`` (2,): the weight of all that it holds and the
half octave of bin 1. The bins move up when a value passes the last one; what falls below the first, zero too, is in bin 0.
"""

from __future__ import annotations

import math

from twin_engine.kernels._jit import kernel
from twin_engine.ports import Float

BINS = 96
QUANTILE = 0.02  # beyond this the tail is taken as exponential
ROOM = 40  # half octaves left free above the first value
LOG10_E = 0.4342944819032518


@kernel
def half_octave(f: float) -> float:
    """Return floor(2 log2 f) for f > 0."""
    return math.floor(2.0 * math.log2(f))


@kernel
def surprise(f: float, count: Float, total: Float, meta: Float) -> float:
    """Return -log10 P(F >= f) under the history, of which f is not part. 0 while there is no history.

    Inside the history it is the empirical survival. Beyond its 2 % quantile u it is P(F >= u) exp(-(f - u) / m), m the mean excess over
    u with f itself counted as one excess, so that n exceedances never give more than n + 1 times log10 e above the quantile's own.
    """
    n, origin = meta[0], meta[1]
    if n <= 0.0:
        return 0.0
    above, mass, b = 0.0, 0.0, BINS - 1
    while b > 0 and above + count[b] <= QUANTILE * n:
        above += count[b]
        mass += total[b]
        b -= 1
    u = 2.0 ** ((origin + b) / 2.0)  # upper edge of bin b
    if f >= u:
        excess = (max(0.0, mass - u * above) + f - u) / (above + 1.0)
        return LOG10_E * ((f - u) / excess if excess > 0.0 else 0.0) - math.log10((above + 0.5) / (n + 1.0))
    mine = max(0, int(half_octave(f) - origin) + 1) if f > 0.0 else 0
    while b > mine:
        above += count[b]
        b -= 1
    share = 1.0
    if mine > 0:
        low = 2.0 ** ((origin + mine - 1) / 2.0)
        share = 1.0 - (f - low) / (low * (math.sqrt(2.0) - 1.0))
    return -math.log10((above + share * count[mine] + 0.5) / (n + 1.0))


@kernel
def remember(f: float, count: Float, total: Float, meta: Float, limit: float) -> None:
    """Add one value; halve all weights when their sum passes ``limit``."""
    b = 0
    if f > 0.0:
        octave = half_octave(f)
        if meta[0] == count[0]:  # the first that is not zero
            meta[1] = octave - (BINS - 1 - ROOM)
        b = max(0, int(octave - meta[1]) + 1)
        shift = b - (BINS - 1)
        if shift > 0:
            for i in range(1, BINS):
                c, t = count[i], total[i]
                count[i], total[i] = 0.0, 0.0
                to = max(0, i - shift)
                count[to] += c
                total[to] += t
            meta[1] += shift
            b = BINS - 1
    count[b] += 1.0
    total[b] += f
    meta[0] += 1.0
    if meta[0] > limit:
        meta[0] *= 0.5
        for i in range(BINS):
            count[i] *= 0.5
            total[i] *= 0.5
