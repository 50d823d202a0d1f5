"""The runtime over Faust: an agent over raw bytes that never acknowledges.

Faust acknowledges what an agent raised on, and commits past what is still worked on. So here nothing is acknowledged: the group's offset is
moved by the snapshot's transaction alone, and Faust begins there after each rebalance. A partition is taken over when it is this member's,
or its first records come; what Faust hands out again is skipped. Records that were held in a batch when their partition was let go are
thrown away: they may lie beyond the snapshot that is restored, and come again.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Collection
from typing import Any

import faust
from faust.auth import SASLCredentials, SSLCredentials
from faust.transport.drivers import aiokafka as driver
from faust.types import TP

from streams.kafka.client import LEAVING, Kafka, KafkaFailure, within
from streams.kafka.runtime import Handler, record_of
from twin_engine.records import Record

_WITHIN = 0.02  # seconds that a batch may grow
_TICK = 0.05


class FaustStopped(KafkaFailure):
    """Faust gave up by itself."""


class _Thread(driver.AIOKafkaConsumerThread):
    """Reads only what is committed, which Faust does by itself only where it writes its own transactions."""

    def _create_worker_consumer(self, transport: Any) -> Any:
        consumer: Any = super()._create_worker_consumer(transport)
        consumer._isolation_level = "read_committed"  # noqa: SLF001 - of aiokafka's, which begins to fetch when it is started
        return consumer


class _Consumer(driver.Consumer):
    def _new_consumer_thread(self) -> _Thread:
        return _Thread(self, loop=self.loop, beacon=self.beacon)

    async def _add_gap(self, tp: TP, offset_from: int, offset_to: int) -> None:
        """Forget where marks of transactions lie: a list of them is kept until Faust commits, which it never does here."""


class _Transport(driver.Transport):
    Consumer = _Consumer


class FaustRuntime:
    """A Faust app with one agent, run inside the worker's loop. Its web server is off, and nothing of its own is stored.

    member, session: as the plain runtime's.
    """

    def __init__(self, kafka: Kafka, topic: str, group: str, *, member: str = "", session: float = 10.0, batch: int = 5000) -> None:
        self._batch = batch
        self._stop = asyncio.Event()
        self._lock = asyncio.Lock()
        self._failure: BaseException | None = None
        self._leaving = False  # a rebalance has begun
        self._open: set[int] = set()
        self.given: Collection[int] | None = None
        self.app = faust.App(
            group, broker=[f"kafka://{address}" for address in kafka.bootstrap.split(",")], broker_credentials=_credentials(kafka),
            store="memory://", web_enabled=False, topic_disable_leader=True, topic_allow_declare=False, autodiscover=False,
            value_serializer="raw", key_serializer="raw", broker_session_timeout=session, broker_heartbeat_interval=session * 0.3,
            consumer_auto_offset_reset="earliest", consumer_group_instance_id=member or None, stream_wait_empty=False,
            stream_buffer_maxsize=batch, broker_commit_every=1 << 30, broker_commit_interval=3600.0, stream_processing_timeout=3600.0,
        )  # fmt: skip
        self.app.transport = _Transport(self.app.conf.broker_consumer, self.app)
        self._topic = self.app.topic(topic, key_type=bytes, value_type=bytes, key_serializer="raw", value_serializer="raw")

    def stop(self) -> None:
        """Ask ``run`` to end."""
        self._stop.set()

    async def run(self, handler: Handler) -> None:
        """Read until ``stop``."""
        self.app.agent(self._topic, concurrency=1)(lambda stream: self._take(stream, handler))

        async def revoked(_: Any, revoked: Any, **__: Any) -> None:
            self._leaving, self.given = True, None
            await asyncio.sleep(5 * _WITHIN)  # nothing comes any more: the batch that was growing comes out
            self._leaving = False
            async with self._lock:
                gone = [place.partition for place in revoked if place.topic == self._topic.get_topic_name()]
                self._open -= set(gone)
                await handler.revoked(gone)

        async def assigned(_: Any, assigned: Any, **__: Any) -> None:
            self.given = {place.partition for place in assigned if place.topic == self._topic.get_topic_name()}

        for handle, event in ((revoked, self.app.on_partitions_revoked), (assigned, self.app.on_partitions_assigned)):
            signal: Any = event  # its handlers are awaited
            signal.connect(handle, weak=False)
        self.app.finalize()
        await self.app.start()
        try:
            while not self._stop.is_set() and self._failure is None:
                async with self._lock:
                    await self._take_over(self.given or (), handler)
                    await handler.tick()
                if self.app.should_stop:
                    raise FaustStopped(repr(self.app.crash_reason))
                await asyncio.sleep(_TICK)
            if self._failure is not None:
                raise self._failure
            async with self._lock:
                await handler.revoked(sorted(self._open))
        finally:
            self._stop.set()
            await within(LEAVING, self.app.stop(), "leaving the group")

    async def _take_over(self, partitions: Collection[int], handler: Handler) -> None:
        """Take over those that are not yet, unless a rebalance has begun. Called with the lock held."""
        for partition in sorted(set(partitions) - self._open):
            if not self._leaving:
                await handler.assigned([partition])
                self._open.add(partition)

    async def _take(self, stream: Any, handler: Handler) -> None:
        """Hand batches over. No exception leaves: Faust would acknowledge; the loop of ``run`` raises it."""
        async for events in stream.noack().noack_take(self._batch, within=_WITHIN):
            if self._stop.is_set() or self._failure is not None or self._leaving:
                continue
            records: dict[int, list[Record]] = defaultdict(list)
            for event in events:
                records[event.message.partition].append(_record(event.message))
            try:
                async with self._lock:
                    for partition, batch in records.items():
                        place = TP(self._topic.get_topic_name(), partition)
                        mine = place in self.app.consumer.assignment()
                        if partition not in self._open and not mine:  # what is left out now would be missing
                            raise FaustStopped(f"records of partition {partition} after it was taken away")
                        await self._take_over([partition], handler)
                        if partition in self._open:
                            high = (self.app.consumer.highwater(place) or 0) if mine else 0
                            await handler.take(partition, batch, max(0, high - batch[-1].position - 1))
            except BaseException as error:  # noqa: BLE001 - raised by the loop of run
                self._failure = error


def _record(message: Any) -> Record:
    """As ``record_of``, of a message whose time is in seconds."""
    return record_of(message, round(message.timestamp * 1000))


def _credentials(kafka: Kafka) -> Any:
    if kafka.user:
        return SASLCredentials(username=kafka.user, password=kafka.password, ssl_context=kafka.context(), mechanism=kafka.mechanism)
    return SSLCredentials(context=kafka.context()) if kafka.tls else None
