"""From a real Mosquitto to a real Kafka: everything once it is told, the bridge killed or Kafka away notwithstanding."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

pytest.importorskip("aiokafka")
pytest.importorskip("paho.mqtt.client")

from aiokafka import AIOKafkaConsumer

from streams.codecs import open_codec
from streams.kafka.bridge import Bridge
from streams.kafka.client import Kafka
from streams.kafka.runtime import record_of
from streams.kafka.topics import ensure
from tests.streams.mqtt_helpers import address, messages, publish, source
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
