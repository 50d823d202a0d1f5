"""Arrow IPC streams from outside: no dictionaries, no compressed buffers, each column checked before it is touched."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from streams.codecs.base import RefusedError
from twin_engine.ports import Float
from twin_engine.records import Reason

_LIMIT, _LONGEST = 1 << 8, 1 << 17  # schemas kept, bytes of one
_CONTINUATION = b"\xff\xff\xff\xff"
_END = _CONTINUATION + bytes(4)
T = TypeVar("T")
_schemas: dict[bytes, pa.Schema] = {}


def keep(known: dict[bytes, T], head: bytes, value: T) -> None:
    """Keep what a schema's bytes mean, unless they are very long; begin anew where too many are kept."""
    if len(known) >= _LIMIT:
        known.clear()
    if len(head) <= _LONGEST:
        known[head] = value


def schema_of(raw: bytes) -> tuple[bytes, pa.Schema]:
    """Return the schema at the head of a stream and its bytes, the same object for the same bytes; raises RefusedError."""
    length = int.from_bytes(raw[4:8], "little")
    if raw[:4] != _CONTINUATION or not 0 < length <= len(raw) - 8:
        raise RefusedError(Reason.MALFORMED, "not an Arrow IPC stream")
    head = raw[: 8 + length]
    schema = _schemas.get(head)
    if schema is None:
        try:
            schema = pa.ipc.read_schema(pa.py_buffer(head))
            _ = schema.names, schema.types  # the names may be no text, the types none that pyarrow has
        except UnicodeDecodeError as error:
            raise RefusedError(Reason.NOT_UTF8, f"schema: {error}") from None
        except (pa.ArrowException, ValueError, OSError, TypeError, KeyError) as error:
            raise RefusedError(Reason.MALFORMED, f"schema: {error}") from None
        keep(_schemas, head, schema)
    return head, schema


def batches(raw: bytes, head: bytes, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    """Yield the record batches that follow a schema; raises RefusedError."""
    reader = pa.BufferReader(pa.py_buffer(raw))
    reader.seek(len(head))
    count = 0
    while (place := reader.tell()) < len(raw) and raw[place : place + 8] != _END:
        try:
            message = pa.ipc.read_message(reader)
            if message.type != "record batch":
                raise RefusedError(Reason.MALFORMED, f"a {message.type} in the stream; only record batches are taken")
            if _compressed(message.metadata):
                raise RefusedError(Reason.MALFORMED, "compressed buffers; compress the whole message with gzip, or let the broker do it")
            batch = pa.ipc.read_record_batch(message, schema)
        except EOFError:
            break  # the end of a stream as it was marked before version 0.15
        except (pa.ArrowException, ValueError, OSError, TypeError, struct.error) as error:
            raise RefusedError(Reason.MALFORMED, f"record batch: {error}") from None
        count += 1
        yield batch
    if not count:
        raise RefusedError(Reason.MALFORMED, "no record batch behind the schema")


def _compressed(metadata: pa.Buffer) -> bool:
    """Return whether a record batch's header (a flatbuffer, ``Message.fbs`` of Arrow) has the field ``compression``."""
    data = memoryview(metadata)

    def field(table: int, index: int) -> int:
        vtable = table - struct.unpack_from("<i", data, table)[0]
        size = struct.unpack_from("<H", data, vtable)[0]
        offset = struct.unpack_from("<H", data, vtable + 4 + 2 * index)[0] if 4 + 2 * index < size else 0
        return table + offset if offset else 0

    header = field(struct.unpack_from("<I", data, 0)[0], 2)
    return not header or bool(field(header + struct.unpack_from("<I", data, header)[0], 3))


def checked(column: pa.Array) -> pa.Array:
    """Return a column whose buffers hold what it says; raises RefusedError."""
    try:
        column.validate(full=not pa.types.is_primitive(column.type))
    except (pa.ArrowException, ValueError) as error:
        raise RefusedError(Reason.MALFORMED, str(error)) from None
    return column


def is_number(kind: pa.DataType) -> bool:
    """Return whether values of a type are numbers (or booleans)."""
    return pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)


def to_floats(column: pa.Array) -> Float | NDArray[Any]:
    """Return numbers as an array that can be put into float64, nulls as NaN, without a copy where none is needed."""
    if pa.types.is_boolean(column.type):
        column = column.cast(pa.uint8())
    if column.null_count and pa.types.is_integer(column.type):
        column = column.cast(pa.float64(), safe=False)
    return np.asarray(column.to_numpy(zero_copy_only=False))
