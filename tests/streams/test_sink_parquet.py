"""Parquet segments: what is in them, cutting back, joining."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from streams import open_sink, segments
from twin_engine.clock import parse_iso, time_of
from twin_engine.errors import SinkError
from twin_engine.ports import Block, BlockSpec
from twin_engine.records import Event, Sink, Update

RATE = Fraction(1, 3600)
START = parse_iso("2020-01-01T00:00:00Z") // (3600 * 10**9)
SPECS = {"clean.out": BlockSpec(RATE, ("x", "y"))}


def _update(first: int, n: int = 6) -> Update:
    values = np.arange(first, first + n) + np.zeros((2, 2, 1)) + np.array([0.0, 0.5])[:, None, None]
    valid = np.broadcast_to(np.arange(first, first + n) % 4 != 0, values.shape)
    block = Block(values, valid, np.array([0, 1]), np.array([START + first] * 2))
    event = Event(
        id=str(first), twin="t", asset="a", stage="s", kind="k", severity="info", start=int(time_of(START + first, RATE)), peak=1, end=2,
        score=1.0, p_value=0.5, channels={"y": 0.75, "x": 0.25}, class_="Blip",
    )  # fmt: skip
    return Update("t", ["a", "b"], {"clean.out": block}, SPECS, [event])


def _sink(path: Path) -> Sink:
    return open_sink(f"parquet:{path}", show=("clean",))


def _rows(path: Path, output: str) -> list[dict[str, object]]:
    folder = path / "twin=t" / f"output={output}"
    table = ds.dataset(folder, format="parquet", partitioning="hive").to_table()
    return table.sort_by([(name, "ascending") for name in ("time", "asset", "id") if name in table.column_names]).to_pylist()


def test_segments_hold_outputs_and_events_by_day(tmp_path: Path) -> None:
    sink = _sink(tmp_path)
    sink.open(None)
    for first in range(0, 48, 6):
        sink.write(_update(first))
    assert sink.flush() == 4
    sink.close()
    days = sorted(p.relative_to(tmp_path).as_posix() for p in tmp_path.glob("*/*/*"))
    assert days == [f"twin=t/output={o}/day=2020-01-0{d}" for o in ("clean.out", "events") for d in (1, 2)]
    rows = _rows(tmp_path, "clean.out")
    assert len(rows) == 96
    assert [row["x"] for row in rows if row["asset"] == "b"] == [k + 0.5 if k % 4 else None for k in range(48)]
    table = pq.read_table(next((tmp_path / days[0]).glob("*.parquet")), partitioning=None)
    assert pc.min(table["time"]).as_py().isoformat() == "2020-01-01T00:00:00+00:00"
    event = next(row for row in _rows(tmp_path, "events") if row["id"] == "6")
    assert event["class"] == "Blip"
    assert event["channels"] == [("y", 0.75), ("x", 0.25)]
    assert event["snr"] is None
    assert str(event["start"]) == "2020-01-01 06:00:00+00:00"


def _play(path: Path, first: int, position: object) -> None:
    """Write from an update on, a flush each; the last two flushes are in no snapshot."""
    sink = _sink(path)
    sink.open(position)
    for k in range(first, 12):
        sink.write(_update(k, 1))
        sink.flush()
    sink.close()


@pytest.mark.parametrize("done", [1, 5, 9])
def test_is_cut_back_and_joined_without_loss(tmp_path: Path, done: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A break after any flush, and the rest played again from the snapshot before it, is the same as none."""
    monkeypatch.setattr(segments, "_JOIN", 3)
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    _play(whole, 0, None)
    sink = _sink(broken)
    sink.open(None)
    positions: list[object] = []
    for k in range(done + 1):  # one more flush than the snapshot knows
        sink.write(_update(k, 1))
        positions.append(json.loads(json.dumps(sink.flush())))
    _play(broken, done, positions[done - 1])
    for output in ("clean.out", "events"):
        assert _rows(whole, output) == _rows(broken, output)
        assert len(_rows(whole, output)) == (24 if output == "clean.out" else 12)
    assert len(list(whole.glob("*/*/*/*.parquet"))) < 12


def test_files_are_joined_and_a_break_while_joining_is_mended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segments, "_JOIN", 3)
    sink = _sink(tmp_path)
    sink.open(None)
    copies: dict[Path, bytes] = {}
    position = None
    for k in range(8):
        sink.write(_update(k, 1))
        position = sink.flush()
        copies |= {path: path.read_bytes() for path in tmp_path.glob("*/*/*/part-*")}
    sink.close()
    left = set(tmp_path.glob("*/*/*/part-*"))
    assert len(left) < len(copies)
    before = _rows(tmp_path, "clean.out")
    for path, data in copies.items():  # as if it had stopped before the old files were deleted
        path.write_bytes(data)
    (next(iter(left)).parent / "part-00000099-00000099.tmp").write_bytes(b"half")
    again = _sink(tmp_path)
    again.open(position)
    again.close()
    assert set(tmp_path.glob("*/*/*/part-*")) == left
    assert _rows(tmp_path, "clean.out") == before


def test_errors(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SinkError, match="a directory"):
        _sink(tmp_path / "file").open(None)
    folder = tmp_path / "twin=t" / "output=o" / "day=2020-01-01"
    folder.mkdir(parents=True)
    (folder / "part-00000000-00000031.parquet").write_bytes(b"")
    with pytest.raises(SinkError, match="Begin anew"):
        _sink(tmp_path).open(7)
