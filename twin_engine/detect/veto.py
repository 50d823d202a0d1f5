"""Vetoed segments from triggers or events, with their dead time counted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, NamedTuple, cast

import numpy as np

from twin_engine.clock import NS, seconds
from twin_engine.errors import DefinitionError
from twin_engine.ports import Int, Marks, MarksSpec, Port, Spec
from twin_engine.stage import Op, Stage, marks_input


@dataclass(frozen=True)
class Veto(Stage):
    """Join triggers, or the final revisions of events, to segments that are not to be trusted.

    source: marks with start and end. pad: seconds put before and after each. above: the score from which on a mark vetoes. Segments
    that overlap are one; a segment is given when nothing can join it any more. One that reaches ``longest`` is cut:
    another begins where it ends.

    Marks out, in order of time: start, end (ns UTC), and dead: seconds vetoed since the beginning, this segment included. Dead time as a
    fraction is that over the live time, the sum of ``Marks.live``. ``time`` is that from which on nothing could join. The spec's ``kind``
    is that of the source.
    """

    source: str
    pad: Any = "1/4 s"
    above: float = float("-inf")
    longest: Any = "1 h"

    def bind(self, hop: Fraction, specs: Mapping[str, Spec]) -> VetoOp:
        """Check that the source has the columns and return the op."""
        spec, place = marks_input(self, "source", specs), f"Veto({self.source!r})"
        needed = ["start", "end"] + (["score"] if self.above > float("-inf") else [])
        if missing := [name for name in needed if name not in spec.columns]:
            raise DefinitionError(
                place, expected=f"marks with {', '.join(needed)}", found=f"no {', '.join(missing)}", mend="Give it triggers or events."
            )
        if seconds(self.pad) < 0 or seconds(self.longest) <= 0:
            raise DefinitionError(
                place, expected="pad >= 0 and longest > 0", found=f"{self.pad}, {self.longest}", mend="Give durations in that range."
            )
        return VetoOp(self, hop, spec)


class VetoState(NamedTuple):
    """Asset first. ``open``: 1 with a segment; its ``start``, ``end`` and the time of its ``last`` mark, ns; ``dead`` time, ns."""

    open: Int
    start: Int
    end: Int
    last: Int
    dead: Int


class VetoOp(Op):
    """Veto, bound."""

    persistent = True

    def __init__(self, stage: Veto, hop: Fraction, spec: MarksSpec) -> None:
        self._above, self._events = stage.above, spec.events
        self._pad, self._longest = int(seconds(stage.pad) * NS), int(seconds(stage.longest) * NS)
        self.memory = 2 * seconds(stage.pad) + hop
        columns: dict[str, tuple[str, tuple[int, ...]]] = {"start": ("i8", ()), "end": ("i8", ()), "dead": ("f8", ())}
        self.outputs = {"segments": MarksSpec(columns, lag=spec.lag, valid_after=spec.valid_after, kind=spec.kind)}

    def init(self, assets: int) -> VetoState:
        """Return the state of assets that nothing is known of."""
        return VetoState(*(np.zeros(assets, np.int64) for _ in VetoState._fields))

    def step(self, state: VetoState, inputs: Mapping[str, Port]) -> tuple[VetoState, dict[str, Port]]:
        """Take marks and give the segments that are complete."""
        port = cast("Marks", inputs["source"])
        keep = np.ones(len(port), bool)
        if self._events:
            keep &= port.columns["final"]
        if self._above > float("-inf"):
            keep &= port.columns["score"] >= self._above
        row, time = port.row[keep], port.time[keep]
        start, end = port.columns["start"][keep] - self._pad, port.columns["end"][keep] + self._pad
        found: list[tuple[int, int, int, int, int]] = []
        for r, until in zip(port.rows.tolist(), port.until.tolist(), strict=True):
            at = slice(*np.searchsorted(row, (r, r + 1)))
            for t, a, b in zip(time[at].tolist(), start[at].tolist(), end[at].tolist(), strict=True):
                self._close(state, r, t, found)
                self._join(state, r, t, a, b)
            self._close(state, r, until, found)
        table = np.array(found, np.int64).reshape(-1, 5)
        columns = {"start": table[:, 2].copy(), "end": table[:, 3].copy(), "dead": table[:, 4] / NS}
        judged = None if port.judged is None else port.judged.copy()
        marks = Marks(table[:, 0].copy(), table[:, 1].copy(), columns, port.rows.copy(), port.live.copy(), port.until.copy(), judged)
        return state, {"segments": marks}

    def _close(self, state: VetoState, r: int, now: int, found: list[tuple[int, int, int, int, int]]) -> None:
        """End a row's open segment if a mark of time ``now`` could not join it: that depends on times alone, not on steps."""
        start, end, done = int(state.start[r]), int(state.end[r]), max(int(state.end[r]) + self._pad, int(state.last[r]))
        if state.open[r] and now > done:
            state.open[r] = 0
            state.dead[r] += end - start
            found.append((r, done, start, end, int(state.dead[r])))

    def _join(self, state: VetoState, r: int, time: int, start: int, end: int) -> None:
        """Put a padded mark into the open segment, or open one; what was vetoed before is not vetoed twice."""
        if not state.open[r]:
            start = max(start, int(state.end[r]))
            if end <= start:
                return
            state.open[r], state.start[r], state.end[r] = 1, start, end
        state.end[r], state.last[r] = min(max(int(state.end[r]), end), int(state.start[r]) + self._longest), time
