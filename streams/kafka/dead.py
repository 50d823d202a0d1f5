"""The dead letters of a twin in Kafka: looked at, sent again once what was wrong is mended, or thrown away."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from streams.kafka.client import Kafka
from streams.kafka.rejects import KEPT
from streams.kafka.topics import partition_of, partitions


@dataclass(frozen=True)
class Dead:
    """A dead letter. position: its offset in the input. place: its own offset. told: its own headers."""

    reason: str
    detail: str
    asset: str
    partition: int
    position: int
    raw: bytes
    place: int
    headers: Mapping[str, bytes]  # of the record that it was
    told: Sequence[tuple[str, bytes]] = ()


async def dead_letters(kafka: Kafka, topic: str, group: str) -> AsyncIterator[Dead]:
    """Yield those that the group has not settled, partition by partition, up to the ends as they are now."""
    count = await partitions(kafka, topic)
    reader = AIOKafkaConsumer(
        **kafka.options(), group_id=group, enable_auto_commit=False, auto_offset_reset="earliest", isolation_level="read_committed"
    )
    await reader.start()
    try:
        places = [TopicPartition(topic, p) for p in range(count)]
        reader.assign(places)
        ends = await reader.end_offsets(places)
        for place in places:
            start = await reader.committed(place)
            if start is None:
                start = (await reader.beginning_offsets([place]))[place]
            reader.seek(place, start)
            while await reader.position(place) < ends[place]:
                for message in (await reader.getmany(place, timeout_ms=1000)).get(place, []):
                    yield _dead(message)
    finally:
        await reader.stop()


def _dead(message: Any) -> Dead:
    told = {name: msgspec.json.decode(value) for name, value in message.headers if name not in KEPT}
    asset = message.key.decode(errors="replace") if message.key else ""
    raw, kept = message.value or b"", {k: v for k, v in message.headers if k in KEPT}
    return Dead(told["reason"], told["detail"], asset, message.partition, told["position"], raw, message.offset, kept, message.headers)


async def settle(
    kafka: Kafka, dead: Sequence[Dead], kept: Sequence[Dead], source: str | None, topic: str, group: str, partitioner: str = "murmur2"
) -> None:
    """Send dead letters to the input (None: throw them away) and note, in the same transaction, that this was done.

    kept: the others of those that ``dead_letters`` gave. What is done is noted by offsets, so they are put into the topic again as they
    were.
    """
    count = await partitions(kafka, source) if source else 0
    producer = AIOKafkaProducer(**kafka.options(), transactional_id=f"{group}-again", max_request_size=2 << 20)
    await producer.start()
    try:
        async with producer.transaction():
            for one in dead if source else ():
                partition = partition_of(one.asset, count, partitioner) if one.asset else one.partition
                await producer.send(source, one.raw, key=one.asset.encode() or None, partition=partition, headers=[*one.headers.items()])
            for one in kept:
                await producer.send(topic, one.raw, key=one.asset.encode() or None, partition=one.partition, headers=[*one.told])
            offsets: dict[TopicPartition, int] = {}
            for one in (*dead, *kept):
                place = TopicPartition(topic, one.partition)
                offsets[place] = max(offsets.get(place, 0), one.place + 1)
            await producer.send_offsets_to_transaction(offsets, group)
    finally:
        await producer.stop()
