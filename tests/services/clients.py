"""Small clients for tests of the servers."""

from __future__ import annotations

import asyncio
import gc
import socket
import ssl
import threading
import warnings
from typing import Any, Self
from urllib.parse import urlsplit

import aiokafka
import aiokafka.errors
import paho.mqtt.client as mqtt
import pytest

PATIENCE = 30


async def produce(bootstrap: str, topic: str, value: bytes, **client: Any) -> None:
    producer = aiokafka.AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all", **client)
    try:
        await producer.start()
        await producer.send_and_wait(topic, value)
    finally:
        await producer.stop()


async def consume(bootstrap: str, topic: str, count: int, **client: Any) -> list[bytes]:
    consumer = aiokafka.AIOKafkaConsumer(topic, bootstrap_servers=bootstrap, auto_offset_reset="earliest", **client)
    await consumer.start()
    try:
        return [(await asyncio.wait_for(consumer.getone(), PATIENCE)).value for _ in range(count)]
    finally:
        await consumer.stop()


class Listener:
    """A paho client that hands its messages over."""

    def __init__(self, url: str, name: str, *, tls: ssl.SSLContext | None = None) -> None:
        at = urlsplit(url)
        self.got: list[bytes] = []
        self.answered, self.came, self.subscribed = threading.Event(), threading.Event(), threading.Event()
        self.reason = ""
        self.client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id=name, protocol=mqtt.MQTTv5)
        if at.username:
            self.client.username_pw_set(at.username, at.password)
        if tls:
            self.client.tls_set_context(tls)
        self.client.on_connect = self._connected
        self.client.on_message = self._message
        self.client.on_subscribe = lambda *_: self.subscribed.set()
        keep = mqtt.Properties(mqtt.PacketTypes.CONNECT)
        keep.SessionExpiryInterval = 3600
        self.client.connect(at.hostname or "", at.port or 0, clean_start=False, properties=keep)
        self.client.loop_start()
        assert self.answered.wait(PATIENCE)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.client.disconnect()
        self.client.loop_stop()
        if (left := self.client.socket()) is not None:  # of an attempt to connect again, after a refusal
            left.close()

    def _connected(self, _client: Any, _data: Any, _flags: Any, reason: mqtt.ReasonCode, _properties: Any) -> None:
        self.reason = str(reason)
        self.answered.set()

    def _message(self, _client: Any, _data: Any, message: mqtt.MQTTMessage) -> None:
        self.got.append(message.payload)
        self.came.set()

    def subscribe(self, topic: str) -> None:
        self.client.subscribe(topic, qos=1)
        assert self.subscribed.wait(PATIENCE)

    def publish(self, topic: str, payload: bytes) -> None:
        self.client.publish(topic, payload, qos=1).wait_for_publish(PATIENCE)


def refused(at: str, client: dict[str, Any]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # aiokafka leaves the transport of a refused connection open
        with pytest.raises(aiokafka.errors.KafkaError):
            asyncio.run(produce(at, "t", b"refused", **{"request_timeout_ms": 1000, **client}))
        gc.collect()


def refuses_the_untrusting(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), PATIENCE) as plain, pytest.raises(ssl.SSLCertVerificationError):
        ssl.create_default_context().wrap_socket(plain, server_hostname="127.0.0.1")
