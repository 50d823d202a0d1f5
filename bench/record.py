"""The kept result of a speed benchmark: ``bench/results/NAME.json`` with name, ours, peer, ratio and unit."""

from __future__ import annotations

import json
import os
import platform
from pathlib import Path

RESULTS = Path(__file__).parent / "results"


def write(name: str, *, ours: float, peer: float, unit: str, **more: object) -> dict[str, object]:
    """Keep and return a result. ratio is ours over peer: above 1 is better for a rate, below 1 for a time."""
    result = {
        "name": name, "ours": round(ours, 6), "peer": round(peer, 6), "ratio": round(ours / peer, 4), "unit": unit, **more,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
    }  # fmt: skip
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(result, indent=1) + "\n")
    return result
