"""Numbered Parquet files in folders: written whole or not at all, cut back by number, small ones joined once nothing can need them apart.

A file ``part-FIRST-LAST.parquet`` holds the segments FIRST to LAST of its folder.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from twin_engine.errors import SinkError

_JOIN = 32  # files
_SMALL = 4 << 20  # bytes


class _Part(NamedTuple):
    """A file and the segments in it."""

    first: int
    last: int
    path: Path


class Segments:
    """The files under a directory. next: the number of the next segment."""

    def __init__(self, directory: Path, name: str) -> None:
        self._directory, self._name = directory, name
        self.next = 0
        self._saved = 0  # segments below this are in every snapshot that can be gone back to

    def open(self, position: int) -> None:
        """Delete the segments from ``position`` on, and what a break left behind; raises SinkError."""
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
            for path in self._directory.glob("twin=*/output=*/day=*/*.tmp"):
                path.unlink()
            for folder in self._directory.glob("twin=*/output=*/day=*"):
                self._clean(folder, position)
        except OSError as error:
            raise SinkError(self._name, expected="a directory that can be written", found=str(error), mend="Choose another path.") from None
        self.next = self._saved = position

    def _clean(self, folder: Path, position: int) -> None:
        """Delete a folder's segments from the position on, and files whose segments are in a joined one too."""
        end = -1
        for part in _parts(folder):
            if part.last >= position > part.first:
                raise SinkError(
                    str(part.path), expected=f"segments that end at {position}", found=f"{part.first} to {part.last} joined",
                    mend="Begin anew with another state directory.",
                )  # fmt: skip
            if part.first >= position or part.last <= end:
                part.path.unlink()
            end = max(end, part.last)

    def write(self, tables: dict[str, pa.Table]) -> None:
        """Write a segment into each folder, durably; then join small ones that the flush before made safe. Raises SinkError."""
        safe, self._saved = self._saved, self.next
        try:
            for folder, table in tables.items():
                _write(self._directory / folder, self.next, self.next, table)
                self.next += 1
            for folder in tables:
                _join(self._directory / folder, safe)
        except OSError as error:
            raise SinkError(self._name, expected="room to write", found=str(error), mend="Free some space.") from None


def files(folder: Path) -> list[Path]:
    """Return a folder's files in order, without those whose segments are in a joined one that is there too."""
    found: list[Path] = []
    end = -1
    for part in _parts(folder):
        if part.last > end:
            found.append(part.path)
            end = part.last
    return found


def _parts(folder: Path) -> list[_Part]:
    """Return a folder's files, by first segment, the longest first where several begin with the same."""
    parts = [_Part(int(path.stem[5:13]), int(path.stem[14:22]), path) for path in folder.glob("part-*-*.parquet")]
    return sorted(parts, key=lambda part: (part.first, -part.last))


def _write(folder: Path, first: int, last: int, table: pa.Table) -> None:
    """Write a file under a name that no reader takes, force it to disk, and give it its name."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"part-{first:08d}-{last:08d}.parquet"
    temporary = path.with_suffix(".tmp")
    pq.write_table(table, temporary, compression="zstd")
    with temporary.open("rb") as file:
        os.fsync(file.fileno())
    temporary.replace(path)
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _join(folder: Path, safe: int) -> None:
    """Join neighbours that are small and whose segments are all below ``safe``, once there are ``_JOIN`` of them."""
    run: list[_Part] = []
    for part in _parts(folder):
        run = [*run, part] if part.last < safe and part.path.stat().st_size < _SMALL else []
        if len(run) == _JOIN:
            _write(folder, run[0].first, run[-1].last, pa.concat_tables([pq.ParquetFile(p.path).read() for p in run]))
            for old in run:
                old.path.unlink()
            return
