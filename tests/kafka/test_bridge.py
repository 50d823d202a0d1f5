"""From a real Mosquitto to a real Kafka: everything, with the time at which it came, though the bridge ends or Kafka is away."""

from __future__ import annotations

import asyncio
import threading
import time
from pathlib import Path

import pytest

pytest.importorskip("aiokafka")
pytest.importorskip("paho.mqtt.client")

from aiokafka import AIOKafkaConsumer

from compose.services.ports import free_ports
from streams.codecs import open_codec
from streams.kafka.client import Kafka
from streams.kafka.runtime import record_of
from streams.kafka.topics import ensure
from streams.letters import letters
from tests.streams.mqtt_helpers import address, messages, publish, source
from twin_engine.bridge import Bridge
from twin_engine.errors import InputError
from twin_engine.records import Reading, Record


async def read(kafka: str, topic: str, count: int) -> list[Record]:
    reader = AIOKafkaConsumer(topic, bootstrap_servers=kafka, auto_offset_reset="earliest")
    await reader.start()
    try:
        return [record_of(await asyncio.wait_for(reader.getone(), 30)) for _ in range(count)]
    finally:
        await reader.stop()


def test_what_a_broker_has_goes_on_to_kafka_by_asset(
    kafka: str, mosquitto: str, unique: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = address(mosquitto, f"{unique}/{{asset}}/{{channel}}", monkeypatch, codec="json")

    async def bridged(said: list[tuple[str, bytes]], *, lose_place: bool = False) -> int:
        if lose_place:
            (tmp_path / "bridge.json").unlink()  # as if killed before it was written
        bridge = Bridge(source(uri, tmp_path), Kafka(kafka), unique, tmp_path)
        task = asyncio.create_task(bridge.run())
        await asyncio.sleep(0)
        await asyncio.to_thread(publish, mosquitto, said)
        for _ in range(600):
            await asyncio.sleep(0.05)
            if bridge.sent >= len(said) or task.done():
                break
        bridge.stop()
        await asyncio.wait_for(task, 30)
        return bridge.sent

    async def main() -> None:
        await ensure(Kafka(kafka), {unique: {}}, 1)
        await bridged([])  # subscribes; the session is kept from here on
        said = messages(unique, 60)
        assert await bridged(said[:30]) == 30
        again = await bridged(said[30:], lose_place=True)
        assert again >= 30  # some may be sent again
        records = await read(kafka, unique, 30 + again)
        assert {(r.subject, r.raw) for r in records} == set(said)
        codec = open_codec("json", f"{unique}/{{asset}}/{{channel}}")
        readings = [item for record in records for item in codec.decode(record)]
        assert {r.asset for r in readings if isinstance(r, Reading)} == {"a", "b"}
        assert all(isinstance(r, Reading) for r in readings)

    asyncio.run(main())


def test_what_comes_while_kafka_is_away_is_logged_and_keeps_the_time_at_which_it_came(
    kafka: str, mosquitto: str, unique: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri, said = address(mosquitto, f"{unique}/{{asset}}/{{channel}}", monkeypatch, codec="json"), messages(unique, 20)

    async def main() -> None:
        heard = source(uri, tmp_path)
        bridge = Bridge(heard, Kafka(f"127.0.0.1:{free_ports(1)[0]}"), unique, tmp_path)
        task = asyncio.create_task(bridge.run())
        while "mqtt_log_bytes" not in heard.figures() and not task.done():  # noqa: ASYNC110 - subscribed once it is there
            await asyncio.sleep(0.02)
        await asyncio.to_thread(publish, mosquitto, said)
        while heard.figures().get("mqtt_messages", 0.0) < len(said) and not task.done():  # noqa: ASYNC110 - a count of another thread
            await asyncio.sleep(0.02)
        assert bridge.ready == "not connected to Kafka"
        bridge.stop()
        await asyncio.wait_for(task, 60)
        away = time.time_ns()
        bridge = Bridge(source(uri, tmp_path), Kafka(kafka), unique, tmp_path, count=1)
        task = asyncio.create_task(bridge.run())
        while bridge.sent < len(said) and not task.done():  # noqa: ASYNC110 - as above
            await asyncio.sleep(0.02)
        assert not bridge.ready
        assert {f[0]: f[3] for f in bridge.figures()}["bridged_total"] == len(said)
        bridge.stop()
        await asyncio.wait_for(task, 60)
        records = await read(kafka, unique, len(said))
        assert [(r.subject, r.raw) for r in records] == said
        assert all(0 < r.arrival < away for r in records)

    asyncio.run(main())


def test_a_topic_that_is_not_there_is_told(
    kafka: str, mosquitto: str, unique: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = address(mosquitto, f"{unique}/{{asset}}/{{channel}}", monkeypatch, codec="json")
    with pytest.raises(InputError, match="the input topic"):
        asyncio.run(asyncio.wait_for(Bridge(source(uri, tmp_path), Kafka(kafka), unique, tmp_path).run(), 60))


@pytest.mark.parametrize("late", [False, True])
def test_the_broker_is_told_what_is_logged_or_what_kafka_has(
    kafka: str, mosquitto: str, unique: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, late: bool
) -> None:
    uri, said = address(mosquitto, f"{unique}/{{asset}}/{{channel}}", monkeypatch, codec="json"), messages(unique, 21)

    async def bridged(to: str, publishes: list[tuple[str, bytes]], logged: int, sent: int) -> None:
        heard = source(uri, tmp_path)
        bridge = Bridge(heard, Kafka(to), unique, tmp_path, late=late, count=1)
        task = asyncio.create_task(bridge.run())
        while "mqtt_log_bytes" not in heard.figures() and not task.done():  # noqa: ASYNC110 - as above
            await asyncio.sleep(0.02)
        await asyncio.to_thread(publish, mosquitto, publishes)
        while (heard.counts["messages"] < logged or bridge.sent < sent) and not task.done():  # noqa: ASYNC110 - as above
            await asyncio.sleep(0.02)
        bridge.stop()
        await asyncio.wait_for(task, 60)
        assert (heard.counts["messages"], bridge.sent) == (logged, sent)

    async def main() -> None:
        again = 20 * late  # what was not acknowledged comes again, and is in the log twice
        await bridged(f"127.0.0.1:{free_ports(1)[0]}", said[:20], 20, 0)
        await bridged(kafka, [], again, 20 + again)
        await bridged(kafka, said[20:], 1, 1)
        records = await read(kafka, unique, 21 + again)
        assert {(r.subject, r.raw) for r in records} == set(said)

    asyncio.run(asyncio.wait_for(main(), 120))


def test_a_message_that_is_too_large_for_the_topic_holds_up_no_other(
    kafka: str, mosquitto: str, unique: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = address(mosquitto, f"{unique}/{{asset}}/{{channel}}", monkeypatch, codec="json")
    large = b"[" + b"1," * 2000 + b"1]"
    said = [(f"{unique}/a/x", b"1"), (f"{unique}/b/y", large), (f"{unique}/a/x", b"2")]

    async def main() -> None:
        await ensure(Kafka(kafka), {unique: {"max.message.bytes": "3000"}}, 1)
        heard = source(uri, tmp_path)
        bridge = Bridge(heard, Kafka(kafka), unique, tmp_path)
        task = asyncio.create_task(bridge.run())
        while bridge.ready and not task.done():  # noqa: ASYNC110 - as above
            await asyncio.sleep(0.02)
        await asyncio.to_thread(publish, mosquitto, said)
        while heard.counts["messages"] < 3 or heard.figures()["mqtt_log_bytes"]:
            await asyncio.sleep(0.02)
            assert not task.done()
        bridge.stop()
        await asyncio.wait_for(task, 60)
        assert {f[3] for f in bridge.figures() if f[0] == "rejects_total"} == {1}
        records = await read(kafka, unique, 3)  # the first was sent before the large one, and once more after it
        assert {(r.raw, r.subject) for r in records} == {said[0][::-1], said[2][::-1]}
        assert len({r.arrival for r in records}) == 2
        assert [(one.reason, one.subject, one.raw) for one in letters(tmp_path)] == [("too_large", f"{unique}/b/y", large)]

    asyncio.run(asyncio.wait_for(main(), 120))


def test_it_ends_though_messages_keep_coming(
    kafka: str, mosquitto: str, unique: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri, said = address(mosquitto, f"{unique}/{{asset}}/{{channel}}", monkeypatch, codec="json"), messages(unique, 200)
    ended = threading.Event()

    def publish_on() -> None:
        while not ended.is_set():
            publish(mosquitto, said)

    async def main() -> None:
        bridge = Bridge(source(uri, tmp_path), Kafka(kafka), unique, tmp_path, count=1)
        task = asyncio.create_task(bridge.run())
        publishing = asyncio.create_task(asyncio.to_thread(publish_on))
        try:
            while bridge.sent < 1000 and not task.done():  # noqa: ASYNC110 - as above
                await asyncio.sleep(0.02)
            bridge.stop()
            await asyncio.wait_for(task, 20)
        finally:
            ended.set()
            await publishing

    asyncio.run(asyncio.wait_for(main(), 120))
