"""Detectors on rows of a table: state kept between calls, one judgement a row."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from fractions import Fraction
from math import log
from typing import Any

import numpy as np

from twin_engine.clock import NS
from twin_engine.detect.auto import Auto, AutoOp
from twin_engine.detect.cusum import Cusum
from twin_engine.detect.level import Level
from twin_engine.detect.page_hinkley import PageHinkley
from twin_engine.detect.row_times import RowTimes
from twin_engine.detect.tail import surprise_of
from twin_engine.errors import DefinitionError
from twin_engine.kernels.auto import HALF, HELD, LARGEST, hold_kernel
from twin_engine.ports import Block, BlockSpec, Bool, Float, Int, Spec
from twin_engine.stage import Op, Stage

HOLD_OFF = 200  # rows
PER_DECADE = 2.0  # of the sum, for detectors that give one p-value: an alarm begins at p = 1e-4
STAGES: dict[str, Callable[[], Stage]] = {  # one row is one second here
    "auto": lambda: Auto("value", "clock"),
    "level": lambda: Level("value", memory=1000),
    "cusum": lambda: Cusum("value", memory=1000),
    "page-hinkley": lambda: PageHinkley("value", memory=10_000, warm_up=250),
}


@dataclass(frozen=True, slots=True)
class Scores:
    """Judgements of rows, each array ``(row,)`` unless it says another shape.

    p_value: how probable a sample at least as surprising is, by the series' own past; 1 where there is nothing to judge by. score: 0..1,
    the evidence that something odd begins here, sum / (sum + 8) of the detector's sum of surprises: an alarm begins at 0.5. Within 200 rows
    of the last sum above 4.8 it is 0, unless the sum has doubled: what goes on is no news, and p_value alone says how rare it is. alarm:
    bool, an alarm is on. It ends when the sum is below 4.8, or 8 rows came of which none was odd in itself (1 in 100) or raised the sum, or
    after 200 rows. masked: bool, a row without a value, or with a time that is missing, late or leapt: score 0, p_value 1, no alarm.
    weight: ``(row, column)``, each column's share of the sum.
    """

    score: Float
    p_value: Float
    alarm: Bool
    masked: Bool
    weight: Float

    def take(self, rows: Int) -> Scores:
        """Return the judgements of some rows."""
        return Scores(*(getattr(self, field.name)[rows] for field in fields(self)))

    @classmethod
    def join(cls, parts: Sequence[Scores]) -> Scores:
        """Return the judgements of chunks, at least one, as one."""
        return cls(*(np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(cls)))


class Detector:
    """One detector on the columns of a table, row after row; chunks of any size give the same scores.

    name: ``"auto"``, ``"level"``, ``"cusum"`` or ``"page-hinkley"``. columns: how many values a row has. Each column is judged by itself; a
    row's sum is that of its most surprising column, and its p-value is corrected for their number (Šidák).
    counts: rows by what was wrong with them, ``"no value"`` and the reasons of ``RowTimes``; only repeated times are judged.
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
        self._held, self._rows, self._times = np.zeros(HELD), 0, RowTimes()
        self.counts: Counter[str] = self._times.counts
        spec = next(iter(self._op.outputs.values()))
        self._surprise = surprise_of(getattr(spec, "null", ""), f"detector {name!r}")

    def update(self, times: Int, values: Float) -> Scores:
        """Judge the next rows. times: int64 ``(row,)``, ns UTC or ``NO_TIME``. values: ``(row, column)``; what is not finite is missing."""
        ordered = self._times.update(times)
        usable = ordered[:, None] & (np.abs(values) < LARGEST)
        masked: Bool = np.logical_not(usable.any(axis=1))
        if bare := int((masked & ordered).sum()):
            self.counts["no value"] += bare
        sums, own, nats, said = self._judge(times, np.ascontiguousarray(np.where(usable, values, np.nan).T)[None])
        total, judged = sums.max(axis=0), said.any(axis=0)
        onset, alarm = np.zeros(len(total)), np.zeros(len(total), bool)
        evidence, on = np.zeros(int(judged.sum())), np.zeros(int(judged.sum()), bool)
        hold_kernel(total[judged], own.max(axis=0)[judged], self._held, float(HOLD_OFF), evidence, on)
        onset[judged], alarm[judged] = evidence / (evidence + HALF), on
        onset[masked], alarm[masked] = 0.0, False
        p = -np.expm1(len(sums) * np.log1p(-np.minimum(np.exp(-nats.max(axis=0)), 1.0 - 1e-16)))
        p = np.where(judged & ~masked, np.clip(p, 1e-300, 1.0), 1.0)
        share = sums / np.where(total > 0.0, sums.sum(axis=0), 1.0)
        return Scores(onset, p, alarm, masked, np.where(total > 0.0, share, 0.0).T)

    def _judge(self, times: Int, values: Float) -> tuple[Float, Float, Float, Bool]:
        """Return sums, each sample's own oddness (-log10 p), surprises in nats and where they are valid, each ``(column, row)``."""
        rows, start = np.zeros(1, np.int64), np.full(1, self._rows, np.int64)
        self._rows += values.shape[2]
        inputs = {"source": Block(values, np.isfinite(values), rows, start)}
        if isinstance(self._op, AutoOp):
            clock = (times / NS)[None, None]
            inputs["clock"] = Block(clock, np.isfinite(clock), rows, start)
            out, said = self._op.sums(self._state, inputs)
            total, own, rare, _ = np.where(said, out, 0.0)[:, 0]
            return total, own, self._surprise(rare), said[0]
        self._state, ports = self._op.step(self._state, inputs)
        block: Any = next(iter(ports.values()))
        nats = np.where(block.valid, self._surprise(np.where(block.valid, block.values, 0.0)), 0.0)[0]
        decades = nats / log(10.0)
        own = decades if self.name == "level" else np.zeros_like(nats)  # a running sum does not say which row was odd
        return PER_DECADE * decades, own, nats, block.valid[0]
