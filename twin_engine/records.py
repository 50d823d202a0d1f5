"""What comes in and what goes out, as values: records, readings, rejects, events, updates, and the protocols of both ends."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal, Protocol, TypeAlias, runtime_checkable

import msgspec

from twin_engine.clock import iso, parse_iso
from twin_engine.errors import InputError
from twin_engine.ports import Float, Int, Port, Spec

Position: TypeAlias = Any  # what JSON can hold; None is the beginning


class Reason(StrEnum):
    """Why a sample or a record did not reach a twin. Every drop is counted under one of these."""

    NOT_FINITE = "not_finite"
    DUPLICATE = "duplicate"
    CONFLICT = "conflict"  # same time, another value: the first is kept
    LATE = "late"
    CLOCK_JUMP = "clock_jump"
    OFF_GRID = "off_grid"
    OUT_OF_RANGE = "out_of_range"
    QUARANTINED = "quarantined"
    WRONG_UNIT = "wrong_unit"
    UNKNOWN_CHANNEL = "unknown_channel"
    UNKNOWN_ASSET = "unknown_asset"
    MALFORMED = "malformed"
    NOT_UTF8 = "not_utf8"
    TOO_LARGE = "too_large"
    NUMERICS = "numerics"  # a row failed inside a stage and began anew
    REFUSED = "refused"  # a line that a database will never take


class Record(msgspec.Struct, frozen=True, gc=False):  # many thousands a second: made fast, and no work for the collector
    """Bytes from a broker, before a codec has read them.

    subject: where they were published (an MQTT topic, a Kafka key). position: the source's place just after them. arrival: ns UTC when
    they were logged. headers: what came beside them.
    """

    raw: bytes
    subject: str = ""
    source: str = ""
    position: Position = None
    arrival: int = 0
    headers: Mapping[str, bytes] = {}


class Reading(msgspec.Struct, frozen=True, gc=False):
    """Decoded samples of one asset.

    channels: names, ``values`` float64 ``(channel, sample)``. times: int64 ``(sample,)``, ns UTC. position: the source's place just after
    this reading. arrival: ns UTC when it was logged (0: take the newest event time, as a file replayed does). units: one a
    channel, or empty when unstated.
    """

    asset: str
    channels: tuple[str, ...]
    times: Int
    values: Float
    position: Position = None
    arrival: int = 0
    units: tuple[str, ...] = ()


class Singles(msgspec.Struct, frozen=True, gc=False):
    """Readings of one sample of one channel each, in their order: what a batch of small messages says, without an object for each.

    n assets, channels (int64, places in ``names``), times (int64, ns UTC), values (float64) and arrivals (int64, ns UTC, or 0).
    """

    assets: Sequence[str]
    names: Sequence[str]
    channels: Int
    times: Int
    values: Float
    arrivals: Int

    def reading(self, i: int) -> Reading:
        """Return the i-th."""
        names, times, values = (self.names[int(self.channels[i])],), self.times[i : i + 1], self.values[None, i : i + 1]
        return Reading(self.assets[i], names, times, values, arrival=int(self.arrivals[i]))


class Reject(msgspec.Struct, frozen=True, gc=False):  # as of records, there may be many
    """A bad input as a value: goes to the dead letter with its bytes. subject, headers: of the record that it came in, if it did."""

    reason: Reason
    detail: str
    source: str
    raw: bytes
    position: Position = None
    asset: str = ""
    headers: Mapping[str, bytes] = {}
    subject: str = ""


class Idle(msgspec.Struct, frozen=True, gc=False):
    """Nothing more is at hand: what came is acted on now, and the loop looks at its clock. At least each tenth of a second while silent."""

    position: Position = None


Item: TypeAlias = Reading | Reject | Idle


class Command(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What changes a running twin: an input with a position, in order with the data.

    kind: ``add`` an asset, ``remove`` it with its state, or ``restart`` it (its state begins anew). asset: which; ``*``: all (restart).
    """

    kind: Literal["add", "remove", "restart"]
    asset: str


COMMAND = "twin-engine-command"  # the header of a record that holds a Command as JSON
SUBJECT = "subject"  # the header with the topic that a bridge had a record from: it stands for the key
ARRIVAL = "arrival"  # the header with when the bridge had it, ns UTC: it stands for the broker's time, unless it is later


class Codec(Protocol):
    """What a message means. Never raises on what it is given: what it cannot read is a Reject that holds the bytes."""

    def decode(self, record: Record) -> Sequence[Reading | Reject]:
        """Return what a record says, in order, each item with the record's arrival and position."""
        ...

    def encode(self, reading: Reading) -> Sequence[tuple[str, bytes]]:
        """Return a reading as messages, each with its subject."""
        ...

    def decode_all(self, records: Sequence[Record]) -> tuple[list[Reading | Singles], list[Reject]]:
        """Return what ``decode`` says of records: what can be read in order, and each reject with its record."""
        ...

    @property
    def memory(self) -> Any:
        """What earlier records said that later ones need (Sparkplug's aliases), as JSON can hold it; a new object when it changes."""
        ...

    def recall(self, memory: Any) -> None:
        """Go on from a memory, which a source keeps in its position."""
        ...


@runtime_checkable
class Source(Protocol):
    """Where readings come from.

    ``live`` sources go on by themselves and cannot be replayed; others yield the same items from a position.
    """

    live: bool

    def items(self, position: Position) -> Iterator[Item]:
        """Yield what comes after the position (None: from the beginning), each item with the position after it. Ends at the end."""
        ...

    def acknowledge(self, position: Position) -> None:
        """Everything up to the position is in a saved snapshot."""
        ...

    def close(self) -> None:
        """Give back what is held."""
        ...


class Event(msgspec.Struct, frozen=True, kw_only=True, rename={"class_": "class"}):
    """Something that happened to an asset. Times are ns UTC here, ISO 8601 with ns as a JSON line.

    The id is the same whenever the same input makes the same event; the highest revision of an id wins; ``final`` says that none follows.
    channels: name -> weight in 0..1, the largest first.
    """

    id: str
    twin: str
    asset: str
    stage: str
    kind: str
    severity: str  # "info", "warning", "critical"
    start: int
    peak: int
    end: int
    score: float
    p_value: float
    channels: dict[str, float]
    revision: int = 0
    final: bool = True
    frequency: float | None = None
    bandwidth: float | None = None
    snr: float | None = None
    class_: str | None = None


EVENT_SCHEMA = 1
_TIMES = ("start", "peak", "end")


def event_line(event: Event) -> bytes:
    """Return an event as a JSON line.

    Times are ISO 8601 with ns, ``class`` is a key, what is None is left out, ``schema`` is the version of the shape.
    """
    fields = {name: value for name, value in msgspec.to_builtins(event).items() if value is not None}
    fields.update({name: iso(fields[name]) for name in _TIMES}, schema=EVENT_SCHEMA)
    return msgspec.json.encode(fields) + b"\n"


def parse_line(line: bytes) -> Event:
    """Return the event of a JSON line as ``event_line`` writes it; raises InputError. A score that JSON cannot hold reads as NaN."""
    try:
        fields = msgspec.json.decode(line, type=dict[str, Any])
        if fields.pop("schema", None) != EVENT_SCHEMA:
            raise InputError(
                "event line", expected=f"schema {EVENT_SCHEMA}", found="another", mend="Read it with the version that wrote it."
            )
        fields.update({name: parse_iso(fields[name]) for name in _TIMES})
        fields.update({name: float("nan") for name in ("score", "p_value") if fields.get(name, 0) is None})
        return msgspec.convert(fields, Event)
    except (msgspec.DecodeError, KeyError, AttributeError) as error:
        raise InputError("event line", expected="an event as JSON", found=str(error), mend="Check the file.") from None


@dataclass(frozen=True, slots=True)
class Update:
    """What one step of a fleet gave.

    outputs: ``"stage.port"`` -> block or marks; streams too under ``"stream"``. assets: name of each fleet row.
    """

    twin: str
    assets: Sequence[str]
    outputs: Mapping[str, Port]
    specs: Mapping[str, Spec]
    events: Sequence[Event] = field(default_factory=tuple)
    until: int = 0  # ns UTC, the newest event time that the step covered
    arrival: int = 0  # ns UTC, when the newest input of the step arrived


@runtime_checkable
class InputKeeper(Protocol):
    """A sink that can keep what comes in too: it is given each reading before the engine is."""

    keeps_input: bool

    def take(self, twin: str, reading: Reading) -> None:
        """Take a reading of a twin; may keep it in memory until flush."""
        ...


@runtime_checkable
class Watcher(Protocol):
    """A sink that keeps the engine's own figures too."""

    def watch(self, health: Callable[[], Mapping[str, float]]) -> None:
        """Ask for the figures at each flush: counts, dropped and rejected samples by reason, the snapshot's age in s."""
        ...


@runtime_checkable
class Telling(Protocol):
    """A source or sink with figures of its own: messages, drops by reason, what is kept while it is down. Asked by another thread too."""

    def figures(self) -> Mapping[str, float]:
        """Return them; names say whose they are."""
        ...


@runtime_checkable
class Waiting(Protocol):
    """A source that may have to wait for its server."""

    @property
    def waits(self) -> str:
        """What it waits for, empty while the server is there. Asked by another thread."""
        ...


@runtime_checkable
class Sink(Protocol):
    """Where updates go. Opened at the position of a snapshot (None: begin anew), to which a file is cut back."""

    def open(self, position: Position) -> None:
        """Get ready; raises SinkError."""
        ...

    def write(self, update: Update) -> None:
        """Take an update; may keep it in memory until flush."""
        ...

    def flush(self) -> Position:
        """Make all that was written durable and return the position after it."""
        ...

    def close(self) -> None:
        """Flush and give back what is held."""
        ...
