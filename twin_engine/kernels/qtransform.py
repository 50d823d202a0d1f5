"""Kernels of the Q transform: decimation, blocks cut on the epoch's grid, energies of the tiles of all rows of a group."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from twin_engine.kernels._jit import fixed_length_kernel
from twin_engine.ports import Bool, Float, Int

Single = NDArray[np.float32]
LANES = 16
CLIP = 4.0  # energies count in a row's level up to this many times the level
CLIPPED_MEAN = 1.0 - np.exp(-CLIP)  # of an exponential variable with mean 1
LOWEST = 0.7  # a row's level is not taken below this part of what white noise would give

# what is kept of a cell of time and of a cluster of tiles, in this order
SCORE, ENERGY, LANE, TIME, START, END, LOW, HIGH, FIRST = range(9)
FIELDS = 9


class Jobs(NamedTuple):
    """Blocks to be transformed, in order of time for each row and channel.

    row: place in the fleet. local: place in the step. channel. block: number on the epoch's grid. whole: whether all of its samples
    were valid.
    """

    row: Int
    local: Int
    channel: Int
    block: Int
    whole: Bool


@fixed_length_kernel
def decimate(past: Single, taps: Single, first: int, out: Single) -> None:
    """Filter ``(signal, time)`` and keep every fourth sample: output j is centred on ``first + 4 j``. A symmetric filter of odd length."""
    half = taps.shape[0] // 2
    for s in range(past.shape[0]):
        for j in range(out.shape[1]):
            at, total = first + 4 * j - half, np.float32(0)
            for k in range(taps.shape[0]):
                total += taps[k] * past[s, at + k]
            out[s, j] = total


@fixed_length_kernel
def _inverse_fft(xr: Single, xi: Single, yr: Single, yi: Single, size: int, cos: Single, sin: Single) -> bool:
    """Inverse FFTs (unscaled) of LANES interleaved signals.

    Stockham's autosort algorithm (Cochran et al. 1967), radix 4 with one pass of radix 2. All arrays are ``(size *
    LANES,)``. cos, sin: of 2 pi k / size. Returns whether the result is in y.
    """
    n, stride, flipped = size, LANES, False
    while n > 1:
        turn = size // n
        if n % 4 == 0:
            m = n // 4
            for p in range(m):
                c1, s1, c2, s2 = cos[p * turn], sin[p * turn], cos[2 * p * turn], sin[2 * p * turn]
                c3, s3 = cos[3 * p * turn], sin[3 * p * turn]
                a, b, c, d, o = p * stride, (p + m) * stride, (p + 2 * m) * stride, (p + 3 * m) * stride, 4 * p * stride
                for i in range(stride):
                    er, ei, fr, fi = xr[a + i] + xr[c + i], xi[a + i] + xi[c + i], xr[a + i] - xr[c + i], xi[a + i] - xi[c + i]
                    gr, gi, hr, hi = xr[b + i] + xr[d + i], xi[b + i] + xi[d + i], xr[b + i] - xr[d + i], xi[b + i] - xi[d + i]
                    yr[o + i], yi[o + i] = er + gr, ei + gi
                    t, u = fr - hi, fi + hr
                    yr[o + stride + i], yi[o + stride + i] = t * c1 - u * s1, t * s1 + u * c1
                    t, u = er - gr, ei - gi
                    yr[o + 2 * stride + i], yi[o + 2 * stride + i] = t * c2 - u * s2, t * s2 + u * c2
                    t, u = fr + hi, fi - hr
                    yr[o + 3 * stride + i], yi[o + 3 * stride + i] = t * c3 - u * s3, t * s3 + u * c3
            n, stride = m, stride * 4
        else:
            m = n // 2
            for p in range(m):
                c1, s1 = cos[p * turn], sin[p * turn]
                a, b, o = p * stride, (p + m) * stride, 2 * p * stride
                for i in range(stride):
                    t, u = xr[a + i] - xr[b + i], xi[a + i] - xi[b + i]
                    yr[o + i], yi[o + i] = xr[a + i] + xr[b + i], xi[a + i] + xi[b + i]
                    yr[o + stride + i], yi[o + stride + i] = t * c1 - u * s1, t * s1 + u * c1
            n, stride = m, stride * 2
        xr, yr, xi, yi, flipped = yr, xr, yi, xi, not flipped
    return flipped


@fixed_length_kernel
def block_energies(
    spectrum: NDArray[np.complex64], first_bin: Int, weights: Single, lane: int, tiles: int, lo: int, hi: int, work: Single, out: Single
) -> None:
    """Write the energies ``(tile, LANES)`` of tiles lo to hi of a block for the LANES rows from ``lane`` on.

    spectrum: ``(bin,)`` of the block. work: ``(6, tiles * LANES)``, whose last two rows begin with cos and sin of 2 pi k / tiles.
    """
    xr, xi, yr, yi = work[0], work[1], work[2], work[3]
    count = weights.shape[0]
    for j in range(count):
        for i in range(LANES):
            z, w = spectrum[first_bin[lane + i] + j], weights[j, lane + i]
            xr[j * LANES + i], xi[j * LANES + i] = z.real * w, z.imag * w
    xr[count * LANES :] = 0
    xi[count * LANES :] = 0
    if _inverse_fft(xr, xi, yr, yi, tiles, work[4], work[5]):
        xr, xi = yr, yi
    for j in range(lo, hi):
        for i in range(LANES):
            at = j * LANES + i
            out[j - lo, i] = xr[at] * xr[at] + xi[at] * xi[at]


@fixed_length_kernel
def find_tiles(
    jobs: Jobs, spectra: NDArray[np.complex64], first_bin: Int, weights: Single, trust: Single, half: Float, band: Float, shape: Int,
    rates: Float, levels: Single, cells: Float, cell_zero: Int, work: Single,
) -> None:  # fmt: skip
    """Normalise the tiles of a group's blocks by each row's own recent level, and keep the loudest tile of each cell of time.

    spectra: ``(job, bin)``. trust, half, band: ``(lane,)`` of the whole tiling: independent tiles behind a level, half a tile's
    duration (input samples), half its
    bandwidth and centre (``(2, lane)``, Hz). shape: tiles, lo, hi, first lane, input samples between tiles, of a hop, depth of the
    levels' memory, of a cell, place of
    the group's levels. rates: forgetting
    a block, lowest score kept, trigger threshold. levels: ``(asset, channel, depth * lane)``, level after block b at place b modulo the
    depth. cells: ``(local,
    channel, cell, FIELDS)`` from cell number ``cell_zero[local]`` on.
    """
    tiles, lo, hi, base, step, hop, depth, width, place = (
        shape[0],
        shape[1],
        shape[2],
        shape[3],
        shape[4],
        shape[5],
        shape[6],
        shape[7],
        shape[8],
    )
    rows = len(first_bin)
    energy = np.empty((hi - lo, LANES), np.float32)
    total, most = np.empty(LANES, np.float32), np.empty(LANES, np.float32)
    for n in range(len(jobs.row)):
        block, row, channel = jobs.block[n], jobs.row[n], jobs.channel[n]
        kept, target = levels[row, channel], cells[jobs.local[n], channel]
        now, before = place + block % depth * rows, place + (block - 1) % depth * rows
        for lane in range(0, rows, LANES):
            block_energies(spectra[n], first_bin, weights, lane, tiles, lo, hi, work, energy)
            level = np.maximum(kept[now + lane : now + lane + LANES], np.float32(LOWEST))  # as it was `depth` blocks ago
            total[:] = 0
            most[:] = 0
            for j in range(hi - lo):
                for i in range(LANES):
                    total[i] += min(energy[j, i], np.float32(CLIP) * level[i])
                    most[i] = max(most[i], energy[j, i])
            for i in range(LANES):
                last = kept[before + lane + i]
                if jobs.whole[n]:
                    mean = total[i] / np.float32((hi - lo) * CLIPPED_MEAN)
                    kept[now + lane + i] = last + np.float32(rates[0]) * (mean - last)
                else:
                    kept[now + lane + i] = last
                if most[i] > rates[1] * level[i] and trust[base + lane + i] > 0:
                    _keep_loud(
                        energy,
                        i,
                        level[i],
                        base + lane + i,
                        block * hop,
                        step,
                        width,
                        trust,
                        half,
                        band,
                        rates,
                        target,
                        cell_zero[jobs.local[n]],
                    )


@fixed_length_kernel
def _keep_loud(
    energy: Single, i: int, level: float, lane: int, start: int, step: int, width: int, trust: Single, half: Float, band: Float,
    rates: Float, cells: Float, zero: Any,
) -> None:  # fmt: skip
    """Put the tiles of one row that are loud enough in their cells."""
    n = np.float64(trust[lane])
    for j in range(energy.shape[0]):
        e = np.float64(energy[j, i]) / level
        if e <= rates[1]:
            continue
        # an energy over a level that was itself estimated from n tiles: minus the logarithm of its survival (Lomax) under Gaussian noise
        score = n * np.log1p(e / n)
        time = start + j * step
        cell = cells[time // width - zero]
        louder = score > cell[SCORE] or (score == cell[SCORE] and lane < cell[LANE])
        if louder:
            cell[SCORE], cell[ENERGY], cell[LANE], cell[TIME] = score, e, lane, time
        if score >= rates[2]:
            cell[START], cell[END] = min(cell[START], time - half[lane]), max(cell[END], time + half[lane])
            cell[LOW] = min(cell[LOW], band[1, lane] - band[0, lane])
            cell[HIGH] = max(cell[HIGH], band[1, lane] + band[0, lane])
