"""A sink that is down for a while, behind a run from the command line's address: nothing lost, order kept, kill -9 or not."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import numpy as np
import pytest

import streams
from streams.sink_jsonl import JsonlSink
from streams.sink_parquet import ParquetSink
from tests.room import room as room_twin
from twin_engine.errors import SinkError
from twin_engine.run import SNAPSHOT
from twin_engine.service import run
from twin_engine.snapshot import read_snapshot

T0 = 1_700_000_000
CAP = 40_000  # bytes: less than the run gives in all
SOURCE = "csv:in.csv?time=time&unit=s&asset=room"


@pytest.fixture
def room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a twin, its input, and the events of a run that nothing disturbed."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "room.py").write_text(room_twin())
    rng = np.random.default_rng(0)
    rows = [f"{T0 + k},a,{20 + rng.standard_normal() + 30 * (k > 150 and k % 90 == 0):.3f}" for k in range(900)]
    (tmp_path / "in.csv").write_text("time,room,t\n" + "\n".join(rows) + "\n")
    run("room.py", SOURCE, ["jsonl:whole.jsonl"], state=tmp_path / "whole")
    assert len(lines(tmp_path / "whole.jsonl")) >= 6
    return tmp_path


def lines(path: Path) -> list[bytes]:
    return path.read_bytes().splitlines()


class Service:
    """A web service that takes events, and answers 401 while it is ``down`` or has some to refuse."""

    def __init__(self) -> None:
        self.taken: list[tuple[str, bytes]] = []
        self.down, self.refuse, self.refused = False, 0, 0
        service = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if refuse := service.down or service.refuse > 0:
                    service.refuse, service.refused = service.refuse - 1, service.refused + 1
                else:
                    service.taken.append((self.headers["Idempotency-Key"], body))
                self.send_response(401 if refuse else 204)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"webhook:http://127.0.0.1:{self.server.server_port}/"

    def bodies(self) -> list[bytes]:
        """Return the events in the order in which they first came."""
        return list(dict(self.taken).values())


@pytest.fixture
def service() -> Iterator[Service]:
    service = Service()
    thread = threading.Thread(target=service.server.serve_forever, args=(0.01,))
    thread.start()
    yield service
    service.server.shutdown()
    thread.join()
    service.server.server_close()


def test_a_service_that_refuses_for_a_while_gets_everything_in_order(room: Path, service: Service) -> None:
    service.refuse = 2
    report = run("room.py", SOURCE, [service.address, "jsonl:e.jsonl"], speed="250x", state=room / "state")
    assert service.refused == 2
    assert report.spooled == {}
    assert [body for _, body in service.taken] == lines(room / "whole.jsonl")
    assert lines(room / "e.jsonl") == lines(room / "whole.jsonl")


def test_a_service_that_stays_down_gets_it_from_the_next_run(room: Path, service: Service) -> None:
    service.down = True
    report = run("room.py", SOURCE, [service.address], state=room / "state")
    assert report.spooled[service.address] > 0
    assert not service.taken
    service.down = False
    assert run("room.py", SOURCE, [service.address], state=room / "state").spooled == {}
    assert service.bodies() == lines(room / "whole.jsonl")


def test_kill_9_while_a_sink_is_down_loses_nothing(room: Path, service: Service) -> None:
    service.down = True
    words = ["run", "room.py", "--from", SOURCE, "--speed", "150x", "--to", service.address, "--to", "jsonl:e.jsonl", "--state", "state"]
    command = [sys.executable, "-m", "twin_engine.cli", *words]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL, cwd=room) as process:
        until = time.monotonic() + 60
        while not (held := _held(room)) and process.poll() is None and time.monotonic() < until:
            time.sleep(0.01)
        process.kill()
    assert held  # a snapshot refers to the spool
    assert not service.taken
    before = lines(room / "e.jsonl")
    assert 0 < len(before) < len(lines(room / "whole.jsonl"))
    service.down = False
    assert run("room.py", SOURCE, [service.address, "jsonl:e.jsonl"], state=room / "state").resumed
    assert service.bodies() == lines(room / "whole.jsonl")
    assert lines(room / "e.jsonl") == lines(room / "whole.jsonl")


def _held(room: Path) -> list[int] | None:
    snapshot = read_snapshot(room / "state" / SNAPSHOT)
    return snapshot.document["sinks"][0]["held"] if snapshot else None


def test_a_file_that_fails_is_cut_back_and_completed(room: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write, calls = JsonlSink.write, iter(range(10**6))

    def failing(self: JsonlSink, update: object) -> None:
        write(self, update)  # type: ignore[arg-type] - what was written before the failure must not stay twice
        if next(calls) in {40, 41}:  # the second when it is tried again
            raise SinkError("e.jsonl", expected="room", found="none")

    monkeypatch.setattr(JsonlSink, "write", failing)
    run("room.py", SOURCE, ["jsonl:e.jsonl"], speed="250x", state=room / "state")
    assert next(calls) > 42
    assert lines(room / "e.jsonl") == lines(room / "whole.jsonl")


def test_a_full_spool_holds_the_source_back(room: Path, service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """The run waits on the sink with what it has read; when the sink is back all goes on."""
    monkeypatch.setattr(streams.Spool.__init__, "__kwdefaults__", streams.Spool.__init__.__kwdefaults__ | {"cap": CAP, "retry": 0.02})
    monkeypatch.setattr("streams.spool._MOST", CAP // 8)  # so that the sink fails early, however quick the machine
    service.down = True
    ended = threading.Event()

    def play() -> None:
        run("room.py", SOURCE, [service.address], speed="400x", state=room / "state")
        ended.set()

    thread = threading.Thread(target=play)
    thread.start()
    try:
        until, kept = time.monotonic() + 120, 0
        while (service.refused < 20 or kept <= CAP / 2) and not ended.is_set() and time.monotonic() < until:
            time.sleep(0.01)
            kept = sum(path.stat().st_size for path in (room / "state" / "spool").glob("*/*"))
        assert not ended.is_set()
        assert CAP / 2 < kept <= CAP
    finally:
        service.down = False
        thread.join(120)
    assert ended.is_set()
    assert service.bodies() == lines(room / "whole.jsonl")


def test_the_input_that_a_sink_keeps_is_spooled_too(room: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    to = "parquet:{}?input=yes"
    run("room.py", SOURCE, [to.format("kept")], speed="300x", state=room / "one")
    flush, calls = ParquetSink.flush, iter(range(10**6))

    def failing(self: ParquetSink) -> object:
        if next(calls) < 2:
            raise SinkError("kept", expected="room", found="none")
        return flush(self)

    monkeypatch.setattr(ParquetSink, "flush", failing)
    run("room.py", SOURCE, [to.format("again")], speed="300x", state=room / "two")
    assert next(calls) > 2
    reports = [run("room.py", f"history:{name}", [f"jsonl:{name}.jsonl"]) for name in ("kept", "again")]
    assert reports[0].samples == reports[1].samples == 900
    assert lines(room / "again.jsonl") == lines(room / "kept.jsonl") == lines(room / "whole.jsonl")
