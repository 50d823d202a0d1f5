"""Parquet, JSON lines, simulators and the live host as sources."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from fractions import Fraction
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams import open_source
from streams.gather import Gatherer
from streams.host import CHANNELS
from streams.source_sim import SimSource
from twin_engine.clock import NS
from twin_engine.errors import InputError
from twin_engine.records import Idle, Item, Reading, Reason, Reject


class FakeClock:
    """Moves only when slept on."""

    def __init__(self, now: int = 10 * NS) -> None:
        self.time = now

    def now(self) -> int:
        return self.time

    def sleep(self, duration: float) -> None:
        self.time += round(duration * NS)


def _items(uri: str, position: object = None, **options: object) -> list[Item]:
    return list(open_source(uri, **options).items(position))  # type: ignore[arg-type]


def _flat(items: list[Item]) -> list[tuple[str, str, int, str]]:
    return [
        (item.asset, channel, int(t), repr(float(v)))
        for item in items if isinstance(item, Reading)
        for k, t in enumerate(item.times)
        for channel, v in zip(item.channels, item.values[:, k], strict=True)
    ]  # fmt: skip


def test_parquet_resumes_at_every_position(tmp_path: Path) -> None:
    n = 40_000
    path = tmp_path / "farm.parquet"
    table = {
        "time": pa.array(np.arange(n) * NS, pa.timestamp("ns", "UTC")),
        "name": pa.array([f"t{i % 3}" for i in range(n)]),
        "power": pa.array([None if i == 5 else float(i) for i in range(n)]),
        "rpm": pa.array(np.arange(n, dtype=np.int32)),
    }
    pq.write_table(pa.table(table), path, row_group_size=17_000)
    uri = f"{path}?asset=name"
    items = _items(uri)
    assert {i.asset for i in items if isinstance(i, Reading)} == {"t0", "t1", "t2"}
    assert len(_flat(items)) == 2 * n
    assert ("t2", "power", 5 * NS, "nan") in _flat(items)
    for k, item in enumerate(items):
        assert _flat(_items(uri, json.loads(json.dumps(item.position)))) == _flat(items[k + 1 :])


def test_parquet_errors(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"time": ["now"], "x": [1.0], "note": ["a"]}), path)
    with pytest.raises(InputError, match="timestamps or numbers"):
        open_source(str(path))
    with pytest.raises(InputError, match="column 'note'"):
        open_source(f"{path}?time=x&value=note")
    path.write_bytes(b"no")
    with pytest.raises(InputError, match="a Parquet file"):
        open_source(str(path))


def _line(**fields: object) -> bytes:
    return json.dumps(fields).encode()


def test_lines_keep_their_order_and_bad_ones_are_rejects(tmp_path: Path) -> None:
    lines = [
        _line(asset="a", channel="x", ts="1970-01-01T00:00:01Z", value=1),
        _line(asset="a", channel="y", ts="1970-01-01T00:00:01Z", value=2.5, unit="K"),
        b"{",
        _line(channel="x", ts=2, value=None),
        _line(asset="b", channel="x", ts=1.25, value=3),
        _line(asset="a", channel="x", ts="today", value=3),
        _line(asset="a", channel="x", value=3),
        b'{"asset": "\xff"}',
        _line(asset="a", channel="x", ts=3, value="4"),
        _line(asset="a", channel="x", ts=3, value=5) + b" " * (1 << 20),
    ]
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"\n".join(lines))
    items = _items(f"lines:{path}", asset="z")
    assert _flat(items) == [
        ("a", "x", NS, "1.0"), ("a", "y", NS, "2.5"), ("z", "x", 2 * NS, "nan"), ("b", "x", 1250000000, "3.0"),
    ]  # fmt: skip
    (first, *_) = items
    assert isinstance(first, Reading)
    assert first.units == ("", "K")
    rejects = [item for item in items if isinstance(item, Reject)]
    assert [r.reason for r in rejects] == [Reason.MALFORMED] * 3 + [Reason.NOT_UTF8, Reason.MALFORMED, Reason.TOO_LARGE]
    assert [r.raw for r in rejects[:5]] == [lines[2], *lines[5:9]]
    for k, item in enumerate(items):
        assert _flat(_items(f"lines:{path}", item.position, asset="z")) == _flat(items[k + 1 :])


def test_a_line_without_an_asset_needs_one_given(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(_line(channel="x", ts=2, value=1))
    (reject,) = _items(str(path))
    assert isinstance(reject, Reject)
    assert "no asset" in reject.detail


def test_standard_input_is_live(monkeypatch: pytest.MonkeyPatch) -> None:
    reading, writing = os.pipe()
    with os.fdopen(reading) as stdin, os.fdopen(writing, "wb", buffering=0) as out:
        monkeypatch.setattr(sys, "stdin", stdin)
        source = open_source("lines:-")
        assert source.live
        items = source.items(None)
        assert isinstance(next(items), Idle)
        out.write(_line(asset="a", channel="x", ts=1, value=1) + b"\n" + b'{"asset"')
        assert _flat([next(items)]) == [("a", "x", NS, "1.0")]
        out.write(b': "a"}\n')
        item = next(items)
        while isinstance(item, Idle):
            item = next(items)
        assert isinstance(item, Reject)
        assert item.raw == b'{"asset": "a"}'
        out.close()
        assert [i for i in items if not isinstance(i, Idle)] == []


@given(st.lists(st.tuples(st.integers(0, 3), st.sampled_from("xyz"), st.sampled_from(["", "K"]), st.floats(allow_nan=False)), max_size=12))
def test_gathering_moves_nothing(samples: list[tuple[int, str, str, float]]) -> None:
    gatherer = Gatherer("a")
    for sample in samples:
        gatherer.add(*sample)
    given_back = [
        (int(t), channel, unit, float(v))
        for reading in gatherer.readings()
        for k, t in enumerate(reading.times)
        for channel, unit, v in zip(reading.channels, reading.units or ("",) * len(reading.channels), reading.values[:, k], strict=True)
    ]
    assert given_back == samples


class Counting:
    """Two readings a block, three blocks; the values tell seed, block and reading."""

    start = 0
    block = Fraction(1)

    def __init__(self, asset: str, *, seed: int = 0, gain: float = 1.0, faults: str = "") -> None:
        self.asset, self.seed, self.gain, self.faults = asset, seed, gain, faults

    def blocks(self, first: int) -> Iterator[list[Reading]]:
        for block in range(first, 3):
            times = np.array([block * NS], np.int64)
            yield [Reading(self.asset, (c,), times, np.array([[self.seed * self.gain]])) for c in ("x", "y")]


def _handing_on(asset: str, **parameters: Any) -> Counting:
    return Counting(asset, **parameters)


def _saying_more_than_it_takes(asset: str, **parameters: Any) -> SimSource:
    return Counting(asset, **parameters)  # type: ignore[return-value]


def _saying_nothing(asset: str, **parameters: Any) -> "Nowhere":  # type: ignore[name-defined] # noqa: F821, UP037
    return Counting(asset, **parameters)


def test_a_simulator_is_replayed_from_any_position() -> None:
    uri = "sim:?seed=3&gain=0.5&faults=leak,2"
    items = _items(uri, asset="pump", simulator=Counting)
    assert [(a, c, t // NS, v) for a, c, t, v in _flat(items)] == [("pump", c, k, "1.5") for k in range(3) for c in "xy"]
    for k, item in enumerate(items):
        assert _flat(_items(uri, item.position, asset="pump", simulator=Counting)) == _flat(items[k + 1 :])
    for simulator in (Counting, _handing_on, partial(_handing_on, gain=1.0)):
        with pytest.raises(InputError, match=r"seeds.*'seed'"):
            open_source("sim:?seeds=3", simulator=simulator)
    for simulator in (_saying_nothing, _saying_more_than_it_takes):
        assert _items("sim:?seed=3", asset="pump", simulator=simulator)
        with pytest.raises(InputError, match="seeds"):
            open_source("sim:?seeds=3", simulator=simulator)
    with pytest.raises(InputError, match="twin with a simulator"):
        open_source("sim:")


def test_the_host_is_sampled_on_the_grid_of_its_period() -> None:
    clock = FakeClock(10 * NS + 300_000_000)
    source = open_source("host:?period=0.5", clock=clock)
    assert source.live
    items = source.items(None)
    readings: list[Reading] = []
    while len(readings) < 3:
        item = next(items)
        if isinstance(item, Reading):
            readings.append(item)
    assert [int(r.times[0]) for r in readings] == [10_500_000_000, 11_000_000_000, 11_500_000_000]
    reading = readings[-1]
    assert tuple(zip(reading.channels, reading.units, strict=True)) == CHANNELS
    values = dict(zip(reading.channels, reading.values[:, 0], strict=True))
    for name in ("cpu", "memory", "swap"):
        assert 0 <= values[name] <= 1
    assert values["processes"] >= 1
    with pytest.raises(InputError, match="period"):
        open_source("host:?period=0")


def test_sources_know_their_assets(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "a.csv").write_text("time,name,x\n1,b,1\n2,a,2\n3,b,3\n")
    pq.write_table(pa.table({"time": [1, 2], "name": ["q", "p"], "x": [1.0, 2.0]}), tmp_path / "d" / "t.parquet")
    (tmp_path / "e.jsonl").write_bytes(_line(asset="z", channel="x", ts=2, value=1))
    assert open_source(f"{tmp_path}/d/a.csv").assets == ["a"]
    assert open_source(f"{tmp_path}/d/a.csv?asset=name").assets == ["b", "a"]
    assert open_source(f"{tmp_path}/d/t.parquet?asset=name").assets == ["q", "p"]
    assert open_source(f"dir:{tmp_path}/d?asset=name").assets == ["b", "a", "q", "p"]
    assert open_source(f"{tmp_path}/e.jsonl").assets == ["z"]
    assert open_source("host:").assets == ["host"]
    assert open_source("sim:", asset="pump", simulator=Counting).assets == ["pump"]
    with pytest.raises(InputError, match="--asset"):
        _ = open_source("lines:-").assets


def test_a_twin_says_what_is_wanted(tmp_path: Path) -> None:
    twin = SimpleNamespace(
        name="t",
        streams=[SimpleNamespace(name="s", channels=[SimpleNamespace(name="y"), SimpleNamespace(name="z")])],
        simulator=Counting,
    )
    (tmp_path / "a.csv").write_text("time,x,y\n1,2,3\n")
    (reading,) = open_source(f"{tmp_path}/a.csv", twin=twin).items(None)
    assert isinstance(reading, Reading)
    assert reading.channels == ("y",)
    assert open_source("sim:", twin=twin).assets == ["sim"]
