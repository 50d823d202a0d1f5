"""Malformed messages among good ones: ``python -m bench.poison [--messages N] [--runtime NAME] [--drained N] [--rounds R]``.

One in a hundred is bad, every kind of the table of bad input (docs/reference/bad-input.md) in turn. First a trial streams them (see
``bench.trial``): each refused message must be in the dead topic with its reason (``dead_again``: and again, at the same position, where a
worker began again), the others counted, and all the rest as if they had not been there. Then a worker in this process drains such messages
without and with them, in turn, over either runtime (Faust a fifth of the rounds): CPU seconds for a million messages of each, what a bad
message costs in us, and ``throughput``, the ratio of messages a CPU second; medians over the rounds, of the last two over neighbours.
Assets are 97, so that batches of 5000 end anywhere between two samples, as batches do. What is too large as it came is not among the kinds:
Kafka takes no such message. Prints one JSON line. KAFKA_BOOTSTRAP says where the broker is.
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
from statistics import median
from typing import Any

from bench.fleet_of_one_channel import twin
from bench.trial import Trial, values_of
from bench.trial_values import RATE, T0
from streams.kafka.client import Kafka
from streams.kafka.faust_runtime import FaustRuntime
from streams.kafka.runtime import AiokafkaRuntime
from twin_engine.worker import Worker, WorkerConfig

SHARE = 0.01
LARGE = gzip.compress(b"[" + b"1," * (1 << 19) + b"1]", mtime=0)
REFUSED = {"malformed", "not_utf8", "not_finite", "too_large"}  # these are dead letters; the others are counted
ASSETS = 97
RUNTIMES: dict[str, Any] = {"aiokafka": AiokafkaRuntime, "faust": FaustRuntime}


def kinds(k: int, assets: int, seed: int) -> list[tuple[str, bytes, bytes]]:
    """Return reason, key and value of one of each kind before sample k."""
    ts, value = T0 + (k - 1) / RATE, float(values_of(k - 1, assets, seed)[0])
    cut = gzip.compress(b'{"ts": %.1f, "value": 1}' % ts, mtime=0)[:-9]
    return [
        ("malformed", b"a001", b"{"),
        ("malformed", b"a002", b""),
        ("malformed", b"a003", b'{"value": [1, 2]}'),
        ("malformed", b"a004", b'{"ts": %.1f, "value": "warm"}' % ts),
        ("malformed", b"a005", b'{"ts": "noon", "value": 1}'),
        ("malformed", b"a006", b'{"ts": -5, "value": 1}'),
        ("malformed", b"a007", b"[1, 2]"),
        ("malformed", b"a008", b"[" * 5000),
        ("malformed", b"a009", cut),
        ("not_utf8", b"a010", b'{"ts": 1, "value": "\xff\xfe"}'),
        ("not_finite", b"a011", b'{"ts": %.1f, "value": NaN}' % ts),
        ("not_finite", b"a012", b'{"ts": %.1f, "value": 1e999}' % ts),
        ("too_large", b"a013", LARGE),
        ("unknown_asset", b"stranger", b'{"ts": %.1f, "value": 1}' % ts),
        ("unknown_channel", b"a014", b'{"ts": %.1f, "noise": 1}' % ts),
        ("late", b"a000", b'{"ts": %.1f, "value": %.17g}' % (ts, value)),
        ("late", b"a000", b'{"ts": %.1f, "value": %.17g}' % (ts, value + 1)),
        ("clock_jump", b"a015", b'{"ts": %.1f, "value": 1}' % (ts + 1e7)),
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
    letters = [(m.partition, dict(m.headers), m.value) async for m in trial.messages_of("dead")]
    dead = Counter({(place, told["position"]): (json.loads(told["reason"]), raw) for place, told, raw in letters}.values())
    clean = Trial(trial.kafka, trial.folder, trial.app, messages=trial.messages, assets=trial.assets, seed=trial.seed)
    return {
        "poisoned": sum(len(bad(k)) for k in range(trial.steps)), "dead": sum(dead.values()),
        "dead_again": len(letters) - sum(dead.values()), "dead_as_sent": dead == sent,
        "rest_untouched": await trial.same_as(clean), **verdict,
    }  # fmt: skip


async def drained(kafka: Kafka, app: str, topic: str, n: int, runtime: str) -> float:
    """Return the CPU seconds a message in which a worker in this process reads a topic."""
    config = WorkerConfig(app, topic, [f"a{a:03d}" for a in range(ASSETS)], "json", snapshot_every=10)
    worker = Worker(twin, kafka, config, lambda: RUNTIMES[runtime](kafka, topic, app))
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
    return took / (n - had)


async def throughput(trial: Trial, rounds: int) -> dict[str, Any]:
    """Drain the trial's messages without and with the bad ones, by runtime."""
    bad, topics = poison(trial.assets, trial.seed), dict[str, tuple[str, int]]()
    for name in ("clean", "poisoned"):
        trial.poison = (lambda k: [(key, value) for _, key, value in bad(k)]) if name == "poisoned" else (lambda _: [])
        topics[name] = await trial.fill(f"{trial.app}-{name}")
    (_, good), (_, all_of_them) = topics["clean"], topics["poisoned"]
    found: dict[str, Any] = {}
    for runtime in RUNTIMES:
        took: dict[str, list[float]] = {name: [] for name in topics}
        for turn in range((rounds if runtime == "aiokafka" else max(1, rounds // 5)) + 1):
            for name, (topic, n) in topics.items():
                took[name].append(await drained(trial.kafka, f"{topic}-{runtime}-{turn}", topic, n, runtime))
        pairs = list(zip(took["clean"], took["poisoned"], strict=True))[1:]  # the first compiles
        clean, poisoned = median(a for a, _ in pairs), median(b for _, b in pairs)
        cost = median((b * all_of_them - a * good) / (all_of_them - good) for a, b in pairs)
        found[runtime] = {
            "clean_cpu_s_per_million": round(1e6 * clean, 2), "poisoned_cpu_s_per_million": round(1e6 * poisoned, 2),
            "bad_us": round(1e6 * cost, 1), "throughput": round(median(a / b for a, b in pairs), 3),
        }  # fmt: skip
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=100_000)
    parser.add_argument("--runtime", default="aiokafka")
    parser.add_argument("--drained", type=int, default=300_000)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--data", help="not used")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        cluster, app = Kafka(os.environ["KAFKA_BOOTSTRAP"]), f"poison-{time.time_ns()}"
        trial = Trial(cluster, Path(folder), app, given.runtime, given.messages, 2000.0, ASSETS)
        more = Trial(cluster, Path(folder), app, given.runtime, given.drained, 2000.0, ASSETS)
        found = {**asyncio.run(streamed(trial)), **asyncio.run(throughput(more, given.rounds))}
    print(json.dumps({"name": "poison", "runtime": given.runtime, "messages": given.messages, **found}))


if __name__ == "__main__":
    main()
