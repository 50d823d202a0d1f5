"""What a twin puts out, as messages: updates in the partition of their input, events by id, rejects."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import msgspec
from aiokafka import AIOKafkaProducer

from streams.kafka.client import Kafka, within
from streams.kafka.topics import LARGEST, Names
from streams.update_codec import encode_update
from twin_engine.records import COMMAND, SUBJECT, Command, Reject, Update, event_line

KEPT = (SUBJECT, COMMAND)  # headers without which a record means something else
TIMEOUT = 60.0  # seconds
MOST = 1 << 20  # bytes of a dead letter; of a longer one the beginning


class Outputs:
    """The topics ``updates``, ``events`` and ``dead`` of a twin. ``flush`` raises what any message before it failed of."""

    def __init__(self, kafka: Kafka, names: Names, show: tuple[str, ...]) -> None:
        self._kafka, self._names, self._show = kafka, names, show
        self._producer: Any = None
        self._failure: BaseException | None = None

    async def open(self) -> None:
        """Connect."""
        self._producer = AIOKafkaProducer(**self._kafka.options(), enable_idempotence=True, linger_ms=2, max_request_size=LARGEST)
        await self._producer.start()

    async def update(self, partition: int, update: Update) -> None:
        """Send an update, and its events each by its id. One too large for a message goes block by block, its events with the first."""
        message = encode_update(update, self._show)
        if len(message) <= LARGEST // 2:
            await self._send("updates", message, partition=partition)
        else:
            for i, name in enumerate(self._show):
                part = update if i == 0 else replace(update, events=())
                await self._send("updates", encode_update(part, (name,)), partition=partition)
        for event in update.events:
            await self._send("events", event_line(event), key=event.id.encode())

    async def reject(self, partition: int, reject: Reject) -> None:
        """Send a reject: its bytes, and what is said of them as headers."""
        told = {
            "reason": reject.reason.value, "detail": reject.detail, "source": reject.source, "position": reject.position,
            "size": len(reject.raw),
        }  # fmt: skip
        headers = [(name, msgspec.json.encode(value)) for name, value in told.items()]
        headers += [(name, value) for name, value in reject.headers.items() if name in KEPT]
        await self._send("dead", reject.raw[:MOST], key=reject.asset.encode(), headers=headers, partition=partition)

    async def _send(self, what: str, value: bytes, **options: Any) -> None:
        try:
            future: asyncio.Future[Any] = await self._producer.send(self._names.of(what), value, **options)
        except BaseException as failure:
            self._failure = failure
            raise
        future.add_done_callback(self._sent)

    def _sent(self, future: asyncio.Future[Any]) -> None:
        if not future.cancelled() and (failure := future.exception()) is not None:
            self._failure = failure

    def check(self) -> None:
        """Raise what a message has failed of (KafkaFailure)."""
        if self._failure is not None:
            raise self._failure

    async def flush(self) -> None:
        """Wait until the brokers have acknowledged everything."""
        await within(TIMEOUT, self._producer.flush(), "the outputs")
        await asyncio.sleep(0)  # lets the callbacks of what failed last run
        self.check()

    async def close(self) -> None:
        """Send what is held and disconnect."""
        if self._producer is not None:
            producer, self._producer = self._producer, None
            await within(TIMEOUT, producer.stop(), "leaving the outputs")


async def send_command(kafka: Kafka, topic: str, command: Command, partitions: Sequence[int]) -> None:
    """Put a command into partitions of the input, in order with the data; raises KafkaFailure."""
    producer = AIOKafkaProducer(**kafka.options(), enable_idempotence=True)
    await producer.start()
    try:
        value, key = msgspec.json.encode(command), command.asset.encode()
        for partition in partitions:
            await producer.send_and_wait(topic, value, key=key, partition=partition, headers=[(COMMAND, b"1")])
    finally:
        await producer.stop()
