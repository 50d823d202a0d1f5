"""Shown marks (veto segments, triggers) as Arrow tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyarrow as pa
from numpy.typing import NDArray


def to_table(columns: Mapping[str, NDArray[Any]], about: Mapping[str, str] | None = None) -> pa.Table:
    """Return the columns of ``shown_tables`` as a table, times as timestamps in UTC. about: metadata of its schema, but what is empty."""
    arrays: dict[str, pa.Array] = {}
    for name, column in columns.items():
        if column.ndim > 1:
            arrays[name] = pa.array(list(column), pa.list_(pa.from_numpy_dtype(column.dtype)))
        else:
            arrays[name] = pa.array(column, pa.timestamp("ns", "UTC") if column.dtype.kind == "M" else None)
    return pa.table(arrays, metadata={name: text for name, text in (about or {}).items() if text})
