"""What some channels should be, given others: a linear model with time constants, learnt as it runs."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, NamedTuple, cast

import numpy as np

from twin_engine.clock import seconds
from twin_engine.errors import DefinitionError
from twin_engine.kernels.regression import predict_rows
from twin_engine.ports import Block, BlockSpec, Float, Int, Port, Spec
from twin_engine.stage import Op, Stage, block_input, samples


@dataclass(frozen=True)
class Predict(Stage):
    """Predict target channels from regressor channels and give the standardised difference.

    Each regressor acts through first-order lags with the time constants ``responses`` (0: at once), as a load acts on a temperature through
    thermal resistances and capacities: y = b0 + sum over r, k of b_rk L_k(x_r). The target's own past is not used, so what makes it depart
    for good stays seen until the memory has learnt it. Coefficients are weighted least squares with weights falling by e over ``memory`` of
    valid samples; a sample z > 4 standard deviations off counts for (4 / z)^2 of one.

    Outputs: ``residual``, the prediction error made before the sample was learnt, over its predicted standard deviation (coefficients'
    uncertainty and serial correlation of the errors accounted for), as a standard normal deviate; ``prediction``, in the target's unit,
    there even when the target is missing. A regressor that is missing is taken at its mean; with all missing there is no output.
    """

    source: str
    targets: Sequence[str]
    regressors: Sequence[str]
    responses: Sequence[Any] = (0,)
    memory: Any = "6 h"
    warm_up: Any = "2 min"

    def bind(self, hop: Fraction, specs: Mapping[str, Spec]) -> Op:
        """Check channels and times against the source; raises DefinitionError."""
        del hop
        spec, place = block_input(self, "source", specs), f"Predict({self.source!r})"
        for name in (*self.targets, *self.regressors):
            if name not in spec.channels:
                close = difflib.get_close_matches(name, spec.channels, 1)
                mend = f"Did you mean {close[0]!r}?" if close else ""
                raise DefinitionError(place, expected=f"channels of {', '.join(spec.channels)}", found=repr(name), mend=mend)
        both = set(self.targets) & set(self.regressors)
        if both or not self.targets or not self.regressors:
            found = f"{both.pop()!r} as both" if both else "none"
            raise DefinitionError(place, expected="targets and regressors, each channel one of them", found=found, mend="Name others.")
        memory = samples(seconds(self.memory), spec.rate, place)
        least = samples(seconds(self.warm_up), spec.rate, place)
        free = len(self.regressors) * len(self.responses) + 3
        if not free < least <= memory:
            raise DefinitionError(
                place, expected=f"a warm-up of more than {free} samples and at most the memory", found=f"{least} of {memory}",
                mend="Change warm_up, memory or responses.",
            )  # fmt: skip
        return PredictOp(self, spec, memory, least)


class PredictState(NamedTuple):
    """Lagged regressors and weighted moments.

    level: ``(asset, regressor, response)``. since: samples since a valid one, ``(asset, regressor)``. sums, mean, scatter: moments of the
    regressors and a target, ``(asset, target, ...)`` (see ``kernels.regression``).
    """

    level: Float
    since: Int
    sums: Float
    mean: Float
    scatter: Float


class PredictOp(Op):
    """A bound Predict."""

    def __init__(self, stage: Predict, spec: BlockSpec, memory: int, least: int) -> None:
        self._memory, self._least, self._period = float(memory), float(least), float(1 / spec.rate)
        places = [spec.channels.index(c) for c in stage.targets]
        self._targets = np.array(places)
        self._regressors = np.array([spec.channels.index(c) for c in stage.regressors])
        self._constants = np.array([float(seconds(r)) for r in stage.responses])
        self.memory = memory / spec.rate
        after = spec.valid_after + least / spec.rate
        names, units = tuple(stage.targets), tuple(spec.units[i] for i in places)
        self.outputs = {
            "residual": BlockSpec(spec.rate, names, lag=spec.lag, valid_after=after, null="normal"),
            "prediction": BlockSpec(spec.rate, names, units, spec.lag, after),
        }

    def init(self, assets: int) -> PredictState:
        """Return moments of nothing."""
        regressors, targets, p = len(self._regressors), len(self._targets), len(self._regressors) * len(self._constants)
        return PredictState(
            np.zeros((assets, regressors, len(self._constants))), np.full((assets, regressors), -1, np.int64),
            np.zeros((assets, targets, 5)), np.full((assets, targets, p + 1), np.nan), np.zeros((assets, targets, p + 1, p + 1)),
        )  # fmt: skip

    def step(self, state: PredictState, inputs: Mapping[str, Port]) -> tuple[PredictState, dict[str, Port]]:
        """Predict, compare and learn, sample by sample."""
        block = cast("Block", inputs["source"])
        shape = (len(block.rows), len(self._targets), block.n)
        prediction, residual = np.empty(shape), np.empty(shape)
        predict_rows(
            block.values, block.valid, block.rows, self._targets, self._regressors, self._period, self._constants, self._memory,
            self._least, *state, prediction, residual,
        )  # fmt: skip
        found = {"residual": residual, "prediction": prediction}
        return state, {name: Block(v, np.isfinite(v), block.rows.copy(), block.start.copy()) for name, v in found.items()}
