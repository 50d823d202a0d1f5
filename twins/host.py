"""The machine this runs on: what load says of run queue and temperature, and what is odd about each figure by itself.

Live through ``--from host:``. Parameters of the simulator (``--from "sim:?faults=fan@3600:600"``): seed, duration, start, faults
(kind@second:seconds): ``runaway`` (processes without end), ``fan`` (it stops, the processor runs hot), ``leak`` (memory fills), ``gap``.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np

from twin_engine import Channel, Stream, Twin
from twin_engine.detect import Alarm, Auto
from twin_engine.estimate import Predict
from twin_engine.sim import START, Entry, Injection, Simulator, Wander, generator, schedule

CHANNELS = (
    Channel("cpu", "1", (0, 1)), Channel("iowait", "1", (0, 1)), Channel("load1", "1", (0, 1e6)), Channel("memory", "1", (0, 1)),
    Channel("swap", "1", (0, 1)), Channel("disk_read", "B/s", (0, 1e12)), Channel("disk_write", "B/s", (0, 1e12)),
    Channel("net_in", "B/s", (0, 1e12)), Channel("net_out", "B/s", (0, 1e12)), Channel("processes", "1", (0, 1e8)),
    Channel("temperature", "degC", (-50, 150)), Channel("frequency", "Hz", (0, 1e11)),
)  # fmt: skip
SEGMENT = 256  # seconds made at once
PAST = 1024  # seconds of load before a segment, which its temperature remembers
FAULTS = ("runaway", "fan", "leak")


class Host(Simulator):
    """A simulated server: bursts of jobs load it; heat reaches the sensor through the die (8 s) and the heat sink (90 s)."""

    def __init__(
        self, asset: str = "host", *, seed: int = 0, duration: object = None, start: int = START, faults: str | Sequence[Entry] = ""
    ) -> None:
        listed = schedule(faults, (*FAULTS, "gap"), 300.0)
        self.seed = int.from_bytes(generator(seed, asset).bytes(7), "little")
        self.faults = [f for f in listed if f.kind != "gap"]
        super().__init__(
            asset, {"host": (Fraction(1), tuple(c.name for c in CHANNELS))}, start=start, duration=duration, block=Fraction(1),
            segment=Fraction(SEGMENT), gaps=[f for f in listed if f.kind == "gap"],
        )  # fmt: skip

    def make(self, k: int) -> dict[str, Any]:
        """Return segment k: ``(channel, second)``."""
        t = np.arange(k * SEGMENT - PAST, (k + 1) * SEGMENT, dtype=float)
        jobs, bursts, disk, net = (
            Wander(self.seed, name, knot, 1).at(t)[0] for name, knot in (("jobs", 90.0), ("bursts", 12.0), ("disk", 8.0), ("net", 8.0))
        )
        runaway, fan, leak = (self._during(kind, t) for kind in FAULTS)
        cpu = np.maximum(0.04 + 0.9 / (1 + np.exp(1.2 - 1.2 * jobs - 0.5 * bursts)), 0.97 * (runaway > 0))
        queue = cpu + 0.3 * np.maximum(bursts, 0) + 3.0 * (runaway > 0)
        resistance = np.where(fan > 0, 75.0, 38.0)  # kelvin from room to sensor at full load
        x = np.stack([
            cpu, 0.02 * np.exp(disk), lag(queue, 60.0), 0.35 + 0.05 * lag(cpu, 300.0) + 0.5 * leak, np.full(len(t), 0.02),
            2e6 * np.exp(1.5 * disk), 8e6 * np.exp(1.2 * disk), 3e5 * np.exp(net), 2e5 * np.exp(net),
            220 + 10 * lag(bursts, 5.0) + 400 * runaway, 27.0 + 0.35 * 38.0 * lag(cpu, 8.0) + 0.65 * lag(cpu * resistance, 90.0),
            2.4e9 + 9e8 * (1 - cpu),
        ])[:, PAST:]  # fmt: skip
        rng = generator(self.seed, "segment", k)
        x = np.abs(x * (1 + NOISE * rng.standard_normal(x.shape)))
        x[:2] = np.minimum(x[:2], 1.0)
        x[9:11] = np.round(x[9:11] + rng.standard_normal((2, SEGMENT)) * [[2.0], [0.4]])  # whole processes, whole degrees
        return {"host": x}

    def _during(self, kind: str, t: Any) -> Any:
        """Return how far a fault has gone, 0..1 from its beginning to its end, 0 outside."""
        gone = np.zeros(len(t))
        for f in self.faults:
            if f.kind == kind:
                gone += np.where((t >= f.at) & (t < f.at + f.amount), (t - f.at + 1) / f.amount, 0.0)
        return np.minimum(gone, 1.0)

    def truth(self, until: float | None = None) -> list[Injection]:
        """Return the faults that begin before that many seconds from the start (default: all)."""
        spans = [(f, *(self.start + round(s * 1e9) for s in (f.at, f.at + f.amount))) for f in self.faults]
        return [Injection(f.kind, begin, begin, end) for f, begin, end in spans if until is None or f.at < until]


NOISE = np.array([0.03, 0.1, 0.01, 0.001, 0.0, 0.5, 0.4, 0.3, 0.3, 0.0, 0.0, 0.01])[:, None]  # relative, a channel


def lag(x: Any, seconds: float) -> Any:
    """Return a first-order lag of samples one second apart, by the exponential's impulse response over ``PAST``."""
    weights = np.exp(-np.arange(PAST) / seconds)
    return np.convolve(np.concatenate([np.full(PAST - 1, x[0]), x]), weights / weights.sum(), mode="valid")


twin = Twin(
    name="host",
    hop="1 s",
    streams=[Stream("host", rate=1, channels=CHANNELS)],
    stages={
        "expected": Predict(
            "host", targets=("load1", "temperature", "memory"), regressors=("cpu", "iowait"), responses=("0 s", "10 s", "1 min", "5 min"),
            memory="6 h", warm_up="2 min",
        ),
        "strange": Alarm("expected.residual", rate="1/day", kind="departure"),
        "odd": Auto("host", memory="1 h"),
        "alarm": Alarm("odd", rate="1/day"),
    },
    simulator=Host,
    show=("expected.prediction", "expected.residual"),
)  # fmt: skip
