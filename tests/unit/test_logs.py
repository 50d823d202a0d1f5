"""Logs of a service: libraries that repeat themselves are heard once a minute."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator

import pytest

from twin_engine.logs import EVERY, Seldom, set_up


@pytest.fixture
def _root() -> Iterator[None]:
    root = logging.getLogger()
    names = ("aiokafka", "faust", "mode", "kafka")
    before = root.handlers[:], root.level, [logging.getLogger(name).level for name in names]
    yield
    root.handlers[:], root.level = before[0], before[1]
    for name, level in zip(names, before[2], strict=True):
        logging.getLogger(name).setLevel(level)


def record(name: str, text: str, when: float, *args: object) -> logging.LogRecord:
    made = logging.LogRecord(name, logging.ERROR, "", 0, text, args, None)
    made.created = when
    return made


def test_equal_records_go_out_once_a_minute_with_a_count() -> None:
    seldom = Seldom()
    out = []
    for i in range(200):  # 0.75 s apart
        for node in (0, 1):
            one = record("aiokafka.conn", "no node %d", 1e9 + 0.75 * i, node)
            if seldom.filter(one):
                out.append(one.getMessage())
    assert out == [
        "no node 0", "no node 1",
        "no node 0 (and 79 times more in the 60 s before)", "no node 1 (and 79 times more in the 60 s before)",
        "no node 0 (and 79 times more in the 60 s before)", "no node 1 (and 79 times more in the 60 s before)",
    ]  # fmt: skip
    assert seldom.filter(record("aiokafka.conn", "no node %d", 1e9 + 1e6, 0))


def test_others_are_never_held_back_and_memory_is_bounded() -> None:
    seldom = Seldom()
    assert all(seldom.filter(record(name, "x", 1e9)) for name in ("twin_engine.worker", "aiokafkaesque", "root") for _ in range(3))
    for i in range(3 * Seldom.LIMIT):
        assert seldom.filter(record("faust", "%d", 1e9, i))
    assert len(seldom._told) == Seldom.LIMIT
    assert not seldom.filter(record("faust", "%d", 1e9 + EVERY / 2, 3 * Seldom.LIMIT - 1))


@pytest.mark.usefixtures("_root")
def test_a_service_s_logs_are_set_up_so(capsys: pytest.CaptureFixture[str]) -> None:
    set_up("info", "json")
    for _ in range(50):
        logging.getLogger("aiokafka.client").error("Unable connect to %s", "h:9092")
        logging.getLogger("twin_engine.worker").warning("again")
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert sum(line["logger"] == "aiokafka.client" for line in lines) == 1
    assert sum(line["logger"] == "twin_engine.worker" for line in lines) == 50
