"""Real strain through the stages of the interferometer twin as they run live: two mergers and two loud transients.

``python -m bench.strain [--data DIR]``. For each file the loudest trigger, its distance from the known time and its margin: its energy
over that of
the loudest trigger more than ``APART`` seconds away. The whitening knows the past alone.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from streams.context import Context
from streams.registry import source_at
from twin_engine import Channel, Reading, Stream, Twin, replay
from twin_engine.clock import NS, gps_to_ns
from twin_engine.ports import Float, Marks
from twin_engine.signal import QTriggers, Whiten

APART = 0.5  # s
MERGERS = (
    ("GW150914", "H1", "H-H1_LOSC_4_V2-1126259446-32.hdf5"),
    ("GW150914", "L1", "L-L1_LOSC_4_V2-1126259446-32.hdf5"),
    ("GW170104", "H1", "H-H1_LOSC_4_V1-1167559920-32.hdf5"),
    ("GW170104", "L1", "L-L1_LOSC_4_V1-1167559920-32.hdf5"),
)
FRAME = "H-H1_GWOSC_O3b_4KHZ_R1-1266281937-128.gwf"
TRANSIENTS = (1266281982.66, 1266281984.25)  # GPS
TWIN = Twin(
    name="strain",
    hop="1/16 s",
    streams=[Stream("strain", rate=4096, channels=[Channel("h")])],
    stages={"white": Whiten("strain", memory="32 s"), "glitch": QTriggers("white", band=(20, 1024), q=(4, 64), mismatch=0.2)},
)


def triggers(uri: str) -> tuple[Float, Float]:
    """Return the peak times (ns UTC) and energies of all triggers of a file."""
    source = source_at(uri, Context(asset="asset", streams={"strain": ("h",)}))
    readings = (item for item in source.items(None) if isinstance(item, Reading))
    peaks: list[Any] = []
    energies: list[Any] = []
    for update in replay(TWIN, readings):
        marks = update.outputs["glitch.triggers"]
        assert isinstance(marks, Marks)
        peaks.append(marks.columns["peak"])
        energies.append(marks.columns["snr"] ** 2 / 2 + 1)
    source.close()
    return np.concatenate(peaks), np.concatenate(energies)


def merger(uri: str, gps: float) -> dict[str, float | bool]:
    """Return where the loudest trigger is and how far it stands above the others."""
    peak, energy = triggers(uri)
    loudest = int(np.argmax(energy))
    off = (peak[loudest] - gps_to_ns(int(gps * NS))) / NS
    rest = energy[np.abs(peak - peak[loudest]) > APART * NS]
    margin = float(energy[loudest] / rest.max()) if len(rest) else float("inf")
    return {
        "off": round(float(off), 4),
        "energy": round(float(energy[loudest]), 2),
        "margin": round(margin, 2),
        "found": bool(abs(off) < 0.1),
    }


def main() -> None:
    """Print one line a file and all as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path(__file__).parents[1] / "../shared/data")
    data = parser.parse_args().data.resolve()
    events = json.loads((data / "ligo_losc" / "BBH_events_v3.json").read_text())
    found: dict[str, Any] = {"bench": "strain"}
    for name, detector, file in MERGERS:
        found[f"{name}_{detector}"] = merger(f"gwosc:{data / 'ligo_losc' / file}", events[name]["tevent"])
    peak, energy = triggers(f"gwf:{data / 'ligo_o3b' / FRAME}")
    for gps in TRANSIENTS:
        near = np.abs(peak - gps_to_ns(int(gps * NS))) < 0.1 * NS
        found[f"O3b_{gps}"] = {"found": bool(near.any()), "energy": round(float(energy[near].max(initial=0)), 2)}
    for name, figures in found.items():
        print(name, figures)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
