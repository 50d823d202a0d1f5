"""False alarms of the interferometer twin in Gaussian noise: ``python -m bench.false_alarms [--hours H] [--seed N]``.

The strain is white Gaussian noise at the twin's rate; the witnesses are silent. Prints one JSON line: events, live hours, events an hour,
and those of the first and the second half. Asked for one an hour, 20 hours must give 10 to 40.
"""

from __future__ import annotations

import argparse
import json
import time

import numpy as np

from twin_engine.fleet import Fleet
from twin_engine.graph import bind
from twin_engine.loader import load
from twin_engine.ports import Block, Frame, Marks

HOPS = 1024  # a step


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--hours", type=float, default=20.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--data", help="not used")
    given = parser.parse_args()
    twin, rng, began = load("interferometer"), np.random.default_rng(given.seed), time.perf_counter()
    graph = bind(twin)
    fleet = Fleet(graph, ["V1"])
    rows, first = np.zeros(1, np.int64), 1_700_000_000 * int(1 / graph.hop)
    onsets: list[float] = []
    live = 0
    for step in range(round(given.hours * 3600 / float(HOPS * graph.hop))):
        at = first + step * HOPS
        blocks: dict[str, Block] = {}
        for stream in twin.streams:
            per_hop = int(stream.spec.rate * graph.hop)
            shape = (1, len(stream.channels), HOPS * per_hop)
            strain = stream.name == "strain"
            values = 1e-21 * rng.standard_normal(shape) if strain else np.zeros(shape)
            blocks[stream.name] = Block(values, np.full(shape, strain), rows, np.array([at * per_hop]))
        marks = fleet.step(Frame(blocks, np.array([step == 0]), HOPS, np.array([at]), rows))["alarm.events"]
        assert isinstance(marks, Marks)
        live += int(marks.live.sum())
        onsets += (marks.columns["start"][marks.columns["revision"] == 0] / 1e9 - 1.7e9).tolist()
    half = given.hours * 1800
    hours = live / 3.6e12
    print(json.dumps({
        "name": "false_alarms", "asked_per_hour": 1.0, "events": len(onsets), "live_hours": round(hours, 3),
        "per_hour": round(len(onsets) / hours, 3), "halves": [sum(t < half for t in onsets), sum(t >= half for t in onsets)],
        "seconds": round(time.perf_counter() - began, 1),
    }))  # fmt: skip


if __name__ == "__main__":
    main()
