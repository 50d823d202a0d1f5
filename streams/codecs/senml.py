"""SenML (RFC 8428), JSON or CBOR: records whose base fields hold for those that follow.

The name of a resolved record (base name and name) says asset and channel, at its last ``/`` or ``:``; after ``urn:dev:TYPE:ID`` (RFC
9039) what follows is the channel. Where nothing follows, the channel is ``value``, or what the topic names. Times below 2**28 are
relative to the arrival. Numbers and booleans are samples; strings, data and sums are left out. A record with a field that must be
understood (it ends in ``_``), or of a version above 10, voids its pack.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from streams.codecs import cbor
from streams.codecs.base import Faults, RefusedError, Samples, few, named, pieces
from streams.codecs.pattern import Pattern, Place, Topics
from streams.codecs.when import END, exact
from streams.uri import Uri
from twin_engine.clock import iso
from twin_engine.errors import InputError
from twin_engine.records import Reading, Reason, Record, Reject

_VERSION = 10
_RELATIVE = 1 << 28  # s; RFC 8428, section 4.5.3
_WIDTH = 120  # bytes of a record
_FIELDS = ("bs", "bv", "bu", "bt", "bn", "bver", "n", "u", "v", "vs", "vb", "s", "t", "ut", "vd")  # in the order of CBOR's labels, from -6
_LABELS = dict(enumerate(_FIELDS, start=-6))
_NUMBERS = {label: number for number, label in _LABELS.items()}
_BASES = {"bn": "", "bu": "", "bt": 0, "bv": 0, "bs": 0, "bver": _VERSION}
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9\-:./_]*", re.ASCII)
_DEVICE = re.compile(r"(urn:dev:[^:]+:[^:/_]+)[:/_]?(.*)")
_SPLIT = re.compile(r"(.+)[:/](.*)")


class SenML:
    """The format. Option: form (of what is written, json or cbor)."""

    def __init__(self, pattern: Pattern, options: Uri, asset: str) -> None:
        self._topics = Topics(pattern, asset)
        self._cbor = options.choice("form", ("json", "cbor"), "json") == "cbor"

    def read(self, raw: bytes, record: Record) -> Sequence[Reading | Reject]:
        """See the module."""
        place = self._topics.known.get(record.subject) or self._topics.find(record.subject)
        samples, faults = Samples(), Faults()
        base: dict[str, Any] = dict(_BASES)
        for i, entry in enumerate(_pack(raw)):
            base.update({key: _based(key, entry[key]) for key in _BASES if key in entry})
            if base["bver"] > _VERSION or any(isinstance(key, str) and key.endswith("_") for key in entry):
                raise RefusedError(Reason.MALFORMED, "a version above 10, or a field that must be understood and is not")
            try:
                self._entry(entry, base, place, record, samples)
            except RefusedError as error:
                faults.add(error.reason, f"record {i}: {error}")
        return [*samples.readings(record), *faults.rejects(record)]

    def _entry(self, entry: Mapping[Any, Any], base: Mapping[str, Any], place: Place, record: Record, samples: Samples) -> None:
        """Take one record; raises RefusedError."""
        kinds = [key for key in ("v", "vb", "vs", "vd") if key in entry]
        if not kinds and ("s" in entry or not entry.keys() - _BASES.keys()):
            return  # a sum, or base fields alone
        asset, channel = self._names(base["bn"] + _text(entry.get("n", ""), "n"), place)
        if len(kinds) != 1:
            raise RefusedError(Reason.MALFORMED, f"{len(kinds)} values; one is meant")
        if kinds[0] == "v":
            value = _finite(_finite(entry["v"], "v") + base["bv"], "v + bv")
        elif kinds[0] == "vb" and isinstance(entry["vb"], bool):
            value = float(entry["vb"])
        elif kinds[0] == "vb":
            raise RefusedError(Reason.MALFORMED, "vb is not a boolean")
        else:
            return
        ns = _ns(base["bt"]) + _ns(_finite(entry.get("t", 0), "t"))
        if ns < _RELATIVE * 10**9:
            ns = ns + record.arrival if record.arrival > 0 else -1
        if not 0 <= ns < END:
            raise RefusedError(Reason.MALFORMED, "a time that is not within 1970 to 2200, or relative to an arrival that is not known")
        samples.add(asset, ns, channel, _text(entry.get("u", base["bu"]), "u"), value)

    def _names(self, name: str, place: Place) -> tuple[str, str]:
        """Return the asset and the channel of a resolved name; what the topic says goes before it. Raises RefusedError."""
        if name and not _NAME.fullmatch(name):
            raise RefusedError(Reason.MALFORMED, f"{name[:40]!r} is not a name")
        match = _DEVICE.fullmatch(name) or _SPLIT.fullmatch(name)
        asset, channel = (match[1], match[2]) if match else ("", name)
        if place[0] and not match:
            asset = place[0]
        elif not match:
            asset, channel = name, ""
        return named(place[0] or asset, "asset"), named(place[1][0] if place[1] else channel or "value", "channel")

    def write(self, reading: Reading) -> Sequence[tuple[str, bytes]]:
        """Return packs; samples that are missing are left out. Raises InputError for names that SenML cannot hold."""
        pattern = self._topics.pattern
        base = "" if "asset" in pattern.names else f"{reading.asset}:"
        for name in reading.channels:
            whole = base + name
            if not _NAME.fullmatch(whole) or self._names(whole, (reading.asset if not base else "", ())) != (reading.asset, name):
                raise InputError("senml", expected="names of letters, digits and - . _", found=repr(whole), mend="Name them otherwise.")
        if "channel" in pattern.names and len(reading.channels) > 1:
            parts = [
                Reading(reading.asset, (name,), reading.times, reading.values[i : i + 1], units=reading.units[i : i + 1])
                for i, name in enumerate(reading.channels)
            ]
            return [message for part in parts for message in self.write(part)]
        if len(reading.times) and int(reading.times.min()) < _RELATIVE * 10**9:
            raise InputError(
                "senml", expected="times after 1978", found=iso(int(reading.times.min())), mend="Earlier ones are relative there."
            )
        subject = pattern.format(asset=reading.asset, channel=next(iter(reading.channels)))
        return [(subject, self._packed(part, base)) for part in pieces(reading, _WIDTH) if len(part.times)]

    def _packed(self, reading: Reading, base: str) -> bytes:
        """Return one pack, times as the first whole second and seconds from it."""
        start = int(reading.times[0]) // 10**9
        head: dict[str, Any] = {"bn": base, "bt": start} if base else {"bt": start}
        records = [head]
        units = reading.units or ("",) * len(reading.channels)
        for ns, row in zip(reading.times.tolist(), reading.values.T.tolist(), strict=True):
            for name, unit, value in zip(reading.channels, units, row, strict=True):
                if math.isfinite(value):
                    records.append({"n": name, **({"u": unit} if unit else {}), "t": (ns - start * 10**9) / 10**9, "v": value})
        if self._cbor:
            return cbor.dumps([{_NUMBERS[key]: value for key, value in record.items()} for record in records])
        return msgspec.json.encode(records)


def _pack(raw: bytes) -> list[dict[Any, Any]]:
    """Return the records of a pack; raises RefusedError."""
    if raw[:1] and raw[0] >> 5 == 4:  # CBOR's arrays; JSON begins with ASCII
        pack = cbor.loads(raw)
    else:
        try:
            pack = msgspec.json.decode(raw)
        except RecursionError:
            raise RefusedError(Reason.MALFORMED, "nested too deep") from None
        except UnicodeDecodeError as error:
            raise RefusedError(Reason.NOT_UTF8, str(error)) from None
        except msgspec.DecodeError as error:
            reason = Reason.NOT_FINITE if "out of range" in str(error) or b"NaN" in raw else Reason.MALFORMED
            raise RefusedError(reason, str(error)) from None
    if not isinstance(pack, list) or not all(isinstance(entry, dict) for entry in pack):
        raise RefusedError(Reason.MALFORMED, "not an array of records")
    few(len(pack), "records")
    return [{_LABELS.get(key, key) if type(key) is int else key: value for key, value in entry.items()} for entry in pack]


def _based(key: str, value: Any) -> Any:
    """Return a base field; raises RefusedError, which voids the pack: those that follow would be wrong."""
    return _text(value, key) if key in {"bn", "bu"} else _finite(value, key)


def _text(value: Any, key: str) -> str:
    if not isinstance(value, str):
        raise RefusedError(Reason.MALFORMED, f"{key} is not text")
    return value


def _finite(value: Any, key: str) -> float:
    """Return a number; raises RefusedError."""
    if type(value) not in {int, float}:
        raise RefusedError(Reason.MALFORMED, f"{key} is not a number")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise RefusedError(Reason.NOT_FINITE, f"{key} is not finite")
    return number


def _ns(seconds: float) -> int:
    """Return ns of seconds; raises RefusedError."""
    try:
        return exact(seconds, 9)
    except ValueError as error:
        raise RefusedError(Reason.MALFORMED, str(error)) from None
