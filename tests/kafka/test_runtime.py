"""The runtimes on a real Kafka."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

pytest.importorskip("aiokafka")
pytest.importorskip("faust")

from aiokafka import AIOKafkaProducer

from streams.kafka.client import Kafka
from streams.kafka.faust_runtime import FaustRuntime
from streams.kafka.runtime import AiokafkaRuntime
from streams.kafka.topics import ensure, partitions
from twin_engine.records import Record

SESSION = 2.0


class Taking:
    """Remembers what it was given; ``over`` is set by the value ``last``."""

    def __init__(self) -> None:
        self.taken: list[int] = []
        self.values: list[bytes] = []
        self.over = asyncio.Event()

    async def assigned(self, partitions: Sequence[int]) -> dict[int, int]:
        return dict.fromkeys(partitions, 0)

    async def revoked(self, partitions: Sequence[int]) -> None: ...

    async def take(self, partition: int, records: Sequence[Record], behind: int) -> None:
        self.taken += [record.position for record in records]
        self.values += [record.raw for record in records]
        if b"last" in self.values:
            self.over.set()

    async def tick(self) -> None: ...


class Slow(Taking):
    """Takes longer to take over than a session; begins at offset 3."""

    def __init__(self) -> None:
        super().__init__()
        self.times = 0

    async def assigned(self, partitions: Sequence[int]) -> dict[int, int]:
        self.times += 1
        await asyncio.sleep(1.5 * SESSION)
        return dict.fromkeys(partitions, 3)


def test_a_fleet_that_takes_longer_than_a_session_to_restore_is_taken_over_once(kafka: str, unique: str) -> None:
    async def main() -> Slow:
        await ensure(Kafka(kafka), {unique: {}}, 1)
        producer = AIOKafkaProducer(bootstrap_servers=kafka)
        await producer.start()
        handler, runtime = Slow(), AiokafkaRuntime(Kafka(kafka), unique, unique, session=SESSION)
        for _ in range(5):
            await producer.send_and_wait(unique, b"x")
        task = asyncio.create_task(runtime.run(handler))
        while len(handler.taken) < 40 and not task.done():  # over some heartbeats more
            await producer.send_and_wait(unique, b"x")
            await asyncio.sleep(SESSION / 10)
        runtime.stop()
        await task
        await producer.stop()
        return handler

    handler = asyncio.run(asyncio.wait_for(main(), 120))
    assert handler.times == 1
    assert handler.taken[:40] == list(range(3, 43))


def test_topics_are_known_to_the_broker_once_they_are_made(kafka: str, unique: str) -> None:
    async def main() -> list[int]:
        names = {f"{unique}.{i}": {} for i in range(20)}
        await ensure(Kafka(kafka), names, 4)
        return [await partitions(Kafka(kafka), name) for name in names]

    assert asyncio.run(main()) == [4] * 20


@pytest.mark.parametrize("kind", [AiokafkaRuntime, FaustRuntime])
def test_what_was_aborted_is_not_taken(kafka: str, unique: str, kind: Any) -> None:
    async def main() -> list[bytes]:
        await ensure(Kafka(kafka), {unique: {}}, 1)
        producer = AIOKafkaProducer(bootstrap_servers=kafka, transactional_id=unique)
        await producer.start()
        for value in (b"first", b"aborted", b"last"):
            await producer.begin_transaction()
            await producer.send_and_wait(unique, value)
            await (producer.abort_transaction() if value == b"aborted" else producer.commit_transaction())
        await producer.stop()
        handler, runtime = Taking(), kind(Kafka(kafka), unique, unique, session=SESSION)
        task = asyncio.create_task(runtime.run(handler))
        await handler.over.wait()
        runtime.stop()
        await task
        return handler.values

    assert asyncio.run(asyncio.wait_for(main(), 120)) == [b"first", b"last"]
