"""A consumer that has fallen silent while records come (aiokafka issue 1154), noticed from outside it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from contextlib import suppress

from aiokafka import AIOKafkaConsumer, TopicPartition

from streams.kafka.client import LEAVING, Kafka, KafkaFailure, within

PATIENCE = 30.0  # seconds


class Stuck(KafkaFailure):
    """Records came and were not handed out: the client is to be made anew."""


class Watch:
    """Compares, with a connection of its own, where a topic's partitions end with how far a reader is.

    A partition whose end has moved while its reader has not, for ``patience`` seconds in which the brokers answered, is stuck. An end that
    only lies beyond the reader is not: it may be the mark of a transaction.
    """

    def __init__(self, kafka: Kafka, topic: str, offsets: Callable[[], Mapping[int, int]], *, patience: float = PATIENCE) -> None:
        self._kafka, self._topic, self._offsets, self._patience = kafka, topic, offsets, patience
        self.answered = True  # by the brokers, when last asked
        self._seen: dict[int, tuple[int, int]] = {}  # partition -> offset, and the end when it was seen first
        self._since: dict[int, float] = {}  # partition -> since when it stands still

    async def run(self) -> None:
        """Watch until cancelled; raises Stuck, and KafkaFailure where the brokers do not answer at the beginning."""
        client = AIOKafkaConsumer(**self._kafka.options(), enable_auto_commit=False)
        try:
            await client.start()
            while True:
                await asyncio.sleep(self._patience / 6)
                offsets = dict(self._offsets())
                try:
                    ends = await client.end_offsets([TopicPartition(self._topic, p) for p in offsets]) if offsets else {}
                except KafkaFailure:
                    self._since.clear()
                    self.answered = False
                    continue
                self.answered = True
                self.look(offsets, {place.partition: end for place, end in ends.items()}, time.monotonic())
        finally:
            with suppress(KafkaFailure):
                await within(LEAVING, client.stop(), "leaving the watch")

    def look(self, offsets: Mapping[int, int], ends: Mapping[int, int], now: float) -> None:
        """Take how things stand at a moment (seconds); raises Stuck."""
        for partition in self._seen.keys() - offsets.keys():
            del self._seen[partition]
            self._since.pop(partition, None)
        for partition, offset in offsets.items():
            before, end = self._seen.setdefault(partition, (offset, ends[partition]))
            if offset != before:
                self._seen[partition] = offset, ends[partition]
                self._since.pop(partition, None)
            elif ends[partition] > end and now - self._since.setdefault(partition, now) >= self._patience:
                raise Stuck(f"{self._topic}, partition {partition}: at {offset} for {self._patience:g} s, the end is {ends[partition]}")
