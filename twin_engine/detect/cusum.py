"""Cumulative sums (Page 1954): small lasting changes of a level."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, cast

import numpy as np

from twin_engine.detect.level import LevelState, level_output, level_setting, like
from twin_engine.kernels.level import SCALARS, LevelSetting, cusum_kernel
from twin_engine.ports import Block, BlockSpec, Port, Spec
from twin_engine.stage import Op, Stage, block_input


@dataclass(frozen=True)
class Cusum(Stage):
    """Two-sided CUSUM of the distance from a tracked level, in sigmas of a robust scale.

    drift: sigmas that are taken off at each sample, half the change to be found. memory, scale_memory, warm_up, clip: of the level, as in
    ``Level``; a change is forgotten as the level follows it.

    Port ``score``: -log10 of 2 exp(-2 drift (sum + 0.583)), how often the larger sum is as high when samples are
    independent and normal (Siegmund 1985: the stationary law of the sum, with his correction for overshoot).
    """

    source: str
    drift: float = 0.5
    memory: Any = "1 h"
    scale_memory: Any = None
    warm_up: Any = None
    clip: float = 3.0

    def bind(self, hop: Fraction, specs: Mapping[str, Spec]) -> CusumOp:
        """Check against the source and return the op."""
        del hop
        spec, place = block_input(self, "source", specs), f"Cusum({self.source!r})"
        return CusumOp(spec, level_setting(spec, place, self.memory, self.scale_memory, self.warm_up, clip=self.clip, drift=self.drift))


class CusumOp(Op):
    """Cusum or PageHinkley, bound."""

    def __init__(self, spec: BlockSpec, setting: LevelSetting) -> None:
        self.spec, self.setting = spec, setting
        self.memory = Fraction(int(max(setting.memory, setting.scale_memory))) / spec.rate
        self.outputs = {"score": level_output(spec, setting, "neglog10p")}

    def init(self, assets: int) -> LevelState:
        """Return the state of channels that have seen nothing."""
        return LevelState(np.zeros((assets, len(self.spec.channels), SCALARS)))

    def step(self, state: LevelState, inputs: Mapping[str, Port]) -> tuple[LevelState, dict[str, Port]]:
        """Judge a block."""
        block = cast("Block", inputs["source"])
        out, said = np.zeros((1, *block.values.shape)), np.zeros(block.values.shape, bool)
        cusum_kernel(block.values, block.valid, block.rows, state.scalar, self.setting, out, said)
        return state, {"score": like(block, out[0], said)}
