"""Sensitivity curves of detectors: amplitude spectral density against frequency."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import numpy as np

from twin_engine.errors import InputError
from twin_engine.ports import Float

CURVES = ("AdV", "ET-D", "aLIGO")


@dataclass(frozen=True)
class Curve:
    """A curve between points, straight in log frequency and log amplitude, held level beyond both ends.

    frequency: Hz, ascending, positive. amplitude: 1/sqrt(Hz), positive.
    """

    frequency: Float
    amplitude: Float

    def __call__(self, frequency: Float) -> Float:
        """Return the amplitude spectral density, 1/sqrt(Hz), at frequencies in Hz."""
        at = np.log(np.maximum(frequency, self.frequency[0]))
        return np.exp(np.interp(at, np.log(self.frequency), np.log(self.amplitude)))

    def above(self, low: float) -> Curve:
        """Return the curve held level below a frequency in Hz, as a detector's high-pass leaves it."""
        keep = self.frequency > low
        if low <= self.frequency[0] or not keep.any():
            return self
        return Curve(np.append(low, self.frequency[keep]), np.append(self(np.array([low])), self.amplitude[keep]))

    def averaged(self, edges: Float) -> Float:
        """Return the root of the mean power between successive edges in Hz: what bins that wide hold of a curve with narrow lines."""
        inside = self.frequency[(self.frequency > edges[0]) & (self.frequency < edges[-1])]
        fine = np.unique(np.concatenate([edges, inside, np.interp(np.arange(4 * len(edges) - 3) / 4, np.arange(len(edges)), edges)]))
        power = self(fine) ** 2
        level, at = fine <= self.frequency[0], np.maximum(fine, self.frequency[0])
        lower, upper = at[:-1] * power[:-1], at[1:] * power[1:]
        ratio, octaves = np.log(upper / lower), np.log(at[1:] / at[:-1])
        straight = np.abs(ratio) < 1e-6  # a slope of 1 / f in power, whose integral is a logarithm
        pieces = octaves * np.where(straight, lower, (upper - lower) / np.where(straight, 1.0, ratio))
        pieces = np.where(level[1:], np.diff(fine) * power[1:], pieces)
        return np.sqrt(np.add.reduceat(pieces, np.searchsorted(fine, edges[:-1])) / np.diff(edges))


def curve(name: str) -> Curve:
    """Return a carried curve (``AdV``, ``ET-D``, ``aLIGO``) or one from a text file.

    A file has two columns, frequency in Hz and amplitude spectral density; where its name ends in ``psd`` the second is power. Raises
    InputError.
    """
    known = {c.lower().replace("-", ""): c for c in CURVES}
    carried = known.get(name.lower().replace("-", "").replace("_", ""))
    path = resources.files("twin_engine.sim") / "curves" / f"{carried}.txt" if carried else Path(name)
    if not path.is_file():
        raise InputError(f"curve {name!r}", expected=f"{', '.join(CURVES)} or a text file", found="neither", mend="Check the path.")
    with path.open() as lines:
        table = np.loadtxt(lines)
    if table.ndim != 2 or table.shape[1] < 2:
        raise InputError(f"curve {name!r}", expected="two columns, frequency and amplitude", found=f"shape {table.shape}")
    table = table[(table[:, 0] > 0) & (table[:, 1] > 0)]
    if len(table) < 2 or not np.all(np.diff(table[:, 0]) > 0):
        raise InputError(f"curve {name!r}", expected="two points or more, frequencies ascending", found=f"{len(table)} points")
    power = Path(name).stem.lower().endswith("psd")
    return Curve(table[:, 0], np.sqrt(table[:, 1]) if power else table[:, 1])
