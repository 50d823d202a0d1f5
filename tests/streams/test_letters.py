"""Dead letters in files: shown, sent again to a real broker, a real database and a web service, thrown away."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

import pytest
from typer.testing import CliRunner

from streams.dead_letter import DeadLetter
from streams.letters import letters
from tests.influx_server import Influx
from tests.services.clients import PATIENCE, Listener
from tests.streams.test_mqtt_sink import event
from tests.streams.test_webhook import Service, service
from twin_engine.cli import app
from twin_engine.errors import InputError, SinkError
from twin_engine.records import Reason, Reject, event_line

__all__ = ["service"]


def written(path: Path, *rejects: Reject) -> DeadLetter:
    """Return what has written them, still open."""
    dead = DeadLetter(path)
    dead.open(None)
    for one in rejects:
        dead.write(one)
    dead.flush()
    return dead


def malformed(k: int, subject: str = "") -> Reject:
    return Reject(Reason.MALFORMED, "no JSON", "mqtt://plant/x", b"{%d" % k, {"offset": k}, subject=subject)


def test_those_of_a_run_are_shown_and_thrown_away_once_it_has_ended(tmp_path: Path) -> None:
    dead = written(tmp_path / "dead_letter.jsonl", malformed(1, "a/x"), Reject(Reason.NOT_UTF8, "byte 3", "mqtt://plant/x", b"\xff"))
    assert [(one.reason, one.subject, one.raw) for one in letters(tmp_path)] == [("malformed", "a/x", b"{1"), ("not_utf8", "", b"\xff")]
    with pytest.raises(InputError, match="a process that does"):
        letters(tmp_path, discard=True)
    position = dead.flush()
    dead.close()
    assert [one.raw for one in letters(tmp_path, reason="not_utf8", discard=True)] == [b"\xff"]
    assert [one.raw for one in letters(tmp_path)] == [b"{1"]
    dead.open(position)  # the run goes on
    dead.write(malformed(2))
    dead.close()
    assert [one.raw for one in letters(tmp_path)] == [b"{1", b"{2"]
    assert len(letters(tmp_path / "dead_letter.jsonl", discard=True)) == 2
    assert not letters(tmp_path)


def test_messages_go_to_their_topics(mosquitto: str, unique: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    at = urlsplit(mosquitto)
    monkeypatch.setenv("MQTT_PASSWORD", at.password or "")
    written(tmp_path / "dead_letter.jsonl", malformed(1, f"{unique}/a"), malformed(2)).close()
    with Listener(mosquitto, unique) as listener:
        listener.subscribe(f"{unique}/#")
        found = letters(tmp_path, to=f"mqtt://{at.username}@{at.hostname}:{at.port}/{unique}")
        assert listener.came.wait(PATIENCE)
        assert listener.got == [b"{1"]
    assert [one.again for one in found] == ["", "it came from no topic"]
    assert [one.raw for one in letters(tmp_path)] == [b"{2"]
    with pytest.raises(SinkError):
        letters(tmp_path, to="mqtt://127.0.0.1:1/x")
    assert len(letters(tmp_path)) == 1


def test_lines_go_to_the_database_that_refused_them(influx: Influx, unique: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    at = influx.fresh(unique)
    monkeypatch.setenv("INFLUX_TOKEN", at.token)
    path = tmp_path / "refused.jsonl"
    lines = b'm,asset=a x="text" 1700000000000000000', b"m,asset=a x=2 1700000001000000000"
    written(path, *(Reject(Reason.REFUSED, "conflict", "influx", line) for line in lines)).close()
    at.request(f"/api/v2/write?org={at.org}&bucket={at.bucket}&precision=ns", b"m,asset=a x=1 1700000000000000000", kind="text/plain")
    first, second = letters(path, to=f"influx:{at.url}/{at.bucket}?org={at.org}")
    assert "conflict" in first.again
    assert not second.again
    assert [one.raw for one in letters(path)] == [lines[0]]
    rows = at.query(f'from(bucket: "{at.bucket}") |> range(start: 2023-11-14T00:00:00Z, stop: 2023-11-15T00:00:00Z)')
    assert [float(row["_value"]) for row in rows] == [1.0, 2.0]


def test_events_go_to_the_web_service_that_refused_them(service: Service, tmp_path: Path) -> None:
    path = tmp_path / "refused.jsonl"
    bodies = [event_line(event(k)).rstrip(b"\n") for k in (1, 2)]
    written(path, *(Reject(Reason.REFUSED, "HTTP 422", "webhook", body) for body in bodies)).close()
    service.answers = [422]
    said = CliRunner().invoke(app, ["dead", str(path), "--send", "--to", service.address])
    assert said.exit_code == 0, said.output
    assert said.output.splitlines()[-1] == "1 sent again, 1 refused once more"
    assert [body for _, _, body in service.got] == bodies
    assert [one.raw for one in letters(path)] == bodies[:1]


def test_what_makes_no_sense_is_told(tmp_path: Path) -> None:
    path = tmp_path / "refused.jsonl"
    written(path, malformed(1)).close()
    for words, about in {
        "--send": "Write --send --to mqtt", "--to influx:x": "--to beside --send", "--send --discard": "one of them",
        "--reason malform": "Did you mean 'malformed'", "--send --to jsonl:x.jsonl": "mqtt:, influx: or webhook:",
    }.items():  # fmt: skip
        found = CliRunner().invoke(app, ["dead", str(path), *words.split()])
        assert about in str(found.exception), words
    with pytest.raises(InputError, match="a file of dead letters"):
        letters(tmp_path / "none.jsonl")
    (tmp_path / "notes.txt").write_text("hello\n")
    with pytest.raises(InputError, match="a file of dead letters"):
        letters(tmp_path / "notes.txt", discard=True)
    assert (tmp_path / "notes.txt").read_text() == "hello\n"
