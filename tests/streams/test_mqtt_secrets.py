"""Passwords and tokens in variables and files, a broker that falls silent, and what a broker says of its own losses."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from compose.services import Server
from streams.mqtt_wire import Message
from tests.streams.mqtt_helpers import address, messages, publish, source, take, values
from tests.streams.test_mqtt_overload import until
from twin_engine.errors import InputError
from twin_engine.records import Idle

SECRET = "guessed-4711"  # noqa: S105 - of no broker


@pytest.mark.parametrize("kind", ["password", "token"])
def test_secrets_in_variables_and_files(mosquitto: str, unique: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    uri = address(mosquitto, unique, monkeypatch)
    monkeypatch.delenv("MQTT_PASSWORD")
    file, right = tmp_path / "secret", urlsplit(mosquitto).password or ""
    for option, put in (
        (f"{kind}_env=BROKER_SECRET", lambda text: monkeypatch.setenv("BROKER_SECRET", text)),
        (f"{kind}_file={file}", lambda text: file.write_text(f"{text}\n")),
    ):
        with pytest.raises(InputError, match=r"BROKER_SECRET|No such file"):
            source(uri + option, None)
        put(SECRET)
        one = source(uri + option, None)
        with pytest.raises(InputError, match="Not authorized") as told:
            next(one.items(None))
        one.close()
        assert SECRET not in f"{told.value} {one!r} {vars(one)}"
        put(right)  # renewed: read again at each connection
        assert isinstance(next(one.items(None)), Idle)
        one.close()


def test_a_broker_that_falls_silent_is_given_up_and_met_again(
    own_server: Callable[..., Server], unique: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = own_server("mosquitto")
    url = server.env["MQTT_URL"]
    one = source(address(url, f"{unique}/{{asset}}/{{channel}}", monkeypatch, keepalive=2), tmp_path)
    items = one.items(None)
    next(items)
    publish(url, messages(unique, 100))
    found = take(items, lambda f: len(f) >= 100)
    link = one._link
    assert link is not None
    assert link.connected
    os.kill(server.pid, signal.SIGSTOP)
    try:
        until(lambda: not link.connected)
        link.check()  # the thread lives and tries
    finally:
        os.kill(server.pid, signal.SIGCONT)
    publish(url, messages(unique, 100, 100))
    found += take(items, lambda f: len({*values(found), *values(f)}) >= 200)
    assert sorted(set(values(found))) == [float(i) for i in range(200)]
    assert one.figures()["mqtt_reconnects"] >= 1
    one.close()


def test_what_the_broker_drops_is_counted(mosquitto: str, unique: str, monkeypatch: pytest.MonkeyPatch) -> None:
    topic = f"{unique}-dropped"
    monkeypatch.setattr("streams.source_mqtt._DROPPED", topic)
    one = source(address(mosquitto, unique, monkeypatch), None)
    one._take(Message(topic.encode(), b"90", 0, {}, retained=True), 1)  # before we came
    next(one.items(None))
    publish(mosquitto, [(topic, b"%d" % said) for said in (93, 95, 0, 2)], qos=1)  # a broker that restarts begins at 0
    until(lambda: one.figures().get("mqtt_dropped_by_broker", 0) >= 7)
    assert one.counts == {"dropped_by_broker": 7}
    one.close()
