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


class Summary(NamedTuple):
    """Intervals that have ended. rows: int64 ``(row,)``, in the fleet. start: int64 ``(row,)``, ns UTC.

    values, valid: ``(row, channel, statistic)`` in the order of ``STATISTICS``.
    """

    rows: Int
    start: Int
    values: Float
    valid: Bool


class Moments:
    """The open interval of each row and channel of one output. length: seconds."""

    def __init__(self, channels: int, rate: Fraction, length: Fraction) -> None:
        self._per, self._length = rate * length, length
        self._number = np.zeros(0, np.int64)  # of the interval, by row
        self._open: Float = np.zeros((5, 0, channels))  # count, least, greatest, sum, sum of squares

    def take(self, block: Block) -> Iterator[Summary]:
        """Take a block and yield the intervals that it ends."""
        if len(block.rows) and (last := int(block.rows.max())) >= len(self._number):
            self._grow(last + 1)
        for start in np.unique(block.start):
            mine = np.flatnonzero(block.start == start)
            number = (int(start) + np.arange(block.n, dtype=np.int64)) * self._per.denominator // self._per.numerator
            cuts = [0, *(np.flatnonzero(np.diff(number)) + 1).tolist(), block.n]
            rows, values, valid = block.rows[mine], block.values[mine], block.valid[mine]
            for first, end in pairwise(cuts):
                yield from self._ended(rows[self._number[rows] != number[first]])
                self._number[rows] = number[first]
                self._add(rows, values[:, :, first:end], valid[:, :, first:end])

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
        held = self._open[:, rows]
        some = held[0].any(axis=1)
        if some.any():
            yield self._summary(rows[some], held[:, some])
        self._open[:, rows] = np.array([0.0, np.inf, -np.inf, 0.0, 0.0])[:, None, None]

    def _summary(self, rows: Int, held: Float) -> Summary:
        count = np.maximum(held[0], 1)
        values = np.stack([held[1], held[3] / count, held[2], np.sqrt(held[4] / count)], axis=2)
        start = [int(n * self._length * NS) for n in self._number[rows].tolist()]
        return Summary(rows, np.array(start, np.int64), values, np.broadcast_to(held[0][:, :, None] > 0, values.shape))

    def _grow(self, rows: int) -> None:
        new = np.zeros((5, rows - len(self._number), self._open.shape[2]))
        new[1], new[2] = np.inf, -np.inf
        self._open = np.concatenate([self._open, new], axis=1)
        self._number = np.concatenate([self._number, np.zeros(new.shape[1], np.int64)])

    def standing(self) -> Iterator[Summary]:
        """Yield the open intervals as they stand."""
        some = np.flatnonzero(self._open[0].any(axis=1))
        if len(some):
            yield self._summary(some, self._open[:, some])

    def document(self, assets: Sequence[str]) -> list[Any]:
        """Return the open intervals as JSON can hold them."""
        some = np.flatnonzero(self._open[0].any(axis=1)).tolist()
        finite = np.where(np.isfinite(self._open), self._open, 0.0)  # of channels without a sample: see restore
        return [[assets[i], int(self._number[i]), finite[:, i].tolist()] for i in some]

    def restore(self, document: Sequence[Any], assets: Sequence[str]) -> None:
        """Go on from what ``document`` gave."""
        row = {name: i for i, name in enumerate(assets)}
        self._grow(len(assets))
        for name, number, held in document:
            if name in row:
                values = np.array(held, np.float64)
                values[1, values[0] == 0], values[2, values[0] == 0] = np.inf, -np.inf
                self._number[row[name]], self._open[:, row[name]] = number, values
