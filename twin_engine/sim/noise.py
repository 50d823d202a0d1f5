"""Stationary Gaussian noise of a given spectrum, in segments that can be made in any order.

Segment k of the output is white segments k and k + 1, drawn from (seed, k) alone, filtered by overlap-save with a zero-phase FIR no longer
than a segment: exactly stationary and Gaussian, without a seam (Oppenheim and Schafer, Discrete-Time Signal Processing, 8.7).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from twin_engine.ports import Float

Complex = NDArray[np.complex128]
T = TypeVar("T")


def generator(seed: int, *names: object) -> np.random.Generator:
    """Return the random generator of a seed and names: equal ones give equal numbers, others independent ones."""
    digest = hashlib.sha256("/".join(map(str, (seed, *names))).encode()).digest()
    return np.random.Generator(np.random.SFC64(int.from_bytes(digest[:16], "little")))


class Recent:
    """The last few results of a function of a segment's number."""

    def __init__(self, make: Callable[[int], T], keep: int = 4) -> None:
        self._make, self._keep, self._kept = make, keep, dict[int, Any]()

    def __call__(self, k: int) -> Any:
        """Return the result for segment k."""
        if k not in self._kept:
            self._kept[k] = self._make(k)
            while len(self._kept) > self._keep:
                del self._kept[next(iter(self._kept))]
        return self._kept[k]


def taper(n: int) -> Float:
    """Return a Hann window over lags of an FIR on a circle of 2 n samples: 1 at lag 0, zero from n / 2 on."""
    lag = np.minimum(np.arange(2 * n), 2 * n - np.arange(2 * n))
    return np.where(lag < n // 2, 0.5 + 0.5 * np.cos(2 * np.pi * lag / n), 0.0)


def compact(target: NDArray[Any]) -> Complex:
    """Return a response (on the ``rfft`` grid of 2 n samples, ``(n + 1,)``) with its FIR cut to n taps around lag 0."""
    n = len(target) - 1
    return np.fft.rfft(np.fft.irfft(target, 2 * n) * taper(n))


def colour(asd: Float, rate: float) -> Float:
    """Return the zero-phase response ``(n + 1,)`` that turns unit white noise into noise of an amplitude spectral density.

    asd: ``(n + 1,)``, per sqrt(Hz) one-sided, on the ``rfft`` grid of 2 n samples at ``rate`` Hz. The cut to n taps smooths the response;
    what it adds to valleys and to the skirts of lines is taken off by rounds of correction that keep the power within the width of its
    kernel.
    """
    goal = asd * np.sqrt(rate / 2)
    target, response = goal, np.real(compact(goal))
    for _ in range(12):
        target = target * np.sqrt(np.clip(_local(goal) / np.maximum(_local(response), 1e-6 * _local(goal)), 0.25, 4.0))
        response = np.real(compact(target))
    return response


def _local(amplitude: Float) -> Float:
    """Return the power averaged over the four or so bins that the taper's kernel is wide."""
    power = np.pad(amplitude**2, 2, mode="reflect")
    return np.convolve(power, np.array([1.0, 2.0, 3.0, 2.0, 1.0]) / 9, mode="valid")


def spectrum(first: Float, second: Float) -> Complex:
    """Return the transform of two successive segments ``(n,)`` each, ``(n + 1,)``."""
    return np.fft.rfft(np.concatenate([first, second]))


def middle(whole: Complex) -> Float:
    """Return the exact half of an overlap-save block ``(n + 1,)`` after a compact response: ``(n,)``, about its two segments' seam."""
    n = len(whole) - 1
    return np.fft.irfft(whole, 2 * n)[n // 2 : n // 2 + n]
