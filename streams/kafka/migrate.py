"""The number of partitions of a twin's topics raised: checks before, and all snapshots of the new partitions in one transaction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions

from streams.kafka.client import Kafka
from streams.kafka.store import CHUNK, SnapshotStore, send_snapshot
from twin_engine.errors import InputError


async def read_all(kafka: Kafka, topic: str, name: str, source: str, group: str, partitions: int) -> list[tuple[int, bytes]]:
    """Return each partition's newest snapshot with its input offset, any worker fenced; raises InputError where input is left unread."""
    ends = await _ends(kafka, source, partitions)
    found: list[tuple[int, bytes]] = []
    for number in range(partitions):
        store = SnapshotStore(kafka, topic, name, number, group=group, source=source)
        try:
            kept = await store.open()
        finally:
            await store.close()
        offset = kept[0].offset if kept else 0
        if kept is None or offset < ends[number]:
            raise InputError(
                f"topic {source}, partition {number}", expected="all of it in the snapshot", found=f"{offset} of {ends[number]} records",
                mend="Stop what sends, let the workers catch up and end (SIGTERM), and migrate then.",
            )  # fmt: skip
        found.append((offset, kept[1]))
    return found


async def _ends(kafka: Kafka, topic: str, partitions: int) -> list[int]:
    reader = AIOKafkaConsumer(**kafka.options())
    await reader.start()
    try:
        ends = await reader.end_offsets([TopicPartition(topic, p) for p in range(partitions)])
        return [ends[TopicPartition(topic, p)] for p in range(partitions)]
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
