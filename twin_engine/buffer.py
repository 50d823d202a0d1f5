"""Samples of one stream of one asset that have arrived and are not yet cut into hops."""

from __future__ import annotations

from typing import Any

import numpy as np

from twin_engine.ports import Bool, Float, Int
from twin_engine.records import Reason

NEVER = -(2**62)


class StreamBuffer:
    """A window of the epoch's grid: cells are filled once, in any order, and taken from the front.

    base: index of the first cell. filled: something arrived for the cell; valid: and it can be used. top: for each channel, one past the
    newest index filled. hold: samples for which the last valid value stays true on cells that nothing filled.
    """

    def __init__(self, channels: int, hold: int) -> None:
        self.base = NEVER
        self.hold = hold
        self.values: Float = np.zeros((channels, 0))
        self.filled: Bool = np.zeros((channels, 0), bool)
        self.valid: Bool = np.zeros((channels, 0), bool)
        self.top: list[int] = [NEVER] * channels
        self.last: Float = np.zeros(channels)  # newest valid value that was taken, and its index, for hold
        self.last_index: Int = np.full(channels, NEVER)

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
        at = (channels[:, None], (index - self.base)[None, :])
        there = self.filled[at]
        if there.any():
            same = (values == self.values[at]) | (~ok & ~self.valid[at])
            _add(dropped, Reason.DUPLICATE, int((there & same).sum()))
            _add(dropped, Reason.CONFLICT, int((there & ~same).sum()))
            values, ok = np.where(there, self.values[at], values), np.where(there, self.valid[at], ok)
        self.values[at], self.valid[at], self.filled[at] = values, ok, True
        places: list[int] = channels.tolist()
        for c in places:
            self.top[c] = max(self.top[c], int(index[-1]) + 1)
        return dropped

    def put_one(self, channels: list[int], index: int, values: list[float], floor: int) -> bool:
        """Fill one usable cell of each channel, as ``put`` does; return whether all could be: none is filled where one is not free."""
        cell = index - self.base
        if cell < 0 or index < floor:
            return False
        if cell >= self.values.shape[1]:
            self._grow(index + 1)
        elif self.filled.item(channels[0], cell) or (len(channels) > 1 and any(self.filled.item(c, cell) for c in channels)):
            return False
        for c, value in zip(channels, values, strict=True):
            self.values[c, cell], self.valid[c, cell], self.filled[c, cell] = value, True, True
            if index >= self.top[c]:
                self.top[c] = index + 1
        return True

    def _first_kept(self, index: Int, values: Float, ok: Bool, dropped: dict[Reason, int]) -> tuple[Int, Float, Bool]:
        unique, first, inverse = np.unique(index, return_index=True, return_inverse=True)
        again = np.ones(len(index), bool)
        again[first] = False
        same = (values == values[:, first[inverse]]) | (~ok & ~ok[:, first[inverse]])
        _add(dropped, Reason.DUPLICATE, int((same & again).sum()))
        _add(dropped, Reason.CONFLICT, int((~same & again).sum()))
        return unique, values[:, first], ok[:, first]

    def _grow(self, end: int) -> None:
        need, has = end - self.base, self.values.shape[1]
        if need > has:
            size = max(need, 2 * has)
            self.values, self.filled, self.valid = (_wider(array, size) for array in (self.values, self.filled, self.valid))

    def take(self, values: Float, valid: Bool) -> None:
        """Take the first cells, as many as there are in ``values`` and ``valid``, both ``(channel, n)``, which are written."""
        n = values.shape[1]
        self._grow(self.base + n)
        if self.hold:
            values[:], valid[:] = self._held(self.values[:, :n], self.valid[:, :n], self.filled[:, :n])
        else:
            values[:], valid[:] = self.values[:, :n], self.valid[:, :n]
        self.base += n
        keep, has = self._content(), self.values.shape[1]
        if has > 4 * max(keep, n):  # what a backlog needed is given back
            self.values = self.values[:, n : n + keep].copy()
            self.filled, self.valid = self.filled[:, n : n + keep].copy(), self.valid[:, n : n + keep].copy()
            return
        for array in (self.values, self.filled, self.valid):
            if keep:
                array[:, :keep] = array[:, n : n + keep]
            array[:, keep : min(has, n + keep)] = 0

    def _content(self) -> int:
        """Cells from the first to the last that something filled."""
        return max(0, max(self.top) - self.base)

    def _held(self, values: Float, valid: Bool, filled: Bool) -> tuple[Float, Bool]:
        index: Int = np.arange(self.base, self.base + values.shape[1], dtype=np.int64)
        source: Int = np.where(valid, index, np.int64(NEVER))
        source[:, 0] = np.maximum(source[:, 0], self.last_index)
        source = np.maximum.accumulate(source, axis=1)
        inside = np.clip(source - self.base, 0, None)
        carried = np.where(source >= self.base, np.take_along_axis(values, inside, axis=1), self.last[:, None])
        good: Bool = valid | (~filled & (index - source <= self.hold))
        self.last, self.last_index = carried[:, -1].copy(), source[:, -1].copy()
        return np.where(valid, values, carried), good

    def arrays(self) -> dict[str, Any]:
        """Return what a snapshot keeps: it says nothing of how the cells came to be filled."""
        cells = self._content()
        return {
            "base": np.array([self.base], np.int64), "values": self.values[:, :cells], "filled": self.filled[:, :cells],
            "valid": self.valid[:, :cells], "top": np.array(self.top, np.int64), "last": self.last, "last_index": self.last_index,
        }  # fmt: skip

    def load(self, arrays: dict[str, Any]) -> None:
        """Set all from what a snapshot kept."""
        self.base = int(arrays["base"][0])
        self.top = arrays["top"].tolist()
        for name in ("values", "filled", "valid", "last", "last_index"):
            setattr(self, name, arrays[name].copy())


def _wider(array: Any, size: int) -> Any:
    """Return an array with zeros behind, as many as make it ``size`` wide."""
    wider = np.zeros((array.shape[0], size), array.dtype)
    wider[:, : array.shape[1]] = array
    return wider


def _add(counts: dict[Reason, int], reason: Reason, n: int) -> None:
    if n:
        counts[reason] = counts.get(reason, 0) + n
