"""A channel's recent past in one line of text."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

_BARS = "▁▂▃▄▅▆▇█"
_CELLS = 48
_CELL_RATE = 4  # cells a second for channels that are faster


class Trace:
    """The last cells of one channel; a cell without a valid sample is NaN.

    A cell is a sample of a slow channel, or the largest magnitude in a quarter of a second of a fast one.
    """

    def __init__(self, rate: Fraction) -> None:
        self._rate, self._fast, self._cell = rate, rate > _CELL_RATE, -1
        self.values: deque[float] = deque(maxlen=_CELLS)

    def add(self, start: int, values: NDArray[np.float64], valid: NDArray[np.bool_]) -> None:
        """Add samples, ``(time,)``, the first at index ``start`` on the epoch's grid."""
        shown = np.where(valid, np.abs(values) if self._fast else values, np.nan)
        if not self._fast:
            self.values.extend(shown[-_CELLS:].tolist())
            return
        cells = (start + np.arange(len(shown))) * _CELL_RATE * self._rate.denominator // self._rate.numerator
        for cell in np.unique(cells)[-_CELLS:]:
            mine = shown[cells == cell]
            top = float(np.nanmax(mine)) if not np.isnan(mine).all() else math.nan
            if cell == self._cell and self.values:
                self.values[-1] = float(np.fmax(self.values[-1], top))
            else:
                self.values.append(top)
            self._cell = int(cell)

    def range(self) -> str:
        """Return the least and greatest value as text."""
        finite = [v for v in self.values if math.isfinite(v)]
        return f"{min(finite):.3g} .. {max(finite):.3g}" if finite else "no data"


def sparkline(values: Iterable[float]) -> str:
    """Return one bar a value, from the least to the greatest of them; a blank where there is none."""
    cells = list(values)
    finite = [v for v in cells if math.isfinite(v)]
    if not finite:
        return " " * len(cells)
    low, span = min(finite), (max(finite) - min(finite)) or 1.0
    return "".join(_BARS[round((v - low) / span * (len(_BARS) - 1))] if math.isfinite(v) else " " for v in cells)
