"""Single samples gathered into readings of many, without changing the order in which an asset's samples came."""

from __future__ import annotations

import numpy as np

from twin_engine.records import Reading


class Gatherer:
    """Gathers one asset's samples.

    Samples of different channels that follow each other with the same time are one row; rows that follow each other with the same channels
    are one reading. So a thousand interleaved lines of three channels are one reading, and nothing is moved before or behind anything
    else.
    """

    def __init__(self, asset: str) -> None:
        self._asset = asset
        self._done: list[Reading] = []
        self._times: list[int] = []
        self._rows: list[list[float]] = []
        self._names: tuple[str, ...] = ()
        self._units: tuple[str, ...] = ()
        self._time = 0
        self._row: dict[str, tuple[float, str]] = {}

    def add(self, time: int, channel: str, unit: str, value: float) -> None:
        """Take a sample; time in ns UTC."""
        if self._row and (time != self._time or channel in self._row):
            self._end_row()
        self._time = time
        self._row[channel] = (value, unit)

    def readings(self) -> list[Reading]:
        """Return what was gathered, and begin anew."""
        self._end_row()
        self._end_reading()
        done, self._done = self._done, []
        return done

    def _end_row(self) -> None:
        if not self._row:
            return
        names, units = tuple(self._row), tuple(unit for _, unit in self._row.values())
        if (names, units) != (self._names, self._units):
            self._end_reading()
            self._names, self._units = names, units
        self._times.append(self._time)
        self._rows.append([value for value, _ in self._row.values()])
        self._row = {}

    def _end_reading(self) -> None:
        if self._times:
            values = np.ascontiguousarray(np.array(self._rows, np.float64).T)
            units = self._units if any(self._units) else ()
            self._done.append(Reading(self._asset, self._names, np.array(self._times, np.int64), values, units=units))
        self._times, self._rows = [], []
