"""The run loop: checkpoints in order, resume that equals an undisturbed run, absence told once."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.laws.mean import Mean
from twin_engine.clock import NS
from twin_engine.engine import Engine, replay
from twin_engine.errors import SnapshotError
from twin_engine.records import Idle, Reading, Reason, Reject
from twin_engine.run import SNAPSHOT, Run
from twin_engine.snapshot import read_snapshot
from twin_engine.testing.fakes import FakeClock, ListSink, ScriptedSource
from twin_engine.twin import Channel, Stream, Twin

T0 = 1_700_000_000 * NS


def twin(name: str = "t") -> Twin:
    return Twin(name, "1 s", [Stream("s", 4, [Channel("x")])], {"m": Mean("s")})


def items(n: int = 40, seed: int = 0) -> list:
    rng = np.random.default_rng(seed)
    found = []
    for k in range(n):
        times = T0 + k * NS + np.arange(4) * NS // 4
        found.append(Reading("a", ("x",), times, rng.normal(size=(1, 4))))
        if k % 9 == 5:
            found.append(Reject(Reason.MALFORMED, "not a number", "test", b"x"))
    return found


def values(sink: ListSink) -> np.ndarray:
    return np.concatenate([u.outputs["m.mean"].values[0, 0] for u in sink.updates])


def test_replay_needs_nothing_but_a_twin_and_arrays() -> None:
    x = np.random.default_rng(1).normal(size=64)
    out = np.concatenate([u.outputs["m.mean"].values[0, 0] for u in replay(twin(), [{"s": x[:20]}, {"s": x[20:]}])])
    assert out[0] == pytest.approx(0.1 * x[0])
    assert len(out) >= 64


@given(st.integers(1, 43), st.sampled_from([0.01, 3.0, 1e9]))
@settings(max_examples=12, deadline=None)
def test_a_run_that_is_cut_off_anywhere_and_begun_again_equals_an_undisturbed_one(tmp_path_factory, fail_at: int, every: float) -> None:
    folder = tmp_path_factory.mktemp("state")
    whole, cut = ListSink(), ListSink()
    Run(twin(), ScriptedSource(items()), [whole], assets=["a"], state_dir=folder / "w", clock=FakeClock(tick=NS))()
    options = {"assets": ["a"], "state_dir": folder / "c", "snapshot_every": every}
    with pytest.raises(KeyboardInterrupt):
        Run(twin(), ScriptedSource(items(), fail_at=fail_at), [cut], clock=FakeClock(tick=NS), **options)()
    report = Run(twin(), ScriptedSource(items()), [cut], clock=FakeClock(tick=NS), **options)()
    np.testing.assert_array_equal(values(whole), values(cut))
    assert report.rejects == {"malformed": 4}
    assert report.samples == 160
    a, b = (read_snapshot(folder / k / SNAPSHOT) for k in "wc")
    same = {"sinks": None}  # this sink counts updates, and how hops are grouped into these is free
    assert {**a.document, **same} == {**b.document, **same}
    assert all(np.array_equal(a.arrays[k], b.arrays[k]) for k in a.arrays)


def test_the_order_is_sinks_then_snapshot_then_acknowledge(tmp_path, monkeypatch) -> None:
    log: list[str] = []
    sink, source = ListSink(), ScriptedSource(items(4))
    sink.log = log
    monkeypatch.setattr("twin_engine.run.write_snapshot", lambda *_: log.append("snapshot"))
    monkeypatch.setattr(source, "acknowledge", lambda _: log.append("acknowledge"))
    Run(twin(), source, [sink], assets=["a"], state_dir=tmp_path, clock=FakeClock())()
    assert log == ["open", "flush", "snapshot", "acknowledge", "flush", "close"]


def test_a_run_tells_how_it_stands_and_when_it_is_stuck(tmp_path) -> None:
    clock, source = FakeClock(), ScriptedSource(items())
    run = Run(twin(), source, [ListSink()], assets=["a"], state_dir=tmp_path, clock=clock)
    assert run.ready == "the source"
    run()
    assert (run.ready, run.alive) == ("", "")
    figures = {(name, labels.get("reason")): value for name, _, labels, value in run.figures()}
    assert figures["samples_total", None] == 160
    assert figures["rejects_total", "malformed"] == 4
    assert figures["assets", None] == 1
    clock.sleep(61)
    assert run.alive == "no turn for 61 s"


def test_time_up_saves_and_a_later_run_goes_on(tmp_path) -> None:
    sink = ListSink()
    first = Run(twin(), ScriptedSource(items()), [sink], assets=["a"], state_dir=tmp_path, clock=FakeClock(tick=NS), duration=10)()
    assert first.ended == "time"
    assert 0 < first.samples < 160
    second = Run(twin(), ScriptedSource(items()), [sink], assets=["a"], state_dir=tmp_path, clock=FakeClock())()
    assert (second.resumed, second.ended, second.samples) == (True, "end", 160)


def test_silence_of_a_live_source_is_told_once() -> None:
    sink = ListSink()
    source = ScriptedSource([*items(2), *(Idle() for _ in range(30))], live=True)
    Run(twin(), source, [sink], assets=["a"], clock=FakeClock(tick=NS))()
    told = [e for u in sink.updates for e in u.events]
    assert [(e.kind, e.asset) for e in told] == [("absence", "a")]


def test_a_snapshot_of_another_twin_is_refused(tmp_path) -> None:
    Run(twin(), ScriptedSource(items(2)), [], assets=["a"], state_dir=tmp_path, clock=FakeClock())()
    with pytest.raises(SnapshotError, match=r"'t'.*--state"):
        Run(twin("other"), ScriptedSource([]), [], assets=["a"], state_dir=tmp_path)


@pytest.mark.parametrize("damage", [lambda b: b[:-7], lambda _: b"", lambda b: b[:40] + b"\xff" * 8 + b[48:]])
def test_a_damaged_snapshot_is_refused_with_the_mend(tmp_path, damage) -> None:
    Run(twin(), ScriptedSource(items(2)), [], assets=["a"], state_dir=tmp_path, clock=FakeClock())()
    file = tmp_path / SNAPSHOT
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(SnapshotError, match="begin anew"):
        Run(twin(), ScriptedSource([]), [], assets=["a"], state_dir=tmp_path)


def test_an_unknown_version_is_refused(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("twin_engine.snapshot.VERSION", 99)
    Run(twin(), ScriptedSource(items(2)), [], assets=["a"], state_dir=tmp_path, clock=FakeClock())()
    monkeypatch.undo()
    with pytest.raises(SnapshotError, match="99"):
        Run(twin(), ScriptedSource([]), [], assets=["a"], state_dir=tmp_path)


def test_an_asset_that_the_snapshot_does_not_know_begins_anew_and_the_others_go_on() -> None:
    def give(engine: Engine, asset: str, lo: int, hi: int) -> np.ndarray:
        index = np.arange(4 * lo, 4 * hi)
        reading = Reading(asset, ("x",), T0 + index * NS // 4, np.sin(index)[None])
        return np.concatenate([u.outputs["m.mean"].values[0, 0] for u in engine.put(reading)])

    first, whole = Engine(twin(), ["a"]), Engine(twin(), ["a"])
    give(first, "a", 0, 3)
    give(whole, "a", 0, 3)
    grown = Engine(twin(), ["b", "a"], first.snapshot())
    assert grown.assets == ["a", "b"]
    np.testing.assert_array_equal(give(grown, "b", 5, 8), give(Engine(twin(), ["b"]), "b", 5, 8))
    np.testing.assert_array_equal(give(grown, "a", 3, 6), give(whole, "a", 3, 6))
