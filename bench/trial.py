"""A fleet on a real Kafka whose workers are disturbed, and the verdict: what came out against one engine that was left in peace.

A worker is a process of its own, as deployed; so is the delivery into SQLite. Messages are sent at a fixed rate. At the end the workers
are told to finish, and all is compared with an engine that read the same messages: events in Kafka and SQLite by id and revision, every
value of the shown output, the final snapshots. What disturbs is a coroutine that gets the trial (see ``bench.kills``, ``bench.disturb``).
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from bench.fleet_of_one_channel import twin
from bench.trial_values import RATE, T0, Values
from streams.codecs import open_codec
from streams.kafka.client import Kafka, KafkaFailure
from streams.kafka.store import SnapshotStore
from streams.kafka.topics import Names, ensure, partition_of
from streams.update_codec import decode_update
from twin_engine.partition import Partition
from twin_engine.records import Event, Record, parse_line
from twin_engine.snapshot import unpack

ROOT = Path(__file__).parents[1]
SESSION = 6.0  # s
PASSWORD = "TRIAL_KAFKA_PASSWORD"  # noqa: S105 - the variable's name
CONFIG = """
twin = "{twin}"
app = "{app}"
assets = ["a[000-{last:03d}]"]
[kafka]
bootstrap = "{kafka.bootstrap}"
user = "{kafka.user}"
password_env = "{password}"
mechanism = "{kafka.mechanism}"
tls = {tls}
{ca}
[input]
topic = "{app}.in"
codec = "json"
partitions = {partitions}
[worker]
runtime = "{runtime}"
snapshot_every = 1
session = {session}
[sinks.db]
to = "sqlite:{folder}/events.db"
state = "{folder}/sink.json"
"""


@lru_cache(maxsize=8)
def values_of(k: int, assets: int, seed: int) -> Any:
    """Return the values of all assets at sample k, some of them far out."""
    rng = np.random.default_rng((seed, k))
    return rng.normal(size=assets) + 15 * (rng.random(assets) < 5e-4)


@dataclass
class Trial:
    """One run. poison: messages that come before those of a sample k, by k (their oracle has them too)."""

    kafka: Kafka
    folder: Path
    app: str
    runtime: str = "aiokafka"
    messages: int = 20_000
    rate: float = 2000.0
    assets: int = 100
    partitions: int = 2
    seed: int = 0
    session: float = SESSION
    patience: float = 180.0
    poison: Callable[[int], list[tuple[bytes, bytes]]] = lambda _: []
    workers: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    told: dict[str, Any] = field(default_factory=dict)  # what a disturbance reports
    memory: dict[str, list[float]] = field(default_factory=dict)  # MiB, each half second
    sink: subprocess.Popen[bytes] | None = None
    sent: int = 0
    _observer: AIOKafkaConsumer | None = None

    @property
    def steps(self) -> int:
        """Samples of each asset."""
        return self.messages // self.assets

    @property
    def inputs(self) -> list[TopicPartition]:
        """The partitions of the input."""
        return [TopicPartition(f"{self.app}.in", p) for p in range(self.partitions)]

    def outputs(self, what: str) -> list[TopicPartition]:
        """Return the partitions of an output topic."""
        return [TopicPartition(Names(self.app, twin.name).of(what), p) for p in range(self.partitions)]

    def step(self, k: int) -> list[tuple[bytes, bytes]]:
        """Return the messages of sample k: poison, then a value an asset."""
        ts = T0 + k / RATE
        values = values_of(k, self.assets, self.seed)
        return [*self.poison(k), *((b"a%03d" % a, b'{"ts": %.1f, "value": %.17g}' % (ts, v)) for a, v in enumerate(values))]

    def config(self) -> Path:
        """Write the configuration of all processes."""
        path = self.folder / "config.toml"
        ca = f'ca = "{self.kafka.ca}"' if self.kafka.ca else ""
        path.write_text(
            CONFIG.format(
                twin=ROOT / "bench" / "fleet_of_one_channel.py", app=self.app, last=self.assets - 1, kafka=self.kafka, ca=ca,
                tls=str(self.kafka.tls).lower(), password=PASSWORD, partitions=self.partitions, runtime=self.runtime,
                session=self.session, folder=self.folder,
            )
        )  # fmt: skip
        return path

    def spawn(self, *command: str, member: str = "") -> subprocess.Popen[bytes]:
        """Start a command of the engine; its log is named by its member, or by the command."""
        env = {
            **os.environ, "TWIN_ENGINE_TWINS": str(ROOT / "bench"), "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT),
            "TWIN_ENGINE__WORKER__MEMBER": member, PASSWORD: self.kafka.password,
        }  # fmt: skip
        with (self.folder / f"{member or command[0]}.log").open("ab") as log:
            return subprocess.Popen([sys.executable, "-m", "twin_engine.cli", *command], stdout=log, stderr=log, env=env, cwd=self.folder)

    def start(self, member: str) -> None:
        """Start a worker, by its name of static membership."""
        self.workers[member] = self.spawn("worker", str(self.folder / "config.toml"), member=member)

    async def end(self, member: str, number: int = signal.SIGTERM) -> int:
        """End a worker and return how it ended."""
        process = self.workers.pop(member)
        process.send_signal(number)
        try:
            return await asyncio.to_thread(process.wait, 90)
        finally:
            process.kill()

    def takeovers(self, member: str) -> int:
        """Return how many partitions a worker has taken over, all its processes together."""
        path = self.folder / f"{member}.log"
        return path.read_text().count(", from offset ") if path.exists() else 0

    async def joined(self, member: str, had: int) -> None:
        """Wait until a worker has taken over a partition since it had taken over so many: from then on it ends in order."""

        async def more() -> bool:
            return self.takeovers(member) > had

        await self.until(f"{member} has taken a partition over", more)

    def log(self) -> str:
        """Return everything that was logged."""
        return "\n".join(path.read_text() for path in sorted(self.folder.glob("*.log")))

    async def run(self, disturb: Callable[[Trial], Awaitable[None]], *, members: tuple[str, ...] = ("w0",)) -> dict[str, Any]:
        """Do it all and return the verdict."""
        config = str(self.config())
        for member in members:
            self.start(member)
        watch = asyncio.create_task(self._watch())
        try:
            await self._ready()
            self.sink = sink = self.spawn("sink", config, "db")
            sending = asyncio.create_task(self._send())
            await asyncio.gather(sending, disturb(self))
            await self.until("the workers catch up", self._no_lag)
            codes = [await self.end(member) for member in list(self.workers)]
            told = [parse_line(message.value) async for message in self.messages_of("events")]
            events = {(e.id, e.revision) for e in told}
            with suppress(RuntimeError):  # the verdict says what is missing
                await self.until("the sink has everything", lambda: asyncio.to_thread(lambda: events <= set(self._in_sqlite())))
            sink.send_signal(signal.SIGTERM)
            codes.append(await asyncio.to_thread(sink.wait, 90))
            return {"exit_codes": codes, **self.told, "memory_mb": self.most(), **await self._verdict(told)}
        finally:
            watch.cancel()
            for process in [*self.workers.values(), *([self.sink] if self.sink else [])]:
                process.kill()
                process.wait()
            if self._observer is not None:
                await self._observer.stop()

    def most(self) -> dict[str, int]:
        """Return the most memory that each process had, in MiB."""
        return {name: round(max(sizes)) for name, sizes in self.memory.items()}

    async def _watch(self) -> None:
        while True:
            for name, process in [*self.workers.items(), *([("sink", self.sink)] if self.sink else [])]:
                with suppress(psutil.Error):
                    self.memory.setdefault(name, []).append(psutil.Process(process.pid).memory_info().rss / 2**20)
            await asyncio.sleep(0.5)

    async def until(self, what: str, true: Callable[[], Awaitable[bool]], seconds: float | None = None) -> None:
        """Wait for something; raises RuntimeError, with the end of the logs."""
        end = time.monotonic() + (seconds or self.patience)
        while not await true():
            if time.monotonic() > end or any(w.poll() is not None for w in self.workers.values()):
                raise RuntimeError(f"waited in vain until {what}: {self.log()[-4000:]}")
            await asyncio.sleep(0.1)

    async def _ready(self) -> None:
        """Wait until a worker has made its topics."""
        self._observer = AIOKafkaConsumer(**self.kafka.options(), group_id=self.app, enable_auto_commit=False)
        await self._observer.start()
        wanted = {self.outputs(what)[0].topic for what in ("dead", "updates", "snapshots", "events")} | {f"{self.app}.in"}

        async def there() -> bool:
            return self._observer is not None and wanted <= await self._observer.topics()

        await self.until("a worker has made its topics", there)

    async def _send(self) -> None:
        """Send everything at the rate: a batch a partition for each sample."""
        producer = AIOKafkaProducer(
            **self.kafka.options(), enable_idempotence=True, max_batch_size=1 << 20, max_request_size=2 << 20, request_timeout_ms=600_000
        )
        await producer.start()
        due, k = time.monotonic(), 0
        places = {b"a%03d" % a: partition_of(f"a{a:03d}", self.partitions) for a in range(self.assets)}
        try:
            while k < self.steps:
                batches = [producer.create_batch() for _ in range(self.partitions)]
                for key, value in self.step(k):
                    place = places.get(key) or partition_of(key.decode(), self.partitions)
                    if batches[place].append(key=key, value=value, timestamp=None) is None:
                        raise RuntimeError("a batch is too small")
                for partition, batch in enumerate(batches):
                    if batch.record_count():
                        await producer.send_batch(batch, f"{self.app}.in", partition=partition)
                k += 1
                self.sent, due = k * self.assets, due + self.assets / self.rate
                await asyncio.sleep(max(0.0, due - time.monotonic()))
            await producer.flush()
        finally:
            await producer.stop()

    async def fill(self, topic: str) -> tuple[str, int]:
        """Make a topic of one partition with all messages in it; return it and how many there are."""
        await ensure(self.kafka, {topic: {}}, 1)
        producer = AIOKafkaProducer(**self.kafka.options(), max_batch_size=1 << 20, max_request_size=2 << 20)
        await producer.start()
        n = 0
        try:
            for k in range(self.steps):
                batch = producer.create_batch()
                for key, value in self.step(k):
                    batch.append(key=key, value=value, timestamp=None)
                n += batch.record_count()
                await producer.send_batch(batch, topic, partition=0)
            await producer.flush()
        finally:
            await producer.stop()
        return topic, n

    async def same_as(self, other: Trial) -> bool:
        """Whether this trial's messages give, undisturbed, the events and values of another's."""
        found: list[Any] = []
        for trial in (self, other):
            events, values = {}, Values(trial.assets, trial.steps)
            for p in range(self.partitions):
                trial.undisturbed(p, events, values)
            found.append((events, values))
        (mine, here), (theirs, there) = found
        return mine == theirs and here.other(there) == 0 and bool((here.there == there.there).all())

    async def ends(self, places: list[TopicPartition]) -> int:
        """Return the sum of the partitions' ends; -1 while the brokers do not answer."""
        try:
            return sum((await self._observer.end_offsets(places)).values()) if self._observer else -1
        except KafkaFailure:
            return -1

    async def lag(self) -> int:
        """Return the records that no snapshot has; -1 while the brokers do not answer."""
        ends = await self.ends(self.inputs)
        try:
            return -1 if ends < 0 or self._observer is None else ends - sum([await self._observer.committed(p) or 0 for p in self.inputs])
        except KafkaFailure:
            return -1

    async def _no_lag(self) -> bool:
        return await self.lag() == 0

    def _in_sqlite(self) -> list[tuple[str, int]]:
        if not (self.folder / "events.db").exists():
            return []
        database = sqlite3.connect(f"file:{self.folder}/events.db?mode=ro", uri=True)
        try:
            return database.execute("SELECT id, revision FROM events").fetchall()
        except sqlite3.OperationalError:
            return []
        finally:
            database.close()

    async def messages_of(self, what: str) -> AsyncIterator[Any]:
        """Yield all messages of an output topic."""
        places = self.outputs(what)
        reader = AIOKafkaConsumer(
            **self.kafka.options(), auto_offset_reset="earliest", enable_auto_commit=False, max_partition_fetch_bytes=8 << 20,
            fetch_max_wait_ms=10,
        )  # fmt: skip
        await reader.start()
        try:
            reader.assign(places)
            await reader.seek_to_beginning(*places)
            ends = await reader.end_offsets(places)
            while any([await reader.position(p) < ends[p] for p in places]):
                for got in (await reader.getmany(timeout_ms=200)).values():
                    for message in got:
                        yield message
        finally:
            await reader.stop()

    async def _verdict(self, told: list[Event]) -> dict[str, Any]:
        """Compare what came out with one engine that was not disturbed."""
        oracle, events, values = [], {}, Values(self.assets, self.steps)
        for p in range(self.partitions):
            part = self.undisturbed(p, events, values)
            oracle.append(part)
        given = Values(self.assets, self.steps)
        async for message in self.messages_of("updates"):
            given.put(decode_update(message.value))
        db = self._in_sqlite()
        same = [await self._same_snapshot(p, part) for p, part in enumerate(oracle)]
        newest: dict[str, int] = {}
        for e in told:
            newest[e.id] = max(e.revision, newest.get(e.id, -1))
        return {
            "events": len(events), "lost": sum(newest.get(name, -1) < revision for name, revision in events),  # the topic is compacted
            "foreign": sum((e.id, e.revision) not in events or events[e.id, e.revision] != e for e in told),
            "sink_lost": len(events.keys() - set(db)), "sink_duplicated": len(db) - len(set(db)),
            "sink_foreign": len(set(db) - events.keys()),
            "values": int(values.there.sum()), "values_lost": int((values.there & ~given.there).sum()),
            "values_wrong": given.other(values), "snapshots_equal": all(same),
        }  # fmt: skip

    def _records(self, partition: int) -> Iterator[Record]:
        offset = 0
        for k in range(self.steps):
            for key, value in self.step(k):
                if partition_of(key.decode(), self.partitions) == partition:
                    yield Record(value, key.decode(), f"{self.app}.in", offset, (T0 + k) * 10**9)
                    offset += 1

    def undisturbed(self, partition: int, events: dict[Any, Any], values: Values) -> Partition:
        """Return an engine that has read a partition; put its events and values into what is given."""
        assets = [f"a{a:03d}" for a in range(self.assets) if partition_of(f"a{a:03d}", self.partitions) == partition]
        part = Partition(twin, assets, open_codec("json", "{asset}"), None, partition, self.partitions)
        batch: list[Record] = []

        def step() -> None:
            for update in part.take(batch).updates:
                events.update({(e.id, e.revision): e for e in update.events})
                values.put(update)
            batch.clear()

        for record in self._records(partition):
            batch.append(record)
            if len(batch) == 5000:
                step()
        step()
        return part

    async def _same_snapshot(self, number: int, undisturbed: Partition) -> bool:
        names = Names(self.app, twin.name)
        store = SnapshotStore(self.kafka, names.of("snapshots"), "reader", number, group="reader", source=f"{self.app}.in")
        try:
            found = await store.open()
        finally:
            await store.close()
        if found is None:
            return False
        a, b = unpack(found[1], "Kafka"), unpack(undisturbed.pack(), "memory")
        said = [_without_wall_clock(x.document) for x in (a, b)]
        arrays = a.arrays.keys() == b.arrays.keys() and all(np.array_equal(a.arrays[k], b.arrays[k], equal_nan=True) for k in a.arrays)
        if said[0] != said[1]:
            (self.folder / "snapshots.json").write_text(json.dumps(said, default=str))
        return arrays and said[0] == said[1]


def _without_wall_clock(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return a snapshot's document without the broker's times."""
    align = {asset: {k: v for k, v in d.items() if k not in {"newest_arrival", "progress"}} for asset, d in document["align"].items()}
    return {**document, "align": align}
