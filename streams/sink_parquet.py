"""Events and shown outputs as Parquet segments, a folder for each twin, output and day: ``DIR/twin=T/output=O/day=2015-09-14/``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa

from streams.segments import Segments
from streams.shown import shown_blocks
from streams.uri import Uri
from twin_engine.clock import time_of
from twin_engine.ports import Block, BlockSpec
from twin_engine.records import Event, Position, Update

EVENTS = "events"
_DAY = 86_400 * 10**9
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
    """Open ``parquet:DIR``."""
    uri.only()
    return ParquetSink(uri, show)


class ParquetSink:
    """A segment for each folder at each flush; small ones are joined later.

    Outputs: columns ``time`` (UTC), ``asset``, and one for each channel, null where it is not valid. Events: the fields of an event, every
    revision. The position is the number of the next segment.
    """

    def __init__(self, uri: Uri, show: tuple[str, ...]) -> None:
        self._segments, self._show = Segments(uri.file, uri.text), show
        self._held: dict[str, list[pa.Table]] = {}

    def open(self, position: Position) -> None:
        """Delete the segments from the position on (None: all); raises SinkError."""
        self._held = {}
        self._segments.open(int(position or 0))

    def write(self, update: Update) -> None:
        """Hold the update's events and shown outputs until the next flush."""
        for event in update.events:
            self._hold(update.twin, EVENTS, event.start, _event_table([event]))
        for key, block in shown_blocks(update, self._show).items():
            spec = update.specs[key]
            if isinstance(spec, BlockSpec):
                for day, table in _tables(update, block, spec):
                    self._hold(update.twin, key, day * _DAY, table)

    def _hold(self, twin: str, output: str, time: int, table: pa.Table) -> None:
        day = np.datetime64(time // _DAY, "D")
        self._held.setdefault(f"twin={twin}/output={output}/day={day}", []).append(table)

    def flush(self) -> Position:
        """Write what is held, durably, and return the number of the next segment."""
        self._segments.write({folder: pa.concat_tables(tables) for folder, tables in self._held.items()})
        self._held = {}
        return self._segments.next

    def close(self) -> None:
        """Flush."""
        if self._held:
            self.flush()


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
