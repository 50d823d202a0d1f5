"""InfluxDB's line protocol: ``measurement,tag=value field=1.5,other=2i 1465839830100400200``, many lines a message.

The asset is a tag (else the subject names it), each field that is a number or a boolean a channel; fields that are strings are no samples
and are left out. A line without a time is of its arrival. A bad line is rejected alone, a bad field of a line too.
https://docs.influxdata.com/influxdb/v2/reference/syntax/line-protocol/
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence

from streams.codecs.base import LONGEST_NAME, Faults, RefusedError, Samples, few, named, number, pieces, utf8
from streams.codecs.pattern import Pattern, Topics
from streams.codecs.when import Times
from streams.uri import Uri
from twin_engine.errors import InputError
from twin_engine.records import Reading, Reason, Record, Reject

_LIMIT = 1 << 16  # series kept
_WIDTH = 80  # bytes of a field
_LINE = re.compile(r'((?:\\.|[^\\ ])++) ++((?:"(?:\\.|[^"\\])*+"|\\.|[^"\\ ])++)(?: ++(\S++))?+ *+', re.DOTALL)
_PART = re.compile(r"(?:\\.|[^\\,])++", re.DOTALL)
_FIELD = re.compile(r'((?:\\.|[^\\,="])++)=((?:"(?:\\.|[^"\\])*+"|[^",])++)(?:,|\Z)', re.DOTALL)
_ESCAPED = re.compile(r"\\([ ,=\\])")
_TRUE, _FALSE = {"t", "T", "true", "True", "TRUE"}, {"f", "F", "false", "False", "FALSE"}
_INTEGER = re.compile(r"-?\d{1,20}", re.ASCII)


class LineProtocol:
    """The format. Options: asset (the tag that names it, asset), unit (of times, ns), measurement (of what is written).

    name: how a channel is called, of ``{field}``, ``{measurement}`` and tags, ``{measurement}.{field}`` for one; default the field.
    """

    def __init__(self, pattern: Pattern, options: Uri, asset: str) -> None:
        said = options.options
        self._topics = Topics(pattern, asset)
        self._times = Times(said.get("unit", "ns"), options.text)
        self._tag, self._name, self._measurement = said.get("asset", "asset"), said.get("name", "{field}"), said.get("measurement", "twin")
        self._series: dict[str, tuple[str, Mapping[str, str]]] = {}

    def read(self, raw: bytes, record: Record) -> Sequence[Reading | Reject]:
        """See the module."""
        asset, _ = self._topics.known.get(record.subject) or self._topics.find(record.subject)
        samples, faults = Samples(), Faults()
        few(raw.count(b"\n"), "lines")
        for line in raw.split(b"\n"):
            if not line.strip() or line.startswith(b"#"):
                continue
            try:
                self._line(line, record, asset, samples, faults)
            except RefusedError as error:
                faults.add(error.reason, str(error), line)
        return [*samples.readings(record), *faults.rejects(record)]

    def _line(self, line: bytes, record: Record, asset: str, samples: Samples, faults: Faults) -> None:
        """Take the samples of one line; raises RefusedError for all of it."""
        match = _LINE.fullmatch(utf8(line.removesuffix(b"\r")).lstrip(" "))
        if not match:
            raise RefusedError(Reason.MALFORMED, "not measurement,tags fields time")
        head, fields, stamp = match.groups()
        said, tags = self._series.get(head) or self._learn(head)
        asset = asset or named(said, f"tag {self._tag!r} for the asset")
        try:
            ns = record.arrival if stamp is None else self._times.text(stamp)
        except ValueError as error:
            raise RefusedError(Reason.MALFORMED, str(error)) from None
        if ns <= 0:
            raise RefusedError(Reason.MALFORMED, "no time, neither in the line nor of its arrival")
        place = 0
        while place < len(fields):
            part = _FIELD.match(fields, place)
            if not part:
                raise RefusedError(Reason.MALFORMED, f"fields from {fields[place : place + 40]!r} are not key=value")
            place = part.end()
            try:
                value = _value(part[2])
                if value is not None:
                    samples.add(asset, ns, self._channel(part[1], tags), "", value)
            except RefusedError as error:
                faults.add(error.reason, f"{part[1][:80]}: {error}", line)

    def _learn(self, head: str) -> tuple[str, Mapping[str, str]]:
        """Return the asset (or ``""``) and the tags of a series, with its measurement; raises RefusedError."""
        parts = _PART.findall(head)
        if ",".join(parts) != head:
            raise RefusedError(Reason.MALFORMED, f"{head[:40]!r} is not measurement,key=value,...")
        measurement, *pairs = parts
        tags = {"measurement": _plain(measurement)}
        for pair in pairs:
            key, equals, value = _cut(pair)
            if not (key and equals and value):
                raise RefusedError(Reason.MALFORMED, f"tag {pair[:40]!r} is not key=value")
            tags[_plain(key)] = _plain(value)
        found = tags.get(self._tag, ""), tags
        if len(self._series) >= _LIMIT:
            self._series.clear()
        if len(head) <= LONGEST_NAME:
            self._series[head] = found
        return found

    def _channel(self, field: str, tags: Mapping[str, str]) -> str:
        """Return what a field is called."""
        field = _plain(field)
        if self._name != "{field}":
            field = re.sub(r"\{(\w+)\}", lambda m: field if m[1] == "field" else tags.get(m[1], ""), self._name)
        return named(field, "channel")

    def write(self, reading: Reading) -> Sequence[tuple[str, bytes]]:
        """Return messages of a line a sample; samples that are missing are left out."""
        subject = self._topics.pattern.format(asset=reading.asset)
        for name in (reading.asset, *reading.channels):
            if not name or "\n" in name or "\\" in name or '"' in name:
                raise InputError("line protocol", expected="names without line ends, quotes and backslashes", found=repr(name))
        head = f"{_escaped(self._measurement)},{_escaped(self._tag)}={_escaped(reading.asset)} "
        keys = [_escaped(name) for name in reading.channels]
        messages: list[tuple[str, bytes]] = []
        for part in pieces(reading, _WIDTH):
            lines: list[str] = []
            for ns, row in zip(part.times.tolist(), part.values.T.tolist(), strict=True):
                fields = ",".join(f"{key}={value!r}" for key, value in zip(keys, row, strict=True) if math.isfinite(value))
                if fields:
                    lines.append(f"{head}{fields} {self._times.whole(ns)}")
            if lines:
                messages.append((subject, "\n".join(lines).encode()))
        return messages


def _cut(pair: str) -> tuple[str, str, str]:
    """Return what is before and behind the first ``=`` that is not escaped."""
    match = re.match(r"((?:\\.|[^\\=])*+)(=?)(.*)", pair, re.DOTALL)
    return (match[1], match[2], match[3]) if match else ("", "", "")


def _plain(text: str) -> str:
    """Return a key or a tag without its escapes."""
    return _ESCAPED.sub(r"\1", text) if "\\" in text else text


def _escaped(text: str) -> str:
    """Return a key or a tag with escapes."""
    return re.sub(r"([ ,=])", r"\\\1", text)


def _value(text: str) -> float | None:
    """Return a field's number, None for a string; raises RefusedError."""
    if text[0] == '"':
        if len(text) > 1 and text[-1] == '"':
            return None
        raise RefusedError(Reason.MALFORMED, "a string that does not end")
    if text[-1] in "iu":
        if not _INTEGER.fullmatch(text, 0, len(text) - 1):
            raise RefusedError(Reason.MALFORMED, f"{text[:40]!r} is not an integer")
        return float(text[:-1])
    if text in _TRUE:
        return 1.0
    return 0.0 if text in _FALSE else number(text)
