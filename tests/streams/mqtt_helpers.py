"""What the tests of MQTT share: addresses without secrets, a publisher, and a source that is read until it has given enough."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec
import paho.mqtt.client as paho

from streams.context import Context
from streams.registry import source_at
from streams.source_mqtt import MqttSource
from tests.services.clients import PATIENCE
from twin_engine.records import Idle, Item, Position, Reading

BEGIN = 1_700_000_000


def address(url: str, topic: str, monkeypatch: Any, **options: object) -> str:
    """Return an address of the broker whose URL has a password in it; the password goes into a variable."""
    at = urlsplit(url)
    monkeypatch.setenv("MQTT_PASSWORD", at.password or "")
    query = "&".join(f"{name}={value}" for name, value in options.items())
    return f"{at.scheme}://{at.username}@{at.hostname}:{at.port}/{topic}?{query}"


def source(uri: str, folder: Path | None, asset: str | None = None) -> MqttSource:
    made = source_at(uri, Context(asset, folder=folder))
    assert isinstance(made, MqttSource)
    return made


def messages(prefix: str, count: int, begin: int = 0) -> list[tuple[str, bytes]]:
    """Return messages of one sample, a second apart, for two assets."""
    return [
        (f"{prefix}/{'ab'[i % 2]}/x", msgspec.json.encode({"ts": BEGIN + i // 2, "value": float(i)})) for i in range(begin, begin + count)
    ]


def publish(url: str, said: Iterable[tuple[str, bytes]], qos: int = 1, version: int = 5) -> None:
    """Publish and wait until the broker has taken all (QoS 1) or all is written (QoS 0)."""
    at = urlsplit(url)
    client = paho.Client(paho.CallbackAPIVersion.VERSION2, protocol=paho.MQTTProtocolVersion(version))
    client.username_pw_set(at.username, at.password)
    client.connect(at.hostname or "", at.port or 0)
    client.loop_start()
    infos: list[paho.MQTTMessageInfo] = [client.publish(topic, raw, qos=qos) for topic, raw in said]
    for info in infos:
        info.wait_for_publish(PATIENCE)
    client.disconnect()
    client.loop_stop()


def take(items: Iterator[Item], enough: Callable[[list[Item]], bool], most: int = 600) -> list[Item]:
    """Return what is not Idle until there is enough, within some idle turns."""
    found: list[Item] = []
    for item in items:
        if not isinstance(item, Idle):
            found.append(item)
            continue
        most -= 1
        if enough(found) or most < 0:
            break
    return found


def values(found: Iterable[Item]) -> list[float]:
    return [float(v) for item in found if isinstance(item, Reading) for v in item.values.ravel()]


def last(found: list[Item]) -> Position:
    return found[-1].position
