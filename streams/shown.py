"""The outputs of an update that a sink keeps."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twin_engine.clock import time_of
from twin_engine.ports import Block, BlockSpec, Marks, MarksSpec, Port
from twin_engine.records import Reading, Update


def _shown(update: Update, show: Sequence[str]) -> Mapping[str, Port]:
    """Return key -> port of the shown outputs, in the order of ``show``: ``"stage.port"``, a stage (its first port), or a stream."""
    ports: dict[str, Port] = {}
    for name in show:
        key = name if name in update.outputs else next((k for k in update.outputs if k.startswith(f"{name}.")), "")
        if key:
            ports[key] = update.outputs[key]
    return ports


def shown_blocks(update: Update, show: Sequence[str]) -> dict[str, Block]:
    """Return key -> block of the shown outputs that are samples, in the order of ``show``."""
    return {key: port for key, port in _shown(update, show).items() if isinstance(port, Block)}


def shown_marks(update: Update, show: Sequence[str]) -> dict[str, Marks]:
    """Return key -> marks of the shown outputs that are tables, in the order of ``show``: segments, triggers."""
    return {key: port for key, port in _shown(update, show).items() if isinstance(port, Marks)}


def shown_readings(update: Update, show: Sequence[str]) -> Iterator[tuple[str, Reading]]:
    """Yield each row of the shown blocks as a reading, with its key; what is not valid is NaN."""
    for key, block in shown_blocks(update, show).items():
        spec = update.specs[key]
        if isinstance(spec, BlockSpec):
            values = np.where(block.valid, block.values, np.nan)
            rows: list[int] = block.rows.tolist()
            for i, row in enumerate(rows):
                times = time_of(block.start[i] + np.arange(block.n, dtype=np.int64), spec.rate)
                yield key, Reading(update.assets[row], spec.channels, times, values[i], units=spec.units)


def shown_tables(update: Update, show: Sequence[str]) -> Iterator[tuple[str, str, MarksSpec, dict[str, NDArray[Any]]]]:
    """Yield the shown marks of each asset that has some: key, asset, spec, and columns, ``time`` first.

    ``time`` and those called ``start``, ``end`` and ``peak`` are ``datetime64[ns]``, UTC.
    """
    for key, marks in shown_marks(update, show).items():
        spec = update.specs[key]
        if not isinstance(spec, MarksSpec):
            continue
        rows: list[int] = np.unique(marks.row).tolist()
        for row in rows:
            mine = marks.row == row
            columns = {"time": marks.time[mine], **{name: np.asarray(column)[mine] for name, column in marks.columns.items()}}
            for name in columns.keys() & {"time", "start", "end", "peak"}:
                columns[name] = columns[name].astype("datetime64[ns]")
            yield key, update.assets[row], spec, columns
