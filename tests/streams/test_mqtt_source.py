"""MQTT in, on a real Mosquitto: what was acknowledged is never lost."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from compose.services import Server
from tests.streams.mqtt_helpers import address, last, messages, publish, source, take, values
from twin_engine.errors import InputError
from twin_engine.records import Idle, Item, Reject

PATTERN = "{asset}/{channel}"


@pytest.mark.parametrize("version", ["5", "3.1.1"])
def test_what_is_published_is_read_here_or_away(
    mosquitto: str, unique: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str
) -> None:
    uri = address(mosquitto, f"{unique}/{PATTERN}", monkeypatch, version=version)
    first = source(uri, tmp_path)
    items = first.items(None)
    assert isinstance(next(items), Idle)
    publish(mosquitto, messages(unique, 300))
    found = take(items, lambda f: len(f) >= 200)
    first.close()
    publish(mosquitto, messages(unique, 100, 300))
    second = source(uri, tmp_path)
    found += take(second.items(last(found)), lambda f: len(found) + len(f) >= 400)
    second.close()
    assert values(found) == [float(i) for i in range(400)]
    assert found[0].asset == "a"
    assert found[0].channels == ("x",)


@pytest.mark.parametrize("version", ["5", "3.1.1"])
def test_what_is_closed_while_messages_come_gets_none_of_them_twice(
    mosquitto: str, unique: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str
) -> None:
    uri = address(mosquitto, f"{unique}/{PATTERN}", monkeypatch, version=version)
    one = source(uri, tmp_path)
    items = one.items(None)
    next(items)
    publisher = threading.Thread(target=publish, args=(mosquitto, messages(unique, 2000)))
    publisher.start()
    found: list[Item] = []
    for enough in (100, 500, 1000, 2000):
        found += take(items, lambda f: len(found) + len(f) >= enough)  # noqa: B023 - called before the next turn
        one.close()
        one = source(uri, tmp_path)
        items = one.items(last(found))
    publisher.join()
    found += take(items, lambda _: True)
    one.close()
    assert values(found) == [float(i) for i in range(2000)]


def test_a_broker_that_restarts_loses_nothing(
    own_server: Callable[..., Server], unique: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = own_server("mosquitto")
    url = server.env["MQTT_URL"]
    one = source(address(url, f"{unique}/{PATTERN}", monkeypatch), tmp_path)
    items = one.items(None)
    next(items)
    publish(url, messages(unique, 500))
    found = take(items, lambda f: len(f) >= 100)
    before = list(found)
    server.stop()
    server.run()
    publish(url, messages(unique, 500, 500))
    found += take(items, lambda f: len({*values(before), *values(f)}) >= 1000)
    assert sorted(set(values(found))) == [float(i) for i in range(1000)]
    assert one.figures()["mqtt_reconnects"] >= 1
    assert one.figures()["mqtt_messages"] >= 1000
    one.close()


def test_poison_is_rejected_and_the_rest_is_read(mosquitto: str, unique: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = source(address(mosquitto, f"{unique}/#", monkeypatch, codec="json", asset="asset"), tmp_path, asset="z")
    items = one.items(None)
    next(items)
    good = [(f"{unique}/x", b'{"ts": 1700000000, "x": %d}' % i) for i in range(200)]
    bad = [(f"{unique}/x", raw) for raw in (b"\xff", b"{", b"", b"x" * ((1 << 20) + 5), b"NaN", b"[" * 5000)]
    publish(mosquitto, [*good[:100], *bad, *good[100:]])
    found = take(items, lambda f: len(f) >= 206)
    assert values(found) == [float(i) for i in range(200)]
    assert sorted(item.reason for item in found if isinstance(item, Reject)) == [
        "malformed", "malformed", "malformed", "not_finite", "not_utf8", "too_large",
    ]  # fmt: skip
    one.close()


@pytest.mark.parametrize("bad", ["$share/g/t", "", "{aset}/x", "#/x"])
def test_topics_that_cannot_be_subscribed_to_are_refused(bad: str) -> None:
    with pytest.raises(InputError):
        source(f"mqtt://h/{bad}", None)


def test_options_are_checked_before_anything_is_opened() -> None:
    for query, name in (
        ("qos=2", "qos"),
        ("vers=5", "version"),
        ("receive_maximum=0", "receive_maximum"),
        ("codec=jsn", "json"),
        ("ca=x", "mqtts"),
    ):
        with pytest.raises(InputError, match=name):
            source(f"mqtt://h/t?{query}", None)
    with pytest.raises(InputError, match="--asset"):
        _ = source("mqtt://h/{asset}", None).assets


def test_nobody_there(unique: str, tmp_path: Path) -> None:
    one = source("mqtt://127.0.0.1:1/t", tmp_path)
    with pytest.raises(InputError, match="Start it, or mend the address"):
        next(one.items(None))
    one.close()


def test_a_wrong_password_is_told_and_not_shown(
    mosquitto: str, unique: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    uri = address(mosquitto, f"{unique}/{PATTERN}", monkeypatch)
    for version in ("5", "3.1.1"):
        monkeypatch.setenv("MQTT_PASSWORD", "guessed-4711")
        one = source(f"{uri}version={version}", None)
        with pytest.raises(InputError, match="refusal: Not authorized") as told:
            next(one.items(None))
        one.close()
        assert "4711" not in f"{told.value} {told.value!r} {one!r} {vars(one)} {caplog.text}"
    for secret in ("mqtt://u:guessed-4711@h/t", "mqtt://h/t?password=guessed-4711", "mqtt://h/t?token=guessed-4711"):
        with pytest.raises(InputError, match="apart") as told:
            source(secret, None)
        assert "4711" not in str(told.value)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # paho leaves the socket of a refused handshake open
def test_tls_is_verified_both_ways(own_server: Callable[..., Server], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server = own_server("mosquitto", secure=True)
    facts: dict[str, Any] = server.facts
    uri = address(server.env["MQTT_URL"], "t", monkeypatch)
    mutual = f"{facts['mutual_url']}/t?ca={facts['ca']}"
    for good in (f"{uri}ca={facts['ca']}", f"{mutual}&cert={facts['certificate']}&key={facts['key']}"):
        one = source(good, None)
        assert isinstance(next(one.items(None)), Idle)
        one.close()
    for bad, why in ((uri, "certificate"), (mutual, "broker")):
        one = source(bad, None)
        with pytest.raises(InputError, match=why):
            next(one.items(None))
        one.close()
