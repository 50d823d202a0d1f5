"""Readings taken together are what they are one by one: frames, counts, and what a snapshot keeps; cells move and nothing is lost."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.laws.mean import Mean
from twin_engine.align import Aligner
from twin_engine.clock import NS
from twin_engine.graph import bind
from twin_engine.grid import Grid
from twin_engine.ports import Frame
from twin_engine.records import Reading, Singles
from twin_engine.telemetry import Telemetry
from twin_engine.twin import Channel, Stream, Twin

T0 = 1_700_000_000
STREAMS = [
    Stream("s", 2, [Channel("x", range=(-5, 5)), Channel("y", unit="degC")], lateness="3 s", bound="8 s"),
    Stream("w", 1, [Channel("z")], lateness="2 s", bound="20 s"),
    Stream("h", 1, [Channel("kept")], hold="2 s"),
]
ASSETS = ("a", "b", "c")


def aligner() -> Aligner:
    return Aligner(bind(Twin("t", "1 s", STREAMS, {"mean": Mean("s")})), list(ASSETS), Telemetry())


single = st.tuples(
    st.sampled_from([*ASSETS * 4, "stranger"]),
    st.sampled_from([("x",), ("x", "y"), ("y",), ("z",), ("kept",), ("x", "z"), ("odd",), ("x", "x"), ()]),
    st.integers(0, 12).map(lambda k: k / 2) | st.sampled_from([0.26, 2.7, 40.0, -30.0, 31.0, 31.5]),
    st.sampled_from([1.0, 1.0, 1.0, 2.0, np.nan, 7.0]),
    st.integers(0, 4) | st.none(),  # s that it came late; none: nobody knows when
    st.sampled_from(["", "", "", "degC", "degF"]),
)


def readings(drawn: list[Any]) -> list[Reading]:
    found = []
    for i, (asset, channels, t, value, late, unit) in enumerate(drawn):
        time = int((T0 + t + i / 4 // 0.5 * 0.5) * NS)
        units = (unit,) * len(channels) if unit and channels == ("y",) else ()
        arrival = 0 if late is None else time + late * NS
        found.append(Reading(asset, channels, np.array([time]), np.full((len(channels), 1), value), None, arrival, units))
    return found


def outcome(al: Aligner, frames: list[Frame]) -> dict[str, Any]:
    """Return what each asset was given, hop by hop, and all else that there is to know."""
    hops: dict[str, list[Any]] = {name: [] for name in ASSETS}
    for frame in frames:
        for i, row in enumerate(frame.rows):
            for hop in range(frame.hops):
                told: list[Any] = [int(frame.first[i]) + hop, bool(frame.restart[i]) and hop == 0]
                for block in frame.streams.values():
                    n = block.n // frame.hops
                    part = slice(hop * n, hop * n + n)
                    told.append(np.where(block.valid[i, :, part], block.values[i, :, part], -1).tolist())
                hops[ASSETS[row]].append(told)
    arrays = {name: array.tolist() for name, array in al.arrays().items()}
    return {"hops": hops, "telemetry": al.telemetry.document(), "document": al.document(), "arrays": arrays}


@settings(max_examples=300)
@given(st.lists(single, min_size=1, max_size=60), st.integers(1, 20))
def test_together_is_one_by_one(drawn: list[Any], step: int) -> None:
    given_, one, many = readings(drawn), aligner(), aligner()
    alone: list[Frame] = []
    together: list[Frame] = []
    for reading in given_:
        one.put(reading)
        alone += one.frames()
    for lo in range(0, len(given_), step):
        many.put_all(given_[lo : lo + step])
        together += many.frames()
    np.testing.assert_equal(outcome(many, together), outcome(one, alone))


def test_single_samples_as_arrays_are_the_readings() -> None:
    rng = np.random.default_rng(0)
    assets, channels = list(rng.choice([*ASSETS, "stranger"], 200)), rng.integers(0, 4, 200)
    times = (T0 * NS + np.repeat(np.arange(50), 4) * NS // 2).astype(np.int64)
    singles = Singles(assets, ["x", "y", "z", "odd"], channels, times, rng.normal(size=200) * 3, times + NS)
    one, many = aligner(), aligner()
    for i in range(200):
        one.put(singles.reading(i))
    many.put_all([singles])
    np.testing.assert_equal(outcome(many, list(many.frames())), outcome(one, list(one.frames())))
    assert many.telemetry.samples > 100


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2), st.integers(1, 200)), max_size=40))
def test_cells_keep_what_is_in_them_however_they_grow(sizes: list[tuple[int, int, int]]) -> None:
    grid = Grid(bind(Twin("t", "1 s", STREAMS, {"mean": Mean("s")})), 3)
    known: dict[tuple[int, int], np.ndarray] = {}
    for n, (row, lane, size) in enumerate(sizes):
        grid.resize(row, lane, size)
        values, filled, _ = grid.cells(row, lane)
        before = known.get((row, lane), np.zeros((len(values), 0)))[:, :size]
        np.testing.assert_array_equal(values[:, : before.shape[1]], before)
        assert not values[:, before.shape[1] :].any()
        values[:], filled[:] = n + 1 + np.arange(values.size).reshape(values.shape), True
        known[row, lane] = values.copy()
    for (row, lane), values in known.items():
        np.testing.assert_array_equal(grid.cells(row, lane)[0], values)
        assert grid.cells(row, lane)[1].all()
