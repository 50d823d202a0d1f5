"""From readings to frames: samples put on the epoch's grid, hops cut when they are complete or have waited long enough.

A hop is cut when every stream that is waited for has reached its end, or when the asset's newest arrival is the stated lateness past
the arrival that first reached it: the wait goes by the arrival times kept with the data, so a replay cuts the same hops. A gap longer
than the twin's memory is played as masked hops for as long as that memory, and then the row starts anew. Inside, hops are counted
without what such gaps skip (``next``, ``lead``, ``closed`` and the buffers' cells); ``shift`` is what has been skipped so far, ``cuts``
where and how much will be.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twin_engine.buffer import NEVER, StreamBuffer
from twin_engine.clock import NS, hertz, index_of, seconds, time_of
from twin_engine.graph import Graph
from twin_engine.ports import Block, Bool, Float, Frame, Int
from twin_engine.quality import Quality, judges
from twin_engine.records import Reading, Reason
from twin_engine.telemetry import Telemetry
from twin_engine.twin import Stream

FRAME_SAMPLES = 1 << 18  # a frame is cut so that its largest stream has about so many


@dataclass
class _Lane:
    """One stream of one asset."""

    stream: Stream
    rate: Fraction
    per_hop: int
    place: dict[str, int]
    judge: list[Quality]
    buffer: StreamBuffer
    bound: int  # ns
    lateness: int  # ns
    newest: int = NEVER  # ns, newest time accepted
    suspect: Reading | None = None  # a lone sample far ahead of the rest: kept until the next one tells


class AssetAligner:
    """The streams of one asset. ``quarantined`` collects (stream, channel, time ns) of quarantines that began."""

    def __init__(self, graph: Graph, telemetry: Telemetry, saved: Mapping[str, Any] | None, arrays: Mapping[str, NDArray[Any]]) -> None:
        self.hop, self.telemetry = graph.hop, telemetry
        saved = saved or {}
        self.memory = int(-(-graph.memory // graph.hop))  # hops
        self.next: int = saved.get("next", NEVER)
        self.lead: int = saved.get("lead", NEVER)
        self.closed: int = saved.get("closed", NEVER)
        self.newest_arrival: int = saved.get("newest_arrival", NEVER)
        self.restart: bool = saved.get("restart", False)
        self.shift: int = saved.get("shift", 0)
        self.progress: deque[tuple[int, int]] = deque((a, b) for a, b in saved.get("progress", []))
        self.cuts: deque[tuple[int, int]] = deque((a, b) for a, b in saved.get("cuts", []))
        self.quarantined: list[tuple[str, str, int]] = []
        self.lanes = {s.name: self._lane(s, saved.get("lanes", {}).get(s.name), arrays) for s in graph.twin.streams}
        waited = [lane for lane in self.lanes.values() if not lane.buffer.hold]
        self._waited = waited or list(self.lanes.values())
        self.lateness = max(lane.lateness for lane in self._waited)

    def _lane(self, stream: Stream, saved: Mapping[str, Any] | None, arrays: Mapping[str, NDArray[Any]]) -> _Lane:
        rate, saved = hertz(stream.rate), saved or {}
        buffer = StreamBuffer(len(stream.channels), round(seconds(stream.hold) * rate))
        mine = {k.split("/", 1)[1]: v for k, v in arrays.items() if k.split("/", 1)[0] == stream.name}
        if mine:
            buffer.load(mine)
        bound = int(max(seconds(stream.bound), 10 / rate) * NS)
        lateness = int(seconds(stream.lateness) * NS)
        place = {c.name: i for i, c in enumerate(stream.channels)}
        lane = _Lane(stream, rate, int(rate * self.hop), place, judges(stream, saved.get("judge")), buffer, bound, lateness)
        lane.newest = saved.get("newest", NEVER)
        if kept := saved.get("suspect"):
            names, times, values, units = kept
            lane.suspect = Reading("", tuple(names), np.array(times, np.int64), np.array(values, float), units=tuple(units))
        return lane

    def put(self, reading: Reading) -> None:
        """Take a reading: put what can be used on the grid, count the rest."""
        if not reading.times.size:
            return
        arrival = reading.arrival or int(reading.times.max())
        rest = set(reading.channels)
        for lane in self.lanes.values():
            mine = [i for i, name in enumerate(reading.channels) if name in lane.place]
            if mine:
                rest -= lane.place.keys()
                names = tuple(reading.channels[i] for i in mine)
                units = tuple(reading.units[i] for i in mine) if reading.units else ()
                self._runs(lane, Reading(reading.asset, names, reading.times, reading.values[mine], units=units))
        for name in sorted(rest):
            self.telemetry.drop(Reason.UNKNOWN_CHANNEL, len(reading.times))
            self.telemetry.strange(f"channel {name}", len(reading.times))
        self.newest_arrival = max(self.newest_arrival, arrival)
        self._advance(arrival)

    def _runs(self, lane: _Lane, reading: Reading) -> None:
        """Split where the clock leaps ahead by more than the bound. One sample that nothing follows is a bad clock; two are a gap."""
        if lane.suspect is not None:
            held, lane.suspect = lane.suspect, None
            near = abs(int(reading.times[0]) - int(held.times[0])) <= lane.bound
            if near and held.channels == reading.channels:
                both = np.concatenate([held.times, reading.times]), np.concatenate([held.values, reading.values], axis=1)
                return self._place(lane, Reading("", held.channels, *both, units=held.units))
            if near:
                self._place(lane, held)
            else:
                self.telemetry.drop(Reason.CLOCK_JUMP, held.values.size)
        times = reading.times
        before = np.concatenate([[lane.newest if lane.newest > NEVER else times[0]], times[:-1]])
        leaps = np.flatnonzero(np.abs(times - before) > lane.bound)
        if not leaps.size:
            return self._place(lane, reading)
        edges = np.unique(np.concatenate([[0], leaps, [len(times)]]))
        for lo, hi in itertools.pairwise(edges):
            part = Reading("", reading.channels, times[lo:hi], reading.values[:, lo:hi], units=reading.units)
            ahead = lane.newest > NEVER and times[lo] - lane.newest > lane.bound
            if lane.newest > NEVER and lane.newest - times[lo] > lane.bound:  # leapt back: never applied
                self.telemetry.drop(Reason.CLOCK_JUMP, part.values.size)
            elif ahead and hi - lo == 1:
                if hi == len(times):
                    lane.suspect = part
                else:
                    self.telemetry.drop(Reason.CLOCK_JUMP, part.values.size)
            else:
                self._place(lane, part)
        return None

    def _place(self, lane: _Lane, reading: Reading) -> None:
        index = index_of(reading.times, lane.rate)
        if lane.stream.jitter < 0.5:
            off = np.abs(time_of(index, lane.rate) - reading.times) > lane.stream.jitter * NS / float(lane.rate)
            if off.any():
                self.telemetry.drop(Reason.OFF_GRID, int(off.sum()) * len(reading.channels))
                index = index[~off]
                reading = Reading("", reading.channels, reading.times[~off], reading.values[:, ~off], units=reading.units)
                if not index.size:
                    return
        channels = np.array([lane.place[name] for name in reading.channels], np.int64)
        values, ok = self._judged(lane, reading, channels)
        self.telemetry.samples += values.size
        lane.newest = max(lane.newest, int(reading.times.max()))
        hops = index // lane.per_hop
        wait = self.memory + -(-max(lane.buffer.hold, int(lane.lateness * lane.rate) // NS) // lane.per_hop)
        edges = [0, *(np.flatnonzero(np.diff(hops) > wait) + 1), len(index)]
        for lo, hi in itertools.pairwise(edges):
            self._make_room(int(hops[lo]), wait)  # the first to arrive, however the readings are cut
            inner, known = self._skipped(index[lo:hi], hops[lo:hi], lane.per_hop)
            self.telemetry.drop(Reason.LATE, int((~known).sum()) * len(channels))
            for reason, n in lane.buffer.put(channels, inner[known], values[:, lo:hi][:, known], ok[:, lo:hi][:, known]).items():
                self.telemetry.drop(reason, n)
            if lane.buffer.top.max() > NEVER:
                self.lead = max(self.lead, int(lane.buffer.top.max()) // lane.per_hop)

    def _judged(self, lane: _Lane, reading: Reading, channels: Int) -> tuple[Float, Bool]:
        values, ok = np.empty(reading.values.shape), np.empty(reading.values.shape, bool)
        for i, c in enumerate(channels):
            unit = reading.units[i] if reading.units else ""
            values[i], ok[i], began = lane.judge[int(c)].judge(reading.values[i], unit, self.telemetry)
            if began >= 0:
                self.quarantined.append((lane.stream.name, reading.channels[i], int(reading.times[began])))
        return values, ok

    def _make_room(self, hop: int, wait: int) -> None:
        """Begin at a hop, or note that the row will begin anew there, when more than ``wait`` hops without samples come before it.

        wait: the memory, and how long the stream may trail or a value of it stays true, for its silence is no gap of the asset yet.
        """
        if self.next == NEVER:
            self.next = hop
            for lane in self.lanes.values():
                lane.buffer.base = hop * lane.per_hop
            return
        at = max(self.lead, self.next, self.closed) + 1 + wait
        skip = hop - self.shift - sum(n for _, n in self.cuts) - at
        if skip > 0:
            self.cuts.append((at, skip))
            self.closed = at

    def _skipped(self, index: Int, hops: Int, per_hop: int) -> tuple[Int, Bool]:
        """Return indices without the hops that gaps skip, and which of them do not lie in such a gap."""
        shift, known = np.full(len(index), self.shift), np.ones(len(index), bool)
        total = self.shift
        for at, skip in self.cuts:
            beyond = hops >= at + total + skip
            known &= beyond | (hops < at + total)
            shift[beyond] += skip
            total += skip
        return index - shift * per_hop, known

    def _advance(self, arrival: int) -> None:
        if not self.progress or self.lead > self.progress[-1][1]:
            self.progress.append((arrival, self.lead))
        complete = min(int(lane.buffer.top.min()) // lane.per_hop if lane.buffer.top.min() > NEVER else NEVER for lane in self._waited)
        while self.progress and self.progress[0][0] + self.lateness <= self.newest_arrival:
            self.closed = max(self.closed, self.progress.popleft()[1])
        self.closed = max(self.closed, complete)

    def finish(self, drain: int) -> None:
        """Nothing more comes: close all that has arrived, a last partial hop included, and then ``drain`` masked hops."""
        for lane in self.lanes.values():
            if lane.suspect is not None:
                self.telemetry.drop(Reason.CLOCK_JUMP, lane.suspect.values.size)
                lane.suspect = None
        if self.next == NEVER:
            return
        ends = [-(-int(lane.buffer.top.max()) // lane.per_hop) for lane in self.lanes.values() if lane.buffer.top.max() > NEVER]
        self.closed = max([self.closed, self.next, *ends]) + drain

    @property
    def ready(self) -> int:
        """Hops that can be cut in one go."""
        if self.next == NEVER:
            return 0
        end = min(self.closed, self.cuts[0][0]) if self.cuts else self.closed
        return max(0, end - self.next)

    def take(self, hops: int) -> tuple[dict[str, tuple[Float, Bool]], int, bool]:
        """Cut hops: ``(values, valid)`` by stream, the index of the first, and whether the row begins anew with it."""
        first, restart = self.next + self.shift, self.restart
        self.restart = False
        given = {name: lane.buffer.take(hops * lane.per_hop) for name, lane in self.lanes.items()}
        self.next += hops
        if self.cuts and self.next == self.cuts[0][0]:
            self.shift += self.cuts.popleft()[1]
            self.restart = True
            for lane in self.lanes.values():
                lane.buffer.last_index[:] = NEVER
        return given, first, restart

    def document(self) -> dict[str, Any]:
        """Return what a snapshot keeps beside the arrays."""
        lanes: dict[str, Any] = {}
        for name, lane in self.lanes.items():
            held = lane.suspect
            kept = held and [list(held.channels), held.times.tolist(), held.values.tolist(), list(held.units)]
            lanes[name] = {"newest": lane.newest, "judge": [j.document() for j in lane.judge], "suspect": kept}
        return {
            "next": self.next, "lead": self.lead, "closed": self.closed, "newest_arrival": self.newest_arrival, "restart": self.restart,
            "shift": self.shift, "progress": list(self.progress), "cuts": list(self.cuts), "lanes": lanes,
        }  # fmt: skip


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
        mine: dict[str, dict[str, NDArray[Any]]] = {name: {} for name in assets}
        for key, array in (arrays or {}).items():
            place, _, rest = key.partition("/")
            mine[assets[int(place)]][rest] = array
        saved = saved or {}
        self.assets = {name: AssetAligner(graph, telemetry, saved.get(name), mine[name]) for name in assets}
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

    def frames(self) -> Iterator[Frame]:
        """Yield what can be cut; assets with as many hops ready go together."""
        while True:
            ready = {name: asset.ready for name, asset in self.assets.items()}
            hops = min((n for n in ready.values() if n), default=0)
            if not hops:
                return
            names = [name for name, n in ready.items() if n >= hops]
            yield self._frame(names, min(hops, max(1, self._limit // len(names))))

    def _frame(self, names: list[str], hops: int) -> Frame:
        taken = [self.assets[name].take(hops) for name in names]
        rows = np.array([self.row[name] for name in names], np.int64)
        first = np.array([t[1] for t in taken], np.int64)
        streams: dict[str, Block] = {}
        for stream in self.graph.twin.streams:
            values = np.stack([t[0][stream.name][0] for t in taken])
            valid = np.stack([t[0][stream.name][1] for t in taken])
            streams[stream.name] = Block(values, valid, rows, first * int(hertz(stream.rate) * self.graph.hop))
        self.telemetry.hops += hops * len(names)
        return Frame(streams, np.array([t[2] for t in taken], bool), hops, first, rows)

    def finish(self, drain: Fraction) -> None:
        """Nothing more comes: close what has arrived and then play masked hops for ``drain`` seconds."""
        for asset in self.assets.values():
            asset.finish(int(-(-drain // self.graph.hop)))

    def document(self) -> dict[str, Any]:
        """Return what a snapshot keeps beside the arrays."""
        return {name: asset.document() for name, asset in self.assets.items()}

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return buffered samples by ``row/stream/field``."""
        return {
            f"{self.row[name]}/{stream}/{field}": array
            for name, asset in self.assets.items()
            for stream, lane in asset.lanes.items()
            for field, array in lane.buffer.arrays().items()
        }
