"""From readings to frames: hops of all assets, cut on the epoch's grid.

A hop of an asset is cut when every stream that is waited for has reached its end, or when the asset's newest arrival is the stated
lateness past the arrival that first reached it: the wait goes by the arrival times kept with the data, so a replay cuts the same hops. A
gap longer than the twin's memory is played as masked hops for as long as that memory, and then the row starts anew.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twin_engine.asset_align import AssetAligner, Routes
from twin_engine.buffer import StreamBuffer
from twin_engine.clock import hertz
from twin_engine.graph import Graph
from twin_engine.ports import Block, Bool, Float, Frame
from twin_engine.records import Reading, Reason
from twin_engine.telemetry import Telemetry

FRAME_SAMPLES = 1 << 18  # a frame is cut so that its largest stream has about so many


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
        saved, kept, routes = saved or {}, _unpacked(graph, len(assets), arrays or {}), Routes(graph.twin.streams)
        self.assets = {name: AssetAligner(graph, telemetry, routes, saved.get(name), kept[i]) for i, name in enumerate(assets)}
        self._touched = dict.fromkeys(range(len(assets)))  # rows that may have hops to cut
        self._names = list(assets)
        widest = max(int(hertz(s.rate) * graph.hop) * len(s.channels) for s in graph.twin.streams)
        self._limit = max(1, FRAME_SAMPLES // widest)

    def put(self, reading: Reading) -> None:
        """Take a reading; one of an asset that is not in the fleet is counted and dropped."""
        asset = self.assets.get(reading.asset)
        if asset is None:
            self.telemetry.drop(Reason.UNKNOWN_ASSET, reading.values.size)
            self.telemetry.strange(f"asset {reading.asset}", reading.values.size)
        else:
            asset.put(reading)
            self._touched[self.row[reading.asset]] = None

    def frames(self) -> Iterator[Frame]:
        """Yield what can be cut; assets with as many hops ready go together."""
        while True:
            ready = {row: n for row in self._touched if (n := self.assets[self._names[row]].ready)}
            self._touched = dict.fromkeys(ready)
            if not ready:
                return
            hops = min(ready.values())
            rows = sorted(ready)
            yield self._frame(rows, min(hops, max(1, self._limit // len(rows))))

    def _frame(self, rows: list[int], hops: int) -> Frame:
        blocks: dict[str, tuple[Float, Bool, int]] = {}
        for stream in self.graph.twin.streams:
            per_hop = int(hertz(stream.rate) * self.graph.hop)
            shape = (len(rows), len(stream.channels), hops * per_hop)
            blocks[stream.name] = np.empty(shape), np.empty(shape, bool), per_hop
        first, restart = np.empty(len(rows), np.int64), np.empty(len(rows), bool)
        for i, row in enumerate(rows):
            into = {name: (values[i], valid[i]) for name, (values, valid, _) in blocks.items()}
            first[i], restart[i] = self.assets[self._names[row]].take(hops, into)
        self.telemetry.hops += hops * len(rows)
        places = np.array(rows, np.int64)
        streams = {name: Block(values, valid, places, first * per_hop) for name, (values, valid, per_hop) in blocks.items()}
        return Frame(streams, restart, hops, first, places)

    def finish(self, drain: Fraction) -> None:
        """Nothing more comes: close what has arrived and then play masked hops for ``drain`` seconds."""
        for asset in self.assets.values():
            asset.finish(int(-(-drain // self.graph.hop)))
        self._touched = dict.fromkeys(range(len(self._names)))

    def quarantines(self) -> Iterator[tuple[str, str, str, int]]:
        """Yield (asset, stream, channel, time ns) of quarantines that began since the last call."""
        for row in self._touched:
            asset = self.assets[self._names[row]]
            yield from ((self._names[row], *q) for q in asset.quarantined)
            asset.quarantined.clear()

    def document(self) -> dict[str, Any]:
        """Return what a snapshot keeps beside the arrays."""
        return {name: asset.document() for name, asset in self.assets.items()}

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return buffered samples by ``stream/field``: one row an asset, and cells of all assets one after the other, ``cells`` of each."""
        found: dict[str, NDArray[Any]] = {}
        for stream in self.graph.twin.streams:
            kept = [asset.lanes[stream.name].buffer.arrays() for asset in self.assets.values()]
            for name, none in StreamBuffer(len(stream.channels), 0).arrays().items():  # there may be no asset
                cells = name in CELLS  # one after the other; the rest is a row an asset
                parts = [none[:, :0] if cells else none[None][:0], *(k[name] if cells else k[name][None] for k in kept)]
                found[f"{stream.name}/{name}"] = np.concatenate(parts, axis=1 if cells else 0)
            found[f"{stream.name}/cells"] = np.array([k["values"].shape[1] for k in kept], np.int64)
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
            for place, part in zip(kept, parts, strict=False):  # assets that are new come after
                place[key] = part
    return kept
