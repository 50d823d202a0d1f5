"""The dead letter: rejects as JSON lines with their bytes, source, position and reason, up to a size beyond which they are only counted.

What wrote them may be gone, or not: whoever takes some out (``streams.letters``) locks the file that writers share.
"""

from __future__ import annotations

import base64
import fcntl
import os
from pathlib import Path
from typing import BinaryIO

import msgspec

from streams.uri import nearest
from twin_engine.clock import Clock, WallClock, iso
from twin_engine.errors import InputError, SinkError
from twin_engine.records import Position, Reason, Reject

FILE = "dead_letter.jsonl"  # in the state folder of a run, or of a bridge
SCHEMA = 1
_CAP = 64 << 20


class DeadLetter:
    """A file of rejects, one a line.

    A line: ``schema, ts`` (when it was written, ISO), ``source, asset, reason, detail, position, raw`` (base64). cap: bytes; a line that
    would not fit is counted in ``unwritten``, by reason, and kept in the position.
    """

    def __init__(self, path: Path, *, cap: int = _CAP, clock: Clock | None = None) -> None:
        self.path = path
        self.unwritten: dict[str, int] = {}
        self._cap, self._clock = cap, clock or WallClock()
        self._file: BinaryIO | None = None

    def open(self, position: Position) -> None:
        """Cut the file back to the position (None: empty it), or to the line before it, where letters were taken out of it."""
        self.close()
        place = position or {"offset": 0, "unwritten": {}}
        self.unwritten = dict(place["unwritten"])
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = _shared(self.path)
        except OSError as error:
            raise SinkError(
                str(self.path), expected="a file that can be written", found=str(error), mend="Choose another directory."
            ) from None
        self._file.truncate(_line_end(self._file, min(place["offset"], self._file.seek(0, os.SEEK_END))))
        self._file.seek(0, os.SEEK_END)

    def write(self, reject: Reject) -> None:
        """Append a reject."""
        if self._file is None:
            raise SinkError(str(self.path), expected="an open file", found="closed", mend="Open it first.")
        line = msgspec.json.encode(
            {
                "schema": SCHEMA,
                "ts": iso(self._clock.now()),
                "source": reject.source,
                "subject": reject.subject,
                "asset": reject.asset,
                "reason": reject.reason.value,
                "detail": reject.detail,
                "position": reject.position,
                "raw": base64.b64encode(reject.raw).decode(),
            }
        )
        if self._file.tell() + len(line) + 1 > self._cap:
            self.unwritten[reject.reason.value] = self.unwritten.get(reject.reason.value, 0) + 1
            return
        self._file.write(line + b"\n")

    def flush(self) -> Position:
        """Force the lines to disk and return the position after them."""
        if self._file is None:
            return None
        try:
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            raise SinkError(str(self.path), expected="room to write", found=str(error), mend="Free some space.") from None
        return {"offset": self._file.tell(), "unwritten": dict(self.unwritten)}

    def close(self) -> None:
        """Flush and close."""
        if self._file is not None:
            self.flush()
            self._file.close()
            self._file = None


def known(reason: str) -> None:
    """Raise InputError unless a reason is one, or none."""
    if reason and reason not in set(Reason):
        mend = nearest(reason, [one.value for one in Reason])
        raise InputError("--reason", expected="a reason", found=reason, mend=mend)


def _line_end(file: BinaryIO, offset: int) -> int:
    """Return where the last line that ends at the offset or before it does."""
    file.seek(max(0, offset - 1))
    if file.read(1 if offset else 0) in {b"\n", b""}:
        return offset
    file.seek(0)
    return file.read(offset).rfind(b"\n") + 1


def _shared(path: Path) -> BinaryIO:
    """Open a file to write to, once nobody takes letters out of it."""
    while True:
        file = path.open("r+b" if path.exists() else "w+b")
        fcntl.flock(file, fcntl.LOCK_SH)
        if path.exists() and os.path.samestat(os.fstat(file.fileno()), path.stat()):
            return file
        file.close()  # it was replaced meanwhile
