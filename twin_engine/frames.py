"""A table in, the same table with scores out, in two lines: pandas, Polars, pyarrow or a dict of arrays."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import pyarrow as arrow  # noqa: ICN001 # pyright: ignore[reportMissingTypeStubs]

from twin_engine.clock import parse_iso
from twin_engine.detect.detector import Detector, Scores
from twin_engine.detect.events import event_id
from twin_engine.detect.row_times import NO_TIME
from twin_engine.errors import InputError
from twin_engine.ports import Float, Int
from twin_engine.records import Event

pa: Any = arrow  # it has no types

__all__ = ["Detection", "Detector", "Scores", "detect"]

ADDED = ("score", "p_value", "alarm")
LARGEST = 9.2e18  # ns, of a time on either side of 1970
UNITS = {"s": 1_000_000_000, "ms": 1_000_000, "us": 1000, "ns": 1}


@dataclass(frozen=True, slots=True)
class Detection:
    """What ``detect`` found; ``frame, events = detect(...)`` takes it apart.

    frame: the table given, of the same kind, with ``score``, ``p_value`` and ``alarm``. events: one for each alarm, in order. scores: the
    same judgements as arrays, with more. counts: rows by what was wrong with them, see ``Detector``.
    """

    frame: Any
    events: list[Event]
    scores: Scores
    counts: Mapping[str, int]

    def __iter__(self) -> Iterator[Any]:
        """Yield frame and events."""
        return iter((self.frame, self.events))


def detect(
    frame: Any, time: str = "timestamp", value: str | Sequence[str] = "value", detector: str = "auto", *, unit: str = "s", asset: str = ""
) -> Detection:
    """Judge each row of a table by the rows before it.

    frame: a pandas or Polars DataFrame, a pyarrow Table, or a mapping of arrays. time: its column of times: timestamps, ISO 8601 text, or
    numbers in ``unit`` (``s``, ``ms``, ``us`` or ``ns`` since 1970); where no column of a pandas frame is called so, its DatetimeIndex.
    value: one column or more, judged together by ``Detector``. A row without a value, or with a time that is missing, cannot be read, is
    late or leaps, is counted, gets score 0, p-value 1 and no alarm, and changes nothing later.
    Raises InputError, also when no time at all can be read.
    """
    names: list[str] = [value] if isinstance(value, str) else list(value)
    columns = _column_names(frame)
    index = _time_index(frame) if time not in columns else None
    for name in (*([time] if index is None else []), *names):
        if name not in columns:
            raise InputError("table", expected=f"a column {name!r}", found=", ".join(columns), mend="Name the columns of time and values.")
    if clash := [name for name in ADDED if name in columns]:
        raise InputError("table", expected="no column called score, p_value or alarm", found=clash[0], mend="Rename or drop it.")
    if unit not in UNITS:
        raise InputError("unit", expected=", ".join(UNITS), found=repr(unit))
    times = _times(_arrow(frame[time] if index is None else index), UNITS[unit])
    if len(times) and (times == NO_TIME).all():
        found = f"{(frame[time] if index is None else index)[:1]!r} in unit={unit!r}"
        mend = "Say the unit of numbers with unit='ms', 'us' or 'ns', or write 2015-09-14 09:50:45."
        raise InputError(f"column {time!r}", expected="times of this era", found=found, mend=mend)
    values = np.stack([_numbers(_arrow(frame[name])) for name in names], axis=1)
    judge = Detector(detector, len(names))
    scores = judge.update(times, values)
    added = {"score": scores.score, "p_value": scores.p_value, "alarm": scores.alarm}
    return Detection(_with_columns(frame, added), events_of(scores, times, names, detector, asset), scores, dict(judge.counts))


def events_of(scores: Scores, times: Int, names: Sequence[str], detector: str, asset: str = "") -> list[Event]:
    """Return an event for each run of judged rows with the alarm on, its peak at the least p-value. times: int64 ``(row,)``, ns UTC."""
    judged = np.flatnonzero(~scores.masked)  # a masked row does not cut an event
    scores, times = scores.take(judged), times[judged]
    edges = np.flatnonzero(np.diff(np.concatenate([[False], scores.alarm, [False]]).astype(np.int8)))
    found: list[Event] = []
    for ordinal, (begin, end) in enumerate(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True)):
        peak = begin + int(np.argmin(scores.p_value[begin:end]))
        order = np.argsort(-scores.weight[peak], kind="stable").tolist()
        onset = int(times[begin])
        found.append(
            Event(
                id=event_id("detect", detector, asset, detector, "anomaly", onset, ordinal),
                twin="detect", asset=asset, stage=detector, kind="anomaly", severity="warning",
                start=onset, peak=int(times[peak]), end=int(times[end - 1]), score=float(scores.score[begin:end].max()),
                p_value=float(scores.p_value[peak]),
                channels={str(names[k]): float(scores.weight[peak, k]) for k in order if scores.weight[peak, k] > 0.0},
            )
        )  # fmt: skip
    return found


def _column_names(frame: Any) -> list[str]:
    if isinstance(frame, Mapping):
        return [str(name) for name in cast("Mapping[Any, Any]", frame)]
    return [str(name) for name in (frame.column_names if isinstance(frame, pa.Table) else frame.columns)]


def _time_index(frame: Any) -> Any:
    """Return the index of a pandas frame if it is one of times."""
    index: Any = getattr(frame, "index", None)
    return index if getattr(getattr(index, "dtype", None), "kind", "") == "M" else None


def _arrow(column: Any) -> Any:
    """Return any column as one pyarrow array."""
    if hasattr(column, "to_arrow"):  # Polars
        column = column.to_arrow()
    if isinstance(column, pa.ChunkedArray):
        return column.combine_chunks()
    if isinstance(column, pa.Array):
        return column
    if isinstance(column, np.ndarray) and cast("Any", column).dtype.kind == "M":
        column = cast("Any", column).astype("datetime64[ns]")  # pyarrow knows no minutes, hours or days
    try:
        return pa.array(column, from_pandas=True)
    except (pa.ArrowInvalid, pa.ArrowTypeError):  # objects of several kinds
        return pa.array([None if x is None else str(x) for x in column])


def _times(column: Any, scale: int) -> Int:
    """Return ns UTC, NO_TIME where there is none that an int64 can hold."""
    if pa.types.is_timestamp(column.type):
        column, scale = column.cast(pa.timestamp("ns", column.type.tz), safe=False).cast(pa.int64()), 1
    elif pa.types.is_date(column.type):
        column, scale = column.cast(pa.timestamp("ns")).cast(pa.int64()), 1
    elif not (pa.types.is_integer(column.type) or pa.types.is_floating(column.type)):
        column, scale = pa.array([_moment(x) for x in column.to_pylist()], pa.int64()), 1
    known = ~np.asarray(column.is_null(nan_is_null=True).to_numpy(zero_copy_only=False), bool)
    whole: Any = np.where(known, column.fill_null(0).to_numpy(zero_copy_only=False), 0)
    known &= np.abs(whole.astype(np.float64)) < LARGEST / scale
    whole = np.where(known, whole, 0)
    part = np.zeros(len(whole), np.int64)
    if whole.dtype.kind == "f":
        part, whole = np.rint(whole % 1.0 * scale).astype(np.int64), np.floor(whole)
    return np.where(known, whole.astype(np.int64) * scale + part, NO_TIME)


def _moment(text: object) -> int | None:
    try:
        return None if text is None else parse_iso(str(text))
    except InputError:
        return None


def _numbers(column: Any) -> Float:
    """Return float64, NaN where there is no number."""
    if pa.types.is_integer(column.type) or pa.types.is_floating(column.type) or pa.types.is_boolean(column.type):
        return np.asarray(column.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False), np.float64)
    return np.array([_number(x) for x in column.to_pylist()], np.float64)


def _number(text: object) -> float:
    try:
        return float(cast("Any", text))
    except (TypeError, ValueError):
        return float("nan")


def _with_columns(frame: Any, added: Mapping[str, Any]) -> Any:
    """Return the table, of the same kind, with columns added."""
    if isinstance(frame, Mapping):
        return {**cast("Mapping[str, Any]", frame), **added}
    if isinstance(frame, pa.Table):
        for name, column in added.items():
            frame = frame.append_column(name, pa.array(column, from_pandas=True))
        return frame
    if hasattr(frame, "assign"):  # pandas
        return frame.assign(**added)
    series: Any = sys.modules["polars"].Series
    return frame.with_columns([series(name, column, nan_to_null=True) for name, column in added.items()])
