"""Parquet files as a source: read one batch of rows at a time, resumable at any item."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from msgspec.structs import replace

from streams.columns import OPTIONS, Layout, split_assets
from streams.context import Context
from streams.times import check_unit, from_numbers
from streams.uri import Uri
from twin_engine.errors import InputError
from twin_engine.ports import Float, Int
from twin_engine.records import Item, Position

_BATCH = 16_384


def open_parquet(uri: Uri, context: Context) -> ParquetSource:
    """Open ``parquet:FILE?time=COLUMN&unit=UNIT&value=COLUMN,COLUMN:CHANNEL&asset=COLUMN``.

    The time column holds timestamps, or numbers in ``unit`` (s when not given). For time, value and asset see ``Layout.choose``.
    """
    uri.only(*OPTIONS)
    path = uri.existing()
    try:
        schema = pq.read_schema(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise InputError(uri.text, expected="a Parquet file", found=str(error), mend="Check its kind.") from None
    numeric = [i for i, field in enumerate(schema) if pa.types.is_floating(field.type) or pa.types.is_integer(field.type)]
    layout = Layout.choose(uri, context, schema.names, numeric)
    time = schema.field(layout.time).type
    if not (pa.types.is_timestamp(time) or layout.time in numeric):
        raise InputError(uri.text, expected="timestamps or numbers as the time", found=str(time), mend="Choose another column with ?time=.")
    for i in layout.values:
        if i not in numeric:
            raise InputError(
                f"column {schema.names[i]!r} of {uri.text}", expected="numbers", found=str(schema.field(i).type), mend="Leave it out."
            )
    return ParquetSource(uri, layout, schema.names, check_unit(uri.options.get("unit", "s"), uri.text), context.asset or path.stem)


class ParquetSource:
    """Rows of one file. A position is ``[rows, items]``: whole batches done, and items of the next."""

    live = False

    def __init__(self, uri: Uri, layout: Layout, names: list[str], unit: str, default: str) -> None:
        self._uri, self._layout, self._names, self._unit, self._default = uri, layout, names, unit, default

    @property
    def assets(self) -> list[str]:
        """Names of the assets, in order of first appearance; reads the whole column that holds them, where there is one."""
        if self._layout.asset < 0:
            return [self._default]
        column = pq.read_table(self._uri.existing(), columns=[self._names[self._layout.asset]]).column(0)
        return [str(name) for name in column.unique().to_pylist()]

    def items(self, position: Position) -> Iterator[Item]:
        """Yield a reading an asset for each batch; batches lie on a grid of rows in each row group."""
        done, item = position or (0, 0)
        try:
            for row, batch in self._batches(done):
                yield from self._batch(batch, row, item if row == done else 0)
        except (pa.ArrowInvalid, OSError) as error:
            raise InputError(self._uri.text, expected="rows that can be read", found=str(error), mend="Was the file replaced?") from None

    def _batches(self, done: int) -> Iterator[tuple[int, pa.RecordBatch]]:
        """Yield the batches from row ``done`` on, each with its first row."""
        places = [self._layout.time, *self._layout.values, *([self._layout.asset] if self._layout.asset >= 0 else [])]
        columns = [self._names[i] for i in dict.fromkeys(places)]
        row = 0
        with pq.ParquetFile(self._uri.existing()) as file:
            for group in range(file.num_row_groups):
                rows = file.metadata.row_group(group).num_rows
                if row + rows <= done:
                    row += rows
                    continue
                for batch in file.iter_batches(_BATCH, row_groups=[group], columns=columns):
                    if row >= done:
                        yield row, batch
                    row += batch.num_rows

    def _batch(self, batch: pa.RecordBatch, row: int, item: int) -> Iterator[Item]:
        """Yield the items of a batch that begins at ``row``, from the given item on."""
        layout = self._layout
        assets = None if layout.asset < 0 else np.array(batch.column(self._names[layout.asset]).cast(pa.string()).to_pylist(), str)
        values: Float = np.stack([_floats(batch.column(self._names[i])) for i in layout.values])
        readings = split_assets(assets, self._default, layout.channels, self._times(batch.column(self._names[layout.time])), values)
        for k in range(item, len(readings)):
            after = [row + batch.num_rows, 0] if k + 1 == len(readings) else [row, k + 1]
            yield replace(readings[k], position=after)

    def _times(self, column: Any) -> Int:
        """Return ns UTC."""
        if column.null_count:
            raise InputError(self._uri.text, expected="a time in every row", found=f"{column.null_count} without", mend="Drop those rows.")
        if pa.types.is_timestamp(column.type):
            return column.cast(pa.timestamp("ns", column.type.tz)).cast(pa.int64()).to_numpy()
        return from_numbers(column.to_numpy(zero_copy_only=False), self._unit, self._uri.text)

    def acknowledge(self, position: Position) -> None:
        """Nothing to do: a file keeps itself."""

    def close(self) -> None:
        """Nothing is held between readings."""


def _floats(column: Any) -> Float:
    """Return a column as float64, ``(row,)``, NaN where it is null."""
    return column.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
