"""Least, mean, greatest and root-mean-square value of a block's channels in intervals of the epoch's grid.

The same to the last bit however the blocks were cut: sums are carried sample by sample (``accumulate`` adds in order).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from twin_engine.clock import NS
from twin_engine.ports import Block, Bool, Float, Int

STATISTICS = ("min", "mean", "max", "rms")
_UNSEEN = -(2**63)


class Summary(NamedTuple):
    """Intervals that have ended. rows: int64 ``(row,)``, in the fleet. start: int64 ``(row,)``, ns UTC.

    values, valid: ``(row, channel, statistic)`` in the order of ``STATISTICS``.
    """

    rows: Int
    start: Int
    values: Float
    valid: Bool


class Moments:
    """The open interval of each row and channel of one output. length: seconds.

    An interval that had begun before the first sample that is seen of a row is left out: its first part may have been seen by another,
    and may be in what that one has written.
    """

    def __init__(self, channels: int, rate: Fraction, length: Fraction) -> None:
        self._per, self._length = rate * length, length
        self._number = np.zeros(0, np.int64)  # of the interval, by row
        self._skipped = np.zeros(0, np.int64)  # number of the interval that is left out, by row
        self._open: Float = np.zeros((5, 0, channels))  # count, least, greatest, sum, sum of squares

    def take(self, block: Block) -> Iterator[Summary]:
        """Take a block and yield the intervals that it ends."""
        if len(block.rows) and (last := int(block.rows.max())) >= len(self._number):
            self._grow(last + 1)
        for start in np.unique(block.start):
            mine = np.flatnonzero(block.start == start)
            before, *number = self._numbers(int(start) - 1 + np.arange(block.n + 1, dtype=np.int64)).tolist()
            cuts = [0, *(np.flatnonzero(np.diff(number)) + 1).tolist(), block.n]
            rows, values, valid = block.rows[mine], block.values[mine], block.valid[mine]
            if before == number[0]:
                self._skipped[rows[self._number[rows] == _UNSEEN]] = before
            for first, end in pairwise(cuts):
                yield from self._ended(rows[self._number[rows] != number[first]])
                self._number[rows] = number[first]
                self._add(rows, values[:, :, first:end], valid[:, :, first:end])

    def _numbers(self, index: Int) -> Int:
        """Return the intervals that samples are in."""
        return index * self._per.denominator // self._per.numerator

    def _add(self, rows: Int, values: Float, valid: Bool) -> None:
        held = self._open[:, rows]
        zeroed = np.where(valid, values, 0.0)
        held[0] += valid.sum(axis=2)
        held[1] = np.minimum(held[1], np.where(valid, values, np.inf).min(axis=2))
        held[2] = np.maximum(held[2], np.where(valid, values, -np.inf).max(axis=2))
        for i, parts in ((3, zeroed), (4, zeroed * zeroed)):
            held[i] = np.add.accumulate(np.concatenate([held[i][:, :, None], parts], axis=2), axis=2)[:, :, -1]
        self._open[:, rows] = held

    def _ended(self, rows: Int) -> Iterator[Summary]:
        """Yield what rows hold, if anything, and empty them."""
        yield from self._held(rows)
        self._open[:, rows] = np.array([0.0, np.inf, -np.inf, 0.0, 0.0])[:, None, None]

    def _held(self, rows: Int) -> Iterator[Summary]:
        """Yield what rows hold, if anything, where it is not left out."""
        held = self._open[:, rows]
        some = held[0].any(axis=1) & (self._number[rows] != self._skipped[rows])
        if some.any():
            yield self._summary(rows[some], held[:, some])

    def _summary(self, rows: Int, held: Float) -> Summary:
        count = np.maximum(held[0], 1)
        values = np.stack([held[1], held[3] / count, held[2], np.sqrt(held[4] / count)], axis=2)
        start = [int(n * self._length * NS) for n in self._number[rows].tolist()]
        return Summary(rows, np.array(start, np.int64), values, np.broadcast_to(held[0][:, :, None] > 0, values.shape))

    def _grow(self, rows: int) -> None:
        new = np.zeros((5, rows - len(self._number), self._open.shape[2]))
        new[1], new[2] = np.inf, -np.inf
        self._open = np.concatenate([self._open, new], axis=1)
        unseen = np.full(new.shape[1], _UNSEEN)
        self._number, self._skipped = np.concatenate([self._number, unseen]), np.concatenate([self._skipped, unseen])

    def standing(self) -> Iterator[Summary]:
        """Yield the open intervals as they stand."""
        yield from self._held(np.flatnonzero(self._number != _UNSEEN))

    def document(self, assets: Sequence[str]) -> list[Any]:
        """Return the open intervals as JSON can hold them: asset, number, and what is held (None: nothing)."""
        seen = np.flatnonzero((self._number != _UNSEEN) & (self._number != self._skipped)).tolist()
        finite = np.where(np.isfinite(self._open), self._open, 0.0)  # of channels without a sample: see restore
        return [[assets[i], int(self._number[i]), finite[:, i].tolist() if finite[0, i].any() else None] for i in seen]

    def restore(self, document: Sequence[Any], assets: Sequence[str]) -> None:
        """Go on from what ``document`` gave."""
        row = {name: i for i, name in enumerate(assets)}
        self._grow(len(assets))
        for name, number, held in document:
            if name in row:
                self._number[row[name]] = number
                if held is not None:
                    values = np.array(held, np.float64)
                    values[1, values[0] == 0], values[2, values[0] == 0] = np.inf, -np.inf
                    self._open[:, row[name]] = values
