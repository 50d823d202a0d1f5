"""Least, greatest and last value of a block's channels in intervals of the epoch's grid, the same however the blocks were cut."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import NamedTuple

import numpy as np

from twin_engine.clock import NS
from twin_engine.ports import Block


class Interval(NamedTuple):
    """One channel in one interval. start: ns UTC. samples: how many are valid."""

    start: int
    samples: int
    least: float
    greatest: float
    last: float

    def merged(self, later: Interval) -> Interval:
        """Return this interval with more samples of the same one."""
        return Interval(
            self.start, self.samples + later.samples, min(self.least, later.least), max(self.greatest, later.greatest), later.last
        )


def intervals(block: Block, rate: Fraction, length: Fraction) -> Iterator[tuple[int, int, Interval]]:
    """Yield row, channel and interval for each part of a block that has a valid sample. length: seconds."""
    per = rate * length  # samples in an interval, perhaps a fraction
    low = np.where(block.valid, block.values, np.inf)
    high = np.where(block.valid, block.values, -np.inf)
    place = np.where(block.valid, np.arange(block.n), -1)
    for i, row in enumerate(block.rows):
        number = (block.start[i] + np.arange(block.n, dtype=np.int64)) * per.denominator // per.numerator
        cuts = np.concatenate([[0], np.flatnonzero(np.diff(number)) + 1])
        counts = np.add.reduceat(block.valid[i].astype(np.int64), cuts, axis=1)
        least, greatest = np.minimum.reduceat(low[i], cuts, axis=1), np.maximum.reduceat(high[i], cuts, axis=1)
        newest = np.maximum.reduceat(place[i], cuts, axis=1)
        for channel, cut in zip(*np.nonzero(counts), strict=True):
            start = int(int(number[cuts[cut]]) * length * NS)
            last = float(block.values[i, channel, newest[channel, cut]])
            yield (
                int(row),
                int(channel),
                Interval(start, int(counts[channel, cut]), float(least[channel, cut]), float(greatest[channel, cut]), last),
            )
