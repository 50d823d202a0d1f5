"""The tiling of time, frequency and Q by sine-Gaussian-like tiles, and its layout in blocks for streaming.

The tiling is that of the Q transform of Chatterji et al. 2004 (doi:10.1088/0264-9381/21/20/024): planes of constant Q, rows of constant
frequency, tiles in time, spaced so
that no sine-Gaussian inside the band loses more than the stated fraction (``mismatch``) of its energy.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from twin_engine.kernels.qtransform import LANES, PAIRS, TERMS, Rows
from twin_engine.ports import Float

DECIMATION = 4  # between one level and the next
HALF_TAPS = 30  # of the decimator's filter on either side
USABLE = 0.3  # of a level's rate: above it the decimator's transition begins
GUARD = (
    0.5  # of Q/f: what a block lacks of the envelope beyond it changes energies by less than 1 %, those of a row's peak by less than 0.5 %
)


def spacing(mismatch: float) -> float:
    """Return the distance between tiles, in the metric of the tiling, that loses at most ``mismatch``."""
    return 2.0 * math.sqrt(mismatch / 3.0)


def q_planes(low: float, high: float, mismatch: float) -> Float:
    """Return the Q of each plane between two limits."""
    extent = math.log(high / low) / math.sqrt(2.0)
    count = max(1, math.ceil(extent / spacing(mismatch)))
    return low * np.exp(math.sqrt(2.0) * extent / count * (np.arange(count) + 0.5))


def row_frequencies(q: float, low: float, high: float, mismatch: float) -> Float:
    """Return the centre frequency (Hz) of each row of the plane of one Q between two limits."""
    stretch = math.sqrt(2.0 + q * q) / 2.0
    extent = math.log(high / low) * stretch
    count = max(1, math.ceil(extent / spacing(mismatch)))
    return low * np.exp(extent / count / stretch * (np.arange(count) + 0.5))


def half_width(q: float | Float, frequency: float | Float) -> Float:
    """Return half the width (Hz) of a row's bisquare window."""
    return np.asarray(math.sqrt(11.0) * frequency / q)


@dataclass(frozen=True)
class Group:
    """Rows that share their blocks: the middle ``hop`` of ``length`` samples at a decimation level, ``tiles`` in a whole block.

    A block b covers samples ``(b + 1) hop + guard - length`` to ``(b + 1) hop + guard`` of the level and gives the tiles of ``b hop``
    to ``(b + 1) hop``. row: place of the first row in the tiling's arrays. rows: their windows are scaled to unit mean energy on white
    noise of unit variance.
    """

    level: int
    length: int
    hop: int
    guard: int
    tiles: int
    row: int
    rows: Rows

    @property
    def count(self) -> int:
        """Rows of the group."""
        return len(self.rows.middle)

    @property
    def factor(self) -> int:
        """Samples of the input to one of the level."""
        return DECIMATION**self.level

    @property
    def delay(self) -> int:
        """Samples of the input by which the level trails it."""
        return HALF_TAPS * (self.factor - 1) // (DECIMATION - 1)

    @property
    def lag(self) -> int:
        """Samples of the input by which the tiles trail it."""
        return (self.hop + self.guard - 1) * self.factor + self.delay + 1


@dataclass(frozen=True)
class Tiling:
    """All rows, group by group. q, frequency (Hz): ``(row,)``."""

    rate: float
    groups: tuple[Group, ...]
    q: Float
    frequency: Float

    @property
    def rows(self) -> int:
        """Rows of tiles."""
        return len(self.q)

    @property
    def independent(self) -> Float:
        """Independent tiles a second of each row: the equivalent bandwidth of its squared window, ``(row,)``."""
        shape = 0.8127**2 / 0.6017  # integral of the squared bisquare, squared, over that of its fourth power, in half widths
        return shape * math.sqrt(11.0) * self.frequency / self.q


def tile_count(mismatch: float) -> int:
    """Return the tiles in a block: enough that a quarter of it holds the guard at the finest spacing, as a power of 2."""
    return 2 ** math.ceil(math.log2(16.0 * math.pi * GUARD / spacing(mismatch)) - 1e-9)


def tiling(
    rate: float, band: tuple[float, float], q: tuple[float, float], mismatch: float, longest: float, cadence: float, levels: int
) -> Tiling:
    """Lay out the rows of a band (Hz) and a range of Q at a rate (Hz).

    longest: seconds, rows of tiles with a longer Q/f are left out. cadence: seconds, the longest hop between a row's blocks. levels:
    decimations there may be.
    """
    n = tile_count(mismatch)
    members: dict[tuple[int, int], list[tuple[float, float]]] = {}
    for plane in q_planes(*q, mismatch):
        high = min(band[1], rate / 2 / (1 + math.sqrt(11.0) / plane))
        if high <= band[0]:
            continue
        for f in row_frequencies(float(plane), band[0], high, mismatch):
            if plane / f > longest:
                continue
            edge = float(f + half_width(plane, f))
            level = min(levels, max(0, math.floor(math.log(USABLE * rate / edge, DECIMATION))))
            duration = n * spacing(mismatch) / (2 * math.pi) * plane / f
            length = 2 ** math.floor(math.log2(duration * rate / DECIMATION**level))
            members.setdefault((level, max(length, n)), []).append((float(plane), float(f)))
    groups: list[Group] = []
    every: list[tuple[float, float]] = []
    for (level, length), rows in sorted(members.items()):
        groups.append(_group(rate / DECIMATION**level, level, length, n, rows, cadence, len(every)))
        every += rows
    array = np.array(every, float).reshape(-1, 2)
    return Tiling(rate, tuple(groups), array[:, 0].copy(), array[:, 1].copy())


def _group(rate: float, level: int, length: int, n: int, rows: list[tuple[float, float]], cadence: float, row: int) -> Group:
    step = length // n
    wanted = min(n // 2, max(2, int(cadence * rate / step)))
    hop = step * 2 ** int(math.log2(wanted))
    guard = step * min(n // 4, max(math.ceil(GUARD * q / f * rate / step) for q, f in rows))
    q, f = np.array(rows).T
    centre, width = f * length / rate, half_width(q, f) * length / rate
    first = np.ceil(centre - width).astype(np.int64)
    pairs = int(np.floor(2 * width).max()) // 2 + 1
    turns, used = _turns(n, pairs, hop // step // 2)
    padded: int = -(-turns.shape[1] * TERMS // LANES) * LANES
    up = np.arange(padded, dtype=np.int64)
    bins = first[:, None] + pairs + np.stack([up, -1 - up])[:, None]
    x = (bins - centre[:, None]) / width[:, None]
    window = np.where((np.abs(x) < 1) & (bins <= length // 2), (1 - x**2) ** 2, 0.0)
    window /= np.sqrt(length * (window**2).sum(axis=(0, 2), keepdims=True))
    weights = np.ascontiguousarray(window.transpose(1, 0, 2), np.float32)
    low, high = int(first.min()), min(int((first + 2 * pairs).max()), length // 2 + 1)
    middle = (length - guard - hop / 2) / length - 0.5 / n  # of the hop's tiles, in blocks from the block's begin
    phase = np.exp(2j * np.pi * middle * np.arange(low, high)).astype(np.complex64)
    return Group(level, length, hop, guard, n, row, Rows(low, phase, first + pairs - low, weights, turns, used))


def _turns(n: int, bins: int, pairs: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return cosines and sines for pairs of tiles either side of a block's middle, and which pairs there are, in the kernel's order."""
    chunks, passes = -(-pairs // PAIRS), -(-bins // TERMS)
    pair = np.arange(chunks * PAIRS)
    angle = 2 * np.pi / n * (np.arange(passes * TERMS)[:, None] + 0.5) * (pair + 0.5)
    ordered = np.stack([np.cos(angle), np.sin(angle)]).reshape(2, passes, TERMS, chunks, PAIRS).transpose(3, 1, 0, 2, 4)
    turns = np.ascontiguousarray(ordered.reshape(chunks, passes, 2 * TERMS * PAIRS), np.float32)
    return turns, (pair < pairs).astype(np.float32).reshape(chunks, PAIRS)
