"""What a runtime is, and the plain one over aiokafka: batches of records of the partitions that this member of the group has."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Coroutine, Mapping, Sequence
from typing import Any, Protocol

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition

from streams.kafka.client import LEAVING, Kafka, newest, within
from twin_engine.records import ARRIVAL, SUBJECT, Record

_MS = 1_000_000  # ns
_DIGITS = 19  # of a time in ns
_POLL = 20  # ms that a poll waits for the first record
_PACE, _SLOW = 0.02, 0.1  # seconds from poll to poll while few records come: a step of a fleet costs much the same for one as for many
_SHARE = 0.5  # of the time that turns may take until they are spaced wider, up to ``_SLOW``


class Handler(Protocol):
    """What a runtime drives. Its methods are never called at the same time; none may take records of a partition it was not given."""

    async def assigned(self, partitions: Sequence[int]) -> dict[int, int]:
        """Take over partitions; return the offset at which to begin in each."""
        ...

    async def revoked(self, partitions: Sequence[int]) -> None:
        """Save and let go of partitions."""
        ...

    async def take(self, partition: int, records: Sequence[Record], behind: int) -> None:
        """Take records, in order of their offsets; some may have been taken before. behind: how many more there are."""
        ...

    async def tick(self) -> None:
        """Do what is due. Called between batches, at least each tenth of a second."""
        ...


class Runtime(Protocol):
    """What reads the input and drives a handler. given: the partitions that the group gave to this member, None until it has."""

    given: Collection[int] | None

    async def run(self, handler: Handler) -> None:
        """Read until ``stop``; then everything is revoked. Raises what the handler raised, and KafkaFailure."""
        ...

    def stop(self) -> None:
        """Ask ``run`` to end."""
        ...


def record_of(message: Any, ms: int | None = None) -> Record:
    """Return a Kafka message as a record; its position is its offset, its arrival that at a bridge, else the broker's time.

    ms: that time, where the message does not have it as Kafka does.
    """
    key, headers = message.key.decode(errors="replace") if message.key else "", dict(message.headers) if message.headers else {}
    arrival: int = (message.timestamp if ms is None else ms) * _MS
    if headers and (told := headers.get(ARRIVAL, b"")).isdigit() and len(told) <= _DIGITS:
        arrival = min(int(told), arrival + _MS)  # later than the broker's it cannot be
    return Record(message.value or b"", subject_of(key, headers), message.topic, message.offset, arrival, headers)


def subject_of(key: str, headers: Mapping[str, bytes]) -> str:
    """Return what a record is about: where a bridge had it from, else its key."""
    return headers[SUBJECT].decode(errors="replace") if SUBJECT in headers else key


class AiokafkaRuntime:
    """The plain runtime. member: a name for static membership, with which a restart within ``session`` seconds moves no partition."""

    def __init__(self, kafka: Kafka, topic: str, group: str, *, member: str = "", session: float = 10.0, batch: int = 5000) -> None:
        self._kafka, self._topic, self._group, self._member = kafka, topic, group, member
        self._session, self._batch = session, batch
        self._stop = asyncio.Event()
        self.given: Collection[int] | None = None

    def stop(self) -> None:
        """Ask ``run`` to end."""
        self._stop.set()

    async def run(self, handler: Handler) -> None:
        """Read until ``stop``."""
        consumer = AIOKafkaConsumer(
            **self._kafka.options(), group_id=self._group, group_instance_id=self._member or None, enable_auto_commit=False,
            auto_offset_reset="earliest", session_timeout_ms=int(self._session * 1000), fetch_max_wait_ms=_POLL,
            heartbeat_interval_ms=int(self._session * 300), max_partition_fetch_bytes=8 << 20, rebalance_timeout_ms=60_000,
            isolation_level="read_committed",
        )  # fmt: skip
        listener = _Listener(consumer, handler)
        consumer.subscribe([self._topic], listener=listener)
        try:
            await self._or_stop(consumer.start())
            while not self._stop.is_set():
                begin, rebalances = time.monotonic(), listener.rebalances
                batches = await self._or_stop(newest(consumer, _POLL, self._batch)) or {}
                async with listener.lock:
                    self.given = listener.mine
                    if listener.given:
                        await listener.take_over()
                    if listener.rebalances == rebalances:  # else some may lie beyond the snapshot that was restored: they come again
                        for place, messages in batches.items():
                            behind = (consumer.highwater(place) or 0) - messages[-1].offset - 1
                            await handler.take(place.partition, [record_of(m) for m in messages], max(0, behind))
                    await handler.tick()
                if sum(map(len, batches.values())) < self._batch // 4:
                    now = time.monotonic()
                    await asyncio.sleep(max(0.0, begin + min(max(_PACE, (now - begin) / _SHARE), _SLOW) - now))
            async with listener.lock:
                await handler.revoked([p.partition for p in consumer.assignment()])
        finally:
            await within(LEAVING, consumer.stop(), "leaving the group")

    async def _or_stop(self, waiting: Coroutine[Any, Any, Any]) -> Any:
        """Return what is waited for, or None once told to stop: without an assignment aiokafka waits for ever."""
        task, told = asyncio.ensure_future(waiting), asyncio.ensure_future(self._stop.wait())
        await asyncio.wait({task, told}, return_when=asyncio.FIRST_COMPLETED)
        told.cancel()
        if not task.done():
            task.cancel()
            await asyncio.wait({task})
            return None
        return task.result()


class _Listener(ConsumerRebalanceListener):  # its methods may be coroutines, says aiokafka, though not its types
    """Hands rebalances on, one call at a time with batches, and counts them.

    ``mine``: partitions of this member, None before it has joined. ``given``: those that are paused until the handler has taken them over.
    The loop does that, not the listener: no heartbeat is sent while a listener works, and a fleet may take longer than a session to
    restore.
    """

    def __init__(self, consumer: AIOKafkaConsumer, handler: Handler) -> None:
        self.lock, self.rebalances, self.given = asyncio.Lock(), 0, set[TopicPartition]()
        self.mine: set[int] | None = None
        self._consumer, self._handler = consumer, handler

    async def on_partitions_revoked(self, revoked: set[TopicPartition]) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Let go."""
        self.rebalances += 1
        self.mine = None
        async with self.lock:
            self.given -= revoked
            await self._handler.revoked([p.partition for p in revoked])

    async def on_partitions_assigned(self, assigned: set[TopicPartition]) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Note what is to be taken over."""
        self.rebalances += 1
        self.given |= assigned
        self.mine = {place.partition for place in self._consumer.assignment()}
        self._consumer.pause(*assigned)

    async def take_over(self) -> None:
        """Take over what was given, and read it from where the handler says."""
        given = sorted(self.given, key=lambda place: place.partition)
        offsets = await self._handler.assigned([place.partition for place in given])
        self.given -= set(given)
        for place in given:
            if place in self._consumer.assignment():  # else its revocation waits for the lock
                self._consumer.seek(place, offsets[place.partition])
                self._consumer.resume(place)
