"""Events posted to a web service that fails in every way."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from streams.registry import sink_at
from streams.sink_webhook import WebhookSink
from tests.streams.test_mqtt_sink import event
from twin_engine.errors import SinkError
from twin_engine.records import Update, parse_line


class Service:
    """Answers with the listed statuses by turns, then 200; keeps what it was sent."""

    def __init__(self) -> None:
        self.answers: list[int] = []
        self.got: list[tuple[str, dict[str, str], bytes]] = []
        service = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                service.got.append((self.path, dict(self.headers), body))
                self.send_response(service.answers.pop(0) if service.answers else 200)
                self.send_header("Content-Length", "0")
                self.send_header("Location", "http://elsewhere.example/")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        self.thread.start()

    @property
    def address(self) -> str:
        return f"webhook:http://127.0.0.1:{self.server.server_port}/hook"


@pytest.fixture
def service() -> Iterator[Service]:
    made = Service()
    yield made
    made.server.shutdown()
    made.server.server_close()
    made.thread.join()


@pytest.fixture
def sink(service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[WebhookSink]:
    monkeypatch.setenv("HOOK", "secret-4711")
    monkeypatch.setattr("streams.sink_webhook._WAIT", 0.0)
    made = sink_at(f"{service.address}?token_env=HOOK&refused={tmp_path}/refused.jsonl", ())
    assert isinstance(made, WebhookSink)
    made.open(None)
    yield made
    made.open(None)
    made.close()


def update(*numbers: int) -> Update:
    return Update("t", ["a/b"], {}, {}, [event(i) for i in numbers])


def test_events_are_posted_in_order_with_key_and_token(service: Service, sink: WebhookSink) -> None:
    sink.write(update(1, 2))
    sink.flush()
    assert [parse_line(body) for _, _, body in service.got] == [event(1), event(2)]
    path, headers, _ = service.got[0]
    assert path == "/hook"
    assert headers["Idempotency-Key"] == "e1:0"
    assert headers["Authorization"] == "Bearer secret-4711"


def test_it_is_tried_again_with_the_same_key(service: Service, sink: WebhookSink) -> None:
    service.answers = [503, 429]
    sink.write(update(1))
    sink.flush()
    assert [headers["Idempotency-Key"] for _, headers, _ in service.got] == ["e1:0"] * 3


@pytest.mark.parametrize("answers", [[500] * 4, [401], [302], [307]])
def test_what_can_be_mended_is_an_error_and_nothing_is_lost(service: Service, sink: WebhookSink, answers: list[int]) -> None:
    service.answers = list(answers)
    sink.write(update(1, 2))
    with pytest.raises(SinkError) as told:
        sink.flush()
    assert "4711" not in f"{told.value!r} {told.value}"
    assert len(service.got) == len(answers)
    sink.flush()
    assert [parse_line(body).id for _, _, body in service.got[len(answers) :]] == ["e1", "e2"]


def test_what_is_never_taken_is_kept_apart(service: Service, sink: WebhookSink, tmp_path: Path) -> None:
    service.answers = [422]
    sink.write(update(1, 2))
    position = sink.flush()
    assert [parse_line(body).id for _, _, body in service.got] == ["e1", "e2"]
    assert position["offset"] == (tmp_path / "refused.jsonl").stat().st_size > 0


def test_a_service_that_is_down(service: Service, sink: WebhookSink, monkeypatch: pytest.MonkeyPatch) -> None:
    down = sink_at("webhook:http://127.0.0.1:1/", ())
    down.open(None)
    down.write(update(1))
    with pytest.raises(SinkError, match="Start the service"):
        down.flush()


def test_addresses_are_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOOK", "x")
    for uri in (
        "webhook:ftp://h/",
        "webhook:https:///x",
        "webhook:https://u:p@h/",
        "webhook:http://far.example/?token_env=HOOK",
        "webhook:https://h/?token_env=NONE_SUCH",
        "webhook:https://h/?a=1",
    ):
        with pytest.raises(SinkError):
            sink_at(uri, ())
