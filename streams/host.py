"""The machine this runs on, live, through psutil."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import psutil

from streams.context import Context
from streams.uri import Uri
from twin_engine.clock import NS, Clock
from twin_engine.errors import InputError
from twin_engine.records import Idle, Item, Position, Reading

CHANNELS: tuple[tuple[str, str], ...] = (
    ("cpu", "1"),  # busy share of all cores since the sample before, 0..1
    ("iowait", "1"),  # share of time waiting for disks (Linux), 0..1
    ("load1", "1"),  # processes running or waiting, mean of a minute, divided by the cores
    ("memory", "1"),  # used share, 0..1
    ("swap", "1"),  # used share, 0..1
    ("disk_read", "B/s"),
    ("disk_write", "B/s"),
    ("net_in", "B/s"),  # all interfaces but the loopback
    ("net_out", "B/s"),
    ("processes", "1"),
    ("temperature", "degC"),  # the hottest sensor of the processor, or of the machine
    ("frequency", "Hz"),  # mean clock of the cores
)
"""Names and units of the channels, in the order of a reading. What the machine cannot tell is NaN."""

_IDLE = 0.1  # seconds between looks at the clock


def open_host(uri: Uri, context: Context) -> HostSource:
    """Open ``host:?period=1``: a sample each ``period`` seconds. The asset is ``host`` where none is given."""
    uri.only("period")
    period = uri.number("period", 1.0)
    if not 0.05 <= period <= 3600:
        raise InputError(uri.text, expected="a period of 0.05 to 3600 s", found=str(period), mend="Write host:?period=1.")
    return HostSource(context.asset or "host", round(period * NS), context.clock)


class HostSource:
    """A live source: it goes on for ever and remembers nothing."""

    live = True

    def __init__(self, asset: str, period: int, clock: Clock) -> None:
        self._asset, self._period, self._clock = asset, period, clock

    @property
    def assets(self) -> list[str]:
        """The one asset."""
        return [self._asset]

    def items(self, position: Position) -> Iterator[Item]:
        """Yield a reading at each whole multiple of the period since the epoch, and Idle while waiting."""
        del position
        names, units = (tuple(column) for column in zip(*CHANNELS, strict=True))
        before = _Counters.read(self._clock.now())
        due = (before.time // self._period + 1) * self._period
        while True:
            now = self._clock.now()
            if now < due:
                yield Idle()
                self._clock.sleep(min(_IDLE, (due - now) / NS))
                continue
            after = _Counters.read(now)
            values = np.array([_sample(before, after)]).T
            yield Reading(self._asset, names, np.array([now], np.int64), values, arrival=now, units=units)
            before, due = after, (now // self._period + 1) * self._period

    def acknowledge(self, position: Position) -> None:
        """Nothing to do: what is past is gone."""

    def close(self) -> None:
        """Nothing is held."""


@dataclass(frozen=True, slots=True)
class _Counters:
    """What only grows: seconds of the processors, bytes of disks and networks."""

    time: int
    busy: float
    waiting: float
    total: float
    disk: tuple[float, float]
    net: tuple[float, float]

    @classmethod
    def read(cls, now: int) -> _Counters:
        """Return the counters as they stand."""
        cpu = psutil.cpu_times()
        waiting = float(getattr(cpu, "iowait", np.nan))
        guests = sum(float(getattr(cpu, name, 0.0)) for name in ("guest", "guest_nice"))  # counted in user and nice already
        total = float(sum(cpu)) - guests
        disk: Any = psutil.disk_io_counters()
        nets = [c for name, c in psutil.net_io_counters(pernic=True).items() if not name.startswith("lo")]
        return cls(
            now,
            total - float(cpu.idle) - np.nan_to_num(waiting),
            waiting,
            total,
            (float(disk.read_bytes), float(disk.write_bytes)) if disk else (np.nan, np.nan),
            (float(sum(c.bytes_recv for c in nets)), float(sum(c.bytes_sent for c in nets))) if nets else (np.nan, np.nan),
        )


def _sample(before: _Counters, after: _Counters) -> list[float]:
    """Return the values of all channels, in order."""
    seconds = max(1e-9, (after.time - before.time) / NS)
    worked = max(1e-9, after.total - before.total)
    rates = [(b - a) / seconds for a, b in zip((*before.disk, *before.net), (*after.disk, *after.net), strict=True)]
    return [
        min(1.0, max(0.0, (after.busy - before.busy) / worked)),
        min(1.0, max(0.0, (after.waiting - before.waiting) / worked)) if after.waiting == after.waiting else np.nan,
        psutil.getloadavg()[0] / (psutil.cpu_count() or 1),
        psutil.virtual_memory().percent / 100,
        psutil.swap_memory().percent / 100,
        *(rate if rate >= 0 else np.nan for rate in rates),  # a counter that went back has been reset
        float(len(psutil.pids())),
        _temperature(),
        _frequency(),
    ]


def _temperature() -> float:
    """Return the hottest temperature in degC, of the processor where it has sensors; NaN without any."""
    sensors: dict[str, Any] = getattr(psutil, "sensors_temperatures", dict)()
    chosen = [s for name in ("coretemp", "k10temp", "zenpower", "cpu_thermal") for s in sensors.get(name, [])]
    every = chosen or [s for group in sensors.values() for s in group]
    return max((float(s.current) for s in every if s.current is not None), default=np.nan)


def _frequency() -> float:
    """Return the mean clock of the cores in Hz; NaN where it is not told."""
    try:
        found = psutil.cpu_freq()
    except (OSError, NotImplementedError, AttributeError):
        return np.nan
    return float(found.current) * 1e6 if found and found.current else np.nan
