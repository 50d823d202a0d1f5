"""Kernels of the Q transform: decimation, blocks cut on the epoch's grid, energies of the tiles of all rows of a group."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from twin_engine.kernels._jit import fixed_length_kernel
from twin_engine.ports import Bool, Float, Int

Single = NDArray[np.float32]
Complex = NDArray[np.complex64]
PAIRS = 16  # of tiles, summed side by side
TERMS = 3  # pairs of bins added in one pass
LANES = 8  # numbers to a vector register
CLIP = 4.0  # energies count in a row's level up to this many times the level
CLIPPED_MEAN = 1.0 - np.exp(-CLIP)  # of an exponential variable with mean 1
LOWEST = 0.7  # a row's level is not taken below this part of what white noise would give

# what is kept of a cell of time and of a cluster of tiles, in this order
SCORE, ENERGY, LANE, TIME, START, END, LOW, HIGH, FIRST = range(9)
FIELDS = 9


class Rows(NamedTuple):
    """The rows of a group.

    low: the first bin of a block that any row has. phase: ``(bin,)``, which puts a block's middle to time 0. middle: ``(row,)``, the first
    bin above each row's middle, from ``low`` on. weights: ``(row, 2, bin)``, windows from the middle up and from the middle down. turns:
    ``(chunk, pass, 2 TERMS PAIRS)``, cosines, then sines, of each pair of bins and of tiles. used: ``(chunk, PAIRS)``, 1 or 0.
    """

    low: int
    phase: Complex
    middle: Int
    weights: Single
    turns: Single
    used: Single


class Jobs(NamedTuple):
    """Blocks to be transformed, in order of row and time.

    row, until: ``(row,)``, its place in the fleet and up to which job its jobs go. local, block: ``(job,)``, which row it is of and its
    number on the epoch's grid. whole: ``(job, channel)``, whether all of its samples were valid.
    """

    row: Int
    until: Int
    local: Int
    block: Int
    whole: Bool


@fixed_length_kernel
def find_jobs(begin: Int, start: Int, fresh: int, ends: Int, shape: Int, until: Int, local: Int, block: Int, whole: Bool) -> int:
    """Write the blocks of a group that the new samples of its level complete, as in ``Jobs``; return how many.

    begin, start: ``(row,)``, first new sample of the level and of the input. fresh: new samples of the level. ends: ``(row, channel,
    cell)``, valid samples in a row at the ends of the input's cells. shape: hop, guard and length of the group's blocks, factor and
    delay of its level, samples of a cell.
    """
    hop, guard, length, factor, delay, size = shape[0], shape[1], shape[2], shape[3], shape[4], shape[5]
    found = 0
    for i in range(len(begin)):
        for b in range((begin[i] - guard) // hop, (begin[i] + fresh - guard) // hop):
            stop = ((b + 1) * hop + guard) * factor
            cell = (stop - factor + delay + 1 - start[i] + size - 1) // size  # the one that holds the last sample
            local[found], block[found] = i, b
            for c in range(whole.shape[1]):
                whole[found, c] = ends[i, c, cell - 1] >= start[i] + cell * size - (stop - length * factor - delay)
            found += 1
        until[i] = found
    return found


@fixed_length_kernel
def decimate(past: Single, taps: Single, first: int, out: Single) -> None:
    """Filter ``(signal, time)`` and keep every fourth sample: output j is centred on ``first + 4 j``. A symmetric filter of odd length."""
    half = taps.shape[0] // 2
    for s in range(past.shape[0]):
        for j in range(out.shape[1]):
            at, total = np.uint64(first + 4 * j - half), np.float32(0)
            for k in range(np.uint64(taps.shape[0])):
                total += taps[k] * past[s, at + k]
            out[s, j] = total


@fixed_length_kernel
def cut_blocks(past: Single, local: Int, offset: Int, out: Single) -> None:
    """Copy blocks ``(job, channel, time)`` out of ``(row, channel, time)``."""
    for n in range(out.shape[0]):
        for c in range(out.shape[1]):
            to, block = out[n, c], past[local[n], c, offset[n] :]
            for t in range(len(to)):
                to[t] = block[t]


@fixed_length_kernel
def _turn(spectrum: Complex, low: int, phase: Complex, out: Single) -> None:
    """Put a block's middle to time 0: write the real and imaginary parts of its bins from ``low`` on, then both in reverse order."""
    n, band = len(phase), spectrum[low:]
    for k in range(n):
        z, w = band[k], phase[k]
        real, imaginary = z.real * w.real - z.imag * w.imag, z.real * w.imag + z.imag * w.real
        out[0, k], out[1, k] = real, imaginary
        out[2, n - 1 - k], out[3, n - 1 - k] = real, imaginary


@fixed_length_kernel
def _pair_energies(spectrum: Single, rows: Rows, energy: Single) -> None:
    """Write the energies of a block's tiles, row by row. energy: ``(row, chunk, 2 PAIRS)``, after, then before the middle.

    Tiles as far before as after the middle share their products, and so do bins as far above as below the middle of the row: with a common
    phase left out, which an energy does not have, sums of two such bins go with the cosine and differences with the sine. spectrum: of
    ``_turn``. The sums are made here, not handed in: only so does the compiler know that nothing else is written with them.
    """
    bins, padded = len(rows.phase), rows.weights.shape[2]
    total, plus, minus = np.empty((4, PAIRS), np.float32), np.zeros((2, padded), np.float32), np.zeros((2, padded), np.float32)
    for r in range(len(rows.middle)):
        up, down = np.uint64(rows.middle[r]), np.uint64(bins - rows.middle[r])  # without a sign: none counts from the end
        for part in range(2):
            for k in range(np.uint64(padded)):
                above, below = rows.weights[r, 0, k] * spectrum[part, up + k], rows.weights[r, 1, k] * spectrum[2 + part, down + k]
                plus[part, k], minus[part, k] = above + below, above - below
        for chunk in range(rows.turns.shape[0]):
            turns = rows.turns[chunk]
            for k in range(4):
                for t in range(PAIRS):
                    total[k, t] = 0
            for n in range(turns.shape[0]):
                j = n * TERMS
                a0, a1, a2, b0, b1, b2 = plus[0, j], plus[0, j + 1], plus[0, j + 2], plus[1, j], plus[1, j + 1], plus[1, j + 2]
                d0, d1, d2, e0, e1, e2 = minus[0, j], minus[0, j + 1], minus[0, j + 2], minus[1, j], minus[1, j + 1], minus[1, j + 2]
                for t in range(PAIRS):
                    c0, c1, c2 = turns[n, t], turns[n, 16 + t], turns[n, 32 + t]
                    s0, s1, s2 = turns[n, 48 + t], turns[n, 64 + t], turns[n, 80 + t]
                    total[0, t] += a0 * c0 + a1 * c1 + a2 * c2
                    total[1, t] += b0 * c0 + b1 * c1 + b2 * c2
                    total[2, t] += d0 * s0 + d1 * s1 + d2 * s2
                    total[3, t] += e0 * s0 + e1 * s1 + e2 * s2
            for t in range(PAIRS):
                real, imaginary = total[0, t] - total[3, t], total[1, t] + total[2, t]
                energy[r, chunk, t] = rows.used[chunk, t] * (real * real + imaginary * imaginary)
                real, imaginary = total[0, t] + total[3, t], total[1, t] - total[2, t]
                energy[r, chunk, PAIRS + t] = rows.used[chunk, t] * (real * real + imaginary * imaginary)


@fixed_length_kernel
def find_tiles(
    jobs: Jobs, spectra: Complex, rows: Rows, trust: Single, half: Float, band: Float, shape: Int, rates: Float, first_channel: int,
    levels: Single, cells: Float, cell_zero: Int,
) -> None:  # fmt: skip
    """Normalise the tiles of a group's blocks by each row's own recent level, and keep the loudest tile of each cell of time.

    spectra: ``(job, channel, bin)``, of channels from ``first_channel`` on. trust, half, band:
    ``(row,)`` of the whole tiling: independent tiles behind a level, half a tile's duration (input samples), half its bandwidth and
    centre (``(2, row)``, Hz). shape: tiles of a block, the group's first row, input samples between tiles, of a hop, depth of the levels'
    memory, samples of a cell, place of the group's levels. rates: forgetting a block, lowest score kept, trigger threshold. levels:
    ``(asset, channel, depth * row)``, level after block b at place b modulo the depth. cells: ``(local, channel, cell, FIELDS)`` from
    cell number ``cell_zero[local]`` on.
    """
    tiles, base, hop, depth, place, channels = shape[0], shape[1], shape[3], shape[4], shape[6], spectra.shape[1]
    count, chunks = len(rows.middle), rows.turns.shape[0]
    energies = np.empty((count, chunks, 2 * PAIRS), np.float32)
    spectrum = np.zeros((4, len(rows.phase) + rows.weights.shape[2]), np.float32)
    share, forget, lowest = np.float32(1 / (tiles * CLIPPED_MEAN)), np.float32(rates[0]), np.float32(rates[1])
    for unit in range(len(jobs.row) * channels):
        local, c = unit // channels, unit % channels
        channel, zero = first_channel + c, cell_zero[local]
        kept = levels[jobs.row[local], channel]
        for n in range(jobs.until[local - 1] if local > 0 else 0, jobs.until[local]):
            now, before = place + jobs.block[n] % depth * count, place + (jobs.block[n] - 1) % depth * count
            rate = forget if jobs.whole[n, c] else np.float32(0)
            _turn(spectra[n, c], rows.low, rows.phase, spectrum)
            _pair_energies(spectrum, rows, energies)
            for r in range(count):
                level = max(kept[now + r], np.float32(LOWEST))  # as it was `depth` blocks ago
                limit, most = lowest * level, np.float32(CLIP) * level
                total, loud = np.float32(0), np.float32(0)
                for chunk in range(chunks):
                    for t in range(2 * PAIRS):
                        e = energies[r, chunk, t]
                        total += min(most, e)
                        loud += np.float32(e > limit)
                kept[now + r] = kept[before + r] + rate * (total * share - kept[before + r])
                if loud > 0:
                    at, own = int(jobs.block[n] * hop), cells[local, channel]
                    _keep_loud(energies[r], float(level), base + r, at, shape, trust, half, band, rates, own, int(zero))


@fixed_length_kernel
def _keep_loud(
    energy: Single, level: float, row: int, start: int, shape: Int, trust: Single, half: Float, band: Float, rates: Float, cells: Float,
    zero: int,
) -> None:  # fmt: skip
    """Put the tiles of one row that are loud enough in their cells."""
    n, middle = np.float64(trust[row]), shape[0] // 2
    for j in range(shape[0]):
        pair = j - middle if j >= middle else middle - 1 - j
        e = np.float64(energy[pair // PAIRS, pair % PAIRS + (0 if j >= middle else PAIRS)]) / level
        if not e > rates[1]:
            continue
        # an energy over a level that was itself estimated from n tiles: minus the logarithm of its survival (Lomax) under Gaussian noise
        score = n * np.log1p(e / n)
        time = start + j * shape[2]
        cell = cells[time // shape[5] - zero]
        if score > cell[SCORE] or (score == cell[SCORE] and row < cell[LANE]):
            cell[SCORE], cell[ENERGY], cell[LANE], cell[TIME] = score, e, row, time
        if score >= rates[2]:
            cell[START], cell[END] = min(cell[START], time - half[row]), max(cell[END], time + half[row])
            cell[LOW] = min(cell[LOW], band[1, row] - band[0, row])
            cell[HIGH] = max(cell[HIGH], band[1, row] + band[0, row])
