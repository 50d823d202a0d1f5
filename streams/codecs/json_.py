"""JSON: a number, ``{ts, value, unit?}``, several channels in one object, columns, or an array of such objects.

Where the topic names the channel, a message is a number (its time is that of its arrival) or an object with a value. Where it does not,
an object has ``values``, or a ``channel`` and a value, or else each of its fields but the time is a channel. ``ts`` and the values may be
arrays of one length. null is a missing sample; a text among other fields is no sample and is left out; a boolean is 0 or 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, cast

import msgspec
import numpy as np

from streams.codecs.base import LIMIT, Faults, Read, RefusedError, Samples, few, named, pieces, refusal, single, utf8
from streams.codecs.pattern import Pattern, Place, Topics
from streams.codecs.when import Times
from streams.uri import Uri
from twin_engine.ports import Int
from twin_engine.records import Reading, Reason, Record, Reject, Singles

OPTIONS = ("unit", "time", "value", "asset")
_WIDTH = 40  # bytes of a number or a time with its comma
_TIMELESS = "no time, neither in the message nor of its arrival"
_NUMBERS = {int, float, bool, type(None)}
_TIMES = {int, float}
_NOWHERE: Place = ("", ())
_number = msgspec.json.Decoder(float).decode
_DEEP = b"[" * 32  # no form has that, and the decoder's own limit costs as much as a hundred messages
_BAD = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class _Plain:
    """Plain messages that are read together. channels: places in ``names``, or none where all are of the first."""

    def __init__(self) -> None:
        self.assets: list[str] = []
        self.names: dict[str, int] = {}
        self.channels: list[int] = []
        self.times: list[float] = []
        self.values: list[float] = []
        self.arrivals: list[int] = []

    def add(self, asset: str, channels: tuple[str, ...], sample: Any, arrival: int) -> None:
        """Take one."""
        self.assets.append(asset)
        self.times.append(sample.ts)
        self.values.append(sample.value)
        self.arrivals.append(arrival)
        if channels:
            self.channels.append(self.place(channels[0]))

    def place(self, channel: str) -> int:
        """Return the place of a name."""
        return self.names.setdefault(channel, len(self.names))

    def among(self, others: list[tuple[int, Reading]], times: Times, channel: str) -> list[Reading | Singles]:
        """Return what they say, and among it readings, each with how many plain ones come before it. channel: where none is named."""
        if not self.channels:
            self.channels = [self.place(channel)] * len(self.assets)
        ns = times.many(self.times)
        alike, rest = list[tuple[int, Reading]](), list[tuple[int, Reading]]()
        for before, reading in others:
            if reading.values.size == 1 and not reading.units:
                alike.append((before, reading))
            else:
                rest.append((before + len(alike), reading))
        if alike:  # each apart would cut the rest in two
            for before, reading in reversed(alike):
                self.assets.insert(before, reading.asset)
                self.channels.insert(before, self.place(reading.channels[0]))
                self.values.insert(before, reading.values[0, 0])
                self.arrivals.insert(before, reading.arrival)
            ns = np.insert(ns, [before for before, _ in alike], [reading.times[0] for _, reading in alike])
        channels, arrivals, values = np.array(self.channels, np.int64), np.array(self.arrivals, np.int64), np.array(self.values, np.float64)
        found: list[Reading | Singles] = []
        done, names = 0, list(self.names)

        def up_to(end: int) -> None:
            if end > done:
                part = slice(done, end)
                found.append(Singles(self.assets[part], names, channels[part], ns[part], values[part], arrivals[part]))

        for before, reading in rest:
            up_to(before)
            done = before
            found.append(reading)
        up_to(len(self.assets))
        return found


class Json:
    """The format. Options: unit (of numbers that are times, s), and the fields' names: time (ts), value, asset."""

    def __init__(self, pattern: Pattern, options: Uri, asset: str) -> None:
        self._topics = Topics(pattern, asset)
        self._times = Times(options.options.get("unit", "s"), options.text)
        self._time, self._value, self._asset = (
            options.options.get(name, default) for name, default in (("time", "ts"), ("value", "value"), ("asset", "asset"))
        )
        fields: Any = [("value", float), ("ts", int | float | str | None, None), ("unit", str, ""), ("asset", str, "")]
        rename = {"ts": self._time, "value": self._value, "asset": self._asset}
        kind: Any = msgspec.defstruct("Sample", fields, rename=rename)
        self._decode, self._decode_series = msgspec.json.Decoder(kind).decode, msgspec.json.Decoder(list[kind]).decode
        lone: Any = msgspec.defstruct("Lone", fields[:2], rename=rename, forbid_unknown_fields=True)
        self._decode_lone, self._lone = msgspec.json.Decoder(lone).decode, (self._value,)
        self._rest = {self._time, self._asset, "unit", "units", "channel", "values"}

    def read(self, raw: bytes, record: Record) -> Sequence[Reading | Reject]:
        """See the module."""
        asset, channels = self._topics.known.get(record.subject) or self._topics.find(record.subject)
        if not raw.isascii():
            utf8(raw)
        ns, unit = record.arrival, ""
        try:
            if not channels:
                sample: Any = self._decode_lone(raw)
                value, channels = sample.value, self._lone
                if sample.ts is not None:
                    ns = self._times.one(sample.ts)
            elif raw[:1] == b"{":
                sample = self._decode(raw)
                value, unit, asset = sample.value, sample.unit, asset or named(sample.asset, "asset")
                if sample.ts is not None:
                    ns = self._times.one(sample.ts)
            elif raw[:1] == b"[":
                return self._series(raw, record, asset, channels) or self._any(raw, record, asset, channels[0])
            else:
                value = _number(raw)
        except _BAD as error:
            if type(error) is msgspec.DecodeError:
                return [refusal(record, *_fault(raw, str(error)))]
            return self._read_any(raw, record)
        except ValueError as error:
            return [refusal(record, Reason.MALFORMED, str(error))]
        if ns <= 0:
            return [refusal(record, Reason.MALFORMED, _TIMELESS)]
        return single(asset or named("", "asset"), channels, ns, value, unit, record)

    def _read_any(self, raw: bytes, record: Record) -> Sequence[Reading | Reject]:
        """As ``read``, by the long way."""
        asset, channels = self._topics.known.get(record.subject) or self._topics.find(record.subject)
        return self._any(raw, record, asset, channels[0] if channels else "")

    def read_all(
        self, records: Sequence[Record], guarded: Callable[[Record, Read], Sequence[Reading | Reject]]
    ) -> tuple[list[Reading | Singles], list[Reject]]:
        """Return what records say; plain messages, a value and a time as a number, are read together."""
        plain, odd = _Plain(), list[tuple[int, Record, Read, str]]()
        place, lone, several, (first, last) = self._topics.known.get, self._decode_lone, self._decode, self._times.plain
        for record in records:
            read, fault, raw, (asset, channels) = self.read, "", record.raw, place(record.subject) or self._place(record.subject)
            if asset and raw[:1] == b"{" and len(raw) <= LIMIT and raw.isascii():
                try:
                    sample: Any = several(raw) if channels else lone(raw)
                except _BAD as error:
                    read, fault = self._read_any, str(error) if type(error) is msgspec.DecodeError else ""
                else:
                    if type(sample.ts) in _TIMES and first < sample.ts < last and not (channels and sample.unit):
                        plain.add(asset, channels, sample, record.arrival)
                        continue
            odd.append((len(plain.assets), record, read, fault))
        others, rejects = list[tuple[int, Reading]](), list[Reject]()
        for before, record, read, fault in odd:  # one after the other: what is seldom done takes several times as long alone
            if fault:  # no JSON at all
                rejects.append(refusal(record, *_fault(record.raw, fault)))
                continue
            for item in guarded(record, read):
                if isinstance(item, Reject):
                    rejects.append(item)
                else:
                    others.append((before, item))
        return plain.among(others, self._times, self._value), rejects

    def _place(self, topic: str) -> Place:
        """Return what a topic names that was not seen before, nothing where it is refused."""
        try:
            return self._topics.find(topic)
        except RefusedError:
            return _NOWHERE

    def _series(self, raw: bytes, record: Record, asset: str, channels: tuple[str, ...]) -> Sequence[Reading]:
        """Return an array of samples of one channel and unit by the short way, or nothing where one of them is not as it should be."""
        try:
            found: Any = self._decode_series(raw)
            times = self._times.many([sample.ts for sample in found])
        except (*_BAD, ValueError):
            return ()
        units = {sample.unit for sample in found}
        if len(units) != 1 or not asset:
            return ()
        values = np.array([[sample.value for sample in found]])
        return (Reading(asset, channels, times, values, record.position, record.arrival, tuple(filter(None, units))),)

    def _any(self, raw: bytes, record: Record, asset: str, channel: str) -> Sequence[Reading | Reject]:
        """Return what any of the forms says."""
        found = _loads(raw)
        if isinstance(found, int | float) and not isinstance(found, bool):
            found = {self._value: found} if channel else None
        faults = Faults()
        if isinstance(found, dict):
            return [*self._object(found, record, asset, channel, faults), *faults.rejects(record)]
        if not isinstance(found, list):
            raise RefusedError(Reason.MALFORMED, "neither an object nor an array of objects" + (", nor a number" if channel else ""))
        few(len(found), "objects")
        samples = Samples()
        for i, entry in enumerate(found):
            if not isinstance(entry, dict):
                faults.add(Reason.MALFORMED, f"[{i}] is not an object")
                continue
            for reading in self._object(entry, record, asset, channel, faults):
                units = reading.units or ("",) * len(reading.channels)
                for k, ns in enumerate(reading.times.tolist()):
                    for name, unit, value in zip(reading.channels, units, reading.values[:, k].tolist(), strict=True):
                        samples.add(reading.asset, ns, name, unit, value)
        return [*samples.readings(record), *faults.rejects(record)]

    def _object(self, entry: Mapping[str, Any], record: Record, asset: str, channel: str, faults: Faults) -> Sequence[Reading]:
        """Return the reading of one object, or none where its faults leave nothing."""
        try:
            asset = asset or named(entry.get(self._asset), "asset")
            times, samples = self._when(entry.get(self._time), record)
            columns, units = self._columns(entry, channel)
        except RefusedError as error:
            faults.add(error.reason, str(error))
            return ()
        rows: dict[str, list[float]] = {}
        for name, value in columns:
            try:
                rows[named(name, "channel")] = _row(value, samples)
            except RefusedError as error:
                faults.add(error.reason, f"{name[:80]}: {error}")
        if not rows or not len(times):
            return ()
        said = tuple(units.get(name, "") for name in rows)
        values = np.array(list(rows.values()), np.float64)
        return (
            Reading(asset, tuple(rows), np.asarray(times, np.int64), values, record.position, record.arrival, said if any(said) else ()),
        )

    def _when(self, value: Any, record: Record) -> tuple[Int | list[int], int | None]:
        """Return times, and how many samples an array has that goes with them (None: values are single). Raises RefusedError."""
        try:
            if isinstance(value, list):
                times = self._times.many(cast("list[Any]", value))
                return times, len(times)
            ns = record.arrival if value is None else self._times.one(value)
        except ValueError as error:
            raise RefusedError(Reason.MALFORMED, str(error)) from None
        if ns <= 0:
            raise RefusedError(Reason.MALFORMED, _TIMELESS)
        return [ns], None

    def _columns(self, entry: Mapping[str, Any], channel: str) -> tuple[Iterable[tuple[str, Any]], Mapping[str, str]]:
        """Return the channels of an object with what they hold, and their units; raises RefusedError."""
        one = channel or entry.get("channel")
        if one is not None:
            if self._value not in entry:
                raise RefusedError(Reason.MALFORMED, f"no field {self._value!r}")
            unit = entry.get("unit")
            return [(named(one, "channel"), entry[self._value])], {one: unit} if isinstance(unit, str) else {}
        units = entry.get("units")
        units = {k: v for k, v in units.items() if isinstance(v, str)} if isinstance(units, dict) else {}
        values = entry.get("values")
        if isinstance(values, dict):
            return cast("dict[str, Any]", values).items(), units
        columns = [(k, v) for k, v in entry.items() if k not in self._rest and not isinstance(v, str | dict)]
        if not columns:
            raise RefusedError(Reason.MALFORMED, "no field that is a number")
        return columns, units or ({self._value: entry["unit"]} if isinstance(entry.get("unit"), str) else {})

    def write(self, reading: Reading) -> Sequence[tuple[str, bytes]]:
        """Return a message for each channel where the topic names it, else one for all; of one sample, or of columns."""
        pattern, messages = self._topics.pattern, list[tuple[str, bytes]]()
        for part in pieces(reading, _WIDTH):
            stamps = [self._times.write(ns) for ns in part.times.tolist()]
            rows = [[value if math.isfinite(value) else None for value in row] for row in part.values.tolist()]
            single = len(stamps) == 1
            ts, columns = (stamps[0], [row[0] for row in rows]) if single else (stamps, rows)
            head = {self._time: ts} if "asset" in pattern.names else {self._asset: reading.asset, self._time: ts}
            units = part.units or ("",) * len(part.channels)
            if "channel" in pattern.names:
                for name, column, unit in zip(part.channels, columns, units, strict=True):
                    body = {**head, self._value: column, **({"unit": unit} if unit else {})}
                    messages.append((pattern.format(asset=reading.asset, channel=name), msgspec.json.encode(body)))
            else:
                said = {name: unit for name, unit in zip(part.channels, units, strict=True) if unit}
                body = {**head, "values": dict(zip(part.channels, columns, strict=True)), **({"units": said} if said else {})}
                messages.append((pattern.format(asset=reading.asset), msgspec.json.encode(body)))
        return messages


def _loads(raw: bytes) -> Any:
    """Return any JSON; raises RefusedError."""
    try:
        if raw.startswith(_DEEP):
            raise RecursionError
        return msgspec.json.decode(raw)
    except RecursionError:
        raise RefusedError(Reason.MALFORMED, "nested too deep") from None
    except UnicodeDecodeError as error:
        raise RefusedError(Reason.NOT_UTF8, str(error)) from None
    except msgspec.DecodeError as error:
        raise RefusedError(*_fault(raw, str(error))) from None


def _fault(raw: bytes, told: str) -> tuple[Reason, str]:
    """Return reason and detail for what is no JSON. told: what the decoder said."""
    endless = "out of range" in told or b"NaN" in raw or b"Infinity" in raw  # which JSON does not have
    return Reason.NOT_FINITE if endless else Reason.MALFORMED, told


def _row(value: Any, samples: int | None) -> list[float]:
    """Return what one channel holds, null as NaN. samples: None for a single value. Raises RefusedError."""
    if samples is None:
        value = [value]
    elif not isinstance(value, list):
        raise RefusedError(Reason.MALFORMED, "a single value beside an array of times")
    elif len(value) != samples:
        raise RefusedError(Reason.MALFORMED, f"{len(value)} values beside {samples} times")
    if not set(map(type, value)) <= _NUMBERS:
        raise RefusedError(Reason.MALFORMED, "not a number" if samples is None else "not all of them numbers")
    return [math.nan if v is None else v for v in value]
