"""Lines of a file in pieces of whole lines, each with its place in bytes, however long a line is."""

from __future__ import annotations

import gzip
import io
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple, cast

LONGEST_LINE = 1 << 20  # bytes; a longer line is a reject
_PIECE = 1 << 18


class Chunk(NamedTuple):
    """Whole lines, bytes ``start..stop`` of the (uncompressed) file.

    too_long: the one line was longer than allowed and data is its head.
    """

    start: int
    stop: int
    data: bytes
    too_long: bool = False


def open_bytes(path: Path) -> BinaryIO:
    """Open a file for reading, uncompressed on the way if its name ends in ``.gz``. Not buffered, so that reads return what there is."""
    return cast("BinaryIO", gzip.open(path, "rb")) if path.suffix == ".gz" else cast("BinaryIO", io.FileIO(path))


def chunks(file: BinaryIO, start: int) -> Iterator[Chunk]:
    """Yield the lines from the file's present place, which is byte ``start``, in pieces of some hundred kilobytes."""
    held = b""
    while piece := file.read(_PIECE):
        data = held + piece
        cut = data.rfind(b"\n") + 1
        if cut == 0 and len(data) > LONGEST_LINE:
            stop, held = _end_of_line(file, start + len(data))
            yield Chunk(start, stop, data[:LONGEST_LINE], too_long=True)
            start = stop
            continue
        if cut:
            yield Chunk(start, start + cut, data[:cut])
        start, held = start + cut, data[cut:]
    if held:
        yield Chunk(start, start + len(held), held)


def _end_of_line(file: BinaryIO, place: int) -> tuple[int, bytes]:
    """Skip to the end of the line; return the place after it and what was read beyond."""
    while piece := file.read(_PIECE):
        cut = piece.find(b"\n") + 1
        if cut:
            return place + cut, piece[cut:]
        place += len(piece)
    return place, b""


def lines(data: bytes) -> list[bytes]:
    """Return the lines of a chunk without their ends; empty lines are left out."""
    return [line for line in (raw.removesuffix(b"\r") for raw in data.split(b"\n")) if line]
