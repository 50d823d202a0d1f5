"""Make docs/picture.png: a simulated interferometer, its cleaned and whitened strain, and the events that the twin raised.

``python docs/picture.py [FILE]``.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from PIL import Image

from twin_engine import latest, load, replay

mpl.use("Agg")
from matplotlib import pyplot as plt

SEED, SECONDS, SHOWN = 3, 192, (126.0, 188.0)
GLITCHES = "Blip@135:25,Tomte@150:32,Whistle@165:40,Scattered_Light@179:60"


def gather(updates: list[Any], key: str, origin: float) -> tuple[Any, Any]:
    """Return seconds since the origin and values of a channel, NaN where not valid."""
    blocks = [u.outputs[key] for u in updates]
    rate = float(updates[0].specs[key].rate)
    values = np.concatenate([np.where(b.valid[0, 0], b.values[0, 0], np.nan) for b in blocks])
    return (blocks[0].start[0] + np.arange(len(values))) / rate - origin, values


def main(path: Path) -> None:
    twin = load("interferometer")
    asset = twin.simulator("V1", seed=SEED, duration=SECONDS, glitches=GLITCHES)
    origin = asset.start / 1e9
    updates = list(replay(twin, (reading for block in asset.blocks() for reading in block), asset="V1"))
    events = latest(event for update in updates for event in update.events)
    figure, axes = plt.subplots(3, 1, figsize=(11, 6.6), sharex=True, height_ratios=[1, 1, 1.6], layout="constrained")
    white = next(name for name in updates[0].outputs if name.startswith("white."))
    for axis, key, scale, label in zip(axes, ("strain", white), (1e21, 1), ("strain, 1e-21", "whitened, sigma"), strict=False):
        time, values = gather(updates, key, origin)
        axis.plot(time, values * scale, lw=0.4, color="#1f4e79")
        axis.set_ylabel(label)
    time, values = gather(updates, white, origin)
    rate = float(updates[0].specs[white].rate)
    kept = np.where(np.isfinite(values), values, 1e-6)  # drawn in decibels
    power, frequency, at, image = axes[2].specgram(
        kept, NFFT=256, Fs=rate, noverlap=232, xextent=(time[0], time[-1]), vmin=-38, vmax=-8, cmap="magma"
    )
    del power, frequency, at, image
    axes[2].set(yscale="log", ylim=(20, 1024), xlim=SHOWN, ylabel="frequency, Hz", xlabel="seconds")
    for event in events:
        begin, peak, end = (t / 1e9 - origin for t in (event.start, event.peak, event.end))
        for axis in axes:
            axis.axvspan(begin - 0.05, end + 0.05, color="#d1495b", alpha=0.25, lw=0)
        if event.frequency and SHOWN[0] < peak < SHOWN[1]:
            axes[1].annotate(
                f"{event.kind}\nSNR {event.snr:.0f}, {event.frequency:.0f} Hz", (peak, 0), (4, 34), textcoords="offset points", fontsize=8
            )
    axes[0].set_title(
        "simulated interferometer: raw strain, cleaned and whitened from the past alone, and the events raised", loc="left", fontsize=10
    )
    figure.savefig(path, dpi=90)
    Image.open(path).convert("RGB").quantize(160, Image.Quantize.MAXCOVERAGE).save(path, optimize=True)  # half the size


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_name("picture.png"))
