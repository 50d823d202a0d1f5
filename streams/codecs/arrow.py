"""Arrow IPC streams: frames of many samples, a column of times and one for each channel.

The schema's metadata has ``asset`` (else the subject names it), a channel's field has ``unit``. Times are timestamps, or numbers in the
codec's unit (ns). A null or NaN is a missing sample.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from streams.codecs.arrow_stream import batches, checked, is_number, keep, schema_of, to_floats
from streams.codecs.base import Faults, RefusedError, named, pieces, utf8
from streams.codecs.pattern import Pattern, Topics
from streams.codecs.when import Times
from streams.uri import Uri
from twin_engine.ports import Float, Int
from twin_engine.records import Reading, Reason, Record, Reject


class _Layout(NamedTuple):
    """What a schema says.

    time: the column; columns: of the channels; left: columns that are no numbers; uniform: all channels are doubles.
    """

    asset: str
    time: int
    columns: tuple[int, ...]
    channels: tuple[str, ...]
    units: tuple[str, ...]
    left: tuple[str, ...]
    uniform: bool


def _together(batch: pa.RecordBatch, layout: _Layout) -> Float | None:
    """Return the channels of a batch of doubles as ``(channel, sample)`` at one go, or None where a column is not whole."""
    try:
        batch.validate()
        return batch.select(layout.columns).to_tensor(null_to_nan=True, row_major=False).to_numpy().T
    except (pa.ArrowException, ValueError):
        return None


def _each(batch: pa.RecordBatch, layout: _Layout, faults: Faults) -> tuple[Float, tuple[str, ...], tuple[str, ...]]:
    """Return the channels of a batch that are whole, with their names and units; the others are faults."""
    values = np.empty((len(layout.columns), batch.num_rows))
    good: list[int] = []
    for i, column in enumerate(layout.columns):
        try:
            values[i] = to_floats(checked(batch.column(column)))
            good.append(i)
        except RefusedError as error:
            faults.add(error.reason, f"{layout.channels[i][:80]}: {error}")
    units = tuple(layout.units[i] for i in good) if layout.units else ()
    return values[good], tuple(layout.channels[i] for i in good), units


class Arrow:
    """The format. Options: unit (of times that are numbers, ns) and time (the name of their column)."""

    def __init__(self, pattern: Pattern, options: Uri, asset: str) -> None:
        self._topics = Topics(pattern, asset)
        unit = options.options.get("unit", "ns")
        self._times = Times(unit, options.text)
        self._stamps = {kind: Times(kind, options.text) for kind in ("s", "ms", "us", "ns")}
        self._time = options.options.get("time", "time")
        self._layouts: dict[bytes, _Layout] = {}

    @np.errstate(invalid="ignore")  # signalling NaNs, which are samples that are missing
    def read(self, raw: bytes, record: Record) -> Sequence[Reading | Reject]:
        """See the module."""
        head, schema = schema_of(raw)
        layout = self._layouts.get(head) or self._layout(head, schema)
        asset, _ = self._topics.known.get(record.subject) or self._topics.find(record.subject)
        asset = asset or named(layout.asset, "asset")
        faults = Faults()
        found: list[Reading | Reject] = []
        for batch in batches(raw, head, schema):
            times = self._when(checked(batch.column(layout.time)))
            if len(times) and layout.channels:
                values = _together(batch, layout) if layout.uniform else None
                channels, units = layout.channels, layout.units
                if values is None:
                    values, channels, units = _each(batch, layout, faults)
                if channels:
                    found.append(Reading(asset, channels, times, values, record.position, record.arrival, units))
        for name in layout.left:
            faults.add(Reason.MALFORMED, f"{name[:80]}: not a column of numbers")
        return [*found, *faults.rejects(record)]

    def _layout(self, head: bytes, schema: pa.Schema) -> _Layout:
        """Return what a schema says; raises RefusedError."""
        names = schema.names
        units = tuple(utf8((field.metadata or {}).get(b"unit", b"")) for field in schema)
        if names.count(self._time) != 1 or len(set(names)) < len(names):
            raise RefusedError(Reason.MALFORMED, f"no column {self._time!r}, or two columns of one name")
        time = names.index(self._time)
        kind = schema.field(time).type
        if not (pa.types.is_timestamp(kind) or pa.types.is_integer(kind) or pa.types.is_floating(kind)):
            raise RefusedError(Reason.MALFORMED, f"times as {kind}")
        rest = [i for i in range(len(names)) if i != time]
        columns = tuple(i for i in rest if names[i] and is_number(schema.field(i).type))
        said = tuple(units[i] for i in columns)
        left = tuple(names[i] for i in rest if i not in columns)
        channels = tuple(named(names[i], "channel") for i in columns)
        uniform = bool(columns) and all(pa.types.is_float64(schema.field(i).type) for i in columns)
        layout = _Layout(
            utf8((schema.metadata or {}).get(b"asset", b"")), time, columns, channels, said if any(said) else (), left, uniform
        )
        keep(self._layouts, head, layout)
        return layout

    def _when(self, column: pa.Array) -> Int:
        """Return times in ns UTC; raises RefusedError."""
        times = self._times
        if pa.types.is_timestamp(column.type):
            times, column = self._stamps[column.type.unit], column.view(pa.int64())
        if column.null_count:
            raise RefusedError(Reason.MALFORMED, "a time that is null")
        try:
            return times.array(column.to_numpy())
        except ValueError as error:
            raise RefusedError(Reason.MALFORMED, str(error)) from None

    def write(self, reading: Reading) -> Sequence[tuple[str, bytes]]:
        """Return frames, each a whole stream, times as timestamps in ns."""
        units = reading.units or ("",) * len(reading.channels)
        fields = [pa.field(self._time, pa.timestamp("ns", "UTC"))]
        for name, unit in zip(reading.channels, units, strict=True):
            fields.append(pa.field(name, pa.float64(), metadata={"unit": unit} if unit else None))
        schema = pa.schema(fields, metadata={"asset": reading.asset})
        pattern = self._topics.pattern
        subject = pattern.format(asset=reading.asset)
        messages: list[tuple[str, bytes]] = []
        for part in pieces(reading, 8):
            stamps = pa.array(part.times).view(fields[0].type)
            columns = [stamps, *(pa.array(row) for row in np.ascontiguousarray(part.values))]
            sink = pa.BufferOutputStream()
            with pa.ipc.new_stream(sink, schema) as writer:
                writer.write_batch(pa.RecordBatch.from_arrays(columns, schema=schema))
            messages.append((subject, sink.getvalue().to_pybytes()))
        return messages
