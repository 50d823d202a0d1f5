"""The log in front of the engine: what it took is there after a crash, and old files go."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.mqtt_log import Entry, Log
from twin_engine.errors import InputError


class Tokens:
    """Collects what became durable."""

    def __init__(self) -> None:
        self.got: list[Any] = []
        self._came = threading.Condition()

    def __call__(self, tokens: list[Any]) -> None:
        with self._came:
            self.got += tokens
            self._came.notify_all()

    def wait(self, count: int) -> None:
        with self._came:
            assert self._came.wait_for(lambda: len(self.got) >= count, 30)


def entry(i: int, size: int = 10) -> Entry:
    return Entry(i, f"plant/{i}", bytes([i % 256]) * size, {})


def everything(log: Log, offset: int = 0) -> list[Entry]:
    found = []
    while log.wait(offset, 0):
        for one in log.read(offset):
            assert one.begin == offset
            found.append(one.entry)
            offset = one.end
    return found


def filled(folder: Path, n: int, size: int = 10, **options: int) -> Log:
    tokens = Tokens()
    log = Log(folder, tokens, **options)
    for i in range(n):
        assert log.append(entry(i, size), i)
    tokens.wait(n)
    assert tokens.got == list(range(n))
    return log


def test_what_was_taken_is_read_in_order_and_after_a_restart(tmp_path: Path) -> None:
    log = filled(tmp_path, 1000)
    assert everything(log) == [entry(i) for i in range(1000)]
    log.close()
    again = Log(tmp_path, Tokens())
    assert everything(again) == [entry(i) for i in range(1000)]
    assert again.append(entry(1000), 0)
    again.close()
    last = Log(tmp_path, Tokens())
    assert len(everything(last)) == 1001
    last.close()


@given(cut=st.integers(0, 200))
def test_a_torn_end_is_cut(tmp_path_factory: pytest.TempPathFactory, cut: int) -> None:
    folder = tmp_path_factory.mktemp("log")
    log = filled(folder, 20)
    each = [one.end for one in log.read(0)]
    log.close()
    path = next(folder.glob("*.log"))
    size = path.stat().st_size - cut
    path.write_bytes(path.read_bytes()[:size])
    whole = sum(end <= size for end in each)
    again = Log(folder, Tokens())
    assert everything(again) == [entry(i) for i in range(whole)]
    again.close()


def test_damage_at_the_end_is_cut_and_elsewhere_refused(tmp_path: Path) -> None:
    filled(tmp_path, 20, 1000).close()
    paths = sorted(tmp_path.glob("*.log"))
    first = paths[0].read_bytes()
    paths[0].write_bytes(first[:100] + b"\1" + first[101:])
    (tmp_path / f"{len(first):020d}.log").touch()  # as if another had begun after it
    log = Log(tmp_path, Tokens())
    with pytest.raises(InputError, match="damaged"):
        list(log.read(0))
    log.close()
    paths[0].write_bytes(first[:-1])
    with pytest.raises(InputError, match="bytes"):
        Log(tmp_path, Tokens())


def test_old_segments_go_and_the_rest_stays(tmp_path: Path) -> None:
    tokens = Tokens()
    log = Log(tmp_path, tokens, segment=5000)
    for i in range(30):
        log.append(entry(i, 1000), i)
        tokens.wait(i + 1)  # each in a group of its own, so that segments are full one by one
    assert len(list(tmp_path.glob("*.log"))) == 6 + 1
    place = list(log.read(0))[-1].end
    log.acknowledge(place - 1)
    assert log.begin == 0
    log.acknowledge(place)
    assert log.begin == place
    assert everything(log, place)[0] == entry(5, 1000)
    with pytest.raises(InputError, match="offset"):
        list(log.read(0))
    log.close()


def test_a_full_log_takes_nothing_until_old_files_go(tmp_path: Path) -> None:
    tokens = Tokens()
    log = Log(tmp_path, tokens, cap=16_000)
    n = 0
    while log.append(entry(n, 1000), n):
        n += 1
        tokens.wait(n)
    assert n == 15
    assert sum(path.stat().st_size for path in tmp_path.glob("*.log")) <= 16_000
    log.acknowledge(log.safe)
    assert log.append(entry(n, 1000), n)
    log.close()


def test_a_folder_has_one_owner(tmp_path: Path) -> None:
    log = Log(tmp_path, Tokens())
    with pytest.raises(InputError, match="alone"):
        Log(tmp_path, Tokens())
    log.close()


def test_a_disk_that_fails_is_told_to_the_reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    log = Log(tmp_path, Tokens())
    monkeypatch.setattr("os.fdatasync", full)
    log.append(entry(0), 0)
    with pytest.raises(InputError, match="No space left"):
        log.wait(0, 30)
    assert not log.append(entry(1), 1)
    monkeypatch.undo()
    log.close()
