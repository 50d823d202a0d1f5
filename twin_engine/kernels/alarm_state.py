"""What the alarm's kernels keep and are given: few arrays, because each costs compile time and call time."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from twin_engine.ports import Bool, Float, Int

RING = 256  # peaks in the tail; the sampling error of a threshold is about log(rate ratio)/sqrt(n)
BASE = 64  # peaks of any height
PRIOR = 32  # pseudo-peaks that the stated null law is worth
RECENT = 8  # alarms that the count of recent ones looks back on
NEVER = -(2**62)

# Columns of AlarmState.real. Live time and exposures in s, heights in nats (in the score's unit when its law is unknown).
(
    FLOOR, SHAPE, SCALE,  # of the generalised Pareto law: above the floor
    EXPOSURE,  # live time behind the ring
    BASE_EXPOSURE,
    SILENCE,  # live time since the last peak above the floor
    THRESHOLD,
    LIVE,
    CREST,  # highest point of the window
    PENDING,  # crest of the window before, not yet in the tail: a neighbour may be the same cluster
    HOT_LIVE,  # live time at the last point above the lower threshold
    SCORE,  # of the event's peak
    PASSED,  # threshold that the event passed
    FAR,  # how often its peak comes by the tail, Hz
    REPORTED,  # score in the last revision given
    CEILING,  # peak of the last event
) = range(16)  # fmt: skip

# Columns of AlarmState.whole. Times in ns UTC.
(
    HEAD, COUNT,  # ring: place of the oldest peak once full, peaks in it
    STALE,  # peaks since the last fit
    BASE_HEAD, BASE_COUNT,
    WINDOW,  # number of the window that the crest is of
    CREST_AT, CREST_CENSORED, PENDING_AT, PENDING_CENSORED,
    OPEN, START, PEAK,
    HOT,  # end of the last point of the event
    ORDINAL, REVISION,  # of the last given, -1 none
    ARMED,
    RECENT_HEAD,
    HELD,  # marks that came early
    STATED,  # whether the null law is known
) = range(20)  # fmt: skip


class AlarmState(NamedTuple):
    """Asset first."""

    real: Float  # (asset, 16)
    whole: Int  # (asset, 20)
    ring: NDArray[np.float32]  # (asset, RING): peaks above the floor
    censored: Bool  # (asset, RING): the peak was at least that high
    base: NDArray[np.float32]  # (asset, BASE): last peaks of any height
    share: Float  # (asset, channel): squared surprise of the open event
    extra: Float  # (asset, attribute): of its peak
    recent: Float  # (asset, 2, RECENT): peaks of the last alarms, and live time at them
    held_times: Int  # (asset, mark, 4): of marks that came early: time, start, end, channel
    held: Float  # (asset, mark, 1 + attribute): height and attributes


class Policy(NamedTuple):
    """Rates in Hz and ``warm_up`` in seconds of live time, the rest in ns of event time. ``least``: the lowest threshold there may be.

    ``wanted``: the rate of peaks above the tail's floor, reached within a factor of two from above. ``habituation``: seconds of live time;
    ``share``: of the alarms that the asked rate gives, those that may enter the tail.
    """

    rate: float
    wanted: float
    hysteresis: float
    hold_off: int
    gap: int
    window: int
    longest: int
    warm_up: float
    least: float
    hop: float
    habituation: float
    share: float


class Points(NamedTuple):
    """Points of some rows over some hops.

    ``first[i, j]`` to ``first[i, j + 1]`` are the points of hop j of row i; ``ends`` (ns) and ``live`` (s) are of hops ``(row, hop)``.
    start, peak, end: ns. share: ``(point, channel)``. extra: ``(point, attribute)``.
    """

    first: Int
    ends: Int
    live: Float
    start: Int
    peak: Int
    end: Int
    score: Float
    share: Float
    extra: Float


def initial(assets: int, channels: int, extras: int, held: int, null_rate: float, null_floor: float, threshold: float) -> AlarmState:
    """Return the state of assets that have seen nothing, with room for ``held`` early marks.

    ``null_rate``: peaks a second of live time above ``null_floor`` by the stated law (0: unknown); the tail then begins as PRIOR quantiles
    of an exponential of mean 1, and ``threshold`` is its first.
    """
    known = null_rate > 0
    real, whole = np.zeros(16), np.zeros(20, np.int64)
    real[[CREST, PENDING, HOT_LIVE, CEILING]] = -np.inf
    real[[FLOOR, SCALE, THRESHOLD]] = null_floor if known else np.inf, 1.0, threshold
    real[EXPOSURE] = PRIOR / null_rate if known else 0.0
    whole[COUNT], whole[STATED] = PRIOR if known else 0, known
    whole[[ORDINAL, REVISION, ARMED, HOT]] = -1, -1, 1, NEVER
    ring = np.zeros(RING, np.float32)
    order = (np.arange(PRIOR) * 13) % PRIOR  # the oldest leave first: not the lowest or the highest
    ring[:PRIOR] = null_floor - np.log1p(-(order + 0.5) / PRIOR)
    return AlarmState(
        np.tile(real, (assets, 1)), np.tile(whole, (assets, 1)), np.tile(ring, (assets, 1)), np.zeros((assets, RING), np.bool_),
        np.zeros((assets, BASE), np.float32), np.zeros((assets, channels)), np.zeros((assets, extras)),
        np.full((assets, 2, RECENT), -np.inf), np.zeros((assets, held, 4), np.int64), np.zeros((assets, held, 1 + extras)),
    )  # fmt: skip
