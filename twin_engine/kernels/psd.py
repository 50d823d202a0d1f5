"""Kernels of the running spectrum: runs of valid samples, order statistics of periodograms, partitioned convolution."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from twin_engine.kernels._jit import kernel
from twin_engine.ports import Bool, Float, Int

Single = NDArray[np.float32]
Complex = NDArray[np.complex128]


@kernel
def fill_and_count(values: Float, valid: Bool, rows: Int, run: Int, filled: Float, runs: Int) -> None:
    """Copy samples with 0 where they are invalid or not finite, and count the valid ones in a row up to and with each.

    values, valid, filled, runs: ``(row, channel, time)``. run: ``(asset, channel)``, the count before the first sample; is brought up
    to date.
    """
    for i in range(values.shape[0]):
        for c in range(values.shape[1]):
            count = run[rows[i], c]
            for t in range(values.shape[2]):
                if valid[i, c, t] and np.isfinite(values[i, c, t]):
                    filled[i, c, t] = values[i, c, t]
                    count += 1
                else:
                    filled[i, c, t] = 0.0
                    count = 0
                runs[i, c, t] = count
            run[rows[i], c] = count


@kernel
def _replace(here: Single, following: Single, old: Single, new: Single, before: Single) -> None:
    """Move one place of the sorted values on: the old value left out, the new one clamped between those that are its neighbours then."""
    for k in range(len(here)):
        kept = here[k] if here[k] < old[k] else following[k]
        least = max(new[k], before[k])
        here[k] = min(least, kept)
        before[k] = kept


@kernel
def insert_segments(amplitudes: Float, fresh: Bool, ring: Single, ordered: Single, seen: Int) -> None:
    """Put one segment's amplitudes ``(channel, bin)`` in the place of the oldest ones, in the channels that are fresh.

    ring: ``(channel, segment, bin)`` in order of arrival, modulo its length. ordered: the same values sorted, infinity where there are
    none yet. seen: ``(channel,)``, segments so far. Amplitudes, not powers, are kept: they order alike, and the power of strain (1e-46)
    would underflow float32.
    """
    keep, bins, beyond = ring.shape[1], ring.shape[2], np.float32(np.inf)
    old, new, before, last = np.empty(bins, np.float32), np.empty(bins, np.float32), np.empty(bins, np.float32), np.empty(bins, np.float32)
    for c in range(ring.shape[0]):
        if not fresh[c]:
            continue
        slot = seen[c] % keep
        for k in range(bins):
            a = np.float32(amplitudes[c, k])
            new[k] = min(beyond, a)  # not a number neither
            old[k] = ring[c, slot, k] if seen[c] >= keep else beyond
            ring[c, slot, k] = new[k]
            before[k], last[k] = 0, beyond
        for s in range(keep):
            _replace(ordered[c, s], ordered[c, s + 1] if s + 1 < keep else last, old, new, before)
        seen[c] += 1


@kernel
def median_power(ordered: Single, n: int, power: Float) -> None:
    """Write the median of the squares of the first ``n`` sorted amplitudes ``(segment, bin)`` of each bin."""
    for k in range(len(power)):
        upper, lower = np.float64(ordered[n // 2, k]), np.float64(ordered[(n - 1) // 2, k])
        power[k] = 0.5 * (upper * upper + lower * lower)


@kernel
def mean_power(ring: Single, n: int, power: Float) -> None:
    """Write the mean of the squares of the first ``n`` amplitudes ``(segment, bin)`` of each bin."""
    for k in range(len(power)):
        power[k] = 0.0
    for s in range(n):
        for k in range(len(power)):
            power[k] += np.float64(ring[s, k]) * np.float64(ring[s, k]) / n


@kernel
def convolve_partitions(spectra: Complex, line: Complex, taps: Complex, first: int, lo: int, hi: int, out: Complex) -> None:
    """Uniformly partitioned convolution in the frequency domain (Kulp 1988) of blocks lo to hi of one row.

    spectra, out: ``(channel, block, bin)``, the new input blocks and the products. line: ``(channel, partition, bin)``, spectra of past
    blocks, block b at place b modulo its length. taps: ``(channel, partition, bin)``. first: number of the first new block.
    """
    parts = line.shape[1]
    for c in range(spectra.shape[0]):
        for b in range(lo, hi):
            for k in range(spectra.shape[2]):
                line[c, (first + b) % parts, k] = spectra[c, b, k]
                out[c, b, k] = 0.0
            for p in range(parts):
                at = (first + b - p) % parts
                for k in range(spectra.shape[2]):
                    out[c, b, k] += line[c, at, k] * taps[c, p, k]
