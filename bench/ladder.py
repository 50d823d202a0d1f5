"""OpenTwins' ladder over Kafka: ``python -m bench.ladder [--rungs 1,2,3,4] [--seconds S] [--runtime aiokafka|faust]``.

1000 twins at 0.5 a second, 2500 at 1, 5000 at 1, 5000 at 5: a message a sample (JSON), keyed by asset, into Kafka; a worker process
updates the twins; a sink process writes each twin's update to InfluxDB. Latency is from the call that sends a message to the database's
word that it has taken the point, for every single message, and by hop: ``worker`` until the sink's process has the update, ``database``
until the database's word. Of the first, the worker's own count says how long its batches were in ``input`` (the newest message's way
through the broker), ``step`` and ``send``, on average. Lost is what never arrived there. Prints one JSON line a rung, with the CPU
(cores) of generator, worker and sink, and of all on the machine, brokers and database too. KAFKA_BOOTSTRAP, INFLUX_URL, INFLUX_TOKEN,
INFLUX_ORG, INFLUX_BUCKET say where the servers are (``make services``). The first ``WARM`` seconds are not counted.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from aiokafka import AIOKafkaProducer

from compose.services.ports import free_ports
from streams.kafka.client import Kafka
from streams.kafka.topics import Names, ensure, partition_of
from twin_engine.records import Position, Sink, Update

ROOT = Path(__file__).parents[1]
RUNGS = {1: ("half", 1000, 0.5, 19), 2: ("one", 2500, 1.0, 148), 3: ("one", 5000, 1.0, 567), 4: ("five", 5000, 5.0, 715)}
WARM = 10.0
PARTITIONS = 4
BATCH = 0.01  # s between the generator's turns
CONFIG = """
twin = "{root}/bench/ladder_twins.py:{twin}"
app = "{app}"
assets = ["a[0000-{last:04d}]"]
[kafka]
bootstrap = "{bootstrap}"
[input]
topic = "{app}.in"
codec = "json"
[worker]
runtime = "{runtime}"
snapshot_every = 10
[metrics]
port = {port}
[sinks.influx]
to = "influx:{url}/{bucket}?org={org}&refused={folder}/refused.jsonl"
"""


class Traced:
    """A sink that notes, for each (sample, asset) of an update, when it got it and when it had taken it: ``times`` has these two."""

    def __init__(self, sink: Sink, assets: int, samples: int, first: int) -> None:
        self._sink, self._first, self._open = sink, first, []
        self._place = {f"a{i:04d}": i for i in range(assets)}
        self.times = np.full((2, samples, assets), np.nan)

    def open(self, position: Position) -> None:
        """As the sink's."""
        self._sink.open(position)

    def write(self, update: Update) -> None:
        """Hand on and remember."""
        self._sink.write(update)
        for key, block in update.outputs.items():
            if key.startswith("level."):
                places = np.fromiter(map(self._place.__getitem__, update.assets), np.int64)[block.rows]
                self._open.append((block.start - self._first, places, block.n))
                self._note(0, *self._open[-1])

    def flush(self) -> Position:
        """Hand on and note the time."""
        position = self._sink.flush()
        for start, places, n in self._open:
            self._note(1, start, places, n)
        self._open.clear()
        return position

    def _note(self, hop: int, start: np.ndarray, places: np.ndarray, n: int) -> None:
        now, noted = time.time(), self.times[hop]
        for t in range(n):
            inside = (start + t >= 0) & (start + t < len(noted))
            cell = (start[inside] + t, places[inside])
            noted[cell] = np.where(np.isnan(noted[cell]), now, noted[cell])

    def close(self) -> None:
        """As the sink's."""
        self._sink.close()


def sink_process(config: str, name: str, assets: int, samples: int, first: int, trace: str) -> None:
    """Deliver as ``twin-engine sink`` does, noting times; what was noted is written at the end."""
    from twin_engine import deploy
    from twin_engine.config import read_config
    from twin_engine.loader import load

    settings = read_config(Path(config))
    twin = load(settings.twin)

    async def main() -> None:
        delivery = deploy.delivery_of(settings, twin, name)
        traced = delivery._sink = Traced(delivery._sink, assets, samples, first)  # noqa: SLF001 - the benchmark's own probe
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, delivery.stop)
        await delivery.run()
        np.save(trace, traced.times)

    asyncio.run(main())


async def generate(bootstrap: str, topic: str, assets: int, rate: float, samples: int, first: int) -> tuple[np.ndarray, float]:
    """Send each asset's samples, the assets spread evenly over the period; return when each was sent, and the CPU seconds it took."""
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, max_batch_size=1 << 18, acks="all")
    await producer.start()
    keys = [b"a%04d" % a for a in range(assets)]
    owned = [[a for a in range(assets) if partition_of(keys[a].decode(), PARTITIONS) == p] for p in range(PARTITIONS)]
    order = [np.array(o) for o in owned]
    due = [o / assets for o in order]  # of a period
    sent = np.full((samples, assets), np.nan)
    next_ = [[0, 0] for _ in range(PARTITIONS)]  # sample, place in the partition's order
    begin, cpu = first / rate, time.process_time()
    pending: set[Any] = set()
    while any(k < samples for k, _ in next_):
        await asyncio.sleep(max(0.0, BATCH - time.time() % BATCH))
        now = (time.time() - begin) * rate  # periods since the first
        for p in range(PARTITIONS):
            batch, said = producer.create_batch(), 0
            while next_[p][0] < samples:
                k, place = next_[p]
                if k + due[p][place] > now:
                    break
                a = int(order[p][place])
                value = b'{"ts":%.3f,"value":%.4f}' % ((first + k) / rate, 1.0 + 0.001 * (a % 7) + 0.01 * (k % 3))
                stamp = time.time()
                if batch.append(key=keys[a], value=value, timestamp=int(stamp * 1000)) is None:
                    break  # full: the rest in the next turn
                sent[k, a] = stamp
                said += 1
                next_[p] = [k, place + 1] if place + 1 < len(order[p]) else [k + 1, 0]
            if said:
                batch.close()
                pending.add(await producer.send_batch(batch, topic, partition=p))
        done = {f for f in pending if f.done()}
        for future in done:
            future.result()
        pending -= done
    await asyncio.gather(*pending)
    await producer.stop()
    return sent, time.process_time() - cpu


async def rung(number: int, seconds: float, runtime: str) -> dict[str, Any]:
    """Run one rung and return its figures."""
    name, assets, rate, theirs = RUNGS[number]
    app, bootstrap, port = f"ladder{number}-{time.time_ns()}", os.environ["KAFKA_BOOTSTRAP"], free_ports(1)[0]
    await ensure(Kafka(bootstrap), {f"{app}.in": {}}, PARTITIONS)
    with tempfile.TemporaryDirectory() as folder:
        config, trace = Path(folder) / "config.toml", Path(folder) / "trace.npy"
        config.write_text(
            CONFIG.format(
                root=ROOT,
                twin=name,
                app=app,
                last=assets - 1,
                bootstrap=bootstrap,
                runtime=runtime,
                folder=folder,
                port=port,
                url=os.environ["INFLUX_URL"],
                bucket=os.environ["INFLUX_BUCKET"],
                org=os.environ["INFLUX_ORG"],
            )
        )
        env = {**os.environ, "TWIN_ENGINE_TWINS": str(ROOT / "bench"), "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        log = (Path(folder) / "log").open("ab")
        samples, start = int((seconds + WARM) * rate), 8.0
        first = int((time.time() + start) * rate) + 1
        worker = subprocess.Popen([sys.executable, "-m", "twin_engine.cli", "worker", str(config)], env=env, stdout=log, stderr=log)
        given = ["--sink", str(config), "--sizes", f"{assets},{samples},{first}", "--trace", str(trace)]
        await _topic(bootstrap, Names(app, name).of("dead"))
        sink = subprocess.Popen([sys.executable, "-m", "bench.ladder", *given], env=env, stdout=log, stderr=log)
        warm = asyncio.create_task(_counted(port, first / rate + WARM))
        sent, generator = await generate(bootstrap, f"{app}.in", assets, rate, samples, first)
        before, after = await warm, await _counted(port)
        await asyncio.sleep(3)
        cpu = {who: sum(psutil.Process(p.pid).cpu_times()[:2]) for who, p in (("worker", worker), ("sink", sink))}
        for process in (worker, sink):
            process.send_signal(signal.SIGTERM)
            await asyncio.to_thread(process.wait, 60)
        if not trace.exists():
            raise RuntimeError((Path(folder) / "log").read_text()[-3000:])
        times = np.load(trace)
    lost, warm = int(np.isnan(times[1]).sum()), int(WARM * rate)
    spans = {"all": times[1] - sent, "worker": times[0] - sent, "database": times[1] - times[0]}
    figures = {hop: np.round(np.nanpercentile(span[warm:], [50, 99, 100]) * 1000, 1).tolist() for hop, span in spans.items()}
    p50, p99, worst = figures.pop("all")
    spent = {name: after[name] - before[name] for name in after}
    machine = spent.pop("busy") / spent.pop("time")
    inside = {hop: round(1000 * took / spent["batches"], 2) for hop, took in spent.items() if hop != "batches"}
    span = seconds + WARM
    return {
        "name": "ladder", "rung": number, "twins": assets, "rate": rate, "seconds": seconds, "over": "kafka", "runtime": runtime,
        "messages": int(sent.size), "lost": lost, "p50_ms": p50, "p99_ms": p99, "worst_ms": worst,
        "opentwins_ms": theirs, "hops_p50_p99_ms": {hop: found[:2] for hop, found in figures.items()}, "worker_hops_mean_ms": inside,
        "cpu_generator": round(generator / span, 3), "cpu_worker": round(cpu["worker"] / span, 3),
        "cpu_sink": round(cpu["sink"] / span, 3), "cpu_machine": round(machine, 3),
    }  # fmt: skip


async def _counted(port: int, when: float = 0.0) -> dict[str, float]:
    """Return, at a time, the seconds that the worker's batches have spent in each hop by its own count, and their number as ``batches``.

    ``time`` is when, ``busy`` the processor seconds that the machine has spent until then.
    """

    def get() -> list[str]:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
            return answer.read().decode().splitlines()

    await asyncio.sleep(max(0.0, when - time.time()))
    cpu = psutil.cpu_times()
    found: dict[str, float] = {"time": time.time(), "busy": sum(cpu) - cpu.idle - cpu.iowait}
    for line in await asyncio.to_thread(get):
        if line.startswith("twin_engine_hop_seconds_total"):
            found[line.partition('hop="')[2].partition('"')[0]] = float(line.rpartition(" ")[2])
        elif line.startswith("twin_engine_batches_total"):
            found["batches"] = float(line.rpartition(" ")[2])
    return found


async def _topic(bootstrap: str, topic: str) -> None:
    """Wait until a topic is there."""
    from aiokafka import AIOKafkaConsumer

    reader = AIOKafkaConsumer(bootstrap_servers=bootstrap)
    await reader.start()
    try:
        while topic not in await reader.topics():
            await asyncio.sleep(0.1)
    finally:
        await reader.stop()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rungs", default="1,2,3,4")
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--runtime", default="aiokafka")
    parser.add_argument("--sink", help="what the benchmark starts itself")
    parser.add_argument("--sizes")
    parser.add_argument("--trace")
    parser.add_argument("--data", help="not used")
    given = parser.parse_args()
    if given.sink:
        sink_process(given.sink, "influx", *(int(n) for n in given.sizes.split(",")), given.trace)
        return
    for number in map(int, given.rungs.split(",")):
        print(json.dumps(asyncio.run(rung(number, given.seconds, given.runtime))), flush=True)


if __name__ == "__main__":
    main()
