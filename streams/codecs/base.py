"""What all codecs share: the limits, refusals as values, and the guard between a message and the service."""

from __future__ import annotations

import math
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol, TypeAlias

import numpy as np

from streams.gather import Gatherer
from twin_engine.records import Reading, Reason, Record, Reject, Singles

LIMIT = 1 << 20  # bytes of a message, as it came and unpacked
MOST = 100_000  # metrics, records or lines of a message
LONGEST_NAME = 512  # characters of an asset or a channel
_LONGEST_DETAIL = 300
_LONGEST_NUMBER = 400
_NAMED = 3  # faults of one reason that a reject tells of; the others are counted
_GZIP = b"\x1f\x8b"
_DENSEST = 1032  # bytes that deflate makes of one, at most: what says more was cut short
_empty, _INT64 = np.empty, np.dtype(np.int64)


Read: TypeAlias = Callable[[bytes, Record], Sequence[Reading | Reject]]  # as ``Format.read``


class RefusedError(Exception):
    """A message, or one metric of it, that is not what it should be: a reason and a detail. Many may be made: it has no ``__init__``."""

    args: tuple[Reason, str]

    @property
    def reason(self) -> Reason:
        """Why."""
        return self.args[0]

    def __str__(self) -> str:
        return self.args[1]


class Format(Protocol):
    """The meaning of one format's payloads. ``read`` may raise RefusedError for a whole message."""

    def read(self, raw: bytes, record: Record) -> Sequence[Reading | Reject]:
        """Return what a payload says, readings first. raw: the record's bytes, unpacked."""
        ...

    def write(self, reading: Reading) -> Sequence[tuple[str, bytes]]:
        """Return a reading as messages, each with its subject; raises InputError for names that the format cannot hold."""
        ...


class Remembering(Protocol):
    """A format whose messages need what earlier ones said."""

    @property
    def memory(self) -> Any:
        """As ``Codec.memory``."""
        ...

    def recall(self, memory: Any) -> None:
        """As ``Codec.recall``."""
        ...


class Guard:
    """The codec of a format: sizes checked, gzip unpacked, whatever goes wrong a Reject.

    An error that the format did not foresee is a Reject too, whose detail begins with ``unexpected``: one message must not stop a
    service that would meet it again at every start.
    """

    def __init__(self, form: Format, remembering: Remembering | None = None) -> None:
        self._form, self._remembering = form, remembering
        self._read = form.read  # a look-up less for each message
        self._read_all: Any = getattr(form, "read_all", None)  # a format may have a short way for many messages

    def decode(self, record: Record) -> Sequence[Reading | Reject]:
        """Return what a record says: its readings in order, then its rejects, at most one for each reason."""
        return self._guarded(record, self._read)

    def _guarded(self, record: Record, read: Read) -> Sequence[Reading | Reject]:
        """Return what ``read`` makes of a record."""
        raw = record.raw
        try:
            if len(raw) > LIMIT or raw[:2] == _GZIP:
                raw = _unpacked(raw)
            return read(raw, record)
        except RefusedError as error:
            return [refusal(record, error.reason, str(error))]
        except Exception as error:  # noqa: BLE001 - see the class
            return [refusal(record, Reason.MALFORMED, f"unexpected {type(error).__name__}: {error}")]

    def decode_all(self, records: Sequence[Record]) -> tuple[list[Reading | Singles], list[Reject]]:
        """Return what records say: what can be read, and rejects, each in order."""
        if self._read_all is not None:
            return self._read_all(records, self._guarded)
        found: list[Reading | Singles] = []
        rejects: list[Reject] = []
        for record in records:
            for item in self.decode(record):
                if isinstance(item, Reject):
                    rejects.append(item)
                else:
                    found.append(item)
        return found, rejects

    def encode(self, reading: Reading) -> Sequence[tuple[str, bytes]]:
        """Return a reading as messages of at most LIMIT bytes, each with its subject. Raises InputError for names it cannot hold."""
        return self._form.write(reading)

    @property
    def memory(self) -> Any:
        """What earlier records said that later ones need; None for a format that remembers nothing."""
        return self._remembering and self._remembering.memory

    def recall(self, memory: Any) -> None:
        """Go on from a memory."""
        if self._remembering:
            self._remembering.recall(memory)


def _unpacked(raw: bytes) -> bytes:
    """Return a payload within the limits, without its gzip envelope; raises RefusedError."""
    if len(raw) > LIMIT:
        raise RefusedError(Reason.TOO_LARGE, f"{len(raw)} bytes; at most {LIMIT} are taken")
    told = int.from_bytes(raw[-4:], "little")  # its last field; one that lies is found out below
    if LIMIT < told <= _DENSEST * len(raw):
        raise RefusedError(Reason.TOO_LARGE, f"{told} bytes once unpacked; at most {LIMIT} are taken")
    unpacker = zlib.decompressobj(31)
    try:
        data = unpacker.decompress(raw, LIMIT + 1)
    except zlib.error as error:
        raise RefusedError(Reason.MALFORMED, f"gzip: {error}") from None
    if len(data) > LIMIT:
        raise RefusedError(Reason.TOO_LARGE, f"more than {LIMIT} bytes once unpacked")
    if not unpacker.eof or unpacker.unused_data:
        raise RefusedError(Reason.MALFORMED, "gzip: cut short, or followed by something else")
    return data


def refusal(record: Record, reason: Reason, detail: str, raw: bytes | None = None) -> Reject:
    """Return a Reject of a record's bytes (or a part of them)."""
    told = detail[:_LONGEST_DETAIL]
    return Reject(reason, told, record.source, record.raw if raw is None else raw, record.position, "", record.headers, record.subject)


def single(asset: str, channels: tuple[str, ...], ns: int, value: float, unit: str, record: Record) -> tuple[Reading]:
    """Return one sample of one channel as a message's readings; the way that most messages take, so it is short."""
    times, values = _empty(1, _INT64), _empty((1, 1))
    times[0], values[0, 0] = ns, value
    return (Reading(asset, channels, times, values, record.position, record.arrival, (unit,) if unit else ()),)


class Faults:
    """Metrics of one message that were refused, gathered so that a message gives at most one Reject for each reason."""

    def __init__(self) -> None:
        self._found: dict[Reason, tuple[list[str], list[bytes]]] = {}  # details and parts
        self._more: Counter[Reason] | None = None  # faults that are not told

    def add(self, reason: Reason, detail: str, raw: bytes | None = None) -> None:
        """Take a fault. raw: the part of the message that it concerns, where it stands alone (a line)."""
        found = self._found.get(reason)
        if found is None:
            self._found[reason] = [detail[:_LONGEST_DETAIL]], [] if raw is None else [raw]
            return
        details, raws = found
        if len(details) < _NAMED:
            details.append(detail[:_LONGEST_DETAIL])
        else:
            self._more = self._more or Counter()
            self._more[reason] += 1
        if raw is not None and raws[-1:] != [raw]:
            raws.append(raw)

    def rejects(self, record: Record) -> list[Reject]:
        """Return them, with the whole message, or with the parts where those stand alone."""
        found: list[Reject] = []
        for reason, (details, raws) in self._found.items():
            more = f" (and {self._more[reason]} more)" if self._more and self._more[reason] else ""
            detail = "; ".join(details)[: _LONGEST_DETAIL - len(more)] + more
            found.append(refusal(record, reason, detail, b"\n".join(raws) if raws else None))
        return found


class Samples:
    """Samples of any assets gathered into readings, each asset's in the order in which they came."""

    def __init__(self) -> None:
        self._gathered: dict[str, Gatherer] = {}
        self._only: tuple[str, int, str, str, float] | None = None  # the first, while it is alone

    def add(self, asset: str, time: int, channel: str, unit: str, value: float) -> None:
        """Take a sample; time in ns UTC."""
        if not self._gathered:
            if self._only is None:
                self._only = asset, time, channel, unit, value
                return
            first = Gatherer(self._only[0])
            first.add(*self._only[1:])
            self._gathered[self._only[0]] = first
        gatherer = self._gathered.get(asset) or self._gathered.setdefault(asset, Gatherer(asset))
        gatherer.add(time, channel, unit, value)

    def readings(self, record: Record) -> list[Reading]:
        """Return them with the record's arrival and position."""
        if self._only and not self._gathered:
            asset, time, channel, unit, value = self._only
            return [*single(asset, (channel,), time, value, unit, record)]
        return [
            Reading(r.asset, r.channels, r.times, r.values, record.position, record.arrival, r.units)
            for gatherer in self._gathered.values()
            for r in gatherer.readings()
        ]


def number(text: str) -> float:
    """Return a finite number from decimal text; raises RefusedError."""
    try:
        if "_" in text or not text.isascii() or len(text) > _LONGEST_NUMBER:  # Python reads the first two as numbers
            raise ValueError(text)
        value = float(text)
    except ValueError:
        raise RefusedError(Reason.MALFORMED, f"{text[:40]!r} is not a number") from None
    if not math.isfinite(value):
        raise RefusedError(Reason.NOT_FINITE, f"{text[:40]!r} is not finite")
    return value


def few(count: int, what: str) -> None:
    """Raise RefusedError for more than MOST of what a message is made of: empty ones take next to no bytes, and as long as full ones."""
    if count > MOST:
        raise RefusedError(Reason.TOO_LARGE, f"{count} {what}; at most {MOST} are taken")


def named(name: object, what: str) -> str:
    """Return a name that can be one, else raise RefusedError."""
    if not isinstance(name, str) or not name:
        raise RefusedError(Reason.MALFORMED, f"no {what}: neither the topic nor the message names it")
    if len(name) > LONGEST_NAME:
        raise RefusedError(Reason.TOO_LARGE, f"a name of {len(name)} characters for the {what}")
    return name


def utf8(raw: bytes) -> str:
    """Return text, or raise RefusedError."""
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise RefusedError(Reason.NOT_UTF8, str(error)) from None


def pieces(reading: Reading, width: int) -> Iterator[Reading]:
    """Yield a reading in parts that fit a message. width: bytes that one number takes, at most."""
    step = max(1, (LIMIT // 2) // (width * (len(reading.channels) + 1)))
    for start in range(0, len(reading.times), step):
        part = slice(start, start + step)
        yield Reading(reading.asset, reading.channels, reading.times[part], reading.values[:, part], units=reading.units)
