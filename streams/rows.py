"""Rows of separated values into samples: the fast way for clean input, the row-by-row way for the rest, with equal results."""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pyarrow import csv as arrow_csv

from streams.chunks import LONGEST_LINE, lines
from streams.columns import Layout, split_assets
from streams.times import DIGITS, from_gps, from_text
from twin_engine.ports import Int
from twin_engine.records import Reading, Reason

MISSING = ("", "NA", "N/A", "#N/A", "NaN", "nan", "-nan", "null", "NULL", "None")


class Parsed(NamedTuple):
    """What a piece gave. bad: reason, detail and raw bytes of each bad row, in order."""

    readings: list[Reading]
    bad: list[tuple[Reason, str, bytes]]


@dataclass(frozen=True, slots=True)
class Rows:
    """How rows are to be read.

    unit: of the time (``""``: ISO, or seconds when it is a number). default: the asset where no column says it.
    """

    layout: Layout
    width: int
    separator: str
    unit: str
    default: str

    @staticmethod
    def number(cell: str) -> float | None:
        """Return a cell as a number (NaN when missing), or None when it is not one."""
        cell = cell.strip()
        if cell in MISSING:
            return math.nan
        try:
            return None if "_" in cell else float(cell)
        except ValueError:
            return None


def cells(line: str, separator: str) -> list[str]:
    """Return the cells of one line; raises ``csv.Error``."""
    return next(csv.reader([line], delimiter=separator, strict=True), [])


def fast(rows: Rows, data: bytes) -> Parsed | None:
    """Return the samples of a piece, or None where anything in it is out of the ordinary."""
    layout = rows.layout
    if len(data) > LONGEST_LINE or b'"' in data or data.count(b"\r") != data.count(b"\r\n"):
        return None
    try:
        data.decode()
        time_type = _time_type(rows, data)
        table = _read(rows, data, time_type)
        times = _times(table.column(str(layout.time)).combine_chunks(), rows.unit)
    except (pa.ArrowInvalid, UnicodeDecodeError, ValueError):
        return None
    assets: NDArray[np.str_] | None = None
    if layout.asset >= 0:
        names = table.column(str(layout.asset)).combine_chunks().dictionary_encode()
        words = np.array(names.dictionary.to_pylist(), str)
        if "" in words:
            return None
        assets = words[names.indices.to_numpy()]
    values = np.stack([table.column(str(i)).to_numpy() for i in layout.values])
    return Parsed(split_assets(assets, rows.default, layout.channels, times, values), [])


def _time_type(rows: Rows, data: bytes) -> pa.DataType:
    """Return how Arrow is to read the time column, as the first row says; raises ValueError when there is none."""
    line = data.lstrip(b"\r\n").partition(b"\n")[0].decode()
    cell = line.split(rows.separator)[rows.layout.time : rows.layout.time + 1]
    if not cell:
        raise ValueError("no time")
    if rows.unit not in {"", "iso"}:
        return pa.decimal128(28, DIGITS[rows.unit])
    if not rows.unit and cell[0].replace(".", "").removeprefix("-").isdigit():
        return pa.decimal128(28, DIGITS["s"])
    zoned = cell[0].strip()[10:].rstrip("0123456789:")[-1:] in {"Z", "+", "-"}
    return pa.timestamp("ns", "UTC" if zoned else None)


def _read(rows: Rows, data: bytes, time_type: pa.DataType) -> pa.Table:
    """Return the chosen columns, named by their index; raises ArrowInvalid."""
    layout = rows.layout
    types: dict[str, Any] = {str(i): pa.float64() for i in layout.values} | {str(layout.time): time_type}
    if layout.asset >= 0:
        types[str(layout.asset)] = pa.string()
    return arrow_csv.read_csv(
        pa.BufferReader(data),
        read_options=arrow_csv.ReadOptions(column_names=[str(i) for i in range(rows.width)], use_threads=False, block_size=len(data) + 1),
        parse_options=arrow_csv.ParseOptions(delimiter=rows.separator, quote_char=False),
        convert_options=arrow_csv.ConvertOptions(
            column_types=types, include_columns=list(types), null_values=list(MISSING), timestamp_parsers=[arrow_csv.ISO8601]
        ),
    )


def _times(column: Any, unit: str) -> Int:
    """Return ns UTC of a column of timestamps or decimals; raises ValueError where one is missing or too large."""
    if column.null_count:
        raise ValueError("a time is missing")
    if pa.types.is_timestamp(column.type):
        return pc.cast(column, pa.int64()).to_numpy()
    halves = np.frombuffer(column.buffers()[1], np.int64).reshape(-1, 2)[column.offset : column.offset + len(column)]
    if (halves[:, 1] != halves[:, 0] >> 63).any():
        raise ValueError("a time is out of range")
    return from_gps(halves[:, 0]) if unit == "gps" else halves[:, 0].copy()


def slow(rows: Rows, data: bytes) -> Parsed:
    """Return the samples of a piece and its bad rows, one row at a time."""
    times: list[int] = []
    values: list[list[float]] = []
    assets: list[str] = []
    bad: list[tuple[Reason, str, bytes]] = []
    for raw in lines(data):
        try:
            time, numbers, asset = _row(rows, raw)
        except _BadRowError as error:
            bad.append((error.reason, str(error), raw))
            continue
        times.append(time)
        values.append(numbers)
        assets.append(asset)
    table = np.array(values, np.float64).reshape(len(values), len(rows.layout.values)).T
    named = assets if rows.layout.asset >= 0 else None
    return Parsed(split_assets(named, rows.default, rows.layout.channels, np.array(times, np.int64), table), bad)


class _BadRowError(ValueError):
    """A row that is not what the header says."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


def _row(rows: Rows, raw: bytes) -> tuple[int, list[float], str]:
    """Return time, values and asset of one row; raises _BadRowError."""
    if len(raw) > LONGEST_LINE:
        raise _BadRowError(Reason.TOO_LARGE, f"a line of {len(raw)} bytes")
    try:
        row = cells(raw.decode(), rows.separator)
    except UnicodeDecodeError as error:
        raise _BadRowError(Reason.NOT_UTF8, str(error)) from None
    except csv.Error as error:
        raise _BadRowError(Reason.MALFORMED, str(error)) from None
    if len(row) != rows.width:
        raise _BadRowError(Reason.MALFORMED, f"expected {rows.width} columns, found {len(row)}")
    layout = rows.layout
    try:
        time = from_text(row[layout.time], rows.unit)
    except ValueError as error:
        raise _BadRowError(Reason.MALFORMED, f"time: {error}") from None
    numbers: list[float] = []
    for i, channel in zip(layout.values, layout.channels, strict=True):
        number = rows.number(row[i])
        if number is None:
            raise _BadRowError(Reason.MALFORMED, f"{channel}: {row[i]!r} is not a number")
        numbers.append(number)
    asset = row[layout.asset] if layout.asset >= 0 else rows.default
    if not asset:
        raise _BadRowError(Reason.MALFORMED, "no asset")
    return time, numbers, asset
