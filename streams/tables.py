"""Whole tables on disk: CSV (also gzipped) and Parquet in, the same kind out with scores beside, rows and columns kept as they were."""

from __future__ import annotations

import csv
import gzip
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.csv as arrow_csv
import pyarrow.parquet as pq
from pyarrow import compute

from streams.rows import MISSING
from streams.times import DIGITS, from_gps, from_text
from streams.uri import nearest
from twin_engine.errors import InputError, SinkError
from twin_engine.ports import Float, Int

pc: Any = compute  # its functions are made at run time, so nothing knows their types
SUFFIXES = (".csv", ".csv.gz", ".parquet")
ADDED = ("score", "p_value", "alarm")
NO_TIME = int(np.iinfo(np.int64).min)
LARGEST = 9.2e18  # ns, of a time on either side of 1970


@dataclass(frozen=True, slots=True)
class Series:
    """A table read. table: all columns, text as it was.

    times: int64 ``(row,)``, ns UTC, the smallest int64 where missing or not to be read. values: float64 ``(row, column)``, NaN where
    missing. unreadable: values that are neither a number nor missing.
    """

    table: Any
    separator: str
    times: Int
    values: Float
    unreadable: int


def is_table(path: Path) -> bool:
    """Tell whether a file's name says that it can be read."""
    return path.name.lower().endswith(SUFFIXES)


def read(path: Path, time: str, values: Sequence[str], unit: str) -> Series:
    """Read a table; raises InputError naming what is wrong with the file, the nearest column, or the unit when no time can be read.

    unit: of a time column that holds numbers. A value that is no number counts as missing and is counted in ``unreadable``.
    """
    if unit not in DIGITS:
        raise InputError("--unit", expected=", ".join(DIGITS), found=repr(unit))
    if not is_table(path) or not path.is_file():
        raise InputError(
            str(path),
            expected=f"a file ending in {', '.join(SUFFIXES)}",
            found="a file of another kind" if path.exists() else "nothing there",
        )
    try:
        table, separator = (pq.read_table(path), ",") if path.suffix.lower() == ".parquet" else _read_csv(path)
    except (OSError, EOFError, zlib.error, pa.ArrowException) as error:
        found = str(error).splitlines()[0]
        raise InputError(str(path), expected="a whole file of the kind its name says", found=found, mend="Get the file anew.") from None
    for name in (time, *values):
        if name not in table.column_names:
            raise InputError(
                f"columns of {path}", expected=f"a column {name!r}", found=", ".join(table.column_names[:20]),
                mend=nearest(name, table.column_names),
            )  # fmt: skip
    clash = [name for name in ADDED if name in table.column_names]
    if clash:
        raise InputError(f"columns of {path}", expected="none called score, p_value or alarm", found=clash[0], mend="Rename or drop it.")
    column = table.column(time).combine_chunks()
    times = _times(column, unit)
    if len(times) and (times == NO_TIME).all():
        mend = "Say the unit of numbers with --unit (s, ms, us, ns, gps), or write 2015-09-14 09:50:45."
        found = f"{str(column[0])!r} and no other that is one with --unit {unit}"
        raise InputError(f"column {time!r} of {path}", expected="times of this era", found=found, mend=mend)
    columns = [_numbers(table.column(name).combine_chunks()) for name in values]
    unreadable = sum(bad for _, bad in columns)
    return Series(table, separator, times, np.stack([c for c, _ in columns], axis=1), unreadable)


def _read_csv(path: Path) -> tuple[Any, str]:
    """Return all columns as text, and the separator: the first of comma, semicolon and tab that the header has."""
    with gzip.open(path, "rt", encoding="utf-8-sig") if path.suffix == ".gz" else path.open(encoding="utf-8-sig") as file:
        try:
            header = file.readline().rstrip("\r\n")
        except (UnicodeDecodeError, OSError) as error:
            raise InputError(str(path), expected="text in UTF-8", found=str(error), mend="Convert the file to UTF-8.") from None
    separator = next((s for s in (",", ";", "\t") if s in header), ",")
    names = next(csv.reader([header], delimiter=separator), [])
    if not names or len(set(names)) < len(names):
        raise InputError(
            str(path), expected="a header with a name for each column", found=repr(header[:80]), mend="Give the file a header."
        )
    try:
        table = arrow_csv.read_csv(
            path,
            read_options=arrow_csv.ReadOptions(column_names=names, skip_rows=1, use_threads=False),
            parse_options=arrow_csv.ParseOptions(delimiter=separator, newlines_in_values=True),
            convert_options=arrow_csv.ConvertOptions(column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=False),
        )
    except pa.ArrowInvalid as error:
        raise InputError(
            str(path), expected=f"{len(names)} columns in each row", found=str(error), mend="Mend or remove that row."
        ) from None
    return table, separator


def _times(column: Any, unit: str) -> Int:
    """Return ns UTC of a column of timestamps, numbers or text, NO_TIME where there is none that an int64 can hold."""
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        return _from_text(column, unit)
    if pa.types.is_date(column.type):
        column = pc.cast(column, pa.timestamp("s"))
    if pa.types.is_timestamp(column.type):
        unit = {"s": "s", "ms": "ms", "us": "us", "ns": "ns"}[column.type.unit]
        column = pc.cast(column, pa.int64())
    if not (pa.types.is_integer(column.type) or pa.types.is_floating(column.type)):
        return np.full(len(column), NO_TIME)
    scale = 10 ** DIGITS[unit]
    known = np.asarray(pc.invert(pc.is_null(column, nan_is_null=True)).to_numpy(zero_copy_only=False), bool)
    whole: Any = np.where(known, pc.fill_null(column, 0).to_numpy(zero_copy_only=False), 0)
    known &= np.abs(whole.astype(np.float64)) < LARGEST / scale
    whole = np.where(known, whole, 0)
    part = np.zeros(len(whole), np.int64)
    if whole.dtype.kind == "f":
        part, whole = np.rint(whole % 1.0 * scale).astype(np.int64), np.floor(whole)
    times = np.where(known, whole.astype(np.int64) * scale + part, 0)
    return np.where(known, from_gps(times) if unit == "gps" else times, NO_TIME)


def _from_text(column: Any, unit: str) -> Int:
    for kind in (pa.timestamp("ns"), pa.timestamp("ns", "UTC")):
        try:
            return cast("Int", pc.cast(column, kind).cast(pa.int64()).to_numpy())
        except pa.ArrowInvalid:
            continue
    found = np.full(len(column), NO_TIME)
    for row, text in enumerate(column.to_pylist()):
        try:
            found[row] = from_text(text or "", "" if unit == "s" else unit)
        except ValueError:
            continue
    return found


def _numbers(column: Any) -> tuple[Float, int]:
    """Return float64 with NaN where nothing or no number is, and how many were no numbers."""
    if not pa.types.is_string(column.type):
        return np.asarray(pc.cast(column, pa.float64(), safe=False).to_numpy(zero_copy_only=False), np.float64), 0
    text = pc.utf8_trim_whitespace(column)
    text = pc.if_else(pc.is_in(text, pa.array(MISSING)), pa.scalar(None, pa.string()), text)
    try:
        return pc.cast(text, pa.float64()).to_numpy(zero_copy_only=False), 0
    except pa.ArrowInvalid:
        pass
    found = np.full(len(column), np.nan)
    bad = 0
    for row, word in enumerate(text.to_pylist()):
        try:
            found[row] = np.nan if word is None else float(word)
        except ValueError:
            bad += 1
    return found, bad


def write(path: Path, series: Series, score: Float, p_value: Float, alarm: Any) -> None:
    """Write the table with its three new columns beside its place and move it there; raises SinkError."""
    marks = alarm if path.suffix == ".parquet" else alarm.astype(np.int8)
    table = series.table
    for name, column in zip(ADDED, (score, p_value, marks), strict=True):
        table = table.append_column(name, pa.array(column))
    beside = path.with_name(f".{path.name}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".parquet":
            pq.write_table(table, beside)
        else:
            _write_csv(beside, table, series.separator, zipped=path.suffix == ".gz")
        beside.replace(path)
    except OSError as error:
        raise SinkError(str(path), expected="a file that can be written", found=str(error), mend="Choose another place.") from None


def _write_csv(path: Path, table: Any, separator: str, *, zipped: bool) -> None:
    with gzip.open(path, "wt", encoding="utf-8") if zipped else path.open("w", encoding="utf-8") as file:
        writer = csv.writer(file, delimiter=separator, lineterminator="\n")
        writer.writerow(table.column_names)
        for batch in table.to_batches(max_chunksize=1 << 16):
            writer.writerows(zip(*(column.to_pylist() for column in batch.columns), strict=True))
