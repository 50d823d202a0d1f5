"""What ``twin-engine demo`` does: sensors that publish to an MQTT broker in this process, twins that listen to it, one screen."""

from __future__ import annotations

import itertools
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Protocol
from urllib.parse import quote

import streams
from streams.broker import EmbeddedBroker
from streams.codecs import open_codec
from streams.publisher import Publisher, open_publisher
from twin_engine.clock import NS, Clock, WallClock
from twin_engine.kernels.cold import compiled_mark
from twin_engine.loader import load
from twin_engine.records import Codec, Idle, Item, Position, Reading, Sink, Source, Update
from twin_engine.run import Run, on_signals

PAST = 32  # seconds of the simulation before now that are played at full speed: every stage is valid after them
GLITCHES = ("Blip", "Tomte", "Whistle")
EVERY = 40  # seconds between glitches
SHOWN = ("white", "host")
REHEARSAL = {"interferometer": 6, "host": 60}  # seconds of simulation that reach every kernel of a twin


def demo(duration: float | None = None) -> None:
    """Show the twin of this machine and a simulated interferometer on one screen until Ctrl-C, or for that many seconds.

    The past of the interferometer is played at once, so that a glitch is found within seconds. It needs the extra ``mqtt``. The seconds
    count from when all kernels are compiled.
    """
    clock, ended = WallClock(), threading.Event()
    with on_signals(ended.set):
        compile_kernels(tuple(REHEARSAL), clock, ended)
    if ended.is_set():
        return
    screen = SharedSink(streams.open_sink("terminal:", show=SHOWN))
    with on_signals(ended.set), tempfile.TemporaryDirectory(prefix="twin-engine-") as folder, EmbeddedBroker() as broker:
        password = Path(folder) / "password"
        password.touch(0o600)
        password.write_text(broker.password)
        print(f"Two sensors publish to a broker of MQTT on 127.0.0.1:{broker.port}; two twins listen to it.", flush=True)  # noqa: T201
        jobs: list[Job] = []
        for name, asset, sensed in (("host", "this machine", "host:"), ("interferometer", "V1", _simulation(clock.now() - PAST * NS))):
            twin, pattern = load(name), f"{name}/{{asset}}"
            address = f"{broker.address(pattern)}&password_file={quote(str(password))}"
            heard = Heard(streams.open_source(f"{address}&codec=arrow", twin=twin, asset=asset))
            source = UpToNow(streams.open_source(sensed, twin=twin, asset=asset), clock)
            jobs += (
                Run(twin, heard, [screen.end()], assets=[asset], duration=duration),
                Sensor(source, open_codec("arrow", pattern), open_publisher(address), heard.ready),
            )
        together(jobs, ended)


def compile_kernels(twins: Sequence[str], clock: Clock, ended: threading.Event) -> None:
    """Compile the kernels of twins, a process for each, if that was not done before; return when it is done or ``ended`` is set."""
    mark = compiled_mark("demo")
    if mark.exists():
        return
    print("Compiling kernels, once; it takes some tens of seconds ...", flush=True)  # noqa: T201 - a screen
    begin, quiet = clock.now(), subprocess.DEVNULL
    words = ([sys.executable, "-c", f"from twin_engine.demo import rehearse; rehearse({twin!r})"] for twin in twins)
    # a session of their own: Ctrl-C is for this process, which ends them
    parts = [subprocess.Popen(line, stdin=quiet, stdout=quiet, stderr=quiet, start_new_session=True) for line in words]  # noqa: S603
    try:
        while not ended.is_set() and any(part.poll() is None for part in parts):
            clock.sleep(0.1)
    finally:
        for part in parts:
            part.kill()
            part.wait()
    if not any(part.returncode for part in parts):  # what failed there fails in the run too, and is told there
        print(f"Kernels compiled in {(clock.now() - begin) / NS:.0f} s.", flush=True)  # noqa: T201
        with suppress(OSError):
            mark.touch()


def rehearse(twin: str) -> None:
    """Run a twin on some seconds of its simulation, so that its kernels are compiled."""
    definition = load(twin)
    source = streams.open_source(f"sim:?seed=7&duration={REHEARSAL[twin]}", twin=definition, asset=twin)
    Run(definition, source, [], assets=[twin])()


def _simulation(start: int) -> str:
    """Return the address of an interferometer with glitches that begins at a time (ns UTC)."""
    kinds = zip(range(PAST + 4, 3600, EVERY), itertools.cycle(GLITCHES), itertools.cycle((20, 30, 45)))
    return f"sim:?seed=7&start={start}&witnesses=0&glitches={','.join(f'{kind}@{at}:{snr}' for at, kind, snr in kinds)}"


class Job(Protocol):
    """Something that goes on until it is asked to end."""

    def __call__(self) -> object:
        """Do it."""
        ...

    def stop(self) -> None:
        """Ask for the end."""
        ...


def together(jobs: Sequence[Job], ended: threading.Event) -> None:
    """Do jobs, each in a thread, until one of them ends or ``ended`` is set; then all end. Raises what the first to fail raised."""
    failures: list[BaseException] = []

    def call(job: Job) -> None:
        try:
            job()
        except BaseException as error:  # noqa: BLE001 - handed to the main thread
            failures.append(error)
        finally:
            ended.set()

    threads = [threading.Thread(target=call, args=(job,), name=type(job).__name__.lower(), daemon=True) for job in jobs]
    for thread in threads:
        thread.start()
    ended.wait()
    for job in jobs:
        job.stop()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


class Sensor:
    """A source whose readings are published, once somebody listens. Closes both."""

    def __init__(self, source: Source, codec: Codec, publisher: Publisher, listened: threading.Event) -> None:
        self._source, self._codec, self._publisher, self._listened = source, codec, publisher, listened
        self._stop = threading.Event()

    def __call__(self) -> None:
        """Publish until the end of the source, or until it is asked to end."""
        try:
            self._listened.wait()
            if not self._stop.is_set():
                self._publisher.open()
            for item in self._source.items(None):
                if self._stop.is_set():
                    break
                for topic, raw in self._codec.encode(item) if isinstance(item, Reading) else ():
                    self._publisher.publish(topic, raw)
        finally:
            self._source.close()
            self._publisher.close()

    def stop(self) -> None:
        """Ask for the end."""
        self._stop.set()
        self._listened.set()


class Heard:
    """A source that tells when it has begun to listen. ready: set from then on."""

    live = True

    def __init__(self, source: Source) -> None:
        self._source, self.ready = source, threading.Event()

    def items(self, position: Position) -> Iterator[Item]:
        """Yield the source's items, the first of which says that it listens."""
        for item in self._source.items(position):
            self.ready.set()
            yield item

    def acknowledge(self, position: Position) -> None:
        """Pass it on."""
        self._source.acknowledge(position)

    def close(self) -> None:
        """Close the source."""
        self._source.close()


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
