"""Cleaned strain and veto segments for a consumer that knows nothing of this engine: a client of Kafka and pyarrow."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from datetime import datetime
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

pytest.importorskip("aiokafka")

import aiokafka

from streams import open_sink
from streams.codecs import open_codec
from streams.history import History
from streams.kafka.client import Kafka
from streams.kafka.runtime import AiokafkaRuntime
from streams.kafka.topics import Names, ensure
from streams.kafka.updates import Updates
from tests.kafka.test_worker import until
from twin_engine import Reading, replay
from twin_engine.clock import NS, ns_to_gps, time_of
from twin_engine.delivery import Delivery
from twin_engine.engine import latest
from twin_engine.worker import Worker, WorkerConfig
from twins.interferometer import simulator, twin

PAD = NS // 4  # of the veto stage


class Search:
    """What a search pipeline makes of the topic."""

    def __init__(self) -> None:
        self.strain: dict[int, float] = {}  # by ns UTC
        self.segments: list[dict[str, Any]] = []
        self.about: dict[str, str] = {}
        self.events: list[dict[str, Any]] = []

    def take(self, message: Any) -> None:
        headers = {name: value.decode() for name, value in message.headers}
        assert message.key == b"V1"
        assert headers["twin"] == "interferometer"
        if headers["codec"] == "json":
            self.events.append(json.loads(message.value))
            return
        table = pa.ipc.open_stream(message.value).read_all()
        if headers["output"] == "clean.clean":
            self.strain.update(zip(table["time"].cast(pa.int64()).to_pylist(), table["h"].to_pylist(), strict=True))
        elif headers["output"] == "veto.segments":
            self.segments += (
                table.set_column(1, "start", table["start"].cast(pa.int64()))
                .set_column(2, "end", table["end"].cast(pa.int64()))
                .to_pylist()
            )
            self.about = {name.decode(): text.decode() for name, text in table.schema.metadata.items()}

    async def read(self, bootstrap: str, topic: str, done: Callable[[], bool]) -> None:
        consumer = aiokafka.AIOKafkaConsumer(topic, bootstrap_servers=bootstrap, auto_offset_reset="earliest")
        await consumer.start()
        try:
            while not done():
                for messages in (await consumer.getmany(timeout_ms=200)).values():
                    for message in messages:
                        self.take(message)
        finally:
            await consumer.stop()


def ns(text: str) -> int:
    return int(datetime.fromisoformat(text[:19] + "+00:00").timestamp()) * NS + int(text[20:29])


def truth() -> tuple[list[Reading], dict[int, float], list[tuple[int, int]]]:
    """Return the readings, and what replaying them gives: cleaned strain by time, and what the events say must be vetoed."""
    readings = [r for block in simulator("V1", duration=48, seed=11, glitches="Tomte@30.7:40,Blip@40.2:30").blocks() for r in block]
    strain: dict[int, float] = {}
    events = []
    for update in replay(twin, readings, asset="V1"):
        block = update.outputs["clean.clean"]
        times = time_of(block.start[0] + np.arange(block.n), Fraction(4096))
        strain.update(zip(times.tolist(), np.where(block.valid, block.values, np.nan)[0, 0].tolist(), strict=True))
        events += update.events
    return readings, strain, [(e.start - PAD, e.end + PAD) for e in latest(events)]


async def serve(kafka: str, unique: str, readings: list[Reading], folder: Path, search: Search, segments: int) -> None:
    """Send the readings to a worker, deliver what it gives to a topic and to files, and let the search pipeline read that."""
    cluster, codec = Kafka(kafka), open_codec("arrow", "{asset}")
    await ensure(cluster, {f"{unique}.in": {}}, 1)
    producer = aiokafka.AIOKafkaProducer(bootstrap_servers=kafka)
    await producer.start()
    for reading in readings:
        for key, raw in codec.encode(reading):
            await producer.send(f"{unique}.in", raw, key=key.encode())
    await producer.stop()
    worker = Worker(twin, cluster, WorkerConfig(unique, f"{unique}.in", ["V1"]), lambda: AiokafkaRuntime(cluster, f"{unique}.in", unique))
    jobs: list[Any] = [worker]
    for to in (f"kafka://{kafka}/{unique}.out?outputs=clean,veto&partitions=1", f"parquet:{folder}"):
        updates = Updates(cluster, Names(unique, twin.name).of("updates"), f"{unique}-{to[:5]}")
        jobs.append(Delivery(updates, open_sink(to, show=tuple(twin.show)), state=folder / f"{to[:5]}.json"))
    tasks = [asyncio.create_task(worker.run())]
    await until(lambda: worker.stats.records > 0, tasks[0])
    tasks += [asyncio.create_task(job.run()) for job in jobs[1:]]
    await until(lambda: not jobs[1].ready, tasks[1])
    end = max(int(r.times[-1]) for r in readings) - 3 * NS
    await search.read(kafka, f"{unique}.out", lambda: len(search.segments) >= segments and max(search.strain, default=0) > end)
    await until(lambda: jobs[2].stats.updates == worker.stats.updates, tasks[2])
    for job, task in zip(jobs, tasks, strict=True):
        job.stop()
        await asyncio.wait_for(task, 60)


def test_strain_and_segments_equal_what_replay_gives(kafka: str, unique: str, tmp_path: Path) -> None:
    readings, strain, vetoed = truth()
    assert len(vetoed) == 2
    search = Search()
    asyncio.run(asyncio.wait_for(serve(kafka, unique, readings, tmp_path, search, len(vetoed)), 240))
    assert len(search.strain) > 40 * 4096
    assert {time: repr(h) for time, h in search.strain.items()} == {time: repr(strain[time]) for time in search.strain}
    raw = {int(t): float(h) for r in readings if r.channels == ("h",) for t, h in zip(r.times, r.values[0], strict=True)}
    assert sum(raw[time] != h for time, h in search.strain.items() if h == h and time in raw) > 30 * 4096  # noqa: PLR0124 - not NaN
    assert [(s["start"], s["end"]) for s in search.segments] == vetoed
    assert [s["dead"] for s in search.segments] == pytest.approx(np.cumsum([(b - a) / NS for a, b in vetoed]))
    assert search.about == {"asset": "V1", "output": "veto.segments", "kind": "glitch"}
    assert {(ns(e["start"]) - PAD, ns(e["end"]) + PAD) for e in search.events if e["final"]} == set(vetoed)
    kept = History(tmp_path).table("veto.segments")
    assert [(row["start"].value, row["asset"]) for row in kept.to_pandas().to_dict("records")] == [(a, "V1") for a, _ in vetoed]
    flag = pytest.importorskip("gwpy.segments").DataQualityFlag(
        "V1:GLITCH", active=[(ns_to_gps(s["start"]) / NS, ns_to_gps(s["end"]) / NS) for s in search.segments]
    )
    assert float(abs(flag.active)) == pytest.approx(search.segments[-1]["dead"], abs=1e-6)
