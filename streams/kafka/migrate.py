"""The number of partitions of a twin's topics raised: checks before, and all snapshots of the new partitions in one transaction."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions

from streams.kafka.client import Kafka
from streams.kafka.store import CHUNK, WAIT, SnapshotStore, send_snapshot
from twin_engine.errors import InputError

_PATIENCE = 30  # seconds


async def read_all(kafka: Kafka, topic: str, name: str, source: str, group: str, partitions: int) -> list[tuple[int, bytes | None]]:
    """Return each partition's newest snapshot (None: it has none, and no input) with the offset from which to go on, any worker fenced.

    Raises InputError where a worker is there, or where input is left unread.
    """
    await _nobody(kafka, group)
    found: list[tuple[int, bytes | None]] = []
    for number in range(partitions):
        store = SnapshotStore(kafka, topic, name, number, group=group, source=source)
        try:
            kept = await store.open()
        finally:
            await store.close()
        offset = kept[0].offset if kept else 0
        if left := await _left(kafka, TopicPartition(source, number), offset):
            raise InputError(
                f"topic {source}, partition {number}", expected="all of it in the snapshot", found=f"at least {left} records that are not",
                mend="Stop what sends, let the workers catch up and end (SIGTERM), and migrate then.",
            )  # fmt: skip
        found.append((offset, kept[1] if kept else None))
    return found


async def _nobody(kafka: Kafka, group: str) -> None:
    """Raise InputError where the group has members, and has them still after a while: a static one is forgotten after its session."""
    admin: Any = AIOKafkaAdminClient(**kafka.options())
    await admin.start()
    members = 0
    try:
        for _ in range(_PATIENCE):
            [answer] = await admin.describe_consumer_groups([group])
            members = sum(len(described[5]) for described in answer.groups)
            if not members:
                return
            await asyncio.sleep(1.0)
        raise InputError(f"group {group}", expected="no workers", found=f"{members}", mend="End them first: they save what they have.")
    finally:
        await admin.close()


async def _left(kafka: Kafka, place: TopicPartition, offset: int) -> int:
    """Return how many records there are from an offset on; marks of transactions are none."""
    reader = AIOKafkaConsumer(
        **kafka.options(), isolation_level="read_committed", enable_auto_commit=False, auto_offset_reset="earliest", fetch_max_wait_ms=WAIT
    )
    await reader.start()
    try:
        reader.assign([place])
        end = (await reader.end_offsets([place]))[place]
        reader.seek(place, offset)
        while await reader.position(place) < end:
            if got := (await reader.getmany(place, timeout_ms=200)).get(place):
                return len(got)
        return 0
    finally:
        await reader.stop()


async def grow(kafka: Kafka, topics: Sequence[str], partitions: int) -> None:
    """Raise the number of partitions of topics that have fewer."""
    admin: Any = AIOKafkaAdminClient(**kafka.options())
    await admin.start()
    try:
        has = {t["topic"]: len(t["partitions"]) for t in await admin.describe_topics(list(topics)) if not t["error_code"]}
        await admin.create_partitions({name: NewPartitions(partitions) for name, n in has.items() if n < partitions})
    finally:
        await admin.close()


async def write_all(
    kafka: Kafka, topic: str, name: str, source: str, group: str, snapshots: Sequence[tuple[int, bytes]], about: Mapping[str, Any]
) -> None:
    """Write the snapshots of all partitions, and their offsets, whole or not at all."""
    producer = AIOKafkaProducer(**kafka.options(), transactional_id=f"{name}-migrate", max_request_size=CHUNK + (64 << 10))
    await producer.start()
    try:
        async with producer.transaction():
            for number, (offset, data) in enumerate(snapshots):
                await send_snapshot(producer, TopicPartition(topic, number), data, offset, about)
            offsets = {TopicPartition(source, number): offset for number, (offset, _) in enumerate(snapshots)}
            await producer.send_offsets_to_transaction(offsets, group)
    finally:
        await producer.stop()
