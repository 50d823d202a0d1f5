"""InfluxDB killed for minutes, some lines refused: ``python -m bench.influx_outage [--minutes 10] [--over spool|kafka]``.

A server of its own is started. 1,000 assets give 2 values a second each; each second brings two events, one of them with a time that the
server will never take; all goes through the sink behind its spool, as a run does it, or (``kafka``) through a topic of updates and a
delivery, as a service does. Prints one JSON line: lines lost and refused, seconds from the restart until nothing is behind, the spool's
largest size, and how far this process's memory grew. KAFKA_BOOTSTRAP says where Kafka is.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import tempfile
import time
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from aiokafka import AIOKafkaProducer

from compose.services import Server, start
from streams import open_sink
from streams.kafka.client import Kafka
from streams.kafka.topics import LARGEST, ensure
from streams.kafka.updates import Updates
from streams.spool import Spool
from streams.update_codec import encode_update
from tests.influx_server import Influx
from twin_engine.clock import NS, time_of
from twin_engine.delivery import Delivery
from twin_engine.ports import Block, BlockSpec
from twin_engine.records import Event, Update

ASSETS, RATE, BEFORE, AFTER = 1000, Fraction(2), 10.0, 10.0
NAMES = [f"asset-{i:04d}" for i in range(ASSETS)]
SPECS = {"odd.score": BlockSpec(RATE, ("value",))}
NEVER = 2**63 - 1
SHOW = ("odd",)


def update(k: int) -> Update:
    values = np.random.default_rng(k).normal(size=(ASSETS, 1, 1))
    block = Block(values, np.ones(values.shape, bool), np.arange(ASSETS), np.full(ASSETS, k))
    at = int(time_of(k, RATE))
    events = [
        Event(
            id=f"{k}-{start}", twin="outage", asset=NAMES[k % ASSETS], stage="alarm", kind="departure", severity="warning",
            start=start, peak=at, end=at, score=1.0, p_value=0.1, channels={"value": 1.0},
        )
        for start in (at, NEVER)
        if k % int(RATE) == 0
    ]  # fmt: skip
    return Update("outage", NAMES, {"odd.score": block}, SPECS, events, at + NS // int(RATE), time.time_ns())


class BySpool:
    """The sink behind its spool."""

    def __init__(self, uri: str, folder: Path) -> None:
        self._folder = folder / "spool"
        self._spool = Spool(open_sink(uri, show=SHOW), self._folder, show=SHOW)
        self._spool.open(None)

    async def begin(self) -> None: ...

    async def write(self, update: Update) -> None:
        self._spool.write(update)

    async def second(self) -> None:
        """Do what a run does at each checkpoint."""
        self._spool.flush()

    @property
    def behind(self) -> bool:
        return self._spool.down

    @property
    def kept(self) -> int:
        return sum(path.stat().st_size for path in self._folder.glob("*"))

    async def end(self) -> None:
        self._spool.flush()
        self._spool.close()


class ByKafka:
    """A topic of updates, and a delivery."""

    kept = 0

    def __init__(self, uri: str, folder: Path) -> None:
        del folder
        self._kafka, self._topic = Kafka(os.environ["KAFKA_BOOTSTRAP"]), f"outage-{time.time_ns()}"
        self._delivery = Delivery(Updates(self._kafka, self._topic, f"{self._topic}.sink"), open_sink(uri, show=SHOW))
        self._producer: Any = None
        self._sent = 0

    async def begin(self) -> None:
        await ensure(self._kafka, {self._topic: {"max.message.bytes": str(LARGEST)}}, 1)
        self._producer = AIOKafkaProducer(**self._kafka.options(), max_request_size=LARGEST)
        await self._producer.start()
        self._task = asyncio.create_task(self._delivery.run())

    async def write(self, update: Update) -> None:
        await self._producer.send_and_wait(self._topic, encode_update(update, SHOW), partition=0)
        self._sent += 1
        if self._task.done():
            await self._task

    async def second(self) -> None: ...

    @property
    def behind(self) -> bool:
        return self._delivery.stats.updates < self._sent

    async def end(self) -> None:
        while self.behind and not self._task.done():
            await asyncio.sleep(0.05)
        self._delivery.stop()
        await self._task
        await self._producer.stop()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--over", choices=["spool", "kafka"], default="spool")
    parser.add_argument("--data", help="not used")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, start("influx", Path(folder) / "influx") as server:
        result = asyncio.run(outage(server, Path(folder), 60 * given.minutes, given.over))
    print(json.dumps(result))


async def outage(server: Server, folder: Path, down: float, over: str) -> dict[str, object]:
    """Return what came of a server that was down for so many seconds."""
    at = Influx(*server.env.values())
    os.environ["INFLUX_TOKEN"] = at.token
    uri = f"influx:{at.url}/{at.bucket}?org={at.org}&refused={folder}/refused.jsonl"
    way = (BySpool if over == "spool" else ByKafka)(uri, folder)
    await way.begin()
    process, first = psutil.Process(), int(time.time() * RATE)
    begin = time.perf_counter()
    restart = back = 0.0
    kept = 0
    memory: list[float] = []
    k = 0
    while not back or time.perf_counter() - begin < BEFORE + down + AFTER:
        await asyncio.sleep(max(0.0, begin + k / float(RATE) - time.perf_counter()))
        now = time.perf_counter() - begin
        if server.alive and not restart and now >= BEFORE:
            server.kill()
        elif not server.alive and now >= BEFORE + down:
            await asyncio.to_thread(server.run)
            restart = time.perf_counter() - begin
        await way.write(update(first + k))
        k += 1
        if k % RATE == 0:
            await way.second()
        memory.append(process.memory_info().rss / 2**20)
        kept = max(kept, way.kept)
        if restart and not back and now - k / float(RATE) < 1:
            await asyncio.sleep(0.1)  # for what was just written
            back = 0.0 if way.behind else time.perf_counter() - begin
    await way.end()
    count = 'from(bucket: "{}") |> range(start: 0) |> filter(fn: (r) => r._field == "{}") |> group() |> count()'
    values, events = (int(at.query(count.format(at.bucket, field))[0]["_value"]) for field in ("value", "id"))
    wanted = sum(update(first + i).events != [] for i in range(k))
    refused = len((folder / "refused.jsonl").read_text().splitlines())
    return {
        "name": "influx_outage", "over": over, "down_s": down, "lines": k * ASSETS + 2 * wanted,
        "lost": k * ASSETS - values + wanted - events, "refused": refused, "refused_expected": wanted,
        "drained_s": round(back - restart, 1), "spool_mb": round(kept / 2**20, 1),
        "memory_growth_mb": round(max(memory) - max(memory[: int(BEFORE * RATE)]), 1),
    }  # fmt: skip


if __name__ == "__main__":
    main()
