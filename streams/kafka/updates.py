"""The updates of a twin, read back from Kafka by a consumer group: one group a sink."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field

import msgspec
from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition

from streams.kafka.client import LEAVING, Kafka, KafkaFailure, newest, within
from streams.kafka.watch import PATIENCE, Watch
from streams.update_codec import decode_update
from twin_engine.records import Update

_POLL = 20  # ms


@dataclass
class Batch:
    """Updates of some partitions. offsets: partition -> the one after the last. unreadable: messages that are no updates."""

    updates: list[Update] = field(default_factory=list[Update])
    offsets: dict[int, int] = field(default_factory=dict[int, int])
    unreadable: int = 0


class Updates:
    """A member of the group ``group`` on a topic of updates. behind: messages that are not in the sink, by partition, when last looked.

    busy: to be held from ``batch`` to ``commit``: partitions are let go after that. patience: seconds without a record, though some came,
    after which the client is made anew (see ``Watch``).
    """

    def __init__(self, kafka: Kafka, topic: str, group: str, *, batch: int = 500, patience: float = PATIENCE) -> None:
        self.kafka, self._topic, self._group, self._batch, self._patience = kafka, topic, group, batch, patience
        self.busy = asyncio.Lock()
        self._consumer: AIOKafkaConsumer | None = None
        self._watch: Watch | None = None
        self._watching: asyncio.Task[None] | None = None
        self._asks = False  # for what has come
        self._told: dict[int, int] = {}  # where to begin, known better than the group knows it
        self._written: dict[int, int] = {}  # up to where this member's sink has a partition
        self.behind: dict[int, int] = {}

    async def open(self, offsets: Mapping[int, int]) -> None:
        """Join the group. offsets: where to begin, where that is known better than the group knows it."""
        self._told, self._written = dict(offsets), {}
        await self._join()

    async def _join(self) -> None:
        consumer = AIOKafkaConsumer(
            **self.kafka.options(), group_id=self._group, enable_auto_commit=False, auto_offset_reset="earliest", fetch_max_wait_ms=_POLL,
            max_partition_fetch_bytes=16 << 20,
        )  # fmt: skip
        self._consumer = consumer
        consumer.subscribe([self._topic], listener=_Listener(self))
        try:
            await consumer.start()
        except BaseException:
            await self.close()
            raise
        self._watch = Watch(self.kafka, self._topic, self._at, patience=self._patience)
        self._watching = asyncio.create_task(self._watch.run())

    @property
    def waits(self) -> str:
        """What it waits for, empty while the brokers answer."""
        return "" if self._consumer is not None and (self._watch is None or self._watch.answered) else "Kafka does not answer"

    @property
    def mine(self) -> set[int]:
        """The partitions of this member."""
        return {place.partition for place in self._consumer.assignment()} if self._consumer is not None else set()

    def _at(self) -> dict[int, int]:
        """Return where this member is; nothing while a sink has it wait."""
        return {p: offset for p, offset in self._written.items() if p in self.mine} if self._asks else {}

    async def batch(self) -> Batch:
        """Return what has come within a fiftieth of a second; raises KafkaFailure, after which it may be asked again."""
        if self._consumer is None:
            try:
                await self._join()
            except OSError as error:
                raise KafkaFailure(str(error)) from error
        elif self._watching is not None and self._watching.done():
            failure = self._watching.exception()
            await self.close()
            raise failure or KafkaFailure("the watch has ended")
        found, self._asks = Batch(), True
        try:
            come = await newest(self._opened(), _POLL, self._batch)
        finally:
            self._asks = False
        for place, messages in come.items():
            for message in messages:
                try:
                    found.updates.append(decode_update(message.value or b""))
                except (msgspec.DecodeError, ValueError):
                    found.unreadable += 1
            found.offsets[place.partition] = messages[-1].offset + 1
        return found

    async def commit(self, offsets: Mapping[int, int]) -> None:
        """Say that everything before the offsets is in the sink."""
        self._written |= offsets
        self._told = {p: offset for p, offset in self._told.items() if p not in offsets}
        consumer, mine = self._opened(), self.mine
        told = {TopicPartition(self._topic, p): offset for p, offset in offsets.items() if p in mine}
        for place, offset in told.items():
            self.behind[place.partition] = max(0, (consumer.highwater(place) or 0) - offset)
        if told:
            await consumer.commit(told)

    async def look(self) -> None:
        """Find how far behind the sink is. A batch does so too, but none comes while the sink is down."""
        consumer = self._opened()
        ends = await consumer.end_offsets(list(consumer.assignment()))
        self.behind = {p.partition: max(0, end - self._written[p.partition]) for p, end in ends.items() if p.partition in self._written}

    async def back(self) -> None:
        """Go back to what is in the sink."""
        for place in self._opened().assignment():
            await self.seek(place)

    async def seek(self, place: TopicPartition) -> None:
        """Go to what is in the sink: of this member, or of another as the group knows it, whichever is further."""
        consumer, told = self._opened(), self._told.get(place.partition)
        if told is None:
            committed = await consumer.committed(place)
            known = [offset for offset in (committed, self._written.get(place.partition)) if offset is not None]
            told = max(known) if known else (await consumer.beginning_offsets([place]))[place]
        self._written[place.partition] = told
        consumer.seek(place, told)

    def _opened(self) -> AIOKafkaConsumer:
        if self._consumer is None:
            raise RuntimeError("not open")
        return self._consumer

    async def close(self) -> None:
        """Leave the group."""
        if self._watching is not None:
            watching, self._watching = self._watching, None
            watching.cancel()
            await asyncio.wait([watching])
        if self._consumer is not None:
            consumer, self._consumer = self._consumer, None
            await within(LEAVING, consumer.stop(), "leaving the updates")


class _Listener(ConsumerRebalanceListener):  # its methods may be coroutines, says aiokafka, though not its types
    def __init__(self, updates: Updates) -> None:
        self._updates = updates

    async def on_partitions_revoked(self, revoked: set[TopicPartition]) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        if revoked:  # at the first join there is none, and the lock is held
            async with self._updates.busy:  # what is being written is committed first: whoever is next goes on after it
                for place in revoked:
                    self._updates.behind.pop(place.partition, None)

    async def on_partitions_assigned(self, assigned: set[TopicPartition]) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        for place in assigned:
            await self._updates.seek(place)
