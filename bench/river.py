"""The general univariate detector ``auto`` against River's HalfSpaceTrees on the same points, one thread each.

``python -m bench.river [--points N] [--times N]``. A series with a daily season, 5 minutes a sample. River scores and learns a point at a
time, as its interface has it, its values scaled to 0..1 beforehand, which HalfSpaceTrees needs and which is not timed; the engine takes
the points in steps of 256, and one at a time in the second figure. The best of several runs that alternate.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable
from fractions import Fraction

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "TWIN_ENGINE_THREADS"):
    os.environ[_name] = "1"  # before numpy loads

import numpy as np

from bench.record import write
from twin_engine.detect import Auto
from twin_engine.ports import Block, BlockSpec, Float

PERIOD = Fraction(300)  # s
DAY = 288  # samples
STEP = 256  # samples


def series(points: int) -> Float:
    """Return a season of a day, noise and a spike every 1000 samples."""
    k = np.arange(points)
    return np.sin(2 * np.pi * k / DAY) + 0.2 * np.random.default_rng(1).normal(size=points) + 3.0 * (k % 1000 == 999)


def ours(x: Float, step: int) -> None:
    """Score x in steps of so many samples."""
    op = Auto("x").bind(step * PERIOD, {"source": BlockSpec(1 / PERIOD, ("value",))})
    state = op.init(1)
    for at in range(0, len(x) - step + 1, step):
        part = np.ascontiguousarray(x[None, None, at : at + step])
        block = Block(part, np.ones(part.shape, bool), np.zeros(1, np.int64), np.array([at]))
        state, _ = op.step(state, {"source": block})


def theirs(points: list[dict[str, float]]) -> None:
    """Score, then learn, one point after the other, with River's defaults."""
    from river.anomaly import HalfSpaceTrees

    model = HalfSpaceTrees(seed=1)
    for point in points:
        model.score_one(point)
        model.learn_one(point)


def seconds(call: Callable[[], None]) -> float:
    """Return the processor's seconds that a call takes."""
    begin = time.process_time()
    call()
    return time.process_time() - begin


def main() -> None:
    """Print and keep the ratios of points a second."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--points", type=int, default=STEP * 60)
    parser.add_argument("--times", type=int, default=3)
    parser.add_argument("--data", help="not used")
    options = parser.parse_args()
    x = series(options.points)
    points = [{"value": float(value)} for value in (x - x.min()) / np.ptp(x)]
    ours(x[:STEP], STEP)  # compiled
    theirs(points[:STEP])  # loaded
    calls = {"river": lambda: theirs(points), "blocks": lambda: ours(x, STEP), "points": lambda: ours(x, 1)}
    best = dict.fromkeys(calls, float("inf"))
    for _ in range(options.times):
        for name, call in calls.items():
            best[name] = min(best[name], seconds(call))
    rate = {name: len(x) / took for name, took in best.items()}
    found: dict[str, object] = {"bench": "river", "points": len(x)}
    for name, step in (("blocks", STEP), ("points", 1)):
        kept = write(
            f"river_auto_{name}", ours=rate[name], peer=rate["river"], unit="points/s of processor time", peer_name="River HalfSpaceTrees",
            threads=1, points_a_step=step,
        )  # fmt: skip
        found[f"ratio_{name}"] = kept["ratio"]
    print(json.dumps(found))


if __name__ == "__main__":
    main()
