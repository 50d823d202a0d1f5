"""CBOR (RFC 8949) as far as SenML needs it: numbers, decimal fractions, text, bytes, arrays, maps with keys of text or integers."""

from __future__ import annotations

import struct
from decimal import Decimal
from typing import Any

from streams.codecs.base import RefusedError, few, utf8
from twin_engine.records import Reason

_DEPTH = 8
_BREAK = object()
_FLOATS = {25: ">e", 26: ">f", 27: ">d"}
_SIMPLE = {20: False, 21: True, 22: None, 23: None}
_DECIMAL_FRACTION = 4


def loads(data: bytes) -> Any:
    """Return the one item that the bytes hold; raises RefusedError."""
    reader = _Reader(data)
    item = reader.item(0)
    if item is _BREAK or reader.place != len(data):
        raise RefusedError(Reason.MALFORMED, "CBOR: something behind the item" if item is not _BREAK else "CBOR: a break alone")
    return item


class _Reader:
    """A place in the bytes."""

    def __init__(self, data: bytes) -> None:
        self.data, self.place = data, 0

    def take(self, count: int) -> bytes:
        """Return the next bytes; raises RefusedError where they are not there."""
        if count > len(self.data) - self.place:
            raise RefusedError(Reason.MALFORMED, "CBOR: cut short")
        part = self.data[self.place : self.place + count]
        self.place += count
        return part

    def item(self, depth: int) -> Any:
        """Return the next item, or _BREAK."""
        if depth > _DEPTH:
            raise RefusedError(Reason.MALFORMED, "CBOR: nested too deep")
        head = self.take(1)[0]
        major, info = head >> 5, head & 31
        if major == 7:
            return self._simple(info)
        if info == 31 and major in {2, 3, 4, 5}:
            count = -1
        elif info < 24:
            count = info
        elif info < 28:
            count = int.from_bytes(self.take(1 << info - 24), "big")
        else:
            raise RefusedError(Reason.MALFORMED, f"CBOR: byte {head:#x}")
        if major < 2:
            return -1 - count if major else count
        if major < 4:
            return self._string(major, count, depth)
        if major == 4:
            return self._array(count, depth)
        if major == 5:
            items = self._array(2 * count if count >= 0 else -1, depth)
            if len(items) % 2 or not all(isinstance(key, str | int) for key in items[::2]):
                raise RefusedError(Reason.MALFORMED, "CBOR: a map with keys that are neither text nor integers")
            return dict(zip(items[::2], items[1::2], strict=True))
        inner = self.item(depth + 1)
        return _fraction(inner) if count == _DECIMAL_FRACTION else inner

    def _simple(self, info: int) -> Any:
        if info in _FLOATS:
            return struct.unpack(_FLOATS[info], self.take(1 << info - 24))[0]
        if info == 31:
            return _BREAK
        if info not in _SIMPLE:
            raise RefusedError(Reason.MALFORMED, f"CBOR: simple value {info}")
        return _SIMPLE[info]

    def _string(self, major: int, count: int, depth: int) -> Any:
        """Return bytes (major 2) or text."""
        if count >= 0:
            part = self.take(count)
            return utf8(part) if major == 3 else part
        parts = self._array(-1, depth)
        kind: type = str if major == 3 else bytes
        if not all(isinstance(part, kind) for part in parts):
            raise RefusedError(Reason.MALFORMED, "CBOR: a string of other pieces")
        return kind().join(parts)

    def _array(self, count: int, depth: int) -> list[Any]:
        """Return ``count`` items (-1: up to the break). Each takes a byte at least, so a count that lies ends with the bytes."""
        items: list[Any] = []
        while count < 0 or len(items) < count:
            item = self.item(depth + 1)
            if item is _BREAK:
                if count >= 0:
                    raise RefusedError(Reason.MALFORMED, "CBOR: a break where an item is due")
                break
            items.append(item)
            few(len(items) // 2, "pairs of CBOR items")
        return items


def _fraction(item: Any) -> float:
    """Return a decimal fraction, ``[exponent, mantissa]``, as a double."""
    if not (isinstance(item, list) and len(item) == 2 and all(type(part) is int for part in item)) or abs(item[0]) > 400:
        raise RefusedError(Reason.MALFORMED, "CBOR: not a decimal fraction")
    return float(Decimal(item[1]).scaleb(item[0]))


def dumps(item: Any) -> bytes:
    """Return an item as bytes: integers, doubles, text, lists, and maps."""
    if isinstance(item, int):
        return _head(1, -1 - item) if item < 0 else _head(0, item)
    if isinstance(item, float):
        return b"\xfb" + struct.pack(">d", item)
    if isinstance(item, str):
        return _head(3, len(item.encode())) + item.encode()
    if isinstance(item, dict):
        return _head(5, len(item)) + b"".join(dumps(part) for pair in item.items() for part in pair)
    return _head(4, len(item)) + b"".join(map(dumps, item))


def _head(major: int, count: int) -> bytes:
    for info, size, limit in ((24, 1, 1 << 8), (25, 2, 1 << 16), (26, 4, 1 << 32), (27, 8, 1 << 64)):
        if count < 24:
            break
        if count < limit:
            return bytes([major << 5 | info]) + count.to_bytes(size, "big")
    return bytes([major << 5 | count])
