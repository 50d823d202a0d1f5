"""Protocol Buffers' wire format, the part that Sparkplug needs: fields out of bytes, and bytes out of fields.

https://protobuf.dev/programming-guides/encoding/
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from streams.codecs.base import RefusedError
from twin_engine.records import Reason

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
_SIZES = {FIXED64: 8, FIXED32: 4}


def fields(data: bytes) -> Iterator[tuple[int, int, int | bytes]]:
    """Yield (number, wire type, value) of a message's fields, in order; raises RefusedError where it is cut or is none.

    A value is an unsigned integer, of varints and of fixed fields as they stand, or bytes.
    """
    place, end = 0, len(data)
    while place < end:
        key = data[place]
        place += 1
        if key > 0x7F:  # most are one byte
            key, place = _varint(data, place - 1)
        number, wire = key >> 3, key & 7
        if not number:
            raise RefusedError(Reason.MALFORMED, "a field without a number")
        if wire == VARINT:
            value, place = _varint(data, place)
            yield number, wire, value
            continue
        if wire == BYTES:
            size, place = _varint(data, place)
        elif wire in _SIZES:
            size = _SIZES[wire]
        else:
            raise RefusedError(Reason.MALFORMED, f"wire type {wire}")
        if size > end - place:
            raise RefusedError(Reason.MALFORMED, f"a field of {size} bytes where {end - place} are left")
        part = data[place : place + size]
        place += size
        yield number, wire, part if wire == BYTES else int.from_bytes(part, "little")


def _varint(data: bytes, place: int) -> tuple[int, int]:
    """Return an unsigned integer of at most 64 bits and the place behind it."""
    value = shift = 0
    while shift < 70 and place < len(data):
        byte = data[place]
        value |= (byte & 0x7F) << shift
        place += 1
        if byte < 0x80:
            return value & 0xFFFF_FFFF_FFFF_FFFF, place
        shift += 7
    raise RefusedError(Reason.MALFORMED, "an integer that does not end")


def varint(number: int, value: int) -> bytes:
    """Return a field that is an unsigned integer."""
    return _key(number, VARINT) + _written(value)


def double(number: int, value: float) -> bytes:
    """Return a field that is a double."""
    return _key(number, FIXED64) + struct.pack("<d", value)


def chunk(number: int, value: bytes) -> bytes:
    """Return a field of bytes, text or a message."""
    return _key(number, BYTES) + _written(len(value)) + value


def _key(number: int, wire: int) -> bytes:
    return _written(number << 3 | wire)


def _written(value: int) -> bytes:
    """Return an unsigned integer as a varint."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
