"""From an MQTT broker to Kafka: logged on disk, acknowledged, sent on; the log lets go of what every replica in sync has."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
from aiokafka import AIOKafkaProducer  # pyright: ignore[reportMissingTypeStubs]

from streams.kafka.client import LEAVING, Kafka, KafkaFailure, within
from streams.kafka.topics import STAMPED, ensure, partitions
from streams.source_mqtt import MqttSource
from twin_engine.errors import InputError
from twin_engine.metrics import Figure
from twin_engine.records import ARRIVAL, SUBJECT, Record
from twin_engine.snapshot import write_whole

_WAIT = 0.05  # seconds
_RETRY = 1.0
_TOLD = 60.0  # seconds between lines of the log on a cluster that stays away
log = logging.getLogger("twin_engine.bridge")


class Bridge:
    """Sends each message on as it came: key = asset, the topic and its arrival as headers.

    What is sent again after a crash has the same arrival, and is dropped as a duplicate. folder: of the log and of the place up to which
    everything is in Kafka. late: the broker is told that a message is safe when Kafka's replicas have it, not when the log has. count: of
    partitions, to make the topic with where it is not there (0: it must be).
    """

    def __init__(
        self, source: MqttSource, kafka: Kafka, topic: str, folder: Path, *, late: bool = False, count: int = 0, replication: int = 1
    ) -> None:
        self.sent = 0
        source.late = late
        self._source, self._kafka, self._topic, self._place = source, kafka, topic, folder / "bridge.json"
        self._count, self._replication = count, replication
        self._offset: int | None = None  # of the log, after what is in Kafka
        self._stop = asyncio.Event()
        self._waits = "not connected to Kafka"

    def stop(self) -> None:
        """Send what is logged and end; while Kafka is away it stays in the log."""
        self._stop.set()

    @property
    def ready(self) -> str:
        """As ``metrics.Observed``."""
        return self._waits

    @property
    def alive(self) -> str:
        """As ``metrics.Observed``: a cluster that is away is waited for."""
        return ""

    def figures(self) -> Iterator[Figure]:
        """As ``metrics.Observed``."""
        yield "bridged_total", "messages that are in Kafka", {}, self.sent
        for name, value in self._source.figures().items():
            yield name, "of the source", {}, value

    async def run(self) -> None:
        """Send until ``stop``; while Kafka is away the log grows up to its cap, and then the broker keeps the rest.

        Raises InputError where broker or topic cannot be had.
        """
        self._offset = msgspec.json.decode(self._place.read_bytes()) if self._place.exists() else None
        told = -_TOLD
        try:
            await asyncio.to_thread(self._source.records, self._offset, 0.0)  # what comes is logged from now on, Kafka or not
            while not self._stop.is_set():
                try:
                    await self._session()
                except (KafkaFailure, OSError) as error:
                    self._waits = "not connected to Kafka"
                    if (now := asyncio.get_running_loop().time()) - told >= _TOLD:
                        told = now
                        log.warning("Kafka is away, what comes is kept in the log: %s: %s", type(error).__name__, error)
                    await self._pause(_RETRY)
        finally:
            await asyncio.to_thread(self._source.close)

    async def _pause(self, seconds: float) -> None:
        """Wait, or be told to stop."""
        try:
            await asyncio.wait_for(self._stop.wait(), seconds)
        except TimeoutError:
            return

    async def _session(self) -> None:
        """Send what the log has until ``stop``, all of it then."""
        producer: Any = AIOKafkaProducer(**self._kafka.options(), enable_idempotence=True, linger_ms=5, max_request_size=2 << 20)
        try:
            await producer.start()
            await self._checked()
            self._waits = ""
            while True:
                stopping = self._stop.is_set()
                records = await asyncio.to_thread(self._source.records, self._offset, _WAIT)
                if records:
                    await self._send(producer, records)
                    await asyncio.to_thread(self._keep, records[-1].position)
                elif stopping:
                    return
        finally:
            await within(LEAVING, producer.stop(), "leaving the bridge")

    async def _checked(self) -> None:
        """Make the topic if that is to be done; raises InputError where there is none, KafkaFailure where the cluster does not answer."""
        if self._count:
            await ensure(self._kafka, {self._topic: STAMPED}, self._count, self._replication)
        try:
            there = await partitions(self._kafka, self._topic)
        except InputError as error:
            raise KafkaFailure(str(error)) from error
        if not there:
            raise InputError(f"topic {self._topic}", expected="the input topic", found="none", mend="Create it, or check its name.")

    async def _send(self, producer: Any, records: list[Record]) -> None:
        waiting = [
            await producer.send(
                self._topic, record.raw, key=self._source.asset_of(record.subject).encode(), timestamp_ms=record.arrival // 1_000_000,
                headers=[(SUBJECT, record.subject.encode()), (ARRIVAL, b"%d" % record.arrival)],
            )
            for record in records
        ]  # fmt: skip
        await asyncio.gather(*waiting)
        self.sent += len(records)

    def _keep(self, offset: int) -> None:
        self._offset = offset
        write_whole(self._place, msgspec.json.encode(offset))
        self._source.acknowledge({"offset": offset})
