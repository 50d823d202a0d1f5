"""Events and summaries in SQLite: newer rows win, and a break changes nothing."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from streams import open_sink
from twin_engine.errors import SinkError
from twin_engine.ports import Block, BlockSpec
from twin_engine.records import Event, Sink, Update

RATE = 8
SPECS = {"clean.out": BlockSpec(Fraction(RATE), ("x", "y"))}


def _event(identity: str, revision: int = 0, *, final: bool = True) -> Event:
    return Event(
        id=identity, twin="t", asset="a", stage="alarm", kind="alarm", severity="info", start=1, peak=2, end=3 + revision, score=1.5,
        p_value=0.1,
        channels={"x": 1.0}, revision=revision, final=final,
    )  # fmt: skip


def _update(first: int, n: int, *events: Event) -> Update:
    index = first + np.arange(n)
    values = np.stack([np.sin(index), np.cos(index)])[None] + np.arange(2)[:, None, None]
    valid = np.broadcast_to(index % 5 != 0, values.shape)
    block = Block(values, valid, np.array([0, 1]), np.array([first, first]))
    return Update("t", ["a", "b"], {"clean.out": block}, SPECS, events)


def _rows(path: Path, query: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(path)) as database:
        return database.execute(query).fetchall()


def _sink(path: Path) -> Sink:
    return open_sink(f"sqlite:{path}", show=("clean",))


def test_events_are_kept_by_id_and_revision(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    sink = _sink(path)
    sink.open(None)
    for _ in range(2):
        sink.write(Update("t", ["a"], {}, {}, [_event("e1", final=False), _event("e2")]))
        sink.write(Update("t", ["a"], {}, {}, [_event("e1", 1)]))
    sink.close()
    assert _rows(path, "SELECT id, revision FROM events ORDER BY id, revision") == [("e1", 0), ("e1", 1), ("e2", 0)]
    assert _rows(path, 'SELECT id, revision, final, "end", channels FROM latest_events ORDER BY id') == [
        ("e1", 1, 1, 4, '{"x":1.0}'),
        ("e2", 0, 1, 3, '{"x":1.0}'),
    ]
    assert _rows(path, "PRAGMA journal_mode") == [("wal",)]


def test_summaries_are_those_of_the_whole_series(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    sink = _sink(path)
    sink.open(None)
    for first, n in ((0, 3), (3, 10), (13, 1), (14, 26)):
        sink.write(_update(first, n))
    sink.close()
    index = np.arange(40)
    expected = []
    for start in range(5):
        mine = index[(index // RATE == start) & (index % 5 != 0)]
        values = np.cos(mine) + 1
        expected.append((start * 10**9, len(mine), values.min(), values.max(), values[-1]))
    query = "SELECT start, count, minimum, maximum, last FROM summary WHERE asset='b' AND channel='y' AND output='clean.out' ORDER BY start"
    assert _rows(path, query) == expected


def test_a_break_changes_nothing(tmp_path: Path) -> None:
    whole, broken = tmp_path / "whole.db", tmp_path / "broken.db"
    sink = _sink(whole)
    sink.open(None)
    sink.write(_update(0, 13))
    sink.write(_update(13, 20))
    sink.close()
    sink = _sink(broken)
    sink.open(None)
    sink.write(_update(0, 13))
    position = json.loads(json.dumps(sink.flush()))
    sink.write(_update(13, 7))  # these are written again after the break
    sink.close()
    again = _sink(broken)
    again.open(position)
    again.write(_update(13, 20))
    again.close()
    query = "SELECT * FROM summary ORDER BY asset, channel, start"
    assert _rows(whole, query) == _rows(broken, query)


def test_errors(tmp_path: Path) -> None:
    (tmp_path / "text.db").write_text("this is no database, whatever its name says" * 20)
    with pytest.raises(SinkError, match="SQLite"):
        _sink(tmp_path / "text.db").open(None)
    with closing(sqlite3.connect(tmp_path / "new.db")) as database:
        database.execute("PRAGMA user_version=7")
    with pytest.raises(SinkError, match="schema 7"):
        _sink(tmp_path / "new.db").open(None)
    with pytest.raises(SinkError, match="interval"):
        open_sink(f"sqlite:{tmp_path / 'a.db'}?interval=0 s")
