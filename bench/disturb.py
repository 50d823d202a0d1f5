"""Workers disturbed in other ways than by kill -9: ``python -m bench.disturb WHAT [--runtime aiokafka|faust] [--seconds S]``.

zombie: a worker is stopped (SIGSTOP) for longer than its session, another takes over, the first goes on. members: two workers join and
leave (SIGTERM) every 30 s, 20 times. outage: Kafka is away for 70 s, then there again with its data. overload: messages at twice what the
worker is seen to take, for 10 minutes. ``bench.trial`` says what is compared then. Prints one JSON line. KAFKA_BOOTSTRAP says where the
broker is; outage starts one of its own.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import psutil

from bench.trial import Trial
from compose.services import Server, start
from streams.kafka.client import Kafka

NICE = 5  # how far an overloaded worker stands back
Disturbance = Callable[[Trial], Awaitable[None]]


async def zombie(trial: Trial) -> None:
    """Stop ``w0`` until another has saved a snapshot of every partition, then let it go on."""
    await _saved_all(trial)
    trial.start("w1")
    await asyncio.sleep(trial.session / 2)
    trial.workers["w0"].send_signal(signal.SIGSTOP)
    begin = time.monotonic()
    await asyncio.sleep(trial.session + 2)
    await _saved_all(trial)
    trial.workers["w0"].send_signal(signal.SIGCONT)
    trial.told["stopped_s"] = round(time.monotonic() - begin, 1)
    await asyncio.sleep(trial.session)


def members(times: int, every: float) -> Disturbance:
    """Return what lets ``w0`` and ``w1`` join and leave in turn, never both away."""

    async def disturb(trial: Trial) -> None:
        codes = []
        for n in range(times):
            await asyncio.sleep(every)
            here, other = f"w{n // 2 % 2}", f"w{n // 2 % 2 ^ 1}"
            if n % 2 == 0:
                before = trial.takeovers(other)
                trial.start(other)
                await trial.joined(other, before)
            else:
                codes.append(await trial.end(here))
        trial.messages = min(trial.messages, trial.sent + trial.assets)  # they last until here: Faust takes over with the first that comes
        trial.told |= {"changes": times, "left_in_order": set(codes) == {0}}

    return disturb


def outage(server: Server, seconds: float) -> Disturbance:
    """Return what takes the broker away for so long."""

    async def disturb(trial: Trial) -> None:
        await _saved_all(trial)
        await trial.until("the sink is at work", lambda: asyncio.to_thread((trial.folder / "sink.json").exists))
        before, pids = trial.most(), {name: w.pid for name, w in trial.workers.items()}
        await asyncio.to_thread(server.stop)
        begin = time.monotonic()
        await asyncio.sleep(seconds)
        await asyncio.to_thread(server.run)
        back, down = time.monotonic(), time.monotonic() - begin
        await trial.until("the lag is drained", lambda: _near(trial))
        trial.told |= {
            "down_s": round(down, 1), "drained_s": round(time.monotonic() - back, 1), "memory_growth_mb": _growth(trial, before),
            "same_process": pids == {name: w.pid for name, w in trial.workers.items()},
        }  # fmt: skip

    return disturb


def overload(seconds: float, times: float = 2.0) -> Disturbance:
    """Return what sends ``times`` as many messages as the worker is seen to take; where both want a processor, the sender has it."""

    async def disturb(trial: Trial) -> None:
        await _saved_all(trial)
        for worker in trial.workers.values():
            psutil.Process(worker.pid).nice(NICE)
        before, begin, first, most = trial.most(), time.monotonic(), trial.sent, 0
        taken = start = first - await trial.lag()
        trial.rate = 1e6
        while time.monotonic() < begin + seconds:
            await asyncio.sleep(min(5.0, seconds / 4))
            now = trial.sent - await trial.lag()
            trial.rate, taken, most = (
                max(2 * trial.assets, times * (now - start) / (time.monotonic() - begin)),
                now,
                max(most, trial.sent - now),
            )
        took, sent, trial.messages = time.monotonic() - begin, trial.sent, trial.sent + trial.assets
        await trial.until("the lag is drained", lambda: _near(trial), seconds * 3 + 60)
        trial.told |= {
            "seconds": round(took), "sent_per_s": round((sent - first) / took), "taken_per_s": round((taken - start) / took),
            "most_behind": most, "drained_s": round(time.monotonic() - begin - took, 1), "memory_growth_mb": _growth(trial, before),
        }  # fmt: skip

    return disturb


def _growth(trial: Trial, before: dict[str, int]) -> int:
    return max(most - before.get(name, most) for name, most in trial.most().items())


async def _near(trial: Trial) -> bool:
    """Whether no more is left than comes between some snapshots."""
    return 0 <= await trial.lag() <= 4 * trial.rate


async def _saved_all(trial: Trial) -> None:
    """Wait until every partition has been saved from here on."""
    before = {place: await trial.ends([place]) for place in trial.outputs("snapshots")}

    async def saved() -> bool:
        return all([await trial.ends([place]) > end for place, end in before.items()])

    await trial.until("every partition is saved", saved)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("zombie", "members", "outage", "overload"))
    parser.add_argument("--runtime", default="aiokafka")
    parser.add_argument("--rate", type=float, default=1000.0)
    parser.add_argument("--seconds", type=float, help="of the disturbance")
    parser.add_argument("--times", type=int, default=20)
    parser.add_argument("--data", help="not used")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps({"name": given.what, "runtime": given.runtime, **measure(given, Path(folder))}))


def measure(given: Any, folder: Path) -> dict[str, Any]:
    """Run a trial as the command line says."""
    what, app = given.what, f"{given.what}-{time.time_ns()}"
    seconds = given.seconds or {"zombie": 0, "members": 30, "outage": 70, "overload": 600}[what]
    span = {"zombie": 40, "members": 1e6, "outage": 3 * seconds + 30, "overload": 1e6}[what]
    server = start("kafka", folder / "kafka") if what == "outage" else None
    try:
        bootstrap = server.env["KAFKA_BOOTSTRAP"] if server else os.environ["KAFKA_BOOTSTRAP"]
        trial = Trial(Kafka(bootstrap), folder, app, given.runtime, int(span * given.rate), given.rate)
        how: Disturbance = zombie
        if server:
            how = outage(server, seconds)
        elif what != "zombie":
            how = members(given.times, seconds) if what == "members" else overload(seconds)
        return asyncio.run(trial.run(how))
    finally:
        if server:
            server.close()


if __name__ == "__main__":
    main()
