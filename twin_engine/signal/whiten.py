"""Whitening by the spectrum of the past, with a zero-phase filter."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
import scipy.fft  # pyright: ignore[reportMissingTypeStubs]
from numpy.typing import NDArray

from twin_engine.clock import hertz, seconds
from twin_engine.errors import DefinitionError
from twin_engine.kernels.psd import convolve_partitions, fill_and_count, invert_spectra
from twin_engine.kernels.threads import Split, in_parts, in_slices, in_turn
from twin_engine.ports import Block, BlockSpec, Bool, Float, Int, Port, Spec
from twin_engine.signal.psd import TOGETHER, Segments, Welch, welch
from twin_engine.stage import Op, Stage, block_input

fft: Any = scipy.fft  # it has no types

Complex = NDArray[np.complex128]
BLOCKS = 16  # blocks transformed together: as TOGETHER for segments
CACHED = 65536  # samples whitened together: more leave the processor's cache before they are used again


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
        self._parts, self._keep = -(-form.length // self._block), form.length + self._delay
        frequency = np.arange(form.bins) * form.rate / form.length
        width = max(low / 4, 2 * form.rate / form.length)
        self._gain = 0.5 - 0.5 * np.cos(np.pi * np.clip((frequency - low + width) / width, 0, 1)) if low else np.ones(form.bins)
        self._gain[0] = 0.0
        self._turned = self._gain * (1 - 2 * (np.arange(form.bins) % 2)) * math.sqrt(2.0 / form.rate)  # time 0 comes to the middle
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
            np.zeros((*shape, self._keep)), np.zeros(shape, np.int64), np.zeros((*shape, form.keep, form.bins), np.float32),
            np.full((*shape, form.keep, form.bins), np.inf, np.float32), np.zeros(shape, np.int64), np.zeros(line),
            np.zeros(line), np.zeros(shape, bool),
        )  # fmt: skip

    def step(self, state: WhitenState, inputs: Mapping[str, Port]) -> tuple[WhitenState, dict[str, Port]]:
        """Whiten whole hops."""
        block = inputs["source"]
        assert isinstance(block, Block)  # noqa: S101  (bind has checked it)
        form, rows = self._form, block.rows
        filled, runs = np.empty_like(block.values), np.empty(block.values.shape, np.int64)
        fill_and_count(block.values, block.valid, rows, state.run, filled, runs)
        valid, out = runs >= form.length, np.empty_like(filled)

        split = in_slices if len(rows) * self._channels == 1 else in_turn  # a lone channel's blocks are shared out instead

        def whiten(part: slice, channels: slice) -> None:
            past = np.concatenate([state.history[rows[part], channels], filled[part, channels]], axis=2)
            for i, row in enumerate(rows[part], part.start):
                own = _Channels.of(state, row, channels)
                self._row(own, past[i - part.start], runs[i, channels], int(block.start[i]), out[i, channels], valid[i, channels], split)
            state.history[rows[part], channels] = past[:, :, -self._keep :]

        in_parts(len(rows), self._channels, whiten, max(1, CACHED // block.n))
        return state, {"white": Block(out, valid, rows.copy(), block.start - self._delay)}

    def _row(self, own: _Channels, past: Float, runs: Int, first: int, out: Float, valid: Bool, split: Split) -> None:
        """Convolve one row's blocks, from each segment's end on with the filter that it gives."""
        size, before, shape = self._block, own.kept.seen.copy(), (len(past), -1, self._block)
        ends, fresh, powers = self._form.absorb(own.kept, past, runs, first, self._delay, split)
        fresh &= before + np.cumsum(fresh, axis=0) >= self._least
        taps, ready = self._design(powers[fresh], split)
        windows = np.lib.stride_tricks.sliding_window_view(past[:, self._keep - size :], 2 * size, axis=1)[:, ::size]
        white, blocks = out.reshape(shape), int(windows.shape[1])
        spectra = np.empty((len(past), blocks, size + 1), np.complex128)
        number = np.full((len(ends) + 1, len(past)), -1)  # of the filter after each segment
        number[1:][fresh] = np.arange(len(taps))
        np.maximum.accumulate(number, axis=0, out=number)
        upto = -((first - self._delay - np.array(ends, np.int64)) // size)  # the first block with all outputs after the segment
        use = number[np.searchsorted(upto, np.arange(blocks), side="right")]
        valid.reshape(shape)[...] &= np.where(use < 0, own.ready, np.append(ready, False)[use]).T[..., None]

        def forward(part: slice) -> None:
            spectra[:, part] = fft.rfft(windows[:, part])

        def convolve(part: slice) -> None:
            products = np.empty((len(past), part.stop - part.start, size + 1), np.complex128)
            convolve_partitions(spectra, own.line, own.taps, taps, use, first // size, part.start, products)
            white[:, part] = fft.irfft(products, 2 * size, overwrite_x=True)[..., size:]

        split(blocks, BLOCKS, forward)
        split(blocks, BLOCKS, convolve)
        last = np.arange(max(0, blocks - self._parts), blocks)
        own.line[:, (first // size + last) % self._parts] = spectra[:, last]
        changed = number[-1] >= 0
        own.taps[changed], own.ready[changed] = taps[number[-1, changed]], ready[number[-1, changed]]

    def _design(self, power: Float, split: Split) -> tuple[Complex, Bool]:
        """Make a filter from each spectrum, as the partitions of its impulse response, and say whether it is one."""
        form, size = self._form, self._block
        taps, ready = np.empty((len(power), self._parts, size + 1), np.complex128), np.empty(len(power), bool)

        def design(part: slice) -> None:
            gain = np.empty((part.stop - part.start, form.bins), np.complex128)
            invert_spectra(power[part], self._turned, gain, ready[part])
            impulse = fft.irfft(gain, form.length, overwrite_x=True)
            pieces = np.zeros((len(gain), self._parts, 2 * size))
            for p in range(self._parts):
                begin, end = p * size, min((p + 1) * size, form.length)
                np.multiply(impulse[:, begin:end], self._taper[begin:end], out=pieces[:, p, : end - begin])
            taps[part] = fft.rfft(pieces, overwrite_x=True)

        split(len(power), TOGETHER, design)
        return taps, ready


class _Channels(NamedTuple):
    """Some channels of one row of the state, ``(channel, ...)``."""

    kept: Segments
    line: Complex
    taps: Complex
    ready: Bool

    @classmethod
    def of(cls, state: WhitenState, row: np.int64, channels: slice) -> _Channels:
        """Return views of the state."""
        kept = Segments(state.ring[row, channels], state.ordered[row, channels], state.seen[row, channels])
        line, taps = state.line[row, channels].view(np.complex128), state.taps[row, channels].view(np.complex128)
        return cls(kept, line, taps, state.ready[row, channels])


def _divisor(n: int, limit: int) -> int:
    """Return the largest divisor of ``n`` that is at most ``limit``."""
    return next(d for d in range(min(n, limit), 0, -1) if n % d == 0)
