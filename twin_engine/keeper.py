"""A twin's input from Kafka into history: as it came, with its arrival times, the offsets beside the segments.

Segments are written, then the file that says how far they go, with the offsets; segments beyond it are cut off at the next start. So each
record is there once, whenever the process was killed, and history played again gives what the workers gave.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from twin_engine.errors import SinkError
from twin_engine.metrics import Figure
from twin_engine.records import InputKeeper, Position, Reading, Reject, Sink, Source, Telling
from twin_engine.whole import write_whole

MOST = 50_000  # readings held before they are written, due or not


class _Kept(msgspec.Struct):
    source: Any
    sink: Any


class Keeper:
    """Keeps what a source gives to a twin, in a sink that keeps input. state: the file that says how far. every: seconds between writes."""

    def __init__(self, twin: str, source: Source, sink: Sink, state: Path, *, every: float = 10.0) -> None:
        self.counts: Counter[str] = Counter()
        self._twin, self._source, self._sink, self._state, self._every = twin, source, sink, state, every
        self._stop = threading.Event()
        self._held = 0
        self._waits = "not connected to Kafka"
        self._saved = time.monotonic()

    def stop(self) -> None:
        """Write what is held and end."""
        self._stop.set()

    @property
    def ready(self) -> str:
        """As ``metrics.Observed``."""
        return self._waits

    @property
    def alive(self) -> str:
        """As ``metrics.Observed``."""
        return ""

    def figures(self) -> Iterator[Figure]:
        """As ``metrics.Observed``."""
        yield "kept_samples_total", "samples that are in history, or held for it", {}, self.counts["samples"]
        yield "rejects_total", "messages that could not be read: the worker's dead letter has them", {}, self.counts["rejects"]
        yield "history_age_seconds", "since what came was last written", {}, time.monotonic() - self._saved
        if isinstance(self._source, Telling):
            for name, value in self._source.figures().items():
                yield name, "of the source", {}, value

    def run(self) -> None:
        """Keep until ``stop``; raises InputError where the topic cannot be had at the start, and SinkError where there is no room."""
        sink = self._sink
        if not isinstance(sink, InputKeeper):
            raise TypeError("a sink that keeps input is needed")
        kept = self._begin()
        sink.open(kept.sink)
        try:
            for item in self._source.items(kept.source):
                self._waits = ""
                if isinstance(item, Reading):
                    sink.take(self._twin, item)
                    self._held += 1
                    self.counts["samples"] += item.values.size
                self.counts["rejects"] += isinstance(item, Reject)
                if self._stop.is_set() or self._held >= MOST or time.monotonic() - self._saved >= self._every:
                    self._save(item.position)
                if self._stop.is_set():
                    break
        finally:
            with suppress(SinkError):  # what was held comes again
                sink.close()
            self._source.close()

    def _begin(self) -> _Kept:
        """Return how far it is; raises SinkError where there are segments of another."""
        if not self._state.exists():
            if any(self._state.parent.glob("twin=*")):
                mend = "Name another folder: what is in this one would be deleted."
                raise SinkError(str(self._state.parent), expected="a folder without segments", found=f"no {self._state.name}", mend=mend)
            self._state.parent.mkdir(parents=True, exist_ok=True)
            write_whole(self._state, msgspec.json.encode(_Kept(None, 0)))
        return msgspec.json.decode(self._state.read_bytes(), type=_Kept)

    def _save(self, position: Position) -> None:
        """Write what is held, then how far that goes, then tell the source."""
        written = self._sink.flush()
        write_whole(self._state, msgspec.json.encode(_Kept(position, written)))
        self._source.acknowledge(position)
        self._held, self._saved = 0, time.monotonic()
