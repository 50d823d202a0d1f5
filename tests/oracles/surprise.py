"""Surprise the slow way: all values kept, the histogram made anew for each."""

from __future__ import annotations

import math

import numpy as np


def surprises(values, quantile=0.02):
    """Return -log10 of each value's tail probability under those before it: half-octave bins, an exponential beyond the quantile."""
    found = []
    for i, f in enumerate(values):
        past = np.asarray(values[:i])
        if not i:
            found.append(0.0)
            continue
        bins = np.array([math.floor(2 * math.log2(v)) if v > 0 else -(10**6) for v in past])
        edges = sorted(set(bins), reverse=True)
        edge = next(b for b in edges if (bins >= b).sum() > quantile * i)  # the bin in which the quantile lies
        u = 2.0 ** ((edge + 1) / 2)
        over = past[bins > edge]
        if f >= u:
            mean = (over.sum() - u * len(over) + f - u) / (len(over) + 1)
            found.append(((f - u) / mean if mean > 0 else 0.0) / math.log(10) - math.log10((len(over) + 0.5) / (i + 1)))
            continue
        mine = math.floor(2 * math.log2(f)) if f > 0 else -(10**6)
        low = 2.0 ** (mine / 2)
        share = 1 - (f - low) / (low * (math.sqrt(2) - 1)) if f > 0 else 1.0
        found.append(-math.log10(((bins > mine).sum() + share * (bins == mine).sum() + 0.5) / (i + 1)))
    return np.array(found)
