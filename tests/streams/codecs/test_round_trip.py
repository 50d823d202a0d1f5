"""What is written is read as what it was, in each format; and what no format takes."""

from __future__ import annotations

import gzip
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.fuzz import fuzz
from streams.codecs import CODECS, open_codec
from streams.codecs.when import END, Times, exact
from tests.streams.codecs.helpers import NAME, NOW, decoded, readings, reason, samples, there_and_back, told
from twin_engine.clock import time_of
from twin_engine.records import Reading, Reason


@given(readings(), st.sampled_from(["plant/{asset}", "{asset}", "plant/{asset}/{channel}"]), st.sampled_from(["s", "ms", "ns", "iso"]))
def test_json(reading: Reading, pattern: str, unit: str) -> None:
    assert there_and_back(open_codec("json", pattern, {"unit": unit}), reading) == samples([reading])


@given(readings(names=st.text(min_size=1, max_size=5).filter(lambda name: name != "time")))
def test_arrow(reading: Reading) -> None:
    assert there_and_back(open_codec("arrow", "{asset}"), reading) == samples([reading])


@given(readings(names=st.text("a,= é'.x", min_size=1, max_size=5).filter(lambda n: n.strip() == n), units=False))
def test_line_protocol(reading: Reading) -> None:
    assert there_and_back(open_codec("line_protocol", "any"), reading) == samples([reading])


@given(readings(step=10**6, names=st.text("ab/+# .%é:", min_size=1, max_size=5).map(lambda n: n.replace("/", "|")), units=False))
def test_examon(reading: Reading) -> None:
    assert there_and_back(open_codec("examon"), reading) == samples([reading])


@given(readings(step=10**6))
def test_sparkplug(reading: Reading) -> None:
    assert there_and_back(open_codec("sparkplug"), reading) == samples([reading])


@given(readings(), st.sampled_from(["json", "cbor"]), st.sampled_from(["plant/{asset}", "plant/{asset}/{channel}", "any"]))
def test_senml(reading: Reading, form: str, pattern: str) -> None:
    assert there_and_back(open_codec("senml", pattern, {"form": form}), reading) == samples([reading])


@given(NAME, st.integers(0, 3 * 10**9), st.integers(1, 50))
def test_arrakis(name: str, second: int, count: int) -> None:
    from fractions import Fraction

    start = (10**9 + second) * 16384
    times = time_of(np.arange(start, start + count), Fraction(16384))
    reading = Reading("H1", (name,), times, np.random.default_rng(count).normal(size=(1, count)))
    assert there_and_back(open_codec("arrakis", "{asset}", {"channels": f"7=H1:{name}@16384"}), reading) == samples([reading])


def test_large_readings_are_cut() -> None:
    n = 50_000
    reading = Reading("a", ("x", "y"), NOW + np.arange(n) * 10**6, np.random.default_rng(0).normal(size=(2, n)))
    for name in ("arrow", "json", "senml"):
        assert there_and_back(open_codec(name, "{asset}"), reading) == samples([reading]), name


@pytest.mark.parametrize("name", sorted(CODECS))
def test_no_mutated_payload_is_unforeseen(name: str) -> None:
    result = fuzz(name, 8000, seed=2)  # bench.fuzz does a million
    assert result["bad"] == 0
    assert result["malformed"] > 1000
    assert result["readings"] > 100


@pytest.mark.parametrize("name", sorted(CODECS))
def test_what_no_codec_takes(name: str) -> None:
    codec = open_codec(name, options={"channels": "0=a:b@1"} if name == "arrakis" else {})
    topic = {"sparkplug": "spBv1.0/g/DDATA/e/d", "examon": "node/n/chnl/data/t"}.get(name, "t")
    assert reason(codec, b"x" * ((1 << 20) + 1), topic) == Reason.TOO_LARGE
    assert reason(codec, gzip.compress(b"x" * ((1 << 20) + 1)), topic) == Reason.TOO_LARGE
    lying = bytearray(gzip.compress(b"x" * (2 << 20)))
    lying[-4:] = b"\x01\0\0\0"
    assert reason(codec, bytes(lying), topic) == Reason.TOO_LARGE
    assert "gzip: cut short" in told(codec, gzip.compress(b"1")[:-1], topic)
    assert "something else" in told(codec, gzip.compress(b"1") + b"1", topic)
    assert reason(codec, b"\x1f\x8bnot gzip", topic) == Reason.MALFORMED
    if name not in {"sparkplug", "line_protocol"}:  # whose empty message says nothing
        assert reason(codec, b"", topic) == Reason.MALFORMED
    json.dumps(codec.memory)


@pytest.mark.parametrize(
    ("name", "topic", "raw"),
    [
        ("json", "t", b"[" + b"{}," * 100_001 + b"{}]"),
        ("line_protocol", "t", b"\n" * 100_001),
        ("senml", "t", b"\x9f" + b"\xa0" * 100_001 + b"\xff"),
        ("sparkplug", "spBv1.0/g/NDATA/e", b"\x12\x00" * 100_001),
    ],
)
def test_floods_of_nothing(name: str, topic: str, raw: bytes) -> None:
    assert reason(open_codec(name), raw, topic) == Reason.TOO_LARGE


def test_gzip_is_unpacked() -> None:
    assert samples(decoded(open_codec("json", "{asset}"), gzip.compress(b'{"ts":1,"x":2}'), "a")) == [("a", "x", 10**9, 2.0, "")]


@given(st.integers(0, END // 1000 - 1), st.sampled_from(["s", "ms", "us"]))
@settings(max_examples=500)
def test_microseconds_survive_doubles(micro: int, unit: str) -> None:
    times, scale = Times(unit, ""), {"s": 10**6, "ms": 10**3, "us": 1}[unit]
    assert times.one(micro / scale) == micro * 1000
    assert times.many([micro / scale, 0.5]).tolist()[0] == micro * 1000
    assert times.text(repr(micro / scale) if "e" not in repr(micro / scale) else str(micro // scale)) >= 0


@pytest.mark.parametrize("bad", [-1, END, 1e30, True, None, "soon", "1e99", "9" * 30, "2200-01-01T00:00:00Z", "1969-12-31", [1]])
def test_times_out_of_bounds(bad: object) -> None:
    with pytest.raises(ValueError, match=r"time|range|within"):
        Times("ns", "").one(bad)


def test_seconds_are_read_as_written() -> None:
    assert Times("s", "").one(1658832078.001) == 1658832078001000000
    assert exact(0.123456789, 9) == 123456789
    assert Times("s", "").text("1658832078.123456789") == 1658832078123456789
    assert Times("gps", "").one(1126259462) == 1442224245 * 10**9
    with pytest.raises(ValueError, match="within"):
        Times("gps", "").one(END // 10**9 - 1)  # which is later in UTC
    for text in ("2023-11-14T22:13:20.123Z", "2023-11-14T22:13:20.123", "2023-11-14T23:13:20.123+01:00", "2023-11-14T22:13:20.123000000Z"):
        assert Times("iso", "").one(text) == NOW + 123_000_000, text
