"""InfluxDB 2 and 3 as a sink: events, shown outputs and the engine's own health, written within milliseconds of the update."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

from streams.dead_letter import DeadLetter
from streams.influx_http import Database, RefusedError
from streams.influx_points import Points, health_line
from streams.influx_sender import Sender
from streams.uri import Uri
from twin_engine.clock import NS, Clock, WallClock, hertz, seconds
from twin_engine.errors import DefinitionError, SinkError
from twin_engine.records import Position, Reason, Reject, Update

_OPTIONS = ("org", "token_env", "token_file", "ca", "site", "summarise_above", "interval", "refused", "worker")


def open_influx(uri: Uri, show: tuple[str, ...]) -> InfluxSink:
    """Open ``influx:http://HOST:8086/BUCKET?org=ORG&token_env=INFLUX_TOKEN``.

    token_env, token_file: the variable (default INFLUX_TOKEN) or file that holds the token. ca: certificates to trust with https, in place
    of the system's. site: a tag. summarise_above: Hz (default 10) above which an output is summarised, in intervals of ``interval``
    (default 1 s). refused: the file that keeps lines the server will never take, each with the reason (default ``BUCKET.refused.jsonl``).
    worker: the name of this process among the engine's own figures (default: the machine's).
    """
    database = Database(uri)
    uri.only(*_OPTIONS)
    try:
        limit, interval = hertz(uri.options.get("summarise_above", "10 Hz")), seconds(uri.options.get("interval", "1 s"))
    except (DefinitionError, ValueError) as error:
        raise SinkError(uri.text, expected="summarise_above in Hz, interval in s", found=str(error), mend="Write interval=1 s.") from None
    if interval <= 0:
        raise SinkError(uri.text, expected="an interval above zero", found=str(interval), mend="Write interval=1 s.")
    bucket = uri.path.rstrip("/").rpartition("/")[2]
    refused = Path(uri.options.get("refused", f"{bucket}.refused.jsonl")).expanduser()
    return InfluxSink(database, uri, show, limit, interval, refused)


class InfluxSink:
    """Points as in ``influx_points``; sent by a thread, complete at flush. A write that comes again changes nothing.

    The position holds the summaries of intervals that are still open, and the end of the file of refused lines.
    """

    def __init__(
        self,
        database: Database,
        uri: Uri,
        show: tuple[str, ...],
        limit: Fraction,
        interval: Fraction,
        refused: Path,
        clock: Clock | None = None,
    ) -> None:
        self._database, self._text, self._clock = database, uri.text, clock or WallClock()
        self._points = Points(show, uri.options.get("site", ""), limit, interval)
        self._worker = uri.options.get("worker") or socket.gethostname()
        self._dead, self._dead_open = DeadLetter(refused), False
        self._dead_end: Any = None
        self._sender: Sender | None = None
        self._health: Callable[[], Mapping[str, float]] | None = None
        self._counts: dict[str, float] = {}
        self._newest: Update | None = None

    def watch(self, health: Callable[[], Mapping[str, float]]) -> None:
        """Write these figures too at each flush, beside lag and counts of this sink: measurement ``twin_engine``."""
        self._health = health

    def open(self, position: Position) -> None:
        """Connect, and go on with the intervals that were open; raises SinkError where the server is down or denies access."""
        self._end()
        self._database.check()
        place: dict[str, Any] = position or {}
        self._points.restore(place.get("open"))
        self._dead_end = place.get("refused")
        self._counts = dict.fromkeys(("updates", "events", "refused_lines"), 0.0)
        self._newest = None
        self._sender = Sender(self._database, self._refuse)

    def write(self, update: Update) -> None:
        """Hand the update's lines to the thread; waits only while much is waiting already."""
        sender = self._running()
        for batch in self._points.of(update):
            sender.put(batch)
        self._newest = update
        self._counts["updates"] += 1
        self._counts["events"] += sum(event.final for event in update.events)

    def _running(self) -> Sender:
        if self._sender is None:
            raise SinkError(self._text, expected="an open sink", found="closed", mend="Open it first.")
        return self._sender

    def flush(self) -> Position:
        """Wait until the server has taken everything; raises SinkError."""
        if self._sender is None:
            return None
        if (newest := self._newest) is not None:
            self._sender.put(health_line(newest.twin, self._worker, self._figures(newest), self._clock.now()))
        self._sender.flush()
        if self._dead_open:
            self._dead_end = self._dead.flush()
        return {"open": self._points.document(), "refused": self._dead_end}

    def _figures(self, newest: Update) -> dict[str, float]:
        """Return the engine's figures. lag_s: of the newest event time behind the clock; latency_s: of its arrival."""
        now = self._clock.now()
        figures = {**self._counts, "lag_s": (now - newest.until) / NS, "latency_s": (now - newest.arrival) / NS}
        figures["lines"] = float(self._running().sent)
        return {**figures, **(self._health() if self._health else {})}

    def again(self, raw: bytes) -> str:
        """Write a line that was refused before; return why the server will not take it, empty where it has. Raises SinkError."""
        try:
            self._database.post(raw + b"\n")
        except RefusedError as error:
            return error.reason
        return ""

    def _refuse(self, line: bytes, reason: str) -> None:
        """Keep a line that the server will not take."""
        if not self._dead_open:
            size = self._dead.path.stat().st_size if self._dead.path.exists() else 0
            self._dead.open(self._dead_end or {"offset": size, "unwritten": {}})
            self._dead_open = True
        self._dead.write(Reject(Reason.REFUSED, reason, self._text, line))
        self._counts["refused_lines"] += 1

    def close(self) -> None:
        """Write intervals as they stand, flush, and close."""
        try:
            if self._sender is not None:
                for batch in self._points.standing():
                    self._sender.put(batch)
                self._sender.flush()
        finally:
            self._end()

    def _end(self) -> None:
        """Close what is open, without writing."""
        sender, self._sender = self._sender, None
        if sender is not None:
            sender.close()
        self._database.close()
        if self._dead_open:
            self._dead_open = False
            self._dead.close()
