"""How far data bear a prediction out: levels that glitches barely move, and a gate that only significant agreement opens."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from twin_engine.ports import Bool, Float, Int

Complex = NDArray[np.complex128]
LOUD = 16.0  # power over its level above which a bin loses weight
POOL = 9  # bins that share their evidence: the main lobe of the window
ODDS = 10.0  # log odds against a prediction, from its own block, that are taken for proof
MEAN_LOG = 0.5772156649015329  # minus the mean of the logarithm of an exponential variable of mean 1


def nuttall(n: int) -> Float:
    """Return Nuttall's window (1981) of four terms, sidelobes below -93 dB: strain spans more than a Hann window bears."""
    phase = 2 * np.pi * np.arange(n) / n
    return 0.3635819 - 0.4891775 * np.cos(phase) + 0.1365995 * np.cos(2 * phase) - 0.0106411 * np.cos(3 * phase)


def power_of(spectrum: Complex) -> Float:
    """Return the squared magnitude, never zero."""
    return np.maximum(spectrum.real**2 + spectrum.imag**2, 1e-300)


def follow_level(level: Float, seen: Int, power: Float, use: Bool, decay: float) -> None:
    """Move the mean log power ``(series, bin)`` of the series in use. A glitch of 60 dB in one segment of n moves it by 60 / n dB."""
    seen += use
    rate = np.where(use, np.maximum(1.0 / np.maximum(seen, 1), 1.0 - decay), 0.0)
    level += rate[:, None] * (np.log(power) + MEAN_LOG - level)


def weights(level: Float, power: Float, use: Bool) -> Float:
    """Return the weight ``(bin,)`` of a segment: 1, or less where any series in use is louder than its level allows."""
    excess = np.where(use[:, None], np.log(power) - level, -np.inf).max(axis=0)
    return np.exp(np.minimum(math.log(LOUD) - excess, 0.0))


class Gate:
    """The gain with which a prediction may be used in each bin, from how it agreed with data that came after it was made.

    For each segment and bin a = Re(x p*) / s, with x the data, p the prediction and s the level of x. Without a relation the sign of a is
    a coin's, so sum(a) / sqrt(sum(a^2)) exceeds t with a probability below exp(-t^2 / 2), whatever the sizes (Hoeffding 1963; de la Pena,
    Lai and Shao 2009). Overlap of segments and of bins makes the terms less independent than that; ``_spread`` puts it right.
    """

    def __init__(self, segment: int, overlap: int, significance: float) -> None:
        window = nuttall(segment)
        shifts = range(segment // overlap, segment, segment // overlap)
        along = 1.0 + 2.0 * sum((np.dot(window[k:], window[:-k]) / np.dot(window, window)) ** 2 for k in shifts)
        across = np.abs(np.fft.fft(window**2)[:POOL]) / np.sum(window**2)
        share = np.sum(np.where(np.arange(POOL) > 0, 2.0, 1.0) * (1.0 - np.arange(POOL) / POOL) * across**2)
        self._spread = float(along * share)
        self._threshold = math.sqrt(2.0 * math.log(1.0 / significance))

    def add(self, sums: Float, x: Complex, p: Complex, level: Float, weight: Float, decay: float) -> None:
        """Add a segment to sums ``(3, bin)``: of a, of p p* / s, and of a^2."""
        scale = weight * np.exp(-level)
        agreement = scale * (x.real * p.real + x.imag * p.imag)
        sums *= np.array([decay, decay, decay * decay])[:, None]
        sums += np.stack([agreement, scale * (p.real**2 + p.imag**2), agreement**2])

    def gain(self, sums: Float) -> Float:
        """Return the gain ``(bin,)``, 0 to 1: the fitted one where the agreement is significant, rising over one standard deviation."""
        pooled = np.cumsum(np.pad(sums, ((0, 0), (POOL // 2 + 1, POOL // 2))), axis=1)
        agreement, power, spread = pooled[:, POOL:] - pooled[:, :-POOL]
        sure = agreement > 0
        z = np.divide(agreement, np.sqrt(self._spread * np.maximum(spread, 0.0)), out=np.zeros_like(agreement), where=sure & (spread > 0))
        fitted = np.divide(agreement, power, out=np.zeros_like(agreement), where=sure & (power > 0))
        return np.clip(z - self._threshold, 0.0, 1.0) * np.minimum(fitted, 1.0)


def contradicted(x: Complex, p: Complex, level: Float) -> bool:
    """Return whether a block's own data speak against its prediction: the log-likelihood of x - p over that of x.

    x, p, level ``(bin,)``: spectra, and the log power of the noise.
    Bins in which the data are louder than the level and the prediction explain say nothing, so a glitch in the data decides nothing.
    """
    noise = np.exp(level)
    heard = power_of(x) <= LOUD * np.maximum(noise, power_of(p))
    ratio = (power_of(x) - power_of(x - p)) / noise
    return bool(np.sum(np.where(heard, ratio, 0.0)) < -ODDS)
