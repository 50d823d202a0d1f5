"""kill -9 of a worker while messages stream: ``python -m bench.kills [--messages N] [--kills K] [--rate R] [--runtime aiokafka|faust]``.

A worker (its own process, static membership) takes messages of a fleet at a fixed rate from a real Kafka and is killed at random moments,
each after at least one snapshot since the last; a sink process delivers to SQLite. At the end the worker is told to finish. Then all is
compared with one engine that read the same messages undisturbed: events in Kafka and in SQLite by id and revision, every value of the
shown output, the final snapshots. Prints one JSON line. KAFKA_BOOTSTRAP says where the broker is (``make services``). Parts of a long
run are runs of their own: their lines are to be added.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from bench.fleet_of_one_channel import twin
from streams.codecs import open_codec
from streams.kafka.client import Kafka
from streams.kafka.store import SnapshotStore
from streams.kafka.topics import Names, partition_of
from streams.update_codec import decode_update
from twin_engine.partition import Partition
from twin_engine.records import Record, parse_line
from twin_engine.snapshot import unpack

ROOT = Path(__file__).parents[1]
T0 = 1_700_000_000  # s
CONFIG = """
twin = "{twin}"
app = "{app}"
assets = ["a[000-{last:03d}]"]
[kafka]
bootstrap = "{bootstrap}"
[input]
topic = "{app}.in"
codec = "json"
partitions = {partitions}
[worker]
runtime = "{runtime}"
member = "w0"
snapshot_every = 1
[sinks.db]
to = "sqlite:{folder}/events.db"
state = "{folder}/sink.json"
"""


@dataclass
class Trial:
    """One run: a fleet, its messages and what disturbs the worker."""

    bootstrap: str
    folder: Path
    app: str
    runtime: str = "aiokafka"
    messages: int = 20_000
    kills: int = 2
    rate: float = 2000.0
    assets: int = 100
    partitions: int = 2
    seed: int = 0
    values: dict[str, list[tuple[bytes, bytes]]] = field(default_factory=dict)
    first_output: list[float] = field(default_factory=list)  # seconds from a kill to the next snapshot

    @property
    def kafka(self) -> Kafka:
        """The cluster."""
        return Kafka(self.bootstrap)

    def message(self, n: int) -> tuple[bytes, bytes]:
        """Return key and value of message n: a value an asset and half second, some of them far out."""
        k, a = divmod(n, self.assets)
        rng = random.Random(n * 7919 + self.seed)
        value = rng.gauss(0, 1) + (15 if rng.random() < 5e-4 else 0)
        return b"a%03d" % a, json.dumps({"ts": T0 + k / 2, "value": value}).encode()

    def config(self) -> Path:
        """Write the configuration of both processes."""
        path = self.folder / "config.toml"
        text = CONFIG.format(
            twin=ROOT / "bench" / "fleet_of_one_channel.py", app=self.app, last=self.assets - 1, bootstrap=self.bootstrap,
            partitions=self.partitions, runtime=self.runtime, folder=self.folder,
        )  # fmt: skip
        path.write_text(text)
        return path

    def spawn(self, *command: str) -> subprocess.Popen[bytes]:
        """Start a command of the engine."""
        env = {**os.environ, "TWIN_ENGINE_TWINS": str(ROOT / "bench"), "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
        with (self.folder / f"{command[0]}.log").open("ab") as log:
            return subprocess.Popen([sys.executable, "-m", "twin_engine.cli", *command], stdout=log, stderr=log, env=env, cwd=self.folder)

    async def run(self) -> dict[str, Any]:
        """Do it all and return the verdict."""
        config = str(self.config())
        worker = self.spawn("worker", config)
        await self._ready(worker)
        sink = self.spawn("sink", config, "db")
        try:
            worker = await self._stream(worker, config)
            await self._caught_up(worker)
            worker.send_signal(signal.SIGTERM)
            code = await asyncio.to_thread(worker.wait, 60)
            lines = await self._read("events")
            await self._delivered(len({(e.id, e.revision) for e in map(parse_line, lines)}))
            sink.send_signal(signal.SIGTERM)
            codes = code, await asyncio.to_thread(sink.wait, 60)
        finally:
            for process in (worker, sink):
                if process.poll() is None:
                    process.kill()
                    process.wait()
        return {"exit_codes": codes, **await self._verdict(lines)}

    async def _ready(self, worker: subprocess.Popen[bytes]) -> None:
        """Wait until the worker has made its topics."""
        reader = AIOKafkaConsumer(bootstrap_servers=self.bootstrap)
        await reader.start()
        try:
            until = time.monotonic() + 60
            while Names(self.app, twin.name).of("dead") not in await reader.topics():
                if worker.poll() is not None or time.monotonic() > until:
                    raise RuntimeError((self.folder / "worker.log").read_text()[-2000:])
                await asyncio.sleep(0.1)
        finally:
            await reader.stop()

    async def _stream(self, worker: subprocess.Popen[bytes], config: str) -> subprocess.Popen[bytes]:
        """Send everything at the rate, kill at random moments; return the worker that lives at the end."""
        producer = AIOKafkaProducer(bootstrap_servers=self.bootstrap, enable_idempotence=True, linger_ms=5)
        await producer.start()
        rng, begin = random.Random(self.seed), time.monotonic()
        span = self.messages / self.rate
        moments = sorted(rng.uniform(0.05, 0.95) * span for _ in range(self.kills))
        killed_at, seen = begin, await self._snapshots()
        try:
            for n in range(self.messages):
                key, value = self.message(n)
                await producer.send(f"{self.app}.in", value, key=key, partition=partition_of(key.decode(), self.partitions))
                if n % self.assets == 0:
                    await asyncio.sleep(max(0.0, begin + n / self.rate - time.monotonic()))
                    if moments and time.monotonic() - begin > moments[0] and (now := await self._snapshots()) > seen:
                        self.first_output.append(round(time.monotonic() - killed_at, 2))
                        moments.pop(0)
                        worker.kill()
                        await asyncio.to_thread(worker.wait)
                        killed_at, seen = time.monotonic(), now
                        worker = self.spawn("worker", config)
            while moments:  # those that waited for a snapshot
                await asyncio.sleep(0.2)
                if (now := await self._snapshots()) > seen or await self._lag() == 0:
                    moments.pop(0)
                    worker.kill()
                    await asyncio.to_thread(worker.wait)
                    seen, worker = now, self.spawn("worker", config)
            await producer.flush()
        finally:
            await producer.stop()
        return worker

    async def _snapshots(self) -> int:
        """Return the end of the snapshots' topic, over all partitions."""
        places = [TopicPartition(Names(self.app, twin.name).of("snapshots"), p) for p in range(self.partitions)]
        reader = AIOKafkaConsumer(bootstrap_servers=self.bootstrap)
        await reader.start()
        try:
            return sum((await reader.end_offsets(places)).values())
        finally:
            await reader.stop()

    async def _lag(self) -> int:
        """Return the records that no snapshot has."""
        places = [TopicPartition(f"{self.app}.in", p) for p in range(self.partitions)]
        reader = AIOKafkaConsumer(bootstrap_servers=self.bootstrap, group_id=self.app, enable_auto_commit=False)
        await reader.start()
        try:
            ends = await reader.end_offsets(places)
            return sum([ends[p] - (await reader.committed(p) or 0) for p in places])
        finally:
            await reader.stop()

    async def _caught_up(self, worker: subprocess.Popen[bytes]) -> None:
        until = time.monotonic() + 120
        while await self._lag():
            if worker.poll() is not None or time.monotonic() > until:
                raise RuntimeError("the worker does not catch up: " + (self.folder / "worker.log").read_text()[-2000:])
            await asyncio.sleep(0.2)

    async def _delivered(self, events: int) -> None:
        until = time.monotonic() + 60
        while time.monotonic() < until:
            if (self.folder / "events.db").exists() and len(self._in_sqlite()) >= events:
                return
            await asyncio.sleep(0.2)

    def _in_sqlite(self) -> list[tuple[str, int]]:
        database = sqlite3.connect(f"file:{self.folder}/events.db?mode=ro", uri=True)
        try:
            return database.execute("SELECT id, revision FROM events").fetchall()
        except sqlite3.OperationalError:
            return []
        finally:
            database.close()

    async def _read(self, what: str) -> list[bytes]:
        """Return all messages of an output topic."""
        topic = Names(self.app, twin.name).of(what)
        places = [TopicPartition(topic, p) for p in range(self.partitions)]
        reader = AIOKafkaConsumer(bootstrap_servers=self.bootstrap, auto_offset_reset="earliest", enable_auto_commit=False)
        await reader.start()
        found: list[bytes] = []
        try:
            reader.assign(places)
            await reader.seek_to_beginning(*places)
            ends = await reader.end_offsets(places)
            while any([await reader.position(p) < ends[p] for p in places]):
                found += [m.value for got in (await reader.getmany(timeout_ms=200)).values() for m in got]
        finally:
            await reader.stop()
        return found

    async def _verdict(self, lines: list[bytes]) -> dict[str, Any]:
        """Compare what came out with one engine that was not disturbed."""
        oracle = [self._undisturbed(p) for p in range(self.partitions)]
        events = {(e.id, e.revision): e for _, es, _ in oracle for e in es}
        told = [parse_line(line) for line in lines]
        values = {k: v for _, _, vs in oracle for k, v in vs.items()}
        given: dict[tuple[str, int], set[tuple[float, bool]]] = {}
        for data in await self._read("updates"):
            for key, value in _values(decode_update(data)):
                given.setdefault(key, set()).add(value)
        db = self._in_sqlite()
        same = [await self._same_snapshot(p, part) for p, (part, _, _) in enumerate(oracle)]
        return {
            "events": len(events), "lost": len(events.keys() - {(e.id, e.revision) for e in told}),
            "foreign": sum((e.id, e.revision) not in events or events[e.id, e.revision] != e for e in told),
            "sink_lost": len(events.keys() - set(db)), "sink_duplicated": len(db) - len(set(db)),
            "sink_foreign": len(set(db) - events.keys()),
            "values": len(values), "values_lost": len(values.keys() - given.keys()),
            "values_wrong": sum(given[k] != {values.get(k)} for k in given), "snapshots_equal": all(same),
        }  # fmt: skip

    def _undisturbed(self, partition: int) -> tuple[Partition, list[Any], dict[tuple[str, int], tuple[float, bool]]]:
        assets = [f"a{a:03d}" for a in range(self.assets) if partition_of(f"a{a:03d}", self.partitions) == partition]
        part = Partition(twin, assets, open_codec("json", "{asset}"), None, partition, self.partitions)
        records, offset = [], 0
        for n in range(self.messages):
            key, value = self.message(n)
            if partition_of(key.decode(), self.partitions) == partition:
                records.append(Record(value, key.decode(), f"{self.app}.in", offset, (T0 + n) * 10**9))
                offset += 1
        events: list[Any] = []
        values: dict[tuple[str, int], tuple[float, bool]] = {}
        for i in range(0, len(records), 5000):
            for update in part.take(records[i : i + 5000]).updates:
                events += update.events
                values.update(_values(update))
        return part, events, values

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
        return arrays and said[0] == said[1]


def _without_wall_clock(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return a snapshot's document without the broker's times."""
    align = {asset: {k: v for k, v in d.items() if k not in {"newest_arrival", "progress"}} for asset, d in document["align"].items()}
    return {**document, "align": align}


def _values(update: Any) -> list[tuple[tuple[str, int], tuple[float, bool]]]:
    """Return ((asset, sample index), (value, valid)) of the shown block."""
    key = next(k for k in update.outputs if k.startswith("level."))
    block = update.outputs[key]
    found: list[tuple[tuple[str, int], tuple[float, bool]]] = []
    for i, row in enumerate(block.rows):
        for t in range(block.n):
            valid = bool(block.valid[i, 0, t])
            found.append(((update.assets[row], int(block.start[i]) + t), (float(block.values[i, 0, t]) if valid else 0.0, valid)))
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--messages", type=int, default=100_000)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--rate", type=float, default=1000.0)
    parser.add_argument("--runtime", default="aiokafka")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--data", help="not used")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        trial = Trial(
            os.environ["KAFKA_BOOTSTRAP"], Path(folder), f"kills-{time.time_ns()}", given.runtime, given.messages, given.kills, given.rate,
            seed=given.seed,
        )  # fmt: skip
        result = asyncio.run(trial.run())
    first = {"seconds_to_first_snapshot_after_a_kill": max(trial.first_output[1:], default=None)}
    print(json.dumps({"name": "kills", "runtime": given.runtime, "messages": given.messages, "kills": given.kills, **first, **result}))


if __name__ == "__main__":
    main()
