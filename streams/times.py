"""Times from outside: ISO 8601 text, or numbers in a stated unit. The unit is never guessed from the size of a number."""

from __future__ import annotations

from decimal import ROUND_HALF_EVEN, Decimal, InvalidOperation
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streams.uri import nearest
from twin_engine.clock import gps_to_ns, parse_iso
from twin_engine.errors import InputError
from twin_engine.ports import Int

DIGITS = {"s": 9, "ms": 6, "us": 3, "ns": 0, "gps": 9}  # decimal places of the unit down to a nanosecond
_LARGEST = 2**63 - 1


def check_unit(unit: str, place: str) -> str:
    """Return the unit if it is one of ``iso``, ``s``, ``ms``, ``us``, ``ns`` and ``gps`` (seconds), else raise InputError."""
    if unit not in DIGITS and unit != "iso":
        raise InputError(place, expected="unit=iso, s, ms, us, ns or gps", found=unit, mend=nearest(unit, [*DIGITS, "iso"]))
    return unit


def from_text(text: str, unit: str) -> int:
    """Return ns UTC of one time; raises ValueError. unit ``""``: ISO, or seconds when it is a number."""
    text = text.strip()
    if unit not in {"", "iso"}:
        return _exact(text, unit)
    if not unit:
        try:
            return _exact(text, "s")
        except ValueError:
            pass
    return _iso(text)


def _iso(text: str) -> int:
    """Return ns UTC of an ISO time; raises ValueError."""
    try:
        ns = parse_iso(text)
    except InputError:
        raise ValueError(f"{text!r} is not a time") from None
    if abs(ns) > _LARGEST:
        raise ValueError(f"{text!r} is out of range")
    return ns


def _exact(text: str, unit: str) -> int:
    """Return ns UTC of a decimal number, without going through a float."""
    try:
        number = Decimal(text)
        if number.adjusted() > 20:  # else 1e999999 is written out digit by digit
            raise ValueError(text)
        ns = int(number.scaleb(DIGITS[unit]).to_integral_value(ROUND_HALF_EVEN))
    except (InvalidOperation, OverflowError, ValueError):
        raise ValueError(f"{text!r} is not a time") from None
    if abs(ns) > _LARGEST:
        raise ValueError(f"{text!r} is out of range; is the unit {unit} right?")
    return gps_to_ns(ns) if unit == "gps" else ns


def from_gps(gps_ns: Int) -> Int:
    """Return ns UTC of GPS times in ns, int64 ``(sample,)``."""
    if not len(gps_ns):
        return gps_ns
    low, high = int(gps_ns.min()), int(gps_ns.max())
    step = gps_to_ns(low) - low
    if gps_to_ns(high) - high == step:
        return gps_ns + step
    return np.array([gps_to_ns(int(t)) for t in gps_ns], np.int64)


def from_numbers(array: NDArray[Any], unit: str, place: str) -> Int:
    """Return ns UTC, int64, of an array of ``datetime64`` or of numbers in ``unit`` (see check_unit). Raises InputError."""
    if array.dtype.kind == "M":
        return array.astype("datetime64[ns]").astype(np.int64)
    check_unit(unit, place)
    if array.dtype.kind not in "iuf" or unit == "iso" or not np.isfinite(array.astype(np.float64)).all():
        raise InputError(
            place, expected="finite times as numbers or datetime64", found=str(array.dtype), mend="State unit=s, ms, us or ns."
        )
    if array.dtype.kind == "f":
        whole = np.floor(array.astype(np.float64))
        ns = whole.astype(np.int64) * 10 ** DIGITS[unit] + np.rint((array - whole) * 10 ** DIGITS[unit]).astype(np.int64)
    else:
        ns = array.astype(np.int64) * 10 ** DIGITS[unit]
    return from_gps(ns) if unit == "gps" else ns
