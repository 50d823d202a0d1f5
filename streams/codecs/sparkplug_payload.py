"""The payload of Sparkplug B as a value. Names of fields and numbers of types are those of ``sparkplug_b.proto`` (Eclipse Tahu)."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from typing import NamedTuple

from streams.codecs.base import Faults, RefusedError, few, named, utf8
from streams.codecs.protobuf import BYTES, FIXED32, FIXED64, VARINT, chunk, double, fields, varint
from twin_engine.records import Reason

INTEGERS = {1: 8, 2: 16, 3: 32, 4: 64}  # signed types -> bits
NUMBERS = range(1, 12)  # Int8 ... Boolean
DOUBLE, UINT64 = 10, 8
_WIRES = {1: BYTES, 2: VARINT, 3: VARINT, 4: VARINT, 7: VARINT, 9: BYTES, 10: VARINT, 11: VARINT, 12: FIXED32, 13: FIXED64, 14: VARINT}


class Metric(NamedTuple):
    """One metric.

    name, alias, timestamp (ms), datatype (0): as said, or not. value: a number, None for text and the like; integer: as it stood, where it
    was one. null: said to be.
    """

    name: str = ""
    alias: int | None = None
    timestamp: int | None = None
    datatype: int = 0
    value: float | None = None
    integer: int | None = None
    null: bool = False
    unit: str = ""


class Payload(NamedTuple):
    """A payload: timestamp (ms), seq (0 when it is not there, as protobuf writes no zeros), the metrics that could be read."""

    timestamp: int | None
    seq: int
    metrics: list[Metric]


def read_payload(raw: bytes, faults: Faults) -> Payload:
    """Return a payload; raises RefusedError where its frame is broken. A metric that cannot be read is a fault of its own."""
    timestamp, seq, count, metrics = None, 0, 0, list[Metric]()
    for number, wire, value in fields(raw):
        if number == 1 and wire == VARINT and isinstance(value, int):
            timestamp = value
        elif number == 3 and wire == VARINT and isinstance(value, int):
            seq = value
        elif number == 2 and isinstance(value, bytes) and wire == BYTES:
            count += 1
            few(count, "metrics")
            try:
                metrics.append(_metric(value))
            except RefusedError as error:
                faults.add(error.reason, f"metric {count}: {error}")
        elif number <= 3:
            raise RefusedError(Reason.MALFORMED, f"field {number} of wire type {wire}")
    if seq > 255:
        raise RefusedError(Reason.MALFORMED, f"seq {seq}; 0 to 255 is meant")
    return Payload(timestamp, seq, metrics)


def _metric(raw: bytes) -> Metric:
    """Return one metric; raises RefusedError."""
    said: dict[int, int | bytes] = {}
    for number, wire, part in fields(raw):
        if wire != _WIRES.get(number, wire):
            raise RefusedError(Reason.MALFORMED, f"field {number} of wire type {wire}")
        said[number] = part

    def whole(number: int) -> int | None:
        value = said.get(number)
        return value if isinstance(value, int) else None

    value: float | None = None
    for number, convert in _CONVERT.items():
        bits = whole(number)
        if bits is not None:
            value = convert(bits)
    null = bool(said.get(7))
    if value is not None and not math.isfinite(value) and not null:
        raise RefusedError(Reason.NOT_FINITE, f"{value} is not finite")
    name, properties = said.get(1, b""), said.get(9, b"")
    return Metric(
        utf8(name) if isinstance(name, bytes) and name else "",
        whole(2), whole(3), whole(4) or 0, value, whole(10) if 10 in said else whole(11), null,
        _unit(properties) if isinstance(properties, bytes) and properties else "",
    )  # fmt: skip


def _float(bits: int) -> float:
    return float(struct.unpack("<f", bits.to_bytes(4, "little"))[0])


def _double(bits: int) -> float:
    return float(struct.unpack("<d", bits.to_bytes(8, "little"))[0])


_CONVERT: dict[int, Callable[[int], float]] = {10: float, 11: float, 12: _float, 13: _double, 14: lambda bit: float(bool(bit))}


def _unit(raw: bytes) -> str:
    """Return the property ``engUnit`` of a metric, or ``""``; raises RefusedError."""
    keys, values = list[bytes](), list[bytes]()
    for number, _, value in fields(raw):
        if isinstance(value, bytes):
            (keys if number == 1 else values).append(value)
    for key, value in zip(keys, values, strict=False):
        if key == b"engUnit":
            text = next((part for number, _, part in fields(value) if number == 8 and isinstance(part, bytes)), b"")
            return utf8(text)[:64]
    return ""


def number_of(metric: Metric, datatype: int) -> float | None:
    """Return a metric's number as its type says it (signed integers come as two's complement), NaN for null, None where it has none."""
    if metric.null:
        return math.nan
    bits = INTEGERS.get(datatype)
    if bits and metric.integer is not None:
        low = metric.integer & (1 << bits) - 1
        return float(low - (1 << bits) if low >> bits - 1 else low)
    return metric.value


def write_metric(metric: Metric) -> bytes:
    """Return a metric whose value is an unsigned integer, a double, or null."""
    parts = [chunk(1, metric.name.encode())] if metric.name else []
    parts += [varint(number, value) for number, value in ((2, metric.alias), (3, metric.timestamp)) if value is not None]
    if metric.datatype:
        parts.append(varint(4, metric.datatype))
    if metric.unit:
        parts.append(chunk(9, chunk(1, b"engUnit") + chunk(2, varint(1, 12) + chunk(8, metric.unit.encode()))))
    if metric.integer is not None:
        parts.append(varint(11, metric.integer))
    elif metric.value is None or not math.isfinite(metric.value):
        parts.append(varint(7, 1))
    else:
        parts.append(double(13, metric.value))
    return b"".join(parts)


def write_payload(payload: Payload) -> bytes:
    """Return a payload as bytes."""
    stamp = b"" if payload.timestamp is None else varint(1, payload.timestamp)
    return stamp + b"".join(chunk(2, write_metric(metric)) for metric in payload.metrics) + varint(3, payload.seq)


def numeric(metrics: list[Metric], faults: Faults) -> list[Metric]:
    """Return those of a birth's metrics that are channels: numbers, with a name, none of the protocol's own."""
    found: list[Metric] = []
    for metric in metrics:
        try:
            named(metric.name, "metric")
        except RefusedError as error:
            faults.add(error.reason, str(error))
            continue
        own = metric.name == "bdSeq" or metric.name.startswith(("Node Control/", "Device Control/"))
        if not own and (metric.datatype in NUMBERS or (not metric.datatype and metric.value is not None)):
            found.append(metric)
    return found
