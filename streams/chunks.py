"""Lines of a file in pieces of whole lines, each with its place in bytes, however long a line is."""

from __future__ import annotations

import gzip
import io
import os
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import BinaryIO, NamedTuple, cast

from msgspec.structs import replace

from twin_engine.records import Idle, Item, Position

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
    """Yield the lines from the file's present place, which is byte ``start``, in pieces of some hundred kilobytes.

    A file that is not ready reads as None; the chunk is then empty.
    """
    held = b""
    while (piece := cast("bytes | None", file.read(_PIECE))) != b"":
        if piece is None:
            yield Chunk(start, start, b"")
            continue
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
    while (piece := cast("bytes | None", file.read(_PIECE))) != b"":
        if piece is None:
            continue
        cut = piece.find(b"\n") + 1
        if cut:
            return place + cut, piece[cut:]
        place += len(piece)
    return place, b""


def items_from(file: BinaryIO, position: Position, begin: int, parse: Callable[[Chunk], Sequence[Item]]) -> Iterator[Item]:
    """Yield what ``parse`` makes of the file's chunks after a position, each item with the position after it; Idle while there is nothing.

    begin: where the file's first line is. A position is ``{"offset": bytes}``, or inside a chunk ``{"offset", "end", "item"}``: the chunk
    is read again as it was, whatever has been added to the file since. Raises EOFError where the file is shorter than the position.
    """
    place: dict[str, int] = position or {"offset": begin}
    start, first = place["offset"], place.get("item", 0)
    end = place.get("end", start)
    if position and file.seek(0, os.SEEK_END) < end:
        raise EOFError(f"a file shorter than {end} bytes")
    if position or start:
        file.seek(start)
    again = [Chunk(start, place["end"], file.read(place["end"] - start))] if first else []
    for chunk in chain(again, chunks(file, again[0].stop if again else start)):
        items = parse(chunk) if chunk.data else [Idle()]
        for k in range(first, len(items)):
            whole = k + 1 == len(items)
            yield replace(items[k], position={"offset": chunk.stop} if whole else {"offset": chunk.start, "end": chunk.stop, "item": k + 1})
        first = 0


def lines(data: bytes) -> list[bytes]:
    """Return the lines of a chunk without their ends; empty lines are left out."""
    return [line for line in (raw.removesuffix(b"\r") for raw in data.split(b"\n")) if line]
