"""Line protocol against the slow way of writing it; summaries against numpy, whatever the cuts; when lines are sent, and which."""

from __future__ import annotations

import json
import math
import re
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.influx_http import RefusedError
from streams.influx_lines import Batch, batches, head, name, string
from streams.influx_points import Points
from streams.influx_sender import Sender
from streams.moments import Moments
from twin_engine.clock import NS
from twin_engine.errors import SinkError
from twin_engine.ports import Block, BlockSpec
from twin_engine.records import Update

_CUT = re.compile(r"(?<!\\) ")


def _parsed(data: bytes) -> dict[tuple[str, int], dict[str, float]]:
    found = {}
    for line in data.decode().splitlines():
        place, fields, time = _CUT.split(line)
        found[place, int(time)] = {key: float(value) for key, value in (field.rsplit("=", 1) for field in fields.split(","))}
    return found


@given(
    values=st.lists(st.lists(st.floats(width=64), min_size=2, max_size=2), min_size=1, max_size=40), masks=st.integers(0, 2**31),
)  # fmt: skip
def test_every_valid_value_is_written_as_it_is(values: list[list[float]], masks: int) -> None:
    array = np.array(values, np.float64)
    valid = np.random.default_rng(masks).random(array.shape) < 0.7
    times = np.arange(len(array)) * NS + 1_700_000_000_000_000_001
    heads = [head("t", {"asset": f"a {i % 3}", "site": ""}) for i in range(len(array))]
    given_ = list(batches(heads, ["x", "y,z"], array, valid, times))
    expected = {
        (rf"t,asset=a\ {i % 3}", int(times[i])): {
            key: array[i, j] for j, key in enumerate(["x", r"y\,z"]) if valid[i, j] and math.isfinite(array[i, j])
        }
        for i in range(len(array))
    }
    found: dict[tuple[str, int], dict[str, float]] = {}
    for batch in given_:
        assert batch.lines == batch.data.count(b"\n")
        data = batch.data.replace(rb"y\,z", b"Y")
        found |= {place: {k.replace("Y", r"y\,z"): v for k, v in fields.items()} for place, fields in _parsed(data).items()}
    assert found == {place: fields for place, fields in expected.items() if fields}


def test_names_and_strings_cannot_break_a_line() -> None:
    assert name("a,b=c d\\") == r"a\,b\=c\ d/"
    assert name("two\nlines") == r"two\ lines"
    assert string('say "a\\b"\n') == r'"say \"a\\b\" "'


@given(cuts=st.lists(st.integers(1, 40), min_size=1, max_size=30), seed=st.integers(0, 2**31))
def test_summaries_do_not_depend_on_the_cuts(cuts: list[int], seed: int) -> None:
    """Cut anyhow, stored and restored at every cut, they are the same to the last bit, and right."""
    rng = np.random.default_rng(seed)
    n, rate, length = sum(cuts), Fraction(16), Fraction(1, 3)
    values = rng.standard_normal((3, 2, n)) * 1e-21
    valid = rng.random(values.shape) < 0.8
    start = np.array([5, 100, 5])
    assets = ["a", "b", "c"]

    def played(sizes: list[int]) -> dict[tuple[int, int], list[float]]:
        found: dict[tuple[int, int], list[float]] = {}
        moments, at = Moments(2, rate, length), 0
        for size in sizes:
            part = slice(at, at + size)
            block = Block(values[:, :, part], valid[:, :, part], np.arange(3), start + at)
            ended = list(moments.take(block))
            saved = json.loads(json.dumps(moments.document(assets)))
            moments = Moments(2, rate, length)
            moments.restore(saved, assets)
            at += size
            for summary in [*ended, *(moments.standing() if at == n else ())]:
                for i, row in enumerate(summary.rows.tolist()):
                    found[row, int(summary.start[i])] = np.where(summary.valid[i], summary.values[i], 7.0).ravel().tolist()
        return found

    found = played(cuts)
    assert found == played([n])
    numbers = {row: [Fraction(int(k), 16) // length for k in start[row] + np.arange(n)] for row in range(3)}
    whole = {(row, k) for row in range(3) for k, ok in zip(numbers[row], valid[row].any(axis=0), strict=True) if ok}
    seen = {(row, k) for row, k in whole if k != numbers[row][0]}  # they all begin in the middle of an interval
    assert {(row, round(Fraction(begin, NS) / length)) for row, begin in found} == seen
    for (row, begin), statistics in found.items():
        number = round(Fraction(begin, NS) / length)
        mine = [k == number for k in numbers[row]]
        for channel in range(2):
            x = values[row, channel, mine][valid[row, channel, mine]]
            expected = [x.min(), x.mean(), x.max(), np.sqrt(np.mean(x * x))] if len(x) else [7.0] * 4
            assert statistics[4 * channel : 4 * channel + 4] == pytest.approx(expected, rel=1e-9, abs=0)


def _ignore(line: bytes, reason: str) -> None:
    """Lines that are refused are of no matter."""


class _Target:
    """A server that refuses what is in ``bad``: named as version 2 does, by number as version 3 does, or not named."""

    def __init__(self, bad: set[bytes], manner: str, most: int = 10**9) -> None:
        self.bad, self.manner, self.most = bad, manner, most
        self.taken: list[bytes] = []
        self.sizes: list[int] = []
        self.down = False

    def post(self, data: bytes) -> None:
        if self.down:
            raise SinkError("server", expected="it up", found="down")
        lines = data.splitlines()
        self.sizes.append(len(lines))
        if len(lines) > self.most:
            raise RefusedError("too much", {}, too_large=True)
        bad = [i for i, line in enumerate(lines) if line in self.bad]
        if bad and self.manner == "v2":
            text = "\n".join(f"unable to parse '{lines[i].decode()}': no 'good'" for i in bad)
            raise RefusedError(text, {"message": text})
        if bad and self.manner == "v3":
            raise RefusedError("partial", {"data": [{"line_number": i + 1, "error_message": "no 'good'"} for i in bad]})
        if bad and self.manner == "first":
            text = f"unable to parse '{lines[bad[0]].decode()}': no 'good'"
            raise RefusedError(text, {"message": text})
        if bad:  # the others are written, as version 2 does where a field has another type
            raise RefusedError(f"no 'good'{f' dropped={len(bad)}' if self.manner == 'counted' else ''}", {})
        self.taken += lines

    def close(self) -> None:
        pass


@pytest.mark.parametrize("manner", ["v2", "v3", "unnamed", "first", "counted"])
def test_refused_lines_are_found_and_the_others_written_in_order(manner: str) -> None:
    lines = [f"m x={i} {i}".encode() for i in range(97)]
    bad = {lines[i] for i in (0, 13, 14, 60, 96)}
    target, refused = _Target(bad, manner, most=50), []
    sender = Sender(target, lambda line, reason: refused.append((line, reason)))
    sender.put(Batch(97, b"\n".join(lines) + b"\n"))
    sender.flush()
    assert target.taken == [line for line in lines if line not in bad]
    assert [line for line, _ in refused] == [line for line in lines if line in bad]
    assert all(reason.startswith("no 'good'") for _, reason in refused)
    assert sender.sent == 92
    sender.close()


def test_a_server_that_is_down_is_told_at_flush_and_at_the_next_write() -> None:
    target = _Target(set(), "v2")
    sender = Sender(target, _ignore)
    sender.put(Batch(1, b"m x=1 1\n"))
    sender.flush()
    target.down = True
    sender.put(Batch(1, b"m x=1 2\n"))
    for _ in range(2):
        with pytest.raises(SinkError, match="down"):
            sender.flush()
    with pytest.raises(SinkError, match="down"):
        sender.put(Batch(1, b"m x=1 3\n"))
    sender.close()
    assert target.taken == [b"m x=1 1"]


def test_batches_go_together_up_to_the_limit() -> None:
    target = _Target(set(), "v2")
    sender = Sender(target, _ignore, linger=60.0)
    for k in range(30):
        sender.put(Batch(1000, b"".join(b"m x=1 %d\n" % (1000 * k + i) for i in range(1000))))
    sender.flush()
    assert len(target.taken) == 30_000
    assert target.taken == [b"m x=1 %d" % i for i in range(30_000)]
    assert max(target.sizes) <= 5000
    sender.close()


def test_fleets_of_one_twin_share_a_sink() -> None:
    """Updates of two partitions, each with rows of its own, give the lines that one fleet of all assets gives."""
    rng = np.random.default_rng(1)
    x = rng.standard_normal((4, 1, 64))
    specs = {"fast": BlockSpec(Fraction(16), ("h",)), "slow": BlockSpec(Fraction(1), ("h",))}
    names = ["a", "b", "c", "d"]

    def lines(fleets: list[list[int]]) -> list[bytes]:
        points = Points(("fast", "slow"), "", Fraction(10), Fraction(1))
        found: list[bytes] = []
        for first in range(0, 64, 8):
            for fleet in fleets:
                n = len(fleet)
                block = Block(x[fleet, :, first : first + 8], np.ones((n, 1, 8), bool), np.arange(n), np.full(n, first))
                update = Update("t", [names[i] for i in fleet], {"fast": block, "slow": block}, specs)
                found += [line for batch in points.of(update) for line in batch.data.splitlines()]
                saved = json.loads(json.dumps(points.document()))
        found += [line for batch in points.standing() for line in batch.data.splitlines()]
        again = Points(("fast", "slow"), "", Fraction(10), Fraction(1))
        again.restore(saved)
        assert sorted(map(str, again.document())) == sorted(map(str, saved))
        return sorted(found)

    assert lines([[0, 1, 2, 3]]) == lines([[0, 2], [3, 1]])


def test_a_batch_that_is_refused_as_a_whole_takes_few_requests() -> None:
    """As when a recording is played into a bucket that keeps less: 5,000 lines and none within its time."""
    lines = [f"m x=1 {i}".encode() for i in range(5000)]
    target, refused = _Target(set(lines), "counted"), []
    sender = Sender(target, lambda line, reason: refused.append((line, reason)))
    sender.put(Batch(5000, b"\n".join(lines) + b"\n"))
    sender.flush()
    sender.close()
    assert [line for line, _ in refused] == lines
    assert len(target.sizes) == 1
    assert sender.sent == 0
