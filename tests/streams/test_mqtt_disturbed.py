"""Short forms of ``bench.disturb_mqtt``: a broker that is stopped and comes back, and twice the messages that the engine takes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from bench.disturb_mqtt import overload, restart
from compose.services import Server

CAP = 60_000  # bytes of the log


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "engine"
    made.mkdir()
    return made


def test_a_broker_that_is_stopped_and_comes_back_costs_nothing(own_server: Callable[..., Server], folder: Path) -> None:
    found = restart(folder, own_server("mosquitto"), 1.0, 400.0, around=2.0)
    assert found["nothing_lost"]
    assert found["taken"] == found["sent"]
    assert found["reconnects"] >= 1


@pytest.mark.parametrize(("qos", "verdict"), [(1, "nothing_lost"), (0, "counted_exactly")])
def test_twice_what_the_engine_takes_waits_or_is_counted(own_server: Callable[..., Server], folder: Path, qos: int, verdict: str) -> None:
    found = overload(folder, own_server("mosquitto"), 3.0, 400.0, qos, CAP)
    assert found[verdict]
    assert (found["dropped_log_full"] > 0) == (qos == 0)
    assert found["log_mb"] <= CAP / 2**20 + 0.01
    assert found["behind"] > 0
