"""A small stage that keeps every law, and for each law a mutant that breaks it alone."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple

import numpy as np

from twin_engine.ports import Block, BlockSpec, relabel
from twin_engine.stage import Op, Stage, block_input


class MeanState(NamedTuple):
    """mean: the running mean. seen: whether anything valid has come."""

    mean: np.ndarray
    seen: np.ndarray


class MeanOp(Op):
    """An EWMA, one sample at a time: the slow, obvious version."""

    memory = Fraction(1)

    def __init__(self, spec: BlockSpec) -> None:
        self.outputs = {"mean": spec}
        self.channels = len(spec.channels)

    def init(self, assets: int) -> MeanState:
        return MeanState(np.zeros((assets, self.channels)), np.zeros((assets, self.channels), bool))

    def step(self, state, inputs):
        x = inputs["source"]
        out, ok = np.zeros_like(x.values), x.valid.copy()
        for i, row in enumerate(x.rows):
            for c in range(self.channels):
                for t in range(x.n):
                    if x.valid[i, c, t]:
                        state.mean[row, c] += 0.1 * (x.values[i, c, t] - state.mean[row, c])
                        state.seen[row, c] = True
                        out[i, c, t] = state.mean[row, c]
        return state, {"mean": Block(out, ok, x.rows, x.start)}


@dataclass(frozen=True)
class Mean(Stage):
    source: str
    op: type[MeanOp] = MeanOp

    def bind(self, hop, specs):
        return self.op(block_input(self, "source", specs))


class ChunkingMutant(MeanOp):
    """Takes off the mean of the step it is given."""

    def step(self, state, inputs):
        state, out = super().step(state, inputs)
        y = out["mean"]
        return state, {"mean": Block(y.values - y.values.mean(axis=2, keepdims=True), y.valid, y.rows, y.start)}


class SnapshotMutant(MeanOp):
    """Keeps part of its state where no snapshot sees it."""

    def init(self, assets):
        self.count = 0
        return super().init(assets)

    def step(self, state, inputs):
        state, out = super().step(state, inputs)
        y = out["mean"]
        y.values[:] += self.count
        self.count += y.n
        y.values[:] += 0.0
        return state, out


class IndependenceMutant(MeanOp):
    """Adds what the other rows of the step are."""

    def step(self, state, inputs):
        state, out = super().step(state, inputs)
        out["mean"].values[:] += inputs["source"].rows.sum()
        return state, out


class GapMutant(MeanOp):
    """Reads what is not valid."""

    def step(self, state, inputs):
        x = inputs["source"]
        state, _out = super().step(state, inputs)
        return state, {"mean": Block(np.nan_to_num(x.values), np.ones_like(x.valid), x.rows, x.start)}


class PurityMutant(MeanOp):
    """Hands its input on."""

    def step(self, state, inputs):
        state, _ = super().step(state, inputs)
        x = inputs["source"]
        return state, {"mean": Block(x.values, x.valid, x.rows, x.start)}


class WritingMutant(MeanOp):
    """Writes state of rows that it was not given."""

    def step(self, state, inputs):
        state, out = super().step(state, inputs)
        state.seen[:] = True
        return state, out


class MemoryMutant(MeanOp):
    """Remembers more with every step."""

    def step(self, state, inputs):
        state, out = super().step(state, inputs)
        return MeanState(state.mean, np.concatenate([state.seen, state.seen[:, :1]], axis=1)), out


class CausalityMutant(MeanOp):
    """Looks ahead within the step: caught as a broken chunking law too, since only a longer step shows it the future."""

    def step(self, state, inputs):
        state, _out = super().step(state, inputs)
        x = inputs["source"]
        ahead = np.where(x.valid, x.values, 0.0)[:, :, ::-1].copy()
        return state, {"mean": Block(ahead, x.valid.copy(), x.rows, x.start)}


class LagMutant(MeanOp):
    """States a lag that it does not take off."""

    def __init__(self, spec):
        super().__init__(spec)
        self.outputs = {"mean": relabel(spec, lag=Fraction(1))}
