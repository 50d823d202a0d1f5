"""Level and robust scale of each channel, and how far a sample lies from them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from math import inf
from typing import Any, NamedTuple, cast

import numpy as np

from twin_engine.clock import seconds
from twin_engine.errors import DefinitionError
from twin_engine.kernels.level import SCALARS, LevelSetting, level_kernel
from twin_engine.ports import Block, BlockSpec, Bool, Float, Port, Spec, relabel
from twin_engine.stage import Op, Stage, block_input, samples


class LevelState(NamedTuple):
    """scalar: ``(asset, channel, SCALARS)``, see ``twin_engine.kernels.level``."""

    scalar: Float


def level_setting(
    spec: BlockSpec, place: str, memory: Any, scale_memory: Any, warm_up: Any, *, clip: float, drift: float = 0.0, restart: float = inf
) -> LevelSetting:
    """Return the setting in samples; raises DefinitionError. A scale_memory of None is the memory, a warm_up of None a quarter of it."""
    if clip <= 0.0 or drift < 0.0:
        raise DefinitionError(place, expected="clip above 0 and drift at least 0", found=f"clip {clip:g}, drift {drift:g}")
    level = samples(seconds(memory), spec.rate, f"{place}, memory")
    scale = level if scale_memory is None else samples(seconds(scale_memory), spec.rate, f"{place}, scale_memory")
    warm = max(1, level // 4) if warm_up is None else samples(seconds(warm_up), spec.rate, f"{place}, warm_up")
    return LevelSetting(level, scale, warm, float(clip), float(drift), float(restart))


def level_output(spec: BlockSpec, setting: LevelSetting, null: str) -> BlockSpec:
    """Return the spec of scores that begin after the warm-up."""
    return relabel(spec, units=(), valid_after=spec.valid_after + Fraction(int(setting.warm_up) + 1) / spec.rate, null=null)


@dataclass(frozen=True)
class Level(Stage):
    """Exponentially weighted level with a robust scale; the score is the distance from the level in sigmas, with its sign.

    memory, scale_memory: of the level and of the scale (default: as the level). warm_up: before the first score (default: a quarter of the
    memory). clip: sigmas by which one sample may move level and scale at most (Huber 1964), so that a spike is not learned and a
    lasting change is, within a few memories. A value repeated more than 8 times does not shrink the scale: a stuck sensor is no quiet one.

    Ports: ``score`` (primary; standard normal if the samples are independent and normal), ``level`` and ``scale`` before the sample, in
    the source's unit.
    """

    source: str
    memory: Any = "1 h"
    scale_memory: Any = None
    warm_up: Any = None
    clip: float = 3.0

    def bind(self, hop: Fraction, specs: Mapping[str, Spec]) -> LevelOp:
        """Check against the source and return the op."""
        del hop
        spec = block_input(self, "source", specs)
        return LevelOp(spec, level_setting(spec, f"Level({self.source!r})", self.memory, self.scale_memory, self.warm_up, clip=self.clip))


class LevelOp(Op):
    """Level, bound."""

    def __init__(self, spec: BlockSpec, setting: LevelSetting) -> None:
        self.spec, self.setting = spec, setting
        self.memory = Fraction(int(max(setting.memory, setting.scale_memory))) / spec.rate
        score = level_output(spec, setting, "normal")
        kept = relabel(score, units=spec.units, null="")
        self.outputs = {"score": score, "level": kept, "scale": kept}

    def init(self, assets: int) -> LevelState:
        """Return the state of channels that have seen nothing."""
        return LevelState(np.zeros((assets, len(self.spec.channels), SCALARS)))

    def step(self, state: LevelState, inputs: Mapping[str, Port]) -> tuple[LevelState, dict[str, Port]]:
        """Judge a block."""
        block = cast("Block", inputs["source"])
        out, said = np.zeros((3, *block.values.shape)), np.zeros(block.values.shape, bool)
        level_kernel(block.values, block.valid, block.rows, state.scalar, self.setting, out, said)
        return state, {name: like(block, out[i].copy(), said) for i, name in enumerate(self.outputs)}


def like(block: Block, values: Float, valid: Bool) -> Block:
    """Return a block over the same rows and samples with other values."""
    return Block(values, valid.copy(), block.rows.copy(), block.start.copy())
