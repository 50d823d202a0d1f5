"""Samples judged one by one before they are used: finite, in range, in the right unit; bad channels are quarantined and come back."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from twin_engine.ports import Bool, Float
from twin_engine.records import Reason
from twin_engine.telemetry import Telemetry
from twin_engine.twin import Stream
from twin_engine.units import conversion

STRIKES = 10  # samples in a row out of range, or in a wrong unit, that put a channel in quarantine; as many good ones free it


@dataclass
class Quality:
    """The judge of one channel. bad, good: how many in a row; quarantined: nothing of it is used."""

    low: float
    high: float
    unit: str
    bad: int = 0
    good: int = 0
    quarantined: bool = False

    def judge(self, values: Float, unit: str, telemetry: Telemetry) -> tuple[Float, Bool, int]:
        """Return values in the channel's unit, which of them can be used, and the sample at which a quarantine began (-1: none did)."""
        finite = np.isfinite(values)
        telemetry.drop(Reason.NOT_FINITE, int((~finite).sum()))
        factor = conversion(unit, self.unit) if unit else (1.0, 0.0)
        if factor is None:
            telemetry.drop(Reason.WRONG_UNIT, int(finite.sum()))
            return values, np.zeros(len(values), bool), self._strike(finite, np.ones(len(values), bool))[1]
        if factor != (1.0, 0.0):
            values = values * factor[0] + factor[1]
        wrong = finite & ((values < self.low) | (values > self.high))
        if not (self.quarantined or self.bad or wrong.any()):
            return values, finite, -1
        free, began = self._strike(finite, wrong)
        telemetry.drop(Reason.OUT_OF_RANGE, int(wrong.sum()))
        telemetry.drop(Reason.QUARANTINED, int((finite & ~wrong & ~free).sum()))
        return values, finite & ~wrong & free, began

    def _strike(self, finite: Bool, wrong: Bool) -> tuple[Bool, int]:
        """Run through the samples' verdicts; return where the channel is free, and where a quarantine began."""
        free, began = np.zeros(len(wrong), bool), -1
        for i in range(len(wrong)):
            if finite[i]:
                self.bad, self.good = (self.bad + 1, 0) if wrong[i] else (0, self.good + 1)
            if not self.quarantined and self.bad >= STRIKES:
                self.quarantined, began = True, i
            elif self.quarantined and self.good > STRIKES:
                self.quarantined = False
            free[i] = not self.quarantined
        return free, began

    def document(self) -> list[int]:
        """Return what a snapshot keeps."""
        return [self.bad, self.good, int(self.quarantined)]


def judges(stream: Stream, saved: list[list[int]] | None = None) -> list[Quality]:
    """Return a judge for each channel of a stream, as a snapshot left it."""
    found = [Quality(float(c.range[0]), float(c.range[1]), c.unit) for c in stream.channels]
    for judge, (bad, good, quarantined) in zip(found, saved or [], strict=False):
        judge.bad, judge.good, judge.quarantined = bad, good, bool(quarantined)
    return found
