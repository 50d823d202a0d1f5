"""A topic of Kafka as a source of one process: it reads its partitions without a group, from the offsets in the run's own snapshot."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from msgspec.structs import replace

from streams.codecs import OPTIONS as CODEC_OPTIONS
from streams.codecs import open_codec
from streams.context import Context
from streams.kafka.address import Topic, parse_topic
from streams.kafka.client import LEAVING, KafkaFailure, within
from streams.kafka.loop import Loop
from streams.kafka.runtime import record_of
from streams.kafka.topics import partitions, unreachable
from streams.kafka.watch import Watch
from streams.uri import Uri
from twin_engine.errors import InputError
from twin_engine.records import COMMAND, Codec, Idle, Item, Position, Record

_OWN = ("codec", "pattern", "group", "partitions", "begin", "follow")
_POLL = 100  # ms that a poll waits for the first record; one that is there comes at once
_BATCH = 5000
_RETRY = 1.0  # seconds between attempts when the cluster does not answer
log = logging.getLogger("twin_engine.kafka")


def open_kafka(uri: Uri, context: Context) -> KafkaSource:
    """Open ``kafka://USER@HOST:9092/TOPIC?codec=arrow&pattern={asset}``, or ``kafkas:``; see docs/reference/addresses.md.

    partitions: which (``0,3``; default all). begin: ``earliest`` or ``latest``, without a snapshot. follow: ``no`` ends at what is there
    now. group: a consumer group whose offsets are moved as snapshots are saved, for those who look at its lag. Raises InputError.
    """
    name = uri.options.get("codec", "arrow")
    topic = parse_topic(uri, *_OWN, *CODEC_OPTIONS.get(name, ()))
    options = {key: value for key, value in uri.options.items() if key in CODEC_OPTIONS.get(name, ())}
    pattern = uri.options.get("pattern", "{asset}")
    open_codec(name, pattern, options, asset=context.asset or "")  # mistakes are told now
    chosen = uri.names("partitions")
    if not all(number.isdigit() for number in chosen):
        raise InputError(f"option 'partitions' of {topic.place}", expected="numbers", found=",".join(chosen), mend="Write partitions=0,1.")
    follow = uri.choice("follow", ("yes", "no"), "yes") == "yes"
    latest = uri.choice("begin", ("earliest", "latest"), "earliest") == "latest"
    numbers, group = [int(number) for number in chosen], uri.options.get("group")
    return KafkaSource(topic, (name, pattern, options), numbers, context, group, latest=latest, follow=follow)


class KafkaSource:
    """A position: by partition, the next offset and the codec's memory; and how many items of the record there were given out.

    Transactions that were aborted are not read. Commands to workers are passed over. counts: ``records``, ``expired`` (offsets that the
    topic had let go of before they were read), ``restarts``.
    """

    def __init__(
        self, topic: Topic, codec: tuple[str, str, dict[str, str]], chosen: list[int], context: Context, group: str | None, *,
        latest: bool, follow: bool,
    ) -> None:  # fmt: skip
        self.live = follow
        self.counts: Counter[str] = Counter()
        self._topic, self._codec, self._chosen, self._context = topic, codec, chosen, context
        self._group, self._latest = group, latest
        self._loop: Loop | None = None
        self._consumer: Any = None
        self._watching: asyncio.Task[None] | None = None
        self._offsets: dict[int, int] = {}  # the next of each partition
        self._ends: dict[int, int] = {}

    @property
    def assets(self) -> list[str]:
        """The asset that was named; raises InputError where none was, because a topic does not know who will publish."""
        if self._context.asset is not None:
            return [self._context.asset]
        raise InputError(self._topic.place, expected="the names of the assets", found="none", mend="Name them: --asset a --asset b.")

    def items(self, position: Position) -> Iterator[Item]:
        """Yield what comes after the position, each partition in its order; raises InputError where there is no topic at the start."""
        place: dict[str, Any] = position or {"offsets": {}, "memory": {}, "skip": None}
        self._offsets = {int(partition): offset for partition, offset in place["offsets"].items()}
        self._loop = loop = Loop()
        try:
            loop.call(self._open())
        except (KafkaFailure, OSError) as error:
            raise unreachable(self._topic.kafka, error) from None
        codecs: dict[int, Codec] = {}
        for number in self._offsets:
            codecs[number] = open_codec(self._codec[0], self._codec[1], self._codec[2], asset=self._context.asset or "")
            codecs[number].recall(place["memory"].get(str(number)))
        memory, skip = dict(place["memory"]), place["skip"]
        while True:
            batches = loop.call(self._poll())
            for number, messages in batches.items():
                for message in messages:
                    yield from self._given(number, codecs[number], message, memory, skip)
            place = self._place(memory)
            if not self.live and all(self._offsets[number] >= end for number, end in self._ends.items()):
                return
            if sum(map(len, batches.values())) < _BATCH:
                yield Idle(place)

    def _given(self, number: int, codec: Codec, message: Any, memory: dict[str, Any], skip: Any) -> Iterator[Item]:
        """Yield what a message says; an item that is not the last leads back to the message."""
        self.counts["records"] += 1
        before, offset, record = codec.memory, message.offset, record_of(message)
        self._offsets[number] = offset + 1
        if COMMAND in record.headers:
            return
        after = self._place(memory)
        source = f"{self._topic.place} {number} {offset}"
        found = list(codec.decode(Record(record.raw, record.subject, source, after, record.arrival, record.headers)))
        if codec.memory is not None:
            memory[str(number)] = codec.memory
            after["memory"] = dict(memory)
        if len(found) > 1:
            back = {"offsets": {**after["offsets"], str(number): offset}, "memory": {**memory, str(number): before}}
            found[:-1] = [replace(item, position={**back, "skip": [number, offset, i]}) for i, item in enumerate(found[:-1], 1)]
        yield from found[skip[2] if skip and skip[:2] == [number, offset] else 0 :]

    def _place(self, memory: Mapping[str, Any]) -> dict[str, Any]:
        return {"offsets": {str(number): offset for number, offset in self._offsets.items()}, "memory": dict(memory), "skip": None}

    async def _open(self) -> None:
        """Connect and go to the offsets; where there is none, to the beginning or the end as it was said."""
        kafka, name = self._topic.kafka, self._topic.name
        there = await partitions(kafka, name)
        numbers = self._chosen or list(range(there))
        if not there or max(numbers) >= there:
            expected, found = (f"partition {max(numbers)}", f"{there} of them") if there else ("a topic that is there", "none")
            raise InputError(self._topic.place, expected=expected, found=found, mend="Create it, or check its name and partitions.")
        self._consumer = consumer = AIOKafkaConsumer(
            **kafka.options(), group_id=self._group, enable_auto_commit=False, auto_offset_reset="earliest", fetch_max_wait_ms=_POLL,
            isolation_level="read_committed", max_partition_fetch_bytes=8 << 20,
        )  # fmt: skip
        await consumer.start()
        places = [TopicPartition(name, number) for number in numbers]
        consumer.assign(places)
        begins: Any = await consumer.beginning_offsets(places)
        ends: Any = await consumer.end_offsets(places)
        self._ends = {place.partition: end for place, end in ends.items()}
        for place in places:
            offset = self._offsets.get(place.partition, (ends if self._latest else begins)[place])
            if (gone := begins[place] - offset) > 0:
                log.warning("%s, partition %d: %d offsets are gone before they were read", self._topic.place, place.partition, gone)
                self.counts["expired"] += gone
            self._offsets[place.partition] = max(offset, begins[place])
            consumer.seek(place, self._offsets[place.partition])
        if self.live:
            self._watching = asyncio.create_task(Watch(kafka, name, lambda: dict(self._offsets)).run())

    async def _poll(self) -> dict[int, list[Any]]:
        """Return what has come, by partition; a client that fails is made anew, for as long as it takes."""
        try:
            if self._consumer is None:
                await self._open()
            if self._watching is not None and self._watching.done():
                self._watching.result()
            consumer: Any = self._consumer
            found = await consumer.getmany(timeout_ms=_POLL, max_records=_BATCH)
            if not found and not self.live:  # the marks of transactions are no records
                for place in consumer.assignment():
                    self._offsets[place.partition] = await consumer.position(place)
        except (KafkaFailure, OSError, InputError) as error:
            log.warning("%s is read anew: %s: %s", self._topic.place, type(error).__name__, error)
            self.counts["restarts"] += 1
            await self._leave()
            await asyncio.sleep(_RETRY)
            return {}
        return {place.partition: messages for place, messages in found.items()}

    async def _leave(self) -> None:
        consumer, watching, self._consumer, self._watching = self._consumer, self._watching, None, None
        if watching is not None:
            watching.cancel()
            await asyncio.wait([watching])
        if consumer is not None:
            with suppress(KafkaFailure):
                await within(LEAVING, consumer.stop(), "leaving")

    async def _commit(self, offsets: Mapping[str, int]) -> None:
        if self._consumer is not None:
            await self._consumer.commit({TopicPartition(self._topic.name, int(number)): offset for number, offset in offsets.items()})

    def figures(self) -> dict[str, float]:
        """Return counts, and the offsets that are left up to the ends that the brokers have told."""
        figures = {f"kafka_{name}": float(n) for name, n in self.counts.items()}
        if (consumer := self._consumer) is not None:
            ends = {number: consumer.highwater(TopicPartition(self._topic.name, number)) or 0 for number in self._offsets}
            figures["kafka_behind"] = float(sum(max(0, end - self._offsets[number]) for number, end in ends.items()))
        return figures

    def acknowledge(self, position: Position) -> None:
        """Tell the group, if one was named: the snapshot's offsets are the truth, the group's only show them."""
        if self._group and position is not None and self._loop is not None:
            try:
                self._loop.call(self._commit(position["offsets"]))
            except (KafkaFailure, OSError) as error:
                log.warning("the offsets of group %s stay behind: %s", self._group, error)

    def close(self) -> None:
        """Disconnect."""
        if self._loop is not None:
            loop, self._loop = self._loop, None
            loop.call(self._leave())
            loop.close()
