"""The file of a spool: records with length and checksum, numbered by generation, a new one each time that the sink goes down."""

from __future__ import annotations

import os
import struct
import zlib
from pathlib import Path
from typing import BinaryIO, NamedTuple

from twin_engine.errors import SinkError

_FRONT = struct.Struct("<II")  # length and CRC-32 of a record


class Batch(NamedTuple):
    """Records, and where the next one begins."""

    records: list[bytes]
    end: int


class SpoolFile:
    """Records from ``begin`` to ``end`` (bytes) of one generation's file are still to be delivered."""

    def __init__(self, directory: Path, generation: int, file: BinaryIO, begin: int, end: int) -> None:
        self.generation, self.begin, self.end = generation, begin, end
        self._path, self._file = _path(directory, generation), file

    @staticmethod
    def clear(directory: Path, keep: int | None) -> None:
        """Delete all generations but one."""
        for path in directory.glob("spool-*.bin"):
            if _generation(path) != keep:
                path.unlink()

    @classmethod
    def create(cls, directory: Path) -> SpoolFile:
        """Begin a new generation."""
        generation = max(map(_generation, directory.glob("spool-*.bin")), default=0) + 1
        try:
            directory.mkdir(parents=True, exist_ok=True)
            return cls(directory, generation, _path(directory, generation).open("w+b"), 0, 0)
        except OSError as error:
            raise SinkError(str(directory), expected="a directory for the spool", found=str(error), mend="Choose another one.") from None

    @classmethod
    def reopen(cls, directory: Path, generation: int, begin: int, end: int) -> SpoolFile:
        """Go on with a generation, cut back to ``end``; raises SinkError where it is not there or too short."""
        path = _path(directory, generation)
        size = path.stat().st_size if path.exists() else -1
        if size < end:
            raise SinkError(str(path), expected=f"at least {end} bytes, as the snapshot says", found=str(size), mend="Put the file back.")
        file = path.open("r+b")
        file.truncate(end)
        return cls(directory, generation, file, begin, end)

    def append(self, data: bytes) -> None:
        """Add a record at the end; raises SinkError."""
        try:
            self._file.seek(self.end)
            self._file.write(_FRONT.pack(len(data), zlib.crc32(data)) + data)
        except OSError as error:
            raise SinkError(str(self._path), expected="room for the spool", found=str(error), mend="Free some space.") from None
        self.end += _FRONT.size + len(data)

    @property
    def left(self) -> int:
        """Bytes that are still to be delivered."""
        return self.end - self.begin

    def read(self, size: int) -> Batch:
        """Return the records from ``begin`` on, up to ``size`` bytes but at least one; raises SinkError where one is damaged."""
        self._file.seek(self.begin)
        place, records = self.begin, list[bytes]()
        while place < self.end and (not records or place - self.begin < size):
            length, check = _FRONT.unpack(self._file.read(_FRONT.size))
            data = self._file.read(length)
            if zlib.crc32(data) != check:
                raise SinkError(str(self._path), expected="a whole record", found=f"a damaged one at byte {place}", mend="Check the disk.")
            records.append(data)
            place += _FRONT.size + length
        return Batch(records, place)

    def sync(self) -> None:
        """Force the file to disk."""
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file; it stays."""
        self._file.close()

    def delete(self) -> None:
        """Delete the file."""
        self._path.unlink(missing_ok=True)


def _path(directory: Path, generation: int) -> Path:
    return directory / f"spool-{generation:08d}.bin"


def _generation(path: Path) -> int:
    return int(path.stem.removeprefix("spool-"))
