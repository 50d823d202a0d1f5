"""Memory over an hour of simulated time at full speed: ``python -m bench.memory [--hours H]``.

Prints one JSON line: resident memory (MB) after the warm-up of a tenth of the time and at the end, and what it grew by.
"""

from __future__ import annotations

import argparse
import json

import psutil

import streams
from twin_engine.engine import Engine
from twin_engine.loader import load
from twin_engine.records import Reading


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--hours", type=float, default=1.0)
    parser.add_argument("--data", help="not used")
    hours = parser.parse_args().hours
    twin = load("interferometer")
    span = int(hours * 3600)
    source = streams.open_source(f"sim:?seed=5&duration={span}", twin=twin, asset="V1")
    engine, process = Engine(twin, ["V1"]), psutil.Process()
    sizes: list[float] = []
    events = 0
    first = 0
    for item in source.items(None):
        if isinstance(item, Reading):
            first = first or int(item.times[0])
            for update in engine.put(item):
                events += sum(e.final for e in update.events)
            if (int(item.times[-1]) - first) / 1e9 >= span * (len(sizes) + 1) / 20:
                sizes.append(process.memory_info().rss / 2**20)
    settled = max(sizes[:4])
    print(json.dumps({"name": "memory", "hours": hours, "settled_mb": round(settled, 1), "end_mb": round(sizes[-1], 1),
                      "growth_mb": round(sizes[-1] - settled, 1), "events": events}))  # fmt: skip


if __name__ == "__main__":
    main()
