"""Cascades of biquads over ``(row, channel, time)``: sixteen series side by side, or one at a time, with the same bits either way."""

from __future__ import annotations

import numpy as np

from twin_engine.kernels._jit import kernel, owning_kernel
from twin_engine.ports import Bool, Float, Int

LANES = 16  # series that go through a section together, as vectors
FEW = 5  # below this many, one at a time is faster
TILE = 256  # samples that stay in the first cache from one section to the next


@owning_kernel
def cascade(
    x: Float, valid: Bool, rows: Int, sos: Float, dc: float, settle: int,
    z: Float, held: Float, origin: Float, since: Int, y: Float, ok: Bool,
) -> None:  # fmt: skip
    """Filter in direct form II transposed; writes ``y`` and ``ok`` and the state of the rows.

    x, valid, y, ok: ``(row, channel, time)``. sos: ``(section, 6)``, a0 = 1, a multiple of four sections. dc: the cascade's gain at 0 Hz.
    settle: samples of unbroken valid input before the output is valid. State, asset first: z ``(asset, channel, section, 2)``; held, the
    last valid input less origin; origin, the first valid input, taken off before and given back (times dc) after the filter, so that a
    stream begins without a step; since, valid samples in a row.
    """
    n_channels, n, sections = x.shape[1], x.shape[2], len(sos)
    total = len(x) * n_channels
    beside, alone = np.zeros((TILE, LANES)), np.zeros((TILE, 1))
    z0, z1 = np.zeros((sections, LANES)), np.zeros((sections, LANES))
    first = 0
    while first < total:
        lanes = min(LANES, total - first) if total - first >= FEW else 1
        tile = beside if lanes > 1 else alone
        for j in range(lanes):
            i, c = divmod(first + j, n_channels)
            for s in range(sections):
                z0[s, j], z1[s, j] = z[rows[i], c, s, 0], z[rows[i], c, s, 1]
        for begin in range(0, n, TILE):
            length = min(TILE, n - begin)
            for j in range(lanes):
                i, c = divmod(first + j, n_channels)
                _take(x, valid, i, c, begin, length, tile, j, settle, held, origin, since, rows[i], ok)
            if lanes > 1:
                _abreast(tile, length, sos, z0, z1)
            else:
                for s in range(0, sections, 4):
                    _four(tile, length, sos, s, z0, z1)
            for j in range(lanes):
                i, c = divmod(first + j, n_channels)
                back = dc * origin[rows[i], c] if dc != 0.0 else 0.0
                for t in range(length):
                    y[i, c, begin + t] = tile[t, j] + back
        for j in range(lanes):
            i, c = divmod(first + j, n_channels)
            for s in range(sections):
                z[rows[i], c, s, 0], z[rows[i], c, s, 1] = z0[s, j], z1[s, j]
        first += lanes


@kernel
def _take(
    x: Float, valid: Bool, i: int, c: int, begin: int, length: int, tile: Float, j: int, settle: int,
    held: Float, origin: Float, since: Int, a: int, ok: Bool,
) -> None:  # fmt: skip
    """Put one series into a lane of the tile, invalid samples held, and say where the output will be valid."""
    last, zero, run = held[a, c], origin[a, c], since[a, c]
    for t in range(length):
        if valid[i, c, begin + t]:
            if np.isnan(zero):
                zero = x[i, c, begin + t]
            last = x[i, c, begin + t] - zero
            run += 1
        else:
            run = 0
        tile[t, j] = last
        ok[i, c, begin + t] = run > settle
    held[a, c], origin[a, c], since[a, c] = last, zero, run


@kernel
def _abreast(tile: Float, length: int, sos: Float, z0: Float, z1: Float) -> None:
    """Run a tile ``(time, lane)`` through every section, in place."""
    for s in range(len(sos)):
        b0, b1, b2, a1, a2 = sos[s, 0], sos[s, 1], sos[s, 2], sos[s, 4], sos[s, 5]
        for t in range(length):
            for j in range(LANES):
                u = tile[t, j]
                v = b0 * u + z0[s, j]
                z0[s, j] = (b1 * u + z1[s, j]) - a1 * v
                z1[s, j] = b2 * u - a2 * v
                tile[t, j] = v


@kernel
def _four(tile: Float, length: int, sos: Float, s: int, z0: Float, z1: Float) -> None:
    """Run one series through sections s to s + 3, in place: with their states in registers, the processor overlaps their chains."""
    b00, b01, b02, a01, a02 = sos[s, 0], sos[s, 1], sos[s, 2], sos[s, 4], sos[s, 5]
    b10, b11, b12, a11, a12 = sos[s + 1, 0], sos[s + 1, 1], sos[s + 1, 2], sos[s + 1, 4], sos[s + 1, 5]
    b20, b21, b22, a21, a22 = sos[s + 2, 0], sos[s + 2, 1], sos[s + 2, 2], sos[s + 2, 4], sos[s + 2, 5]
    b30, b31, b32, a31, a32 = sos[s + 3, 0], sos[s + 3, 1], sos[s + 3, 2], sos[s + 3, 4], sos[s + 3, 5]
    p0, p1, p2, p3 = z0[s, 0], z0[s + 1, 0], z0[s + 2, 0], z0[s + 3, 0]
    q0, q1, q2, q3 = z1[s, 0], z1[s + 1, 0], z1[s + 2, 0], z1[s + 3, 0]
    for t in range(length):
        u = tile[t, 0]
        v = b00 * u + p0
        p0 = (b01 * u + q0) - a01 * v
        q0 = b02 * u - a02 * v
        w = b10 * v + p1
        p1 = (b11 * v + q1) - a11 * w
        q1 = b12 * v - a12 * w
        u = b20 * w + p2
        p2 = (b21 * w + q2) - a21 * u
        q2 = b22 * w - a22 * u
        v = b30 * u + p3
        p3 = (b31 * u + q3) - a31 * v
        q3 = b32 * u - a32 * v
        tile[t, 0] = v
    z0[s, 0], z0[s + 1, 0], z0[s + 2, 0], z0[s + 3, 0] = p0, p1, p2, p3
    z1[s, 0], z1[s + 1, 0], z1[s + 2, 0], z1[s + 3, 0] = q0, q1, q2, q3
