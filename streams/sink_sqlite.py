"""Events and summaries of the shown outputs in a SQLite file (WAL), each row written over by a newer one of the same key."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from fractions import Fraction
from typing import Any

import msgspec

from streams.shown import shown_blocks
from streams.summary import Interval, intervals
from streams.uri import Uri
from twin_engine.clock import seconds
from twin_engine.errors import SinkError
from twin_engine.ports import BlockSpec
from twin_engine.records import Event, Position, Update

SCHEMA = 1  # in PRAGMA user_version
_TABLES = """
CREATE TABLE IF NOT EXISTS events (
    id TEXT, revision INTEGER, final INTEGER, twin TEXT, asset TEXT, stage TEXT, kind TEXT, severity TEXT,
    start INTEGER, peak INTEGER, "end" INTEGER, score REAL, p_value REAL, channels TEXT,
    frequency REAL, bandwidth REAL, snr REAL, class TEXT, PRIMARY KEY (id, revision)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS events_by_time ON events (twin, asset, start);
CREATE VIEW IF NOT EXISTS latest_events AS
    SELECT * FROM events AS e WHERE revision = (SELECT max(revision) FROM events WHERE id = e.id);
CREATE TABLE IF NOT EXISTS summary (
    twin TEXT, asset TEXT, output TEXT, channel TEXT, start INTEGER, count INTEGER, minimum REAL, maximum REAL, last REAL,
    PRIMARY KEY (twin, asset, output, channel, start)) WITHOUT ROWID;
"""
_EVENT = "INSERT OR REPLACE INTO events VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)"
_SUMMARY = "INSERT OR REPLACE INTO summary VALUES (?,?,?,?,?,?,?,?,?)"


def open_sqlite(uri: Uri, show: tuple[str, ...]) -> SqliteSink:
    """Open ``sqlite:FILE?interval=1 s``.

    interval: of the summaries (least, greatest and last valid value of each channel shown), on the epoch's grid.
    """
    uri.only("interval")
    interval = seconds(uri.options.get("interval", "1 s"))
    if interval <= 0:
        raise SinkError(uri.text, expected="an interval above zero", found=str(interval), mend="Write interval=1 s.")
    return SqliteSink(uri, show, interval)


class SqliteSink:
    """Tables ``events`` (key: id and revision; times in ns UTC), ``summary``, and the view ``latest_events``.

    A run that begins anew adds to what is there: the same input makes the same keys. The position holds the intervals that are still open,
    so that they end as they would have without the break.
    """

    def __init__(self, uri: Uri, show: tuple[str, ...], interval: Fraction) -> None:
        self._uri, self._show, self._interval = uri, show, interval
        self._database: sqlite3.Connection | None = None
        self._open: dict[tuple[str, str, str, str], Interval] = {}

    def open(self, position: Position) -> None:
        """Make the tables if need be; raises SinkError."""
        self.close()
        path = self._uri.file
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            database = sqlite3.connect(path, timeout=10.0)
            version = database.execute("PRAGMA user_version").fetchone()[0]
            if version not in {0, SCHEMA}:
                raise SinkError(
                    self._uri.text, expected=f"a file of schema {SCHEMA}", found=f"schema {version}", mend="Choose another file."
                )
            database.executescript(f"PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; {_TABLES} PRAGMA user_version={SCHEMA};")
        except (sqlite3.Error, OSError) as error:
            raise SinkError(
                self._uri.text, expected="a SQLite file that can be written", found=str(error), mend="Choose another path."
            ) from None
        self._database = database
        self._open = {(t, a, o, c): Interval(*rest) for t, a, o, c, *rest in (position or [])}

    def write(self, update: Update) -> None:
        """Take the update's events and summarise its shown outputs."""
        self._execute(_EVENT, [_row(event) for event in update.events])
        closed: list[tuple[Any, ...]] = []
        for key, block in shown_blocks(update, self._show).items():
            spec = update.specs[key]
            if not isinstance(spec, BlockSpec):
                continue
            for row, channel, interval in intervals(block, spec.rate, self._interval):
                place = (update.twin, update.assets[row], key, spec.channels[channel])
                held = self._open.get(place)
                if held is not None and held.start != interval.start:
                    closed.append((*place, *held))
                self._open[place] = held.merged(interval) if held is not None and held.start == interval.start else interval
        self._execute(_SUMMARY, closed)

    def flush(self) -> Position:
        """Commit, open intervals as they stand included, and return these."""
        if self._database is None:
            return None
        rows = [(*place, *interval) for place, interval in self._open.items()]
        self._execute(_SUMMARY, rows)
        try:
            self._database.commit()
        except sqlite3.Error as error:
            raise self._failed(error) from None
        return [list(row) for row in rows]

    def _execute(self, statement: str, rows: list[tuple[Any, ...]]) -> None:
        """Write rows into the transaction at hand."""
        if self._database is None:
            raise SinkError(self._uri.text, expected="an open sink", found="closed", mend="Open it first.")
        try:
            if rows:
                with closing(self._database.executemany(statement, rows)):
                    pass
        except sqlite3.Error as error:
            raise self._failed(error) from None

    def _failed(self, error: Exception) -> SinkError:
        return SinkError(
            self._uri.text, expected="a database that can be written", found=str(error), mend="Free some space or close other writers."
        )

    def close(self) -> None:
        """Commit and close."""
        if self._database is not None:
            self.flush()
            self._database.close()
            self._database = None


def _row(event: Event) -> tuple[Any, ...]:
    """Return an event in the order of the table's columns."""
    return (
        event.id, event.revision, int(event.final), event.twin, event.asset, event.stage, event.kind, event.severity,
        event.start, event.peak, event.end, event.score, event.p_value, msgspec.json.encode(event.channels).decode(),
        event.frequency, event.bandwidth, event.snr, event.class_,
    )  # fmt: skip
