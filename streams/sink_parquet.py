"""Events, shown outputs and input as Parquet segments, a folder for each twin, output and day: ``DIR/twin=T/output=O/day=2015-09-14/``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa

from streams.marks_table import to_table as marks_table
from streams.readings_table import to_table
from streams.segments import Segments
from streams.shown import shown_blocks, shown_tables
from streams.uri import Uri
from twin_engine.clock import time_of
from twin_engine.ports import Block, BlockSpec
from twin_engine.records import Event, Position, Reading, Update

EVENTS, INPUT = "events", "input"
_DAY = 86_400 * 10**9
_SEGMENT_BITS = 32  # of a reading's number, for its place in the flush
_TIME = pa.timestamp("ns", "UTC")
_EVENT_SCHEMA = pa.schema(
    [
        *((name, pa.string()) for name in ("id", "twin", "asset", "stage", "kind", "severity")),
        *((name, _TIME) for name in ("start", "peak", "end")),
        ("score", pa.float64()),
        ("p_value", pa.float64()),
        ("channels", pa.map_(pa.string(), pa.float64())),
        ("revision", pa.int64()),
        ("final", pa.bool_()),
        *((name, pa.float64()) for name in ("frequency", "bandwidth", "snr")),
        ("class", pa.string()),
    ]
)


def open_parquet(uri: Uri, show: tuple[str, ...]) -> ParquetSink:
    """Open ``parquet:DIR?input=no``.

    input: ``yes`` keeps the readings too, as they came, from which ``history:DIR`` plays the run again.
    """
    uri.only("input")
    return ParquetSink(uri, show, keeps_input=uri.choice("input", ("no", "yes"), "no") == "yes")


class ParquetSink:
    """A segment for each folder at each flush; small ones are joined later.

    keeps_input: whether it wants the readings (columns as in ``readings_table``). Outputs: columns ``time`` (UTC), ``asset``, and one for
    each channel, null where it is not valid; of marks ``time``, ``asset`` and their own. Events: the fields of an event, every revision.
    The position is the next segment.
    """

    def __init__(self, uri: Uri, show: tuple[str, ...], *, keeps_input: bool) -> None:
        self._segments, self._show, self.keeps_input = Segments(uri.file, uri.text), show, keeps_input
        self._held: dict[str, list[pa.Table]] = {}
        self._readings: list[tuple[str, Reading]] = []  # each with its twin

    def open(self, position: Position) -> None:
        """Delete the segments from the position on (None: all); raises SinkError."""
        self._held, self._readings = {}, []
        self._segments.open(int(position or 0))

    def take(self, twin: str, reading: Reading) -> None:
        """Hold a reading that goes to a twin until the next flush."""
        if len(reading.times):
            self._readings.append((twin, reading))

    def write(self, update: Update) -> None:
        """Hold the update's events and shown outputs until the next flush."""
        for event in update.events:
            self._hold(update.twin, EVENTS, event.start, _event_table([event]))
        for key, block in shown_blocks(update, self._show).items():
            spec = update.specs[key]
            if isinstance(spec, BlockSpec):
                for day, table in _tables(update, block, spec):
                    self._hold(update.twin, key, day * _DAY, table)
        for key, asset, _, columns in shown_tables(update, self._show):
            days = columns["time"].astype("datetime64[D]").astype(np.int64)
            for day in np.unique(days).tolist():
                table = marks_table({name: column[days == day] for name, column in columns.items()})
                self._hold(update.twin, key, day * _DAY, table.add_column(1, "asset", pa.array([asset] * len(table), pa.string())))

    def _hold(self, twin: str, output: str, time: int, table: pa.Table) -> None:
        self._held.setdefault(_folder(twin, output, time), []).append(table)

    def flush(self) -> Position:
        """Write what is held, durably, and return the number of the next segment."""
        tables = {folder: pa.concat_tables(tables) for folder, tables in self._held.items()}
        self._segments.write({**self._input(), **tables})
        self._held, self._readings = {}, []
        return self._segments.next

    def _input(self) -> dict[str, pa.Table]:
        """Return the readings that are held, by folder: the day of each one's last sample."""
        folders: dict[str, list[int]] = {}
        for i, (twin, reading) in enumerate(self._readings):
            folders.setdefault(_folder(twin, INPUT, int(reading.times[-1])), []).append(i)
        base = self._segments.next << _SEGMENT_BITS
        return {f: to_table([self._readings[i][1] for i in mine], [base + i for i in mine]) for f, mine in folders.items()}

    def close(self) -> None:
        """Flush."""
        if self._held or self._readings:
            self.flush()


def _folder(twin: str, output: str, time: int) -> str:
    """Return where what an output says of a time is kept."""
    return f"twin={twin}/output={output}/day={np.datetime64(time // _DAY, 'D')}"


def _tables(update: Update, block: Block, spec: BlockSpec) -> Iterator[tuple[int, pa.Table]]:
    """Yield day number and table for each row and day of a block."""
    for i, row in enumerate(block.rows):
        times = time_of(block.start[i] + np.arange(block.n, dtype=np.int64), spec.rate)
        days = times // _DAY
        for day in np.unique(days):
            mine = days == day
            n = int(mine.sum())
            asset = pa.array(np.full(n, update.assets[int(row)], object), pa.string())
            columns: dict[str, Any] = {"time": pa.array(times[mine], _TIME), "asset": asset}
            for j, channel in enumerate(spec.channels):
                columns[channel] = pa.array(block.values[i, j, mine], mask=~block.valid[i, j, mine])
            yield int(day), pa.table(columns)


def _event_table(events: list[Event]) -> pa.Table:
    """Return events as a table."""
    rows = [msgspec.to_builtins(event) for event in events]
    for row in rows:
        row["channels"] = list(row["channels"].items())
    return pa.Table.from_pylist(rows, schema=_EVENT_SCHEMA)
