"""Narrow lines whose amplitude and phase wander: mains harmonics and thermally driven modes of suspension fibres."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from twin_engine.ports import Float
from twin_engine.sim.noise import Complex, generator

PERIOD = 8  # seconds: line frequencies lie on a grid of 1/8 Hz, so that one table of carriers serves for ever
ENVELOPE = 64  # samples a second of the slow envelopes, between which they are straight


@dataclass(frozen=True, slots=True)
class Wander:
    """Unit-variance smooth Gaussian processes: cubic B-splines over independent normal knots, ``knot`` seconds apart, known at any time."""

    seed: int
    name: str
    knot: float
    size: int

    def at(self, time: Float) -> Float:
        """Return ``(size, time)`` at ascending times in seconds from the start."""
        place = time / self.knot
        whole = np.floor(place).astype(np.int64)
        u = place - whole
        first = int(whole[0]) - 1
        knots = np.stack([generator(self.seed, self.name, j).standard_normal(self.size) for j in range(first, int(whole[-1]) + 3)], axis=1)
        weights = ((1 - u) ** 3, 3 * u**3 - 6 * u**2 + 4, -3 * u**3 + 3 * u**2 + 3 * u + 1, u**3)
        norm = 6 * np.sqrt(151 / 315)  # root of the mean over a knot of the summed squares of the splines
        return sum((knots[:, whole - 1 - first + i] * w for i, w in enumerate(weights)), np.zeros((self.size, len(time)))) / norm


@dataclass(frozen=True, slots=True)
class Lines:
    """Lines at whole eighths of a hertz. frequency: Hz. rms: of each, in the units of the stream that they are added to.

    kind: ``"mains"`` (phases locked to the wander of the mains, amplitudes drifting by 10 %) or ``"mode"`` (complex Gaussian envelopes).
    knot: seconds over which amplitudes and phases wander.
    """

    frequency: tuple[float, ...]
    rms: tuple[float, ...]
    kind: str
    knot: float

    def envelopes(self, seed: int, name: str, time: Float) -> Complex:
        """Return ``(line, time)`` complex envelopes z at ascending times in seconds; the line is Re(z exp(2 pi i f t))."""
        scale = np.sqrt(2) * np.array(self.rms)[:, None]
        if self.kind == "mode":
            parts = Wander(seed, name, self.knot, 2 * len(self.rms)).at(time)
            return scale * (parts[::2] + 1j * parts[1::2]) / np.sqrt(2)
        harmonic = np.array(self.frequency)[:, None] / min(self.frequency)
        phase = 1.5 * Wander(seed, "mains", 10.0, 1).at(time)  # 1.5 rad in 10 s is 0.02 Hz, what a grid wanders
        return scale * (1 + 0.1 * Wander(seed, name, self.knot, len(self.rms)).at(time)) * np.exp(1j * harmonic * phase)


class LineBank:
    """Lines ready to be added to one channel at a rate (Hz, a whole number); those at or above half the rate are left out."""

    def __init__(self, groups: Sequence[tuple[str, Lines]], seed: int, rate: int) -> None:
        self._seed, self._rate = seed, rate
        self._groups = [(name, lines, [i for i, f in enumerate(lines.frequency) if f < rate / 2]) for name, lines in groups]
        angle = 2 * np.pi * np.arange(PERIOD * rate) / rate
        kept = [round(Fraction(lines.frequency[i]) * PERIOD) / PERIOD for _, lines, some in self._groups for i in some]
        self._cos, self._sin = np.cos(np.outer(kept, angle)), np.sin(np.outer(kept, angle))

    def add(self, out: Float, begin: int) -> None:
        """Add the lines to ``(n,)`` samples that begin ``begin`` seconds from the start; n and begin are whole periods."""
        count = len(out) // self._rate * ENVELOPE
        time = begin + np.arange(count + 1) / ENVELOPE
        ramp = np.arange(self._rate // ENVELOPE) * (ENVELOPE / self._rate)
        waves = out.reshape(-1, PERIOD * self._rate)
        row = 0
        for name, lines, some in self._groups:
            envelopes = lines.envelopes(self._seed, name, time)
            for i in some:
                for part, carrier in ((envelopes[i].real, self._cos[row]), (-envelopes[i].imag, self._sin[row])):
                    slow = (part[:-1, None] + np.diff(part)[:, None] * ramp).reshape(waves.shape)
                    waves += slow * carrier
                row += 1
