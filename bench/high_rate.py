"""Fast channels through Kafka in real time: ``python -m bench.high_rate [--seconds S] [--runtime aiokafka|faust]``.

400 channels at 1024 Hz and one at 16384 Hz go as Arrow frames of 1/8 s into a real Kafka, each when its last sample is due; a worker
process whitens and searches all of them. Every 2 s, after a warm-up of 20 s, a sine-Gaussian of SNR 40 is in the strain or in a few of the
channels. Latency is from the due time of a glitch's peak sample to the first revision of an event with that peak being read back from
Kafka: an event that noise began just before the glitch has it in its next one. Prints one JSON line: how far the worker is behind at the
end, found of how many, latency p50 and p99, the worker's CPU. KAFKA_BOOTSTRAP says where the broker is.
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
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from bench.high_rate_twin import AUX, CHANNELS, STRAIN, twin
from streams.codecs import open_codec
from streams.kafka.client import Kafka
from streams.kafka.topics import Names, ensure
from twin_engine.clock import time_of
from twin_engine.records import Reading, parse_line

ROOT = Path(__file__).parents[1]
PIECE, WARM, EVERY, SNR = 0.125, 20.0, 2.0, 40.0
CONFIG = """
twin = "{root}/bench/high_rate_twin.py"
app = "{app}"
assets = ["V1"]
[kafka]
bootstrap = "{bootstrap}"
[input]
topic = "{app}.in"
[worker]
runtime = "{runtime}"
snapshot_every = 30
"""


def frame(stream: str, rate: int, names: tuple[str, ...], start: float, glitches: np.ndarray, rng: np.random.Generator) -> Reading:
    """Return 1/8 s of white noise of one stream from a time on the grid, with its glitches in."""
    n = int(PIECE * rate)
    index = round(start * rate) + np.arange(n)
    t = index / rate
    values = rng.standard_normal((len(names), n), dtype=np.float32).astype(np.float64)
    for i, at in enumerate(glitches):
        if start - 0.2 < at < start + PIECE + 0.2 and (i % 2 == 0) == (stream == "strain"):
            frequency, q = 120.0, 8.0
            width = q / (2 * np.pi * frequency)
            shape = np.exp(-(((t - at) / width) ** 2)) * np.cos(2 * np.pi * frequency * (t - at))
            norm = np.sqrt(0.5 * np.sqrt(np.pi / 2) * width * rate)  # of the sum of squares over the whole shape
            values[:: 1 if stream == "strain" else 100] += SNR / norm * shape
    return Reading("V1", names, np.asarray(time_of(index, Fraction(rate))), values)


async def generate(bootstrap: str, topic: str, seconds: float, begin: float, glitches: np.ndarray) -> float:
    """Send everything in real time; return the generator's CPU seconds."""
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, max_request_size=1 << 20, acks="all")
    await producer.start()
    codec, rng, cpu = open_codec("arrow", "{asset}"), np.random.default_rng(0), time.process_time()
    streams = (("strain", STRAIN, ("h",)), ("aux", AUX, tuple(f"x{i:03d}" for i in range(CHANNELS))))
    for k in range(int((seconds + WARM) / PIECE)):
        start = begin + k * PIECE
        made = [raw for s in streams for _, raw in codec.encode(frame(*s, start, glitches, rng))]
        await asyncio.sleep(max(0.0, start + PIECE - time.time()))
        for raw in made:
            await producer.send(topic, raw, key=b"V1", partition=0)
    await producer.stop()
    return time.process_time() - cpu


async def listen(bootstrap: str, topic: str, seen: list[tuple[float, float]]) -> None:
    """Note the peak of each revision of an event, and when it was read."""
    reader = AIOKafkaConsumer(topic, bootstrap_servers=bootstrap, auto_offset_reset="earliest", fetch_max_wait_ms=10)
    await reader.start()
    try:
        async for message in reader:
            seen.append((parse_line(message.value).peak / 1e9, time.time()))  # noqa: PERF401 - each when it comes
    finally:
        await reader.stop()


async def run(seconds: float, runtime: str) -> dict[str, Any]:
    """Do it all and return the figures."""
    app, bootstrap = f"fast-{time.time_ns()}", os.environ["KAFKA_BOOTSTRAP"]
    await ensure(Kafka(bootstrap), {f"{app}.in": {}}, 1)
    seen: list[tuple[float, float]] = []
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "config.toml"
        config.write_text(CONFIG.format(root=ROOT, app=app, bootstrap=bootstrap, runtime=runtime))
        env = {**os.environ, "TWIN_ENGINE_TWINS": str(ROOT / "bench"), "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        log = (Path(folder) / "log").open("ab")
        worker = subprocess.Popen([sys.executable, "-m", "twin_engine.cli", "worker", str(config)], env=env, stdout=log, stderr=log)
        events, listening = Names(app, twin.name).of("events"), None
        admin = AIOKafkaConsumer(bootstrap_servers=bootstrap, group_id=app, enable_auto_commit=False)
        await admin.start()
        while events not in await admin.topics():
            if worker.poll() is not None:
                raise RuntimeError((Path(folder) / "log").read_text()[-3000:])
            await asyncio.sleep(0.1)
        listening = asyncio.create_task(listen(bootstrap, events, seen))
        begin = float(int(time.time()) + 2)
        glitches = np.arange(begin + WARM, begin + WARM + seconds - 2, EVERY) + 0.3
        generator = await generate(bootstrap, f"{app}.in", seconds, begin, glitches)
        done = time.time()
        await asyncio.sleep(4)
        cpu = sum(psutil.Process(worker.pid).cpu_times()[:2])
        worker.send_signal(signal.SIGTERM)
        await asyncio.to_thread(worker.wait, 120)
        place = TopicPartition(f"{app}.in", 0)
        behind = (await admin.end_offsets([place]))[place] - (await admin.committed(place) or 0)
        await admin.stop()
        listening.cancel()
    found = [min((at - peak for peak, at in seen if abs(peak - g) < 0.1), default=np.nan) for g in glitches]
    p50, p99 = np.nanpercentile(found, [50, 99]) if np.isfinite(found).any() else (np.nan, np.nan)
    return {
        "name": "high_rate", "runtime": runtime, "seconds": seconds, "glitches": len(glitches), "found": int(np.isfinite(found).sum()),
        "revisions": len(seen), "p50_s": round(float(p50), 3), "p99_s": round(float(p99), 3), "messages_behind": behind,
        "generator_late_s": round(done - begin - seconds - WARM, 2), "cpu_worker": round(cpu / (seconds + WARM), 2),
        "cpu_generator": round(generator / (seconds + WARM), 2),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--runtime", default="aiokafka")
    parser.add_argument("--data", help="not used")
    given = parser.parse_args()
    print(json.dumps(asyncio.run(run(given.seconds, given.runtime))))


if __name__ == "__main__":
    main()
