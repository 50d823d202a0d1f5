"""Two memories of what a series has looked like: lag vectors (nearest neighbour) and boxes (adaptive resonance)."""

from __future__ import annotations

from typing import Any

import numpy as np

from twin_engine.kernels._jit import fixed_length_kernel, kernel
from twin_engine.ports import Float, Int

LAGS = 8
STRIDES = (1, 4, 16)  # samples a lag; each lag is the mean over its stride
BOX = 6
MERGE = 0.1  # of the usual spread: a lag vector nearer than this to a prototype is that prototype
VIGILANCE = 0.6  # the largest box, as a sum of its sides in units of the padded range
HEADROOM = 0.5  # of the warm-up's range, left free on each side


@fixed_length_kernel
def nearest(prototypes: Any, vector: Any) -> Any:
    """Return the mean absolute distance to the nearest of (prototypes, LAGS), and which it is (-1: all are empty, at infinity).

    Returns a pair (float, int).
    """
    best, at = np.float32(np.inf), -1
    for p in range(len(prototypes)):
        distance = np.float32(0.0)
        for k in range(LAGS):
            distance += abs(prototypes[p, k] - vector[k])
        if distance < best:
            best, at = distance, p
    return best / LAGS, at


@kernel
def oldest(used: Int) -> int:
    """Return the index of the smallest number, the first of equals."""
    at = 0
    for p in range(len(used)):
        if used[p] < used[at]:
            at = p
    return at


@kernel
def lag_vector(ring: Float, last: int, stride: int, out: Any) -> None:
    """Put the means of LAGS successive strides, newest first, into out."""
    for k in range(LAGS):
        total = 0.0
        for i in range(stride):
            total += ring[(last - k * stride - i) & (len(ring) - 1)]
        out[k] = total / stride


@kernel
def lag_novelty(ring: Float, n: int, prototypes: Any, used: Int, spread: float, vector: Any, out: Float, first: int) -> None:
    """Put the distance of the newest lag vector from all older ones into out, from ``first`` on, one a stride, and remember.

    n: samples seen before this one. A vector is remembered only when it has wholly left the newest one's window, else
    nothing would be far from its own past; the prototype that was near anything longest ago gives way.
    """
    last = n & (len(ring) - 1)
    for j, stride in enumerate(STRIDES):
        lag_vector(ring, last, stride, vector)
        distance, _ = nearest(prototypes[j], vector)
        out[first + j] = distance if distance < np.inf else 0.0
        if n < LAGS * stride or n % stride != 0:
            continue
        lag_vector(ring, last - LAGS * stride, stride, vector)
        distance, at = nearest(prototypes[j], vector)
        if at < 0 or distance > MERGE * spread:
            at = oldest(used[j])
            for k in range(LAGS):
                prototypes[j, at, k] = vector[k]
        used[j, at] = n


@kernel
def box_novelty(point: Float, n: int, warm_up: float, span: Float, box: Any, boxes: Int) -> float:
    """Return how far a point lies outside all boxes, and let the box that needs least growth take it in (fuzzy ART, fast learning).

    span: (BOX, 2), the range of each coordinate, taken during the warm-up and then fixed. box: (boxes, 2, BOX), low and high corners in
    units of that range with HEADROOM on each side, where points are clipped. boxes: (1,), how many are in use; none is ever forgotten.
    Source: Carpenter, Grossberg, Rosen 1991.
    """
    if n < warm_up:
        for k in range(BOX):
            span[k, 0] = min(span[k, 0], point[k])
            span[k, 1] = max(span[k, 1], point[k])
        return 0.0
    for k in range(BOX):
        width = span[k, 1] - span[k, 0]
        place = (point[k] - span[k, 0]) / width if width > 0.0 else point[k] - span[k, 0]
        point[k] = min(max((place + HEADROOM) / (1.0 + 2.0 * HEADROOM), 0.0), 1.0)
    best, at, outside = np.inf, -1, np.inf
    for b in range(boxes[0]):
        grow, size = 0.0, 0.0
        for k in range(BOX):
            grow += max(box[b, 0, k] - point[k], 0.0) + max(point[k] - box[b, 1, k], 0.0)
            size += box[b, 1, k] - box[b, 0, k]
        outside = min(outside, grow)
        if grow + size < best:
            best, at = grow + size, b
    full = boxes[0] == len(box)
    if at < 0 or (best > VIGILANCE and not full):
        at = boxes[0]
        boxes[0] += 1
        for k in range(BOX):
            box[at, 0, k] = point[k]
            box[at, 1, k] = point[k]
    elif best <= VIGILANCE:
        for k in range(BOX):
            box[at, 0, k] = min(box[at, 0, k], point[k])
            box[at, 1, k] = max(box[at, 1, k], point[k])
    return outside if outside < np.inf else 0.0
