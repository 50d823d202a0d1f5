"""A partition without a broker: records skipped, commands in order with the data, batches that do not matter."""

from __future__ import annotations

import itertools
import json
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.codecs import open_codec
from tests.laws.mean import Mean
from twin_engine.partition import Partition
from twin_engine.records import COMMAND, Record
from twin_engine.snapshot import unpack
from twin_engine.twin import Channel, Stream, Twin

T0 = 1_700_000_000
TWIN = Twin("t", "1 s", [Stream("s", 1, [Channel("x")])], {"m": Mean("s")}, show=("m",))


def partition(assets: list[str], snapshot: bytes | None = None) -> Partition:
    return Partition(TWIN, assets, open_codec("json", "{asset}"), unpack(snapshot, "test") if snapshot else None, 0, 1)


def sample(offset: int, asset: str, k: int) -> Record:
    return Record(json.dumps({"ts": T0 + k, "x": float(k * k % 7)}).encode(), asset, "in", offset, (T0 + k) * 10**9)


def order(offset: int, kind: str, asset: str) -> Record:
    return Record(msgspec.json.encode({"kind": kind, "asset": asset}), asset, "in", offset, 0, {COMMAND: b"1"})


def outputs(updates: list[Any]) -> dict[tuple[str, int], float]:
    found = {}
    for update in updates:
        block = update.outputs["m.mean"]
        for i, row in enumerate(block.rows):
            found |= {(update.assets[row], int(block.start[i]) + t): float(block.values[i, 0, t]) for t in range(block.n)}
    return found


SCRIPT = [
    *(sample(k, "a", k) for k in range(5)),
    order(5, "add", "b"),
    *(sample(6 + k, "ab"[k % 2], 5 + k // 2) for k in range(10)),
    order(16, "restart", "a"),
    *(sample(17 + k, "ab"[k % 2], 10 + k // 2) for k in range(6)),
    order(23, "remove", "a"),
    *(sample(24 + k, "b", 13 + k) for k in range(4)),
]


@given(st.lists(st.integers(0, len(SCRIPT)), max_size=6), st.integers(0, len(SCRIPT)))
def test_how_records_are_batched_and_where_a_worker_is_replaced_does_not_matter(cuts: list[int], crash: int) -> None:
    whole = partition(["a"])
    expected = outputs(whole.take(SCRIPT).updates)
    one, got = partition(["a"]), {}
    edges = sorted({0, *cuts, crash, len(SCRIPT)})
    for lo, hi in itertools.pairwise(edges):
        if lo == crash:
            one = partition(["a"], one.pack()) if lo else one
        got |= outputs(one.take(SCRIPT[max(0, lo - 3) : hi]).updates)  # some come again
    assert got == expected
    assert one.engine.assets == whole.engine.assets == ["b"]
    a, b = unpack(one.pack(), "x"), unpack(whole.pack(), "y")
    assert a.document == b.document
    assert all(np.array_equal(a.arrays[k], b.arrays[k]) for k in a.arrays)


@pytest.mark.parametrize("raw", [b"{", b'{"kind": "explode", "asset": "a"}', b'{"kind": "remove", "asset": "none"}'])
def test_a_command_that_makes_no_sense_is_a_reject(raw: bytes) -> None:
    one = partition(["a"])
    taken = one.take([Record(raw, "a", "in", 0, 0, {COMMAND: b"1"}), sample(1, "a", 0)])
    assert [r.detail.startswith("command") for r in taken.rejects] == [True]
    assert taken.samples == 1


def test_a_partition_without_assets_is_saved_and_goes_on() -> None:
    one = partition([])
    one.take([sample(0, "a", 0), order(1, "restart", "*")])
    again = partition([], one.pack())
    assert (again.offset, again.engine.assets) == (2, [])
    again.take([order(2, "add", "a"), sample(3, "a", 1)])
    assert partition([], again.pack()).engine.assets == ["a"]


@pytest.mark.parametrize("kind", ["add", "remove"])
def test_all_assets_can_only_begin_anew(kind: str) -> None:
    assert partition(["a"]).take([order(0, kind, "*")]).rejects
