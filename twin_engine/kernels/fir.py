"""Finite impulse responses that keep one output in every ``factor``."""

from __future__ import annotations

import numpy as np

from twin_engine.kernels._jit import fixed_length_kernel
from twin_engine.ports import Bool, Float


@fixed_length_kernel
def decimate(x: Float, valid: Bool, taps: Float, factor: int, y: Float, ok: Bool) -> None:
    """Write ``y[..., j] = sum_k taps[k] x[..., j * factor + k]``, valid where every sample under the taps is.

    x, valid: ``(row, channel, time)``, the history first: at least ``(n - 1) * factor + len(taps)`` samples for n outputs.
    y, ok: ``(row, channel, n)``.
    """
    n, length = y.shape[2], len(taps)
    clean = np.empty(x.shape[2])
    for i in range(x.shape[0]):
        for c in range(x.shape[1]):
            run, begin = 0, 0  # valid samples in a row up to `begin`
            for t in range(x.shape[2]):
                clean[t] = x[i, c, t] if valid[i, c, t] else 0.0
            for j in range(n):
                end = j * factor + length
                for t in range(begin, end):
                    run = run + 1 if valid[i, c, t] else 0
                begin = end
                total = 0.0
                for k in range(length):
                    total += taps[k] * clean[j * factor + k]
                y[i, c, j], ok[i, c, j] = total, run >= length
