"""The values that a trial's fleet gave, as arrays."""

from __future__ import annotations

from typing import Any

import numpy as np

T0, RATE = 1_700_000_000, 2  # s, Hz


class Values:
    """The shown output of a fleet, ``(asset, sample)``; what is given twice must be the same."""

    def __init__(self, assets: int, steps: int) -> None:
        self.values, self.valid = np.zeros((assets, steps)), np.zeros((assets, steps), bool)
        self.there, self.wrong, self.strange = np.zeros((assets, steps), bool), np.zeros((assets, steps), bool), 0

    def put(self, update: Any) -> None:
        """Take an update."""
        block = update.outputs[next(key for key in update.outputs if key.startswith("level."))]
        for i, row in enumerate(block.rows):
            a, lo = int(update.assets[row][1:]), int(block.start[i]) - T0 * RATE
            hi = lo + block.n
            if lo < 0 or hi > self.values.shape[1]:
                self.strange += block.n
                continue
            valid = block.valid[i, 0]
            value = np.where(valid, block.values[i, 0], 0.0)
            again = self.there[a, lo:hi]
            self.wrong[a, lo:hi] |= again & ((self.values[a, lo:hi] != value) | (self.valid[a, lo:hi] != valid))
            self.values[a, lo:hi], self.valid[a, lo:hi], self.there[a, lo:hi] = value, valid, True

    def other(self, right: Values) -> int:
        """Return how many differ from the right ones, or from themselves."""
        wrong = self.wrong | (self.there & ((self.values != right.values) | (self.valid != right.valid) | ~right.there))
        return int(wrong.sum()) + self.strange
