"""Twins on streams by address."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.room import room as room_twin
from twin_engine.clock import NS
from twin_engine.errors import InputError
from twin_engine.run import SNAPSHOT
from twin_engine.service import run
from twin_engine.snapshot import read_snapshot

T0 = 1_700_000_000 * NS


@pytest.fixture
def room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "room.py").write_text(room_twin())
    rng = np.random.default_rng(0)
    rows = [
        f"{T0 // NS + k},{name},{20 + rng.standard_normal() + (30 if name == 'b' and k == 600 else 0):.3f}"
        for k in range(700)
        for name in "ab"
    ]
    (tmp_path / "in.csv").write_text("time,room,t\n" + "\n".join(rows) + "\nnonsense,a,1\n")
    return tmp_path


def test_a_twin_by_name_on_addresses(room: Path) -> None:
    uri = "csv:in.csv?time=time&unit=s&asset=room"
    report = run("room.py", uri, ["jsonl:events.jsonl", "sqlite:room.db"], state=room / "state")
    assert report.ended == "end"
    assert report.samples == 1400
    assert report.rejects == {"malformed": 1}
    events = [json.loads(line) for line in (room / "events.jsonl").read_text().splitlines()]
    assert {(e["twin"], e["asset"]) for e in events if e["score"] > 20} == {("room", "b")}
    assert json.loads((room / "state" / "dead_letter.jsonl").read_text())["reason"] == "malformed"
    again = run("room.py", uri, ["jsonl:events.jsonl", "sqlite:room.db"], state=room / "state")
    assert again.resumed
    assert [json.loads(line) for line in (room / "events.jsonl").read_text().splitlines()] == events


def test_only_the_assets_asked_for(room: Path) -> None:
    report = run("room.py", "csv:in.csv?time=time&unit=s&asset=room", ["jsonl:e.jsonl"], assets=["a", "c"])
    assert report.dropped["unknown_asset"] == 700


@pytest.mark.parametrize(
    ("options", "assets"), [("", ["a", "b"]), ("&asset=room", ["c", "d"]), ("&asset=room", ["c"]), ("", ["turbine-[001-100]"])]
)
def test_assets_that_the_source_does_not_have_are_told_before_the_run(room: Path, options: str, assets: list[str]) -> None:
    with pytest.raises(InputError, match=r"\?asset=COLUMN"):
        run("room.py", f"csv:in.csv?time=time&unit=s{options}", ["jsonl:e.jsonl"], assets=assets)
    assert not (room / "e.jsonl").exists()


def test_assets_in_ranges_and_in_a_file(room: Path) -> None:
    (room / "names").write_text("b\n")
    uri = "csv:in.csv?time=time&unit=s&asset=room"
    report = run("room.py", uri, ["jsonl:e.jsonl"], assets=["x-[001-100]"], assets_file=room / "names", state=room / "state")
    assert report.dropped["unknown_asset"] == 700
    document = read_snapshot(room / "state" / SNAPSHOT).document
    assert document["assets"] == [*(f"x-{k:03d}" for k in range(1, 101)), "b"]


def test_a_wrong_speed_is_told(room: Path) -> None:
    with pytest.raises(InputError, match="--speed"):
        run("room.py", "csv:in.csv?asset=room", ["jsonl:e.jsonl"], speed="fast")
