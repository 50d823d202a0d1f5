"""A sink that fails, behind a spool: nothing lost, nothing twice, order kept, the source held back when the spool is full."""

from __future__ import annotations

import json
from contextlib import suppress
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import streams.spool
from streams.spool import Spool
from streams.update_codec import decode_update, encode_update
from twin_engine.clock import NS
from twin_engine.errors import SinkError
from twin_engine.ports import Block, BlockSpec
from twin_engine.records import Event, Position, Sink, Update


class FakeClock:
    """Moves only when slept on, and calls back."""

    def __init__(self) -> None:
        self.time = 0
        self.slept = 0
        self.mend = lambda: None

    def now(self) -> int:
        return self.time

    def sleep(self, duration: float) -> None:
        self.time += round(duration * NS)
        self.slept += 1
        if self.slept == 3:
            self.mend()


class Flaky:
    """Keeps the ids of events; what is not flushed is lost when it fails."""

    def __init__(self) -> None:
        self.kept: list[str] = []
        self.held: list[str] = []
        self.broken = False

    def _check(self) -> None:
        if self.broken:
            self.held = []
            raise SinkError("flaky", expected="up", found="down")

    def open(self, position: Position) -> None:
        self._check()
        self.kept, self.held = self.kept[: position or 0], []

    def write(self, update: Update) -> None:
        self._check()
        self.held += [event.id for event in update.events]

    def flush(self) -> Position:
        self._check()
        self.kept, self.held = self.kept + self.held, []
        return len(self.kept)

    def close(self) -> None:
        self.flush()


def _update(k: int) -> Update:
    event = Event(
        id=str(k),
        twin="t",
        asset="a",
        stage="s",
        kind="k",
        severity="info",
        start=k,
        peak=k,
        end=k,
        score=1.0,
        p_value=0.5,
        channels={"x": 1.0},
    )
    return Update("t", ["a"], {}, {}, [event], k, k)


def test_an_update_survives_the_disk() -> None:
    rng = np.random.default_rng(1)
    block = Block(rng.normal(size=(2, 3, 5)), rng.random((2, 3, 5)) > 0.5, np.array([0, 4]), np.array([10, 20]))
    spec = BlockSpec(Fraction(1, 300), ("x", "y", "z"), ("K", "1", "m"))
    assets = ["a", "b", "c", "d", "e"]
    update = Update("t", assets, {"s.out": block, "s.other": block}, {"s.out": spec, "s.other": spec}, _update(1).events, 5, 6)
    again = decode_update(encode_update(update, ("s",)))
    assert set(again.outputs) == {"s.out"}
    assert again.specs == {"s.out": spec}
    back = again.outputs["s.out"]
    assert isinstance(back, Block)
    for name in ("values", "valid", "start"):
        np.testing.assert_array_equal(getattr(back, name), getattr(block, name))
    assert [again.assets[row] for row in back.rows] == ["a", "e"]
    assert (again.twin, list(again.assets), again.events, again.until, again.arrival) == ("t", ["a", "e"], update.events, 5, 6)


ACTIONS = st.lists(st.sampled_from(["write", "write", "write", "break", "mend", "flush", "crash", "wait"]), max_size=40)


@given(ACTIONS, st.sampled_from([1, 300, 1 << 20]))
@settings(max_examples=200, deadline=None)
def test_nothing_is_lost_or_doubled_whatever_happens(tmp_path_factory: pytest.TempPathFactory, actions: list[str], most: int) -> None:
    """A crash goes back to the last flush, from which the input is played again, as a run does. most: bytes remembered."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(streams.spool, "_MOST", most)
        whatever_happens(tmp_path_factory, actions)


def whatever_happens(tmp_path_factory: pytest.TempPathFactory, actions: list[str]) -> None:
    directory = tmp_path_factory.mktemp("spool")
    clock, flaky = FakeClock(), Flaky()
    spool = Spool(flaky, directory, clock=clock)
    spool.open(None)
    assert isinstance(spool, Sink)
    written, saved, position = 0, 0, None
    for action in actions:
        if action == "write":
            spool.write(_update(written))
            written += 1
        elif action in {"break", "mend"}:
            flaky.broken = action == "break"
        elif action == "flush":
            position, saved = json.loads(json.dumps(spool.flush())), written
        elif action == "wait":
            clock.time += 2 * NS
        elif position is not None:
            flaky.held = []
            with suppress(SinkError):
                spool.close()
            spool = Spool(flaky, directory, clock=clock)
            spool.open(position)
            written = saved
        assert flaky.kept == [str(k) for k in range(len(flaky.kept))]
    flaky.broken = False
    clock.time += 2 * NS
    spool.flush()
    spool.close()
    assert flaky.kept == [str(k) for k in range(written)]


def test_files_go_when_no_snapshot_can_need_them(tmp_path: Path) -> None:
    clock, flaky = FakeClock(), Flaky()
    spool = Spool(flaky, tmp_path, clock=clock)
    spool.open(None)
    flaky.broken = True
    spool.write(_update(0))
    assert spool.down
    spool.flush()
    flaky.broken, clock.time = False, 2 * NS
    counts = []
    for _ in range(4):
        spool.flush()
        counts.append(len(list(tmp_path.iterdir())))
    assert not spool.down
    assert counts == [1, 1, 0, 0]


def test_what_is_remembered_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams.spool, "_MOST", 1000)
    flaky = Flaky()
    spool = Spool(flaky, tmp_path, clock=FakeClock())
    spool.open(None)
    for k in range(200):
        spool.write(_update(k))
        assert sum(map(len, spool._since)) <= 1000
    flaky.broken = True
    for k in range(200, 220):
        spool.write(_update(k))
    flaky.broken = False
    spool.close()
    assert flaky.kept == [str(k) for k in range(220)]


def test_a_full_spool_waits_for_the_sink(tmp_path: Path) -> None:
    clock, flaky = FakeClock(), Flaky()
    spool = Spool(flaky, tmp_path, cap=300, clock=clock)
    spool.open(None)
    flaky.broken = True

    def mend() -> None:
        flaky.broken = False

    clock.mend = mend
    for k in range(10):
        spool.write(_update(k))
    assert clock.slept == 3
    spool.flush()
    assert flaky.kept == [str(k) for k in range(10)]


def test_patience_ends_with_nothing_lost(tmp_path: Path) -> None:
    flaky = Flaky()
    spool = Spool(flaky, tmp_path, cap=300, patience=5.0, clock=FakeClock())
    spool.open(None)
    flaky.broken = True
    spool.write(_update(0))
    with pytest.raises(SinkError, match="nothing is lost"):
        spool.write(_update(1))
    spool.close()


def test_damage_is_told(tmp_path: Path) -> None:
    clock, flaky = FakeClock(), Flaky()
    spool = Spool(flaky, tmp_path, clock=clock)
    spool.open(None)
    flaky.broken = True
    spool.write(_update(0))
    position = spool.flush()
    spool.close()
    (path,) = tmp_path.iterdir()
    raw = bytearray(path.read_bytes())
    raw[-1] ^= 1
    path.write_bytes(bytes(raw))
    flaky.broken = False
    with pytest.raises(SinkError, match="damaged"):
        Spool(flaky, tmp_path, clock=clock).open(position)
    path.unlink()
    with pytest.raises(SinkError, match="Put the file back"):
        Spool(flaky, tmp_path, clock=clock).open(position)


def test_a_sink_that_never_opened_is_told_at_once(tmp_path: Path) -> None:
    flaky = Flaky()
    flaky.broken = True
    with pytest.raises(SinkError, match="flaky"):
        Spool(flaky, tmp_path).open(None)
