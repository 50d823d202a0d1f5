"""InfluxDB's line protocol, written directly: a block of points at a time, never a point object.

``measurement,tag=value field=1.5,other="text" 1700000000000000000``, as in
https://docs.influxdata.com/influxdb/v2/reference/syntax/line-protocol/.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import msgspec
import numpy as np

from twin_engine.ports import Bool, Float, Int

LINES = 5000  # in a batch at most

_encoder = msgspec.json.Encoder()


class Batch(NamedTuple):
    """Lines, each ended by a newline, and how many there are."""

    lines: int
    data: bytes


def _escaped(text: str, special: str) -> str:
    """Return a name with a backslash before each special character; what could end the name or the line early is told otherwise."""
    text = text.replace("\n", " ").replace("\r", " ").replace("\t", " ")
    text = text.rstrip("\\") + "/" * (len(text) - len(text.rstrip("\\")))  # a last backslash would swallow what follows
    for character in special:
        text = text.replace(character, f"\\{character}")
    return text


def name(text: str) -> str:
    """Return a tag key, tag value or field key as the protocol writes it."""
    return _escaped(text, ",= ")


def string(text: str) -> str:
    """Return a string field's value, in quotes."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", " ").replace("\r", " ") + '"'


def head(measurement: str, tags: Mapping[str, str]) -> bytes:
    """Return what comes before the fields: measurement and tags, sorted by key, those that are empty left out."""
    written = "".join(f",{name(key)}={name(value)}" for key, value in sorted(tags.items()) if value)
    return f"{_escaped(measurement, ', ')}{written} ".encode()


def number(value: float) -> str:
    """Return a float field's value, the shortest text that reads back as the same float64."""
    return _encoder.encode(float(value)).decode()


def batches(heads: Sequence[bytes], fields: Sequence[str], values: Float, valid: Bool, times: Int) -> Iterator[Batch]:
    """Yield points as lines, at most ``LINES`` a batch, in order where all is valid, else those with the same fields together.

    heads: of each point. fields: their names. values, valid: ``(point, field)``; a field that is not valid, or not finite, is left out,
    and so is a point that has no other. times: int64 ``(point,)``, ns UTC.
    """
    valid = valid & np.isfinite(values)
    keys = [f"{name(field)}=".encode() for field in fields]
    if valid.all():
        groups = [(list(range(len(keys))), np.arange(len(times)))]
    else:
        patterns, which = np.unique(valid, axis=0, return_inverse=True)
        groups = [(np.flatnonzero(p).tolist(), np.flatnonzero(which.ravel() == k)) for k, p in enumerate(patterns)]
    for columns, points in groups:
        for first in range(0, len(points) if columns else 0, LINES):
            at = points[first : first + LINES]
            yield Batch(len(at), _lines([heads[i] for i in at.tolist()], [keys[c] for c in columns], values[at][:, columns], times[at]))


def _lines(heads: list[bytes], keys: list[bytes], values: Float, times: Int) -> bytes:
    """Return points that all have the same fields as lines. The pieces of all lines are put in their places, and joined once."""
    n, width = len(heads), 2 * len(keys) + 4
    pieces = [b""] * (n * width)
    pieces[0::width] = heads
    for i, key in enumerate(keys):
        pieces[1 + 2 * i :: width] = [key if i == 0 else b"," + key] * n
        pieces[2 + 2 * i :: width] = _encoder.encode(values[:, i].tolist())[1:-1].split(b",")
    pieces[width - 3 :: width] = [b" "] * n
    pieces[width - 2 :: width] = _encoder.encode(times.tolist())[1:-1].split(b",")
    pieces[width - 1 :: width] = [b"\n"] * n
    return b"".join(pieces)
