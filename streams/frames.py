"""Frame files of gravitational-wave detectors (LIGO-T970130, versions 6 to 8): the vectors in them, read when asked for.

A file is a row of structures, each with its length, class and instance; a class is named by the dictionary structures in front. Only what
a time series needs is read: the time of a frame, and its vectors with their sample period and compression.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from twin_engine.errors import InputError

_HEADER = 40  # bytes of the file header
_STRUCTURE = 14  # bytes in front of a structure: length u8, checksum kind u1, class u1, instance u4
_DICTIONARY = 1  # the class of FrSH, which names the others
_TYPES = {0: "i1", 1: "i2", 2: "f8", 3: "f4", 4: "i4", 5: "i8", 9: "u2", 10: "u4", 11: "u8", 12: "u1"}
_LITTLE = 256  # added to the compression when the data are little-endian
_RAW, _GZIP, _DIFFERENCES = 0, 1, 3
_ZERO_SUPPRESSED = {5: 2, 6: 2, 8: 4, 10: 8}  # scheme -> bytes of a word


@dataclass(frozen=True, slots=True)
class Vector:
    """One channel in one frame. start: GPS, ns. period: seconds. offset, size: where the data are in the file, bytes."""

    name: str
    start: int
    period: float
    count: int
    dtype: str
    scheme: int
    offset: int
    size: int
    unit: str


class _Fields:
    """Reads the fields of a structure in order."""

    def __init__(self, data: bytes, order: str) -> None:
        self._data, self._order, self.place = data, order, 0

    def number(self, code: str) -> Any:
        """Return the next number (struct's code)."""
        (value,) = struct.unpack_from(self._order + code, self._data, self.place)
        self.place += struct.calcsize(self._order + code)
        return value

    def text(self) -> str:
        """Return the next string: its length with the closing NUL (u2), then its bytes."""
        size = self.number("H")
        raw = self._data[self.place : self.place + size]
        self.place += size
        return raw.rstrip(b"\0").decode("utf-8", "replace")


def read_vectors(path: Path) -> list[Vector]:
    """Return the one-dimensional real vectors of a frame file, in file order; raises InputError."""
    try:
        with path.open("rb") as file:
            return _walk(file)
    except (struct.error, KeyError, ValueError, IndexError) as error:
        raise InputError(
            str(path), expected="a whole frame file (.gwf)", found=str(error), mend="Download it again, or check its kind."
        ) from None


def _walk(file: BinaryIO) -> list[Vector]:
    """Read one structure after the other."""
    head = file.read(_HEADER)
    if head[:5] != b"IGWD\0" or head[5] < 6:
        raise ValueError(f"a header {head[:6]!r}")
    order = "<" if head[12:14] == b"\x34\x12" else ">"
    names: dict[int, str] = {}
    frame = 0
    vectors: list[Vector] = []
    while len(front := file.read(_STRUCTURE)) == _STRUCTURE:
        length, _, kind, _ = struct.unpack(order + "QBBI", front)
        start = file.tell()
        if kind == _DICTIONARY:
            fields = _Fields(file.read(length - _STRUCTURE), order)
            name = fields.text()
            names[fields.number("H")] = name
        elif names.get(kind) == "FrameH":
            frame = _frame_time(_Fields(file.read(length - _STRUCTURE), order))
        elif names.get(kind) == "FrVect" and (vector := _vector(file, length - _STRUCTURE, order, frame)):
            vectors.append(vector)
        if length < _STRUCTURE:
            raise ValueError(f"a structure of {length} bytes")
        file.seek(start + length - _STRUCTURE)
    return vectors


def _frame_time(fields: _Fields) -> int:
    """Return a frame's GPS time in ns."""
    fields.text()
    for _ in range(3):  # run, frame, data quality
        fields.number("I")
    return fields.number("I") * 10**9 + fields.number("I")


def _vector(file: BinaryIO, length: int, order: str, frame: int) -> Vector | None:
    """Return what a FrVect holds, without its data; None where it is no real time series."""
    start = file.tell()
    front = _Fields(file.read(min(length, 4096)), order)
    name, compress, kind = front.text(), front.number("H"), front.number("H")
    count, size = front.number("Q"), front.number("Q")
    offset = start + front.place
    if size > length:
        raise ValueError(f"a vector of {size} bytes in a structure of {length}")
    file.seek(offset + size)
    rest = _Fields(file.read(length - front.place - size), order)
    dimensions = rest.number("I")
    if dimensions != 1 or kind not in _TYPES:
        return None
    rest.number("Q")
    period, first = rest.number("d"), rest.number("d")
    rest.text()
    little = compress >= _LITTLE or (order == "<" and compress == _RAW)
    dtype = ("<" if little else ">") + _TYPES[kind]
    return Vector(name, frame + round(first * 1e9), period, count, dtype, compress % _LITTLE, offset, size, rest.text())


def read_data(path: Path, vector: Vector) -> NDArray[Any]:
    """Return the samples of a vector, ``(sample,)`` in their own type; raises InputError."""
    with path.open("rb") as file:
        file.seek(vector.offset)
        raw = file.read(vector.size)
    try:
        if vector.scheme in {_GZIP, _DIFFERENCES}:
            raw = zlib.decompress(raw)
        if vector.scheme in {_RAW, _GZIP}:
            data = np.frombuffer(raw, vector.dtype)
        elif vector.scheme == _DIFFERENCES:
            data = _integrate(np.frombuffer(raw, vector.dtype))
        elif vector.scheme in _ZERO_SUPPRESSED:
            data = _integrate(_expand(raw, vector.count, _ZERO_SUPPRESSED[vector.scheme], vector.dtype[0])).view(
                np.dtype(vector.dtype).newbyteorder("=")
            )
        else:
            raise ValueError(f"compression {vector.scheme}")
        if len(data) != vector.count:
            raise ValueError(f"{len(data)} samples of {vector.count}")
    except (ValueError, IndexError, zlib.error) as error:
        raise InputError(
            f"{vector.name} in {path}", expected="samples that can be read", found=str(error), mend="Download it again."
        ) from None
    return data


def _integrate(differences: NDArray[Any]) -> NDArray[Any]:
    """Return the running sum, wrapping as the integers do."""
    return np.cumsum(differences, dtype=differences.dtype)


def _expand(raw: bytes, count: int, word: int, order: str) -> NDArray[Any]:
    """Return zero-suppressed integers, ``(sample,)``: blocks of values, each block with the number of bits that its values need in front.

    Words of ``word`` bytes are filled from their lowest bit. The first 16 bits are a block's length. How many bits its values have is
    stored less one, in 4, 5 or 6 bits; one bit stands for a block of zeros; a value is stored with 2^(bits-1) - 1 added.
    """
    words = np.frombuffer(raw[: len(raw) // word * word], f"{order}u{word}").astype(f"<u{word}")
    bits = np.unpackbits(words.view(np.uint8), bitorder="little").astype(np.uint64)
    front = {2: 4, 4: 5, 8: 6}[word]
    block, place = int(words[0]) & 0xFFFF, 16
    if block < 1:
        raise ValueError("an empty block")
    powers = np.uint64(1) << np.arange(64, dtype=np.uint64)
    values = np.zeros(count, np.uint64)
    for first in range(0, count, block):
        width = int(bits[place : place + front] @ powers[:front]) + 1
        place += front
        if width == 1:
            continue
        n = min(block, count - first)
        stored = bits[place : place + n * width].reshape(n, width) @ powers[:width]
        values[first : first + n] = stored - np.uint64(2 ** (width - 1) - 1)
        place += n * width
    return values.astype(f"u{word}").view(f"i{word}")
