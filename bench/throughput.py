"""What a message costs, and how many a second go through: ``python -m bench.throughput [--messages N] [--assets A]``.

N messages of one sample (JSON, keyed by asset) lie in one partition of a real Kafka. They are read by the bare client, which does nothing
with them, and by a worker with the twin of the ladder, outputs to Kafka included: aiokafka, then Faust, in the same run. Prints
one JSON line: messages a second of wall clock, and CPU microseconds a message, of each, and the engine's own (the difference).
``--frame`` samples a message, as Arrow, give the samples a second. KAFKA_BOOTSTRAP says where the broker is.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import time
from collections.abc import Iterable
from typing import Any

import numpy as np
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from bench.ladder_twins import five
from streams.codecs import open_codec
from streams.kafka.client import Kafka
from streams.kafka.faust_runtime import FaustRuntime
from streams.kafka.runtime import AiokafkaRuntime
from streams.kafka.topics import ensure
from twin_engine.records import Reading
from twin_engine.worker import Worker, WorkerConfig

RATE, FIRST = 5, 1_700_000_000 * 5


def messages(n: int, assets: int, frame: int) -> Iterable[tuple[bytes, bytes]]:
    codec = open_codec("arrow", "{asset}")
    for k in range(-(-n // assets)):
        for a in range(min(assets, n - k * assets)):
            if frame == 1:
                yield b"a%04d" % a, b'{"ts":%.3f,"value":%.4f}' % ((FIRST + k) / RATE, 1.0 + 0.001 * (a % 7) + 0.01 * (k % 3))
            else:
                index = FIRST + k * frame + np.arange(frame)
                reading = Reading(f"a{a:04d}", ("value",), index * (10**9 // RATE), np.sin(index)[None])
                [(_, raw)] = codec.encode(reading)
                yield b"a%04d" % a, raw


async def fill(bootstrap: str, topic: str, n: int, assets: int, frame: int) -> None:
    await ensure(Kafka(bootstrap), {topic: {}}, 1)
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, max_batch_size=1 << 19)
    await producer.start()
    batch = producer.create_batch()
    for key, value in messages(n, assets, frame):
        if batch.append(key=key, value=value, timestamp=None) is None:
            await (await producer.send_batch(batch, topic, partition=0))
            batch = producer.create_batch()
            batch.append(key=key, value=value, timestamp=None)
    await (await producer.send_batch(batch, topic, partition=0))
    await producer.stop()


async def bare(bootstrap: str, topic: str, n: int) -> tuple[float, float]:
    """Read everything and do nothing; return seconds and CPU seconds."""
    consumer = AIOKafkaConsumer(topic, bootstrap_servers=bootstrap, auto_offset_reset="earliest", max_partition_fetch_bytes=8 << 20)
    await consumer.start()
    begin, cpu, seen = time.perf_counter(), time.process_time(), 0
    while seen < n:
        seen += sum(map(len, (await consumer.getmany(timeout_ms=100, max_records=5000)).values()))
    took = time.perf_counter() - begin, time.process_time() - cpu
    await consumer.stop()
    return took


async def bare_faust(bootstrap: str, topic: str, n: int) -> tuple[float, float]:
    """The same in a Faust agent, through the runtime with a handler that does nothing."""
    handler = _Nothing(n)
    runtime = FaustRuntime(Kafka(bootstrap), topic, f"bare-{time.time_ns()}")
    handler.stop = runtime.stop
    await runtime.run(handler)
    return handler.took


class _Nothing:
    def __init__(self, n: int) -> None:
        self.left, self.begin, self.cpu, self.took, self.stop = n, 0.0, 0.0, (0.0, 0.0), print

    async def assigned(self, partitions: Any) -> dict[int, int]:
        self.begin, self.cpu = time.perf_counter(), time.process_time()
        return dict.fromkeys(partitions, 0)

    async def revoked(self, partitions: Any) -> None: ...

    async def tick(self) -> None: ...

    async def take(self, partition: int, records: Any, behind: int) -> None:  # noqa: ARG002 - the protocol
        self.left -= len(records)
        if self.left <= 0 and not self.took[0]:
            self.took = time.perf_counter() - self.begin, time.process_time() - self.cpu
            self.stop()


async def ours(bootstrap: str, topic: str, n: int, assets: int, kind: Any, codec: str) -> tuple[float, float]:
    """Read everything with a worker; return seconds and CPU seconds from its first record on."""
    app = f"throughput-{time.time_ns()}"
    config = WorkerConfig(app, topic, [f"a{a:04d}" for a in range(assets)], codec, snapshot_every=10)
    worker = Worker(five, Kafka(bootstrap), config, lambda: kind(Kafka(bootstrap), topic, app))
    task = asyncio.create_task(worker.run())
    while not worker.stats.records:
        await asyncio.sleep(0.005)
    begin, cpu, had = time.perf_counter(), time.process_time(), worker.stats.records
    while worker.stats.records < n:
        await asyncio.sleep(0.02)
        if task.done():
            await task
    took, used = time.perf_counter() - begin, time.process_time() - cpu
    worker.stop()
    await task
    return took * n / (n - had), used * n / (n - had)


async def measure(n: int, assets: int, frame: int) -> dict[str, Any]:
    bootstrap, topic = os.environ["KAFKA_BOOTSTRAP"], f"throughput-{time.time_ns()}"
    await fill(bootstrap, topic, n, assets, frame)
    codec = "json" if frame == 1 else "arrow"
    await ours(bootstrap, topic, n, assets, AiokafkaRuntime, codec)  # compiles
    found: dict[str, Any] = {"name": "throughput", "messages": n, "assets": assets, "samples_a_message": frame}
    for name, client, kind in (("aiokafka", bare, AiokafkaRuntime), ("faust", bare_faust, FaustRuntime)):
        theirs, mine = await client(bootstrap, topic, n), await ours(bootstrap, topic, n, assets, kind, codec)
        found |= {
            f"{name}_bare_per_s": round(n / theirs[0]), f"{name}_bare_cpu_us": round(theirs[1] / n * 1e6, 2),
            f"{name}_engine_per_s": round(n / mine[0]), f"{name}_engine_cpu_us": round(mine[1] / n * 1e6, 2),
            f"{name}_samples_per_s": round(n * frame / mine[0]), f"{name}_own_cpu_us": round((mine[1] - theirs[1]) / n * 1e6, 2),
        }  # fmt: skip
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--messages", type=int, default=200_000)
    parser.add_argument("--assets", type=int, default=5000)
    parser.add_argument("--frame", type=int, default=1)
    parser.add_argument("--data", help="not used")
    given = parser.parse_args()
    print(json.dumps(asyncio.run(measure(given.messages, given.assets, given.frame))))


if __name__ == "__main__":
    main()
