"""The interferometer's twin on its simulator: glitches found where they are, and nothing else."""

from __future__ import annotations

import numpy as np
import pytest

from twin_engine import Event, replay
from twin_engine.clock import NS
from twin_engine.engine import latest
from twin_engine.sim import KINDS, Injection
from twins.interferometer import WITNESSES, simulator, twin
from twins.interferometer16k import twin as fast


def events(**parameters: object) -> tuple[list[Event], list[Injection]]:
    sim = simulator("V1", **parameters)
    readings = (reading for block in sim.blocks() for reading in block)
    return latest(e for update in replay(twin, readings, asset="V1") for e in update.events), sim.truth()


def test_the_definition_names_the_simulators_channels() -> None:
    first = next(iter(simulator("V1").blocks()))
    assert [r.channels for r in first] == [tuple(c.name for c in s.channels) for s in twin.streams]
    assert [len(r.times) for r in first] == [1024, 256]
    assert len(next(iter(simulator("V1", witnesses=0).blocks()))) == 1
    assert len({w.name for w in WITNESSES}) == len(WITNESSES)


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_of_glitch_is_found(kind: str) -> None:
    found, (injection,) = events(duration=40, seed=11, glitches=f"{kind}@25.3:40", witnesses=0)
    near = [e for e in found if injection.start - NS // 4 <= e.peak <= injection.end + NS // 4]
    assert near
    assert max(e.snr or 0 for e in near) > 10
    assert not [e for e in found if e.peak < injection.start - NS]


def test_a_glitch_under_witness_noise_is_found_once_the_noise_is_taken_out() -> None:
    found, (injection,) = events(duration=112, seed=11, glitches="Tomte@100.7:25")
    loudest = max(found, key=lambda e: e.score)
    assert abs(loudest.peak - injection.time) < NS // 10
    assert loudest.snr == pytest.approx(25, rel=0.3)


def test_quiet_noise_raises_nothing() -> None:
    found, _ = events(duration=120, seed=12)
    assert len(found) <= 1


def test_blips_are_timed_to_milliseconds() -> None:
    found, truth = events(duration=40, seed=13, glitches="Blip@20.123:20,Blip@30.456:20", line_strength=0.1)
    for injection in truth:
        assert min(abs(e.peak - injection.time) for e in found) < 0.02 * NS
    assert np.isfinite([e.score for e in found]).all()


def test_the_same_at_16384_hz() -> None:
    sim = fast.simulator("V1", duration=32, seed=14, glitches="Blip@20.5:25", witnesses=0)
    readings = (reading for block in sim.blocks() for reading in block)
    found = latest(e for update in replay(fast, readings, asset="V1") for e in update.events)
    assert [round((e.peak - sim.start) / NS, 1) for e in found] == [20.5]
