"""An append-only log of records on disk: what came is safe before it is acknowledged, and can be read again from any offset.

An entry: length and CRC-32 (little-endian uint32), then MessagePack ``[arrival, subject, raw, headers]``. Offsets are bytes since the log
began. A segment is a file named by the offset of its first byte.
"""

from __future__ import annotations

import fcntl
import os
import struct
import threading
import time
import zlib
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import msgspec

from twin_engine.errors import InputError

SEGMENT = 64 << 20
CAP = 1 << 30
WITHIN = 0.005  # seconds that a group of entries may grow before it is forced to disk
_FRONT = struct.Struct("<II")
_READ = 1 << 20  # bytes read at once


class Entry(msgspec.Struct, array_like=True, frozen=True):
    """A record as it lies in the log. arrival: ns UTC."""

    arrival: int
    subject: str
    raw: bytes
    headers: dict[str, bytes]


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Entry).decode


class Placed(NamedTuple):
    """An entry, the offset at which it begins, and that just after it."""

    entry: Entry
    begin: int
    end: int


class Log:
    """One process's log in a folder, written by its own thread.

    durable: called in that thread with the tokens of entries that are now on disk, in order. cap: bytes on disk beyond which ``append``
    takes nothing. segment: bytes of a file (at most an eighth of the cap). Raises InputError for a folder that another process uses, or
    whose files are damaged elsewhere than at the very end; a torn end is cut.
    """

    def __init__(self, folder: Path, durable: Callable[[list[Any]], None], *, cap: int = CAP, segment: int = SEGMENT) -> None:
        self._folder, self._durable, self._cap, self._segment = folder, durable, cap, min(segment, cap // 8)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._lock = _lock(folder / "lock")
        except OSError as error:
            raise InputError(
                str(folder), expected="a folder that this process alone can write", found=str(error), mend="Give each run its own --state."
            ) from None
        self._starts = deque(sorted(int(path.stem) for path in folder.glob("*.log")) or [0])
        try:
            self._check()
            self._file = self._open_last()
        except (InputError, OSError):
            self._lock.close()
            raise
        self.end = self.safe = self._starts[-1] + self._file.tell()  # what was taken, and what is on disk
        self._changed = threading.Condition()
        self._waiting: list[bytes] = []
        self._tokens: list[Any] = []
        self._closing = False
        self.failure: OSError | None = None
        self._thread = threading.Thread(target=self._write, name="mqtt-log", daemon=True)
        self._thread.start()

    def _check(self) -> None:
        """Raise InputError unless each segment begins where the one before ends."""
        for start, after in zip(list(self._starts), list(self._starts)[1:], strict=False):
            size = self._path(start).stat().st_size
            if start + size != after:
                raise InputError(
                    str(self._path(start)), expected=f"{after - start} bytes", found=str(size), mend="Put the file back, or begin anew."
                )

    def _open_last(self) -> BinaryIO:
        """Open the last segment, cut after its last whole entry."""
        path = self._path(self._starts[-1])
        file = path.open("r+b" if path.exists() else "w+b")
        whole = 0
        while (size := _size(file)) is not None:
            whole += size
        file.truncate(whole)
        file.seek(whole)
        os.fsync(file.fileno())
        _sync_folder(self._folder)
        return file

    def _path(self, start: int) -> Path:
        return self._folder / f"{start:020d}.log"

    @property
    def begin(self) -> int:
        """The oldest offset that can be read."""
        return self._starts[0]

    @property
    def full(self) -> bool:
        """Whether there is no room for another segment, so that little or nothing will be taken."""
        return self.end + self._segment - self._starts[0] > self._cap

    def append(self, entry: Entry, token: Any) -> bool:
        """Take an entry, to be on disk soon; False where the log is full, or cannot be written any more. Waits for nothing."""
        body = _encode(entry)
        with self._changed:
            size = _FRONT.size + len(body)
            full = self.end + size - self._starts[0] > self._cap or self.end - self.safe > self._segment  # the disk trails
            if full or self.failure or self._closing:
                return False
            self._waiting += (_FRONT.pack(len(body), zlib.crc32(body)), body)
            self._tokens.append(token)
            self.end += size
            if len(self._tokens) == 1:
                self._changed.notify_all()
        return True

    def _write(self) -> None:
        while True:
            with self._changed:
                while not self._waiting and not self._closing:
                    self._changed.wait()
                if not self._waiting:
                    return
            if not self._closing:
                time.sleep(WITHIN)
            with self._changed:
                waiting, tokens, end = self._waiting, self._tokens, self.end
                self._waiting, self._tokens = [], []
            try:
                self._force(b"".join(waiting))
            except OSError as error:
                with self._changed:
                    self.failure = error
                    self._changed.notify_all()
                return
            with self._changed:
                self.safe = end
                if end - self._starts[-1] >= self._segment:
                    self._roll(end)
                self._changed.notify_all()
            self._durable(tokens)

    def _force(self, data: bytes) -> None:
        self._file.write(data)
        self._file.flush()
        os.fdatasync(self._file.fileno())

    def _roll(self, start: int) -> None:
        """Begin a new segment, all before it being on disk."""
        try:
            file = self._path(start).open("w+b")
            _sync_folder(self._folder)
        except OSError as error:
            self.failure = error
            return
        self._file.close()
        self._file = file
        self._starts.append(start)

    def wait(self, offset: int, timeout: float) -> bool:
        """Wait until something after the offset is on disk; return whether it is. Raises InputError where the log cannot be written."""
        with self._changed:
            there = self._changed.wait_for(lambda: self.safe > offset or self.failure is not None, timeout) and self.safe > offset
        if self.failure is not None and not there:
            raise InputError(str(self._folder), expected="room to write", found=str(self.failure), mend="Free some space; nothing is lost.")
        return there

    def read(self, offset: int) -> Iterator[Placed]:
        """Yield the entries on disk from an offset on, about a mebibyte of them at most; raises InputError where one is damaged."""
        with self._changed:
            safe, starts = self.safe, list(self._starts)
        if not starts[0] <= offset <= safe:
            raise InputError(
                str(self._folder), expected=f"an offset from {starts[0]} to {safe}, as the files say", found=f"{offset} in the snapshot",
                mend="Put the files back, or begin anew with another state directory.",
            )  # fmt: skip
        start = max(s for s in starts if s <= offset)
        until = min([s for s in starts if s > offset] or [safe])
        with self._path(start).open("rb") as file:
            file.seek(offset - start)
            data = file.read(min(_READ, until - offset))
            if len(data) >= _FRONT.size and (missing := _FRONT.size + _FRONT.unpack_from(data)[0] - len(data)) > 0:
                data += file.read(min(missing, until - offset - len(data)))
        place = 0
        while place + _FRONT.size <= len(data):
            length, check = _FRONT.unpack_from(data, place)
            end = place + _FRONT.size + length
            if end > len(data) and place and len(data) < until - offset:
                return  # cut by the reading, not by damage
            body = data[place + _FRONT.size : end]
            if len(body) != length or zlib.crc32(body) != check:
                at = f"a damaged one at {offset + place}"
                raise InputError(str(self._path(start)), expected="a whole entry", found=at, mend="Check the disk.")
            yield Placed(_decode(body), offset + place, offset + end)
            place = end

    def acknowledge(self, offset: int) -> None:
        """Delete the segments that end at the offset or before it."""
        with self._changed:
            old: list[int] = []
            while len(self._starts) > 1 and self._starts[1] <= offset:
                old.append(self._starts.popleft())
        for start in old:
            self._path(start).unlink(missing_ok=True)

    def close(self) -> None:
        """Force what was taken to disk, and close."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join()
        self._file.close()
        self._lock.close()


def _size(file: BinaryIO) -> int | None:
    """Return the size of the whole entry at which a file stands, and pass it; None where none is there."""
    front = file.read(_FRONT.size)
    if len(front) < _FRONT.size:
        return None
    length, check = _FRONT.unpack(front)
    body = file.read(length)
    return _FRONT.size + length if len(body) == length and zlib.crc32(body) == check else None


def _lock(path: Path) -> BinaryIO:
    """Return a file that this process alone has locked; raises OSError."""
    file = path.open("wb")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        raise
    return file


def _sync_folder(folder: Path) -> None:
    number = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
