"""Events and shown outputs into a topic of Kafka for any consumer: JSON and Arrow, keyed by asset, with headers that say what is what."""

from __future__ import annotations

from collections.abc import Coroutine, Iterator
from typing import Any

import pyarrow as pa

from streams.codecs import open_codec
from streams.kafka.address import Topic, parse_topic
from streams.kafka.client import KafkaFailure
from streams.kafka.loop import Loop
from streams.kafka.outputs import Sender
from streams.kafka.topics import ensure, partitions
from streams.marks_table import to_table
from streams.shown import shown_readings, shown_tables
from streams.uri import Uri, nearest
from twin_engine.errors import InputError, SinkError
from twin_engine.records import Position, Update, event_line

Message = tuple[str, bytes, str, str]  # asset, value, output, codec


def open_kafka_sink(uri: Uri, show: tuple[str, ...]) -> KafkaSink:
    """Open ``kafka://USER@HOST:9092/TOPIC?outputs=yes&events=yes&codec=arrow``, or ``kafkas:``; see docs/reference/addresses.md.

    outputs: ``yes``, ``no``, or which of the shown ones. codec: of samples; tables (veto segments, triggers) are Arrow. partitions,
    replication: make the topic with so many where it is not there. Raises SinkError.
    """
    topic = parse_topic(uri, "outputs", "events", "codec", "partitions", "replication")
    asked = uri.names("outputs")
    chosen = show if asked in {(), ("yes",)} else () if asked == ("no",) else asked
    for name in set(chosen) - set(show):
        mend = nearest(name, [*show, "yes", "no"])
        raise SinkError(f"option 'outputs' of {topic.place}", expected="outputs that the twin shows", found=name, mend=mend)
    events = uri.choice("events", ("yes", "no"), "yes") == "yes"
    try:
        codec = open_codec(uri.options.get("codec", "arrow"), "{asset}")
    except InputError as error:
        raise SinkError(f"{error.place} of {topic.place}", expected=error.expected, found=error.found, mend=error.mend) from None
    count, replication = (int(uri.number(name, default)) for name, default in (("partitions", 0), ("replication", 1)))
    return KafkaSink(topic, chosen, codec, uri.options.get("codec", "arrow"), events=events, make=(count, replication))


class KafkaSink:
    """Produces as it is written to, in the order of each asset; flush waits until every replica in sync has all.

    It cannot overwrite: after a crash an event may come twice, with the same id and revision, and so may samples, with the same times.
    """

    def __init__(self, topic: Topic, show: tuple[str, ...], codec: Any, name: str, *, events: bool, make: tuple[int, int]) -> None:
        self._topic, self._show, self._codec, self._name, self._events, self._make = topic, show, codec, name, events, make
        self._loop: Loop | None = None
        self._sender: Sender | None = None

    def open(self, position: Position) -> None:
        """Connect; raises SinkError where the cluster is down or refuses, or has no such topic."""
        del position
        self._drop()
        self._loop, self._sender = Loop(), Sender(self._topic.kafka)
        try:
            self._call(self._open(self._sender))
        except SinkError:
            self._drop()
            raise

    async def _open(self, sender: Sender) -> None:
        topic = self._topic
        if not await partitions(topic.kafka, topic.name):
            count, replication = self._make
            if not count:
                mend = "Create it, or add partitions=4 to the address."
                raise SinkError(topic.place, expected="a topic that is there", found="none", mend=mend)
            await ensure(topic.kafka, {topic.name: {}}, count, replication)
        await sender.open()

    def write(self, update: Update) -> None:
        """Send an update's events and shown outputs; waits only while many are on the way. Raises SinkError."""
        if self._sender is not None and (messages := list(self._messages(update))):
            self._call(self._send(self._sender, update.twin, messages))

    def _messages(self, update: Update) -> Iterator[Message]:
        for key, reading in shown_readings(update, self._show):
            for _, raw in self._codec.encode(reading):
                yield reading.asset, raw, key, self._name
        for key, asset, spec, columns in shown_tables(update, self._show):
            yield asset, _arrow(to_table(columns, {"asset": asset, "output": key, "kind": spec.kind})), key, "arrow"
        for event in update.events if self._events else ():
            yield event.asset, event_line(event).rstrip(b"\n"), "event", "json"

    async def _send(self, sender: Sender, twin: str, messages: list[Message]) -> None:
        for asset, value, output, codec in messages:
            headers = [("twin", twin.encode()), ("output", output.encode()), ("codec", codec.encode())]
            await sender.send(self._topic.name, value, key=asset.encode(), headers=headers)
        sender.check()

    def flush(self) -> Position:
        """Wait until the cluster has everything; raises SinkError."""
        if self._sender is not None:
            self._call(self._sender.flush())

    def close(self) -> None:
        """Flush and disconnect; raises SinkError where not all arrived."""
        try:
            self.flush()
        finally:
            self._drop()

    def _drop(self) -> None:
        loop, sender, self._loop, self._sender = self._loop, self._sender, None, None
        if loop is not None and sender is not None:
            try:
                loop.call(sender.close())
            except (KafkaFailure, OSError):
                return  # flush has told what was lost
            finally:
                loop.close()

    def _call(self, work: Coroutine[Any, Any, None]) -> None:
        if self._loop is None:
            work.close()
            return
        try:
            self._loop.call(work)
        except InputError as error:
            raise SinkError(error.place, expected=error.expected, found=error.found, mend=error.mend) from None
        except (KafkaFailure, OSError) as error:
            found = f"{type(error).__name__}: {error}"
            raise SinkError(self._topic.place, expected="a cluster that takes messages", found=found, mend="Is it up?") from None


def _arrow(table: pa.Table) -> bytes:
    """Return a table as an Arrow IPC stream."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()
