"""Events as JSON lines, one event a line. The position is the file's size, to which it is cut back when a run resumes."""

from __future__ import annotations

import os
from typing import BinaryIO

from streams.uri import Uri
from twin_engine.errors import SinkError
from twin_engine.records import Position, Update, event_line


def open_jsonl(uri: Uri, _show: tuple[str, ...]) -> JsonlSink:
    """Open ``jsonl:FILE?revisions=final|all`` (default final: one line an event)."""
    uri.only("revisions")
    return JsonlSink(uri, every=uri.choice("revisions", ("final", "all"), "final") == "all")


class JsonlSink:
    """Appends a line an event; durable at flush."""

    def __init__(self, uri: Uri, *, every: bool) -> None:
        self._uri, self._every = uri, every
        self._file: BinaryIO | None = None

    def open(self, position: Position) -> None:
        """Cut the file back to the position (None: empty it); raises SinkError."""
        self.close()
        path = self._uri.file
        size = int(position or 0)
        try:
            file = path.open("r+b" if path.exists() else "w+b")
        except OSError as error:
            raise SinkError(self._uri.text, expected="a file that can be written", found=str(error), mend="Choose another path.") from None
        found = file.seek(0, os.SEEK_END)
        if found < size:
            file.close()
            raise SinkError(
                self._uri.text, expected=f"at least {size} bytes, as the snapshot says", found=f"{found}",
                mend="Put the file back, or begin anew with another state directory.",
            )  # fmt: skip
        file.truncate(size)
        file.seek(size)
        self._file = file

    def write(self, update: Update) -> None:
        """Append the update's events."""
        lines = b"".join(event_line(event) for event in update.events if event.final or self._every)
        if not lines:
            return
        if self._file is None:
            raise SinkError(self._uri.text, expected="an open sink", found="closed", mend="Open it first.")
        try:
            self._file.write(lines)
            self._file.flush()
        except OSError as error:
            raise SinkError(self._uri.text, expected="room to write", found=str(error), mend="Free some space.") from None

    def flush(self) -> Position:
        """Force the lines to disk and return the file's size."""
        if self._file is None:
            return None
        try:
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            raise SinkError(self._uri.text, expected="room to write", found=str(error), mend="Free some space.") from None
        return self._file.tell()

    def close(self) -> None:
        """Flush and close."""
        if self._file is None:
            return
        try:
            self.flush()
        finally:
            file, self._file = self._file, None
            file.close()
