"""The samples of all assets that have arrived and are not yet cut into hops: arrays, a row an asset, and the cells of all in one."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np

from twin_engine.clock import NS, hertz, seconds
from twin_engine.graph import Graph
from twin_engine.kernels.grid import FAR, NEVER, Lanes, Rows, no_cells
from twin_engine.ports import Bool, Float, Int
from twin_engine.twin import Stream

_LEAST = 4  # cells of a channel
_ROOM = 64  # cells more than a few hops that an asset may keep for nothing
_PENDING = 256  # arrivals that are kept of a row


class Grid:
    """The arrays of ``kernels.grid``: ``rows`` of the assets, ``lanes`` of the streams.

    Cells lie one asset's after the other's in the order in which they were needed; an asset that needs more gets others at the end, and
    when half of them are of no use any more, all are put together.
    """

    def __init__(self, graph: Graph, n: int) -> None:
        self.streams = graph.twin.streams
        self.lanes = _lanes(graph)
        shape, channels = (n, len(self.streams)), (n, int(self.lanes.first[-1]))
        pending = min(_PENDING, int(self.lanes.lateness[0] / NS / graph.hop) + 2)

        def never(shape: tuple[int, ...]) -> np.ndarray:
            return np.full(shape, NEVER)

        self.rows = Rows(
            next=never((n,)), lead=never((n,)), closed=never((n,)), shift=np.zeros(n, np.int64), cut=np.full(n, FAR),
            restart=np.zeros(n, bool), arrival=never((n,)), pending=np.zeros((n, pending, 2), np.int64), pending_n=np.zeros(n, np.int64),
            newest=never(shape), suspect=np.zeros((*shape, 2), np.int64), base=never(shape), offset=np.zeros(shape, np.int64),
            size=np.zeros(shape, np.int64), top=never(channels), plain=np.ones(channels, bool), last=np.zeros(channels),
            last_index=never(channels), values=no_cells()[0], filled=no_cells()[1], valid=no_cells()[2],
        )  # fmt: skip
        self._used = 0  # cells, those given up included
        least = [max(_LEAST, 2 * int(n)) if n * c <= 1 << 10 else 0 for n, c in zip(self.lanes.per_hop, self._wide(), strict=True)]
        for lane, size in enumerate(least):
            self.rows.size[:, lane] = size
        self._together()

    def _wide(self) -> list[int]:
        return [len(stream.channels) for stream in self.streams]

    def _together(self) -> None:
        """Put the cells of all together, with as much room again."""
        old, sizes = self.rows, self.rows.size * np.array(self._wide())
        ends = np.cumsum(sizes).reshape(sizes.shape)
        self._used = int(sizes.sum())
        fresh = [np.zeros(2 * self._used, array.dtype) for array in (old.values, old.filled, old.valid)]
        starts = ends - sizes
        for array, before in zip(fresh, (old.values, old.filled, old.valid), strict=True):
            if before.size:
                for start, offset, size in zip(starts.ravel(), old.offset.ravel(), sizes.ravel(), strict=True):
                    array[start : start + size] = before[offset : offset + size]
        self.rows = old._replace(offset=starts, values=fresh[0], filled=fresh[1], valid=fresh[2])

    def cells(self, row: int, lane: int) -> tuple[Float, Bool, Bool]:
        """Return values, filled and valid of an asset's stream, views ``(channel, cell)``."""
        size, offset, wide = int(self.rows.size[row, lane]), int(self.rows.offset[row, lane]), len(self.streams[lane].channels)
        part = slice(offset, offset + size * wide)
        g = self.rows
        return g.values[part].reshape(wide, size), g.filled[part].reshape(wide, size), g.valid[part].reshape(wide, size)

    def resize(self, row: int, lane: int, size: int) -> None:
        """Give an asset's stream so many cells for each channel: the first stay, those that are new are empty."""
        kept = [array.copy() for array in self.cells(row, lane)]
        wide = len(self.streams[lane].channels)
        self.rows.size[row, lane] = 0
        if self._used + wide * size > len(self.rows.values):
            self._together()
        if (short := self._used + wide * size - len(self.rows.values)) > 0:
            more = [np.concatenate([a, np.zeros(short + len(a), a.dtype)]) for a in (self.rows.values, self.rows.filled, self.rows.valid)]
            self.rows = self.rows._replace(values=more[0], filled=more[1], valid=more[2])
        self.rows.offset[row, lane], self.rows.size[row, lane] = self._used, size
        self._used += wide * size
        same = min(size, kept[0].shape[1])
        for array, before in zip(self.cells(row, lane), kept, strict=True):
            array[:, :same], array[:, same:] = before[:, :same], 0

    def give_back(self, rows: Int, hops: int) -> None:
        """Give back what a backlog needed of rows of which so many hops were cut."""
        g = self.rows
        for lane, n in enumerate((self.lanes.per_hop * hops).tolist()):
            wide = slice(*self.lanes.first[lane : lane + 2].tolist())
            for row in rows[g.size[rows, lane] > _ROOM + 4 * n].tolist():
                keep = max(0, int(g.top[row, wide].max()) - int(g.base[row, lane]))
                if g.size[row, lane] > 4 * max(keep, n):
                    self.resize(row, lane, 2 * max(keep, n))


def _lanes(graph: Graph) -> Lanes:
    streams, hop = graph.twin.streams, graph.hop
    rates = [hertz(stream.rate) for stream in streams]
    hold = [round(seconds(s.hold) * rate) for s, rate in zip(streams, rates, strict=True)]
    waited = [not samples for samples in hold]
    waited = waited if any(waited) else [True] * len(streams)
    lateness = [int(seconds(s.lateness) * NS) for s in streams]
    per_hop = [int(rate * hop) for rate in rates]
    memory = int(-(-graph.memory // hop))  # hops
    wait = [memory + -(-max(held, int(late * rate) // NS) // n) for held, late, rate, n in zip(hold, lateness, rates, per_hop, strict=True)]
    ranges = np.array([c.range for s in streams for c in s.channels], float).reshape(-1, 2)
    return Lanes(
        rate=np.array([rate.numerator for rate in rates], np.int64), period=np.array([rate.denominator * NS for rate in rates], np.int64),
        per_hop=np.array(per_hop, np.int64), bound=np.array([_bound(s, rate) for s, rate in zip(streams, rates, strict=True)], np.int64),
        wait=np.array(wait, np.int64), slack=np.array([_slack(s, rate) for s, rate in zip(streams, rates, strict=True)]),
        hold=np.array(hold, np.int64), waited=np.array(waited), first=np.cumsum([0, *(len(s.channels) for s in streams)]),
        low=ranges[:, 0].copy(), high=ranges[:, 1].copy(),
        lateness=np.array([max(late for late, there in zip(lateness, waited, strict=True) if there)], np.int64),
    )  # fmt: skip


def _bound(stream: Stream, rate: Fraction) -> int:
    return int(max(seconds(stream.bound), 10 / rate) * NS)


def _slack(stream: Stream, rate: Fraction) -> float:
    return stream.jitter * NS / float(rate) if stream.jitter < 0.5 else math.inf
