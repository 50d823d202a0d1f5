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
def insert_segment(amplitude: Float, ring: Single, ordered: Single, count: int) -> None:
    """Put one segment's amplitudes ``(bin,)`` in the place of the oldest one.

    ring: ``(segment, bin)`` in order of arrival, modulo its length. ordered: ``(bin, segment)``, the same values sorted. count: segments
    seen before. Amplitudes, not powers, are kept: they order alike, and the power of strain (1e-46) would underflow float32.
    """
    keep = ring.shape[0]
    slot = count % keep
    for k in range(ring.shape[1]):
        new = np.float32(amplitude[k])
        line = ordered[k]
        if count < keep:
            at = count
        else:
            old = ring[slot, k]
            at = 0
            while line[at] < old:
                at += 1
        while at > 0 and line[at - 1] > new:
            line[at] = line[at - 1]
            at -= 1
        last = min(count, keep - 1)
        while at < last and line[at + 1] < new:
            line[at] = line[at + 1]
            at += 1
        line[at] = new
        ring[slot, k] = new


@kernel
def median_power(ordered: Single, n: int, power: Float) -> None:
    """Write the median of the squares of the first ``n`` sorted amplitudes ``(bin, segment)`` of each bin."""
    for k in range(ordered.shape[0]):
        upper, lower = np.float64(ordered[k, n // 2]), np.float64(ordered[k, (n - 1) // 2])
        power[k] = 0.5 * (upper * upper + lower * lower)


@kernel
def mean_power(ring: Single, n: int, power: Float) -> None:
    """Write the mean of the squares of the first ``n`` amplitudes ``(segment, bin)`` of each bin."""
    power[:] = 0.0
    for s in range(n):
        for k in range(ring.shape[1]):
            power[k] += np.float64(ring[s, k]) * np.float64(ring[s, k])
    power /= n


@kernel
def convolve_partitions(spectra: Complex, line: Complex, taps: Complex, first: int, out: Complex) -> None:
    """Uniformly partitioned convolution in the frequency domain (Kulp 1988) of one row.

    spectra, out: ``(channel, block, bin)``, the new input blocks and the products. line: ``(channel, partition, bin)``, spectra of past
    blocks, block b at place b modulo its length. taps: ``(channel, partition, bin)``. first: number of the first new block.
    """
    parts = line.shape[1]
    for c in range(spectra.shape[0]):
        for b in range(spectra.shape[1]):
            line[c, (first + b) % parts] = spectra[c, b]
            out[c, b] = 0.0
            for p in range(parts):
                past, tap, to = line[c, (first + b - p) % parts], taps[c, p], out[c, b]
                for k in range(to.shape[0]):
                    to[k] += past[k] * tap[k]
