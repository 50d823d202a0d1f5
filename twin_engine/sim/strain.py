"""A simulated interferometer: strain with lines and glitches, and witness sensors of the noise that couples into it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from twin_engine.clock import NS
from twin_engine.ports import Float
from twin_engine.sim.base import START, Entry, Injection, Simulator, schedule
from twin_engine.sim.curve import Curve
from twin_engine.sim.curve import curve as find_curve
from twin_engine.sim.glitches import KINDS, Renderer, Waveform
from twin_engine.sim.lines import LineBank, Lines, Wander
from twin_engine.sim.noise import Complex, Recent, colour, compact, generator, middle, spectrum

SEGMENT = 32  # seconds: the longest filter is as long, which resolves the lines in measured curves and the slope of ET at 2 Hz
BLOCK = Fraction(1, 4)
SLOWNESS = 2.0  # seconds between the knots of a slow witness


@dataclass(frozen=True, slots=True)
class Witness:
    """An auxiliary sensor, in volts.

    band: Hz, where what it senses moves (1 V rms), or None for a slow sensor (below 0.5 Hz, 1 V rms). ratio: amplitude spectral density of
    what it puts into the strain, in units of the curve, over the band (0: nothing). delay: seconds by which the strain follows. by: name of
    a slow witness whose signal multiplies it on the way, so that the strain is linear in neither. mains: volts rms of the mains.
    """

    name: str
    band: tuple[float, float] | None = None
    ratio: float = 0.0
    delay: float = 0.0
    by: str = ""
    mains: float = 0.0


class Interferometer(Simulator):
    """Streams ``strain`` (channel ``h``, 1) and ``witness`` (V) of a detector, everything from (seed, asset) alone.

    curve: a name or a file (see ``twin_engine.sim.curve``). rate, witness_rate: whole Hz. glitches: how many a minute, or a schedule with
    the SNR as its amount (``"Blip@12.5:20"``), snr: where none is given (drawn: at least that, falling as a cube law); it is against the
    curve alone. faults: a schedule of ``gap@20:5`` (seconds without data). lines: groups by name, rms in units of the curve's in 1 Hz times
    line_strength; those of kind ``mains`` are what witnesses pick up. low: Hz below which the curve is held level.
    """

    def __init__(
        self, asset: str = "V1", *, witnesses: Sequence[Witness] = (), lines: Sequence[tuple[str, Lines]] = (), seed: int | str = 0,
        duration: object = None, start: int | str = START, rate: int | str = 4096, witness_rate: int | str = 1024,
        curve: str | Curve = "AdV", glitches: float | str | Sequence[Entry] = 0.0, snr: float | str = 15.0,
        faults: str | Sequence[Entry] = "", line_strength: float | str = 1.0,
        low: float | str = 2.0,
    ) -> None:  # fmt: skip
        self.rate, self.witness_rate, self.witnesses = int(rate), int(witness_rate), tuple(witnesses)
        self.seed = int.from_bytes(generator(int(seed), asset).bytes(7), "little")
        streams: dict[str, tuple[Fraction, tuple[str, ...]]] = {"strain": (Fraction(self.rate), ("h",))}
        if witnesses:
            streams["witness"] = (Fraction(self.witness_rate), tuple(w.name for w in witnesses))
        gaps = schedule(faults, ("gap",), 1.0)
        super().__init__(asset, streams, start=int(start), duration=duration, block=BLOCK, segment=Fraction(SEGMENT), gaps=gaps)
        self._snr = float(snr)
        self._rate_of, self._listed = _glitches(glitches, self._snr)
        self.curve = (curve if isinstance(curve, Curve) else find_curve(curve)).above(float(low))
        asd = self._bins(self.rate)
        self._response = colour(asd, self.rate)
        low = max(float(self.curve.frequency[0]), 5.0)
        self._render = Renderer(self.seed, self.rate, self._response * np.sqrt(2 / self.rate), low)
        self._lines = LineBank([(name, self._scaled(group, float(line_strength))) for name, group in lines], self.seed, self.rate)
        self._mains = [(name, group) for name, group in lines if group.kind == "mains"]
        self._white = Recent(lambda k: generator(self.seed, "white", k).standard_normal(self.rate * SEGMENT))
        self._sources = [Source(self, w) for w in self.witnesses]
        self._glitches = Recent(self._draw_glitches)

    def _bins(self, rate: int) -> Float:
        n = rate * SEGMENT
        edges = np.asarray((np.arange(n + 2) - 0.5) * (rate / 2 / n), np.float64)
        edges[0] = 0.0
        return self.curve.averaged(edges)

    def _scaled(self, group: Lines, strength: float) -> Lines:
        floor = self.curve(np.array(group.frequency))
        return Lines(group.frequency, tuple(float(r * f * strength) for r, f in zip(group.rms, floor, strict=True)), group.kind, group.knot)

    def source(self, name: str) -> Source:
        """Return what a witness senses."""
        return next(s for s in self._sources if s.witness.name == name)

    def make(self, k: int) -> dict[str, Float]:
        """Return segment k of both streams: ``(1, n)`` and ``(witness, m)``."""
        whole = self._response * spectrum(self._white(k), self._white(k + 1))
        for source in self._sources:
            part = source.contribution(k)
            if part is not None:
                whole[: len(part)] += part * (self.rate / self.witness_rate)
        strain = middle(whole)
        self._lines.add(strain, k * SEGMENT)
        for near in (k - 1, k, k + 1):
            for wave in self._glitches(near)[1]:
                _paste(strain, k * len(strain), wave)
        made = {"strain": strain[None]}
        if self._sources:
            made["witness"] = np.stack([source.reading(k, self._mains) for source in self._sources])
        return made

    def _draw_glitches(self, k: int) -> tuple[list[Entry], list[Waveform]]:
        """Return the glitches whose time lies in segment k."""
        entries = self._entries(k)
        return entries, [self._render(e) for e in entries]

    def _entries(self, k: int) -> list[Entry]:
        found = [e for e in self._listed if e.at // SEGMENT == k]
        if self._rate_of and k >= 0:
            rng = generator(self.seed, "glitches", k)
            for at in np.sort(rng.uniform(0, SEGMENT, rng.poisson(self._rate_of * SEGMENT / 60))):
                kind = KINDS[int(rng.integers(len(KINDS)))]
                found.append(Entry(kind, k * SEGMENT + float(at), self._snr * float(1 - rng.random()) ** (-1 / 3)))
        return sorted(found, key=lambda e: e.at)

    def truth(self, until: float | None = None) -> list[Injection]:
        """Return the glitches before that many seconds from the start (default: the duration)."""
        span = float(until if until is not None else self.duration or 0)
        found: list[Injection] = []
        for k in range(int(np.ceil(span / SEGMENT))):
            entries, waves = self._draw_glitches(k)
            for e, w in zip(entries, waves, strict=True):
                if e.at < span:
                    begin, time, end = (self.start + round(t * NS) for t in (e.at - w.lead, e.at, e.at + w.trail))
                    found.append(Injection(e.kind, time, begin, end, e.amount))
        return found


class Source:
    """What a witness senses, and what of it reaches the strain."""

    def __init__(self, sim: Interferometer, witness: Witness) -> None:
        self.witness, self._sim = witness, sim
        self._n = sim.witness_rate * SEGMENT
        self._motion: Float = np.zeros(self._n + 1)
        self._coupling: Complex | None = None
        self._white = Recent(lambda k: generator(sim.seed, witness.name, k).standard_normal(self._n), keep=6)
        self.signal = Recent(self._signal, keep=6)
        self._products = Recent(lambda k: self.signal(k) * sim.source(witness.by).signal(k), keep=6)
        if witness.band is not None:
            frequency = np.asarray(np.arange(self._n + 1) * (sim.witness_rate / 2 / self._n), np.float64)
            shape = _band(frequency, witness.band)
            self._motion = np.real(compact(shape / np.sqrt(np.mean(shape**2))))
            if witness.ratio:
                turn = np.exp(-2j * np.pi * frequency * witness.delay)
                driven = self._motion if witness.by else np.ones_like(shape)
                level = np.divide(1.0, driven, out=np.zeros_like(shape), where=shape > 1e-3)
                target = witness.ratio * sim.curve(frequency) * np.sqrt(sim.witness_rate / 2) * shape * level
                self._coupling = compact(target * turn)

    def _signal(self, k: int) -> Float:
        """Return segment k of the quantity sensed, 1 V rms, ``(m,)``."""
        if self.witness.band is None:
            if self.witness.mains:
                return np.zeros(self._n)
            time = k * SEGMENT + np.arange(self._n) / self._sim.witness_rate
            return Wander(self._sim.seed, self.witness.name, SLOWNESS, 1).at(time)[0]
        return middle(self._motion * spectrum(self._white(k), self._white(k + 1)))

    def contribution(self, k: int) -> Complex | None:
        """Return the transform, at the witness's rate, of what reaches segment k of the strain (``(m + 1,)``, None: nothing)."""
        if self._coupling is None:
            return None
        if not self.witness.by:
            return self._coupling * spectrum(self._white(k), self._white(k + 1))
        half = self._n // 2  # products are known on output segments, which lie half a segment after the white ones
        before, now, after = (self._products(j) for j in (k - 1, k, k + 1))
        return self._coupling * spectrum(np.concatenate([before[half:], now[:half]]), np.concatenate([now[half:], after[:half]]))

    def reading(self, k: int, mains: Sequence[tuple[str, Lines]]) -> Float:
        """Return segment k of the sensor's output, ``(m,)``: the quantity, mains pick-up and 1 % of white noise."""
        out = self.signal(k) + 0.01 * generator(self._sim.seed, "sensor", self.witness.name, k).standard_normal(self._n)
        if self.witness.mains:
            groups = [(f"{self.witness.name}-{name}", _picked_up(group, self.witness.mains)) for name, group in mains]
            LineBank(groups, self._sim.seed, self._sim.witness_rate).add(out, k * SEGMENT)
        return out


def _picked_up(group: Lines, volts: float) -> Lines:
    """Return mains harmonics as a sensor of the mains sees them: the h-th at 1 / h of the first."""
    return Lines(group.frequency, tuple(volts * min(group.frequency) / f for f in group.frequency), "mains", group.knot)


def _band(frequency: Float, band: tuple[float, float]) -> Float:
    """Return 1 within a band, falling to 0 as a cosine over a third of an octave on each side."""
    octaves = np.log2(np.maximum(frequency, 1e-3) / np.sqrt(band[0] * band[1]))
    half = np.log2(band[1] / band[0]) / 2
    return 0.5 + 0.5 * np.cos(np.pi * np.clip((np.abs(octaves) - half) * 3, 0.0, 1.0))


def _paste(out: Float, first: int, wave: Waveform) -> None:
    """Add the part of a waveform that falls on samples ``first`` to ``first + len(out)``."""
    lo, hi = max(first, wave.first), min(first + len(out), wave.first + len(wave.values))
    if lo < hi:
        out[lo - first : hi - first] += wave.values[lo - wave.first : hi - wave.first]


def _glitches(value: float | str | Sequence[Entry], snr: float) -> tuple[float, list[Entry]]:
    """Return glitches a minute, and those listed."""
    if isinstance(value, int | float):
        return float(value), []
    if isinstance(value, str) and "@" not in value:
        return float(value or 0), []
    return 0.0, schedule(value, KINDS, snr)
