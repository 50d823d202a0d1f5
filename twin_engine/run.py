"""The run loop of one process: source, engine, sinks, and checkpoints in the order that loses nothing.

A checkpoint flushes the sinks, saves the snapshot, and then acknowledges the source up to the snapshot's position. A run that finds a
snapshot begins at it:
the sinks are cut back to their positions and the source goes on from its own, so after kill -9 the files equal those of an undisturbed run.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Protocol

from twin_engine.clock import NS, Clock, WallClock
from twin_engine.engine import Engine
from twin_engine.records import Event, Idle, InputKeeper, Position, Reading, Reject, Sink, Source, Telling, Update, Waiting, Watcher
from twin_engine.snapshot import Snapshot, read_snapshot, write_snapshot
from twin_engine.twin import Twin

if TYPE_CHECKING:
    from twin_engine.metrics import Figure

SNAPSHOT = "snapshot.safetensors"
HELD_SAMPLES = 1 << 16  # so many samples are taken together while more is at hand
SNAPSHOT_SHARE = 20  # checkpoints are spaced by at least so many times what the last one took: large fleets do not live for saving
LONGEST = 60 * NS  # but for no longer than this: one may have taken long because a sink was away
STUCK = 60.0  # seconds without a turn of the loop after which a run is stuck: a live source tells within a second that nothing came


class DeadLetter(Protocol):
    """Where rejects go, with their bytes. Positions as a sink's."""

    def open(self, position: Position) -> None:
        """Get ready; cut back to the position."""
        ...

    def write(self, reject: Reject) -> None:
        """Take a reject."""
        ...

    def flush(self) -> Position:
        """Make what was written durable and return the position after it."""
        ...

    def close(self) -> None:
        """Flush and give back what is held."""
        ...


@dataclass
class RunReport:
    """What a run came to.

    resumed: it began from a snapshot. ended: ``"end"`` of the input, ``"time"`` is up, or ``"signal"``. seconds: of wall clock.
    spooled: bytes kept on disk, by sink that was down at the end.
    """

    resumed: bool = False
    ended: str = "end"
    seconds: float = 0.0
    samples: int = 0
    hops: int = 0
    events: int = 0
    rejects: dict[str, int] = field(default_factory=dict[str, int])
    dropped: dict[str, int] = field(default_factory=dict[str, int])
    fresh: list[str] = field(default_factory=list[str])
    spooled: dict[str, int] = field(default_factory=dict[str, int])


class Run:
    """A twin on a source and sinks. Call it once."""

    def __init__(
        self,
        twin: Twin,
        source: Source,
        sinks: Sequence[Sink],
        *,
        assets: Sequence[str],
        state_dir: Path | None = None,
        dead_letter: DeadLetter | None = None,
        clock: Clock | None = None,
        duration: float | None = None,
        snapshot_every: float = 1.0,
        absence: float = 10.0,
        on_update: Callable[[Update], None] | None = None,
    ) -> None:
        self._source, self._sinks, self._dead, self._clock = source, list(sinks), dead_letter, clock or WallClock()
        self._path = state_dir / SNAPSHOT if state_dir else None
        if state_dir:
            state_dir.mkdir(parents=True, exist_ok=True)
        snapshot = read_snapshot(self._path) if self._path else None
        self.engine = Engine(twin, assets, snapshot)
        self._position: Position = snapshot.document["source"] if snapshot else None
        self._open(snapshot)
        self._duration, self._every, self._absence = duration, int(snapshot_every * NS), int(absence * NS)
        self._on_update = on_update
        self._keepers = [sink for sink in sinks if isinstance(sink, InputKeeper) and sink.keeps_input]
        self._saved = self._clock.now()
        self._arrival, self._latency = 0, 0.0  # of the newest update that no sink has said it has (0: there is none); seconds, of the last
        self._turn = 0  # when the loop last had something from the source, if only that nothing came
        for sink in sinks:
            if isinstance(sink, Watcher):
                sink.watch(self.health)
        self._held: list[Reading] = []
        self._held_samples = 0
        self._stop = threading.Event()
        self.report = RunReport(resumed=snapshot is not None, fresh=list(self.engine.fresh))

    def _open(self, snapshot: Snapshot | None) -> None:
        ends = [*self._sinks, *([self._dead] if self._dead else [])]
        saved: list[Position] = snapshot.document["sinks"] if snapshot else []
        for i, end in enumerate(ends):
            end.open(saved[i] if i < len(saved) else None)

    def health(self) -> dict[str, float]:
        """Return the engine's figures: counts, dropped and rejected by reason, seconds since the last snapshot."""
        telemetry = self.engine.telemetry
        figures = {"samples": float(telemetry.samples), "hops": float(telemetry.hops)}
        if self._path:
            figures["snapshot_age_s"] = (self._clock.now() - self._saved) / NS
        for kind, counts in (("dropped", telemetry.dropped), ("rejected", telemetry.rejects)):
            figures |= {f"{kind}_{reason}": float(n) for reason, n in counts.items()}
        if isinstance(self._source, Telling):
            figures |= self._source.figures()
        return figures

    @property
    def ready(self) -> str:
        """As ``metrics.Observed``."""
        if not self._turn:
            return "the source"
        if self._down():
            return "a sink that is down"
        return self._source.waits if isinstance(self._source, Waiting) else ""

    @property
    def alive(self) -> str:
        """As ``metrics.Observed``."""
        still = (self._clock.now() - self._turn) / NS
        return f"no turn for {still:.0f} s" if self._turn and still > STUCK and not self._down() else ""

    def _down(self) -> bool:
        """Whether a sink is down: what it misses is kept, and when there is no more room for that the loop waits."""
        return any(isinstance(sink, Telling) and sink.figures().get("sink_down") for sink in self._sinks)

    def figures(self) -> Iterator[Figure]:
        """As ``metrics.Observed``."""
        telemetry, twin = self.engine.telemetry, {"twin": self.engine.graph.twin.name}
        for name, value in (("samples", telemetry.samples), ("hops", telemetry.hops), ("events", telemetry.events)):
            yield f"{name}_total", f"{name}, kept in snapshots", twin, value
        for reason, n in dict(telemetry.rejects).items():
            yield "rejects_total", "messages that went to the dead letter, kept in snapshots", {**twin, "reason": reason}, n
        for reason, n in dict(telemetry.dropped).items():
            yield "dropped_samples", "samples dropped or masked, kept in snapshots", {**twin, "reason": reason}, n
        yield "latency_seconds", "of the newest update, from arrival to the sinks", twin, self._latency
        yield "assets", "assets of the twin", twin, len(self.engine.assets)
        if self._path:
            yield "snapshot_age_seconds", "since the last snapshot", twin, (self._clock.now() - self._saved) / NS
        if isinstance(self._source, Telling):
            for name, value in self._source.figures().items():
                yield name, "of the source", twin, value
        for number, sink in enumerate(self._sinks):
            if isinstance(sink, Telling):
                for name, value in sink.figures().items():
                    yield name, "of a sink, by its place among them", {**twin, "sink": str(number)}, value

    def stop(self) -> None:
        """Ask the loop to end: it flushes and saves a snapshot first."""
        self._stop.set()

    def __call__(self) -> RunReport:
        """Run to the end of the input, of the time, or to ``stop()``; return what it came to."""
        begin = saved = heard = self._clock.now()
        absent, due = False, self._every
        try:
            with on_signals(self.stop):
                for item in self._source.items(self._position):
                    self._turn = now = self._clock.now()
                    if isinstance(item, Idle):
                        self._put()
                        absent = self._silence(now, heard, absent)
                    else:
                        heard, absent = now, False
                        self._take(item)
                    self._position = item.position
                    if now - saved >= due:
                        self.checkpoint()
                        saved = self._clock.now()
                        due = max(self._every, min(SNAPSHOT_SHARE * (saved - now), LONGEST))
                    if self._stop.is_set() or (self._duration is not None and now - begin >= self._duration * NS):
                        self.report.ended = "signal" if self._stop.is_set() else "time"
                        break
                self._end()
        finally:
            for end in (*self._sinks, *([self._dead] if self._dead else []), self._source):
                with suppress(OSError):
                    end.close()
        telemetry = self.engine.telemetry
        self.report.seconds = (self._clock.now() - begin) / NS
        self.report.samples, self.report.hops, self.report.events = telemetry.samples, telemetry.hops, telemetry.events
        self.report.rejects, self.report.dropped = dict(telemetry.rejects), dict(telemetry.dropped)
        return self.report

    def _take(self, item: Reading | Reject) -> None:
        if isinstance(item, Reject):
            self.engine.telemetry.rejects[item.reason] += 1
            if self._dead:
                self._dead.write(item)
            return
        for keeper in self._keepers:
            keeper.take(self.engine.graph.twin.name, item)
        self._held.append(item)
        self._held_samples += item.values.size
        if self._held_samples >= HELD_SAMPLES:
            self._put()

    def _put(self) -> None:
        """Give the engine the readings that are held: in one step, which is cheap where each has few samples."""
        held, self._held, self._held_samples = self._held, [], 0
        for update in self.engine.put_all(held):
            self._give(update)

    def _give(self, update: Update) -> None:
        self._arrival = update.arrival
        for sink in self._sinks:
            sink.write(update)
        if self._on_update:
            self._on_update(update)

    def _end(self) -> None:
        """Save where the input stands; then, at its end, play out what is still inside.

        That part is not in the snapshot: were the input to go on, the sinks would be cut back to it.
        """
        self.checkpoint()
        if self.report.ended == "end":
            for update in self.engine.finish():
                self._give(update)
            for sink in self._sinks:
                sink.flush()

    def checkpoint(self) -> None:
        """Flush the sinks, save the snapshot, acknowledge the source: in this order."""
        self._put()
        sinks = [sink.flush() for sink in self._sinks]
        if self._dead:
            sinks.append(self._dead.flush())
        if self._arrival:
            self._latency, self._arrival = (self._clock.now() - self._arrival) / NS, 0
        if self._path:
            write_snapshot(self._path, self.engine.snapshot(self._position, sinks))
            self._saved = self._clock.now()
            self._source.acknowledge(self._position)

    def _silence(self, now: int, heard: int, absent: bool) -> bool:
        """Tell once when nothing has come for long: an event of the wall clock, outside the twin's state and outside exact replay."""
        if absent or not self._source.live or now - heard < self._absence:
            return absent
        engine = self.engine
        for asset in engine.assets:
            event = Event(
                id=f"absence-{asset}-{heard}", twin=engine.graph.twin.name, asset=asset, stage="source", kind="absence", severity="warning",
                start=heard, peak=heard, end=now, score=0.0, p_value=1.0, channels={},
            )  # fmt: skip
            self._give(Update(engine.graph.twin.name, engine.assets, {}, engine.graph.specs, [event], heard, heard))
        return True


@contextmanager
def on_signals(stop: Callable[[], None]) -> Generator[None]:
    """While inside, Ctrl-C and SIGTERM ask for the end; a second Ctrl-C interrupts at once. Only in the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def handle(number: int, frame: FrameType | None) -> None:
        del number, frame
        stop()
        signal.signal(signal.SIGINT, signal.default_int_handler)

    before = {s: signal.signal(s, handle) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
