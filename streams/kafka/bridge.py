"""From an MQTT broker to Kafka: logged on disk, acknowledged, sent on; the log lets go of what every replica in sync has."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import msgspec
from aiokafka import AIOKafkaProducer

from streams.kafka.client import Kafka, KafkaFailure
from streams.source_mqtt import MqttSource
from twin_engine.records import SUBJECT, Record

_WAIT = 0.05  # seconds
_RETRY = 1.0


class Bridge:
    """Sends each message on as it came: key = asset, the topic as a header. What is sent again after a crash is dropped as a duplicate.

    folder: of the log and of the place up to which everything is in Kafka.
    """

    def __init__(self, source: MqttSource, kafka: Kafka, topic: str, folder: Path) -> None:
        self.sent = 0
        self._source, self._kafka, self._topic, self._place = source, kafka, topic, folder / "bridge.json"
        self._stop = asyncio.Event()

    def stop(self) -> None:
        """Send what is logged and end."""
        self._stop.set()

    async def run(self) -> None:
        """Send until ``stop``; while Kafka is away the log grows up to its cap, and then the broker keeps the rest."""
        offset: int | None = msgspec.json.decode(self._place.read_bytes()) if self._place.exists() else None
        try:
            while True:
                stopping = self._stop.is_set()
                try:
                    offset = await self._session(offset)
                except (KafkaFailure, OSError):
                    if stopping:
                        raise
                    await asyncio.sleep(_RETRY)
                else:
                    return
        finally:
            await asyncio.to_thread(self._source.close)

    async def _session(self, offset: int | None) -> int | None:
        producer = AIOKafkaProducer(**self._kafka.options(), enable_idempotence=True, linger_ms=5, max_request_size=2 << 20)
        await producer.start()
        try:
            while True:
                stopping = self._stop.is_set()
                records = await asyncio.to_thread(self._source.records, offset, _WAIT)
                if records:
                    await self._send(producer, records)
                    end: int = records[-1].position
                    await asyncio.to_thread(self._keep, end)
                    offset = end
                elif stopping:
                    return offset
        finally:
            await producer.stop()

    async def _send(self, producer: AIOKafkaProducer, records: list[Record]) -> None:
        waiting = [
            await producer.send(
                self._topic, record.raw, key=self._source.asset_of(record.subject).encode(), timestamp_ms=record.arrival // 1_000_000,
                headers=[(SUBJECT, record.subject.encode())],
            )
            for record in records
        ]  # fmt: skip
        await asyncio.gather(*waiting)
        self.sent += len(records)

    def _keep(self, offset: int) -> None:
        beside = self._place.with_suffix(".tmp")
        with beside.open("wb") as file:
            file.write(msgspec.json.encode(offset))
            file.flush()
            os.fsync(file.fileno())
        beside.replace(self._place)
        self._source.acknowledge({"offset": offset})
