"""A source over arrays: a recording of known length, read block by block, whose position is a sample count."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np

from twin_engine.clock import NS
from twin_engine.ports import Float, Int
from twin_engine.records import Item, Position, Reading


def even_times(start: int, rate: Fraction, first: int, stop: int) -> Int:
    """Return ns UTC, int64 ``(sample,)``, of samples first..stop-1 of a recording that starts at ``start`` ns, rounded to nearest."""
    index = np.arange(first, stop, dtype=np.int64)
    whole, rest = np.divmod(index, np.int64(rate.numerator))
    period = rate.denominator * NS
    return start + whole * period + (rest * period + rate.numerator // 2) // rate.numerator


@dataclass
class Samples:
    """Samples ``0..count`` of one asset, ``block`` of them in a reading. read: ``(first, stop) -> (times, values (channel, sample))``."""

    asset: str
    channels: tuple[str, ...]
    count: int
    block: int
    read: Callable[[int, int], tuple[Int, Float]]
    units: tuple[str, ...] = ()
    release: Callable[[], None] = field(default=lambda: None)
    live: bool = False

    @property
    def assets(self) -> list[str]:
        """The one asset."""
        return [self.asset]

    def items(self, position: Position) -> Iterator[Item]:
        """Yield readings cut on a grid of blocks from the recording's start."""
        first = int(position or 0)
        while first < self.count:
            stop = min(self.count, (first // self.block + 1) * self.block)
            times, values = self.read(first, stop)
            yield Reading(self.asset, self.channels, times, values, position=stop, units=self.units)
            first = stop

    def acknowledge(self, position: Position) -> None:
        """Nothing to do: a file keeps itself."""

    def close(self) -> None:
        """Close the file."""
        self.release()
