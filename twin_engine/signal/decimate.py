"""Decimation by a whole factor through a linear-phase anti-alias filter."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, NamedTuple, cast

import numpy as np
import scipy.signal  # pyright: ignore[reportMissingTypeStubs]

from twin_engine.clock import hertz
from twin_engine.errors import DefinitionError
from twin_engine.kernels.fir import decimate
from twin_engine.ports import Block, BlockSpec, Bool, Float, Port, Spec, relabel
from twin_engine.stage import Op, Stage, block_input

signal: Any = scipy.signal  # it has no types


class DecimateState(NamedTuple):
    """The last inputs: values and valid ``(asset, channel, history)``."""

    values: Float
    valid: Bool


class DecimateOp(Op):
    """Port ``decimated``: output j, on the epoch's grid of the lower rate, is the filtered input at its sample j x factor."""

    def __init__(self, source: BlockSpec, rate: Fraction, taps: Float) -> None:
        self._factor, self._taps, self._channels = int(source.rate / rate), taps, len(source.channels)
        self._wait = int(-source.lag * source.rate) % self._factor  # a source that trails by other than whole output samples
        lag = Fraction(self._wait + len(taps) // 2) / source.rate
        self.memory = 2 * lag
        after = source.valid_after + self.memory
        self.outputs = {"decimated": relabel(source, rate=rate, lag=source.lag + lag, valid_after=after, null="")}

    def init(self, assets: int) -> DecimateState:
        """Return the state of a filter that has seen nothing."""
        shape = (assets, self._channels, len(self._taps) - 1 + self._wait)
        return DecimateState(np.zeros(shape), np.zeros(shape, bool))

    def step(self, state: DecimateState, inputs: Mapping[str, Port]) -> tuple[DecimateState, dict[str, Port]]:
        """Filter a block and keep every factor-th sample."""
        block = cast("Block", inputs["source"])
        rows, n = block.rows, block.n
        x = np.concatenate([state.values[rows], block.values], axis=2)
        valid = np.concatenate([state.valid[rows], block.valid], axis=2)
        state.values[rows], state.valid[rows] = x[:, :, n:], valid[:, :, n:]
        shape = (len(rows), self._channels, n // self._factor)
        y, ok = np.empty(shape), np.empty(shape, bool)
        decimate(x, valid, self._taps, self._factor, y, ok)
        start = (block.start - self._wait - len(self._taps) // 2) // self._factor
        return state, {"decimated": Block(y, ok, rows.copy(), start)}


@dataclass(frozen=True)
class Decimate(Stage):
    """Lower the rate by a whole factor, with what would alias taken out first. Linear phase.

    rate: Hz, the output's. passband: the part of the new band, from 0 Hz up, that is kept flat within ``10 ** (-attenuation / 20)``.
    attenuation: dB by which all above the new Nyquist frequency is down. The filter is a Kaiser-windowed sinc (Kaiser 1974) of
    2 L factor + 1 taps; the lag is exactly L output samples: 26 with the defaults. An output is invalid if any sample under the taps is.
    """

    source: str
    rate: Any
    passband: float = 0.8
    attenuation: float = 80.0

    def bind(self, hop: Fraction, specs: Mapping[str, Spec]) -> DecimateOp:
        """Design the filter for the source's rate."""
        source, rate, place = block_input(self, "source", specs), hertz(self.rate), f"Decimate(rate={self.rate})"
        if not 0 < rate <= source.rate or (source.rate / rate).denominator != 1:
            raise DefinitionError(
                place, expected=f"a rate that divides {source.rate} Hz", found=f"{rate} Hz", mend="Take Resample for other ratios."
            )
        if (hop * rate).denominator != 1:
            raise DefinitionError(place, expected=f"a whole number of output samples in a hop of {hop} s", found=f"{float(hop * rate):g}")
        if not 0 < self.passband < 1 or not 20 <= self.attenuation <= 200:
            raise DefinitionError(
                place, expected="a passband between 0 and 1 and an attenuation of 20 to 200 dB",
                found=f"passband {self.passband:g}, attenuation {self.attenuation:g} dB",
            )  # fmt: skip
        factor = int(source.rate / rate)
        taps, beta = signal.kaiserord(self.attenuation, (1 - self.passband) / factor)
        half = factor * math.ceil((taps - 1) / 2 / factor)
        cutoff = (1 + self.passband) / 2 * float(rate) / 2
        design: Float = np.ones(1) if factor == 1 else signal.firwin(2 * half + 1, cutoff, window=("kaiser", beta), fs=float(source.rate))
        return DecimateOp(source, rate, design)
