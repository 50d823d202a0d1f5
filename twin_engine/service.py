"""Twins on streams: what ``twin-engine run`` and ``demo`` do. The one module, besides the command line, that sees both."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import streams
from twin_engine.clock import NS, Clock, WallClock
from twin_engine.loader import load
from twin_engine.records import Idle, Item, Position, Reading, Sink, Source, Update
from twin_engine.run import Run, RunReport

PAST = 32  # seconds of the simulation before now that the demo plays at full speed: every stage is valid after them
GLITCHES = ("Blip", "Tomte", "Whistle")
EVERY = 40  # seconds between glitches of the demo
SHOWN = ("white", "host")


def run(
    name: str, source_uri: str, sink_uris: Sequence[str], *, assets: Sequence[str] = (), speed: str = "max", state: Path | None = None,
    duration: float | None = None,
) -> RunReport:  # fmt: skip
    """Run a twin by name on a source and sinks by address, and return what it came to.

    assets: names; one is given to a source that has none of its own, several are those that are taken. speed: of a recording, ``max``,
    ``realtime`` or ``10x``. state: folder of snapshots and rejects, from which a run goes on. duration: seconds on the wall clock.
    Raises TwinError.
    """
    twin = load(name)
    sinks = [streams.open_sink(uri, show=tuple(twin.show)) for uri in sink_uris]
    source = streams.open_source(source_uri, twin=twin, asset=assets[0] if len(assets) == 1 else None, folder=state)
    paced = streams.pace(source, speed)
    dead = streams.DeadLetter(state / "dead_letter.jsonl") if state else None
    return Run(twin, paced, sinks, assets=list(assets) or source.assets, state_dir=state, dead_letter=dead, duration=duration)()


def demo(duration: float | None = None) -> None:
    """Show the twin of this machine and a simulated interferometer on one screen until Ctrl-C, or for that many seconds."""
    print("Starting; the very first start compiles its kernels, which takes a minute or so.", flush=True)  # noqa: T201 - a screen
    clock = WallClock()
    screen = SharedSink(streams.open_sink("terminal:", show=SHOWN))
    host, detector = load("host"), load("interferometer")
    kinds = zip(range(PAST + 4, 3600, EVERY), itertools.cycle(GLITCHES), itertools.cycle((20, 30, 45)))
    listed = ",".join(f"{kind}@{at}:{snr}" for at, kind, snr in kinds)
    uri = f"sim:?seed=7&start={clock.now() - PAST * NS}&witnesses=0&glitches={listed}"
    sources = (
        (host, streams.open_source("host:", twin=host, asset="this machine")),
        (detector, UpToNow(streams.open_source(uri, twin=detector, asset="V1"), clock)),
    )
    runs = [
        Run(twin, source, [screen.end()], assets=["this machine" if twin is host else "V1"], duration=duration) for twin, source in sources
    ]
    _together(runs)


def _together(runs: Sequence[Run]) -> None:
    """Call runs, each in a thread; when one fails or Ctrl-C comes, stop all. Raises what the first to fail raised."""
    failures: list[BaseException] = []

    def call(one: Run) -> None:
        try:
            one()
        except BaseException as error:  # noqa: BLE001 - handed to the main thread
            failures.append(error)
            for each in runs:
                each.stop()

    threads = [threading.Thread(target=call, args=(each,), daemon=True) for each in runs]
    for thread in threads:
        thread.start()
    try:
        for thread in threads:
            thread.join()
    except KeyboardInterrupt:
        for each in runs:
            each.stop()
        for thread in threads:
            thread.join()
    if failures:
        raise failures[0]


class UpToNow:
    """A source whose past comes at full speed, and whose future when the clock says so."""

    live = False

    def __init__(self, source: Source, clock: Clock) -> None:
        self._source, self._clock = source, clock

    def items(self, position: Position) -> Iterator[Item]:
        """Yield the source's items, none before its last sample's time; Idle while waiting."""
        for item in self._source.items(position):
            while isinstance(item, Reading) and (left := (int(item.times[-1]) - self._clock.now()) / NS) > 0:
                yield Idle(position)
                self._clock.sleep(min(left, 0.1))
            position = item.position
            yield item

    def acknowledge(self, position: Position) -> None:
        """Pass it on."""
        self._source.acknowledge(position)

    def close(self) -> None:
        """Close the source."""
        self._source.close()


class SharedSink:
    """One sink for several runs in threads: opened by the first, closed by the last. It must have no position."""

    def __init__(self, sink: Sink) -> None:
        self.sink, self.lock, self.users = sink, threading.Lock(), 0

    def end(self) -> SharedEnd:
        """Return the end that one run writes to."""
        return SharedEnd(self)


class SharedEnd:
    """A run's end of a shared sink."""

    def __init__(self, shared: SharedSink) -> None:
        self._shared = shared

    def open(self, position: Position) -> None:
        """Open the sink if no other run has."""
        with self._shared.lock:
            self._shared.users += 1
            if self._shared.users == 1:
                self._shared.sink.open(position)

    def write(self, update: Update) -> None:
        """Write, one run at a time."""
        with self._shared.lock:
            self._shared.sink.write(update)

    def flush(self) -> Position:
        """Flush, one run at a time."""
        with self._shared.lock:
            return self._shared.sink.flush()

    def close(self) -> None:
        """Close the sink if no other run needs it."""
        with self._shared.lock:
            self._shared.users -= 1
            if self._shared.users == 0:
                self._shared.sink.close()
