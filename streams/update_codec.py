"""Updates as bytes (MessagePack), for a spool on disk and for Kafka: events, and the shown blocks and marks with their specs."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import msgspec
import numpy as np

from streams.shown import shown_blocks, shown_marks
from twin_engine.ports import Block, BlockSpec, Int, Marks, MarksSpec, Port, Spec
from twin_engine.records import Event, Update


class _Block(msgspec.Struct, array_like=True):
    """A block and what its spec says: arrays as little-endian bytes, the mask packed to bits."""

    shape: tuple[int, int, int]
    values: bytes
    valid: bytes
    rows: bytes
    start: bytes
    rate: str
    channels: list[str]
    units: list[str]


class _Marks(msgspec.Struct, array_like=True):
    """Marks of the rows that have some. columns: dtype, trailing shape, bytes."""

    row: bytes
    time: bytes
    rows: bytes
    live: bytes
    until: bytes
    columns: dict[str, tuple[str, list[int], bytes]]
    channels: list[str]
    kind: str


class _Update(msgspec.Struct, array_like=True):
    twin: str
    assets: list[str]
    blocks: dict[str, _Block]
    events: list[Event]
    until: int
    arrival: int
    marks: dict[str, _Marks] = {}


_decoder = msgspec.msgpack.Decoder(_Update)


def encode_update(update: Update, show: Sequence[str]) -> bytes:
    """Return an update's events, shown blocks and marks as bytes; of the assets, those that have a row in a block or a mark."""
    blocks: dict[str, _Block] = {}
    shown, marked = shown_blocks(update, show), {key: marks for key, marks in shown_marks(update, show).items() if len(marks)}
    rows = (*(block.rows for block in shown.values()), *(marks.row for marks in marked.values()))
    rows_there = np.unique(np.concatenate([np.zeros(0, np.int64), *rows]))
    for key, block in shown.items():
        spec = update.specs[key]
        if isinstance(spec, BlockSpec):
            blocks[key] = _Block(
                block.values.shape,
                block.values.astype("<f8").tobytes(),
                np.packbits(block.valid).tobytes(),
                np.searchsorted(rows_there, block.rows).astype("<i8").tobytes(),
                block.start.astype("<i8").tobytes(),
                str(spec.rate),
                list(spec.channels),
                list(spec.units),
            )
    assets = [update.assets[int(row)] for row in rows_there]
    tables = {key: _packed(marks, update.specs[key], rows_there) for key, marks in marked.items()}
    record = _Update(update.twin, assets, blocks, list(update.events), update.until, update.arrival, tables)
    return msgspec.msgpack.encode(record)


def _packed(marks: Marks, spec: Spec, rows_there: Int) -> _Marks:
    mine = np.isin(marks.rows, marks.row)
    columns: dict[str, tuple[str, list[int], bytes]] = {}
    for name, column in marks.columns.items():
        values = np.asarray(column)
        columns[name] = values.dtype.str, list(values.shape[1:]), values.tobytes()
    arrays = [np.searchsorted(rows_there, marks.row), marks.time, np.searchsorted(rows_there, marks.rows[mine])]
    arrays += [marks.live[mine], marks.until[mine]]
    row, time, rows, live, until = (np.asarray(array).astype("<i8").tobytes() for array in arrays)
    return _Marks(row, time, rows, live, until, columns, list(spec.channels), spec.kind if isinstance(spec, MarksSpec) else "")


def _unpacked(marks: _Marks) -> tuple[Marks, MarksSpec]:
    row, time, rows, live, until = (np.frombuffer(data, "<i8") for data in (marks.row, marks.time, marks.rows, marks.live, marks.until))
    columns = {name: np.frombuffer(data, dtype).reshape(-1, *shape) for name, (dtype, shape, data) in marks.columns.items()}
    said = {name: (dtype, tuple(shape)) for name, (dtype, shape, _) in marks.columns.items()}
    return Marks(row, time, columns, rows, live, until), MarksSpec(said, tuple(marks.channels), kind=marks.kind)


def decode_update(data: bytes) -> Update:
    """Return the update; raises ``msgspec.DecodeError``."""
    record = _decoder.decode(data)
    outputs: dict[str, Port] = {}
    specs: dict[str, Spec] = {}
    for key, block in record.blocks.items():
        outputs[key] = Block(
            np.frombuffer(block.values, "<f8").reshape(block.shape),
            np.unpackbits(np.frombuffer(block.valid, np.uint8), count=int(np.prod(block.shape))).reshape(block.shape).astype(np.bool_),
            np.frombuffer(block.rows, "<i8"),
            np.frombuffer(block.start, "<i8"),
        )
        specs[key] = BlockSpec(Fraction(block.rate), tuple(block.channels), tuple(block.units))
    for key, marks in record.marks.items():
        outputs[key], specs[key] = _unpacked(marks)
    return Update(record.twin, record.assets, outputs, specs, record.events, record.until, record.arrival)
