"""Snapshots in Kafka: chunks and a manifest in one transaction, in a compacted topic, one partition for each of the input's.

The transaction also carries the input position to the consumer group. A worker that was taken over (paused, cut off) is fenced by the
transactional id: its save raises Fenced and changes nothing.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Mapping
from typing import Any

import msgspec
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import InvalidProducerEpoch, ProducerFenced

from streams.kafka.client import Kafka, within
from twin_engine.errors import SnapshotError

log = logging.getLogger("twin_engine.kafka")
CHUNK = 512 << 10
SCHEMA = 1
TIMEOUT = 30.0  # seconds
_LOOK = 64  # messages from the end in which a manifest is looked for first
WAIT = 10  # ms that a fetch waits at a broker for more than there is; whatever else is asked waits behind it
_MANIFEST = b"manifest"


class Fenced(Exception):  # noqa: N818 - a verdict on this worker, for its runtime
    """Another worker owns the partition now."""


class Manifest(msgspec.Struct, kw_only=True, frozen=True):
    """What a snapshot is. first: offset of its first chunk. about: what the worker says of it (definition, partitions, versions)."""

    schema: int
    sha256: str
    size: int
    chunks: int
    first: int
    offset: int  # of the input: the first record that it has not absorbed
    about: dict[str, Any]


class SnapshotStore:
    """The snapshots of one partition of a twin. ``name``: ``app-twin``."""

    def __init__(self, kafka: Kafka, topic: str, name: str, partition: int, *, group: str, source: str) -> None:
        self._kafka, self._place, self._group = kafka, TopicPartition(topic, partition), group
        self._source = TopicPartition(source, partition)
        self._name = f"{name}-{partition}"
        self._producer: AIOKafkaProducer | None = None

    async def open(self) -> tuple[Manifest, bytes] | None:
        """Fence any earlier owner, then return the newest snapshot (None: there is none). Raises SnapshotError where it is damaged."""
        self._producer = AIOKafkaProducer(
            **self._kafka.options(), transactional_id=self._name, max_request_size=CHUNK + (64 << 10), transaction_timeout_ms=30_000
        )
        await self._producer.start()
        reader = AIOKafkaConsumer(
            **self._kafka.options(), isolation_level="read_committed", enable_auto_commit=False, auto_offset_reset="earliest",
            fetch_max_wait_ms=WAIT,
        )  # fmt: skip
        await reader.start()
        try:
            reader.assign([self._place])
            manifest = await self._newest(reader)
            if manifest is None:
                return None
            await self._check(reader, manifest.offset)
            return manifest, await self._chunks(reader, manifest)
        finally:
            await within(TIMEOUT, reader.stop(), "leaving the snapshots")

    async def _check(self, reader: AIOKafkaConsumer, offset: int) -> None:
        """Say so where the input after a snapshot is gone; raises SnapshotError where the input is another one."""
        begin: int = (await reader.beginning_offsets([self._source]))[self._source]
        end: int = (await reader.end_offsets([self._source]))[self._source]
        if offset > end:
            raise SnapshotError(
                f"snapshot of {self._name}", expected=f"an input of at least {offset} records", found=str(end),
                mend="Was the topic made anew? Begin anew under another app.",
            )  # fmt: skip
        if offset < begin:
            log.error("%s: records %d to %d of the input were deleted before they were read", self._name, offset, begin)

    async def _newest(self, reader: AIOKafkaConsumer) -> Manifest | None:
        begin: int = (await reader.beginning_offsets([self._place]))[self._place]
        end: int = (await reader.end_offsets([self._place]))[self._place]
        look = _LOOK
        while begin < end:
            start = max(begin, end - look)
            found = [m.value for m in await self._read(reader, start, end) if m.key == _MANIFEST]
            if found:
                return msgspec.json.decode(found[-1], type=Manifest)
            if start == begin:
                return None
            look *= 8
        return None

    async def _read(self, reader: AIOKafkaConsumer, start: int, end: int) -> list[Any]:
        """Return the messages between two offsets. The last offsets may be markers of transactions, which are never handed out."""
        reader.seek(self._place, start)
        found: list[Any] = []
        while True:
            found += (await reader.getmany(self._place, timeout_ms=100)).get(self._place, [])
            if await reader.position(self._place) >= end:
                return found

    async def _chunks(self, reader: AIOKafkaConsumer, manifest: Manifest) -> bytes:
        parts: list[bytes] = []
        reader.seek(self._place, manifest.first)
        while len(parts) < manifest.chunks:
            got = (await reader.getmany(self._place, timeout_ms=1000)).get(self._place, [])
            if not got and await reader.position(self._place) >= (await reader.end_offsets([self._place]))[self._place]:
                break
            parts += [m.value for m in got if m.key != _MANIFEST and m.value is not None]
        data = b"".join(parts[: manifest.chunks])
        if len(data) != manifest.size or hashlib.sha256(data).hexdigest() != manifest.sha256:
            raise SnapshotError(
                f"snapshot of {self._name}", expected=f"{manifest.size} bytes with the manifest's sha256", found=f"{len(data)} others",
                mend="Delete the records of that partition to begin anew from the retained input.",
            )  # fmt: skip
        return data

    async def save(self, data: bytes, offset: int, about: Mapping[str, Any]) -> None:
        """Write a snapshot whole or not at all; raises Fenced, or KafkaError when the cluster does not answer."""
        try:
            await within(TIMEOUT, self._transaction(self._opened(), data, offset, about), f"the snapshot of {self._name}")
        except (ProducerFenced, InvalidProducerEpoch) as error:
            raise Fenced(self._name) from error

    async def _transaction(self, producer: AIOKafkaProducer, data: bytes, offset: int, about: Mapping[str, Any]) -> None:
        async with producer.transaction():
            await send_snapshot(producer, self._place, data, offset, about)
            await producer.send_offsets_to_transaction({self._source: offset}, self._group)

    def _opened(self) -> AIOKafkaProducer:
        if self._producer is None:
            raise SnapshotError(f"snapshots of {self._name}", expected="an open store", found="closed", mend="Open it first.")
        return self._producer

    async def close(self) -> None:
        """Give back the connection; whatever has not been committed is aborted by the broker."""
        if self._producer is not None:
            producer, self._producer = self._producer, None
            await within(TIMEOUT, producer.stop(), "leaving the snapshots")


async def send_snapshot(producer: AIOKafkaProducer, place: TopicPartition, data: bytes, offset: int, about: Mapping[str, Any]) -> None:
    """Send a snapshot's chunks and manifest within a transaction."""
    digest = await asyncio.to_thread(hashlib.sha256, data)
    pieces = [data[i : i + CHUNK] for i in range(0, len(data), CHUNK)] or [b""]
    sent = [await producer.send(place.topic, piece, key=b"%06d" % i, partition=place.partition) for i, piece in enumerate(pieces)]
    manifest = Manifest(
        schema=SCHEMA, sha256=digest.hexdigest(), size=len(data), chunks=len(pieces), first=(await sent[0]).offset, offset=offset,
        about=dict(about),
    )  # fmt: skip
    await producer.send(place.topic, msgspec.json.encode(manifest), key=_MANIFEST, partition=place.partition)
