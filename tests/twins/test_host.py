"""The host's twin on its simulator: quiet while all is well, loud for each fault."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from streams import host as live
from twin_engine import Event, Reading, replay
from twin_engine.clock import NS
from twin_engine.engine import latest
from twins.host import CHANNELS, Host, twin


def by_minute(simulator: Host) -> Iterator[Reading]:
    """Yield the readings of each minute as one: fewer steps, the same results."""
    held: list[Reading] = []
    for block in simulator.blocks():
        held += block
        if len(held) == 60:
            values, times = np.concatenate([r.values for r in held], axis=1), np.concatenate([r.times for r in held])
            yield Reading("host", held[0].channels, times, values)
            held = []


def events(simulator: Host) -> list[Event]:
    found = [e for update in replay(twin, by_minute(simulator), asset="host") for e in update.events]
    return latest(found)


def test_channels_are_those_of_the_live_source() -> None:
    assert tuple((c.name, c.unit) for c in CHANNELS) == live.CHANNELS


def test_quiet_for_three_hours() -> None:
    assert len(events(Host(seed=4, duration=3 * 3600))) <= 1


@pytest.mark.parametrize(("fault", "channel"), [("fan", "temperature"), ("runaway", "load1"), ("leak", "memory")])
def test_a_fault_is_found_and_named(fault: str, channel: str) -> None:
    simulator = Host(seed=5, duration=5400, faults=f"{fault}@4500:600")
    (truth,) = simulator.truth()
    found = [e for e in events(simulator) if truth.start <= e.start <= truth.start + 120 * NS and e.stage == "strange"]
    assert found, fault
    assert next(iter(found[0].channels)) == channel
    assert found[0].kind == "departure"


def test_any_segment_can_be_made_first() -> None:
    whole = [r.values for block in Host(seed=1, duration=900, faults="fan@300:60").blocks() for r in block]
    again = [r.values for block in Host(seed=1, duration=900, faults="fan@300:60").blocks(500) for r in block]
    assert all(np.array_equal(a, b) for a, b in zip(whole[500:], again, strict=True))


def test_segments_join() -> None:
    x = np.concatenate([Host(seed=2).make(k)["host"] for k in range(5)], axis=1)
    steps = np.abs(np.diff(x[2]))  # the run queue's mean, the smoothest channel
    assert steps[np.arange(256, 1280, 256) - 1].max() < 4 * np.std(steps)
    assert np.isfinite(x).all()
    for channel, values in zip(CHANNELS, x, strict=True):
        assert channel.range[0] <= values.min() <= values.max() <= channel.range[1], channel.name
