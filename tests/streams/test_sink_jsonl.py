"""Events as JSON lines: the shape, durability, and cutting back."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from streams import open_sink
from twin_engine.errors import InputError, SinkError
from twin_engine.records import Event, Update, event_line, parse_line

EVENT = Event(
    id="e1",
    twin="interferometer",
    asset="H1",
    stage="glitch",
    kind="trigger",
    severity="warning",
    start=1442224245422000000,
    peak=1442224245422000001,
    end=1442224245500000000,
    score=12.5,
    p_value=1e-9,
    channels={"h": 1.0},
    frequency=120.0,
    snr=20.0,
    class_="blip",
)


def _update(*events: Event) -> Update:
    return Update("interferometer", ["H1"], {}, {}, events)


def test_shape_of_a_line() -> None:
    line = event_line(EVENT)
    fields = json.loads(line)
    assert list(fields) == [
        "id", "twin", "asset", "stage", "kind", "severity", "start", "peak", "end", "score", "p_value", "channels", "revision", "final",
        "frequency", "snr", "class", "schema",
    ]  # fmt: skip
    assert fields["start"] == "2015-09-14T09:50:45.422000000Z"
    assert fields["class"] == "blip"
    assert parse_line(line) == EVENT


@pytest.mark.parametrize("line", [b"{}", b"[1]", b"not json", b'{"schema": 2}', event_line(EVENT).replace(b'"id":"e1",', b"")])
def test_a_line_that_is_no_event_is_told(line: bytes) -> None:
    with pytest.raises(InputError, match="event line"):
        parse_line(line)


def test_writes_final_revisions_and_cuts_back(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    sink = open_sink(f"jsonl:{path}")
    sink.open(None)
    early = Event(**{**_fields(EVENT), "id": "e0", "final": False})
    sink.write(_update(early, EVENT))
    position = sink.flush()
    assert path.read_bytes() == event_line(EVENT)
    sink.write(_update(Event(**{**_fields(EVENT), "id": "e2"})))
    sink.close()
    assert len(path.read_bytes().splitlines()) == 2
    again = open_sink(f"jsonl:{path}")
    again.open(json.loads(json.dumps(position)))
    again.close()
    assert path.read_bytes() == event_line(EVENT)
    again.open(None)
    again.close()
    assert path.read_bytes() == b""


def test_all_revisions_when_asked(tmp_path: Path) -> None:
    sink = open_sink(f"jsonl:{tmp_path / 'e.jsonl'}?revisions=all")
    sink.open(None)
    sink.write(_update(Event(**{**_fields(EVENT), "final": False}), EVENT))
    sink.close()
    assert len((tmp_path / "e.jsonl").read_bytes().splitlines()) == 2


def test_errors(tmp_path: Path) -> None:
    sink = open_sink(f"jsonl:{tmp_path / 'e.jsonl'}")
    with pytest.raises(SinkError, match="at least 10 bytes"):
        sink.open(10)
    with pytest.raises(SinkError, match="can be written"):
        open_sink(f"jsonl:{tmp_path}").open(None)
    with pytest.raises(SinkError, match="Did you mean 'jsonl'"):
        open_sink("json:x")
    with pytest.raises(SinkError, match="final or all"):
        open_sink("jsonl:x?revisions=some")


def _fields(event: Event) -> dict[str, object]:
    return {name: getattr(event, name) for name in event.__struct_fields__}


@pytest.mark.parametrize("scheme", ["jsonl", "sqlite"])
def test_a_missing_folder_is_told_and_made_below_the_given_one_alone(tmp_path: Path, scheme: str) -> None:
    with pytest.raises(SinkError, match="mkdir -p"):
        open_sink(f"{scheme}:{tmp_path / 'typo' / 'x'}", folder=tmp_path / "state")
    assert not (tmp_path / "typo").exists()
    sink = open_sink(f"{scheme}:{tmp_path / 'state' / 'out' / 'x'}", folder=tmp_path / "state")
    sink.open(None)
    sink.close()
    assert (tmp_path / "state" / "out" / "x").is_file()
