"""The streams of one asset: samples put on the epoch's grid, and hops closed when they are complete or have waited long enough.

Inside, hops are counted without what long gaps skip (``next``, ``lead``, ``closed`` and the buffers' cells); ``shift`` is what has been
skipped so far, ``cuts`` where and how much will be.
"""

from __future__ import annotations

import itertools
import math
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twin_engine.buffer import NEVER, StreamBuffer
from twin_engine.clock import NS, hertz, index_of, seconds, time_of
from twin_engine.graph import Graph
from twin_engine.ports import Bool, Float, Int
from twin_engine.quality import Quality, judges
from twin_engine.records import Reading, Reason
from twin_engine.telemetry import Telemetry
from twin_engine.twin import Stream


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
    wait: int  # hops without samples that are no gap yet
    period: int  # ns in which a whole number of samples fit exactly
    slack: float  # ns that a sample may lie off the grid
    newest: int = NEVER  # ns, newest time accepted
    suspect: Reading | None = None  # a lone sample far ahead of the rest: kept until the next one tells


@dataclass(frozen=True, slots=True)
class _Route:
    """Where a reading's channels go in one stream. at: their places in the reading; to: in the stream."""

    stream: str
    names: tuple[str, ...]
    at: list[int]
    to: list[int]


class Routes:
    """Which stream each channel of a reading belongs to, found once for each list of names (``LIMIT`` of them are kept)."""

    LIMIT = 10_000

    def __init__(self, streams: Sequence[Stream]) -> None:
        self._streams = {s.name: {c.name: i for i, c in enumerate(s.channels)} for s in streams}
        self._known: dict[tuple[str, ...], tuple[list[_Route], list[str]]] = {}

    def of(self, channels: tuple[str, ...]) -> tuple[list[_Route], list[str]]:
        """Return the routes of a list of names, and those of them that no stream has."""
        found = self._known.get(channels)
        if found is None:
            routes: list[_Route] = []
            for stream, place in self._streams.items():
                at = [i for i, name in enumerate(channels) if name in place]
                if at:
                    routes.append(_Route(stream, tuple(channels[i] for i in at), at, [place[channels[i]] for i in at]))
            found = routes, sorted({c for c in channels if not any(c in place for place in self._streams.values())})
            if len(self._known) < self.LIMIT:
                self._known[channels] = found
        return found


class AssetAligner:
    """The streams of one asset. ``quarantined`` collects (stream, channel, time ns) of quarantines that began."""

    def __init__(
        self, graph: Graph, telemetry: Telemetry, routes: Routes, saved: Mapping[str, Any] | None, arrays: Mapping[str, NDArray[Any]]
    ) -> None:
        self.hop, self.telemetry, self._routes = graph.hop, telemetry, routes
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
        self.quarantined: list[tuple[str, str, int]] = [tuple(q) for q in saved.get("quarantined", [])]
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
        per_hop = int(rate * self.hop)
        wait = self.memory + -(-max(buffer.hold, int(lateness * rate) // NS) // per_hop)
        slack = stream.jitter * NS / float(rate) if stream.jitter < 0.5 else math.inf
        judge = judges(stream, saved.get("judge"))
        lane = _Lane(stream, rate, per_hop, place, judge, buffer, bound, lateness, wait, rate.denominator * NS, slack)
        lane.newest = saved.get("newest", NEVER)
        if kept := saved.get("suspect"):
            names, times, values, units = kept
            lane.suspect = Reading("", tuple(names), np.array(times, np.int64), np.array(values, float), units=tuple(units))
        return lane

    def put(self, reading: Reading) -> None:
        """Take a reading: put what can be used on the grid, count the rest."""
        if not reading.times.size:
            return
        routes, unknown = self._routes.of(reading.channels)
        one = reading.times.size == 1
        for route in routes:
            lane = self.lanes[route.stream]
            if not (one and self._one(lane, route, reading)):
                units = tuple(reading.units[i] for i in route.at) if reading.units else ()
                self._runs(lane, Reading(reading.asset, route.names, reading.times, reading.values[route.at], units=units))
        for name in unknown:
            self.telemetry.drop(Reason.UNKNOWN_CHANNEL, len(reading.times))
            self.telemetry.strange(f"channel {name}", len(reading.times))
        arrival = reading.arrival or int(reading.times.max())
        self.newest_arrival = max(self.newest_arrival, arrival)
        self._advance(arrival)

    def _one(self, lane: _Lane, route: _Route, reading: Reading) -> bool:
        """Place a single sample that nothing is wrong with, as ``_runs`` would, in a tenth of the time; False: it is for ``_runs``."""
        time: int = reading.times.item()
        if lane.suspect is not None or self.cuts or NEVER in {self.next, lane.newest} or abs(time - lane.newest) > lane.bound:
            return False
        top, period = lane.rate.numerator, lane.period
        whole, rest = divmod(time, period)
        index = whole * top + (rest * top + period // 2) // period
        whole, rest = divmod(index, top)
        off = abs(whole * period + (rest * period + top // 2) // top - time) > lane.slack
        late = index // lane.per_hop - self.shift > max(self.lead, self.next, self.closed) + 1 + lane.wait
        if off or late:
            return False
        values: list[float] = []
        for at, to in zip(route.at, route.to, strict=True):
            value, judge = reading.values.item(at, 0), lane.judge[to]
            if judge.bad or judge.quarantined or not (judge.low <= value <= judge.high and math.isfinite(value)):
                return False
            if reading.units and reading.units[at] not in {"", judge.unit}:
                return False
            values.append(value)
        inner = index - self.shift * lane.per_hop
        if not lane.buffer.put_one(route.to, inner, values, self._floor(lane)):
            return False
        self.telemetry.samples += len(values)
        lane.newest = max(lane.newest, time)
        self.lead = max(self.lead, (inner + 1) // lane.per_hop)
        return True

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
        if lane.slack < math.inf:
            off = np.abs(time_of(index, lane.rate) - reading.times) > lane.slack
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
        edges = [0, *(np.flatnonzero(np.diff(hops) > lane.wait) + 1), len(index)]
        for lo, hi in itertools.pairwise(edges):
            self._make_room(int(hops[lo]), lane.wait)  # the first to arrive, however the readings are cut
            inner, known = self._skipped(index[lo:hi], hops[lo:hi], lane.per_hop)
            self.telemetry.drop(Reason.LATE, int((~known).sum()) * len(channels))
            given = channels, inner[known], values[:, lo:hi][:, known], ok[:, lo:hi][:, known]
            for reason, n in lane.buffer.put(*given, self._floor(lane)).items():
                self.telemetry.drop(reason, n)
            if (top := max(lane.buffer.top)) > NEVER:
                self.lead = max(self.lead, top // lane.per_hop)

    def _floor(self, lane: _Lane) -> int:
        """Return the first sample of a stream that is not closed: when hops are cut, and with which others, must not matter."""
        return self.closed * lane.per_hop if self.closed > NEVER else NEVER

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
        complete = min(top // lane.per_hop if (top := min(lane.buffer.top)) > NEVER else NEVER for lane in self._waited)
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
        ends = [-(-top // lane.per_hop) for lane in self.lanes.values() if (top := max(lane.buffer.top)) > NEVER]
        self.closed = max([self.closed, self.next, *ends]) + drain

    @property
    def ready(self) -> int:
        """Hops that can be cut in one go."""
        if self.next == NEVER:
            return 0
        end = min(self.closed, self.cuts[0][0]) if self.cuts else self.closed
        return max(0, end - self.next)

    def take(self, hops: int, into: Mapping[str, tuple[Float, Bool]]) -> tuple[int, bool]:
        """Cut hops into ``(values, valid)`` by stream; return the index of the first, and whether the row begins anew with it."""
        first, restart = self.next + self.shift, self.restart
        self.restart = False
        for name, (values, valid) in into.items():
            self.lanes[name].buffer.take(values, valid)
        self.next += hops
        if self.cuts and self.next == self.cuts[0][0]:
            self.shift += self.cuts.popleft()[1]
            self.restart = True
            for lane in self.lanes.values():
                lane.buffer.last_index[:] = NEVER
        return first, restart

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
            "quarantined": list(self.quarantined),
        }  # fmt: skip
