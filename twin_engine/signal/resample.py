"""Slow telemetry onto another grid: linear between samples, or each value held."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, NamedTuple, cast

import numpy as np

from twin_engine.clock import hertz, seconds
from twin_engine.errors import DefinitionError
from twin_engine.ports import Block, BlockSpec, Bool, Float, Int, Port, Spec, relabel
from twin_engine.stage import Op, Stage, block_input


class ResampleState(NamedTuple):
    """The last inputs, ``(asset, channel, sample)``, and ``(asset, channel)`` the newest valid one before them and its index."""

    values: Float
    valid: Bool
    held: Float
    newest: Int


class ResampleOp(Op):
    """Port ``resampled``. The two grids meet at the ends of hops, so places within a step are the same for all rows.

    age above 0: the newest valid input at or before each output, valid while it is younger. age 0: on a straight line between the inputs
    on both sides, valid where both are (one, where the grids meet).
    """

    def __init__(self, source: BlockSpec, rate: Fraction, age: Fraction) -> None:
        self._channels, self._linear = len(source.channels), age == 0
        self._ratio = source.rate / rate
        self._age = age * source.rate  # input samples
        wait = int(-source.lag * source.rate) % self._ratio.numerator  # a source that trails to where the grids do not meet
        self._lag = math.ceil(1 / self._ratio) - 1 if self._linear else 0
        self._kept = wait + self._linear
        lag = wait / source.rate + self._lag / rate
        self.memory = (age or 1 / source.rate) + lag
        self.outputs = {"resampled": relabel(source, rate=rate, lag=source.lag + lag, valid_after=source.valid_after + lag, null="")}

    def init(self, assets: int) -> ResampleState:
        """Return a state that has seen nothing."""
        shape = (assets, self._channels)
        kept = (*shape, self._kept)
        return ResampleState(np.zeros(kept), np.zeros(kept, bool), np.zeros(shape), np.full(shape, -(2**62), np.int64))

    def step(self, state: ResampleState, inputs: Mapping[str, Port]) -> tuple[ResampleState, dict[str, Port]]:
        """Put a block on the other grid."""
        block = cast("Block", inputs["source"])
        rows, n, above, below = block.rows, block.n, self._ratio.numerator, self._ratio.denominator
        x = np.concatenate([state.values[rows], block.values], axis=2)
        valid = np.concatenate([state.valid[rows], block.valid], axis=2)
        x[~valid] = 0.0
        state.values[rows], state.valid[rows] = x[:, :, n:], valid[:, :, n:]
        begin = block.start - self._kept + self._linear  # where the grids meet
        place = (np.arange(n * below // above) - self._lag) * above  # of the outputs after it, in input samples over `below`
        if self._linear:
            before, part = place // below + 1, (place % below) / below  # x begins one sample earlier
            after = before + (part > 0)
            y = x[:, :, before] * (1.0 - part) + x[:, :, after] * part
            ok = valid[:, :, before] & valid[:, :, after]
        else:
            y, ok = self._hold(state, rows, begin, x[:, :, :n], valid[:, :, :n], place)
        return state, {"resampled": Block(y, ok, rows.copy(), begin * below // above - self._lag)}

    def _hold(self, state: ResampleState, rows: Int, begin: Int, x: Float, valid: Bool, place: Int) -> tuple[Float, Bool]:
        below, count, unit = self._ratio.denominator, self._age.numerator, self._age.denominator
        newest: Int = np.maximum.accumulate(np.where(valid, np.arange(x.shape[2], dtype=np.int64), -1), axis=2)  # -1: before this step
        earlier, held = state.newest[rows] - begin[:, None], state.held[rows]
        take = newest[:, :, place // below]
        y = np.where(take < 0, held[:, :, None], np.take_along_axis(x, np.maximum(take, 0), axis=2))
        too_old = (place * unit - count * below) // (unit * below)
        ok = np.where(take < 0, earlier[:, :, None], take) > too_old
        last = newest[:, :, -1]
        state.held[rows] = np.where(last < 0, held, np.take_along_axis(x, np.maximum(last, 0)[:, :, None], axis=2)[:, :, 0])
        state.newest[rows] = np.where(last < 0, earlier, last) + begin[:, None]
        return y, ok


@dataclass(frozen=True)
class Resample(Stage):
    """Put telemetry on another grid. Nothing is filtered: Decimate a signal that has content above half the new rate.

    rate: Hz, the output's. how: ``"linear"`` waits for the next input, so its lag is the most whole output samples below one input
    period; ``"hold"`` repeats the newest valid value, without lag, for at most ``age`` (by default one input period).
    """

    source: str
    rate: Any
    how: str = "linear"
    age: Any = None

    def bind(self, hop: Fraction, specs: Mapping[str, Spec]) -> ResampleOp:
        """Check that both grids meet at the ends of hops."""
        source, rate, place = block_input(self, "source", specs), hertz(self.rate), f"Resample(rate={self.rate})"
        if rate <= 0 or (hop * rate).denominator != 1:
            raise DefinitionError(
                place, expected=f"a whole number of output samples in a hop of {hop} s", found=f"{float(hop * rate):g}",
                mend="Take another rate, or a longer hop.",
            )  # fmt: skip
        if self.how == "linear" and self.age is None:
            return ResampleOp(source, rate, Fraction(0))
        age = 1 / source.rate if self.age is None else seconds(self.age)
        if self.how != "hold" or age <= 0:
            raise DefinitionError(
                place, expected="how='linear', or how='hold' with an age above 0", found=f"how={self.how!r}, age={self.age!r}"
            )
        return ResampleOp(source, rate, age)
