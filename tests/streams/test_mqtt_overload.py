"""More than the log can hold, and connections that break: QoS 1 loses nothing, and what QoS 0 loses is counted."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from streams.mqtt_client import Token
from streams.mqtt_wire import Wire
from streams.source_mqtt import MqttSource
from tests.services.clients import PATIENCE
from tests.streams.mqtt_helpers import address, messages, publish, source, take, values
from twin_engine.records import Idle, Item

COUNT = 3000
CAP = 100_000


def until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < end
        threading.Event().wait(0.01)


def small(uri: str, folder: Path) -> tuple[MqttSource, Iterator[Item]]:
    one = source(uri, folder)
    one._cap = CAP
    items = one.items(None)
    next(items)
    return one, items


def test_qos_0_that_finds_no_room_is_counted_exactly(mosquitto: str, unique: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, items = small(address(mosquitto, f"{unique}/{{asset}}/{{channel}}", monkeypatch, qos=0), tmp_path)
    publish(mosquitto, messages(unique, COUNT), qos=0)
    until(lambda: sum(one.counts.values()) == COUNT)
    assert one.counts["dropped_log_full"] > 0
    assert len(take(items, lambda f: len(f) >= one.counts["messages"])) == one.counts["messages"]
    assert sum(file.stat().st_size for file in (tmp_path / "mqtt").glob("*.log")) <= CAP
    one.close()


@pytest.mark.parametrize(("version", "maximum"), [("5", 100), ("3.1.1", 10)])
def test_qos_1_waits_at_the_broker(
    mosquitto: str, unique: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str, maximum: int
) -> None:
    uri = address(mosquitto, f"{unique}/{{asset}}/{{channel}}", monkeypatch, version=version, receive_maximum=maximum)
    one, items = small(uri, tmp_path)
    publish(mosquitto, messages(unique, COUNT))
    until(lambda: one._log is not None and one._log.full)
    found: list[Item] = []
    for item in items:
        if isinstance(item, Idle):
            one.acknowledge(item.position)
            if len(set(values(found))) == COUNT:
                break
        else:
            found.append(item)
    assert "dropped_log_full" not in one.counts
    assert list(dict.fromkeys(values(found))) == [float(i) for i in range(COUNT)]
    one.close()


def test_an_acknowledgement_stays_in_its_connection(mosquitto: str, unique: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = source(address(mosquitto, f"{unique}/{{asset}}/{{channel}}", monkeypatch), tmp_path)
    items = one.items(None)
    next(items)
    link = one._link
    assert link is not None
    acked: list[int] = []
    monkeypatch.setattr(Wire, "acknowledge", lambda _, numbers: acked.extend(numbers))
    link.acknowledge([Token(link.connection - 1, 7), Token(link.connection, 0), Token(link.connection, 8)])
    until(lambda: bool(acked))
    assert acked == [8]
    one.close()


def test_an_exception_in_the_network_s_thread_does_not_end_it(
    mosquitto: str, unique: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = source(address(mosquitto, f"{unique}/{{asset}}/{{channel}}", monkeypatch), tmp_path)
    items = one.items(None)
    next(items)
    link, log = one._link, one._log
    assert link is not None
    assert log is not None
    append, faults = log.append, [ValueError("once"), ValueError("twice")]

    def faulty(*given: object) -> bool:
        if faults:
            raise faults.pop()
        return append(*given)

    monkeypatch.setattr(log, "append", faulty)
    publish(mosquitto, messages(unique, 100))
    found = take(items, lambda f: len(set(values(f))) >= 100)
    assert list(dict.fromkeys(values(found))) == [float(i) for i in range(100)]
    assert link.errors == 2
    one.close()
