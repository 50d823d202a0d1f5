"""A picture of series, their scores and alarms."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np

from twin_engine.ports import Bool, Float, Int

PANELS = 6  # series drawn at most
POINTS = 4000  # drawn a series at most: the lowest and highest of each of half as many pieces


def outline(times: Int, values: Float) -> tuple[Int, Float]:
    """Return the series thinned so that every extreme is kept. times, values: ``(sample,)``."""
    if len(times) <= POINTS:
        return times, values
    pieces = np.array_split(np.arange(len(times)), POINTS // 2)
    low = [int(p[np.argmin(np.where(np.isnan(values[p]), np.inf, values[p]))]) for p in pieces]
    high = [int(p[np.argmax(np.where(np.isnan(values[p]), -np.inf, values[p]))]) for p in pieces]
    keep = np.unique(np.array(low + high, np.int64))
    return times[keep], values[keep]


def draw(path: Path, title: str, names: Sequence[str], times: Int, values: Float, score: Float, alarm: Bool) -> None:
    """Draw each column of ``values (row, column)`` with the alarms' spans, and the score beneath, as a PNG."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    shown = list(names)[:PANELS]
    moments: Any = times.astype("datetime64[ns]")
    figure, axes = cast("Any", plt).subplots(
        len(shown) + 1, 1, sharex=True, squeeze=False, figsize=(12, 2.2 * len(shown) + 1.8), height_ratios=[*[2.0] * len(shown), 1.0]
    )
    edges = np.flatnonzero(np.diff(np.concatenate([[False], alarm, [False]]).astype(np.int8)))
    for i, name in enumerate(shown):
        at, height = outline(times, values[:, i])
        axes[i, 0].plot(at.astype("datetime64[ns]"), height, lw=0.7, color="#1f4e79")
        axes[i, 0].set_ylabel(name)
    for axis in axes[:, 0]:
        for begin, end in edges.reshape(-1, 2):
            axis.axvspan(moments[begin], moments[end - 1], color="#d1495b", alpha=0.25, lw=2)
    at, height = outline(times, score)
    axes[-1, 0].plot(at.astype("datetime64[ns]"), height, lw=0.7, color="#d1495b")
    axes[-1, 0].set(ylabel="score", ylim=(0, 1.02))
    axes[0, 0].set_title(title, loc="left")
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    plt.close(figure)
