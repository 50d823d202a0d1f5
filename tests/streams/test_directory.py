"""A directory of files as one source."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from streams import open_source
from twin_engine.clock import NS
from twin_engine.errors import InputError
from twin_engine.records import Idle, Item, Reading, Reason, Reject

OLD = 1_600_000_000 * NS


class FakeClock:
    """Moves only when slept on; calls back at each sleep."""

    def __init__(self) -> None:
        self.time = OLD + 3600 * NS

    def now(self) -> int:
        return self.time

    def sleep(self, duration: float) -> None:
        self.time += round(duration * NS)


def _put(path: Path, text: str, age: float = 3600.0) -> None:
    path.write_text(text)
    stamp = OLD + 3600 * NS - round(age * NS)
    os.utime(path, ns=(stamp, stamp))


def _values(items: list[Item]) -> list[float]:
    return [float(v) for item in items if isinstance(item, Reading) for v in item.values[0]]


def _items(directory: Path, position: object = None, query: str = "watch=no") -> list[Item]:
    return list(open_source(f"dir:{directory}?{query}", clock=FakeClock()).items(position))


def test_files_come_in_the_order_of_names_and_resume(tmp_path: Path) -> None:
    for k in (2, 0, 1):
        _put(tmp_path / f"day{k}.csv", "time,x\n" + "".join(f"{10 * k + i},{10 * k + i}\n" for i in range(3)))
    _put(tmp_path / "notes.txt", "not data")
    _put(tmp_path / ".hidden.csv", "time,x\n1,99\n")
    _put(tmp_path / "half.csv.part", "time,x\n1,99\n")
    items = _items(tmp_path)
    assert _values(items) == [0, 1, 2, 10, 11, 12, 20, 21, 22]
    for k, item in enumerate(items):
        assert _values(_items(tmp_path, json.loads(json.dumps(item.position)))) == _values(items[k + 1 :])
    assert _values(_items(tmp_path, query="watch=no&pattern=day[12]*")) == [10, 11, 12, 20, 21, 22]


def test_a_file_is_read_once_it_has_come_to_rest(tmp_path: Path) -> None:
    _put(tmp_path / "a.csv", "time,x\n1,1\n", age=0.5)
    items = _items(tmp_path)
    assert _values(items) == [1]
    assert sum(isinstance(item, Idle) for item in items) == 15  # looks, a tenth of a second apart, until it is 2 s old
    assert sum(isinstance(item, Idle) for item in _items(tmp_path, query="watch=no&settle=1 s")) == 5


def test_bad_and_late_files_are_rejects_and_the_rest_goes_on(tmp_path: Path) -> None:
    _put(tmp_path / "b1.csv", "time,x\n1,1\n")
    _put(tmp_path / "b2.csv", "nothing of use\n")
    _put(tmp_path / "b3.npz", "no archive")
    _put(tmp_path / "b4.csv", "time,x\n4,4\n")
    items = open_source(f"dir:{tmp_path}", clock=FakeClock()).items(None)
    seen = [next(items) for _ in range(5)]
    assert _values(seen) == [1, 4]
    assert [(i.reason, i.raw) for i in seen if isinstance(i, Reject)] == [
        (Reason.MALFORMED, b"nothing of use\n"),
        (Reason.MALFORMED, b"no archive"),
    ]
    assert isinstance(seen[-1], Idle)
    _put(tmp_path / "a.csv", "time,x\n0,0\n")
    _put(tmp_path / "c.csv", "time,x\n5,5\n")
    after = [next(items) for _ in range(3)]
    assert isinstance(after[0], Reject)
    assert (after[0].reason, after[0].position) == (Reason.LATE, ["b4.csv", "done"])
    assert _values(after) == [5]


def test_a_file_that_is_gone_is_passed_over(tmp_path: Path) -> None:
    _put(tmp_path / "a.csv", "time,x\n1,1\n2,x\n")
    _put(tmp_path / "b.csv", "time,x\n3,3\n")
    position = _items(tmp_path)[0].position
    (tmp_path / "a.csv").unlink()
    items = _items(tmp_path, position)
    assert _values(items) == [3]
    assert isinstance(items[0], Reject)


def test_errors() -> None:
    with pytest.raises(InputError, match="a directory"):
        open_source("dir:/nowhere/at/all")
