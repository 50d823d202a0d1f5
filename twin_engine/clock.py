"""Time: exact rates, integer sample indices, int64 nanoseconds at the edges, an injectable wall clock.

Event time inside the engine is an integer sample index over an exact rate (a ``Fraction`` in Hz); index 0 of
every rate is 1970-01-01T00:00:00Z, so all streams share one grid. At the edges time is int64 ns UTC.
"""

from __future__ import annotations

import datetime as dt
import re
import time
from fractions import Fraction
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from twin_engine.errors import DefinitionError, InputError

NS = 1_000_000_000
Time = NDArray[np.int64]

_UNITS = {
    "ns": Fraction(1, NS), "us": Fraction(1, 10**6), "ms": Fraction(1, 1000), "s": Fraction(1), "sec": Fraction(1),
    "min": Fraction(60), "h": Fraction(3600), "hour": Fraction(3600), "d": Fraction(86400), "day": Fraction(86400),
    "week": Fraction(7 * 86400),
}  # fmt: skip
_DURATION = re.compile(r"\s*([0-9.eE+\-]+(?:/[0-9]+)?)?\s*([a-zA-Z]+)\s*")


def seconds(value: str | float | Fraction) -> Fraction:
    """Return a duration in exact seconds from ``"64 s"``, ``"1/16 s"``, ``"5 min"``, ``"day"`` or a number of seconds."""
    if not isinstance(value, str):
        return Fraction(value).limit_denominator(NS)
    match = _DURATION.fullmatch(value)
    unit = match and _UNITS.get(match[2].removesuffix("s") if len(match[2]) > 2 else match[2])
    if not match or not unit:
        raise DefinitionError(
            f"duration {value!r}", expected="a number and a unit (ns, us, ms, s, min, h, day, week)", found=repr(value),
            mend="Write it as '64 s', '1/16 s' or '5 min'.",
        )  # fmt: skip
    return Fraction(match[1] or 1) * unit


def hertz(value: str | float | Fraction) -> Fraction:
    """Return an exact rate in Hz from a number, ``"16384 Hz"``, or ``"1/5 min"`` (one in five minutes)."""
    if not isinstance(value, str):
        return Fraction(value).limit_denominator(NS)
    text = value.strip()
    if text.lower().endswith("khz"):
        return Fraction(text[:-3].strip()) * 1000
    if text.lower().endswith("hz"):
        return Fraction(text[:-2].strip())
    count, slash, per = text.partition("/")
    if slash and per:
        return Fraction(count.strip()) / seconds(per)
    raise DefinitionError(
        f"rate {value!r}", expected="Hz or a count per duration", found=repr(value), mend="Write it as '16384 Hz' or '1/5 min'.",
    )  # fmt: skip


def index_of(time_ns: Time, rate: Fraction) -> Time:
    """Return the nearest sample index on the epoch's grid, exactly, for times in ns UTC. Shape kept."""
    period = rate.denominator * NS  # `rate.numerator` samples fit in it exactly
    if rate.numerator * period >= 2**62:
        raise DefinitionError(f"rate {rate}", expected="numerator x denominator below 4.6e9", found=str(rate), mend="Use a rounder rate.")
    whole, rest = np.divmod(np.asarray(time_ns, np.int64), np.int64(period))
    return whole * rate.numerator + (rest * rate.numerator + period // 2) // period


def time_of(index: Time | int, rate: Fraction) -> Time:
    """Return the time in ns UTC (rounded to nearest) of sample indices on the epoch's grid. Shape kept."""
    period = rate.denominator * NS
    whole, rest = np.divmod(np.asarray(index, np.int64), np.int64(rate.numerator))
    return whole * period + (rest * period + rate.numerator // 2) // rate.numerator


# GPS - UTC grew by one second at each of these dates (IERS Bulletin C); GPS began 1980-01-06 with offset 0.
_LEAPS = np.array(
    [
        np.datetime64(d, "s").astype(np.int64)
        for d in (
            "1981-07-01", "1982-07-01", "1983-07-01", "1985-07-01", "1988-01-01", "1990-01-01", "1991-01-01", "1992-07-01",
            "1993-07-01", "1994-07-01", "1996-01-01", "1997-07-01", "1999-01-01", "2006-01-01", "2009-01-01", "2012-07-01",
            "2015-07-01", "2017-01-01",
        )
    ],
    np.int64,
)  # fmt: skip
GPS_EPOCH = 315_964_800  # 1980-01-06T00:00:00Z in Unix seconds


def gps_to_ns(gps_ns: int) -> int:
    """Return ns UTC (Unix) of a GPS time given in integer ns; a time within a leap second maps to the second after it."""
    naive = gps_ns + GPS_EPOCH * NS
    steps = _LEAPS * NS + np.arange(1, len(_LEAPS) + 1) * NS  # when each leap took effect, on the GPS-like count
    return int(naive - NS * int(np.searchsorted(steps, naive, side="right")))


def ns_to_gps(time_ns: int) -> int:
    """Return the GPS time in integer ns of a time in ns UTC (Unix)."""
    return int(time_ns - GPS_EPOCH * NS + NS * int(np.searchsorted(_LEAPS * NS, time_ns, side="right")))


def iso(time_ns: int) -> str:
    """Return ISO 8601 UTC with nanoseconds, ``2015-09-14T09:50:45.422000000Z``."""
    whole, rest = divmod(int(time_ns), NS)
    return f"{dt.datetime.fromtimestamp(whole, dt.UTC):%Y-%m-%dT%H:%M:%S}.{rest:09d}Z"


def parse_iso(text: str) -> int:
    """Return ns UTC of an ISO 8601 time; without a zone it is taken as UTC. Digits past ns are cut."""
    match = re.fullmatch(r"(.*?\d)(?:[.,](\d+))?\s*(Z|[+-]\d\d:?\d\d)?", text.strip())
    try:
        if match is None or (match[1].count(":") == 0 and "T" in text and len(match[1]) > 15):
            raise ValueError(text)
        zone = "+00:00" if match[3] in {None, "Z"} else match[3]
        whole = dt.datetime.fromisoformat(match[1] + (zone if "T" in match[1] or ":" in match[1] else ""))
    except ValueError:
        raise InputError(f"time {text!r}", expected="ISO 8601", found=repr(text), mend="Write 2015-09-14T09:50:45Z.") from None
    if whole.tzinfo is None:
        whole = whole.replace(tzinfo=dt.UTC)
    return int(whole.timestamp()) * NS + int((match[2] or "0")[:9].ljust(9, "0"))


class Clock(Protocol):
    """The wall clock, injectable: nothing in the engine calls ``time`` but this."""

    def now(self) -> int:
        """Return ns UTC."""
        ...

    def sleep(self, duration: float) -> None:
        """Wait that many seconds."""
        ...


class WallClock:
    """The machine's clock."""

    def now(self) -> int:
        """Return ns UTC."""
        return time.time_ns()

    def sleep(self, duration: float) -> None:
        """Wait that many seconds."""
        time.sleep(max(0.0, duration))
