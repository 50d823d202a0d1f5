"""Dead letters in a file: looked at, sent again once what was wrong is mended, or thrown away."""

from __future__ import annotations

import fcntl
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from streams.dead_letter import FILE, known
from streams.registry import sink_at
from twin_engine.errors import InputError, SinkError
from twin_engine.whole import write_whole


class Letter(msgspec.Struct, frozen=True):
    """A line of such a file. again: why it was refused once more."""

    source: str
    reason: str
    detail: str
    raw: bytes
    ts: str = ""
    subject: str = ""
    asset: str = ""
    position: Any = None
    again: str = ""


Send = Callable[[Letter], str]


def letters(place: Path, *, reason: str = "", to: str = "", discard: bool = False) -> list[Letter]:
    """Return the letters of a file (of a folder: of a run's state), of one reason or all.

    to: send them there, ``mqtt://`` (each to the topic that it came from), ``influx:`` or ``webhook:``. Those that were taken leave the
    file, as all do with ``discard``. Raises InputError where the file is none or is written to, SinkError where nothing can be sent.
    """
    path = place / FILE if place.is_dir() else place
    known(reason)
    if not to and not discard:
        return [letter for _, letter in _read(path) if reason in {"", letter.reason}]
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return _settle(path, reason, to)
    except BlockingIOError:
        mend = "End it first; it goes on where it was."
        raise InputError(str(path), expected="a file that nobody writes to", found="a process that does", mend=mend) from None
    except OSError as error:
        raise InputError(str(path), expected="a file of dead letters", found=str(error), mend="Check the path.") from None


def _settle(path: Path, reason: str, to: str) -> list[Letter]:
    """Send letters, or none where ``to`` is empty, and keep the others; what is cut off half-way is sent once more."""
    found: list[Letter] = []
    kept: list[bytes] = []
    with _sender(to) as send:
        for line, letter in _read(path):
            if reason not in {"", letter.reason}:
                kept.append(line)
                continue
            if why := send(letter):
                kept.append(line)
            found.append(msgspec.structs.replace(letter, again=why))
    write_whole(path, b"".join(kept))
    return found


def _read(path: Path) -> Sequence[tuple[bytes, Letter]]:
    try:
        lines = [line for line in path.read_bytes().splitlines(keepends=True) if line.endswith(b"\n")]  # the last may be half written
        return [(line, msgspec.json.decode(line, type=Letter)) for line in lines]
    except (OSError, msgspec.DecodeError) as error:
        raise InputError(str(path), expected="a file of dead letters", found=str(error), mend="Check the path.") from None


@contextmanager
def _sender(to: str) -> Generator[Send]:
    """Give what sends a letter and says why it was refused; all are there at the end."""
    if not to:
        yield lambda _: ""
    elif to.startswith("mqtt"):
        from streams.publisher import open_publisher  # noqa: PLC0415 - an extra

        publisher = open_publisher(to)
        publisher.open()

        def publish(letter: Letter) -> str:
            if not letter.subject:
                return "it came from no topic"
            publisher.publish(letter.subject, letter.raw)
            return ""

        try:
            yield publish
        finally:
            publisher.close()
    else:
        sink: Any = sink_at(to, ())
        if not hasattr(sink, "again"):
            raise SinkError(to, expected="mqtt:, influx: or webhook:", found=to, mend="Name where they were to go.")
        try:
            yield lambda letter: sink.again(letter.raw)
        finally:
            sink.close()
