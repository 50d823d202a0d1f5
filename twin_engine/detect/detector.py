"""Detectors on rows of a table: state kept between calls, one judgement a row."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from math import log
from typing import Any

import numpy as np

from twin_engine.clock import NS
from twin_engine.detect.auto import Auto, AutoOp
from twin_engine.detect.cusum import Cusum
from twin_engine.detect.level import Level
from twin_engine.detect.page_hinkley import PageHinkley
from twin_engine.detect.tail import surprise_of
from twin_engine.errors import DefinitionError
from twin_engine.kernels.auto import HALF, hold_kernel
from twin_engine.ports import Block, BlockSpec, Bool, Float, Int, Spec
from twin_engine.stage import Op, Stage

HOLD_OFF = 200  # rows
PER_DECADE = 2.0  # of the sum, for detectors that give one p-value: a score of 0.5 is p = 1e-4
STAGES: dict[str, Callable[[], Stage]] = {  # one row is one second here
    "auto": lambda: Auto("value", "clock"),
    "level": lambda: Level("value", memory=1000),
    "cusum": lambda: Cusum("value", memory=1000),
    "page-hinkley": lambda: PageHinkley("value", memory=10_000, warm_up=250),
}


@dataclass(frozen=True, slots=True)
class Scores:
    """Judgements of rows. score: ``(row,)``, 0..1, the higher the rarer, 0 where there is no evidence.

    p_value: ``(row,)``, how probable a sample at least as surprising is, by the series' own past; 1 without evidence. alarm: bool
    ``(row,)``, an alarm is on, from a score of 0.5 until the sum behind it has fallen to 0.6 of that, at most 200 rows. weight: ``(row,
    column)``, each column's share of the surprise, or 0.
    """

    score: Float
    p_value: Float
    alarm: Bool
    weight: Float


class Detector:
    """One detector on the columns of a table, row after row; chunks of any size give the same scores.

    name: ``"auto"``, ``"level"``, ``"cusum"`` or ``"page-hinkley"``. columns: how many values a row has. Each column is judged by itself; a
    row's sum is that of its most surprising column, and its p-value is corrected for their number (Šidák).
    """

    def __init__(self, name: str = "auto", columns: int = 1) -> None:
        if name not in STAGES or columns < 1:
            raise DefinitionError(
                "detector", expected=f"one of {', '.join(STAGES)} on at least one column", found=f"{name!r} on {columns}",
                mend="Name one of these.",
            )  # fmt: skip
        self.name = name
        specs: dict[str, Spec] = {
            "source": BlockSpec(Fraction(1), tuple(str(i) for i in range(columns))),
            "clock": BlockSpec(Fraction(1), ("time",), ("s",)),
        }
        stage = STAGES[name]()
        self._op: Op = stage.bind(Fraction(1), {role: specs[role] for role in stage.inputs()})
        self._state: Any = self._op.init(1)
        self._held, self._rows = np.zeros(3), 0
        spec = next(iter(self._op.outputs.values()))
        self._surprise = surprise_of(getattr(spec, "null", ""), f"detector {name!r}")

    def update(self, times: Int, values: Float) -> Scores:
        """Judge the next rows. times: int64 ``(row,)``, ns UTC, in any order. values: ``(row, column)``; what is not finite is missing."""
        sums, surprise, said = self._judge(times, np.ascontiguousarray(values.T)[None])
        total = sums.max(axis=0)
        out, on = np.zeros(len(total)), np.zeros(len(total), bool)
        judged = said.any(axis=0)
        held, alarm = np.zeros(int(judged.sum())), np.zeros(int(judged.sum()), bool)
        hold_kernel(total[judged], self._held, float(HOLD_OFF), held, alarm)
        out[judged], on[judged] = held / (held + HALF), alarm
        nats = surprise.max(axis=0)
        p = -np.expm1(len(sums) * np.log1p(-np.minimum(np.exp(-nats), 1.0 - 1e-16)))
        share = sums / np.where(total > 0.0, sums.sum(axis=0), 1.0)
        return Scores(out, np.where(judged, np.maximum(p, 1e-300), 1.0), on, np.where(total > 0.0, share, 0.0).T)

    def _judge(self, times: Int, values: Float) -> tuple[Float, Float, Bool]:
        """Return sums, surprises in nats and where they are valid, each ``(column, row)``."""
        rows, start = np.zeros(1, np.int64), np.full(1, self._rows, np.int64)
        self._rows += values.shape[2]
        inputs = {"source": Block(values, np.isfinite(values), rows, start)}
        if isinstance(self._op, AutoOp):
            clock = (times / NS)[None, None]
            inputs["clock"] = Block(clock, np.isfinite(clock), rows, start)
            out, said = self._op.sums(self._state, inputs)
            return np.where(said, out[0], 0.0)[0], self._surprise(np.where(said, out[2], 0.0))[0], said[0]
        self._state, ports = self._op.step(self._state, inputs)
        block: Any = next(iter(ports.values()))
        nats = np.where(block.valid, self._surprise(np.where(block.valid, block.values, 0.0)), 0.0)[0]
        return nats * (PER_DECADE / log(10.0)), nats, block.valid[0]
