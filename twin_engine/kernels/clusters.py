"""Kernel that joins loud cells of time to triggers, with a bounded delay."""

from __future__ import annotations

import numpy as np

from twin_engine.kernels._jit import kernel
from twin_engine.kernels.qtransform import END, FIELDS, FIRST, HIGH, LOW, SCORE, START, TIME
from twin_engine.ports import Bool, Float, Int


@kernel
def _copy(to: Float, of: Float, n: int) -> None:
    """Copy by a loop: assigning a slice compiles the text of its error, which takes seconds."""
    for k in range(n):
        to[k] = of[k]


@kernel
def _merge(cluster: Float, cell: Float) -> None:
    if cell[SCORE] > cluster[SCORE]:
        _copy(cluster, cell, TIME + 1)
    cluster[START], cluster[END] = min(cluster[START], cell[START]), max(cluster[END], cell[END])
    cluster[LOW], cluster[HIGH] = min(cluster[LOW], cell[LOW]), max(cluster[HIGH], cell[HIGH])


@kernel
def _close(cluster: Float, waiting: Float, count: Int) -> None:
    if cluster[SCORE] > 0 and count[0] < len(waiting):
        _copy(waiting[count[0]], cluster, FIELDS)
        count[0] += 1
    cluster[:] = 0.0


@kernel
def join_cells(
    cells: Float, live: Bool, begin: int, per_hop: int, shape: Float, threshold: float, open_: Float, waiting: Float, count: Int, out: Float
) -> int:
    """Join one row's cells, hop by hop, and write the triggers that are final; return how many.

    cells: ``(channel, cell, FIELDS)``, no fewer than are live. live: ``(channel, cell)``, of whole hops. begin: number of the first cell.
    shape: samples of a cell, of the gap, of the longest cluster. open_: ``(channel, FIELDS)``, a score of 0 for none. waiting:
    ``(channel, place, FIELDS)``, closed ones that an earlier one of another channel may still precede. count: ``(channel, 1)``. out:
    ``(trigger, FIELDS + 1)``, the channel last.

    A trigger is given as soon as none of an earlier peak can come any more: so they come in order of time, whatever the hops of a step.
    """
    width, gap, longest = shape[0], shape[1], shape[2]
    found = 0
    for hop in range(live.shape[1] // per_hop):
        safe = np.inf
        for c in range(cells.shape[0]):
            for k in range(hop * per_hop, (hop + 1) * per_hop):
                now, cell, cluster = (begin + k) * width, cells[c, k], open_[c]
                loud = live[c, k] and cell[SCORE] >= threshold
                if cluster[SCORE] > 0 and (
                    not live[c, k]
                    or now - cluster[FIRST] >= longest
                    or now - cluster[END] > gap
                    or (loud and cell[START] - cluster[END] > gap)
                ):
                    _close(cluster, waiting[c], count[c])
                if loud and cluster[SCORE] == 0:
                    _copy(cluster, cell, FIELDS)
                    cluster[FIRST] = now
                elif loud:
                    _merge(cluster, cell)
            safe = min(safe, open_[c, FIRST] if open_[c, SCORE] > 0 else (begin + (hop + 1) * per_hop) * width)
        for c in range(cells.shape[0]):
            left = 0
            for k in range(count[c, 0]):
                if waiting[c, k, TIME] < safe:
                    _copy(out[found], waiting[c, k], FIELDS)
                    out[found, FIELDS] = c
                    found += 1
                else:
                    _copy(waiting[c, left], waiting[c, k], FIELDS)
                    left += 1
            count[c, 0] = left
    return found
