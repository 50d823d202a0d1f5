"""Simulated noise against its curve in each band of a third of an octave.

``python -m bench.noise [--data DIR] [--seconds N]``. The estimate is Welch's (64 s Hann windows, half overlapped). Two ratios a band:
``level``, the root of the mean over frequency of measured over true power, whose own scatter is ``sigma``, and ``power``, the root of the
ratio of the band's powers, which a single line of the curve can carry alone (its scatter is then that of the line). Bands begin at the
curve's first point, or at 2 Hz, below which the simulator holds a curve level.
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from twin_engine.ports import Float
from twin_engine.sim import Curve, Interferometer, curve

WELCH = 64  # seconds
CARRIED = ("AdV", "ET-D", "aLIGO")


def bands(known: Curve, rate: int) -> list[tuple[float, float]]:
    """Return (low, high) of the bands of a third of an octave within a curve, Hz."""
    low = max(2.0, float(known.frequency[0]))
    high = min(rate / 2 * 0.98, float(known.frequency[-1]))
    return [(low * 2 ** (i / 3), low * 2 ** ((i + 1) / 3)) for i in range(int(3 * math.log2(high / low)))]


def welch(sim: Interferometer, segments: int) -> Float:
    """Return the one-sided power spectral density on a grid of 1 / WELCH Hz, from that many seconds / WELCH x 2 windows."""
    n = WELCH * sim.rate
    window = np.hanning(n + 1)[:-1]
    total, kept = np.zeros(n // 2 + 1), np.zeros(0)
    count = 0
    for readings in sim.blocks():
        kept = np.concatenate([kept, readings[0].values[0]])
        while len(kept) >= n and count < segments:
            total += np.abs(np.fft.rfft(kept[:n] * window)) ** 2
            kept, count = kept[n // 2 :], count + 1
    return total * 2 / (sim.rate * np.sum(window**2) * count)


def compare(known: Curve, rate: int, seconds: int) -> list[dict[str, float]]:
    """Return the ratios of each band and the scatter expected of ``level``."""
    segments = 2 * seconds // WELCH - 1
    measured = welch(Interferometer("bench", curve=known, rate=rate, duration=seconds), segments)
    grid = np.arange(len(measured)) / WELCH
    edges = (np.arange(len(measured) + 1) - 0.5) / WELCH
    edges[0] = 0.0
    truth = known.above(2.0).averaged(edges) ** 2
    found: list[dict[str, float]] = []
    for low, high in bands(known, rate):
        inside = (grid >= low) & (grid < high)
        level = math.sqrt(float(np.mean(measured[inside] / truth[inside])))
        power = math.sqrt(float(measured[inside].sum() / truth[inside].sum()))
        found.append({"low": low, "level": level, "power": power, "sigma": 0.5 / math.sqrt((high - low) * seconds)})
    return found


def main() -> None:
    """Print a table a curve, and one line of JSON with the worst bands."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path(__file__).parents[1] / "../shared/data")
    parser.add_argument("--seconds", type=int, default=2048)
    arguments = parser.parse_args()
    files = sorted(p for p in (arguments.data / "noise_curves").glob("*.txt") if p.name != "PROVENANCE.txt")
    runs: list[tuple[str, int, Curve]] = [(name, rate, curve(name)) for name in CARRIED for rate in (4096, 16384)]
    runs += [(p.name, 4096, curve(str(p))) for p in files]
    runs += [(p.name, 16384, curve(str(p))) for p in files if p.name.startswith(("AdV_asd", "ET_D_asd", "Hrec"))]
    worst: dict[str, Any] = {}
    for name, rate, known in runs:
        table = compare(known, rate, arguments.seconds)
        last = max(table, key=lambda b: abs(b["level"] - 1))
        power = max(table, key=lambda b: abs(b["power"] - 1))
        worst[f"{name}@{rate}"] = [round(abs(last["level"] - 1), 4), round(abs(power["power"] - 1), 4)]
        print(
            f"{name} at {rate} Hz, {len(table)} bands: worst level {last['level']:.4f} from {last['low']:.1f} Hz "
            f"(sigma {last['sigma']:.4f}), worst power {power['power']:.4f} from {power['low']:.1f} Hz",
            flush=True,
        )
    limit = 0.05
    level, power = (max(pair[i] for pair in worst.values()) for i in (0, 1))
    found = {"bench": "noise", "limit": limit, "level": level, "power": power, "within": level <= limit, "curves": worst}
    print(json.dumps(found))


if __name__ == "__main__":
    main()
