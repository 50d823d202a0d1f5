"""Frames do not depend on how readings were cut; every sample is delivered or counted under a reason."""

from __future__ import annotations

import itertools
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.laws.mean import Mean
from twin_engine.align import Aligner
from twin_engine.clock import NS
from twin_engine.graph import bind
from twin_engine.ports import Block, Frame
from twin_engine.records import Reading, Reason
from twin_engine.telemetry import Telemetry
from twin_engine.twin import Channel, Stream, Twin

T0 = 1_700_000_000 * NS


def aligner(streams: list[Stream] | None = None, assets: tuple[str, ...] = ("a",)) -> Aligner:
    streams = streams or [Stream("s", 4, [Channel("x"), Channel("y", range=(-5, 5))])]
    twin = Twin("t", "1 s", streams, {"mean": Mean(streams[0].name)})
    return Aligner(bind(twin), list(assets), Telemetry())


def reading(t: np.ndarray, values: np.ndarray, channels: tuple[str, ...] = ("x", "y"), arrival: int = 0) -> Reading:
    return Reading("a", channels, (T0 + np.asarray(t) * NS).astype(np.int64), np.atleast_2d(values).astype(float), arrival=arrival)


def joined(frames: list[Frame]) -> tuple[np.ndarray, ...]:
    """Return index, values, valid and the hops at which the row begins anew."""
    blocks = [f.streams["s"] for f in frames]
    index = np.concatenate([b.start[0] + np.arange(b.n) for b in blocks])
    anew = np.array([f.first[0] for f in frames if f.restart[0]], np.int64)
    return index, np.concatenate([b.values[0] for b in blocks], 1), np.concatenate([b.valid[0] for b in blocks], 1), anew


def collect(al: Aligner, stream: str = "s") -> tuple[np.ndarray, np.ndarray, np.ndarray, list[bool]]:
    """Return index, values, valid over all frames so far, and the restarts."""
    index, values, valid, restarts = [], [], [], []
    for frame in al.frames():
        block: Block = frame.streams[stream]
        index.append(block.start[0] + np.arange(block.n))
        values.append(block.values[0])
        valid.append(block.valid[0])
        restarts += [bool(frame.restart[0])]
    if not index:
        return np.zeros(0, int), np.zeros((2, 0)), np.zeros((2, 0), bool), []
    return np.concatenate(index), np.concatenate(values, 1), np.concatenate(valid, 1), restarts


def test_whole_hops_come_out_as_they_went_in() -> None:
    al = aligner()
    t = np.arange(0, 10, 0.25)
    x = np.stack([t, -t / 10])
    al.put(reading(t, x))
    index, values, valid, _ = collect(al)
    assert index[0] == 4 * 1_700_000_000
    assert (np.diff(index) == 1).all()
    np.testing.assert_array_equal(values, x)
    assert valid.all()


@given(st.lists(st.integers(1, 39), max_size=8), st.integers(0, 2**31))
@settings(max_examples=50, deadline=None)
def test_frames_do_not_depend_on_the_cut_of_readings(cuts: list[int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    keep = rng.random(40) > 0.3
    t, x = np.arange(40)[keep] / 4, rng.normal(size=(2, 40))[:, keep]
    t = t + np.cumsum(rng.choice([0, 0, 0, 0, 2, 30, 500], size=len(t)))  # gaps below and above the memory
    if not keep.any():
        return
    edges = sorted({0, len(t), *(c for c in cuts if c < len(t))})
    whole, parts, frames = aligner(), aligner(), []
    whole.put(reading(t, x))
    for lo, hi in itertools.pairwise(edges):
        parts.put(reading(t[lo:hi], x[:, lo:hi]))
        frames += list(parts.frames())
    whole.finish(Fraction(0))
    parts.finish(Fraction(0))
    a, b = joined(list(whole.frames())), joined(frames + list(parts.frames()))
    for one, two in zip(a, b, strict=True):
        np.testing.assert_array_equal(one, two)


def test_each_bad_sample_is_counted_and_the_rest_goes_on() -> None:
    al = aligner()
    al.put(reading([0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 1.75], [[0, np.nan, 2, 3, 4, 5, 6, np.inf], [0, 1, 2, 99, 4, 5, 5, 5]]))
    al.put(reading([2.0, 2.0, 2.25, 2.25], [[7, 7, 8, 9], [1, 1, 1, 1]]))  # the same again, and another value
    collect(al)
    al.put(reading([0.5], [[1], [1]]))  # already cut
    al.put(Reading("a", ("z",), np.array([T0]), np.zeros((1, 1))))
    al.put(Reading("b", ("x",), np.array([T0]), np.zeros((1, 1))))
    dropped = al.telemetry.dropped
    assert dropped == {
        Reason.NOT_FINITE: 2, Reason.OUT_OF_RANGE: 1, Reason.DUPLICATE: 3, Reason.CONFLICT: 1, Reason.LATE: 2,
        Reason.UNKNOWN_CHANNEL: 1, Reason.UNKNOWN_ASSET: 1,
    }  # fmt: skip
    assert set(al.telemetry.unknown) == {"channel z", "asset b"}


def test_a_lone_time_far_ahead_is_rejected_and_two_are_a_gap() -> None:
    al = aligner([Stream("s", 4, [Channel("x"), Channel("y")], bound="60 s")])
    al.put(reading(np.arange(0, 4, 0.25), np.ones((2, 16))))
    al.put(reading([5000.0], [[1], [1]]))
    al.put(reading(np.arange(4, 8, 0.25), np.ones((2, 16))))
    assert al.telemetry.dropped[Reason.CLOCK_JUMP] == 2
    al.put(reading([9000.0], [[1], [1]]))
    al.put(reading(9000.25 + np.arange(0, 4, 0.25), np.ones((2, 16))))
    al.finish(Fraction(0))
    index, _, valid, restarts = collect(al)
    assert al.telemetry.dropped == {Reason.CLOCK_JUMP: 2}
    assert valid[0].sum() == 16 + 16 + 17
    assert restarts.count(True) == 1
    assert index[-1] < 4 * (1_700_000_000 + 9010)


def test_a_gap_longer_than_the_memory_begins_the_row_anew_without_playing_it() -> None:
    al = aligner()
    al.put(reading(np.concatenate([np.arange(0, 2, 0.25), 3000 + np.arange(0, 2, 0.25)]), np.ones((2, 16))))
    al.finish(Fraction(0))
    index, _, valid, restarts = collect(al)
    assert valid[0].sum() == 16
    assert restarts == [False, True]
    assert len(index) < 40


def test_a_short_gap_is_masked_samples() -> None:
    al = aligner([Stream("s", 4, [Channel("x"), Channel("y")])])
    t = np.concatenate([np.arange(0, 2, 0.25), [3.5, 3.75]])
    al.put(reading(t, np.ones((2, 10))))
    index, _, valid, restarts = collect(al)
    np.testing.assert_array_equal(np.flatnonzero(~valid[0]), np.arange(8, 14))
    assert (np.diff(index) == 1).all()
    assert not any(restarts)


def test_a_trailing_stream_is_waited_for_by_arrival_then_masked() -> None:
    al = aligner([Stream("s", 4, [Channel("x")], lateness="3 s"), Stream("w", 2, [Channel("y")], lateness="3 s")])
    for k in range(10):
        t = k + np.arange(0, 1, 0.25)
        al.put(reading(t, np.ones(4), ("x",), arrival=T0 + (k + 1) * NS))
        if k < 4:
            al.put(reading(t[::2], np.ones(2), ("y",), arrival=T0 + (k + 1) * NS))
    frames = list(al.frames())
    y = np.concatenate([f.streams["w"].valid[0, 0] for f in frames])
    assert len(y) == 2 * 7  # 4 complete; hops 4 to 6 were first reached 3 s or more before the newest arrival
    assert y[:8].all()
    assert not y[8:].any()


def test_a_pause_of_both_streams_masks_nothing_however_long_it_is_in_arrival() -> None:
    al = aligner([Stream("s", 4, [Channel("x")]), Stream("w", 2, [Channel("y")])])
    for k in range(8):
        t, arrival = k + np.arange(0, 1, 0.25), T0 + (k + (70 if k > 3 else 0)) * NS
        al.put(reading(t, np.ones(4), ("x",), arrival=arrival))
        al.put(reading(t[::2], np.ones(2), ("y",), arrival=arrival))
    y = np.concatenate([f.streams["w"].valid[0, 0] for f in al.frames()])
    assert y.all()
    assert len(y) == 16


def test_hold_carries_a_slow_value_for_its_time_and_no_longer() -> None:
    al = aligner([Stream("s", 1, [Channel("x")]), Stream("slow", 1, [Channel("y")], hold="3 s")])
    al.put(reading([0, 1, 6], [5, 6, 7], ("y",)))
    al.put(reading(np.arange(10), np.arange(10), ("x",)))
    frames = list(al.frames())
    y = np.concatenate([f.streams["slow"].values[0, 0] for f in frames])
    ok = np.concatenate([f.streams["slow"].valid[0, 0] for f in frames])
    np.testing.assert_array_equal(ok, [1, 1, 1, 1, 1, 0, 1, 1, 1, 1])
    np.testing.assert_array_equal(y[ok], [5, 6, 6, 6, 6, 7, 7, 7, 7])


def test_units_are_converted_and_wrong_ones_masked() -> None:
    al = aligner([Stream("s", 4, [Channel("x", unit="degC")])])
    t = np.arange(4) / 4
    al.put(Reading("a", ("x",), (T0 + t * NS).astype(np.int64), np.full((1, 4), 300.15), units=("K",)))
    al.put(Reading("a", ("x",), (T0 + (1 + t) * NS).astype(np.int64), np.full((1, 4), 1.0), units=("V",)))
    _, values, valid, _ = collect(al)
    np.testing.assert_allclose(values[0, :4], 27.0)
    np.testing.assert_array_equal(valid[0], [1, 1, 1, 1, 0, 0, 0, 0])
    assert al.telemetry.dropped == {Reason.WRONG_UNIT: 4}


def test_a_channel_out_of_range_for_long_is_quarantined_once_and_comes_back() -> None:
    al = aligner()
    t = np.arange(60) / 4
    y = np.where((t > 2) & (t < 7), 77.0, 1.0)
    al.put(reading(t, np.stack([t, y])))
    _, _, valid, _ = collect(al)
    asset = al.assets["a"]
    assert [(s, c) for s, c, _ in asset.quarantined] == [("s", "y")]
    bad = int(((t > 2) & (t < 7)).sum())
    np.testing.assert_array_equal(valid[1, :9], True)
    assert (~valid[1]).sum() == bad + 10
    assert valid[0].all()


def test_saved_alignment_goes_on_as_if_nothing_had_been() -> None:
    rng = np.random.default_rng(5)
    t, x = np.arange(100) / 4, rng.normal(size=(2, 100))
    straight, first = aligner(), aligner()
    straight.put(reading(t, x))
    first.put(reading(t[:37], x[:, :37]))
    head = collect(first)
    second = Aligner(first.graph, ["a"], Telemetry(), first.document(), first.arrays())
    second.put(reading(t[37:], x[:, 37:]))
    tail = collect(second)
    whole = collect(straight)
    np.testing.assert_array_equal(np.concatenate([head[1], tail[1]], 1), whole[1])


@pytest.mark.parametrize("n", [1, 3])
def test_assets_with_equal_hops_step_together(n: int) -> None:
    names = tuple("abc"[:n])
    al = aligner(assets=names)
    for name in names:
        al.put(Reading(name, ("x", "y"), (T0 + np.arange(8) * NS // 4).astype(np.int64), np.ones((2, 8))))
    frames = list(al.frames())
    assert [len(f.rows) for f in frames] == [n]


@pytest.mark.parametrize("size", [5, 40])
@pytest.mark.parametrize(("early", "reason"), [(1e9, Reason.CLOCK_JUMP), (3.0, Reason.LATE)])
def test_a_time_before_the_first_is_counted_and_never_applied(size: int, early: float, reason: Reason) -> None:
    al, t = aligner(), np.arange(40) / 4
    t[17] = -early
    for lo in range(0, 40, size):
        al.put(reading(t[lo : lo + size], np.ones((2, len(t[lo : lo + size])))))
    index, _, valid, _ = collect(al)
    assert al.telemetry.dropped == {reason: 2}
    assert index[0] == 4 * 1_700_000_000
    assert valid[0].sum() == 39


def test_what_is_late_does_not_depend_on_when_hops_are_cut() -> None:
    """A sample of a hop that has closed is late, though the hop has not been cut yet."""
    for one_by_one in (True, False):
        al = aligner()
        told = []
        for part in (np.arange(0, 2, 0.25), np.arange(6, 8, 0.25), np.array([2.0, 2.25]), np.array([2.5]), np.arange(8, 12, 0.25)):
            al.put(reading(part, np.stack([part, part / 10]), arrival=int((part[-1] + 10) * NS)))
            told += list(al.frames()) if one_by_one else []
        told += list(al.frames())
        index, values, valid, _ = joined(told)
        if one_by_one:
            expected = index, values, valid, dict(al.telemetry.dropped)
    for a, b in zip(expected[:3], (index, values, valid), strict=True):
        np.testing.assert_array_equal(a, b)
    assert dict(al.telemetry.dropped) == expected[3] == {"late": 6}


def test_one_bad_clock_makes_no_other_stream_late() -> None:
    """Files keep no arrivals: there the newest time that was accepted stands for one."""
    al = aligner([Stream("s", 1, [Channel("x")], lateness="5 s"), Stream("w", 1, [Channel("y")], lateness="5 s")])
    frames = []
    for k in range(200):
        t = 1e6 if k == 50 else k
        al.put(reading(np.array([t]), np.ones((1, 1)), ("x",)))
        al.put(reading(np.array([k]), np.ones((1, 1)), ("y",)))
        al.put(reading(np.array([1e6]), np.ones((1, 1)), ("nobody's",)))
        frames += list(al.frames())
    assert sum(int(f.streams["w"].valid.sum()) for f in frames) > 190
    assert al.telemetry.dropped == {Reason.CLOCK_JUMP: 1, Reason.UNKNOWN_CHANNEL: 200}


def test_a_spike_in_the_reading_after_a_gap_is_a_spike() -> None:
    al = aligner([Stream("s", 4, [Channel("x"), Channel("y")], bound="60 s")])
    for times in ([0, 0.25], [100], [100.25, 500, 100.75], *([t, t + 0.25] for t in np.arange(101, 150, 0.5))):
        al.put(reading(np.array(times), np.ones((2, len(times)))))
    al.finish(Fraction(0))
    assert sum(int(f.streams["s"].valid[:, 0].sum()) for f in al.frames()) == 2 + 1 + 2 + 196
    assert al.telemetry.dropped == {Reason.CLOCK_JUMP: 2}
