"""JSON's forms, and what is wrong with each."""

from __future__ import annotations

import gzip

import numpy as np
import pytest

from streams.codecs import open_codec
from tests.streams.codecs.helpers import NOW, decoded, reason, samples
from twin_engine.records import Codec, Reading, Reason, Record, Reject

S = 10**9
TOPIC = open_codec("json", "plant/{asset}/{channel}")
WIDE = open_codec("json", "plant/{asset}")
BARE = open_codec("json", "any")


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b"21.5", [("a", "x", NOW, 21.5, "")]),
        (b" -3 ", [("a", "x", NOW, -3.0, "")]),
        (b'{"ts":1700000000.123,"value":21.5,"unit":"V"}', [("a", "x", NOW + 123_000_000, 21.5, "V")]),
        (b'{"value":1}', [("a", "x", NOW, 1.0, "")]),
        (b'{"ts":"2023-11-14T22:13:20+00:00","value":1,"more":[1]}', [("a", "x", NOW, 1.0, "")]),
        (b'{"ts":"1700000000","value":true}', [("a", "x", NOW, 1.0, "")]),
        (b'{"ts":[1,2.5,3],"value":[1,null,2]}', [("a", "x", S, 1.0, ""), ("a", "x", 3 * S, 2.0, "")]),
        (b'[{"ts":1,"value":2},{"ts":2,"value":3}]', [("a", "x", S, 2.0, ""), ("a", "x", 2 * S, 3.0, "")]),
        ('{"ts":1,"value":2,"unit":"°C"}'.encode(), [("a", "x", S, 2.0, "°C")]),
    ],
)
def test_where_the_topic_names_the_channel(raw: bytes, expected: object) -> None:
    assert samples(decoded(TOPIC, raw, "plant/a/x")) == expected


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b'{"ts":1,"t":20,"p":1.5,"state":"ok"}', [("a", "p", S, 1.5, ""), ("a", "t", S, 20.0, "")]),
        (b'{"ts":1,"value":20,"unit":"V"}', [("a", "value", S, 20.0, "V")]),
        (b'{"ts":1,"channel":"p","value":20,"unit":"V"}', [("a", "p", S, 20.0, "V")]),
        (b'{"ts":1,"values":{"p":1,"t":2},"units":{"t":"K"}}', [("a", "p", S, 1.0, ""), ("a", "t", S, 2.0, "K")]),
        (b'{"ts":[1,2],"values":{"p":[1,2]}}', [("a", "p", S, 1.0, ""), ("a", "p", 2 * S, 2.0, "")]),
        (b'{"ts":[1,2],"p":[1,2]}', [("a", "p", S, 1.0, ""), ("a", "p", 2 * S, 2.0, "")]),
    ],
)
def test_where_it_names_the_asset(raw: bytes, expected: object) -> None:
    assert samples(decoded(WIDE, raw, "plant/a")) == expected


def test_where_it_names_nothing() -> None:
    found = decoded(BARE, b'[{"asset":"a","ts":1,"p":1},{"asset":"b","ts":1,"p":2},{"asset":"a","ts":2,"p":3}]', "any")
    assert [(r.asset, r.times.tolist()) for r in found if isinstance(r, Reading)] == [("a", [S, 2 * S]), ("b", [S])]
    assert reason(BARE, b'{"ts":1,"p":1}', "any") == Reason.MALFORMED
    assert samples(decoded(open_codec("json", "any", asset="z"), b'{"ts":1,"p":1}', "any")) == [("z", "p", S, 1.0, "")]


def test_fields_by_other_names() -> None:
    codec = open_codec("json", "{channel}", {"time": "t", "value": "v", "asset": "id", "unit": "ms"})
    assert samples(decoded(codec, b'{"t":1000,"v":2,"id":"a"}', "x")) == [("a", "x", S, 2.0, "")]
    assert samples(decoded(codec, b'[{"t":1000,"v":2,"id":"a"}]', "x")) == [("a", "x", S, 2.0, "")]


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b"", Reason.MALFORMED),
        (b"true", Reason.MALFORMED),
        (b"null", Reason.MALFORMED),
        (b'"21.5"', Reason.MALFORMED),
        (b"21,5", Reason.MALFORMED),
        (b'{"ts":1}', Reason.MALFORMED),
        (b'{"ts":1,"value":"2"}', Reason.MALFORMED),
        (b'{"ts":1,"value":[1]}', Reason.MALFORMED),
        (b'{"ts":[1],"value":1}', Reason.MALFORMED),
        (b'{"ts":[1,2],"value":[1]}', Reason.MALFORMED),
        (b'{"ts":[1,true],"value":[1,2]}', Reason.MALFORMED),
        (b'{"ts":"soon","value":1}', Reason.MALFORMED),
        (b'{"ts":1e30,"value":1}', Reason.MALFORMED),
        (b'{"ts":-1,"value":1}', Reason.MALFORMED),
        (b'{"ts":1,"value":1', Reason.MALFORMED),
        (b"[" * 100_000, Reason.MALFORMED),
        (b"[1,2]", Reason.MALFORMED),
        (b'{"ts":1,"value":NaN}', Reason.NOT_FINITE),
        (b'{"ts":1,"value":-Infinity}', Reason.NOT_FINITE),
        (b'{"ts":1,"value":1e999}', Reason.NOT_FINITE),
        (b'{"ts":1,"value":2,"unit":"\xff"}', Reason.NOT_UTF8),
        (b'{"ts":1,"value":2,"ignored":"\xff"}', Reason.NOT_UTF8),
    ],
)
def test_what_is_wrong(raw: bytes, expected: Reason) -> None:
    assert reason(TOPIC, raw, "plant/a/x") == expected


def test_without_a_time_of_arrival_a_number_has_none() -> None:
    for raw in (b"21.5", b'{"value":1}', b'{"value":true}'):
        assert reason(TOPIC, raw, "plant/a/x", arrival=0) == Reason.MALFORMED


def test_a_topic_of_another_form() -> None:
    assert reason(TOPIC, b"1", "plant/a") == Reason.MALFORMED
    assert reason(TOPIC, b"1", "plant/" + "a" * 600 + "/x") == Reason.TOO_LARGE


def test_a_bad_channel_leaves_the_others() -> None:
    good, bad = decoded(WIDE, b'{"ts":1,"values":{"p":1,"q":"x","r":[1],"":2}}', "plant/a")
    assert isinstance(good, Reading)
    assert good.channels == ("p",)
    assert isinstance(bad, Reject)
    assert bad.detail.startswith("q: not a number; r: not a number; ")
    first, fault = decoded(WIDE, b'[{"ts":1,"p":1},{"ts":"no","p":2},7]', "plant/a")
    assert isinstance(first, Reading)
    assert np.array_equal(first.values, [[1.0]])
    assert isinstance(fault, Reject)


RAWS = [
    b'{"ts":1700000000.5,"value":1}', b'{"ts":1700000001,"value":-2.5e3}', b'{"ts":1700000000,"value":1,"unit":"V"}', b'{"value":3}',
    b"7", b'{"ts":-1,"value":1}', b'{"ts":0,"value":1}', b'{"ts":1e30,"value":1}', b'{"ts":"2023-11-14T22:13:20Z","value":1}',
    b'{"ts":1,"value":null}', b'{"ts":1,"value":"x"}', b"{", b"", b'{"ts":1,"value":2}{', b'[{"ts":1,"value":2},{"ts":2,"value":3}]',
    '{"ts":1,"value":2,"unit":"°C"}'.encode(), b'{"ts":1,"value":NaN}', b'{"ts":1,"value":1e400}', b'{"ts":true,"value":1}',
    b'{"ts":1700000000,"value":1,"p":2}', b"\xff{}", gzip.compress(b'{"ts":1,"value":2}'), b'{"ts":7258118399.5,"value":1}',
    b'{"ts":1e-12,"value":1}', b'{"ts":1,"value":1}' + b" " * (1 << 20),
]  # fmt: skip


@pytest.mark.parametrize(("codec", "subject"), [(TOPIC, "plant/a/x"), (WIDE, "plant/a"), (BARE, "any")])
@pytest.mark.parametrize("seed", range(5))
def test_many_at_once_say_what_each_says(codec: Codec, subject: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    records = [Record(RAWS[i], subject, "src", n, NOW + n) for n, i in enumerate(rng.integers(0, len(RAWS) if seed else 2, 200))]
    items, rejects = codec.decode_all(records)
    flat = [r for item in items for r in ([item] if isinstance(item, Reading) else [item.reading(i) for i in range(len(item.times))])]
    each = [item for record in records for item in codec.decode(record)]
    assert [samples([r]) for r in flat] == [samples([item]) for item in each if isinstance(item, Reading)]
    assert [r.arrival for r in flat] == [item.arrival for item in each if isinstance(item, Reading)]
    assert rejects == [item for item in each if isinstance(item, Reject)]
