"""The scoring rules of the Numenta Anomaly Benchmark v1.1 (Lavin and Ahmad 2015), for one detector on some files."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from twin_engine.ports import Float, Int

#: profile -> (weight of a false positive, of a missed window); a window found at its first row is worth 1
PROFILES = {"standard": (0.11, 1.0), "reward_low_FP_rate": (0.22, 1.0), "reward_low_FN_rate": (0.11, 2.0)}
PROBATION, PROBATION_ROWS = 0.15, 5000  # the part of a file, and the length beyond which it grows no more, that is not scored


@dataclass(frozen=True)
class Judged:
    """A file's rows after probation, arrays ``(row,)``. worth: of an alarm there, -1..1. window: its number or -1."""

    score: Float
    worth: Float
    window: Int


def sigmoid(x: Float | float) -> Float:
    """Return the scaled sigmoid of a position relative to a window's end, in windows: 1 long before, 0 at the end, -1 beyond 3."""
    x = np.asarray(x, np.float64)
    return np.where(x > 3.0, -1.0, 2.0 / (1.0 + np.exp(5.0 * np.minimum(x, 3.0))) - 1.0)


def judge(score: Float, windows: Sequence[tuple[int, int]]) -> Judged:
    """Place rows against the labelled windows, each (first, last) row, ascending and apart."""
    n = len(score)
    worth, window = np.full(n, -1.0), np.full(n, -1)
    for k, (first, last) in enumerate(windows):
        width = last - first + 1
        inside, after = np.arange(first, last + 1), np.arange(last + 1, n)
        window[inside], worth[inside] = k, sigmoid(-(last - inside + 1) / width)
        worth[after] = sigmoid((after - last) / (width - 1)) if width > 1 else -1.0
    skip = math.ceil(min(math.floor(PROBATION * n), PROBATION * PROBATION_ROWS))
    return Judged(score[skip:], worth[skip:], window[skip:])


def curve(files: Sequence[Judged], profile: str = "standard") -> tuple[Float, Float]:
    """Return thresholds, descending, and each one's normalised score over all files: 100 is perfect, 0 raises no alarm."""
    false_positive, missed = PROFILES[profile]
    before = np.cumsum([0, *(int(f.window.max(initial=-1)) + 1 for f in files)])
    score, worth = np.concatenate([f.score for f in files]), np.concatenate([f.worth for f in files])
    window = np.concatenate([np.where(f.window >= 0, f.window + b, -1) for f, b in zip(files, before[:-1], strict=True)])
    order = np.argsort(-score, kind="stable")
    score, worth, window = score[order], worth[order], window[order]
    gain = np.where(window < 0, worth * false_positive, 0.0)
    found = np.full(before[-1], -missed)
    for i in np.flatnonzero(window >= 0):  # an alarm adds what it is worth beyond the window's best so far
        value = worth[i] / float(sigmoid(-1.0))
        gain[i] = max(0.0, value - found[window[i]])
        found[window[i]] = max(found[window[i]], value)
    last = np.flatnonzero(np.append(score[1:] != score[:-1], True))
    live = len(np.unique(window[window >= 0]))
    total = np.cumsum(gain)[last] / (1.0 + missed) / max(live, 1) * 100.0
    return score[last], total


def best(files: Sequence[Judged], profile: str = "standard") -> tuple[float, float]:
    """Return the score at the best single threshold, and that threshold (1.1: none is better than silence)."""
    threshold, total = curve(files, profile)
    i = int(np.argmax(total))
    return (float(total[i]), float(threshold[i])) if total[i] > 0.0 else (0.0, 1.1)


def at(files: Sequence[Judged], threshold: float, profile: str = "standard") -> float:
    """Return the score at a given threshold."""
    thresholds, total = curve(files, profile)
    kept = np.flatnonzero(thresholds >= threshold)
    return float(total[kept[-1]]) if len(kept) else 0.0
