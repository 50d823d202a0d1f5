"""Speed: when readings come, that cutting changes nothing, and that every position resumes."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator

import numpy as np
import pytest

from streams.pacing import PIECE, Paced, parse_speed
from twin_engine.clock import NS
from twin_engine.errors import InputError
from twin_engine.records import Idle, Item, Position, Reading, Reason, Reject, Source


class FakeClock:
    """Moves only when slept on."""

    def __init__(self) -> None:
        self.time = 5 * NS

    def now(self) -> int:
        return self.time

    def sleep(self, duration: float) -> None:
        self.time += round(duration * NS)


class Recording:
    """Three seconds at 64 Hz in readings of a second, with a reject after the first."""

    live = False

    def __init__(self) -> None:
        self.acknowledged: list[Position] = []

    def items(self, position: Position) -> Iterator[Item]:
        for k in range(position or 0, 4):
            times = k * NS + np.arange(64) * (NS // 64)
            reading = Reading("a", ("x",), times, np.arange(64.0)[None] + 64 * k, position=k + 1)
            yield Reject(Reason.MALFORMED, "bad", "test", b"?", position=k + 1) if k == 1 else reading

    def acknowledge(self, position: Position) -> None:
        self.acknowledged.append(position)

    def close(self) -> None:
        pass


def _values(items: list[Item]) -> list[float]:
    return [float(v) for item in items if isinstance(item, Reading) for v in item.values[0]]


def _paced(speed: float, position: Position = None) -> list[Item]:
    return list(Paced(Recording(), speed, FakeClock()).items(position))


def test_readings_come_when_they_are_due() -> None:
    clock = FakeClock()
    for item in Paced(Recording(), 2.0, clock).items(None):
        if isinstance(item, Reading):
            assert clock.now() == 5 * NS + int(item.times[-1]) // 2
            assert (item.times[-1] - item.times[0]) < PIECE * NS


def test_cutting_changes_nothing() -> None:
    assert _values(_paced(1.0)) == _values(list(Recording().items(None)))
    assert _paced(math.inf)[0].position == 1


@pytest.mark.parametrize("then", [1.0, math.inf])
def test_every_position_resumes_at_any_speed(then: float) -> None:
    items = _paced(1.0)
    assert any(isinstance(item, Idle) for item in items)
    for k in range(0, len(items), 5):
        position = json.loads(json.dumps(items[k].position))
        assert _values(_paced(then, position)) == _values(items[k + 1 :])


def test_acknowledges_in_the_sources_own_terms() -> None:
    source = Recording()
    assert isinstance(source, Source)
    paced = Paced(source, 1.0, FakeClock())
    paced.acknowledge({"before": 2, "samples": 8})
    paced.acknowledge(3)
    assert source.acknowledged == [2, 3]


def test_speeds() -> None:
    assert [parse_speed(text) for text in ("realtime", "max", "10x", "0.5")] == [1.0, math.inf, 10.0, 0.5]
    for text in ("fast", "0x", "-1", "nan"):
        with pytest.raises(InputError, match="realtime"):
            parse_speed(text)
