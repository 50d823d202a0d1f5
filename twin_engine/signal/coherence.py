"""Running coherence between the channels of two inputs, Welch's way, on the epoch's grid."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, NamedTuple, cast

import numpy as np
import scipy.fft  # pyright: ignore[reportMissingTypeStubs]
from numpy.typing import NDArray

from twin_engine.clock import hertz, seconds
from twin_engine.errors import DefinitionError
from twin_engine.ports import Block, BlockSpec, Bool, Float, Int, Port, Spec
from twin_engine.stage import Op, Stage, block_input

Complex = NDArray[np.complex128]
fft: Any = scipy.fft  # it has no types
LEAST = 8  # segments before a coherence is given
OVERLAP = 1.0 + 2.0 / 36.0  # by which half-overlapping Hann segments count less than independent ones (Welch 1967)


class CoherenceState(NamedTuple):
    """What a running coherence keeps, asset first.

    a, b ``(channel, time)``: a segment of each input. sums ``(4, pair, bin)``: power of a, power of b, real and imaginary part of
    the cross power, all fading. taken ``(pair,)``: segments in them. fresh: whether the newest segment was one.
    """

    a: Float
    a_valid: Bool
    b: Float
    b_valid: Bool
    sums: Float
    taken: Int
    fresh: Bool


class CoherenceOp(Op):
    """Ports ``coherence`` and ``floor``: one sample a hop, one channel for each pair and band, in that order.

    A sample stands for all segments that ended by the end of its hop; it is valid after 8 segments, while the newest one was whole.
    """

    def __init__(self, hop: Fraction, a: BlockSpec, b: BlockSpec, bands: list[slice], segment: Fraction, decay: float) -> None:
        self._lengths = [int(segment * a.rate), int(segment * b.rate)]
        self._channels, self._per_hop = [len(a.channels), len(b.channels)], int(hop * a.rate)
        self._bands, self._bins, self._decay = bands, max(band.stop for band in bands), decay
        self._windows = [0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n) / n) for n in self._lengths]
        lag = hop * math.ceil(a.lag / hop)
        self._trail, self._wait = int(a.lag * a.rate), int(lag / hop)
        self.memory = segment * math.ceil(1 / (1 - decay))
        names = tuple(
            f"{x}~{y} {float(band.start / segment):g}-{float((band.stop - 1) / segment):g} Hz"
            for x in a.channels for y in b.channels for band in bands
        )  # fmt: skip
        after = max(a.valid_after, b.valid_after) + segment * (LEAST + 2) / 2
        spec = BlockSpec(1 / hop, names, ("1",) * len(names), lag, after)
        self.outputs = {"coherence": spec, "floor": spec}

    def init(self, assets: int) -> CoherenceState:
        """Return the state before any sample."""
        (a, b), (m, n) = self._channels, self._lengths
        return CoherenceState(
            np.zeros((assets, a, m)), np.zeros((assets, a, m), bool), np.zeros((assets, b, n)), np.zeros((assets, b, n), bool),
            np.zeros((assets, 4, a * b, self._bins)), np.zeros((assets, a * b), np.int64), np.zeros((assets, a * b), bool),
        )  # fmt: skip

    def step(self, state: CoherenceState, inputs: Mapping[str, Port]) -> tuple[CoherenceState, dict[str, Port]]:
        """Take whole hops; give the coherence as it stands at the end of each."""
        a, b = cast("Block", inputs["a"]), cast("Block", inputs["b"])
        rows, hops = a.rows, a.n // self._per_hop
        found = np.empty((2, len(rows), len(self.outputs["floor"].channels), hops))
        valid = np.empty(found.shape[1:], bool)
        stride = self._lengths[0] // 2
        for i, row in enumerate(rows):
            own = CoherenceState(*cast("Any", [array[row] for array in state]))  # views, written in place
            x, xv = np.append(own.a, a.values[i], axis=1), np.append(own.a_valid, a.valid[i], axis=1)
            y, yv = np.append(own.b, b.values[i], axis=1), np.append(own.b_valid, b.valid[i], axis=1)
            x[~xv], y[~yv] = 0.0, 0.0
            start, done = int(a.start[i]), 0
            for end in range(stride - start % stride, a.n + 1, stride):
                hop = (end - 1) // self._per_hop
                found[:, i, :, done:hop], valid[i, :, done:hop] = self._read(own)
                done = hop
                other = (start + end) * self._lengths[1] // self._lengths[0] - int(b.start[i])
                here, there = slice(end, end + self._lengths[0]), slice(other, other + self._lengths[1])
                self._add(own, x[:, here], xv[:, here], y[:, there], yv[:, there])
            found[:, i, :, done:], valid[i, :, done:] = self._read(own)
            own.a[:], own.a_valid[:] = x[:, a.n :], xv[:, a.n :]
            own.b[:], own.b_valid[:] = y[:, b.n :], yv[:, b.n :]
        begin = (a.start + self._trail) // self._per_hop - self._wait
        return state, {
            "coherence": Block(found[0], valid, rows.copy(), begin),
            "floor": Block(found[1], valid.copy(), rows.copy(), begin.copy()),
        }

    def _add(self, own: CoherenceState, x: Float, xv: Bool, y: Float, yv: Bool) -> None:
        """Add a segment to the sums of the pairs in which it is whole."""
        first: Complex = fft.rfft(self._windows[0] * (x - x.mean(axis=1, keepdims=True)))[:, : self._bins]
        second: Complex = fft.rfft(self._windows[1] * (y - y.mean(axis=1, keepdims=True)))[:, : self._bins]
        cross = first[:, None] * second.conj()
        powers = [np.broadcast_to(s.real**2 + s.imag**2, cross.shape) for s in (first[:, None], second)]
        new = np.stack([*powers, cross.real, cross.imag]).reshape(own.sums.shape)
        own.fresh[:] = (np.all(xv, axis=1)[:, None] & np.all(yv, axis=1)).ravel()
        own.sums[:, own.fresh] = self._decay * own.sums[:, own.fresh] + new[:, own.fresh]
        own.taken[:] += own.fresh

    def _read(self, own: CoherenceState) -> tuple[Float, Bool]:
        """Return coherence and floor ``(2, channel, 1)`` and validity ``(channel, 1)``."""
        power = own.sums[0] * own.sums[1]
        squared = np.divide(own.sums[2] ** 2 + own.sums[3] ** 2, power, out=np.zeros_like(power), where=power > 0)
        bands = np.stack([squared[:, band].mean(axis=1) for band in self._bands], axis=1)
        n, decay = np.maximum(own.taken, 1), self._decay
        averages = (1 - decay**n) ** 2 / (1 - decay) ** 2 * (1 - decay**2) / (1 - decay ** (2 * n)) / OVERLAP
        floor = np.broadcast_to((1.0 / np.maximum(averages, 1.0))[:, None], bands.shape)
        ok = np.broadcast_to((own.fresh & (own.taken >= LEAST))[:, None], bands.shape)
        return np.stack([bands, floor]).reshape(2, -1, 1), ok.reshape(-1, 1)


@dataclass(frozen=True)
class Coherence(Stage):
    """Magnitude-squared coherence between every channel of ``a`` and of ``b``, averaged over bands.

    a, b: inputs whose rates may differ. bands: pairs of Hz. segment: of Welch's method, half overlapping, Hann window, mean taken off.
    memory: the time constant of forgetting. Channels that have nothing to do with one another show, on average, the value of port
    ``floor``: one over the number of independent segments (Carter, Knapp and Nuttall 1973); about segment / (4 memory). No lag of its own,
    but a lag of the inputs is rounded up to whole hops.
    """

    INPUTS = ("a", "b")

    a: str
    b: str
    bands: tuple[tuple[Any, Any], ...] = ((10, 500),)
    segment: Any = "1 s"
    memory: Any = "64 s"

    def bind(self, hop: Fraction, specs: Mapping[str, Spec]) -> CoherenceOp:
        """Check rates and bands."""
        a, b = block_input(self, "a", specs), block_input(self, "b", specs)
        place, segment, memory = f"Coherence({self.a!r}, {self.b!r})", seconds(self.segment), seconds(self.memory)
        if any((segment / 2 * rate).denominator != 1 or segment * rate < 8 for rate in (a.rate, b.rate)) or memory < 4 * segment:
            raise DefinitionError(
                place, expected="half a segment of whole samples of both, 4 or more, and a memory of four segments or more",
                found=f"{float(segment):g} s at {a.rate} and {b.rate} Hz, memory {float(memory):g} s", mend="Change segment or memory.",
            )  # fmt: skip
        bands: list[slice] = []
        for band in self.bands:
            low, high = (hertz(edge) for edge in band)
            first, last = math.ceil(low * segment), math.floor(high * segment)
            if not 1 <= first <= last or high >= min(a.rate, b.rate) / 2:
                raise DefinitionError(
                    place, expected=f"bands of at least {float(1 / segment):g} Hz below {float(min(a.rate, b.rate) / 2):g} Hz",
                    found=f"{float(low):g} to {float(high):g} Hz", mend="Change the band or the segment.",
                )  # fmt: skip
            bands.append(slice(first, last + 1))
        if not bands:
            raise DefinitionError(place, expected="at least one band", found="none")
        return CoherenceOp(hop, a, b, bands, segment, math.exp(-float(segment / 2 / memory)))
