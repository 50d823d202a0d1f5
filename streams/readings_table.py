"""Readings as rows of a Parquet file and back, to the last bit: one row a reading, in the order in which they came.

Columns: ``seq`` (grows by reading; a segment's number is in its upper bits), ``asset``, ``arrival`` (ns UTC), ``channels``, ``units``
(empty when unstated), ``times`` (UTC), ``values`` (a list of samples for each channel).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from twin_engine.records import Reading

_SCHEMA = pa.schema(
    [
        ("seq", pa.int64()),
        ("asset", pa.string()),
        ("arrival", pa.int64()),
        ("channels", pa.list_(pa.string())),
        ("units", pa.list_(pa.string())),
        ("times", pa.list_(pa.timestamp("ns", "UTC"))),
        ("values", pa.list_(pa.list_(pa.float64()))),
    ]
)


def to_table(readings: Sequence[Reading], seq: Sequence[int]) -> pa.Table:
    """Return readings as a table."""
    samples = [len(reading.times) for reading in readings]
    channels = [len(reading.channels) for reading in readings]
    times = pa.array(np.concatenate([reading.times for reading in readings]).astype("datetime64[ns]"), pa.timestamp("ns", "UTC"))
    flat = pa.array(np.concatenate([np.ascontiguousarray(reading.values, np.float64).ravel() for reading in readings]))
    inner = pa.ListArray.from_arrays(_offsets(np.repeat(samples, channels)), flat)
    columns = [
        pa.array(list(seq), pa.int64()),
        pa.array([reading.asset for reading in readings], pa.string()),
        pa.array([reading.arrival for reading in readings], pa.int64()),
        pa.array([reading.channels for reading in readings], pa.list_(pa.string())),
        pa.array([reading.units for reading in readings], pa.list_(pa.string())),
        pa.ListArray.from_arrays(_offsets(samples), times),
        pa.ListArray.from_arrays(_offsets(channels), inner),
    ]
    return pa.Table.from_arrays(columns, schema=_SCHEMA)


def _offsets(lengths: Any) -> pa.Array:
    return pa.array(np.concatenate([[0], np.cumsum(lengths)]), pa.int32())


def from_batch(batch: pa.RecordBatch) -> Iterator[tuple[int, Reading]]:
    """Yield ``seq`` and reading of each row."""
    seq, arrival = (batch.column(name).to_numpy().tolist() for name in ("seq", "arrival"))
    assets, channels, units = (batch.column(name).to_pylist() for name in ("asset", "channels", "units"))
    times, values = batch.column("times"), batch.column("values")
    all_times = times.values.cast(pa.int64()).to_numpy()
    all_values, inner = values.values.values.to_numpy(), values.values.offsets.to_numpy()
    of_times, of_values = times.offsets.to_numpy(), values.offsets.to_numpy()
    for i in range(batch.num_rows):
        at = all_times[of_times[i] : of_times[i + 1]]
        begin = inner[of_values[i]]
        samples = all_values[begin : begin + len(channels[i]) * len(at)].reshape(len(channels[i]), len(at))
        yield seq[i], Reading(assets[i], tuple(channels[i]), at, samples, None, arrival[i], tuple(units[i]))
