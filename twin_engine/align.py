"""From readings to frames: hops of all assets, cut on the epoch's grid.

A hop of an asset is cut when every stream that is waited for has reached its end, or when the asset's newest arrival is the stated
lateness past the arrival that first reached it: the wait goes by the arrival times kept with the data, so a replay cuts the same hops. A
gap longer than the twin's memory is played as masked hops for as long as that memory, and then the row starts anew.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from twin_engine.asset_align import AssetAligner, Routes
from twin_engine.clock import hertz
from twin_engine.graph import Graph
from twin_engine.grid import Grid
from twin_engine.kernels.grid import DROPPED, NEVER, ODD, STRANGE, WAITS, cut, place
from twin_engine.ports import Block, Float, Frame, Int
from twin_engine.records import Reading, Reason, Singles
from twin_engine.telemetry import Telemetry

FRAME_SAMPLES = 1 << 18  # a frame is cut so that its largest stream has about so many


class Samples(NamedTuple):
    """Samples as ``kernels.grid.place`` takes them."""

    rows: Int
    lanes: Int
    ends: Int
    channels: Int
    times: Int
    values: Float
    arrivals: Int


class Aligner:
    """All assets of a twin. Built from nothing or from what ``document()`` and ``arrays()`` gave."""

    def __init__(
        self,
        graph: Graph,
        assets: list[str],
        telemetry: Telemetry,
        saved: Mapping[str, Any] | None = None,
        arrays: Mapping[str, NDArray[Any]] | None = None,
    ) -> None:
        self.graph, self.telemetry = graph, telemetry
        self.row = {name: i for i, name in enumerate(assets)}
        self._grid, self._routes = Grid(graph, len(assets)), Routes(graph.twin.streams)
        saved, kept = saved or {}, _unpacked(graph, len(assets), arrays or {})
        self.assets = {
            name: AssetAligner(self._grid, i, telemetry, self._routes, saved.get(name) or {}, kept[i]) for i, name in enumerate(assets)
        }
        self._names = list(assets)
        self._quarantined = set(assets)  # of which quarantines may have begun
        widest = max(int(hertz(s.rate) * graph.hop) * len(s.channels) for s in graph.twin.streams)
        self._limit = max(1, FRAME_SAMPLES // widest)

    def put(self, reading: Reading) -> None:
        """Take a reading; one of an asset that is not in the fleet is counted and dropped."""
        asset = self.assets.get(reading.asset)
        if asset is None:
            self._stranger(reading.asset, reading.values.size)
        else:
            asset.put(reading)
            if asset.quarantined:
                self._quarantined.add(reading.asset)

    def _stranger(self, name: str, samples: int) -> None:
        self.telemetry.drop(Reason.UNKNOWN_ASSET, samples)
        self.telemetry.strange(f"asset {name}", samples)

    def put_all(self, items: Iterable[Reading | Singles]) -> None:
        """Take readings, the same as one by one."""
        lone: list[Reading] = []
        for item in items:
            if isinstance(item, Reading) and item.times.size == 1:
                lone.append(item)
                continue
            self._put_lone(lone)
            lone = []
            if isinstance(item, Reading):
                self.put(item)
            else:
                self._put_singles(item)
        self._put_lone(lone)

    def _put_lone(self, readings: list[Reading]) -> None:
        """Take readings of one sample each."""
        if len(readings) < 2:
            for reading in readings:
                self.put(reading)
            return
        routes = [self._routes.short(r.channels, r.units) for r in readings]
        for reading in readings:
            if reading.asset not in self.row:
                self.put(reading)
        ends = np.cumsum([0, *(len(r.channels) for r in readings)])
        times = np.concatenate([r.times for r in readings])
        self._place(
            Samples(
                np.array([self.row.get(r.asset, -1) for r in readings], np.int64), np.array([lane for lane, _ in routes], np.int64), ends,
                np.array([c for _, channels in routes for c in channels], np.int64), times,
                np.concatenate([r.values[:, 0] for r in readings]), np.array([r.arrival for r in readings], np.int64),
            ),
            readings.__getitem__,
        )  # fmt: skip

    def _put_singles(self, singles: Singles) -> None:
        """Take samples of one channel each."""
        n, row, routes = len(singles.times), self.row, [self._routes.short((name,), ()) for name in singles.names]
        lanes = np.array([lane for lane, _ in routes])[singles.channels]
        channels = np.array([places[0] for _, places in routes])[singles.channels]
        rows = np.array([row.get(asset, -1) for asset in singles.assets], np.int64)
        for i in np.flatnonzero(rows < 0).tolist():
            self._stranger(singles.assets[i], 1)
        self._place(Samples(rows, lanes, np.arange(n + 1), channels, singles.times, singles.values, singles.arrivals), singles.reading)

    def _place(self, samples: Samples, reading: Callable[[int], Reading]) -> None:
        """Put samples of rows of the fleet on the grid; what is no common case goes as a reading."""
        which, dropped = np.flatnonzero(samples.rows >= 0), np.zeros(len(DROPPED), np.int64)
        fate = np.empty(len(which), np.int64)
        while which.size:
            blocked = np.zeros(len(self.row), np.bool_)
            left, put = place(self._grid.rows, self._grid.lanes, dropped, *samples, which, fate, blocked)
            self.telemetry.samples += put
            which, done = which[:left], fate[:left]
            for i, how in zip(which[done != WAITS].tolist(), done[done != WAITS].tolist(), strict=True):
                if how == ODD:
                    self.put(reading(i))
                elif how == STRANGE:
                    self.assets[self._names[int(samples.rows[i])]].tell(reading(i).channels, 1)
                else:
                    stream = self.graph.twin.streams[int(samples.lanes[i])].name
                    self.assets[self._names[int(samples.rows[i])]].lanes[stream].keep_back(reading(i))
            which = which[done == WAITS]
        for reason, n in zip(DROPPED, dropped.tolist(), strict=True):
            self.telemetry.drop(reason, n)

    def frames(self) -> Iterator[Frame]:
        """Yield what can be cut; assets with as many hops ready go together."""
        while True:
            g = self._grid.rows
            ready = np.where(g.next == NEVER, 0, np.minimum(g.closed, g.cut) - g.next)
            rows = np.flatnonzero(ready > 0)
            if not rows.size:
                return
            yield self._frame(rows, min(int(ready[rows].min()), max(1, self._limit // len(rows))))

    def _frame(self, rows: Int, hops: int) -> Frame:
        g, k = self._grid.rows, self._grid.lanes
        first, restart = g.next[rows] + g.shift[rows], g.restart[rows]
        streams: dict[str, Block] = {}
        for lane, stream in enumerate(self.graph.twin.streams):
            per_hop = int(k.per_hop[lane])
            shape = (len(rows), len(stream.channels), hops * per_hop)
            values, valid = np.empty(shape), np.empty(shape, bool)
            cut(g, k, lane, rows, values, valid)
            streams[stream.name] = Block(values, valid, rows, first * per_hop)
        g.next[rows] += hops
        g.restart[rows] = False
        for row in rows[g.next[rows] == g.cut[rows]].tolist():
            self.assets[self._names[row]].begin_anew()
        self._grid.give_back(rows, hops)
        self.telemetry.hops += hops * len(rows)
        return Frame(streams, restart, hops, first, rows)

    def finish(self, drain: Fraction) -> None:
        """Nothing more comes: close what has arrived and then play masked hops for ``drain`` seconds."""
        for asset in self.assets.values():
            asset.finish(int(-(-drain // self.graph.hop)))

    def quarantines(self) -> Iterator[tuple[str, str, str, int]]:
        """Yield (asset, stream, channel, time ns) of quarantines that began since the last call."""
        for name in sorted(self._quarantined, key=self.row.__getitem__):
            yield from ((name, *q) for q in self.assets[name].quarantined)
            self.assets[name].quarantined.clear()
        self._quarantined.clear()

    def document(self) -> dict[str, Any]:
        """Return what a snapshot keeps beside the arrays."""
        g = self._grid.rows
        fields = {
            "next": g.next, "lead": g.lead, "closed": g.closed, "newest_arrival": g.arrival, "restart": g.restart, "shift": g.shift,
            "progress": g.pending_n,
        }  # fmt: skip
        rows = zip(*(array.tolist() for array in fields.values()), strict=True)
        return {
            name: asset.document(dict(zip(fields, numbers, strict=True)), newest)
            for (name, asset), numbers, newest in zip(self.assets.items(), rows, g.newest.tolist(), strict=True)
        }

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return buffered samples by ``stream/field``: one row an asset, and cells of all assets one after the other, ``cells`` of each."""
        found: dict[str, NDArray[Any]] = {}
        g, first = self._grid.rows, self._grid.lanes.first.tolist()
        for lane, stream in enumerate(self.graph.twin.streams):
            mine = slice(first[lane], first[lane + 1])
            cells = np.maximum(0, g.top[:, mine].max(axis=1, initial=NEVER) - g.base[:, lane])
            kept = [[array[:, : cells[row]] for array in self._grid.cells(row, lane)] for row in np.flatnonzero(cells).tolist()]
            for i, (name, kind) in enumerate(zip(CELLS, (np.float64, np.bool_, np.bool_), strict=True)):
                none = np.zeros((len(stream.channels), 0), kind)  # there may be no asset
                found[f"{stream.name}/{name}"] = np.concatenate([none, *(arrays[i] for arrays in kept)], axis=1)
            found[f"{stream.name}/base"] = g.base[:, lane : lane + 1].copy()
            for name, array in (("top", g.top), ("last", g.last), ("last_index", g.last_index)):
                found[f"{stream.name}/{name}"] = array[:, mine].copy()
            found[f"{stream.name}/cells"] = cells
        return found


CELLS = ("values", "filled", "valid")


def _unpacked(graph: Graph, n: int, arrays: Mapping[str, NDArray[Any]]) -> list[dict[str, NDArray[Any]]]:
    """Return each asset's part of what ``arrays`` gave, by ``stream/field``."""
    kept: list[dict[str, NDArray[Any]]] = [{} for _ in range(n)]
    for stream in graph.twin.streams:
        if f"{stream.name}/cells" not in arrays:
            continue
        ends = np.cumsum(arrays[f"{stream.name}/cells"])[:-1]
        for name in (*CELLS, "base", "top", "last", "last_index"):
            key = f"{stream.name}/{name}"
            parts = np.split(arrays[key], ends, axis=1)[: len(arrays[f"{stream.name}/cells"])] if name in CELLS else list(arrays[key])
            for mine, part in zip(kept, parts, strict=False):  # assets that are new come after
                mine[key] = part
    return kept
