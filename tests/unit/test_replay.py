"""`replay` and the public names."""

from __future__ import annotations

import numpy as np
import pytest

import twin_engine
from tests.laws.mean import Mean
from twin_engine import Channel, Reading, Stream, Twin, replay
from twin_engine.errors import InputError


def test_readings_of_another_asset_are_refused_not_dropped() -> None:
    twin = Twin("t", "1 s", [Stream("s", 1, [Channel("x")])], {"m": Mean("s")})
    readings = [Reading(name, ("x",), np.array([k * 10**9]), np.ones((1, 1))) for k, name in enumerate(("p1", "p2"))]
    assert list(replay(twin, readings[:1], asset="p1"))
    with pytest.raises(InputError, match=r"asset 'p1'.*'p2'"):
        list(replay(twin, readings, asset="p1"))


def test_every_public_name_is_there() -> None:
    assert all(getattr(twin_engine, name) is not None for name in twin_engine.__all__)
    assert twin_engine.hertz("1/5 min") * twin_engine.seconds("5 min") == 1
