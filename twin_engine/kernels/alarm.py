"""The alarm: points of surprise in, events out, one row after the other, hop by hop.

Arguments everywhere: ``f``, ``w`` and the other arrays are a row of the fields of AlarmState, ``c`` is the Policy, ``d`` the Points, ``p``
a point.
"""

from __future__ import annotations

from math import expm1
from typing import Any

import numpy as np

from twin_engine.kernels._jit import kernel
from twin_engine.kernels.alarm_state import (
    ARMED,
    CEILING,
    COUNT,
    CREST,
    CREST_AT,
    CREST_CENSORED,
    EXPOSURE,
    FAR,
    FLOOR,
    HOT,
    HOT_LIVE,
    LIVE,
    OPEN,
    ORDINAL,
    PASSED,
    PEAK,
    PENDING,
    PENDING_AT,
    PENDING_CENSORED,
    RECENT,
    RECENT_HEAD,
    REPORTED,
    REVISION,
    SCORE,
    START,
    THRESHOLD,
    WINDOW,
)  # fmt: skip
from twin_engine.kernels.tail import frequency, level, pass_time, push, push_base
from twin_engine.ports import Bool, Float, Int

INTS, FLOATS = 8, 3  # columns of the tables of `advance`, channel weights and attributes left out
GROWTH = 1.5  # of an event's peak above the floor, since the last revision, that is worth another


@kernel
def _close_window(f: Float, w: Int, ring: Any, censored: Bool, base: Any, c: Any, now: int) -> None:
    """Take the crest of a window that has passed as a peak; neighbours within ``gap`` are one cluster: the higher counts."""
    ready = f[CREST] > -np.inf and now >= (w[WINDOW] + 1) * c.window
    near = ready and w[CREST_AT] - w[PENDING_AT] <= c.gap
    if f[PENDING] > -np.inf and not near and (ready or now - w[PENDING_AT] > c.gap + c.window):
        push(f, w, ring, censored, f[PENDING], w[PENDING_CENSORED] == 1, c.wanted)
        f[PENDING] = -np.inf
    if ready:
        push_base(f, w, base, f[CREST])
        if f[CREST] > f[PENDING]:
            f[PENDING], w[PENDING_AT], w[PENDING_CENSORED] = f[CREST], w[CREST_AT], w[CREST_CENSORED]
        f[CREST] = -np.inf


@kernel
def _common(recent: Float, x: float, live: float, habituation: float) -> bool:
    """Whether RECENT alarms at least as high came within the habituation: such a peak is what the row does."""
    for i in range(RECENT):
        if recent[0, i] < x or live - recent[1, i] > habituation:
            return False
    return True


@kernel
def _expected(f: Float, w: Int, censored: Bool, c: Any) -> bool:
    """Whether one more alarm is no more than the asked rate gives by chance; what is beyond that is real and says nothing of the tail."""
    held = 0
    for i in range(w[COUNT]):
        held += censored[i]
    return held + 0.5 < c.share * c.rate * f[EXPOSURE]


@kernel
def _extend(f: Float, w: Int, share: Float, extra: Float, recent: Float, d: Any, p: int, live: float) -> None:
    """Add a point to the open event."""
    x = d.score[p]
    w[HOT], f[HOT_LIVE] = max(w[HOT], d.end[p]), live
    for k in range(len(share)):
        share[k] += d.share[p, k]
    if x > f[SCORE]:
        w[PEAK], f[SCORE] = d.peak[p], x
        f[FAR] = frequency(f, w, x)
        for k in range(len(extra)):
            extra[k] = d.extra[p, k]
        recent[0, (w[RECENT_HEAD] - 1) % RECENT] = x


@kernel
def _begin(f: Float, w: Int, share: Float, recent: Float, start: int, live: float) -> None:
    """Open an event that has no point yet."""
    w[OPEN], w[START], w[HOT] = 1, start, start
    f[SCORE], f[PASSED] = -np.inf, f[THRESHOLD]
    w[ORDINAL] += 1
    w[REVISION] = -1
    recent[1, w[RECENT_HEAD]] = live
    w[RECENT_HEAD] = (w[RECENT_HEAD] + 1) % RECENT
    for k in range(len(share)):
        share[k] = 0.0


@kernel
def _write(f: Float, w: Int, share: Float, extra: Float, row: int, time: int, final: bool, c: Any, ints: Int, floats: Float) -> None:
    """Put a revision of the event into one row of the tables."""
    w[REVISION] += 1
    f[REPORTED] = f[SCORE]
    ints[0], ints[1], ints[2], ints[3] = row, time, w[START], w[PEAK]
    ints[4], ints[5], ints[6], ints[7] = w[HOT], w[REVISION], 1 if final else 0, w[ORDINAL]
    floats[0], floats[1], floats[2] = f[SCORE], f[FAR], -expm1(-f[FAR] * c.window * 1e-9)
    total = 0.0
    for k in range(len(share)):
        total += share[k]
    for k in range(len(share)):
        floats[3 + k] = share[k] / total if total > 0.0 else 1.0 / len(share)
    for k in range(len(extra)):
        floats[3 + len(share) + k] = extra[k]


@kernel
def _ordinary(f: Float, w: Int, c: Any, x: float, start: int, peak: int, live: float) -> None:
    """Count a point that belongs to no event. In the hold-off after one, it is censored like the event's own peak."""
    if not w[ARMED] and x >= _low(f, c):
        f[HOT_LIVE] = live
    at_least = x >= f[THRESHOLD] and start < w[HOT] + c.hold_off
    if at_least:
        x = f[THRESHOLD]
    if x > f[CREST]:
        f[CREST], w[CREST_AT], w[CREST_CENSORED] = x, peak, at_least
    w[WINDOW] = peak // c.window


@kernel
def _low(f: Float, c: Any) -> float:
    """Return the lower threshold, above which an event goes on."""
    return f[FLOOR] + c.hysteresis * (f[THRESHOLD] - f[FLOOR]) if f[THRESHOLD] < np.inf else np.inf


@kernel
def _begins(f: Float, w: Int, recent: Float, c: Any, x: float, start: int, live: float) -> bool:
    """Whether a point outside any event opens one."""
    if x < f[THRESHOLD] or live < c.warm_up or start < w[HOT] + c.hold_off:
        return False
    back = w[ARMED] == 1 or x > f[CEILING] + f[THRESHOLD] - f[FLOOR]
    return back and not _common(recent, x, live, c.habituation)


@kernel
def _rearm(f: Float, w: Int, c: Any, live: float) -> None:
    """Arm the row again when it has been below the lower threshold for a gap of live time."""
    if not w[OPEN] and (live - f[HOT_LIVE]) * 1e9 > c.gap:
        w[ARMED] = 1


@kernel
def advance(s: Any, c: Any, rows: Int, d: Any, ints: Int, floats: Float) -> int:
    """Take whole hops of the rows, put the revisions of events into tables, sorted by row and time, and return how many there are.

    At most there is one for each point and each hop of a row. ints: row, time (the last ns of the hop in which the revision was made),
    start, peak, end, revision, final, ordinal. floats: score, far (Hz), p, channel weights, attributes.
    """
    n = 0
    for i in range(len(rows)):
        r = rows[i]
        f, w, ring, censored, base = s.real[r], s.whole[r], s.ring[r], s.censored[r], s.base[r]
        share, extra, recent = s.share[r], s.extra[r], s.recent[r]
        for j in range(d.ends.shape[1]):
            end, slope, last = d.ends[i, j], d.live[i, j] / c.hop, d.first[i, j + 1]
            for p in range(d.first[i, j], last + 1):  # one turn more for the hop's end
                x = d.score[p] if p < last else np.inf
                if x <= f[CREST] and x < f[THRESHOLD] and w[ARMED] and not w[OPEN] and d.peak[p] < (w[WINDOW] + 1) * c.window:
                    continue  # nearly all points: nothing changes
                time = d.start[p] if p < last else end
                live = f[LIVE] + (slope * max(time - (end - c.hop), 0.0) if p < last else d.live[i, j])
                done = w[OPEN] == 1 and (time - w[HOT] > c.gap or w[HOT] - w[START] >= c.longest)
                if done:  # its peak enters the tail as "at least the threshold it passed", however loud it was
                    w[OPEN], w[ARMED], f[CEILING] = 0, 0, f[SCORE]
                    if _expected(f, w, censored, c):
                        push(f, w, ring, censored, f[PASSED], done, c.wanted)  # done, not True: another type is another compilation
                _close_window(f, w, ring, censored, base, c, d.peak[p] if p < last else end)
                _rearm(f, w, c, live)
                if p == last:
                    f[LIVE] = live
                    if not w[OPEN]:
                        pass_time(f, w, ring, censored, base, d.live[i, j])
                        f[THRESHOLD] = level(f, w, c.rate, c.least)
                grown = w[REVISION] < 0 or f[SCORE] - f[FLOOR] > GROWTH * (f[REPORTED] - f[FLOOR])
                if done or (p == last and w[OPEN] and grown):
                    _write(f, w, share, extra, r, end - 1, done, c, ints[n], floats[n])
                    n += 1
                if p == last:
                    break
                if not w[OPEN] and _begins(f, w, recent, c, x, time, live):
                    _begin(f, w, share, recent, time, live)
                if not w[OPEN]:
                    _ordinary(f, w, c, x, time, d.peak[p], live)
                elif x >= _low(f, c):
                    _extend(f, w, share, extra, recent, d, p, live)
    return n
