"""Glitches of O3 told from background, by the causal stages as they run live.

``python -m bench.glitches [--data DIR]``. Each 14 s segment is whitened already; its first and last second are artefacts of that and
are masked. One score for each
window of 0.5 s, the largest in it: the glitch's window is 6.75 to 7.25 s, the background's are those of 1.5 to 5.5 s and 8.5 to 12.5 s.
A window that is masked scores 0. ``clean``
leaves out background windows with an offline SNR above 7.4 (a Q transform of the whole segment over each row's median): they hold
transients of
their own. Nothing is fitted to the segments.
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from twin_engine import Channel, Reading, Stream, Twin, replay
from twin_engine.clock import NS, time_of
from twin_engine.engine import blocks_of
from twin_engine.ports import BlockSpec, Float
from twin_engine.signal import QTriggers, Refractory
from twin_engine.signal.qtiling import half_width, q_planes, row_frequencies, spacing

RATE, HOP, SECONDS = 4096, 16, 14
EDGE = RATE  # samples at each end
START = 1_000_000_000
BACKGROUND = (*np.arange(1.5, 5.5, 0.5), *np.arange(8.5, 12.5, 0.5))
OFFLINE_SNR = 7.4
TWIN = Twin(
    name="glitches",
    hop="1/16 s",
    streams=[Stream("white", rate=RATE, channels=[Channel("h")])],
    stages={"glitch": QTriggers("white", band=(20, 1024), q=(4, 64), mismatch=0.2), "news": Refractory("glitch.energy")},
)


def scores(segment: Float, key: str) -> Float:
    """Return the score of each hop of one segment, ``(hop,)``, 0 where it is invalid, from one channel of unit noise."""
    # the file's unit is not that of white noise with unit variance; the first half second after the edge gives it, before any window
    scale = np.median(np.abs(segment[EDGE : EDGE + RATE // 2])) / 0.6745
    found = np.zeros(SECONDS * HOP)
    times = START * NS + time_of(np.arange(EDGE, len(segment) - EDGE), TWIN.streams[0].spec.rate)
    reading = Reading("asset", ("h",), times, segment[None, EDGE:-EDGE] / scale)
    for update in replay(TWIN, [reading]):
        block, spec = blocks_of(update, key), update.specs[key]
        assert isinstance(spec, BlockSpec)
        at = int(block.start[0]) - START * HOP + np.arange(block.n)
        keep = block.valid[0, 0] & (at >= 0) & (at < len(found))
        found[at[keep]] = block.values[0, 0, keep]
    return found


def windows(score: Float) -> tuple[Float, Float]:
    """Return the scores of the glitch's window ``(segment,)`` and of the background's ``(segment, window)`` from those of hops."""

    def loudest(begin: float) -> Float:
        at = round(begin * HOP)
        return score[:, at : at + HOP // 2].max(axis=1)

    return loudest(6.75), np.stack([loudest(t) for t in BACKGROUND], axis=1)


def offline_snr(segments: Float) -> Float:
    """Return the largest SNR of each hop, ``(segment, hop)``: the Q transform of whole segments, energies over twice each row's median."""
    spectrum = np.fft.rfft(segments, axis=1)
    energy = np.zeros((len(segments), SECONDS * HOP))
    for q in q_planes(4, 64, 0.2):
        for f in row_frequencies(float(q), 20, 1024, 0.2):
            width = float(half_width(float(q), f))
            bins = np.arange(math.ceil((f - width) * SECONDS), min(int((f + width) * SECONDS), spectrum.shape[1] - 1) + 1)
            window = (1 - ((bins / SECONDS - f) / width) ** 2) ** 2
            least = max(len(bins), 2 * math.pi * f / q / spacing(0.2) * SECONDS)
            tiles = SECONDS * HOP * math.ceil(least / (SECONDS * HOP))
            row = np.abs(np.fft.ifft(spectrum[:, bins] * window, tiles, axis=1)) ** 2
            level = np.median(row[:, tiles // SECONDS : -tiles // SECONDS], axis=1, keepdims=True) / math.log(2)
            energy = np.maximum(energy, (row / level).reshape(len(segments), SECONDS * HOP, -1).max(axis=2))
    return np.sqrt(2 * energy)


def quality(glitch: Float, background: Float) -> dict[str, float]:
    """Return the area under the ROC curve and the recall at 1 % and 5 % false positives."""
    auc = np.mean([(background < g).mean() + (background == g).mean() / 2 for g in glitch])
    recall = {p: float((glitch > np.quantile(background, 1 - p / 100, method="higher")).mean()) for p in (1, 5)}
    return {"auc": round(float(auc), 4), "recall_1": round(recall[1], 4), "recall_5": round(recall[5], 4)}


def report(score: Float, clean: NDArray[np.bool_], label: NDArray[np.str_]) -> dict[str, object]:
    """Return the figures with all windows, without those that hold transients, and by class."""
    glitch, background = windows(score)
    by_class = {str(c): quality(glitch[label == c], background.ravel()) for c in np.unique(label)}
    return {"all": quality(glitch, background.ravel()), "clean": quality(glitch, background[clean]), "by_class": by_class}


def main() -> None:
    """Print the figures of the twin's score, and of the energy without the past's weight."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path(__file__).parents[1] / "../shared/data")
    path = parser.parse_args().data / "ligo_glitch_o3" / "o3_glitches.npz"
    with np.load(path) as file:
        segments, label = file["h_input"].astype(np.float64), file["label"]
    clean = windows(offline_snr(segments))[1] <= OFFLINE_SNR
    found: dict[str, object] = {
        "bench": "glitches",
        "segments": len(segments),
        "windows": int(clean.size),
        "clean_windows": int(clean.sum()),
    }
    for name, key in (("score", "news.score"), ("energy", "glitch.energy")):
        found[name] = report(np.stack([scores(s, key) for s in segments]), clean, label)
        print(name, json.dumps(found[name], indent=1))
    print(json.dumps(found))


if __name__ == "__main__":
    main()
