"""Scores seen against the recent past: what follows something louder counts less."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple, cast

import numpy as np

from twin_engine.clock import seconds
from twin_engine.errors import DefinitionError
from twin_engine.ports import Block, BlockSpec, Bool, Float, Port, Spec
from twin_engine.stage import Op, Stage, block_input, samples


@dataclass(frozen=True)
class Refractory(Stage):
    """Divide each score by the square root of the recent loudest one's excess over ``floor``.

    Transients come in trains (scattered light, whistles): the first is news, those after it less so. With r the loudest score up to
    ``delay`` ago, its logarithm
    decaying to that of ``floor`` over ``memory`` seconds, the output is score / sqrt(r / floor): half-way, in logarithms, between how
    loud a score is and how much
    it stands out. Where nothing above the floor came before, scores stay as they are. Channels are apart. What is invalid adds nothing
    to the past.
    """

    source: str
    floor: float = 12.0
    memory: str | float = "8 s"
    delay: str | float = "3/8 s"

    def bind(self, hop: Fraction, specs: Mapping[str, Spec]) -> Op:
        """Bind to a block of scores that are not negative."""
        del hop
        spec, place = block_input(self, "source", specs), f"Refractory({self.source!r})"
        if self.floor <= 0:
            raise DefinitionError(place, expected="a floor above 0", found=str(self.floor))
        return RefractoryOp(spec, self.floor, seconds(self.memory), samples(seconds(self.delay), spec.rate, place))


class RefractoryState(NamedTuple):
    """recent: ``(asset, channel)``, how far the logarithm of the loudest lies above the floor's.

    line: the same of the last scores, ``(asset, channel, time)``.
    """

    recent: Float
    line: Float


class RefractoryOp(Op):
    """A bound Refractory."""

    def __init__(self, spec: BlockSpec, floor: float, memory: Fraction, delay: int) -> None:
        self._channels, self._floor, self._delay = len(spec.channels), floor, delay
        self._decay = math.exp(-1 / (spec.rate * memory))
        self.memory = memory
        self.outputs = {"score": BlockSpec(spec.rate, spec.channels, (), spec.lag, spec.valid_after)}

    def init(self, assets: int) -> RefractoryState:
        """Return a past with nothing above the floor."""
        return RefractoryState(np.zeros((assets, self._channels)), np.zeros((assets, self._channels, self._delay)))

    def step(self, state: RefractoryState, inputs: Mapping[str, Port]) -> tuple[RefractoryState, dict[str, Port]]:
        """Weigh each score by the past."""
        block = cast("Block", inputs["source"])
        valid: Bool = block.valid & (block.values >= 0)
        score = np.where(valid, block.values, 0.0)
        above = np.log(np.maximum(score / self._floor, 1.0))
        line = np.concatenate([state.line[block.rows], above], axis=2)
        recent, out = state.recent[block.rows], np.empty_like(score)
        for t in range(block.n):
            recent = np.maximum(recent * self._decay, line[:, :, t])
            out[:, :, t] = score[:, :, t] * np.exp(-0.5 * recent)
        state.recent[block.rows], state.line[block.rows] = recent, line[:, :, block.n :]
        return state, {"score": Block(out, valid, block.rows.copy(), block.start.copy())}
