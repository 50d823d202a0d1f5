"""Regression of targets on filtered regressors by exponentially weighted least squares, one sample at a time."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from twin_engine.kernels._jit import kernel, owning_kernel

RIDGE = 1e-6  # of each regressor's own scatter
LIMIT = 4.0  # standard deviations beyond which a sample counts for less: it adds no more to the scatter than one just there


@kernel
def filter_regressors(x: Any, valid: Any, period: float, constants: Any, level: Any, since: Any, out: Any) -> bool:
    """Advance one-pole low-pass filters by one sample; return whether any regressor is valid.

    x, valid: (R,). constants: (K,) s, 0 for the sample itself. level: (R, K) state. since: (R,) samples since the last valid one, -1 before
    the first. out: (R K,), NaN where a regressor is invalid.
    """
    some = False
    for r in range(x.shape[0]):
        if since[r] >= 0:
            since[r] += 1
        for k in range(constants.shape[0]):
            if not valid[r]:
                out[r * constants.shape[0] + k] = np.nan
                continue
            if since[r] < 0 or constants[k] <= 0.0:
                level[r, k] = x[r]
            else:
                level[r, k] += (1.0 - math.exp(-since[r] * period / constants[k])) * (x[r] - level[r, k])
            out[r * constants.shape[0] + k] = level[r, k]
        if valid[r]:
            since[r] = 0
            some = True
    return some


@kernel
def solve_ridge(scatter: Any, right: Any, factor: Any, out: Any) -> None:
    """Solve (S + ridge diag S) x = right by Cholesky.

    scatter: (p + 1, p + 1), of which the last row and column are left out. factor: (p, p) scratch.
    """
    p = right.shape[0]
    for i in range(p):
        for j in range(i + 1):
            total = scatter[i, j]
            if i == j:
                total += RIDGE * scatter[i, i] if scatter[i, i] > 0.0 else 1.0  # what never varied says nothing
            for k in range(j):
                total -= factor[i, k] * factor[j, k]
            if i == j:
                factor[i, i] = math.sqrt(max(total, 0.1 * RIDGE * scatter[i, i] if scatter[i, i] > 0.0 else 1.0))
            else:
                factor[i, j] = total / factor[j, j]
    for i in range(p):
        total = right[i]
        for k in range(i):
            total -= factor[i, k] * out[k]
        out[i] = total / factor[i, i]
    for i in range(p - 1, -1, -1):
        total = out[i]
        for k in range(i + 1, p):
            total -= factor[k, i] * out[k]
        out[i] = total / factor[i, i]


@kernel
def student_to_normal(t: float, freedom: float) -> float:
    """Return the normal deviate of equal tail probability (Wallace 1959, Ann. Math. Stat. 30, 1121)."""
    z = (8.0 * freedom + 1.0) / (8.0 * freedom + 3.0) * math.sqrt(freedom * math.log1p(t * t / freedom))
    return z if t >= 0.0 else -z


@kernel
def predict_target(
    u: Any, y: float, known: bool, memory: float, least: float, sums: Any, mean: Any, scatter: Any, work: Any
) -> tuple[float, float]:
    """Predict one target, compare, and learn; return the prediction and the standardised error, NaN where there is none.

    u: (p,), NaN where missing, which is then taken at its mean. known: whether y is valid. memory, least: samples. sums: (5,) weight,
    samples learnt, error's power, its product with the error before, the error before. mean: (p + 1,), the target last, NaN before the
    first. scatter: (p + 1, p + 1). work: (3 + p, p) scratch.
    """
    p = u.shape[0]
    d, beta, gain, factor = work[0], work[1], work[2], work[3:]
    for i in range(p):
        d[i] = u[i] - mean[i] if u[i] == u[i] and mean[i] == mean[i] else 0.0
    weight, share, prediction, score = sums[0], 1.0, np.nan, np.nan
    if sums[1] >= least:
        solve_ridge(scatter, scatter[p, :p], factor, beta)
        solve_ridge(scatter, d, factor, gain)
        prediction, error, lever = mean[p], scatter[p, p], 1.0 / weight
        for i in range(p):
            prediction += beta[i] * d[i]
            error -= beta[i] * scatter[p, i]
            lever += gain[i] * d[i]
        if known:
            residual = y - prediction
            alike = min(max(sums[3] / sums[2], 0.0), 0.999) if sums[2] > 0.0 else 0.0
            size = weight * (1.0 - alike) / (1.0 + alike)  # independent samples that serially correlated errors are worth
            freedom = size - p - 1.0
            variance = max(error, 0.0) / weight * size / freedom if freedom > 1.0 else 0.0
            if variance > 1e-20 * (scatter[p, p] / weight + mean[p] * mean[p]):
                score = student_to_normal(residual / math.sqrt(variance * (1.0 + lever * weight / size)), freedom)
                share = min(1.0, (LIMIT / score) ** 2) if score != 0.0 else 1.0
            if share >= 1.0:  # a fault that lasts is not a property of the errors
                keep = math.exp(-1.0 / memory)
                sums[2] = keep * sums[2] + residual * residual
                sums[3] = keep * sums[3] + residual * sums[4]
                sums[4] = residual
    if known:
        learn(u, y, math.exp(-1.0 / memory), share, sums, mean, scatter, d)
    return prediction, score


@kernel
def learn(u: Any, y: float, keep: float, share: float, sums: Any, mean: Any, scatter: Any, d: Any) -> None:
    """Add one sample of weight ``share`` to mean and scatter, the old ones weighted by ``keep`` (West 1979, CACM 22, 532)."""
    p = u.shape[0]
    weight = keep * sums[0] + share
    sums[0], sums[1] = weight, sums[1] + 1.0
    step = share / weight
    last = y - mean[p] if sums[1] > 1.0 else 0.0
    for i in range(p + 1):
        a = d[i] if i < p else last
        for j in range(i + 1):
            b = d[j] if j < p else last
            scatter[i, j] = keep * scatter[i, j] + share * (1.0 - step) * a * b
            scatter[j, i] = scatter[i, j]
    for i in range(p):
        mean[i] = u[i] if mean[i] != mean[i] else mean[i] + step * d[i]
    mean[p] = mean[p] + step * last if sums[1] > 1.0 else y


@owning_kernel
def predict_rows(
    values: Any, valid: Any, rows: Any, targets: Any, regressors: Any, period: float, constants: Any, memory: float, least: float,
    level: Any, since: Any, sums: Any, mean: Any, scatter: Any, prediction: Any, residual: Any,
) -> None:  # fmt: skip
    """Advance all rows over a block.

    values, valid: (row, channel, time). prediction, residual: (row, target, time), NaN where there is none.
    """
    p = regressors.shape[0] * constants.shape[0]
    u, work = np.zeros(p), np.zeros((3 + p, p))
    x, known = np.zeros(regressors.shape[0]), np.zeros(regressors.shape[0], np.bool_)
    for i in range(rows.shape[0]):
        row = rows[i]
        for t in range(values.shape[2]):
            for r in range(regressors.shape[0]):
                known[r] = valid[i, regressors[r], t]
                x[r] = values[i, regressors[r], t]
            some = filter_regressors(x, known, period, constants, level[row], since[row], u)
            for j in range(targets.shape[0]):
                prediction[i, j, t], residual[i, j, t] = np.nan, np.nan
                if some:
                    y = values[i, targets[j], t]
                    prediction[i, j, t], residual[i, j, t] = predict_target(
                        u, y, valid[i, targets[j], t], memory, least, sums[row, j], mean[row, j], scatter[row, j], work
                    )
