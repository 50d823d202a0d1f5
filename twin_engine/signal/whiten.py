"""Whitening by the spectrum of the past, with a zero-phase filter."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
import scipy.fft  # pyright: ignore[reportMissingTypeStubs]
from numpy.typing import NDArray

from twin_engine.clock import hertz, seconds
from twin_engine.errors import DefinitionError
from twin_engine.kernels.psd import convolve_partitions, fill_and_count
from twin_engine.ports import Block, BlockSpec, Bool, Float, Int, Port, Spec
from twin_engine.signal.psd import Welch, welch
from twin_engine.stage import Op, Stage, block_input

fft: Any = scipy.fft  # it has no types

Complex = NDArray[np.complex128]


@dataclass(frozen=True)
class Whiten(Stage):
    """Divide each channel by the amplitude spectral density of its own past, so that its noise becomes white with unit density.

    The spectrum is the median of half-overlapping Hann segments over ``memory`` (Welch), so a loud transient does not change it. The
    filter is its
    inverse square root, without phase, cut to one segment's length by a Hann window and to ``low`` and above by a raised cosine; it
    is made anew twice a segment. Each output is whitened by segments that ended before it. Noise in a band that is white with unit
    density has unit
    variance up to the part of the band that is cut (``low`` over the Nyquist frequency), as ``gwpy.TimeSeries.whiten``.

    Lag: half a segment. Valid after ``warm_up`` seconds of valid input; the memory goes on filling. Output within half a segment of an
    invalid sample is invalid.
    """

    source: str
    memory: str | float = "32 s"
    segment: str | float = "1 s"
    low: str | float = "20 Hz"
    warm_up: str | float = "8 s"

    def bind(self, hop: Fraction, specs: Mapping[str, Spec]) -> Op:
        """Bind to a block of any rate; raises DefinitionError where nothing is left between ``low`` and the Nyquist frequency."""
        spec, place = block_input(self, "source", specs), f"Whiten({self.source!r})"
        form = welch(place, spec.rate, self.segment, self.memory, "median")
        low = float(hertz(self.low))
        if not 0 <= low < form.rate / 2:
            raise DefinitionError(place, expected=f"low below {form.rate / 2:g} Hz", found=f"{low:g} Hz", mend="Lower it.")
        # one stride for the grid's phase, half a segment for the filter's lag, and the first segment is two strides long
        least = int(seconds(self.warm_up) * spec.rate) // form.stride - 3
        if not 2 <= least <= form.keep:
            raise DefinitionError(
                place, expected=f"a warm-up from {2.5 * form.length / form.rate:g} s to the memory", found=str(self.warm_up),
                mend="Change warm_up, segment or memory.",
            )  # fmt: skip
        return WhitenOp(hop, spec, form, low, least)


class WhitenState(NamedTuple):
    """All ``(asset, channel, ...)``. history: past samples. run: valid samples in a row. ring, ordered, seen: segments (see psd).

    line: spectra of past blocks. taps: the filter's spectra (both as pairs of floats, since a snapshot holds no double complex numbers).
    ready: whether there is a filter.
    """

    history: Float
    run: Int
    ring: NDArray[np.float32]
    ordered: NDArray[np.float32]
    seen: Int
    line: Float
    taps: Float
    ready: Bool


class WhitenOp(Op):
    """A bound Whiten: a uniformly partitioned convolution whose filter changes on the epoch's grid."""

    def __init__(self, hop: Fraction, spec: BlockSpec, form: Welch, low: float, least: int) -> None:
        self._form, self._least, self._channels = form, least, len(spec.channels)
        self._delay = form.length // 2
        self._block = _divisor(int(hop * spec.rate), max(1, form.length // 8))
        self._parts = -(-form.length // self._block)
        frequency = np.arange(form.bins) * form.rate / form.length
        width = max(low / 4, 2 * form.rate / form.length)
        self._gain = 0.5 - 0.5 * np.cos(np.pi * np.clip((frequency - low + width) / width, 0, 1)) if low else np.ones(form.bins)
        self._gain[0] = 0.0
        self._taper = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(form.length) / form.length)
        lag = Fraction(self._delay) / spec.rate
        self.memory = Fraction(form.stride * (form.keep + 1)) / spec.rate
        after = spec.valid_after + Fraction((least + 3) * form.stride) / spec.rate
        units = ("1",) * self._channels
        self.outputs = {"white": BlockSpec(spec.rate, spec.channels, units, spec.lag + lag, after, "normal")}

    def init(self, assets: int) -> WhitenState:
        """Return the state before any sample."""
        form, shape = self._form, (assets, self._channels)
        line = (*shape, self._parts, 2 * (self._block + 1))
        return WhitenState(
            np.zeros((*shape, form.length + self._delay)), np.zeros(shape, np.int64), np.zeros((*shape, form.keep, form.bins), np.float32),
            np.zeros((*shape, form.bins, form.keep), np.float32), np.zeros(shape, np.int64), np.zeros(line),
            np.zeros(line), np.zeros(shape, bool),
        )  # fmt: skip

    def step(self, state: WhitenState, inputs: Mapping[str, Port]) -> tuple[WhitenState, dict[str, Port]]:
        """Whiten whole hops."""
        block = inputs["source"]
        assert isinstance(block, Block)  # noqa: S101  (bind has checked it)
        form, size, rows = self._form, self._block, block.rows
        filled, runs = np.empty_like(block.values), np.empty(block.values.shape, np.int64)
        fill_and_count(block.values, block.valid, rows, state.run, filled, runs)
        past = np.concatenate([state.history[rows], filled], axis=2)
        keep = form.length + self._delay
        windows = np.lib.stride_tricks.sliding_window_view(past[:, :, keep - size :], 2 * size, axis=2)[:, :, ::size]
        spectra: Complex = fft.rfft(windows)
        products = np.empty_like(spectra)
        valid = runs >= form.length
        for i, row in enumerate(rows):
            self._row(state, int(row), past[i], runs[i], int(block.start[i]), spectra[i], products[i], valid[i])
        state.history[rows] = past[:, :, -keep:]
        out: Float = fft.irfft(products, 2 * size)[..., size:]
        return state, {"white": Block(out.reshape(block.values.shape), valid, rows.copy(), block.start - self._delay)}

    def _row(
        self, state: WhitenState, row: int, past: Float, runs: Int, first: int, spectra: Complex, products: Complex, valid: Bool
    ) -> None:
        """Convolve one row's blocks up to each change of the filter, and change it."""
        size, done = self._block, 0
        for end, fresh in self._form.absorb(state, row, past, runs, first, self._delay):
            upto = -((first - end - self._delay) // size)  # the first block whose outputs all come after the segment
            self._blocks(state, row, first // size, spectra, products, valid, done, upto)
            done = upto
            for c in np.flatnonzero(fresh & (state.seen[row] >= self._least)):
                self._design(state, row, int(c))
        self._blocks(state, row, first // size, spectra, products, valid, done, spectra.shape[1])

    def _blocks(self, state: WhitenState, row: int, first: int, spectra: Complex, products: Complex, valid: Bool, lo: int, hi: int) -> None:
        line, taps = state.line[row].view(np.complex128), state.taps[row].view(np.complex128)
        convolve_partitions(spectra[:, lo:hi], line, taps, first + lo, products[:, lo:hi])
        valid[:, lo * self._block : hi * self._block] &= state.ready[row][:, None]

    def _design(self, state: WhitenState, row: int, c: int) -> None:
        """Make the filter from the spectrum, as partitions of its impulse response."""
        form, size = self._form, self._block
        power = form.density(state.ring[row, c], state.ordered[row, c], int(state.seen[row, c]))
        gain = np.sqrt(2.0 / form.rate) * self._gain / np.sqrt(np.where(power > 0, power, np.inf))
        impulse = np.zeros(self._parts * size)
        impulse[: form.length] = np.roll(fft.irfft(gain, form.length), self._delay) * self._taper
        state.taps[row, c] = fft.rfft(impulse.reshape(self._parts, size), 2 * size).view(np.float64)
        state.ready[row, c] = power[self._gain > 0].all()


def _divisor(n: int, limit: int) -> int:
    """Return the largest divisor of ``n`` that is at most ``limit``."""
    return next(d for d in range(min(n, limit), 0, -1) if n % d == 0)
