"""InfluxDB killed for minutes while updates go on and some lines are refused: ``python -m bench.influx_outage [--minutes 10]``.

A server of its own is started. 1,000 assets give 2 values a second each; each second brings two events, one of them with a time that the
server will never take; all goes through the sink behind its spool, as a run does it. Prints one JSON line: lines lost and refused, seconds
from the restart until nothing is behind, the spool's largest size, and how far memory grew.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from fractions import Fraction
from pathlib import Path

import numpy as np
import psutil

from compose.services import Server, start
from streams import open_sink
from streams.spool import Spool
from tests.influx_server import Influx
from twin_engine.clock import NS, time_of
from twin_engine.ports import Block, BlockSpec
from twin_engine.records import Event, Update

ASSETS, RATE, BEFORE, AFTER = 1000, Fraction(2), 10.0, 10.0
NAMES = [f"asset-{i:04d}" for i in range(ASSETS)]
SPECS = {"odd.score": BlockSpec(RATE, ("value",))}
NEVER = 2**63 - 1


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--data", help="not used")
    minutes = parser.parse_args().minutes
    with tempfile.TemporaryDirectory() as folder, start("influx", Path(folder) / "influx") as server:
        result = outage(server, Path(folder), 60 * minutes)
    print(json.dumps(result))


def outage(server: Server, folder: Path, down: float) -> dict[str, object]:
    """Return what came of a server that was down for so many seconds."""
    at = Influx(*server.env.values())
    os.environ["INFLUX_TOKEN"] = at.token
    uri = f"influx:{at.url}/{at.bucket}?org={at.org}&refused={folder}/refused.jsonl"
    spool = Spool(open_sink(uri, show=("odd",)), folder / "spool", show=("odd",))
    spool.open(None)
    process, first = psutil.Process(), int(time.time() * RATE)
    begin = time.perf_counter()
    restart = back = spooled = 0.0
    memory: list[float] = []
    k = flushed = 0
    while not back or time.perf_counter() - begin < BEFORE + down + AFTER:
        time.sleep(max(0.0, begin + k / float(RATE) - time.perf_counter()))
        now = time.perf_counter() - begin
        if server.alive and not restart and now >= BEFORE:
            server.kill()
        elif not server.alive and now >= BEFORE + down:
            server.run()
            restart = time.perf_counter() - begin
        spool.write(update(first + k))
        k += 1
        if k - flushed >= RATE:  # each second, as a run's checkpoints
            spool.flush()
            flushed = k
        memory.append(process.memory_info().rss / 2**20)
        spooled = max(spooled, sum(path.stat().st_size for path in (folder / "spool").glob("*")))
        if restart and not back and not spool.down and now - k / float(RATE) < 1:
            back = time.perf_counter() - begin
    spool.flush()
    spool.close()
    count = 'from(bucket: "{}") |> range(start: 0) |> filter(fn: (r) => r._field == "{}") |> group() |> count()'
    values, events = (int(at.query(count.format(at.bucket, field))[0]["_value"]) for field in ("value", "id"))
    wanted = sum(update(first + i).events != [] for i in range(k))
    refused = len((folder / "refused.jsonl").read_text().splitlines())
    return {
        "name": "influx_outage", "down_s": down, "lines": k * ASSETS + 2 * wanted, "lost": k * ASSETS - values + wanted - events,
        "refused": refused, "refused_expected": wanted, "drained_s": round(back - restart, 1), "spool_mb": round(spooled / 2**20, 1),
        "memory_growth_mb": round(max(memory) - max(memory[: int(BEFORE * RATE)]), 1),
    }  # fmt: skip


if __name__ == "__main__":
    main()
