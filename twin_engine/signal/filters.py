"""Band-pass, high-pass and notch: cascades of biquads, causal, with no lag taken off (their phase is that of the filter)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, NamedTuple, cast

import numpy as np
import scipy.signal  # pyright: ignore[reportMissingTypeStubs]

from twin_engine.clock import hertz
from twin_engine.errors import DefinitionError
from twin_engine.kernels.biquads import cascade
from twin_engine.ports import Block, BlockSpec, Float, Int, Port, Spec, relabel
from twin_engine.stage import Op, Stage, block_input

signal: Any = scipy.signal  # it has no types
SETTLED = 1e-3  # a filter has settled when its slowest pole has decayed to this


class BiquadState(NamedTuple):
    """z ``(asset, channel, section, 2)``; held, origin, since ``(asset, channel)``: see ``kernels.biquads.cascade``."""

    z: Float
    held: Float
    origin: Float
    since: Int


class Biquads(Op):
    """A cascade of biquads on every channel. Port ``filtered``: rate, channels and units of the source.

    An invalid sample is taken as the last valid one inside the filter. The output is invalid there, and until ``settle`` samples of
    unbroken valid input have come: the time in which the slowest pole decays to 1e-3.
    """

    def __init__(self, source: BlockSpec, sos: Float, dc: float) -> None:
        slowest = float(np.abs(signal.sos2zpk(sos)[1]).max())  # radius of a pole
        self.settle = math.ceil(math.log(SETTLED) / math.log(slowest))
        self._dc = dc
        through = np.array([[1.0, 0.0, 0.0, 1.0, 0.0, 0.0]] * (-len(sos) % 4)).reshape(-1, 6)  # the kernel takes sections by fours
        self._sos = np.concatenate([sos, through])
        self._channels = len(source.channels)
        self.memory = self.settle / source.rate
        self.outputs = {"filtered": relabel(source, valid_after=source.valid_after + self.memory, null="")}

    def init(self, assets: int) -> BiquadState:
        """Return the state of filters that have seen nothing."""
        shape = (assets, self._channels)
        return BiquadState(np.zeros((*shape, len(self._sos), 2)), np.zeros(shape), np.full(shape, np.nan), np.zeros(shape, np.int64))

    def step(self, state: BiquadState, inputs: Mapping[str, Port]) -> tuple[BiquadState, dict[str, Port]]:
        """Filter a block."""
        block = cast("Block", inputs["source"])
        y, ok = np.empty_like(block.values), np.empty_like(block.valid)
        cascade(block.values, block.valid, block.rows, self._sos, self._dc, self.settle, *state, y, ok)
        return state, {"filtered": Block(y, ok, block.rows.copy(), block.start.copy())}


def _inside(place: str, frequencies: Sequence[Any], rate: Fraction) -> list[float]:
    """Return frequencies in Hz, checked to lie between zero and the Nyquist frequency."""
    found = [hertz(f) for f in frequencies]
    for f in found:
        if not 0 < f < rate / 2:
            raise DefinitionError(
                place, expected=f"frequencies above 0 and below {float(rate / 2):g} Hz, half the rate of the source",
                found=f"{float(f):g} Hz", mend="Take a lower frequency or a source of a higher rate.",
            )  # fmt: skip
    return [float(f) for f in found]


def _order(place: str, order: int) -> int:
    if order < 1:
        raise DefinitionError(place, expected="an order of at least 1", found=str(order))
    return order


@dataclass(frozen=True)
class BandPass(Stage):
    """Butterworth band-pass of ``order``: each edge falls by 6 x order dB an octave.

    band: Hz, 3 dB down at both edges. No lag; validity as in ``Biquads``.
    """

    source: str
    band: tuple[Any, Any]
    order: int = 4

    def bind(self, hop: Fraction, specs: Mapping[str, Spec]) -> Biquads:
        """Design the cascade for the source's rate."""
        del hop
        source, place = block_input(self, "source", specs), f"BandPass(band={self.band})"
        low, high = _inside(place, self.band, source.rate)
        if low >= high:
            raise DefinitionError(place, expected="a band from low to high", found=f"{low:g} to {high:g} Hz", mend="Swap the two.")
        sos = signal.butter(_order(place, self.order), (low, high), "bandpass", output="sos", fs=float(source.rate))
        return Biquads(source, sos, 0.0)


@dataclass(frozen=True)
class HighPass(Stage):
    """Butterworth high-pass of ``order``. cutoff: Hz, 3 dB down. No lag; validity as in ``Biquads``."""

    source: str
    cutoff: Any
    order: int = 4

    def bind(self, hop: Fraction, specs: Mapping[str, Spec]) -> Biquads:
        """Design the cascade for the source's rate."""
        del hop
        source, place = block_input(self, "source", specs), f"HighPass(cutoff={self.cutoff})"
        (cutoff,) = _inside(place, (self.cutoff,), source.rate)
        sos = signal.butter(_order(place, self.order), cutoff, "highpass", output="sos", fs=float(source.rate))
        return Biquads(source, sos, 0.0)


@dataclass(frozen=True)
class Notch(Stage):
    """Second-order notches in a row.

    frequencies: Hz. q: a notch's frequency over the width between its 3 dB points. No lag; validity as in ``Biquads``.
    """

    source: str
    frequencies: tuple[Any, ...]
    q: float = 30.0

    def bind(self, hop: Fraction, specs: Mapping[str, Spec]) -> Biquads:
        """Design the cascade for the source's rate."""
        del hop
        source, place = block_input(self, "source", specs), f"Notch(frequencies={self.frequencies})"
        if not self.frequencies or self.q <= 0:
            raise DefinitionError(place, expected="at least one frequency and q above 0", found=f"{self.frequencies}, q={self.q:g}")
        sections = [signal.iirnotch(f, self.q, fs=float(source.rate)) for f in _inside(place, self.frequencies, source.rate)]
        return Biquads(source, np.array([[*b, *a] for b, a in sections]), 1.0)
