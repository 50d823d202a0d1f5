"""A worker killed at random, on a real Kafka: what comes out equals an undisturbed engine's, in both runtimes."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

pytest.importorskip("aiokafka")

from bench.kills import kills
from bench.trial import Trial
from streams.kafka.client import Kafka

NOTHING = dict.fromkeys(("lost", "foreign", "sink_lost", "sink_duplicated", "sink_foreign", "values_lost", "values_wrong"), 0)


@pytest.mark.parametrize("runtime", ["aiokafka", "faust"])
def test_a_worker_killed_while_messages_stream_loses_and_doubles_nothing(kafka: str, unique: str, tmp_path: Path, runtime: str) -> None:
    trial = Trial(Kafka(kafka), tmp_path, unique, runtime, messages=8000, rate=2000, assets=40)
    verdict = asyncio.run(trial.run(kills(2)))
    assert verdict["events"] > 0
    assert verdict["values"] == 8000
    assert {k: verdict[k] for k in NOTHING} == NOTHING
    assert verdict["snapshots_equal"]
    assert verdict["exit_codes"] == [0, 0]
