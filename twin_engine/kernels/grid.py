"""Single samples put on the grid of their asset, and hops cut off it, for any number of assets in one call.

The state of all assets is in arrays, a row an asset (``twin_engine.grid`` makes them). What a sample may need beyond the common case is
done elsewhere: ``place`` leaves it out.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from twin_engine.kernels._jit import kernel
from twin_engine.ports import Bool, Float, Int

NEVER = -(2**62)
FAR = 2**62
DROPPED = ("late", "duplicate", "conflict", "not_finite", "clock_jump", "unknown_channel")
MIXED, UNKNOWN = -1, -2  # in place of a stream: there is no one stream of all the channels, or none has any of them
WAITS, ODD, STRANGE, KEPT_BACK = range(4)  # what becomes of a sample that is left out
_UNCOMMON, _LATE, _BACK, _AHEAD, _STRANGE = -1, -2, -3, -4, -5


class Lanes(NamedTuple):
    """The streams of a twin, all int64 ``(stream,)`` unless said.

    rate: numerator of the sample rate; period: ns in which so many samples fit. per_hop: samples. bound: ns that the clock may leap. wait:
    hops without samples that are no gap yet. slack: float, ns that a sample may lie off the grid. hold: samples for which a value stays
    true. waited: bool, hops wait for it. first: its first channel, ``(stream + 1,)``. low, high: float ``(channel,)``, the range. lateness:
    ns, ``(1,)``.
    """

    rate: Int
    period: Int
    per_hop: Int
    bound: Int
    wait: Int
    slack: Float
    hold: Int
    waited: Bool
    first: Int
    low: Float
    high: Float
    lateness: Int


class Rows(NamedTuple):
    """All assets: int64 ``(row,)``, ``(row, stream)`` (newest to size) or ``(row, channel)`` (top, last_index) unless said.

    Hops are counted without what long gaps skip: next: the first that is not cut; lead: one past the newest with a sample; closed: one
    past the last that waits for nothing more; shift: those skipped so far; cut: where the next skip will be. restart: bool. arrival:
    newest. pending: ``(row, entry, 2)``, arrivals and the lead they first reached, ``pending_n`` of them. newest: time. suspect:
    ``(row, stream, 2)``, the time of a sample that is kept back and how many values it has, 0 where none is. base: index of the first
    cell; offset, size: where the cells are, and how many for each channel. top: one past the newest index filled. plain: bool, nothing is
    held against the channel. last, last_index: newest valid value that was cut off. values float, filled, valid bool: the cells of all, by
    offset.
    """

    next: Int
    lead: Int
    closed: Int
    shift: Int
    cut: Int
    restart: Bool
    arrival: Int
    pending: Int
    pending_n: Int
    newest: Int
    suspect: Int
    base: Int
    offset: Int
    size: Int
    top: Int
    plain: Bool
    last: Float
    last_index: Int
    values: Float
    filled: Bool
    valid: Bool


@kernel
def place(
    g: Any, k: Any, dropped: Int, rows: Int, lanes: Int, ends: Int, channels: Int, times: Int, values: Float, arrivals: Int,
    which: Int, fate: Int, blocked: Bool,
) -> Any:  # fmt: skip
    """Put samples on the grid in turn, those that ``which`` names; return how many are left out, and the values taken.

    Left out is what is no common case (ODD), and whatever comes after it for its row: it WAITS for it, unless the row is to begin anew, for
    then all of them are ODD. Some are left out though their row goes on: a sample far ahead of the rest, for the caller to keep
    (KEPT_BACK), and one of channels that are UNKNOWN, for the caller to tell (STRANGE). The places of all these are the first in ``which``
    then, and ``fate`` tells which is which. blocked: ``(row,)``, none yet.

    Sample i is of stream ``lanes[i]`` of ``rows[i]`` at ``times[i]``, its values those from ``ends[i]`` to ``ends[i + 1]``, one a channel
    of the twin, which ``channels`` names. arrivals: 0 where there is none. dropped: values that are counted there and left out, by the
    place of their reason in ``DROPPED``.
    """
    left = put = 0
    for n in range(len(which)):
        i: int = which[n]
        row, lane, lo, hi = rows[i], lanes[i], ends[i], ends[i + 1]
        plain = lane >= 0 and not blocked[row]
        if plain:
            for j in range(lo, hi):
                c, x = channels[j], values[j]
                plain &= g.plain[row, c] and (k.low[c] <= x <= k.high[c] or not math.isfinite(x))
        cell = _cell(g, k, dropped, row, lane, times[i]) if plain else _STRANGE if lane == UNKNOWN and not blocked[row] else _UNCOMMON
        if cell == _UNCOMMON:
            which[left], fate[left] = i, WAITS if blocked[row] and g.cut[row] == FAR else ODD
            left += 1
            blocked[row] = True
            continue
        if cell == _STRANGE:
            dropped[5] += hi - lo
            which[left], fate[left] = i, STRANGE
            left += 1
        elif cell == _BACK:
            dropped[4] += hi - lo
        elif cell == _AHEAD:
            g.suspect[row, lane, 0], g.suspect[row, lane, 1] = times[i], hi - lo
            which[left], fate[left] = i, KEPT_BACK
            left += 1
        else:
            for j in range(lo, hi):
                dropped[3] += not math.isfinite(values[j])
            if cell == _LATE:
                dropped[0] += hi - lo
            else:
                _fill(g, k, dropped, row, lane, cell, channels[lo:hi], values[lo:hi])
            put += hi - lo
            g.newest[row, lane] = max(g.newest[row, lane], times[i])
        arrival = arrivals[i]
        if arrival == 0:
            arrival = g.newest[row, 0]
            for other in range(1, len(k.rate)):
                arrival = max(arrival, g.newest[row, other])
            arrival = min(times[i], arrival)
        advance(g, k, row, arrival)
    return left, put


@kernel
def _fill(g: Any, k: Any, dropped: Int, row: int, lane: int, cell: int, channels: Int, values: Float) -> None:
    """Put the values of a sample into a cell, save for channels where there is one; the first is kept."""
    first, size, offset, index = k.first[lane], g.size[row, lane], g.offset[row, lane], g.base[row, lane] + cell
    for j in range(len(channels)):
        c, x = channels[j], values[j]
        at, ok = offset + (c - first) * size + cell, math.isfinite(x)
        if g.filled[at]:
            dropped[1 if g.values[at] == x or not (ok or g.valid[at]) else 2] += 1
        else:
            g.values[at], g.valid[at], g.filled[at] = x, ok, True
        g.top[row, c] = max(g.top[row, c], index + 1)
    g.lead[row] = max(g.lead[row], (index + 1) // k.per_hop[lane])


@kernel
def _cell(g: Any, k: Any, dropped: Int, row: int, lane: int, time: int) -> int:
    """Return the cell of a sample that comes where it should, or _LATE, _BACK or _AHEAD (by more than the clock may leap), or _UNCOMMON.

    The first of a row says where the row begins. A sample that goes on from before one that is kept back has that one dropped.
    """
    newest, bound = g.newest[row, lane], k.bound[lane]
    if g.cut[row] != FAR:
        return _UNCOMMON
    if g.suspect[row, lane, 1] > 0:
        if abs(time - g.suspect[row, lane, 0]) <= bound:
            return _UNCOMMON
        dropped[4] += g.suspect[row, lane, 1]
        g.suspect[row, lane, 1] = 0
    if newest > NEVER and abs(time - newest) > bound:
        return _BACK if time < newest else _AHEAD
    rate, period, per_hop = k.rate[lane], k.period[lane], k.per_hop[lane]
    whole = time // period
    index = whole * rate + ((time - whole * period) * rate + period // 2) // period
    whole = index // rate
    on_grid = whole * period + ((index - whole * rate) * period + rate // 2) // rate
    if abs(on_grid - time) > k.slack[lane]:
        return _UNCOMMON
    if g.next[row] == NEVER:
        g.next[row] = index // per_hop
        for other in range(len(k.per_hop)):
            g.base[row, other] = g.next[row] * k.per_hop[other]
    if index // per_hop - g.shift[row] - max(g.lead[row], g.next[row], g.closed[row]) - 1 > k.wait[lane]:
        return _UNCOMMON
    inner = index - g.shift[row] * per_hop
    cell = inner - g.base[row, lane]
    if cell < 0 or (g.closed[row] > NEVER and inner < g.closed[row] * per_hop):
        return _LATE
    return cell if cell < g.size[row, lane] else _UNCOMMON


@kernel
def advance(g: Any, k: Any, row: int, arrival: int) -> None:
    """Close the hops of a row that every stream has filled, or that were reached the lateness before its newest arrival.

    Where more arrivals are pending than fit (they came faster than the hops they fill), the newest stands for those before it.
    """
    g.arrival[row] = max(g.arrival[row], arrival)
    complete = FAR
    for lane in range(len(k.waited)):
        if k.waited[lane]:
            for c in range(k.first[lane], k.first[lane + 1]):
                top = g.top[row, c]
                complete = min(complete, top // k.per_hop[lane] if top > NEVER else NEVER)
    closed, n, lead, pending = max(g.closed[row], complete), g.pending_n[row], g.lead[row], g.pending[row]
    if lead > closed and (n == 0 or lead > pending[n - 1, 1]):
        n = min(n + 1, len(pending))
        pending[n - 1, 0], pending[n - 1, 1] = arrival, lead
    gone = 0
    while gone < n and pending[gone, 0] + k.lateness[0] <= g.arrival[row]:
        closed = max(closed, pending[gone, 1])
        gone += 1
    while gone < n and pending[gone, 1] <= closed:
        gone += 1
    for i in range(gone, n):
        pending[i - gone, 0], pending[i - gone, 1] = pending[i, 0], pending[i, 1]  # a row at once would compile the text of an error
    g.pending_n[row], g.closed[row] = n - gone, closed


@kernel
def cut(g: Any, k: Any, lane: int, rows: Int, values: Float, valid: Bool) -> None:
    """Cut the first cells of a stream off, as many as there are in ``values`` and ``valid``, ``(row, channel, sample)``."""
    first, n = k.first[lane], values.shape[2]
    for i in range(len(rows)):
        row = rows[i]
        size, base = g.size[row, lane], g.base[row, lane]
        top = g.top[row, first]
        for c in range(first, k.first[lane + 1]):
            top = max(top, g.top[row, c])
        keep = max(0, min(top - base - n, size - n))
        for c in range(values.shape[1]):
            at = g.offset[row, lane] + c * size
            _held(g, k.hold[lane], row, first + c, at, base, values[i, c], valid[i, c], min(n, size))
            for t in range(at, at + keep):
                g.values[t], g.filled[t], g.valid[t] = g.values[t + n], g.filled[t + n], g.valid[t + n]
            g.values[at + keep : at + min(size, n + keep)] = 0.0
            g.filled[at + keep : at + min(size, n + keep)] = False
            g.valid[at + keep : at + min(size, n + keep)] = False
        g.base[row, lane] = base + n


@kernel
def _held(g: Any, hold: int, row: int, c: int, at: int, base: int, values: Float, valid: Bool, there: int) -> None:
    """Copy the cells of a channel; one that nothing filled has the last valid value, valid itself for ``hold`` samples."""
    for t in range(len(values)):
        filled = t < there and g.filled[at + t]
        good = t < there and g.valid[at + t]
        x = g.values[at + t] if t < there else 0.0
        if hold > 0:
            if good:
                g.last[row, c], g.last_index[row, c] = x, base + t
            else:
                x, good = g.last[row, c], not filled and base + t - g.last_index[row, c] <= hold
        values[t], valid[t] = x, good


def no_cells() -> tuple[Float, Bool, Bool]:
    """Return values, filled and valid of no cells."""
    return np.zeros(0), np.zeros(0, bool), np.zeros(0, bool)
