"""Any table of numbers: each column judged by the general detector, one alarm for all.

``twin`` has one column, ``value``, once a minute. For other columns and rates, in a module of one's own::

    from twins.generic import table
    twin = table(["flow", "pressure"], rate="1/10 s")

Parameters of the simulator (``--from "sim:?faults=spike@90000"``): seed, duration, start, faults (kind@second:amount): ``spike`` (standard
deviations), ``shift`` (of the level, for good), ``flat`` (seconds), ``gap`` (seconds).
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np

from twin_engine import Channel, Stream, Twin, hertz
from twin_engine.detect import Alarm, Auto
from twin_engine.sim import START, Entry, Injection, Simulator, generator, schedule

DAY = 86400.0
FAULTS = ("spike", "shift", "flat")


class Table(Simulator):
    """Columns with a daily cycle and unit noise, each on its own phase."""

    def __init__(
        self, asset: str, columns: Sequence[str], rate: Fraction, *, seed: int = 0, duration: object = None, start: int = START,
        faults: str | Sequence[Entry] = "",
    ) -> None:  # fmt: skip
        listed = schedule(faults, (*FAULTS, "gap"), 6.0)
        self.seed = int.from_bytes(generator(seed, asset).bytes(7), "little")
        self.faults = [f for f in listed if f.kind != "gap"]
        super().__init__(
            asset, {"table": (rate, tuple(columns))}, start=start, duration=duration, block=16 / rate, segment=256 / rate,
            gaps=[f for f in listed if f.kind == "gap"],
        )  # fmt: skip

    def make(self, k: int) -> dict[str, Any]:
        """Return segment k, ``(column, row)``; faults are in the first column."""
        rate, columns = self.streams["table"]
        t = (k * 256 + np.arange(256)) / float(rate)
        phase = generator(self.seed, "phase").uniform(0, 2 * np.pi, (len(columns), 1))
        x = 5 * np.sin(2 * np.pi * t / DAY + phase) + generator(self.seed, k).standard_normal((len(columns), 256))
        for f in self.faults:
            if f.kind == "flat":
                x[0, (t >= f.at) & (t < f.at + f.amount)] = 0.0
            else:
                x[0, (t >= f.at) if f.kind == "shift" else (t >= f.at) & (t < f.at + 1 / float(rate))] += f.amount
        return {"table": x}

    def truth(self, until: float | None = None) -> list[Injection]:
        """Return the faults that begin before that many seconds from the start (default: all)."""
        found = [(f, self.start + round(f.at * 1e9)) for f in self.faults if until is None or f.at < until]
        return [Injection(f.kind, at, at, at + round(f.amount * 1e9) if f.kind == "flat" else at) for f, at in found]


def table(columns: Sequence[str], rate: Any = "1/min", *, alarm: str = "1/week", name: str = "generic", memory: Any = None) -> Twin:
    """Return a twin of a table. rate: rows, Hz or text like ``"1/5 min"``. alarm: false alarms asked for. memory: see ``Auto``."""
    exact = hertz(rate)
    return Twin(
        name=name,
        hop=1 / exact,
        streams=[Stream("table", rate=exact, channels=[Channel(c) for c in columns])],
        stages={"odd": Auto("table", memory=memory), "alarm": Alarm("odd", rate=alarm)},
        simulator=lambda asset, **parameters: Table(asset, columns, exact, **parameters),
        show=("odd.score",),
    )


twin = table(["value"])
