"""Times in messages: numbers in the codec's unit or ISO 8601 text, exact to the ns that was written, within 1970 to 2200."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streams.times import DIGITS, check_unit, from_gps
from twin_engine.clock import GPS_EPOCH, gps_to_ns, iso, parse_iso
from twin_engine.errors import InputError
from twin_engine.ports import Int

END = 7_258_118_400 * 10**9  # 2200-01-01
# digits -> parts of the unit that a double of our times can tell, ns in the unit, ns in a part
_STEPS = {n: (10 ** max(n - 3, 0), 10**n, 10 ** min(n, 3)) for n in (0, 3, 6, 9)}
_LONGEST = 64
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_MICROSECOND = dt.timedelta(microseconds=1)
_DECIMAL = re.compile(r"[+-]?\d{1,20}(?:\.\d{0,30})?(?:[eE][+-]?\d{1,2})?", re.ASCII)


def exact(value: float, digits: int) -> int:
    """Return ``value * 10**digits``, to nearest, of the shortest decimal that is read as this double.

    So 1658832078.001 is 1658832078001000000 ns, though the double is less. Raises ValueError beyond 1e20.
    """
    if not abs(value) < 1e20:  # NaN too
        raise ValueError(f"{value} is out of range")
    whole = int(value)
    tells, scale, rest = _STEPS[digits]
    part = round((value - whole) * tells)
    if whole + part / tells == value:
        return whole * scale + part * rest
    return int(Decimal(repr(value)).scaleb(digits).to_integral_value())


class Times:
    """Reads and writes times. unit: of numbers, ``s``, ``ms``, ``us``, ``ns`` or ``gps`` (s); ``iso`` takes text only."""

    def __init__(self, unit: str, place: str) -> None:
        self.unit = check_unit(unit, place)
        self._digits = DIGITS.get(unit, -1)
        self._scale = 10 ** max(self._digits, 0)
        latest = END - GPS_EPOCH * 10**9 if unit == "gps" else END
        self.plain = (0.5 / self._scale, latest // self._scale if self._digits >= 0 else 0)  # a number between the two is a time for sure

    def one(self, value: object) -> int:
        """Return ns UTC of a number or text; raises ValueError."""
        kind = type(value)
        if kind is int and self._digits >= 0:
            ns: int = value * self._scale  # type: ignore[operator] # an int
        elif kind is float and self._digits >= 0:
            ns = exact(value, self._digits)  # type: ignore[arg-type] # a float
        elif kind is str:
            return self.text(value)  # type: ignore[arg-type] # a str
        else:
            raise ValueError(f"{value!r:.40} is not a time")
        return self._bounded(ns, value)

    def _bounded(self, ns: int, value: object) -> int:
        """Return ns UTC, or raise ValueError outside 1970 to 2200."""
        if 0 <= ns < END:
            ns = gps_to_ns(ns) if self.unit == "gps" else ns
            if ns < END:
                return ns
        raise ValueError(f"{value!r:.40} is not within 1970 to 2200; is the unit {self.unit} right?")

    def text(self, text: str) -> int:
        """Return ns UTC of a number as text, or of ISO 8601 text; raises ValueError."""
        if len(text) > _LONGEST:
            raise ValueError(f"{text[:40]!r}... is not a time")
        if text[-1:] == "Z" and len(text) <= len("2020-01-01T00:00:00.123456Z"):  # the common form, by the short way
            try:
                ns = (dt.datetime.fromisoformat(text) - _EPOCH) // _MICROSECOND * 1000
            except ValueError:
                ns = -1
            if 0 <= ns < END:
                return ns
        if text[:1].isalpha():  # no form begins so; a parser takes long to find out
            raise ValueError(f"{text[:40]!r} is not a time")
        if self._digits >= 0 and _DECIMAL.fullmatch(text):
            return self._bounded(int(Decimal(text).scaleb(self._digits).to_integral_value()), text)
        try:
            ns = parse_iso(text)
        except (InputError, OverflowError):
            raise ValueError(f"{text[:40]!r} is not a time") from None
        if not 0 <= ns < END:
            raise ValueError(f"{text[:40]!r} is not within 1970 to 2200")
        return ns

    def many(self, values: Sequence[Any]) -> Int:
        """Return ns UTC, int64 ``(sample,)``; raises ValueError where one of them is no time."""
        kinds = set(map(type, values))
        if kinds == {float} or (kinds == {int} and abs(max(values, key=abs)) < 2**63):
            return self.array(np.array(values))
        return np.array([self.one(value) for value in values], np.int64)

    def array(self, values: NDArray[Any]) -> Int:
        """Return ns UTC, int64 ``(sample,)``, of integers or doubles; raises ValueError."""
        if not len(values):
            return np.empty(0, np.int64)
        if self._digits < 0:
            raise ValueError("numbers, where times are ISO text")
        low, high = values.min(), values.max()
        if not (low >= 0 and high < END / self._scale):
            raise ValueError(f"{low} to {high} is not within 1970 to 2200; is the unit {self.unit} right?")
        floats = values.dtype.kind == "f"
        ns = self._from_floats(values.astype(np.float64)) if floats else values.astype(np.int64) * self._scale
        if self.unit == "gps":
            ns = from_gps(ns)
            if int(ns.max()) >= END:
                raise ValueError(f"{high} is not within 1970 to 2200")
        return ns

    def _from_floats(self, values: NDArray[np.float64]) -> Int:
        """Return what ``exact`` gives for each."""
        tells, scale, rest = _STEPS[self._digits]
        whole = np.floor(values)
        part = np.rint((values - whole) * tells)
        ns = whole.astype(np.int64) * scale + part.astype(np.int64) * rest
        for i in np.flatnonzero(whole + part / tells != values):
            ns[i] = exact(float(values[i]), self._digits)
        return ns

    def write(self, ns: int) -> int | float | str:
        """Return what ``one`` reads as just this time: a number in the unit where one can say it, else ISO 8601 text."""
        if self.unit not in {"iso", "gps"}:
            if ns % self._scale == 0:
                return ns // self._scale
            if ns % 1000 == 0:
                return ns / self._scale
        return iso(ns)

    def whole(self, ns: int) -> int:
        """Return a time as a whole number of the unit, to nearest (of ns where the unit is iso or gps)."""
        return (ns + self._scale // 2) // self._scale
