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

from twin_engine.buffer import StreamBuffer
from twin_engine.clock import hertz, index_of, time_of
from twin_engine.grid import Grid
from twin_engine.kernels.grid import FAR, MIXED, NEVER, UNKNOWN, advance
from twin_engine.ports import Bool, Float, Int
from twin_engine.quality import Quality, judges
from twin_engine.records import Reading, Reason
from twin_engine.telemetry import Telemetry
from twin_engine.twin import Stream


class _Number:
    """An attribute of an asset that is kept in an array of the grid, a row an asset."""

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, asset: AssetAligner, owner: type | None = None) -> int:
        return getattr(asset.grid.rows, self._name).item(asset.row)

    def __set__(self, asset: AssetAligner, value: int) -> None:
        getattr(asset.grid.rows, self._name)[asset.row] = value


class _Lane:
    """One stream of one asset."""

    def __init__(self, grid: Grid, row: int, lane: int, judge: list[Quality]) -> None:
        k, self._grid, self._at = grid.lanes, grid, (row, lane)
        self.stream: Stream = grid.streams[lane]
        self.rate: Fraction = hertz(self.stream.rate)
        self.place = {c.name: i for i, c in enumerate(self.stream.channels)}
        self.first, self.per_hop, self.bound, self.wait = (int(a[lane]) for a in (k.first, k.per_hop, k.bound, k.wait))
        self.slack = float(k.slack[lane])
        self.judge, self.buffer = judge, StreamBuffer(grid, row, lane)
        self._suspect: Reading | None = None
        self.judged(np.arange(len(judge)))

    @property
    def newest(self) -> int:
        """Newest time accepted, ns."""
        return self._grid.rows.newest.item(self._at)

    @newest.setter
    def newest(self, time: int) -> None:
        self._grid.rows.newest[self._at] = time

    @property
    def suspect(self) -> Reading | None:
        """A lone sample far ahead of the rest: kept until the next one tells, which the grid may have heard."""
        return self._suspect if self._grid.rows.suspect[(*self._at, 1)] else None

    @suspect.setter
    def suspect(self, reading: Reading | None) -> None:
        self._suspect = reading
        self._grid.rows.suspect[self._at] = (int(reading.times[0]), reading.values.size) if reading else (0, 0)

    def keep_back(self, reading: Reading) -> None:
        """Keep a sample that the grid has marked, unless it has dropped it since."""
        self._suspect = _held(reading) if self._grid.rows.suspect[(*self._at, 1)] else None

    def all_good(self, reading: Reading, channels: Int) -> bool:
        """Whether there is nothing to judge: no channel has a record, all values are finite, in range, and in the channels' units."""
        if not self._grid.rows.plain[self._at[0], self.first + channels].all():
            return False
        if any(unit not in {"", self.judge[c].unit} for unit, c in zip(reading.units, map(int, channels), strict=False)):
            return False
        k, values = self._grid.lanes, reading.values
        low, high = k.low[self.first + channels][:, None], k.high[self.first + channels][:, None]
        return bool(np.isfinite(values).all() and (values >= low).all() and (values <= high).all())

    def judged(self, channels: Int) -> None:
        """Note for the short way what the judges of channels have come to."""
        plain = self._grid.rows.plain[self._at[0]]
        for c in map(int, channels):
            plain[self.first + c] = not (self.judge[c].bad or self.judge[c].quarantined)


def _held(reading: Reading) -> Reading:
    """Return a reading as a snapshot keeps it, apart from the batch that it came in."""
    return Reading(
        "", reading.channels, reading.times.copy(), np.where(np.isfinite(reading.values), reading.values, math.nan), units=reading.units
    )


@dataclass(frozen=True, slots=True)
class _Route:
    """Which of a reading's channels, ``at`` their places in it, are of a stream."""

    stream: str
    names: tuple[str, ...]
    at: list[int]


class Routes:
    """Which stream each channel of a reading belongs to, found once for each list of names (``LIMIT`` of them are kept)."""

    LIMIT = 10_000

    def __init__(self, streams: Sequence[Stream]) -> None:
        self._streams = {s.name: {c.name: c.unit for c in s.channels} for s in streams}
        self._first = dict(zip(self._streams, itertools.accumulate([0, *map(len, self._streams.values())]), strict=False))
        self._short: dict[tuple[tuple[str, ...], tuple[str, ...]], tuple[int, list[int]]] = {}
        self._known: dict[tuple[str, ...], tuple[list[_Route], list[str]]] = {}

    def of(self, channels: tuple[str, ...]) -> tuple[list[_Route], list[str]]:
        """Return the routes of a list of names, and those of them that no stream has."""
        found = self._known.get(channels)
        if found is None:
            routes: list[_Route] = []
            for stream, there in self._streams.items():
                at = [i for i, name in enumerate(channels) if name in there]
                if at:
                    routes.append(_Route(stream, tuple(channels[i] for i in at), at))
            found = routes, sorted({c for c in channels if not any(c in there for there in self._streams.values())})
            if len(self._known) < self.LIMIT:
                self._known[channels] = found
        return found

    def short(self, channels: tuple[str, ...], units: tuple[str, ...]) -> tuple[int, list[int]]:
        """Return the stream that all of them are of, and their places among all channels of the twin.

        MIXED where there is no such stream, or a unit is to be converted; UNKNOWN where no stream has any of them.
        """
        found = self._short.get((channels, units))
        if found is None:
            found, said = (MIXED, [0] * len(channels)), dict(zip(channels, units or [""] * len(channels), strict=True))
            if len(said) == len(channels) and not any(said.keys() & there.keys() for there in self._streams.values()):
                found = UNKNOWN, [0] * len(channels)
            for lane, (stream, there) in enumerate(self._streams.items()):
                same = all(name in there and unit in {"", there[name]} for name, unit in said.items())
                elsewhere = any(said.keys() & other.keys() for name, other in self._streams.items() if name != stream)
                if same and not elsewhere and 0 < len(said) == len(channels):
                    places = list(there)
                    found = lane, [self._first[stream] + places.index(name) for name in channels]
            if len(self._short) < self.LIMIT:
                self._short[channels, units] = found
        return found


class AssetAligner:
    """The streams of one asset. ``quarantined`` collects (stream, channel, time ns) of quarantines that began."""

    next, lead, closed, shift, arrival, cut = _Number(), _Number(), _Number(), _Number(), _Number(), _Number()

    def __init__(
        self, grid: Grid, row: int, telemetry: Telemetry, routes: Routes, saved: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]
    ) -> None:
        self.grid, self.row, self.telemetry, self._routes = grid, row, telemetry, routes
        for name, key in (("next", "next"), ("lead", "lead"), ("closed", "closed"), ("arrival", "newest_arrival")):
            setattr(self, name, saved.get(key, NEVER))
        self.shift = saved.get("shift", 0)
        grid.rows.restart[row] = saved.get("restart", False)
        pending: list[Any] = saved.get("progress", [])
        keep = grid.rows.pending.shape[1]
        pending = [*pending[: keep - 1], pending[-1]] if len(pending) > keep else pending
        grid.rows.pending_n[row] = len(pending)
        grid.rows.pending[row, : len(pending)] = np.array(pending, np.int64).reshape(-1, 2)
        self.cuts: deque[tuple[int, int]] = deque((a, b) for a, b in saved.get("cuts", []))
        self.cut = self.cuts[0][0] if self.cuts else FAR
        self.quarantined: list[tuple[str, str, int]] = [tuple(q) for q in saved.get("quarantined", [])]
        lanes = saved.get("lanes", {})
        self.lanes = {s.name: self._lane(i, s, lanes.get(s.name) or {}, arrays) for i, s in enumerate(grid.streams)}

    def _lane(self, number: int, stream: Stream, saved: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> _Lane:
        lane = _Lane(self.grid, self.row, number, judges(stream, saved.get("judge")))
        mine = {k.split("/", 1)[1]: v for k, v in arrays.items() if k.split("/", 1)[0] == stream.name}
        if mine:
            lane.buffer.load(mine)
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
        for route in routes:
            units = tuple(reading.units[i] for i in route.at) if reading.units else ()
            part = Reading(reading.asset, route.names, reading.times, reading.values[route.at], units=units)
            self._runs(self.lanes[route.stream], part)
        self.telemetry.drop(Reason.UNKNOWN_CHANNEL, len(unknown) * len(reading.times))
        self.tell(unknown, len(reading.times))
        accepted = max(lane.newest for lane in self.lanes.values())  # a time that is not says nothing of the rest
        advance(self.grid.rows, self.grid.lanes, self.row, reading.arrival or min(int(reading.times.max()), accepted))

    def tell(self, unknown: Sequence[str], samples: int) -> None:
        """Remember channels that no stream has."""
        for name in unknown:
            self.telemetry.strange(f"channel {name}", samples)

    def _runs(self, lane: _Lane, reading: Reading) -> None:
        """Split where the clock leaps ahead by more than the bound. One sample that nothing follows is a bad clock; two are a gap."""
        if lane.suspect is not None:
            held, lane.suspect = lane.suspect, None
            if abs(int(reading.times[0]) - int(held.times[0])) <= lane.bound:
                self._place(lane, held)
            else:
                self.telemetry.drop(Reason.CLOCK_JUMP, held.values.size)
        times, newest = reading.times, lane.newest
        if len(times) == 1:  # as below, without arrays
            at = int(times[0])
            if newest == NEVER or abs(at - newest) <= lane.bound:
                self._place(lane, reading)
            elif at < newest:
                self.telemetry.drop(Reason.CLOCK_JUMP, reading.values.size)
            else:
                lane.suspect = _held(reading)
            return
        before = np.concatenate([[newest if newest > NEVER else times[0]], times[:-1]])
        leaps = np.flatnonzero(np.abs(times - before) > lane.bound)
        if not leaps.size:
            self._place(lane, reading)
            return
        edges = np.unique(np.concatenate([[0], leaps, [len(times)]]))
        for lo, hi in itertools.pairwise(edges):
            part = Reading("", reading.channels, times[lo:hi], reading.values[:, lo:hi], units=reading.units)
            ahead = lane.newest > NEVER and times[lo] - lane.newest > lane.bound
            if lane.newest > NEVER and lane.newest - times[lo] > lane.bound:  # leapt back: never applied
                self.telemetry.drop(Reason.CLOCK_JUMP, part.values.size)
            elif ahead and hi - lo == 1:
                if hi == len(times):
                    lane.suspect = _held(part)
                else:
                    self.telemetry.drop(Reason.CLOCK_JUMP, part.values.size)
            else:
                self._place(lane, part)

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
            if (top := lane.buffer.top) > NEVER:
                self.lead = max(self.lead, top // lane.per_hop)

    def _floor(self, lane: _Lane) -> int:
        """Return the first sample of a stream that is not closed: when hops are cut, and with which others, must not matter."""
        return self.closed * lane.per_hop if self.closed > NEVER else NEVER

    def _judged(self, lane: _Lane, reading: Reading, channels: Int) -> tuple[Float, Bool]:
        if lane.all_good(reading, channels):
            return reading.values, np.ones(reading.values.shape, bool)
        values, ok = np.empty(reading.values.shape), np.empty(reading.values.shape, bool)
        for i, c in enumerate(channels):
            unit = reading.units[i] if reading.units else ""
            values[i], ok[i], began = lane.judge[int(c)].judge(reading.values[i], unit, self.telemetry)
            if began >= 0:
                self.quarantined.append((lane.stream.name, reading.channels[i], int(reading.times[began])))
        lane.judged(channels)
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
            self.cut = self.cuts[0][0]
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

    def finish(self, drain: int) -> None:
        """Nothing more comes: close all that has arrived, a last partial hop included, and then ``drain`` masked hops."""
        for lane in self.lanes.values():
            if lane.suspect is not None:
                self.telemetry.drop(Reason.CLOCK_JUMP, lane.suspect.values.size)
                lane.suspect = None
        if self.next == NEVER:
            return
        ends = [-(-top // lane.per_hop) for lane in self.lanes.values() if (top := lane.buffer.top) > NEVER]
        self.closed = max([self.closed, self.next, *ends]) + drain

    def begin_anew(self) -> None:
        """Skip what the gap skips: the next hop is to be cut with the row begun anew."""
        self.shift += self.cuts.popleft()[1]
        self.cut = self.cuts[0][0] if self.cuts else FAR
        self.grid.rows.restart[self.row] = True
        for lane in self.lanes.values():
            lane.buffer.begin_anew()

    def document(self, numbers: Mapping[str, Any], newest: Sequence[int]) -> dict[str, Any]:
        """Return what a snapshot keeps beside the arrays. numbers, newest: this row's of the grid, read for all at once."""
        lanes: dict[str, Any] = {}
        for (name, lane), time in zip(self.lanes.items(), newest, strict=True):
            held = lane.suspect
            kept = held and [list(held.channels), held.times.tolist(), held.values.tolist(), list(held.units)]
            lanes[name] = {"newest": time, "judge": [j.document() for j in lane.judge], "suspect": kept}
        n: int = numbers["progress"]
        pending: list[Any] = self.grid.rows.pending[self.row, :n].tolist() if n else []
        return {**numbers, "progress": pending, "cuts": list(self.cuts), "lanes": lanes, "quarantined": list(self.quarantined)}
