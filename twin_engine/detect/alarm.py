"""The alarm policy: events at a false-alarm rate that the user asks for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from math import log
from typing import Any, ClassVar, cast

import numpy as np
from numpy.typing import NDArray

from twin_engine.clock import NS, hertz, seconds
from twin_engine.detect.events import SEVERITIES
from twin_engine.detect.points import block_points, mark_points
from twin_engine.detect.tail import surprise_of
from twin_engine.errors import DefinitionError
from twin_engine.kernels.alarm import FLOATS, INTS, advance
from twin_engine.kernels.alarm_state import RING, AlarmState, Policy, initial
from twin_engine.ports import Block, BlockSpec, Float, Int, Marks, MarksSpec, Port, Spec
from twin_engine.stage import Op, Stage

CRITICAL = 100.0  # times rarer than asked, from where on a warning is critical
HOLD = 32  # marks of a row that may have come early
DEPTH = 10.0  # peaks above the tail's floor come at least at this many times the asked rate
WINDOW = 4  # gaps in a window, of which the highest point is a peak
EXTRAS = ("frequency", "bandwidth", "snr", "class")  # columns that an event takes over from its peak


@dataclass(frozen=True)
class Alarm(Stage):
    """Turn scores or marks into events at a false-alarm rate, for each asset, in live time.

    source: a block of scores whose spec states their null law, or marks with a column ``score``. Channels of a block are put together as
    the most surprising one at each time; an event's weights are the channels' shares of the squared surprise over the event.

    rate: false events asked for, a text such as ``"1/day"``. An event begins at a score that the tail of the row's own past says comes
    that seldom, and lasts while scores stay above ``hysteresis`` (0..1) of the way from the tail's floor to that threshold, with pauses up
    to ``gap`` (default: 5 samples of a block, 1/2 s for marks). It is closed at ``longest`` (default: 1 h, at least 50 gaps); another
    begins only after live time of a gap below the lower threshold, or far louder. hold_off: no event begins within it after one.
    warm_up: live time without alarms.
    severity: ``"info"``, ``"warning"``, ``"critical"``, or ``"auto"``: critical when the peak is 100 times rarer than asked.

    The tail is a generalised Pareto law over declustered peaks (``twin_engine.kernels.tail``): the last 128 to 256 above a floor that they
    pass 10 to 20 times as often as asked, or oftener where ``memory``, in live time, would not hold as many. With a known null law and
    trials it begins as that law, worth 32 peaks; how often peaks pass the floor is then learned, and what comes above it is taken from the
    law until the peaks speak against that (Schwarz's criterion). No threshold is ever below half of the law's own. Without a law there is
    no alarm before 64 windows of 4 gaps have been live. Alarmed peaks are censored, so loud ones do not raise it. When 8 alarms at least
    as loud came within ``habituation`` of live time (default: 2/rate), another is withheld and counts as noise: until the tail has
    followed, a noisy sensor gives four times the rate, and ever louder ones, whose number grows as the logarithm of time. Where anomalies
    are known to come far oftener than false alarms may (glitches of a detector), give a short one: then alarmed peaks beyond twice the
    number that the rate gives do not enter the tail either, and each is told. A row that has become quiet is learned anew after a silence
    as long as what it remembers.

    p_value: the probability of a peak as high in one window of 4 gaps. far: how often such a peak comes, Hz. A mark's time is the last ns
    of the hop in which the revision was made; revision 0 comes at the onset, another when the peak has grown by half, the final one when
    the event has ended.
    """

    UNITS: ClassVar = {"source": "1"}  # a score: what has another unit has not been judged yet

    source: str
    rate: Any = "1/day"
    hold_off: Any = 0
    hysteresis: float = 0.5
    gap: Any = None
    longest: Any = None
    warm_up: Any = 0
    memory: Any = "30 days"
    habituation: Any = None
    severity: str = "auto"
    kind: str = ""

    def bind(self, hop: Fraction, specs: Mapping[str, Spec]) -> AlarmOp:
        """Check against the source's spec and return the op."""
        spec, place = specs["source"], f"Alarm({self.source!r})"
        rate = hertz(self.rate)
        for name, good, expected in (
            ("rate", rate > 0, "above 0"),
            ("hysteresis", 0 <= self.hysteresis <= 1, "0 to 1"),
            ("severity", self.severity in {*SEVERITIES, "auto"}, f"one of {(*SEVERITIES, 'auto')}"),
        ):
            if not good:
                found = repr(getattr(self, name))
                raise DefinitionError(f"{place}, {name}", expected=expected, found=found, mend=f"Give a {name} in that range.")
        if isinstance(spec, BlockSpec):
            if (hop * spec.rate).denominator != 1:
                raise DefinitionError(place, expected=f"a hop of whole samples at {spec.rate} Hz", found=f"{hop} s", mend="Change the hop.")
            gap = max(seconds(self.gap) if self.gap is not None else 5 / spec.rate, 1 / spec.rate)
            trials = float(spec.rate) * len(spec.channels)
        else:
            if "score" not in spec.columns:
                found = ", ".join(sorted(spec.columns))
                raise DefinitionError(place, expected="marks with a column 'score'", found=found, mend="Name another source.")
            gap = seconds(self.gap) if self.gap is not None else Fraction(1, 2)
            trials = spec.trials_hz
        if not spec.null:
            trials = 0.0
        if gap <= 0:
            raise DefinitionError(f"{place}, gap", expected="above 0 s", found=f"{float(gap):g} s", mend="Make it longer.")
        return AlarmOp(self, hop, spec, gap, trials)


class AlarmOp(Op):
    """Alarm, bound."""

    persistent = True

    def __init__(self, stage: Alarm, hop: Fraction, spec: Spec, gap: Fraction, trials: float) -> None:
        self.hop, self.spec, self.severity = hop, spec, stage.severity
        self.surprise = surprise_of(spec.null, f"Alarm({stage.source!r})")
        channels = spec.channels or ("",)
        self.channels = len(channels)
        self.extras = [name for name in EXTRAS if isinstance(spec, MarksSpec) and name in spec.columns]
        rate, window = float(hertz(stage.rate)), WINDOW * gap
        longest = seconds(stage.longest) if stage.longest is not None else max(Fraction(3600), 50 * gap)
        # By the null law peaks come at `trials` a second times exp(-height); begin where they are well apart, one in ten gaps.
        self.null_rate = min(trials, 0.1 / float(gap))
        self.null_floor = log(trials / self.null_rate) if trials else 0.0
        expected = log(max(trials / rate, 1.0)) if trials else np.inf  # the null law's own threshold
        self.first = max(expected, self.null_floor)
        self.policy = Policy(
            rate, max(DEPTH * rate, RING / float(seconds(stage.memory))), stage.hysteresis,
            int(seconds(stage.hold_off) * NS), int(gap * NS), int(window * NS), int(longest * NS),
            float(seconds(stage.warm_up)), 0.5 * expected if trials else -np.inf, float(hop * NS),
            2.0 / rate if stage.habituation is None else float(seconds(stage.habituation)), np.inf if stage.habituation is None else 2.0,
        )  # fmt: skip
        columns: dict[str, tuple[str, tuple[int, ...]]] = {
            **dict.fromkeys(("start", "peak", "end"), ("i8", ())),
            **dict.fromkeys(("score", "p_value", "far"), ("f8", ())),
            "revision": ("i8", ()), "final": ("?", ()), "ordinal": ("i8", ()), "severity": ("i8", ()), "weight": ("f8", (self.channels,)),
            **{name: ("i8" if name == "class" else "f8", ()) for name in self.extras},
        }  # fmt: skip
        self._names = tuple(columns)
        self.memory = gap + window  # after as long without input the event is closed and its peak is in the tail
        warm = seconds(stage.warm_up) if trials else max(seconds(stage.warm_up), 64 * window)
        self.outputs = {
            "events": MarksSpec(
                columns, channels, lag=spec.lag, valid_after=spec.valid_after + warm, events=True, kind=stage.kind or "anomaly",
                classes=spec.classes if isinstance(spec, MarksSpec) else (),
            )
        }  # fmt: skip

    def init(self, assets: int) -> AlarmState:
        """Return tails that hold the null law, if it is known, and no event."""
        held = HOLD if isinstance(self.spec, MarksSpec) else 0
        return initial(assets, self.channels, len(self.extras), held, self.null_rate, self.null_floor, self.first)

    def step(self, state: AlarmState, inputs: Mapping[str, Port]) -> tuple[AlarmState, dict[str, Port]]:
        """Take scores or marks and give the revisions of events."""
        port = inputs["source"]
        if isinstance(port, Block):
            points = block_points(port, cast("BlockSpec", self.spec), self.hop, self.surprise)
        else:
            points = mark_points(port, cast("MarksSpec", self.spec), self.hop, self.surprise, self.extras, state)
        most = len(points.score) + points.ends.size  # rows of tables of which hardly any is touched
        ints, floats = np.empty((most, INTS), np.int64), np.empty((most, FLOATS + self.channels + len(self.extras)))
        n = advance(state, self.policy, port.rows, points, ints, floats)
        live, until = np.rint(points.live * NS).astype(np.int64), points.ends[:, -1].copy()
        columns = self._columns(ints[:n], floats[:n])
        return state, {"events": Marks(ints[:n, 0].copy(), ints[:n, 1].copy(), columns, port.rows.copy(), live.sum(axis=1), until, live)}

    def _columns(self, ints: Int, floats: Float) -> dict[str, NDArray[Any]]:
        """Return the columns of the spec from the kernel's tables."""
        if self.severity == "auto":
            severity = 1 + (floats[:, 1] * CRITICAL <= self.policy.rate).astype(np.int64)
        else:
            severity = np.full(len(ints), SEVERITIES.index(self.severity))
        found: dict[str, NDArray[Any]] = {
            "start": ints[:, 2], "peak": ints[:, 3], "end": ints[:, 4], "revision": ints[:, 5], "final": ints[:, 6] == 1,
            "ordinal": ints[:, 7], "score": floats[:, 0], "far": floats[:, 1], "p_value": floats[:, 2], "severity": severity,
            "weight": floats[:, FLOATS : FLOATS + self.channels],
        }  # fmt: skip
        for i, name in enumerate(self.extras, start=FLOATS + self.channels):
            found[name] = floats[:, i].astype(np.int64) if name == "class" else floats[:, i]
        return {name: found[name].copy() for name in self._names}
