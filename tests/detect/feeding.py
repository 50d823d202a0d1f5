"""Feeding an alarm in tests: whole series in, events out."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twin_engine.detect.alarm import Alarm, AlarmOp
from twin_engine.ports import Block, BlockSpec, Marks, MarksSpec

EPOCH = 1_700_006_400  # a midnight, s
NS = 1_000_000_000


def joined(outs: list[Marks]) -> dict[str, NDArray[Any]]:
    """Return the columns of all steps' marks, with ``row`` and ``time``."""
    columns = {name: np.concatenate([o.columns[name] for o in outs]) for name in outs[0].columns}
    return {**columns, "row": np.concatenate([o.row for o in outs]), "time": np.concatenate([o.time for o in outs])}


def block_op(null: str, sampled: Fraction = Fraction(1), channels: int = 1, hop: Any = 60, **alarm: Any) -> AlarmOp:
    """Return an alarm bound to a block of scores."""
    spec = BlockSpec(Fraction(sampled), tuple(f"c{i}" for i in range(channels)), null=null)
    return Alarm("x", **alarm).bind(Fraction(hop), {"source": spec})


def feed(op: AlarmOp, values: NDArray[np.float64], state: Any = None, hops: int = 240) -> tuple[Any, dict[str, NDArray[Any]]]:
    """Step scores ``(row, channel, time)`` through, some hops a step, NaN as invalid."""
    assert isinstance(op.spec, BlockSpec)
    rows, _, n = values.shape
    per = int(op.hop * op.spec.rate)
    begin = int(EPOCH * op.spec.rate)
    state = op.init(rows) if state is None else state
    outs: list[Marks] = []
    for a in range(0, n, per * hops):
        part = values[:, :, a : a + per * hops]
        block = Block(np.nan_to_num(part), np.isfinite(part), np.arange(rows), np.full(rows, begin + a))
        state, out = op.step(state, {"source": block})
        outs.append(out["events"])
    return state, joined(outs)


TRIGGERS = MarksSpec(
    {**dict.fromkeys(("start", "end", "channel"), ("i8", ())), **dict.fromkeys(("frequency", "bandwidth", "snr", "score"), ("f8", ()))},
    ("h", "g"), null="exponential", trials_hz=500.0,
)  # fmt: skip


def triggers(time: NDArray[np.int64], score: NDArray[np.float64], until: int, live: int, channel: Any = 0) -> Marks:
    """Return triggers of one row, 20 ms long, with frequency 100 + score."""
    columns = {
        "start": time - 10**7, "end": time + 10**7, "channel": np.full(len(time), 0) + channel, "frequency": 100 + score,
        "bandwidth": np.full(len(time), 20.0), "snr": np.sqrt(2 * score), "score": score,
    }  # fmt: skip
    return Marks(np.zeros(len(time), np.int64), time, columns, np.zeros(1, np.int64), np.array([live]), np.array([until]))
