"""MQTT out, on a real Mosquitto."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

import msgspec
import numpy as np
import pytest

from compose.services import Server
from streams.registry import sink_at
from tests.services.clients import PATIENCE, Listener
from tests.streams.mqtt_helpers import address
from twin_engine.errors import SinkError
from twin_engine.ports import Block, BlockSpec
from twin_engine.records import Event, Sink, Update, parse_line


def event(i: int) -> Event:
    when = {"start": i, "peak": i, "end": i}
    return Event(id=f"e{i}", twin="t", asset="a/b", stage="alarm", kind="k", severity="info", score=1.0, p_value=0.1, channels={}, **when)


def update(count: int) -> Update:
    block = Block(np.array([[[1.0, 2.0]]]), np.array([[[True, False]]]), np.array([0]), np.array([4]))
    specs = {"white.value": BlockSpec(Fraction(2), ("x",), ("V",))}
    return Update("t", ["a/b"], {"white.value": block}, specs, [event(i) for i in range(count)])


def until(listener: Listener, count: int) -> None:
    while len(listener.got) < count:
        assert listener.came.wait(PATIENCE)
        listener.came.clear()


def _deliver(sink: Sink) -> None:
    sink.write(update(3))
    sink.flush()


@pytest.mark.parametrize("version", ["5", "3.1.1"])
def test_events_and_outputs_arrive(mosquitto: str, unique: str, monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    with Listener(mosquitto, unique) as listener:
        listener.subscribe(f"{unique}/a%2Fb/+")
        sink = sink_at(address(mosquitto, unique, monkeypatch, outputs="yes", version=version), ("white",))
        sink.open(None)
        sink.write(update(1500))
        sink.close()
        until(listener, 1501)
    assert [parse_line(raw) for raw in listener.got[1:]] == [event(i) for i in range(1500)]
    said = msgspec.json.decode(listener.got[0])
    assert said["values"] == {"x": [1.0, None]}
    assert len(said["ts"]) == 2


def test_a_broker_that_is_down_is_a_sink_error(own_server: Callable[..., Server], monkeypatch: pytest.MonkeyPatch) -> None:
    server = own_server("mosquitto")
    uri = address(server.env["MQTT_URL"], "twins", monkeypatch)
    sink = sink_at(uri, ())
    sink.open(None)
    sink.write(update(3))
    sink.flush()
    server.stop()
    with pytest.raises(SinkError):
        _deliver(sink)
    with pytest.raises(SinkError):
        sink.open(None)
    server.run()
    sink.open(None)
    sink.write(update(3))
    sink.close()


def test_addresses_are_checked() -> None:
    for uri in ("mqtt://h/a/{asset}", "mqtt://h/", "mqtt://h/t?qos=2", "mqtt://u:p@h/t", "mqtt://h/t?codec=json"):
        with pytest.raises(SinkError):
            sink_at(uri, ())
