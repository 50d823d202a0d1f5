"""The real servers answer their clients, keep their data over an end and a kill, and let nobody in who should not be."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from urllib.parse import urlsplit

import aiokafka.errors
import pytest

from compose.services import Server
from tests.influx_server import Influx
from tests.services import topics
from tests.services.clients import PATIENCE, Listener, consume, produce, refused, refuses_the_untrusting


def test_kafka_answers(kafka: str, unique: str) -> None:
    topic = topics.create(kafka, unique)
    asyncio.run(produce(kafka, topic, b"1"))
    assert asyncio.run(consume(kafka, topic, 1, group_id=unique)) == [b"1"]


def test_kafka_makes_no_topic_by_itself(kafka: str, unique: str) -> None:
    with pytest.raises(aiokafka.errors.KafkaError):
        asyncio.run(produce(kafka, unique, b"1", request_timeout_ms=1000))


def test_mosquitto_answers(mosquitto: str, unique: str) -> None:
    with Listener(mosquitto, unique) as listener:
        listener.subscribe(f"{unique}/#")
        listener.publish(f"{unique}/a", b"1")
        assert listener.came.wait(PATIENCE)
    assert listener.got == [b"1"]


def test_mosquitto_tells_of_itself(mosquitto: str, unique: str) -> None:
    with Listener(mosquitto, unique) as listener:
        listener.subscribe("$SYS/broker/uptime")
        assert listener.came.wait(PATIENCE)


def test_mosquitto_refuses_the_nameless(mosquitto: str, unique: str) -> None:
    with Listener(f"mqtt://{mosquitto.rpartition('@')[2]}", unique) as listener:
        assert listener.reason == "Not authorized"


def test_influx_answers(influx: Influx, unique: str) -> None:
    mine = influx.fresh(unique)
    _write(mine, "t,asset=a x=1 1000000000")
    assert _rows(mine) == [1.0]


def _write(at: Influx, line: str) -> None:
    from influxdb_client import InfluxDBClient
    from influxdb_client.client.write_api import SYNCHRONOUS

    with InfluxDBClient(at.url, at.token, org=at.org) as client:
        client.write_api(write_options=SYNCHRONOUS).write(at.bucket, record=line)


def _rows(at: Influx) -> list[float]:
    from influxdb_client import InfluxDBClient

    with InfluxDBClient(at.url, at.token, org=at.org) as client:
        tables = client.query_api().query(f'from(bucket: "{at.bucket}") |> range(start: 0)')
    return [record.get_value() for table in tables for record in table.records]


def test_mosquitto_keeps_a_session_over_a_restart(own_server: Callable[..., Server]) -> None:
    server = own_server("mosquitto")
    at = server.env["MQTT_URL"]
    with Listener(at, "away") as listener:
        listener.subscribe("kept")
    with Listener(at, "publisher") as publisher:
        publisher.publish("kept", b"before")
    server.stop()
    server.run()
    with Listener(at, "away") as listener:
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


def test_kafka_secured_and_killed(own_server: Callable[..., Server]) -> None:
    server = own_server("kafka", secure=True)
    at, facts = server.env["KAFKA_BOOTSTRAP"], server.facts
    trust = ssl.create_default_context(cafile=facts["ca"])
    known = {"security_protocol": "SASL_SSL", "ssl_context": trust, "sasl_plain_username": facts["user"]}
    scram = {**known, "sasl_mechanism": "SCRAM-SHA-512", "sasl_plain_password": facts["password"]}
    topics.create(at, "t", **scram)
    asyncio.run(produce(at, "t", b"1", **scram))
    refused(at, {**scram, "sasl_plain_password": "guessed"})
    refused(at, {})
    refuses_the_untrusting(int(at.rpartition(":")[2]))
    server.kill()
    server.run()
    asyncio.run(produce(at, "t", b"2", **{**scram, "sasl_mechanism": "PLAIN"}))
    assert asyncio.run(consume(at, "t", 2, group_id="g", **scram)) == [b"1", b"2"]


def test_mosquitto_secured(own_server: Callable[..., Server]) -> None:
    server = own_server("mosquitto", secure=True)
    facts = server.facts
    trust = ssl.create_default_context(cafile=facts["ca"])
    with Listener(server.env["MQTT_URL"], "password", tls=trust) as listener:
        assert listener.reason == "Success"
    named = ssl.create_default_context(cafile=facts["ca"])
    named.load_cert_chain(facts["certificate"], facts["key"])
    with Listener(facts["mutual_url"], "certificate", tls=named) as listener:
        assert listener.reason == "Success"
    refuses_the_untrusting(urlsplit(server.env["MQTT_URL"]).port or 0)


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
