"""Kernels of the running spectrum: runs of valid samples, order statistics of periodograms, partitioned convolution."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from twin_engine.kernels._jit import fixed_length_kernel, kernel, owning_kernel
from twin_engine.ports import Bool, Float, Int

Single = NDArray[np.float32]
Complex = NDArray[np.complex128]
BINS = 256  # whose order is brought up to date together


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


@fixed_length_kernel
def cut_segments(past: Float, begin: Int, window: Float, out: Float) -> None:
    """Cut segments ``(segment, channel, time)`` out of ``(channel, time)``, take off their mean and multiply by the window ``(time,)``."""
    for j in range(len(begin)):
        for c in range(past.shape[0]):
            segment, to, total = past[c, begin[j] :], out[j, c], 0.0
            for t in range(len(window)):
                total += segment[t]
            mean = total / len(window)
            for t in range(len(window)):
                to[t] = (segment[t] - mean) * window[t]


@kernel
def _replace(here: Single, following: Single, old: Single, new: Single, before: Single) -> None:
    """Move one place of the sorted values on: the old value left out, the new one clamped between those that are its neighbours then."""
    for k in range(len(here)):
        kept = here[k] if here[k] < old[k] else following[k]
        least = max(new[k], before[k])
        here[k] = min(least, kept)
        before[k] = kept


@kernel
def _median_power(upper: Single, lower: Single, bias: float, power: Float) -> None:
    for k in range(len(power)):
        power[k] = 0.5 * (np.float64(upper[k]) * np.float64(upper[k]) + np.float64(lower[k]) * np.float64(lower[k])) / bias


@kernel
def _mean_power(ring: Single, n: int, lo: int, power: Float) -> None:
    power[:] = 0.0
    for s in range(n):
        for k in range(len(power)):
            power[k] += np.float64(ring[s, lo + k]) * np.float64(ring[s, lo + k]) / n


@owning_kernel
def insert_segments(
    spectra: Complex, fresh: Bool, ring: Single, ordered: Single, seen: Int, bias: Float, first: int, last: int, powers: Float
) -> None:
    """Put segments, one after the other, in the place of the oldest ones, and write the average power after each; bins first to last.

    spectra: ``(segment, channel, bin)``. fresh: ``(segment, channel)``, the others are left out. ring: ``(channel, place, bin)``,
    amplitudes in order of arrival, modulo its length. ordered: the same values sorted, infinity where there are none yet; of no length
    where only means are wanted. seen: ``(channel,)``, segments so far. bias: ``(place + 1,)``, of the median of so many. powers:
    ``(segment, channel, bin)``. Amplitudes, not powers, are kept: they order alike, and the power of strain (1e-46) would underflow
    float32. Some bins at a time: what is kept of them stays in the cache from segment to segment.
    """
    keep, beyond = ring.shape[1], np.float32(np.inf)
    old, new, before = np.empty(BINS, np.float32), np.empty(BINS, np.float32), np.empty(BINS, np.float32)
    after = np.full(BINS, beyond)
    for c in range(ring.shape[0]):
        for lo in range(first, last, BINS):
            hi, count = min(last, lo + BINS), seen[c]
            for j in range(len(spectra)):
                if not fresh[j, c]:
                    continue
                kept = ring[c, count % keep][lo:hi]
                for k in range(hi - lo):
                    z = spectra[j, c, lo + k]
                    a = np.float32(np.sqrt(z.real * z.real + z.imag * z.imag))
                    new[k] = min(beyond, a)  # not a number neither
                    old[k] = kept[k] if count >= keep else beyond
                    kept[k] = new[k]
                    before[k] = 0
                count += 1
                n = min(count, keep)
                if ordered.shape[1] == 0:
                    _mean_power(ring[c], n, lo, powers[j, c][lo:hi])
                    continue
                for s in range(n):
                    _replace(ordered[c, s][lo:hi], ordered[c, s + 1][lo:hi] if s + 1 < keep else after, old, new, before)
                _median_power(ordered[c, n // 2][lo:hi], ordered[c, (n - 1) // 2][lo:hi], float(bias[n]), powers[j, c][lo:hi])


@kernel
def invert_spectra(power: Float, gain: Float, out: Complex, whole: Bool) -> None:
    """Write the gain ``(bin,)`` over the square root of powers ``(spectrum, bin)``, 0 where there is none.

    whole: ``(spectrum,)``, whether none was missing where there is gain.
    """
    for n in range(len(power)):
        missing = 0
        for k in range(len(gain)):
            p = power[n, k]
            there = p > 0.0
            out[n, k] = gain[k] / np.sqrt(p if there else np.inf)
            missing += gain[k] != 0.0 and not there
        whole[n] = missing == 0


@kernel
def convolve_partitions(
    spectra: Complex, line: Complex, held: Complex, taps: Complex, use: Int, first: int, begin: int, out: Complex
) -> None:
    """Uniformly partitioned convolution in the frequency domain (Kulp 1988) of blocks of one row, from its new block ``begin`` on.

    spectra: ``(channel, block, bin)``, the new input blocks. line: ``(channel, partition, bin)``, spectra of past blocks, block b at
    place b modulo its length. held: ``(channel, partition, bin)``, the filter so far. taps: ``(filter, partition, bin)``, new ones. use:
    ``(block, channel)``, which of them, or -1. first: number of the first new block. out: ``(channel, block, bin)``, the products.
    """
    parts = line.shape[1]
    for c in range(out.shape[0]):
        for j in range(out.shape[1]):
            b, to = begin + j, out[c, j]
            chosen = use[b, c]
            to[:] = 0.0
            for p in range(parts):
                x = spectra[c, b - p] if b >= p else line[c, (first + b - p) % parts]
                h = held[c, p] if chosen < 0 else taps[chosen, p]
                for k in range(len(to)):
                    to[k] += x[k] * h[k]
