"""Running power spectral density: Welch's method over the past alone, on the epoch's grid."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import Any, Literal, NamedTuple

import numpy as np
import scipy.fft  # pyright: ignore[reportMissingTypeStubs]
from numpy.typing import NDArray

from twin_engine.clock import hertz, seconds
from twin_engine.errors import DefinitionError
from twin_engine.kernels.psd import cut_segments, fill_and_count, insert_segments
from twin_engine.kernels.threads import Split, in_turn
from twin_engine.ports import Block, BlockSpec, Bool, Float, Int, Port, Spec
from twin_engine.stage import Op, Stage, block_input, samples

fft: Any = scipy.fft  # it has no types

TOGETHER = 2  # segments transformed together: more leave the processor's cache, and their arrays are fetched from the system each time


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

    @cached_property
    def _bias(self) -> Float:
        """Of the median of n exponential powers, ``(n,)`` from 0 to ``keep``."""
        odd = [2.0 * np.arange(1, (n - 1) // 2 + 1) for n in range(self.keep + 1)]
        return np.array([1.0 + np.sum(1.0 / (k + 1.0) - 1.0 / k) for k in odd])

    def absorb(self, kept: Segments, past: Float, runs: Int, first: int, delay: int, split: Split = in_turn) -> tuple[range, Bool, Float]:
        """Take one row's segments in order; return their ends, which channels each was valid in and the one-sided density after each.

        past: ``(channel, time)`` from sample ``first - delay - length`` to the end of the new samples. runs: ``(channel, time)`` of
        the new samples alone. first: index of the first new sample. A segment is taken once ``delay`` more samples have come. split:
        over threads. Returned are ``(segment, channel)`` and, where that is true, ``(segment, channel, bin)``.
        """
        ends = self.ends(first - delay, first + runs.shape[1] - delay)
        powers = np.zeros((len(ends), len(past), self.bins))
        begin = np.array(ends, np.int64) - (first - delay)
        fresh: Bool = runs.T[begin - 1] >= self.length + delay
        if not ends:
            return ends, fresh, powers
        spectra = np.empty(powers.shape, np.complex128)

        def transform(part: slice) -> None:
            segments = np.empty((part.stop - part.start, len(past), self.length))
            cut_segments(past, begin[part], self._window, segments)
            spectra[part] = fft.rfft(segments, overwrite_x=True)

        def insert(part: slice) -> None:
            insert_segments(spectra, fresh, kept.ring, kept.ordered, kept.seen, self._bias, part.start, part.stop, powers)

        split(len(ends), TOGETHER, transform)
        split(self.bins, max(1, self.bins * TOGETHER // len(ends)), insert)
        kept.seen[:] += fresh.sum(axis=0)
        powers[..., 1 : self.bins - 1 + self.length % 2] *= 2.0
        return ends, fresh, powers


class Segments(NamedTuple):
    """One row's segments: amplitudes by arrival and, for a median, sorted, ``(channel, segment, bin)``; their count, ``(channel,)``."""

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
        sorted_ = form.keep if form.average == "median" else 0
        return PSDState(
            np.zeros((*shape, form.length)), np.zeros(shape, np.int64), np.zeros((*shape, form.keep, form.bins), np.float32),
            np.full((*shape, sorted_, form.bins), np.inf, np.float32), np.zeros(shape, np.int64), np.zeros((*shape, len(self._inside))),
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
            before = state.seen[row].copy()
            ends, fresh, powers = form.absorb(kept, past[i], runs[i], int(block.start[i]), 0)
            seen = before + np.cumsum(fresh, axis=0)
            for j, end in enumerate(ends):
                upto = (end - int(block.start[i]) - 1) // hop  # the hop in which the segment ends shows it
                self._show(state, row, out[i, ..., done:upto], valid[i, ..., done:upto])
                done = upto
                state.held[row, fresh[j]] = powers[j, fresh[j]][:, self._inside]
                state.ready[row] = seen[j] >= self._least
            self._show(state, row, out[i, ..., done:], valid[i, ..., done:])
        flat = (len(rows), -1, out.shape[-1])
        start = (block.start + self._shift) // hop - self._lag
        return state, {"psd": Block(out.reshape(flat), valid.reshape(flat), rows.copy(), start)}

    def _show(self, state: PSDState, row: int, out: Float, valid: Bool) -> None:
        out[:] = state.held[row][..., None]
        valid[:] = state.ready[row][:, None, None]
