"""What the laws are run on: a stage with the specs of its inputs, whole-run inputs drawn from a seed, and cuts of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from twin_engine.clock import NS, seconds, time_of
from twin_engine.ports import Block, BlockSpec, Bool, Int, Marks, MarksSpec, Port, Spec
from twin_engine.stage import Op, Stage

Ports: TypeAlias = dict[str, Port]
Make: TypeAlias = Callable[[np.random.Generator, Spec, tuple[int, ...]], NDArray[np.float64]]
FIRST_HOP = 1_400_000_000  # hops since 1970 at which the drawn input begins, before each row's own offset


@dataclass(frozen=True)
class Case:
    """A stage with what its inputs carry.

    seconds: how much event time a check feeds (long enough for outputs to become valid). make: draws the values ``(row, channel,
    time)`` of a block input; by default noise of unit scale with a step and spikes. rows: assets in the fleet.
    """

    stage: Stage
    hop: Any
    inputs: Mapping[str, Spec]
    seconds: Any
    make: Make | None = None
    rows: int = 3

    @property
    def hops(self) -> int:
        """Hops that a check feeds."""
        return max(8, round(seconds(self.seconds) / seconds(self.hop)))

    def bind(self) -> Op:
        """Return a fresh op."""
        return self.stage.bind(seconds(self.hop), self.inputs)


def noise(rng: np.random.Generator, spec: Spec, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Draw unit noise with one step and a few spikes in each channel."""
    del spec
    values = rng.normal(size=shape)
    at = rng.integers(0, shape[-1], size=shape[:-1])
    values += (np.arange(shape[-1]) >= at[..., None]) * rng.normal(0, 3, size=(*shape[:-1], 1))
    return values + (rng.random(shape) < 2 / shape[-1]) * 12.0


def draw(case: Case, seed: int, *, gaps: bool = True) -> Ports:
    """Return whole-run inputs by role: ``case.rows`` rows of ``case.hops`` hops."""
    rng = np.random.default_rng(seed)
    hop, hops, rows = seconds(case.hop), case.hops, case.rows
    first = FIRST_HOP + rng.integers(0, 997, size=rows)
    present = np.ones((rows, hops), bool)
    if gaps:
        for r in range(1, rows):  # row 0 stays whole
            length = int(rng.integers(1, max(2, hops // 8)))
            at = int(rng.integers(0, hops - length))
            present[r, at : at + length] = False
    ports: Ports = {}
    for role, spec in case.inputs.items():
        if isinstance(spec, BlockSpec):
            per_hop = int(hop * spec.rate)
            values = (case.make or noise)(rng, spec, (rows, len(spec.channels), hops * per_hop))
            valid = np.repeat(present[:, None, :], per_hop, axis=2) & np.ones((rows, len(spec.channels), 1), bool)
            if gaps:
                valid &= rng.random(valid.shape) > 1e-3
            ports[role] = Block(values, np.ascontiguousarray(valid), np.arange(rows), first * per_hop)
        else:
            ports[role] = _draw_marks(rng, spec, present, first, hop)
    return ports


def _draw_marks(rng: np.random.Generator, spec: MarksSpec, present: Bool, first: Int, hop: Fraction) -> Marks:
    """Draw marks whose ``score`` follows the exponential law, up to two a hop, only in hops that are present."""
    count = rng.poisson(0.6, size=present.shape) * present
    row, at = np.repeat(np.indices(count.shape).reshape(2, -1), count.ravel(), axis=1)
    time = time_of(first[row] + at, 1 / hop) + rng.integers(0, int(hop * NS), size=len(row))
    order = np.lexsort((time, row))
    row, time = row[order], time[order]
    columns: dict[str, NDArray[Any]] = {}
    for name, (dtype, shape) in spec.columns.items():
        drawn = rng.exponential(size=(len(row), *shape)) + 6.0
        columns[name] = drawn.astype(dtype) if np.dtype(dtype).kind == "f" else np.zeros((len(row), *shape), dtype)
    width = int(hop * NS)
    if "start" in columns:
        columns["start"], columns["end"] = time - width // 8, time + width // 8
    hops = present.shape[1]
    return Marks(row, time, columns, np.arange(len(first)), present.sum(1) * width, time_of(first + hops, 1 / hop))


def cut(case: Case, ports: Mapping[str, Port], lo: int, hi: int, rows: Sequence[int]) -> Ports:
    """Return hops lo..hi of some rows of whole-run inputs."""
    hop = seconds(case.hop)
    take = np.asarray(rows, np.int64)
    found: Ports = {}
    for role, port in ports.items():
        if isinstance(port, Block):
            spec = case.inputs[role]
            assert isinstance(spec, BlockSpec)
            n = int(hop * spec.rate)
            part = (take, slice(None), slice(lo * n, hi * n))
            found[role] = Block(port.values[part].copy(), port.valid[part].copy(), take, port.start[take] + lo * n)
        else:
            span = int(hop * NS)
            begin = port.until[take] - (case.hops - lo) * span
            end = port.until[take] - (case.hops - hi) * span
            place = np.searchsorted(take, port.row)
            known = np.isin(port.row, take)
            place[~known] = 0
            keep = known & (port.time >= begin[place]) & (port.time < end[place])
            columns = {k: v[keep].copy() for k, v in port.columns.items()}
            live = np.full(len(take), (hi - lo) * span)
            found[role] = Marks(port.row[keep].copy(), port.time[keep].copy(), columns, take, live, end)
    return found
