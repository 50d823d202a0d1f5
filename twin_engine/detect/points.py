"""Scores and marks as points: what the alarm's kernel takes, row by row and hop by hop."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction

import numpy as np

from twin_engine.clock import NS, index_of, time_of
from twin_engine.kernels.alarm_state import HELD, AlarmState, Points
from twin_engine.ports import Block, BlockSpec, Float, Int, Marks, MarksSpec

Surprise = Callable[[Float], Float]


def block_points(port: Block, spec: BlockSpec, hop: Fraction, surprise: Surprise) -> Points:
    """Return each sample at which some channel is valid as a point, as high as its most surprising channel."""
    heights = np.where(port.valid, surprise(np.where(port.valid, port.values, 0.0)), -np.inf)
    heights[~(heights < np.inf)] = -np.inf
    highest = heights.max(axis=1)
    some = highest > -np.inf
    per_hop = int(hop * spec.rate)
    times = time_of(port.start[:, None] + np.arange(port.n + 1), spec.rate)
    counts = some.reshape(len(some), -1, per_hop).sum(axis=2)
    row, at = np.nonzero(some)
    share = np.square(np.maximum(heights[row, :, at], 0.0))
    begin = times[row, at]
    return Points(
        _offsets(counts), times[:, per_hop::per_hop].copy(), counts / float(spec.rate), begin, begin, times[row, at + 1],
        highest[row, at], share, np.zeros((len(row), 0)),
    )  # fmt: skip


def mark_points(port: Marks, spec: MarksSpec, hop: Fraction, surprise: Surprise, extras: Sequence[str], state: AlarmState) -> Points:
    """Return each mark before ``until`` that has a finite score as a point, and hold the others for later steps.

    A source may give a mark early, and what comes of it must not depend on how hops were grouped. Where more are early than there is room
    for, the first are taken now.
    """
    rows, ends, live = port.rows, *_hops(port, spec, hop)
    row, whole, real = _fields(port, surprise, extras)
    room: Int = np.arange(state.held.shape[1], dtype=np.int64)
    waiting, place = np.nonzero(room < state.whole[rows, HELD][:, None])
    row = np.concatenate([waiting, row])
    whole = np.concatenate([state.held_times[rows[waiting], place], whole])
    real = np.concatenate([state.held[rows[waiting], place], real])
    order = np.lexsort((whole[:, 0], row))
    row, whole, real = row[order], whole[order], real[order]

    total = np.bincount(row, minlength=len(rows))
    left = np.repeat(total.cumsum(), total) - np.arange(len(row))  # marks of the row from this one on
    early = (whole[:, 0] >= port.until[row]) & (left <= state.held.shape[1])
    held = np.bincount(row[early], minlength=len(rows))
    state.whole[rows, HELD] = held
    state.held_times[rows], state.held[rows] = 0, 0.0  # equal states are equal arrays
    slot = held[row[early]] - left[early]
    state.held_times[rows[row[early]], slot], state.held[rows[row[early]], slot] = whole[early], real[early]

    row, whole, real = row[~early], whole[~early], real[~early]
    number = np.minimum((ends[row] <= whole[:, :1]).sum(axis=1), ends.shape[1] - 1)
    counts = np.bincount(row * ends.shape[1] + number, minlength=ends.size).reshape(ends.shape)
    share = np.zeros((len(row), state.share.shape[1]))
    share[np.arange(len(row)), whole[:, 3]] = np.square(np.maximum(real[:, 0], 0.0))
    time, start, end = (whole[:, k].copy() for k in range(3))
    return Points(_offsets(counts), ends, live, start, time, end, real[:, 0].copy(), share, real[:, 1:].copy())


def _fields(port: Marks, surprise: Surprise, extras: Sequence[str]) -> tuple[Int, Int, Float]:
    """Return row (a place in ``rows``), (time, start, end, channel) and (height, extras...) of each mark with a finite score."""
    height = surprise(np.asarray(port.columns["score"], np.float64))
    keep = np.isfinite(height)
    time = port.time[keep]
    start, end = (port.columns[name][keep] if name in port.columns else time for name in ("start", "end"))
    channel = port.columns["channel"][keep] if "channel" in port.columns else np.zeros_like(time)
    whole = np.stack([time, start, end, np.maximum(channel, 0)], axis=1).astype(np.int64)
    real = np.stack([height[keep], *(port.columns[name][keep] for name in extras)], axis=1).astype(np.float64)
    return np.searchsorted(port.rows, port.row[keep]), whole, real


def _hops(port: Marks, spec: MarksSpec, hop: Fraction) -> tuple[Int, Float]:
    """Return when each hop ends, ns, and its live seconds, both ``(row, hop)``; ``until`` moves by whole hops."""
    judged = port.judged
    if judged is None:
        hops = max(1, round(port.live.max(initial=0) / (hop * NS)))
        judged = np.repeat((port.live / hops)[:, None], hops, axis=1)
    last = index_of(port.until + round(spec.lag * NS), 1 / hop)
    before: Int = last[:, None] - np.arange(judged.shape[1] - 1, -1, -1, dtype=np.int64)
    back = time_of(last, 1 / hop)[:, None] - time_of(before, 1 / hop)  # exact when a hop is not a whole number of ns
    return port.until[:, None] - back, judged / NS


def _offsets(counts: Int) -> Int:
    """Return where each hop's points begin and end in the flat tables, ``(row, hop + 1)``."""
    ends = counts.cumsum().reshape(counts.shape)
    begins = ends[:, :1] - counts[:, :1]
    return np.concatenate([begins, ends], axis=1)
