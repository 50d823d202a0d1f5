"""Which rows of a table may be judged, by their times: none that comes late, or whose clock leapt."""

from __future__ import annotations

from collections import Counter

import numpy as np

from twin_engine.clock import NS
from twin_engine.ports import Bool, Int

NO_TIME = int(np.iinfo(np.int64).min)  # the time of a row whose time cannot be read, as NumPy's NaT
LEAP = 30 * 86400 * NS  # a time that far ahead is believed when the row after it agrees


class RowTimes:
    """Times of the rows seen so far. counts: how many rows had ``"no time"``, a ``"late time"``, a ``"clock jump"``, a ``"repeated time"``.

    A row that is older than the newest before it is late. A single row whose time is more than 30 days ahead of the others is a bad
    clock; with the second the series goes on there. A row at the same time as the newest is counted and judged: times may be rounded.
    """

    def __init__(self) -> None:
        self.newest = self._suspect = NO_TIME
        self.counts: Counter[str] = Counter()

    def update(self, times: Int) -> Bool:
        """Return which of the next rows are in order, bool ``(row,)``. times: int64 ``(row,)``, ns UTC or NO_TIME."""
        if not len(times):
            return np.zeros(0, bool)
        step = np.diff(times)
        known = self.newest > NO_TIME
        if times[0] > NO_TIME and (step > 0).all() and (step <= LEAP).all() and (not known or 0 < int(times[0]) - self.newest <= LEAP):
            self.newest, self._suspect = int(times[-1]), NO_TIME
            return np.ones(len(times), bool)
        return np.array([self._take(time) for time in times.tolist()], bool)

    def _take(self, time: int) -> bool:
        """Return whether one row is in order."""
        if time == NO_TIME:
            self.counts["no time"] += 1
            return False
        if self.newest > NO_TIME:
            if time < self.newest:
                self.counts["late time"] += 1
                return False
            if time - self.newest > LEAP and not (self._suspect > NO_TIME and abs(time - self._suspect) <= LEAP):
                self._suspect = time
                self.counts["clock jump"] += 1
                return False
            if time == self.newest:
                self.counts["repeated time"] += 1
        self.newest, self._suspect = time, NO_TIME
        return True
