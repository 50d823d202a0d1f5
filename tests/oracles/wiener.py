"""Offline Wiener subtraction, the obvious way: each bin's equations solved from the spectra of all the data at once."""

from __future__ import annotations

import numpy as np
from scipy import signal


def residual(x: np.ndarray, witnesses: list[np.ndarray], rate: int, segment: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return frequencies, the density of x, and what is left of it when all that the witnesses (at the rate of x) explain is gone."""

    def cross(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return signal.csd(a, b, rate, "hann", segment)[1]

    f, power = signal.welch(x, rate, "hann", segment)
    left = np.empty_like(power)
    vector = np.array([cross(w, x) for w in witnesses])
    matrix = np.array([[cross(a, b) for b in witnesses] for a in witnesses])
    for k in range(len(f)):
        gain = np.linalg.solve(matrix[:, :, k], vector[:, k])
        left[k] = power[k] - np.real(np.vdot(vector[:, k], gain))
    return f, power, left
