"""Samples of one stream of one asset that have arrived and are not yet cut into hops."""

from __future__ import annotations

from typing import Any

import numpy as np

from twin_engine.grid import Grid
from twin_engine.kernels.grid import NEVER
from twin_engine.ports import Bool, Float, Int
from twin_engine.records import Reason


class StreamBuffer:
    """A window of the epoch's grid, in the arrays of a ``Grid``: cells are filled once, in any order, and cut off at the front.

    base: index of the first cell. filled: something arrived for the cell; valid: and it can be used. top: for each channel, one past the
    newest index filled.
    """

    def __init__(self, grid: Grid, row: int, lane: int) -> None:
        self._grid, self._row, self._lane = grid, row, lane
        self._channels = slice(*grid.lanes.first[lane : lane + 2].tolist())

    @property
    def base(self) -> int:
        """Index of the first cell."""
        return self._grid.rows.base.item(self._row, self._lane)

    @base.setter
    def base(self, index: int) -> None:
        self._grid.rows.base[self._row, self._lane] = index

    @property
    def top(self) -> int:
        """One past the newest index filled, of any channel."""
        return int(self._grid.rows.top[self._row, self._channels].max())

    def put(self, channels: Int, index: Int, values: Float, ok: Bool, floor: int) -> dict[Reason, int]:
        """Fill cells: ``values``, ``ok`` are ``(channel, sample)``, ``index`` ``(sample,)``. Return the samples dropped, by reason.

        floor: what lies below is late, though it may not have been taken yet.
        """
        dropped: dict[Reason, int] = {}
        late = index < max(self.base, floor)
        if late.any():
            dropped[Reason.LATE] = int(late.sum()) * len(channels)
            index, values, ok = index[~late], values[:, ~late], ok[:, ~late]
        if not index.size:
            return dropped
        if index.size > 1 and (np.diff(index) <= 0).any():
            index, values, ok = self._first_kept(index, values, ok, dropped)
        self._grow(int(index[-1]) + 1)
        known, filled, valid = self._grid.cells(self._row, self._lane)
        at = (channels[:, None], (index - self.base)[None, :])
        there = filled[at]
        if there.any():
            same = (values == known[at]) | (~ok & ~valid[at])
            _add(dropped, Reason.DUPLICATE, int((there & same).sum()))
            _add(dropped, Reason.CONFLICT, int((there & ~same).sum()))
            values, ok = np.where(there, known[at], values), np.where(there, valid[at], ok)
        known[at], valid[at], filled[at] = values, ok, True
        top = self._grid.rows.top[self._row, self._channels]
        top[channels] = np.maximum(top[channels], int(index[-1]) + 1)
        return dropped

    def _first_kept(self, index: Int, values: Float, ok: Bool, dropped: dict[Reason, int]) -> tuple[Int, Float, Bool]:
        unique, first, inverse = np.unique(index, return_index=True, return_inverse=True)
        again = np.ones(len(index), bool)
        again[first] = False
        same = (values == values[:, first[inverse]]) | (~ok & ~ok[:, first[inverse]])
        _add(dropped, Reason.DUPLICATE, int((same & again).sum()))
        _add(dropped, Reason.CONFLICT, int((~same & again).sum()))
        return unique, values[:, first], ok[:, first]

    def _grow(self, end: int) -> None:
        need, has = end - self.base, int(self._grid.rows.size[self._row, self._lane])
        if need > has:
            self._grid.resize(self._row, self._lane, max(need, 2 * has))

    def begin_anew(self) -> None:
        """Hold no value from before."""
        self._grid.rows.last_index[self._row, self._channels] = NEVER

    def load(self, arrays: dict[str, Any]) -> None:
        """Set all from what a snapshot kept."""
        g, row = self._grid.rows, self._row
        self.base = int(arrays["base"][0])
        for array, name in ((g.top, "top"), (g.last, "last"), (g.last_index, "last_index")):
            array[row, self._channels] = arrays[name]
        n = arrays["values"].shape[1]
        if n > g.size[row, self._lane]:
            self._grid.resize(row, self._lane, n)
        for array, name in zip(self._grid.cells(row, self._lane), ("values", "filled", "valid"), strict=True):
            array[:, :n] = arrays[name]


def _add(counts: dict[Reason, int], reason: Reason, n: int) -> None:
    if n:
        counts[reason] = counts.get(reason, 0) + n
