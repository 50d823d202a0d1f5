"""The twin of any table, and its simulator."""

from __future__ import annotations

import numpy as np
import pytest

from twin_engine import replay
from twin_engine.engine import latest
from twin_engine.graph import bind
from twins.generic import table, twin


def test_a_shift_of_the_level_is_found() -> None:
    simulator = twin.simulator("pump", seed=3, duration="6 d", faults="shift@432000:12")
    readings = (reading for block in simulator.blocks() for reading in block)
    found = latest(e for update in replay(twin, readings, asset="pump") for e in update.events)
    (truth,) = simulator.truth()
    assert [e for e in found if 0 <= e.start - truth.time <= 3600 * 10**9]
    assert len(found) <= 3


def test_columns_and_rate_are_free() -> None:
    made = table(["flow", "pressure"], rate="1/10 s")
    assert bind(made).hop == 10
    (reading,) = next(iter(made.simulator("x", seed=1).blocks()))
    assert reading.channels == ("flow", "pressure")
    assert set(np.diff(reading.times)) == {10 * 10**9}


@pytest.mark.parametrize("faults", ["spike@600:9", "flat@600:600", "gap@600:600"])
def test_faults_change_only_their_time(faults: str) -> None:
    plain, faulty = (
        np.concatenate([np.stack([r.times, r.values[0]]) for b in twin.simulator("x", duration=3600, faults=f).blocks() for r in b], axis=1)
        for f in ("", faults)
    )
    kept = np.isin(plain[0], faulty[0])
    changed = np.flatnonzero(plain[1][kept] != faulty[1])
    assert len(changed) == {"spike": 1, "flat": 10, "gap": 0}[faults.partition("@")[0]]
    assert (~kept).sum() == (10 if faults.startswith("gap") else 0)
