"""Glitches of the kinds that Gravity Spy names (Zevin et al. 2017, CQG 34 064003), with a stated SNR and time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from twin_engine.ports import Float
from twin_engine.sim.base import Entry
from twin_engine.sim.noise import generator

HALF = 4  # seconds on each side of its time outside which a glitch is nothing


def _sine_gaussian(t: Float, frequency: float, q: float, phase: float = 0.0) -> Float:
    width = q / (2 * np.pi * frequency)
    return np.exp(-((t / width) ** 2)) * np.cos(2 * np.pi * frequency * t + phase)


def _blip(t: Float, rng: np.random.Generator) -> Float:
    """Some 10 ms over 30 to 500 Hz, a teardrop (Cabero et al. 2019, CQG 36 155010): a sine-Gaussian and then a faster one."""
    f = rng.uniform(90, 180)
    return _sine_gaussian(t, f, 2.5) + 0.5 * _sine_gaussian(t - 0.1 / f, 2.2 * f, 2.5)


def _tomte(t: Float, rng: np.random.Generator) -> Float:
    """A triangle below some 100 Hz, up to a quarter of a second long."""
    f = rng.uniform(32, 60)
    return _sine_gaussian(t, f, 5.0) + 0.6 * _sine_gaussian(t, 1.5 * f, 4.0, 0.4)


def _scattered_light(t: Float, rng: np.random.Generator) -> Float:
    """Arches f(t) = |2 v(t) / lambda| of light that a moving thing scatters: sin(4 pi x / lambda) (Accadia et al. 2010, CQG 27 194011)."""
    arches, top, sway = int(rng.integers(1, 4)), rng.uniform(28, 55), rng.uniform(0.25, 0.45)  # count, Hz, Hz
    depth = top / (2 * np.pi * sway)  # 2 x amplitude / lambda
    middle = np.sin(2 * np.pi * sway * t) if arches % 2 else np.cos(2 * np.pi * sway * t)
    span = arches / (4 * sway)  # each arch lasts half a period of the motion, from one turn to the next
    return np.sin(2 * np.pi * depth * middle + 0.7) * _plateau(t, span, 0.1 * span)


def _whistle(t: Float, rng: np.random.Generator) -> Float:
    """A radio beat: V or W in frequency, from a few hundred Hz up to kHz (Nuttall et al. 2015, CQG 32 245005)."""
    nyquist = 0.5 / (t[1] - t[0])
    low, high = rng.uniform(0.15, 0.3) * nyquist, 0.9 * nyquist
    half, double = rng.uniform(0.15, 0.35), rng.random() < 0.4
    s = np.abs(np.abs(t) - half / 2 if double else t) / (half / 2 if double else half)  # 1 at the ends of a V
    frequency = np.minimum(low + (high - low) * np.minimum(s, 1.2) ** 1.3, 0.97 * nyquist)
    phase = 2 * np.pi * np.cumsum(frequency) * (t[1] - t[0])
    return np.cos(phase) * _plateau(t, half, 0.15 * half) * (1 + low / frequency) / 2


def _light_modulation(t: Float, rng: np.random.Generator) -> Float:
    """Bursts in quick succession: a carrier whose amplitude a control side band modulates (9 and 45 MHz modulation in LIGO Hanford)."""
    carrier, beat = rng.uniform(60, 160), rng.uniform(4, 9)  # Hz
    bursts = int(rng.integers(5, 10))
    out = np.zeros_like(t)
    for at, height in zip(np.arange(bursts) - bursts // 2, np.exp(0.7 * rng.standard_normal(bursts)), strict=True):
        out += height * np.exp(-(((t - at / beat) * 5 * beat) ** 2))  # each a fifth of a beat
    return out * np.cos(2 * np.pi * carrier * t)


def _plateau(t: Float, half: float, edge: float) -> Float:
    """Return 1 within ``half`` seconds of 0, falling to 0 as a cosine over the last ``edge`` of them."""
    rest = np.clip((half - np.abs(t)) / edge, 0.0, 1.0)
    return 0.5 - 0.5 * np.cos(np.pi * rest)


SHAPES: dict[str, Callable[[Float, np.random.Generator], Float]] = {
    "Blip": _blip, "Tomte": _tomte, "Scattered_Light": _scattered_light, "Whistle": _whistle, "Light_Modulation": _light_modulation,
}  # fmt: skip
KINDS = tuple(SHAPES)


@dataclass(frozen=True, slots=True)
class Waveform:
    """A glitch as samples.

    first: index of its first sample from the start. lead, trail: seconds before and after its time that hold 99 % of its energy.
    """

    first: int
    values: Float
    lead: float
    trail: float


class Renderer:
    """Makes the waveforms of one detector.

    asd: noise, 1/sqrt(Hz), ``(n + 1,)`` on the ``rfft`` grid of 2 n samples, 2 n / rate at least ``2 HALF`` s. low: Hz below which nothing
    counts towards the SNR.
    """

    def __init__(self, seed: int, rate: int, asd: Float, low: float) -> None:
        self._seed, self._rate = seed, rate
        size = 2 * HALF * rate
        frequency = np.arange(size // 2 + 1) * (rate / size)
        fine = np.arange(len(asd)) * (rate / 2 / (len(asd) - 1))
        self._weight = np.where(frequency >= low, 4 / np.interp(frequency, fine, asd) ** 2, 0.0) / (rate * size)
        self._white = np.where(frequency >= low, 1 / np.interp(frequency, fine, asd), 0.0)

    def __call__(self, entry: Entry) -> Waveform:
        """Return a glitch scaled so that its optimal matched-filter SNR, sqrt(4 int |h|^2 / S df), is ``entry.amount``."""
        first = int(np.floor((entry.at - HALF) * self._rate)) + 1
        t = (first + np.arange(2 * HALF * self._rate)) / self._rate - entry.at
        shape = SHAPES[entry.kind](t, generator(self._seed, "shape", f"{entry.at:.9f}"))
        transform = np.fft.rfft(shape)
        shape *= entry.amount / np.sqrt(np.sum(np.abs(transform) ** 2 * self._weight))
        energy = np.cumsum(np.fft.irfft(transform * self._white) ** 2)
        lo, hi = np.argmax(energy >= 0.005 * energy[-1]), np.argmax(energy >= 0.995 * energy[-1])
        return Waveform(first, shape, -float(t[lo]), float(t[hi]))
