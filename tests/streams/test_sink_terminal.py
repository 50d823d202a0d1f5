"""The terminal: a line an event where there is none, a screen where there is one."""

from __future__ import annotations

import io
import math
from fractions import Fraction

import numpy as np

from streams.sink_terminal import TerminalSink, describe
from streams.sparkline import Trace, sparkline
from twin_engine.clock import NS
from twin_engine.ports import Block, BlockSpec
from twin_engine.records import Event, Update

EVENT = Event(
    id="e1", twin="interferometer", asset="H1", stage="glitch", kind="trigger", severity="critical", start=1442224245422000000,
    peak=1442224245422000001, end=1442224245672000000, score=12.5, p_value=1e-9, channels={"h": 1.0}, frequency=120.0,
    snr=20.0, class_="Blip",
)  # fmt: skip


class Screen(io.StringIO):
    def isatty(self) -> bool:
        return True


class FakeClock:
    def __init__(self) -> None:
        self.time = 1442224246 * NS

    def now(self) -> int:
        self.time += NS
        return self.time

    def sleep(self, duration: float) -> None:
        self.time += round(duration * NS)


def _update(k: int, *events: Event) -> Update:
    values = np.sin(np.arange(64.0) + 64 * k)[None, None]
    block = Block(values, np.ones_like(values, bool), np.array([0]), np.array([64 * k]))
    outputs = {"strain": block, "clean.out": block}
    specs = {name: BlockSpec(Fraction(64), ("h",)) for name in outputs}
    return Update("interferometer", ["H1"], outputs, specs, events, 1442224246 * NS + k * NS, 1442224246 * NS + k * NS)


def test_a_line_an_event_without_a_terminal() -> None:
    out = io.StringIO()
    sink = TerminalSink(("clean",), out, FakeClock())
    sink.open(None)
    sink.write(_update(0, EVENT))
    assert sink.flush() is None
    sink.close()
    assert out.getvalue() == describe(EVENT) + "\n"
    assert describe(EVENT) == "2015-09-14T09:50:45.422Z  critical  interferometer  H1  Blip  p=1e-09  SNR 20.0  120 Hz  0.25 s  h 1.00"


def test_a_screen_shows_rates_traces_and_events() -> None:
    out = Screen()
    sink = TerminalSink(("clean",), out, FakeClock())
    sink.open(None)
    for k in range(3):
        sink.write(_update(k, EVENT))
    sink.close()
    text = out.getvalue()
    for part in ("interferometer", "H1", "samples/s", "x real time", "clean h", "Blip", "3 in all"):
        assert part in text
    assert "█" in text


def test_sparkline_spans_least_to_greatest() -> None:
    assert sparkline([0, 1, 2, 3, 4, 5, 6, 7]) == "▁▂▃▄▅▆▇█"
    assert sparkline([5, math.nan, 5]) == "▁ ▁"
    assert sparkline([]) == ""


def test_a_trace_is_the_same_however_it_was_cut() -> None:
    values = np.random.default_rng(1).normal(size=640)
    valid = np.arange(640) % 7 != 0
    whole, parts = Trace(Fraction(64)), Trace(Fraction(64))
    whole.add(100, values, valid)
    for first in range(0, 640, 9):
        parts.add(100 + first, values[first : first + 9], valid[first : first + 9])
    assert list(whole.values) == list(parts.values)
