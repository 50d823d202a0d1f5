"""Short forms of ``bench.disturb`` and ``bench.poison``, on a real Kafka: what comes out equals an undisturbed engine's."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("aiokafka")

from bench.disturb import members, outage, zombie
from bench.poison import streamed
from bench.trial import Trial
from compose.services import Server
from streams.kafka.client import Kafka
from streams.kafka.watch import Stuck, Watch

NOTHING = dict.fromkeys(("lost", "foreign", "sink_lost", "sink_duplicated", "sink_foreign", "values_lost", "values_wrong"), 0)


def undisturbed(verdict: dict[str, Any]) -> None:
    assert {k: verdict[k] for k in NOTHING} == NOTHING
    assert verdict["snapshots_equal"]
    assert set(verdict["exit_codes"]) == {0}


def test_a_worker_that_slept_while_another_took_over_changes_nothing(kafka: str, unique: str, tmp_path: Path) -> None:
    undisturbed(asyncio.run(Trial(Kafka(kafka), tmp_path, unique, "faust", messages=10_000, rate=400).run(zombie)))


def test_workers_that_join_and_leave_change_nothing(kafka: str, unique: str, tmp_path: Path) -> None:
    trial = Trial(Kafka(kafka), tmp_path, unique, messages=6000, rate=400)
    verdict = asyncio.run(trial.run(members(3, 1)))
    undisturbed(verdict)
    assert verdict["left_in_order"]


def test_kafka_may_be_away_for_a_while(own_server: Callable[..., Server], unique: str, tmp_path: Path) -> None:
    server = own_server("kafka")
    verdict = asyncio.run(Trial(Kafka(server.env["KAFKA_BOOTSTRAP"]), tmp_path, unique, messages=8000, rate=400).run(outage(server, 5)))
    undisturbed(verdict)
    assert verdict["same_process"]


def test_what_is_malformed_is_a_dead_letter_with_its_reason_and_the_rest_untouched(kafka: str, unique: str, tmp_path: Path) -> None:
    verdict = asyncio.run(streamed(Trial(Kafka(kafka), tmp_path, unique, messages=4000)))
    undisturbed(verdict)
    assert verdict["poisoned"] == 39
    assert verdict["dead_as_sent"]
    assert verdict["rest_untouched"]


def test_a_reader_is_stuck_where_the_end_moves_and_it_does_not() -> None:
    watch = Watch(Kafka(""), "t", dict, patience=30)
    watch.look({0: 5, 1: 7}, {0: 6, 1: 7}, 0)  # the end of 0 may be the mark of a transaction
    watch.look({0: 5, 1: 7}, {0: 6, 1: 9}, 100)
    watch.look({0: 5, 1: 9}, {0: 6, 1: 9}, 140)
    watch.look({0: 5, 1: 9}, {0: 8, 1: 9}, 200)
    watch.look({0: 5, 1: 9}, {0: 8, 1: 9}, 229)
    with pytest.raises(Stuck, match="partition 0: at 5"):
        watch.look({0: 5, 1: 9}, {0: 8, 1: 9}, 230)
