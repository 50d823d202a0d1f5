"""kill -9 of a worker while messages stream: ``python -m bench.kills [--messages N] [--kills K] [--rate R] [--runtime aiokafka|faust]``.

A worker with static membership is killed at random moments, each after at least one snapshot and one output since the last, and started
again (``bench.trial`` says what is compared then). Prints one JSON line; ``first_output_s`` is the longest time from a kill to the next
output. KAFKA_BOOTSTRAP says where the broker is (``make services``). Parts of a long run are runs of their own, with ``--seed``: their
lines are to be added.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import signal
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from bench.trial import Trial
from streams.kafka.client import Kafka


def kills(n: int) -> Callable[[Trial], Awaitable[None]]:
    """Return what kills a trial's worker ``w0`` n times, at random over its span."""

    async def disturb(trial: Trial) -> None:
        rng, begin = random.Random(trial.seed), time.monotonic()
        moments = sorted(rng.uniform(0.05, 0.95) * trial.messages / trial.rate for _ in range(n))
        for moment in moments:
            seen = await trial.ends(trial.outputs("snapshots"))
            await asyncio.sleep(max(0.0, begin + moment - time.monotonic()))
            await trial.until("a snapshot is saved or all are", lambda s=seen: _saved(trial, s))
            await trial.end("w0", signal.SIGKILL)
            killed, had, taken = time.monotonic(), await trial.ends(trial.outputs("updates")), trial.takeovers("w0")
            trial.start("w0")
            await trial.joined("w0", taken)
            if trial.sent < trial.messages:
                await trial.until("there is an output", lambda h=had: _more(trial, h))
                trial.told.setdefault("seconds", []).append(round(time.monotonic() - killed, 1))
        seconds = trial.told.pop("seconds", [])
        trial.told |= {"kills": n, "first_output_s": max(seconds, default=None), "first_output_within_s": trial.session + 10}

    return disturb


async def _saved(trial: Trial, seen: int) -> bool:
    return await trial.ends(trial.outputs("snapshots")) > seen or (trial.sent >= trial.messages and await trial.lag() == 0)


async def _more(trial: Trial, had: int) -> bool:
    return await trial.ends(trial.outputs("updates")) > had


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=100_000)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--rate", type=float, default=1000.0)
    parser.add_argument("--runtime", default="aiokafka")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--data", help="not used")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        trial = Trial(
            Kafka(os.environ["KAFKA_BOOTSTRAP"]), Path(folder), f"kills-{time.time_ns()}", given.runtime, given.messages, given.rate,
            seed=given.seed,
        )  # fmt: skip
        result = asyncio.run(trial.run(kills(given.kills)))
    print(json.dumps({"name": "kills", "runtime": given.runtime, "messages": given.messages, **result}))


if __name__ == "__main__":
    main()
