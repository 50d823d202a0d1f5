"""The real servers answer their clients, keep their data over an end and a kill, and let nobody in who should not be."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
from collections.abc import Callable
from typing import Any, Self
from urllib.parse import urlsplit

import aiokafka
import aiokafka.errors
import paho.mqtt.client as mqtt
import pytest
from influxdb_client import InfluxDBClient
from influxdb_client.client.write_api import SYNCHRONOUS

from compose.services import Server
from tests.influx_server import Influx
from tests.services import topics

PATIENCE = 30


async def _produce(bootstrap: str, topic: str, value: bytes, **client: Any) -> None:
    producer = aiokafka.AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all", **client)
    try:
        await producer.start()
        await producer.send_and_wait(topic, value)
    finally:
        await producer.stop()


async def _consume(bootstrap: str, topic: str, count: int, **client: Any) -> list[bytes]:
    consumer = aiokafka.AIOKafkaConsumer(topic, bootstrap_servers=bootstrap, auto_offset_reset="earliest", **client)
    await consumer.start()
    try:
        return [(await asyncio.wait_for(consumer.getone(), PATIENCE)).value for _ in range(count)]
    finally:
        await consumer.stop()


class _Listener:
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


def test_kafka_answers(kafka: str, unique: str) -> None:
    topic = topics.create(kafka, unique)
    asyncio.run(_produce(kafka, topic, b"1"))
    assert asyncio.run(_consume(kafka, topic, 1, group_id=unique)) == [b"1"]


def test_kafka_makes_no_topic_by_itself(kafka: str, unique: str) -> None:
    with pytest.raises(aiokafka.errors.KafkaError):
        asyncio.run(_produce(kafka, unique, b"1", request_timeout_ms=1000))


def test_mosquitto_answers(mosquitto: str, unique: str) -> None:
    with _Listener(mosquitto, unique) as listener:
        listener.subscribe(f"{unique}/#")
        listener.publish(f"{unique}/a", b"1")
        assert listener.came.wait(PATIENCE)
    assert listener.got == [b"1"]


def test_mosquitto_tells_of_itself(mosquitto: str, unique: str) -> None:
    with _Listener(mosquitto, unique) as listener:
        listener.subscribe("$SYS/broker/uptime")
        assert listener.came.wait(PATIENCE)


def test_mosquitto_refuses_the_nameless(mosquitto: str, unique: str) -> None:
    with _Listener(f"mqtt://{mosquitto.rpartition('@')[2]}", unique) as listener:
        assert listener.reason == "Not authorized"


def test_influx_answers(influx: Influx, unique: str) -> None:
    mine = influx.fresh(unique)
    _write(mine, "t,asset=a x=1 1000000000")
    assert _rows(mine) == [1.0]


def _write(at: Influx, line: str) -> None:
    with InfluxDBClient(at.url, at.token, org=at.org) as client:
        client.write_api(write_options=SYNCHRONOUS).write(at.bucket, record=line)


def _rows(at: Influx) -> list[float]:
    with InfluxDBClient(at.url, at.token, org=at.org) as client:
        tables = client.query_api().query(f'from(bucket: "{at.bucket}") |> range(start: 0)')
    return [record.get_value() for table in tables for record in table.records]


def test_mosquitto_keeps_a_session_over_a_restart(own_server: Callable[..., Server]) -> None:
    server = own_server("mosquitto")
    at = server.env["MQTT_URL"]
    with _Listener(at, "away") as listener:
        listener.subscribe("kept")
    with _Listener(at, "publisher") as publisher:
        publisher.publish("kept", b"before")
    server.stop()
    server.run()
    with _Listener(at, "away") as listener:
        assert listener.came.wait(PATIENCE)
    assert listener.got == [b"before"]


@pytest.mark.parametrize("end", [Server.stop, Server.kill])
def test_influx_keeps_what_it_acknowledged(own_server: Callable[..., Server], end: Callable[[Server], None]) -> None:
    server = own_server("influx")
    at = Influx(*server.env.values())
    _write(at, "t,asset=a x=1 1000000000")
    end(server)
    server.run()
    assert _rows(at) == [1.0]


def _refuses_the_untrusting(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), PATIENCE) as plain, pytest.raises(ssl.SSLCertVerificationError):
        ssl.create_default_context().wrap_socket(plain, server_hostname="127.0.0.1")


def test_kafka_secured_and_killed(own_server: Callable[..., Server]) -> None:
    server = own_server("kafka", secure=True)
    at, facts = server.env["KAFKA_BOOTSTRAP"], server.facts
    trust = ssl.create_default_context(cafile=facts["ca"])
    known = {"security_protocol": "SASL_SSL", "ssl_context": trust, "sasl_plain_username": facts["user"]}
    scram = {**known, "sasl_mechanism": "SCRAM-SHA-512", "sasl_plain_password": facts["password"]}
    topics.create(at, "t", **scram)
    asyncio.run(_produce(at, "t", b"1", **scram))
    for wrong in ({**scram, "sasl_plain_password": "guessed"}, {}):
        with pytest.raises(aiokafka.errors.KafkaError):
            asyncio.run(_produce(at, "t", b"3", **{"request_timeout_ms": 1000, **wrong}))
    _refuses_the_untrusting(int(at.rpartition(":")[2]))
    server.kill()
    server.run()
    asyncio.run(_produce(at, "t", b"2", **{**scram, "sasl_mechanism": "PLAIN"}))
    assert asyncio.run(_consume(at, "t", 2, group_id="g", **scram)) == [b"1", b"2"]


def test_mosquitto_secured(own_server: Callable[..., Server]) -> None:
    server = own_server("mosquitto", secure=True)
    facts = server.facts
    trust = ssl.create_default_context(cafile=facts["ca"])
    with _Listener(server.env["MQTT_URL"], "password", tls=trust) as listener:
        assert listener.reason == "Success"
    named = ssl.create_default_context(cafile=facts["ca"])
    named.load_cert_chain(facts["certificate"], facts["key"])
    with _Listener(facts["mutual_url"], "certificate", tls=named) as listener:
        assert listener.reason == "Success"
    _refuses_the_untrusting(urlsplit(server.env["MQTT_URL"]).port or 0)


def test_a_server_is_found_and_ended_by_another_process(own_server: Callable[..., Server]) -> None:
    server = own_server("mosquitto")
    found = Server.load(server.path)
    assert found == server
    assert server.facts["password"] not in str(server)
    assert server.path.stat().st_mode & 0o77 == 0
    found.born += 1  # another process that was given the same id
    assert not found.alive
    found.kill()
    assert server.alive
    server.close()
    assert not server.alive
    assert not server.path.exists()
