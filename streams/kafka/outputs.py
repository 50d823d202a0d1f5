"""What a twin puts out, as messages: updates in the partition of their input, events by id, rejects."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import msgspec
from aiokafka import AIOKafkaProducer

from streams.kafka.client import Handed, Kafka, within
from streams.kafka.rejects import Rejects
from streams.kafka.topics import LARGEST, Names
from streams.update_codec import encode_update
from twin_engine.records import COMMAND, Command, Reject, Update, event_line

TIMEOUT = 60.0  # seconds
BATCH = 1 << 17  # bytes that are sent to a partition at once, but for one longer message


class Sender(Handed):
    """A producer that keeps order and doubles nothing by itself. ``check`` and ``flush`` raise what any message before them failed of."""

    def __init__(self, kafka: Kafka) -> None:
        self._kafka = kafka
        self._producer: Any = None

    async def open(self) -> None:
        """Connect."""
        self._producer = AIOKafkaProducer(
            **self._kafka.options(), enable_idempotence=True, linger_ms=2, max_request_size=LARGEST, max_batch_size=BATCH
        )
        await self._producer.start()

    async def send(self, topic: str, value: bytes, **options: Any) -> None:
        """Send a message; waits only while many are on the way."""
        await self.hand(self._producer.send(topic, value, **options))

    def check(self) -> None:
        """Raise what a message has failed of (KafkaFailure)."""
        if self.failure is not None:
            raise self.failure

    async def flush(self) -> None:
        """Wait until the brokers have acknowledged everything."""
        await within(TIMEOUT, self._hand_over(), "the outputs")
        await asyncio.sleep(0)  # lets the callbacks of what failed last run
        self.check()

    async def _hand_over(self) -> None:
        """Wait until the brokers have everything, or have refused it."""
        await self._producer.flush()

    async def close(self) -> None:
        """Send what is held and disconnect."""
        if self._producer is not None:
            producer, self._producer = self._producer, None
            await within(TIMEOUT, producer.stop(), "leaving the outputs")


class Outputs(Sender):
    """The topics ``updates``, ``events`` and ``dead`` of a twin."""

    def __init__(self, kafka: Kafka, names: Names, show: tuple[str, ...]) -> None:
        super().__init__(kafka)
        self._names, self._show = names, show
        self._rejects: Rejects | None = None

    async def open(self) -> None:
        """Connect."""
        await super().open()
        self._rejects = Rejects(self._producer, self._names.of("dead"))

    async def update(self, partition: int, update: Update) -> None:
        """Send an update, and its events each by its id. One too large for a message goes block by block, its events with the first."""
        message, topic = encode_update(update, self._show), self._names.of("updates")
        if len(message) <= LARGEST // 2:
            await self.send(topic, message, partition=partition)
        else:
            for i, name in enumerate(self._show):
                part = update if i == 0 else replace(update, events=())
                await self.send(topic, encode_update(part, (name,)), partition=partition)
        for event in update.events:
            await self.send(self._names.of("events"), event_line(event), key=event.id.encode())

    async def reject(self, partition: int, rejects: Sequence[Reject]) -> None:
        """Take rejects for the dead letter, to be sent together with others."""
        if self._rejects is None:
            raise RuntimeError("not open")
        await self._rejects.put(partition, rejects)

    def check(self) -> None:
        """Raise what a message, or a batch of dead letters, has failed of (KafkaFailure)."""
        super().check()
        if self._rejects is not None and self._rejects.failure is not None:
            raise self._rejects.failure

    async def _hand_over(self) -> None:
        if self._rejects is not None:
            await self._rejects.flush()
        await super()._hand_over()

    async def close(self) -> None:
        """Send what is held and disconnect."""
        rejects, self._rejects = self._rejects, None
        try:
            if rejects is not None:
                await within(TIMEOUT, rejects.close(), "the dead letters")
        finally:
            await super().close()


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
