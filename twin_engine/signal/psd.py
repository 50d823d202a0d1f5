"""Running power spectral density: Welch's method over the past alone, on the epoch's grid."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import Any, Literal, NamedTuple

import numpy as np
import scipy.fft  # pyright: ignore[reportMissingTypeStubs]
from numpy.typing import NDArray

from twin_engine.clock import hertz, seconds
from twin_engine.errors import DefinitionError
from twin_engine.kernels.psd import fill_and_count, insert_segments, mean_power, median_power
from twin_engine.ports import Block, BlockSpec, Bool, Float, Int, Port, Spec
from twin_engine.stage import Op, Stage, block_input, samples

fft: Any = scipy.fft  # it has no types
signal: Any = scipy.signal  # it has no types


@dataclass(frozen=True)
class Welch:
    """Segments of ``length`` samples that end at multiples of ``stride`` of the epoch's grid; the last ``keep`` whole ones count.

    Hann window, mean taken off, one-sided density, as ``scipy.signal.welch``; the median is divided by its bias for exponential powers
    (Allen et al. 2012, gr-qc/0509116, appendix B). A segment with an invalid sample in it is left out.
    """

    rate: float
    length: int
    stride: int
    keep: int
    average: Literal["median", "mean"]

    @property
    def bins(self) -> int:
        """Frequencies, from 0 to the Nyquist frequency."""
        return self.length // 2 + 1

    def ends(self, after: int, until: int) -> range:
        """Return the ends (sample indices) of segments in ``after < end <= until``."""
        return range(after - after % self.stride + self.stride, until + 1, self.stride)

    @cached_property
    def _window(self) -> Float:
        window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(self.length) / self.length)
        return window / np.sqrt(self.rate * (window**2).sum())

    def amplitudes(self, segments: Float) -> Float:
        """Return the amplitude of each bin, ``(..., bin)``, of segments ``(..., time)``."""
        spectrum: NDArray[np.complex128] = fft.rfft((segments - segments.mean(axis=-1, keepdims=True)) * self._window)
        return np.sqrt(spectrum.real**2 + spectrum.imag**2)

    def density(self, kept: Segments, c: int) -> Float:
        """Return the one-sided density ``(bin,)`` of a channel from the segments kept."""
        n, power = min(int(kept.seen[c]), self.keep), np.empty(self.bins)
        if self.average == "median":
            median_power(kept.ordered[c], n, power)
            odd = np.arange(1, (n - 1) // 2 + 1)
            power /= 1.0 + np.sum(1.0 / (2.0 * odd + 1.0) - 1.0 / (2.0 * odd))
        else:
            mean_power(kept.ring[c], n, power)
        power[1 : self.bins - 1 + self.length % 2] *= 2.0
        return power

    def absorb(self, kept: Segments, past: Float, runs: Int, first: int, delay: int) -> Iterator[tuple[int, Bool]]:
        """Take one row's segments in order and yield, after each, its end and which channels it was valid in.

        past: ``(channel, time)`` from sample ``first - delay - length`` to the end of the new samples. runs: ``(channel, time)`` of
        the new samples alone. first: index of the first new sample. A segment is taken once ``delay`` more samples have come.
        """
        ends = self.ends(first - delay, first + runs.shape[1] - delay)
        if not ends:
            return
        amplitudes = self.amplitudes(np.stack([past[:, end - first + delay : end - first + delay + self.length] for end in ends]))
        for j, end in enumerate(ends):
            valid = runs[:, end - first + delay - 1] >= self.length + delay
            insert_segments(amplitudes[j], valid, kept.ring, kept.ordered, kept.seen)
            yield end, valid


class Segments(NamedTuple):
    """One row's segments: amplitudes by arrival and sorted, ``(channel, segment, bin)``, and how many have been, ``(channel,)``."""

    ring: NDArray[np.float32]
    ordered: NDArray[np.float32]
    seen: Int


def welch(place: str, rate: Fraction, segment: str | float, memory: str | float, average: str) -> Welch:
    """Check and return the configuration: half-overlapping segments over a memory; raises DefinitionError."""
    if average not in {"median", "mean"}:
        raise DefinitionError(place, expected="average 'median' or 'mean'", found=repr(average))
    length = samples(seconds(segment), rate, place)
    length += length % 2
    stride = length // 2
    if length < 4:
        raise DefinitionError(place, expected="a segment of at least 4 samples", found=f"{length}", mend="Make it longer.")
    keep = samples(seconds(memory), rate, place) // stride - 1
    if keep < 2:
        raise DefinitionError(place, expected="a memory of at least two segments", found=str(memory), mend="Make it longer.")
    return Welch(float(rate), length, stride, keep, "median" if average == "median" else "mean")


class PSDState(NamedTuple):
    """history: ``(asset, channel, time)``, past samples. run: valid samples in a row. seen: segments so far.

    held: the last density. ready: whether it counts.
    """

    history: Float
    run: Int
    ring: NDArray[np.float32]
    ordered: NDArray[np.float32]
    seen: Int
    held: Float
    ready: Bool


@dataclass(frozen=True)
class RunningPSD(Stage):
    """One-sided power spectral density of the past, held from hop to hop.

    Puts out one block: a channel for each input channel and frequency (``"h@20Hz"``, ...) within ``band``, one sample a hop, in
    the input's unit squared per Hz. segment: length of the half-overlapping Hann segments. memory: the past that counts. average:
    ``"median"`` (a loud
    transient does not raise it) or ``"mean"``. Valid once a quarter of the memory, or two segments, has been seen.
    """

    source: str
    segment: str | float = "1 s"
    memory: str | float = "32 s"
    average: str = "median"
    band: tuple[str | float, str | float] = (0, "inf")

    def bind(self, hop: Fraction, specs: Mapping[str, Spec]) -> Op:
        """Bind to a block of any rate."""
        spec, place = block_input(self, "source", specs), f"RunningPSD({self.source!r})"
        form = welch(place, spec.rate, self.segment, self.memory, self.average)
        low, high = (float("inf") if edge == "inf" else float(hertz(edge)) for edge in self.band)
        frequencies = np.arange(form.bins) * form.rate / form.length
        inside = np.flatnonzero((frequencies >= low) & (frequencies <= high))
        if not len(inside):
            raise DefinitionError(place, expected="a band with at least one frequency in it", found=str(self.band))
        return RunningPSDOp(hop, spec, form, inside)


class RunningPSDOp(Op):
    """A bound RunningPSD."""

    def __init__(self, hop: Fraction, spec: BlockSpec, form: Welch, inside: Int) -> None:
        self._form, self._inside, self._channels = form, inside, len(spec.channels)
        self._hop = int(hop * spec.rate)
        self._least = max(2, form.keep // 4)
        self.memory = Fraction(form.stride * (form.keep + 1)) / spec.rate
        self._lag = -(-spec.lag // hop)
        names = tuple(f"{name}@{k * form.rate / form.length:g}Hz" for name in spec.channels for k in inside)
        units = tuple(f"({unit})^2/Hz" for unit in spec.units for _ in inside)
        after = Fraction((self._least + 2) * form.stride) / spec.rate + hop + spec.valid_after
        self.outputs = {"psd": BlockSpec(1 / hop, names, units, self._lag * hop, after)}
        self._shift = int(spec.lag * spec.rate)

    def init(self, assets: int) -> PSDState:
        """Return the state before any sample."""
        form, shape = self._form, (assets, self._channels)
        return PSDState(
            np.zeros((*shape, form.length)), np.zeros(shape, np.int64), np.zeros((*shape, form.keep, form.bins), np.float32),
            np.full((*shape, form.keep, form.bins), np.inf, np.float32), np.zeros(shape, np.int64), np.zeros((*shape, len(self._inside))),
            np.zeros(shape, bool),
        )  # fmt: skip

    def step(self, state: PSDState, inputs: Mapping[str, Port]) -> tuple[PSDState, dict[str, Port]]:
        """Take the segments that end in each hop, then put out the density."""
        block = inputs["source"]
        assert isinstance(block, Block)  # noqa: S101  (bind has checked it)
        form, hop, rows = self._form, self._hop, block.rows
        filled, runs = np.empty_like(block.values), np.empty(block.values.shape, np.int64)
        fill_and_count(block.values, block.valid, rows, state.run, filled, runs)
        past = np.concatenate([state.history[rows], filled], axis=2)
        state.history[rows] = past[:, :, -form.length :]
        out = np.empty((len(rows), self._channels, len(self._inside), block.n // hop))
        valid = np.empty(out.shape, bool)
        for i, row in enumerate(rows):
            done = 0
            kept = Segments(state.ring[row], state.ordered[row], state.seen[row])
            for end, fresh in form.absorb(kept, past[i], runs[i], int(block.start[i]), 0):
                upto = (end - int(block.start[i]) - 1) // hop  # the hop in which the segment ends shows it
                self._show(state, row, out[i, ..., done:upto], valid[i, ..., done:upto])
                done = upto
                for c in np.flatnonzero(fresh):
                    state.held[row, c] = form.density(kept, int(c))[self._inside]
                state.ready[row] = state.seen[row] >= self._least
            self._show(state, row, out[i, ..., done:], valid[i, ..., done:])
        flat = (len(rows), -1, out.shape[-1])
        start = (block.start + self._shift) // hop - self._lag
        return state, {"psd": Block(out.reshape(flat), valid.reshape(flat), rows.copy(), start)}

    def _show(self, state: PSDState, row: int, out: Float, valid: Bool) -> None:
        out[:] = state.held[row][..., None]
        valid[:] = state.ready[row][:, None, None]
