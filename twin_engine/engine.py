"""The engine of one twin: readings in, updates out. Built from a snapshot or from nothing; all runtimes drive this."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twin_engine.align import Aligner
from twin_engine.clock import hertz, time_of
from twin_engine.detect.events import to_events
from twin_engine.errors import InputError, SnapshotError
from twin_engine.fleet import Fleet
from twin_engine.graph import Graph, bind, resolve
from twin_engine.ports import Block, Frame, Marks, MarksSpec
from twin_engine.records import Event, Position, Reading, Singles, Update
from twin_engine.snapshot import Snapshot
from twin_engine.telemetry import Telemetry
from twin_engine.twin import Twin


class Engine:
    """One twin and its assets.

    snapshot: what ``snapshot()`` gave, of the same twin; a stage whose definition has changed since begins anew (``fresh``), all others
    go on. An asset that the snapshot does not know begins anew; one that is no longer listed stays.
    Raises DefinitionError when the twin is wrong, SnapshotError when the snapshot is of another twin or hop.
    """

    def __init__(self, twin: Twin, assets: Sequence[str], snapshot: Snapshot | None = None) -> None:
        self.graph: Graph = bind(twin)
        document: Mapping[str, Any] = snapshot.document if snapshot else {}
        arrays: Mapping[str, NDArray[Any]] = snapshot.arrays if snapshot else {}
        if snapshot and (document["twin"], document["hop"]) != (twin.name, str(self.graph.hop)):
            raise SnapshotError(
                "snapshot", expected=f"twin {twin.name!r} with a hop of {self.graph.hop} s",
                found=f"twin {document['twin']!r} with a hop of {document['hop']} s", mend="Give another --state.",
            )  # fmt: skip
        kept: list[str] = list(document.get("assets", ()))
        self.assets: list[str] = kept + [name for name in dict.fromkeys(assets) if name not in set(kept)]
        self.telemetry = Telemetry(document.get("telemetry"))
        self.aligner = Aligner(self.graph, self.assets, self.telemetry, document.get("align"), _under(arrays, "align/"))
        saved = _under(arrays, "state/") if snapshot else None
        self.fleet = Fleet(self.graph, self.assets, saved, document.get("stages"), self.telemetry.drop)
        self.fresh = self.fleet.fresh
        self._digest = twin.digest()
        self._alarms = [node.name for node in self.graph.nodes if any(_is_events(s) for s in node.op.outputs.values())]
        self._shown = {resolve(self.graph, reference) for reference in twin.show}
        self._arrival = 0

    @property
    def shown(self) -> frozenset[str]:
        """Keys of the outputs that sinks keep and screens draw."""
        return frozenset(self._shown)

    def put(self, reading: Reading) -> Iterator[Update]:
        """Take a reading and yield what it completes."""
        return self.put_all((reading,))

    def put_all(self, readings: Sequence[Reading | Singles]) -> Iterator[Update]:
        """Take readings and yield what they complete: the same as one by one, in fewer steps. Run it to its end."""
        for item in readings:
            self._arrival = max(self._arrival, item.arrival if isinstance(item, Reading) else int(item.arrivals.max()))
        self.aligner.put_all(readings)
        for frame in self.aligner.frames():
            yield self._step(frame)

    def finish(self) -> Iterator[Update]:
        """Nothing more comes: yield what is left, and what masked hops as long as all lags and memories still bring out."""
        self.aligner.finish(self.drain)
        for frame in self.aligner.frames():
            yield self._step(frame)

    @property
    def drain(self) -> Fraction:
        """Seconds of masked hops after which nothing more comes out: all lags, and the time in which an event closes."""
        return self.graph.lag + max((n.op.memory for n in self.graph.nodes if n.name in self._alarms), default=Fraction(0)) + self.graph.hop

    def _step(self, frame: Frame) -> Update:
        outputs = self.fleet.step(frame)
        events = [*self._quarantines()]
        for node in self.graph.nodes:
            for port, spec in node.op.outputs.items():
                marks = outputs[f"{node.name}.{port}"]
                if _is_events(spec) and isinstance(spec, MarksSpec) and isinstance(marks, Marks) and len(marks):
                    events += to_events(marks, spec, self.graph.twin.name, self._digest, node.name, self.assets)
        self.telemetry.events += sum(e.final for e in events)
        until = int(time_of(int(frame.first.max()) + frame.hops, 1 / self.graph.hop))
        return Update(self.graph.twin.name, self.assets, outputs, self.graph.specs, events, until, self._arrival or until)

    def _quarantines(self) -> Iterator[Event]:
        for asset, stream, channel, at in self.aligner.quarantines():
            key = f"{self.graph.twin.name}/{asset}/{stream}/{channel}/quarantine/{at}"
            yield Event(
                id=hashlib.sha256(key.encode()).hexdigest()[:24], twin=self.graph.twin.name, asset=asset, stage=stream, kind="quarantine",
                severity="warning", start=at, peak=at, end=at, score=0.0, p_value=1.0, channels={channel: 1.0},
            )  # fmt: skip

    def snapshot(self, source: Position = None, sinks: Sequence[Position] = ()) -> Snapshot:
        """Return all that a run goes on from. The arrays are live: write them before the next reading."""
        arrays = {f"state/{k}": v for k, v in self.fleet.arrays().items()} | {f"align/{k}": v for k, v in self.aligner.arrays().items()}
        document = {
            "twin": self.graph.twin.name, "definition": self._digest, "hop": str(self.graph.hop), "assets": self.assets,
            "stages": self.fleet.digests(), "align": self.aligner.document(), "telemetry": self.telemetry.document(),
            "source": source, "sinks": list(sinks),
        }  # fmt: skip
        return Snapshot(arrays, document)


def _under(arrays: Mapping[str, NDArray[Any]], prefix: str) -> dict[str, NDArray[Any]]:
    return {k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)}


def _is_events(spec: object) -> bool:
    return isinstance(spec, MarksSpec) and spec.events


def replay(twin: Twin, blocks: Iterable[Reading | Mapping[str, NDArray[Any]]], *, asset: str = "asset", start: int = 0) -> Iterator[Update]:
    """Run a twin over data in this process and yield its updates.

    blocks: readings, or mappings of stream name -> array ``(channel, time)`` (or ``(time,)``), each following on the one before, the first
    at ``start`` (ns UTC, on the epoch's grid). asset: the one that all are of. Ends by playing out lags, so that events close. Raises
    InputError at a reading of another asset.
    """
    engine = Engine(twin, [asset])
    given: dict[str, int] = {}
    for block in blocks:
        for reading in [block] if isinstance(block, Reading) else _readings(twin, block, asset, start, given):
            if reading.asset != asset:
                raise InputError(
                    "replay", expected=f"readings of asset {asset!r}", found=f"one of {reading.asset!r}",
                    mend=f"Give asset={reading.asset!r}, or several assets to an Engine.",
                )  # fmt: skip
            yield from engine.put(reading)
    yield from engine.finish()


def _readings(twin: Twin, block: Mapping[str, NDArray[Any]], asset: str, start: int, given: dict[str, int]) -> Iterator[Reading]:
    for name, array in block.items():
        stream = twin.stream(name)
        values = np.atleast_2d(np.asarray(array, np.float64))
        n = given.get(name, 0)
        given[name] = n + values.shape[1]
        times = start + time_of(np.arange(n, n + values.shape[1], dtype=np.int64), hertz(stream.rate))
        yield Reading(asset, tuple(c.name for c in stream.channels), times, values)


def latest(events: Iterable[Event]) -> list[Event]:
    """Return each event in its highest revision, by start."""
    newest: dict[str, Event] = {}
    for event in events:
        if event.id not in newest or newest[event.id].revision <= event.revision:
            newest[event.id] = event
    return sorted(newest.values(), key=lambda e: (e.start, e.id))


def blocks_of(update: Update, key: str) -> Block:
    """Return a block output of an update by its key (``"clean.clean"``); TypeError when it is marks."""
    port = update.outputs[key]
    if not isinstance(port, Block):
        raise TypeError(f"{key} is marks, not a block")
    return port
