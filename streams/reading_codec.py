"""Readings as bytes (MessagePack), for a spool on disk before a sink that keeps the input."""

from __future__ import annotations

import msgspec
import numpy as np

from twin_engine.records import Reading


class _Reading(msgspec.Struct, array_like=True):
    """A reading and its twin: arrays as little-endian bytes."""

    twin: str
    asset: str
    channels: tuple[str, ...]
    times: bytes
    values: bytes
    arrival: int
    units: tuple[str, ...]


_decoder = msgspec.msgpack.Decoder(_Reading)


def encode_reading(twin: str, reading: Reading) -> bytes:
    """Return a reading of a twin as bytes, its position left out: a sink has its own."""
    values = np.ascontiguousarray(reading.values, "<f8").tobytes()
    times = reading.times.astype("<i8").tobytes()
    record = _Reading(twin, reading.asset, tuple(reading.channels), times, values, reading.arrival, tuple(reading.units))
    return msgspec.msgpack.encode(record)


def decode_reading(data: bytes) -> tuple[str, Reading]:
    """Return the twin and the reading; raises ``msgspec.DecodeError``."""
    record = _decoder.decode(data)
    times = np.frombuffer(record.times, "<i8")
    values = np.frombuffer(record.values, "<f8").reshape(len(record.channels), len(times))
    return record.twin, Reading(record.asset, record.channels, times, values, None, record.arrival, record.units)
