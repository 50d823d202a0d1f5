"""Rejects on their way to the dead letter, gathered in record batches: one message in a hundred may be bad and cost next to nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

import msgspec

from streams.kafka.client import Handed
from twin_engine.records import ARRIVAL, COMMAND, SUBJECT, Reason, Reject

KEPT = (SUBJECT, ARRIVAL, COMMAND)  # headers without which a record means something else
MOST = 1 << 20  # bytes of a dead letter; of a longer one the beginning
LINGER = 0.25  # seconds that a batch may wait for more
_json = msgspec.json.Encoder().encode
_REASONS = {reason: _json(reason) for reason in Reason}


class Rejects(Handed):
    """The topic of dead letters, through a producer that is started.

    A batch is sent when it is full, after ``LINGER`` seconds, and by ``flush``, without which nothing may be saved that has passed them.
    """

    def __init__(self, producer: Any, topic: str) -> None:
        self._producer, self._topic = producer, topic
        self._batches: dict[int, Any] = {}  # by partition, those that are being filled
        self._order = asyncio.Lock()  # what one sends is on its way before another is told that all is
        self._turns = asyncio.create_task(self._run())

    async def put(self, partition: int, rejects: Iterable[Reject]) -> None:
        """Take rejects: their bytes, and what is said of them as headers. Raises KafkaFailure where batches can no longer be sent."""
        batch, source, said = self._batch(partition), "", b'""'
        for reject in rejects:
            if reject.source != source:  # most are of one
                source, said = reject.source, _json(reject.source)
            headers = [
                ("reason", _REASONS[reject.reason]), ("detail", _json(reject.detail)), ("source", said),
                ("position", _json(reject.position)), ("size", b"%d" % len(reject.raw)),
            ]  # fmt: skip
            if reject.headers:
                headers += [(name, value) for name, value in reject.headers.items() if name in KEPT]
            asset = reject.asset or ("" if SUBJECT in reject.headers else reject.subject)
            key, value = asset.encode(), reject.raw[:MOST]
            while batch.append(timestamp=None, key=key, value=value, headers=headers) is None:  # a new one has room
                await self._send(partition)
                batch = self._batch(partition)

    def _batch(self, partition: int) -> Any:
        batch = self._batches.get(partition)
        if batch is None:
            batch = self._batches[partition] = self._producer.create_batch()
        return batch

    async def _send(self, partition: int) -> None:
        async with self._order:
            batch = self._batches.pop(partition, None)
            if batch is None:
                return
            batch.close()
            await self.hand(self._producer.send_batch(batch, self._topic, partition=partition))

    async def flush(self) -> None:
        """Hand all that was taken to the producer, whose own ``flush`` waits for the brokers."""
        for partition in list(self._batches):
            await self._send(partition)
        async with self._order:  # what another call has taken out is handed over too
            pass

    async def _run(self) -> None:
        while self.failure is None:
            await asyncio.sleep(LINGER)
            with suppress(Exception):  # kept in ``failure``
                await self.flush()

    async def close(self) -> None:
        """Hand over what is left, unless that has failed before."""
        self._turns.cancel()
        await asyncio.wait([self._turns])
        if self.failure is None:
            await self.flush()
