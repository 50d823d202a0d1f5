"""What an edge of a twin's graph carries: blocks of samples and tables of marks, and their specs.

Arrays are ``(row, channel, time)``. A row is an asset's place in the fleet. ``valid`` is the only mask: missing, rejected,
late and warming up all look the same. A value where ``valid`` is false means nothing and must not be read.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Float: TypeAlias = NDArray[np.float64]
Bool: TypeAlias = NDArray[np.bool_]
Int: TypeAlias = NDArray[np.int64]
Columns: TypeAlias = Mapping[str, NDArray[Any]]


@dataclass(frozen=True, slots=True)
class BlockSpec:
    """What a block edge carries. Fixed at bind.

    rate: samples a second, Hz, exact. channels, units: one each a channel. lag: seconds by which the edge trails its
    inputs (summed along the path, already taken off ``Block.start``; a whole number of sample periods).
    valid_after: seconds of valid input after which the output is valid. null: the law the values follow while nothing is
    wrong: ``""`` (unknown), ``"normal"`` (standard normal), ``"exponential"`` (mean 1), ``"chi2:K"``, or ``"neglog10p"``.
    """

    rate: Fraction
    channels: tuple[str, ...]
    units: tuple[str, ...] = ()
    lag: Fraction = Fraction(0)
    valid_after: Fraction = Fraction(0)
    null: str = ""

    def __post_init__(self) -> None:
        if not self.units:
            object.__setattr__(self, "units", ("1",) * len(self.channels))


@dataclass(frozen=True, slots=True)
class MarksSpec:
    """What a marks edge carries.

    columns: name -> (dtype, trailing shape), e.g. ``{"snr": ("f8", ()), "weight": ("f8", (3,))}``. channels: the names the
    ``channel`` column (an index) points into. lag: once a step's input has reached time t, every mark before ``t - lag`` has been
    given. null: as in BlockSpec, the law of the column ``score``. trials_hz: independent trials a second behind
    the marks of one asset (0: unknown). events: whether the marks are events (see ``twin_engine.detect.alarm``), and ``kind`` of which
    kind.
    classes: the names that the ``class`` column (an index, -1 for none) points into.
    """

    columns: Mapping[str, tuple[str, tuple[int, ...]]]
    channels: tuple[str, ...] = ()
    lag: Fraction = Fraction(0)
    valid_after: Fraction = Fraction(0)
    null: str = ""
    trials_hz: float = 0.0
    events: bool = False
    kind: str = ""
    classes: tuple[str, ...] = ()


Spec: TypeAlias = BlockSpec | MarksSpec


@dataclass(frozen=True, slots=True)
class Block:
    """Samples of some assets over the same number of hops. Read-only by contract.

    values: float64 ``(row, channel, time)``. valid: bool, same shape. rows: int64 ``(row,)``, places in the fleet, ascending, without
    repeats.
    start: int64 ``(row,)``, the index of each row's first sample on the epoch's grid at the spec's rate, lag taken off.
    """

    values: Float
    valid: Bool
    rows: Int
    start: Int

    @property
    def n(self) -> int:
        """Samples in the block, for each row and channel."""
        return self.values.shape[2]


@dataclass(frozen=True, slots=True)
class Marks:
    """A ragged table. row: int64 ``(mark,)``, the place in the fleet. time: int64 ``(mark,)``, ns UTC. columns: arrays with the mark first.

    rows: int64 ``(row,)``, the rows that this step covered, ascending. live: int64 ``(row,)``, ns of event time in which the row was
    judged.
    until: int64 ``(row,)``, ns UTC: every mark of the row before it has been given. Marks are sorted by row, then time. judged: int64
    ``(row, hop)``,
    ``live`` of each hop of the step, for those that count live time hop by hop (None: it is spread evenly over the step).
    """

    row: Int
    time: Int
    columns: Columns
    rows: Int
    live: Int
    until: Int
    judged: Int | None = None

    def __len__(self) -> int:
        return len(self.row)


def empty_marks(spec: MarksSpec, rows: Int, live: Int, until: Int) -> Marks:
    """Return a table with no marks and the spec's columns."""
    columns = {name: np.zeros((0, *shape), dtype) for name, (dtype, shape) in spec.columns.items()}
    none = np.zeros(0, np.int64)
    return Marks(none, none, columns, rows, live, until)


Port: TypeAlias = Block | Marks


def relabel(spec: Spec, **changes: Any) -> Any:
    """Return the spec with some fields changed (``dataclasses.replace`` for either kind)."""
    return dataclasses.replace(spec, **changes)


@dataclass(frozen=True, slots=True)
class Frame:
    """Whole hops of all streams of a twin for some assets, cut on the epoch's grid.

    streams: one Block a stream, all with the same rows and hops. restart: bool ``(row,)``, the row begins anew (a gap longer than the
    twin's memory came before it). hops: how many. first: int64 ``(row,)``, index of the first hop.
    """

    streams: Mapping[str, Block]
    restart: Bool
    hops: int
    first: Int
    rows: Int = field(default_factory=lambda: np.zeros(0, np.int64))
