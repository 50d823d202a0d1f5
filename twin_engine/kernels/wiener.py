"""Normal equations of a linear prediction from many inputs, one set a frequency: running sums, and their solution by Cholesky's method."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from twin_engine.kernels._jit import kernel, owning_kernel
from twin_engine.ports import Bool, Float, Int

Complex = NDArray[np.complex128]


@kernel
def learn(target: Complex, inputs: Complex, weight: Float, decay: float, matrix: Complex, vector: Complex) -> None:
    """Add one segment to the running sums, which forget by ``decay``.

    target ``(bin,)``; inputs ``(input, bin)``; weight ``(bin,)``; matrix ``(bin, input, input)``, its lower triangle the sums of
    ``weight conj(a_i) a_k``; vector ``(bin, input)``, the sums of ``weight conj(a_i) target``.
    """
    n, bins = inputs.shape
    for f in range(bins):
        for i in range(n):
            a = weight[f] * np.conj(inputs[i, f])
            vector[f, i] = decay * vector[f, i] + a * target[f]
            for k in range(i + 1):
                matrix[f, i, k] = decay * matrix[f, i, k] + a * inputs[k, f]


@owning_kernel
def solve(matrix: Complex, vector: Complex, chosen: Bool, ridge: float, gain: Complex) -> None:
    """Write ``gain (input, bin)``, the least-squares coefficients of the chosen inputs, and zero for the others.

    ridge: what is added to each diagonal term, over that term. An input that the ones before it explain to within the ridge gets zero.
    """
    bins, n = vector.shape
    low, y = np.zeros((n, n), np.complex128), np.zeros(n, np.complex128)
    for f in range(bins):
        for j in range(n):
            power = matrix[f, j, j].real
            rest = power * (1.0 + ridge)
            for k in range(j):
                rest -= low[j, k].real ** 2 + low[j, k].imag ** 2
            keep = chosen[j] and power > 0.0 and rest > 0.5 * ridge * power
            low[j, j] = np.sqrt(rest) if keep else 0.0
            y[j] = vector[f, j]
            for k in range(j):
                y[j] -= low[j, k] * y[k]
            y[j] = y[j] / low[j, j].real if keep else 0.0
            for i in range(j + 1, n):
                s = matrix[f, i, j]
                for k in range(j):
                    s -= low[i, k] * np.conj(low[j, k])
                low[i, j] = s / low[j, j].real if keep else 0.0
        for j in range(n - 1, -1, -1):
            s = y[j]
            for i in range(j + 1, n):
                s -= np.conj(low[i, j]) * gain[i, f]
            gain[j, f] = s / low[j, j].real if low[j, j].real > 0.0 else 0.0


@kernel
def fill(values: Float, valid: Bool, centre: Float, filled: Float) -> None:
    """Write values ``(channel, time)`` less their centre ``(channel,)``, the last valid one held, 0 before the first."""
    for c in range(values.shape[0]):
        last = 0.0
        for t in range(values.shape[1]):
            if valid[c, t]:
                last = values[c, t] - centre[c]
            filled[c, t] = last


@kernel
def recentre(matrix: Complex, vector: Complex, filters: Complex, products: Int, first: int, shift: Float) -> None:
    """Bring running sums and filters up to date after the centres of the witnesses moved by ``shift (witness,)``.

    products: ``(product, 2)``, pairs of witnesses; product p is input ``first + p``. With centres c, (a - c_a)(b - c_b) changes by
    -s_b (a - c_a) - s_a (b - c_b) and a constant, which no bin of the band holds: so the sums, and a prediction, can be put as if the new
    centres had always held.
    """
    for p in range(len(products)):
        i, j, k = products[p, 0], products[p, 1], first + p
        s, t = shift[j], shift[i]
        for f in range(len(vector)):
            a, v = matrix[f], vector[f]
            cross = a[i, j] if j <= i else np.conj(a[j, i])
            a[k, k] += s * s * a[i, i] + t * t * a[j, j] + 2.0 * (s * t * cross.real - s * a[k, i].real - t * a[k, j].real)
            for c in range(k):
                left = a[i, c] if c <= i else np.conj(a[c, i])
                right = a[j, c] if c <= j else np.conj(a[c, j])
                a[k, c] -= s * left + t * right
            for r in range(k + 1, len(v)):
                a[r, k] -= s * a[r, i] + t * a[r, j]
            v[k] -= s * v[i] + t * v[j]
        for f in range(filters.shape[1]):
            filters[i, f] += s * filters[k, f]
            filters[j, f] += t * filters[k, f]
