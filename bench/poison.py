"""Malformed messages among good ones: ``python -m bench.poison [--messages N] [--runtime NAME] [--rounds R]``.

One in a hundred is bad, of every kind in turn: no JSON, not UTF-8, no time, a text for a value, too large once unpacked, of an asset
that nobody knows, given twice, given again with another value. First a trial streams them (see ``bench.trial``): each refused message
must be in the dead topic with its reason, the others counted, and all the rest as if they had not been there. Then a worker in this process
drains the same messages without and with them, in turn; ``throughput`` is the ratio of clean to poisoned CPU time of the best
rounds. Prints one JSON line. KAFKA_BOOTSTRAP says where the broker is.
"""

from __future__ import annotations

import argparse
import asyncio
import gzip
import json
import os
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.fleet_of_one_channel import twin
from bench.trial import Trial, values_of
from bench.trial_values import RATE, T0
from streams.kafka.client import Kafka
from streams.kafka.faust_runtime import FaustRuntime
from streams.kafka.runtime import AiokafkaRuntime
from twin_engine.worker import Worker, WorkerConfig

SHARE = 0.01
LARGE = gzip.compress(b"[" + b"1," * (1 << 19) + b"1]")
REFUSED = {"malformed", "not_utf8", "too_large"}  # these are dead letters; the others are counted


def kinds(k: int, assets: int, seed: int) -> list[tuple[str, bytes, bytes]]:
    """Return reason, key and value of one of each kind before sample k."""
    ts = T0 + (k - 1) / RATE
    value = float(values_of(k - 1, assets, seed)[0])
    return [
        ("malformed", b"a001", b"{"),
        ("not_utf8", b"a002", b'{"ts": 1, "value": "\xff\xfe"}'),
        ("malformed", b"a003", b'{"value": [1, 2]}'),
        ("malformed", b"a004", b'{"ts": %.1f, "value": "warm"}' % ts),
        ("too_large", b"a005", LARGE),
        ("unknown_asset", b"stranger", b'{"ts": %.1f, "value": 1}' % ts),
        ("late", b"a000", b'{"ts": %.1f, "value": %.17g}' % (ts, value)),
        ("late", b"a000", b'{"ts": %.1f, "value": %.17g}' % (ts, value + 1)),
    ]


def poison(assets: int, seed: int = 0) -> Callable[[int], list[tuple[str, bytes, bytes]]]:
    """Return what gives the bad messages before sample k: a share of all, the kinds in turn."""
    every = max(1, round(1 / (SHARE * assets)))  # samples for one bad message
    many = max(1, round(SHARE * assets))

    def of(k: int) -> list[tuple[str, bytes, bytes]]:
        if k == 0 or k % every:
            return []
        all_kinds = kinds(k, assets, seed)
        return [all_kinds[(k // every * many + i) % len(all_kinds)] for i in range(many)]

    return of


async def nothing(trial: Trial) -> None:
    """Disturb nobody."""
    del trial


async def streamed(trial: Trial) -> dict[str, Any]:
    """Stream good and bad; return the verdict, and how the dead topic and the counters are against what was sent."""
    bad = poison(trial.assets, trial.seed)
    trial.poison = lambda k: [(key, value) for _, key, value in bad(k)]
    verdict = await trial.run(nothing)
    sent = Counter((reason, value) for k in range(trial.steps) for reason, _, value in bad(k) if reason in REFUSED)
    dead = Counter([(json.loads(dict(m.headers)["reason"]), m.value) async for m in trial.messages_of("dead")])
    clean = Trial(trial.kafka, trial.folder, trial.app, messages=trial.messages, assets=trial.assets, seed=trial.seed)
    return {
        "poisoned": sum(len(bad(k)) for k in range(trial.steps)), "dead": sum(dead.values()), "dead_as_sent": dead == sent,
        "rest_untouched": await trial.same_as(clean), **verdict,
    }  # fmt: skip


async def drained(kafka: Kafka, app: str, topic: str, n: int, assets: int, runtime: str) -> float:
    """Return the CPU seconds in which a worker in this process reads all of a topic."""
    kind: Any = FaustRuntime if runtime == "faust" else AiokafkaRuntime
    config = WorkerConfig(app, topic, [f"a{a:03d}" for a in range(assets)], "json", snapshot_every=10)
    worker = Worker(twin, kafka, config, lambda: kind(kafka, topic, app))
    task = asyncio.create_task(worker.run())
    while not worker.stats.records:
        await asyncio.sleep(0.005)
    begin, had = time.process_time(), worker.stats.records
    while worker.stats.records < n:
        await asyncio.sleep(0.02)
        if task.done():
            await task
    took = time.process_time() - begin
    worker.stop()
    await task
    return took * n / (n - had)


async def throughput(trial: Trial, rounds: int) -> dict[str, float]:
    """Drain the trial's messages without and with the bad ones."""
    bad, best = poison(trial.assets, trial.seed), {"clean": 1e9, "poisoned": 1e9}
    topics: dict[str, tuple[str, int]] = {}
    for name in best:
        trial.poison = (lambda k: [(key, value) for _, key, value in bad(k)]) if name == "poisoned" else (lambda _: [])
        topics[name] = await trial.fill(f"{trial.app}-{name}")
    for turn in range(rounds + 1):
        for name, (topic, n) in topics.items():
            took = await drained(trial.kafka, f"{topic}-{turn}", topic, n, trial.assets, trial.runtime)
            if turn:  # the first compiles
                best[name] = min(best[name], took)
    return {"clean_cpu_s": round(best["clean"], 3), "poisoned_cpu_s": round(best["poisoned"], 3),
            "throughput": round(best["clean"] / best["poisoned"] * topics["poisoned"][1] / topics["clean"][1], 3)}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=100_000)
    parser.add_argument("--runtime", default="aiokafka")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--data", help="not used")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        trial = Trial(Kafka(os.environ["KAFKA_BOOTSTRAP"]), Path(folder), f"poison-{time.time_ns()}", given.runtime, given.messages, 2000.0)
        found = {**asyncio.run(streamed(trial)), **asyncio.run(throughput(trial, given.rounds))}
    print(json.dumps({"name": "poison", "runtime": given.runtime, "messages": given.messages, **found}))


if __name__ == "__main__":
    main()
