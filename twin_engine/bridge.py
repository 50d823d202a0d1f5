"""From an MQTT broker to Kafka: logged on disk, acknowledged, sent on; the log lets go of what every replica in sync has."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
from aiokafka import AIOKafkaProducer  # pyright: ignore[reportMissingTypeStubs]
from aiokafka.errors import MessageSizeTooLargeError, RecordListTooLargeError  # pyright: ignore[reportMissingTypeStubs]

from streams.dead_letter import FILE, DeadLetter
from streams.kafka.client import LEAVING, Kafka, KafkaFailure, within
from streams.kafka.topics import STAMPED, ensure, partitions
from streams.source_mqtt import MqttSource
from twin_engine.errors import InputError
from twin_engine.metrics import Figure
from twin_engine.records import ARRIVAL, SUBJECT, Reason, Record, Reject
from twin_engine.whole import write_whole

_WAIT = 0.05  # seconds
_RETRY = 1.0
_TOLD = 60.0  # seconds between lines of the log on a cluster that stays away
_LARGE = (MessageSizeTooLargeError, RecordListTooLargeError)
log = logging.getLogger("twin_engine.bridge")


class _TooLargeError(Exception):
    """Some messages went to the dead letter; the others are to be sent again."""


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
        self._suspects, self._refused = set[int](), set[int]()  # offsets of messages that may be, and are, too large for the topic
        self._dead = DeadLetter(folder / FILE)
        self._stop = asyncio.Event()
        self._waits = "not connected to Kafka"

    def stop(self) -> None:
        """Send what is logged and end; while Kafka is away it stays in the log."""
        self._stop.set()

    @property
    def ready(self) -> str:
        """As ``metrics.Observed``."""
        return self._waits or self._source.waits

    @property
    def alive(self) -> str:
        """As ``metrics.Observed``: a cluster that is away is waited for."""
        return ""

    def figures(self) -> Iterator[Figure]:
        """As ``metrics.Observed``."""
        yield "bridged_total", "messages that are in Kafka", {}, self.sent
        yield "rejects_total", "messages that went to the dead letter", {"reason": Reason.TOO_LARGE}, len(self._refused)
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
                except _TooLargeError:
                    continue  # with a new client: what the old one had numbered has a gap
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
            end: int | None = None  # of what is to be sent, once told to stop: more may come all the time
            while True:
                if end is None and self._stop.is_set():
                    end = self._source.end
                if records := await asyncio.to_thread(self._source.records, self._offset, _WAIT):
                    await self._send(producer, records)
                    await asyncio.to_thread(self._keep, records[-1].position)
                if end is not None and (not records or records[-1].position >= end):
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
        """Send records; one of a batch that was too large for the topic is sent alone, and if it is still, buried."""
        records = [record for record in records if record.position not in self._refused]
        waiting: list[Any] = []
        for record in records:
            alone = record.position in self._suspects
            if alone:
                self._check(records, await asyncio.gather(*waiting, return_exceptions=True))
            waiting.append(
                await producer.send(
                    self._topic, record.raw, key=self._source.asset_of(record.subject).encode(), timestamp_ms=record.arrival // 1_000_000,
                    headers=[(SUBJECT, record.subject.encode()), (ARRIVAL, b"%d" % record.arrival)],
                )
            )  # fmt: skip
            if alone and isinstance((await asyncio.gather(waiting[-1], return_exceptions=True))[0], _LARGE):
                await asyncio.to_thread(self._bury, record)
                raise _TooLargeError
        self._check(records, await asyncio.gather(*waiting, return_exceptions=True))
        self.sent += len(records)

    def _check(self, records: list[Record], answers: Sequence[Any]) -> None:
        """Raise what the cluster answered; where a batch was too large its messages are suspects."""
        if large := [record.position for record, answer in zip(records, answers, strict=False) if isinstance(answer, _LARGE)]:
            self._suspects |= set(large)
            raise _TooLargeError
        for answer in answers:
            if isinstance(answer, BaseException):
                raise answer

    def _bury(self, record: Record) -> None:
        """Keep what the topic has no room for as a dead letter: it would hold up all that comes after it."""
        path, told = self._dead.path, f"{len(record.raw)} bytes, more than max.message.bytes of topic {self._topic}"
        log.warning("a message of %s is kept in %s: %s", record.subject, path, told)
        asset = self._source.asset_of(record.subject)
        self._dead.open({"offset": path.stat().st_size if path.exists() else 0, "unwritten": {}})
        self._dead.write(Reject(Reason.TOO_LARGE, told, record.source, record.raw, record.position, asset, subject=record.subject))
        self._dead.close()
        self._refused.add(record.position)

    def _keep(self, offset: int) -> None:
        self._offset = offset
        write_whole(self._place, msgspec.json.encode(offset))
        self._source.acknowledge({"offset": offset})
