"""The general univariate detector, for telemetry about which nothing is known."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, cast

import numpy as np

from twin_engine.clock import seconds
from twin_engine.errors import DefinitionError
from twin_engine.kernels.auto import (
    DAY_BINS,
    HELD,
    RING,
    SCALARS,
    STATISTICS,
    WEEK_BINS,
    AutoSetting,
    AutoState,
    auto_kernel,
)  # fmt: skip
from twin_engine.kernels.prototypes import BOX, LAGS, STRIDES
from twin_engine.kernels.surprise import BINS
from twin_engine.ports import Block, BlockSpec, Float, Port, Spec, relabel
from twin_engine.stage import Op, Stage, block_input, samples

EVEN = 4.0  # decades of p at which a score is 0.5
LONGEST = Fraction(21 * 86400)  # s, the memory of the week's profile


def rarity(decades: Float) -> Float:
    """Return the score, 0..1, of -log10 p: 0.5 at p = 1e-4, whatever the detector. Shape kept."""
    return decades / (decades + EVEN)


@dataclass(frozen=True)
class Auto(Stage):
    """Say how odd each sample of each channel is, whatever the channel measures. Strictly causal, lag 0.

    source: a block. clock: a block of one channel, Unix seconds of each sample, for series whose samples are not on the grid; without it
    the grid is the time. memory, warm_up, hold_off: of the level and spread, before anything is said, and after an alarm; by default 1000,
    256 and 200 samples. prototypes, boxes: how many shapes are kept.

    Thirteen statistics are taken at each sample: the residual from profiles of the day and of the week, alone and as means of 4, 12 and 36
    samples; the means of 8 and 32 against the level; drops of variance and roughness and a rise of roughness over 32; the distance of the
    last 8 means of 1, 4 and 16 samples from the nearest such vector seen before; and the distance of six means and spreads from all boxes
    of a fuzzy ART network that never forgets. Each is turned into a surprise, -log10 of its tail probability under its own running
    history; what exceeds 0.5, at most 4, is summed, and the surprise of the sum's mean over 16 samples added twice.

    Ports: ``surprise`` (primary; -log10 p of the sum under its own history), ``score`` (0..1, surprise / (surprise + 4): the higher, the
    rarer), ``p_value``, ``alarm`` (1 from a sum of 8 until it is below 4.8, or 8 samples came of which none was odd in itself or made the
    sum higher, at most a hold-off; within a hold-off another begins only at twice the sum).
    Sources: Grossberg 1976 and Carpenter et al. 1991 (adaptive resonance), Gupta et al. 2014 (survey of the other statistics).
    """

    INPUTS = ("source", "clock")

    source: str
    clock: str | None = None
    memory: Any = None
    warm_up: Any = None
    hold_off: Any = None
    prototypes: int = 256
    boxes: int = 128

    def bind(self, hop: Fraction, specs: Mapping[str, Spec]) -> AutoOp:
        """Check against the source and return the op."""
        del hop
        spec, place = block_input(self, "source", specs), f"Auto({self.source!r})"
        if "clock" in specs:
            clock = block_input(self, "clock", specs)
            if clock.rate != spec.rate or len(clock.channels) != 1:
                raise DefinitionError(
                    f"{place}, clock", expected=f"one channel at {spec.rate} Hz", found=f"{len(clock.channels)} at {clock.rate} Hz",
                    mend="Put the clock into a stream of its own at the source's rate.",
                )  # fmt: skip
        if self.prototypes < 1 or self.boxes < 1:
            raise DefinitionError(place, expected="at least one prototype and box", found=f"{self.prototypes} and {self.boxes}")
        counts = {
            name: default if value is None else samples(seconds(value), spec.rate, f"{place}, {name}")
            for name, value, default in (("memory", self.memory, 1000), ("warm_up", self.warm_up, 256), ("hold_off", self.hold_off, 200))
        }
        setting = AutoSetting(counts["memory"], 10.0 * counts["memory"], counts["warm_up"], counts["hold_off"])
        return AutoOp(spec, setting, self.prototypes, self.boxes)


class AutoOp(Op):
    """Auto, bound."""

    def __init__(self, spec: BlockSpec, setting: AutoSetting, prototypes: int, boxes: int) -> None:
        self.spec, self.setting, self.prototypes, self.boxes = spec, setting, prototypes, boxes
        self.memory = max(LONGEST, Fraction(int(setting.history)) / spec.rate)
        out = relabel(spec, units=(), valid_after=spec.valid_after + Fraction(int(setting.warm_up)) / spec.rate, null="")
        self.outputs = {"surprise": relabel(out, null="neglog10p"), "score": out, "p_value": out, "alarm": out}

    def init(self, assets: int) -> AutoState:
        """Return the state of channels that have seen nothing."""
        shape = (assets, len(self.spec.channels))
        span = np.tile([np.inf, -np.inf], (*shape, BOX, 1))
        lag = np.full((*shape, len(STRIDES), self.prototypes, LAGS), np.inf, np.float32)
        used = np.full((*shape, len(STRIDES), self.prototypes), -1, np.int64)
        box = np.zeros((*shape, self.boxes, 2, BOX), np.float32)
        history = (*shape, STATISTICS + 2)
        return AutoState(
            np.zeros((*shape, SCALARS)), np.zeros((*shape, 2, RING)), np.zeros((*shape, DAY_BINS + WEEK_BINS, 2)), lag, used, box,
            np.zeros((*shape, 1), np.int64), span, np.zeros((*history, BINS)), np.zeros((*history, BINS)), np.zeros((*history, 2)),
            np.zeros((*shape, HELD)),
        )  # fmt: skip

    def sums(self, state: AutoState, inputs: Mapping[str, Port]) -> tuple[Float, Any]:
        """Advance the state; return ``(4, row, channel, time)``: sum, the sample's own oddness, surprise, alarm; and where valid."""
        block = cast("Block", inputs["source"])
        if "clock" in inputs:
            clock = cast("Block", inputs["clock"])
            time: Float = np.where(clock.valid, clock.values, np.nan)[:, 0]
        else:
            index = block.start[:, None] + np.arange(block.n)
            time = index.astype(np.float64) * (self.spec.rate.denominator / self.spec.rate.numerator)
        out, said = np.zeros((4, *block.values.shape)), np.zeros(block.values.shape, bool)
        room = np.zeros(STATISTICS), np.zeros(LAGS), np.zeros(LAGS, np.float32)
        auto_kernel(block.values, block.valid, time, block.rows, state, self.setting, *room, out, said)
        return out, said

    def step(self, state: AutoState, inputs: Mapping[str, Port]) -> tuple[AutoState, dict[str, Port]]:
        """Judge a block."""
        block = cast("Block", inputs["source"])
        out, said = self.sums(state, inputs)
        _, _, rare, alarm = out
        values = {"surprise": rare, "score": rarity(rare), "p_value": 10.0**-rare, "alarm": alarm}
        return state, {name: Block(v, said.copy(), block.rows.copy(), block.start.copy()) for name, v in values.items()}
