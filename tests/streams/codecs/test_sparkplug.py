"""Sparkplug B: the wire format by hand, and the protocol's rules about births, aliases, sequence and deaths."""

from __future__ import annotations

import json
import math
import struct

import numpy as np
import pytest

from streams.codecs import open_codec
from streams.codecs.protobuf import chunk, double, fields, varint
from streams.codecs.sparkplug_nodes import CAP
from tests.streams.codecs.helpers import NOW, decoded, reason, samples
from twin_engine.records import Codec, Reading, Reason, Reject

S = 10**9
MS = 1_486_144_502_122
T = MS * 10**6


def payload(*metrics: bytes, seq: int, stamp: int | None = MS) -> bytes:
    return (b"" if stamp is None else varint(1, stamp)) + b"".join(chunk(2, m) for m in metrics) + varint(3, seq)


def metric(name: str = "", alias: int | None = None, kind: int = 0, stamp: int | None = None, value: bytes = b"") -> bytes:
    parts = [chunk(1, name.encode()) if name else b"", b"" if alias is None else varint(2, alias)]
    parts += [b"" if stamp is None else varint(3, stamp), varint(4, kind) if kind else b"", value]
    return b"".join(parts)


def born(session: int = 0) -> Codec:
    """A codec that has seen a node's birth and a device's."""
    codec = open_codec("sparkplug")
    first = payload(metric("bdSeq", kind=4, value=varint(11, session)), metric("load", 0, 10, value=double(13, 1.0)), seq=0)
    assert samples(decoded(codec, first, "spBv1.0/G/NBIRTH/E")) == [("E", "load", T, 1.0, "")]
    engineering = chunk(9, chunk(1, b"engUnit") + chunk(2, varint(1, 12) + chunk(8, b"degC")))
    second = payload(metric("temp", 5, 3, value=varint(10, 20) + engineering), metric("note", 6, 12, value=chunk(15, b"x")), seq=1)
    assert samples(decoded(codec, second, "spBv1.0/G/DBIRTH/E/D")) == [("D", "temp", T, 20.0, "degC")]
    return codec


def test_the_wire_format() -> None:
    # https://protobuf.dev/programming-guides/encoding/: 150 in field 1, "testing" in field 2
    assert list(fields(bytes.fromhex("089601"))) == [(1, 0, 150)]
    assert list(fields(bytes.fromhex("120774657374696e67"))) == [(2, 2, b"testing")]
    assert varint(1, 150) + chunk(2, b"testing") == bytes.fromhex("089601120774657374696e67")
    assert list(fields(varint(3, 2**64 - 1))) == [(3, 0, 2**64 - 1)]


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        (1, varint(10, 2**32 - 1), -1.0),  # Int8 as a two's complement of 32 bits
        (1, varint(10, 0x80), -128.0),  # and of eight
        (2, varint(10, 0xFFFE), -2.0),
        (3, varint(10, 2**32 - 5), -5.0),
        (4, varint(11, 2**64 - 7), -7.0),
        (5, varint(10, 255), 255.0),
        (7, varint(10, 2**32 - 1), 4294967295.0),
        (8, varint(11, 2**64 - 1), 18446744073709551616.0),
        (9, bytes([12 << 3 | 5]) + struct.pack("<f", 0.5), 0.5),
        (10, double(13, -1e300), -1e300),
        (11, varint(14, 1), 1.0),
    ],
)
def test_types(kind: int, value: bytes, expected: float) -> None:
    raw = payload(metric("x", 1, kind, value=value), seq=0)
    codec = open_codec("sparkplug")
    assert samples(decoded(codec, raw, "spBv1.0/G/NBIRTH/E")) == [("E", "x", T, expected, "")]
    raw = payload(metric(alias=1, value=value), seq=1)  # the type is the birth's
    assert samples(decoded(codec, raw, "spBv1.0/G/NDATA/E")) == [("E", "x", T, expected, "")]


def test_data_by_alias_and_by_name() -> None:
    codec = born()
    raw = payload(metric(alias=5, stamp=MS + 1, value=varint(10, 21)), metric(alias=6, value=chunk(15, b"y")), seq=2)
    assert samples(decoded(codec, raw, "spBv1.0/G/DDATA/E/D")) == [("D", "temp", T + 10**6, 21.0, "degC")]
    raw = payload(metric("temp", value=varint(10, 22)), seq=3, stamp=None)
    assert samples(decoded(codec, raw, "spBv1.0/G/DDATA/E/D")) == [("D", "temp", NOW, 22.0, "degC")]
    (null,) = decoded(codec, payload(metric(alias=5, value=varint(7, 1)), seq=4), "spBv1.0/G/DDATA/E/D")
    assert isinstance(null, Reading)
    assert math.isnan(null.values[0, 0])


def test_an_unknown_alias_is_rejected_and_the_rest_taken() -> None:
    good, bad = decoded(
        born(), payload(metric(alias=5, value=varint(10, 1)), metric(alias=9, value=varint(10, 1)), seq=2), "spBv1.0/G/DDATA/E/D"
    )
    assert isinstance(good, Reading)
    assert isinstance(bad, Reject)
    assert bad.reason == Reason.UNKNOWN_CHANNEL
    raw = payload(metric(alias=5, value=varint(10, 1)), seq=9)
    assert reason(open_codec("sparkplug"), raw, "spBv1.0/G/DDATA/E/D") == Reason.UNKNOWN_CHANNEL


def test_a_missed_message_voids_aliases_until_the_birth() -> None:
    codec = born()
    by_alias = metric(alias=5, value=varint(10, 21))
    gap, unknown = decoded(codec, payload(by_alias, seq=3), "spBv1.0/G/DDATA/E/D")
    assert isinstance(gap, Reject)
    assert gap.reason == Reason.MALFORMED
    assert "seq 3 after 1" in gap.detail
    assert isinstance(unknown, Reject)
    assert unknown.reason == Reason.UNKNOWN_CHANNEL
    assert reason(codec, payload(by_alias, seq=4), "spBv1.0/G/DDATA/E/D") == Reason.UNKNOWN_CHANNEL
    by_name = payload(metric("temp", value=varint(10, 2**32 - 1)), seq=5)
    assert samples(decoded(codec, by_name, "spBv1.0/G/DDATA/E/D")) == [("D", "temp", T, -1.0, "degC")]
    decoded(codec, payload(metric("temp", 7, 3, value=varint(10, 1)), seq=6), "spBv1.0/G/DBIRTH/E/D")
    again = payload(metric(alias=7, value=varint(10, 2)), seq=7)
    assert samples(decoded(codec, again, "spBv1.0/G/DDATA/E/D")) == [("D", "temp", T, 2.0, "")]
    assert reason(codec, payload(metric(alias=0, value=varint(10, 2)), seq=8), "spBv1.0/G/NDATA/E") == Reason.UNKNOWN_CHANNEL


def test_the_sequence_goes_round_and_a_message_again_is_no_gap() -> None:
    codec = born()
    for seq in [*range(2, 256), 0, 1, 1, 2]:
        raw = payload(metric(alias=5, stamp=MS + seq, value=varint(10, seq)), seq=seq)
        assert len(samples(decoded(codec, raw, "spBv1.0/G/DDATA/E/D"))) == 1


def test_deaths_are_missing_samples() -> None:
    codec = born()
    (mask,) = decoded(codec, payload(seq=2, stamp=MS + 5), "spBv1.0/G/DDEATH/E/D")
    assert isinstance(mask, Reading)
    assert (mask.asset, mask.channels, mask.times.tolist()) == ("D", ("temp",), [T + 5 * 10**6])
    assert np.isnan(mask.values).all()
    assert reason(codec, payload(metric(alias=5, value=varint(10, 1)), seq=3), "spBv1.0/G/DDATA/E/D") == Reason.UNKNOWN_CHANNEL

    codec = born(session=4)
    death = metric("bdSeq", kind=4, value=varint(11, 3))
    assert decoded(codec, chunk(2, death), "spBv1.0/G/NDEATH/E") == []  # of the session before
    masks = decoded(codec, chunk(2, metric("bdSeq", kind=4, value=varint(11, 4))), "spBv1.0/G/NDEATH/E")
    assert [(m.asset, m.times.tolist()) for m in masks if isinstance(m, Reading)] == [("E", [NOW]), ("D", [NOW])]
    assert codec.memory == {}
    assert decoded(codec, chunk(2, death), "spBv1.0/G/NDEATH/E") == []


def test_a_birth_begins_anew() -> None:
    codec = born()
    decoded(codec, payload(metric("other", 5, 10, value=double(13, 1.0)), seq=0), "spBv1.0/G/NBIRTH/E")
    raw = payload(metric(alias=5, value=double(13, 2.0)), seq=1)
    assert samples(decoded(codec, raw, "spBv1.0/G/NDATA/E")) == [("E", "other", T, 2.0, "")]
    assert reason(codec, payload(metric(alias=5, value=varint(10, 1)), seq=2), "spBv1.0/G/DDATA/E/D") == Reason.UNKNOWN_CHANNEL


def test_memory_is_carried_over() -> None:
    codec = born()
    memory = codec.memory
    assert codec.memory is memory  # nothing has changed
    kept = json.loads(json.dumps(memory))
    raw = payload(metric(alias=5, value=varint(10, 21)), seq=2)
    expected = decoded(codec, raw, "spBv1.0/G/DDATA/E/D")
    assert codec.memory is not memory
    assert memory == kept  # and was not changed in place
    other = open_codec("sparkplug")
    other.recall(kept)
    assert samples(decoded(other, raw, "spBv1.0/G/DDATA/E/D")) == samples(expected)
    assert other.memory == codec.memory
    gap = payload(metric(alias=5, value=varint(10, 21)), seq=9)
    assert len(decoded(other, gap, "spBv1.0/G/DDATA/E/D")) == 2
    third = open_codec("sparkplug")
    third.recall(json.loads(json.dumps(other.memory)))
    assert reason(third, payload(metric(alias=5, value=varint(10, 1)), seq=10), "spBv1.0/G/DDATA/E/D") == Reason.UNKNOWN_CHANNEL


def test_memory_is_bounded() -> None:
    codec = open_codec("sparkplug")
    births = payload(*(metric(f"m{i}", i, 10, value=varint(7, 1)) for i in range(20_000)), seq=0)
    found = [decoded(codec, births, f"spBv1.0/G/NBIRTH/E{k}") for k in range(6)]
    assert [len(items) for items in found] == [0] * 4 + [1] * 2
    assert isinstance(found[-1][0], Reject)
    assert found[-1][0].reason == Reason.TOO_LARGE
    assert sum(len(t[1]) for n in codec.memory.values() for t in n["tables"].values()) <= CAP
    decoded(codec, births, "spBv1.0/G/NDEATH/E0")
    assert decoded(codec, births, "spBv1.0/G/NBIRTH/E0") == []  # what a death gave back is there again


@pytest.mark.parametrize("topic", ["spBv1.0/G/NCMD/E", "spBv1.0/G/DCMD/E/D", "spBv1.0/STATE/host", "STATE/host"])
def test_what_is_no_data_says_nothing(topic: str) -> None:
    assert decoded(open_codec("sparkplug"), b"ONLINE", topic) == []


@pytest.mark.parametrize(
    ("topic", "raw", "expected"),
    [
        ("spAv1.0/G/NDATA/E", payload(seq=0), Reason.MALFORMED),
        ("spBv1.0/G/NDATA/E/D", payload(seq=0), Reason.MALFORMED),
        ("spBv1.0/G/DDATA/E", payload(seq=0), Reason.MALFORMED),
        ("spBv1.0/G/XDATA/E", payload(seq=0), Reason.MALFORMED),
        ("spBv1.0//NDATA/E", payload(seq=0), Reason.MALFORMED),
        ("spBv1.0/G/NDATA/" + "E" * 600, payload(seq=0), Reason.TOO_LARGE),
        ("spBv1.0/G/NDATA/E", payload(seq=256), Reason.MALFORMED),
        ("spBv1.0/G/NDATA/E", b"\x0b", Reason.MALFORMED),
        ("spBv1.0/G/NDATA/E", b"\x12\x7fshort", Reason.MALFORMED),
        ("spBv1.0/G/NDATA/E", b"\x08" + b"\xff" * 11, Reason.MALFORMED),
        ("spBv1.0/G/NDATA/E", b"\x00\x01", Reason.MALFORMED),
        ("spBv1.0/G/NDATA/E", payload(metric("x", kind=10, value=double(13, math.nan)), seq=0), Reason.NOT_FINITE),
        ("spBv1.0/G/NDATA/E", payload(metric("x", kind=10, stamp=2**63, value=double(13, 1.0)), seq=0), Reason.MALFORMED),
        ("spBv1.0/G/NDATA/E", payload(chunk(1, b"\xff") + double(13, 1.0), seq=0), Reason.NOT_UTF8),
        ("spBv1.0/G/NDATA/E", payload(metric("x" * 600, kind=10, value=double(13, 1.0)), seq=0), Reason.TOO_LARGE),
    ],
)
def test_what_is_wrong(topic: str, raw: bytes, expected: Reason) -> None:
    assert reason(open_codec("sparkplug"), raw, topic) == expected


def test_a_broken_metric_leaves_the_others() -> None:
    raw = payload(metric(alias=5, value=varint(10, 3)), b"\x0b", seq=2)
    good, bad = decoded(born(), raw, "spBv1.0/G/DDATA/E/D")
    assert isinstance(good, Reading)
    assert isinstance(bad, Reject)


def test_assets_by_a_template() -> None:
    codec = open_codec("sparkplug", options={"asset": "{group}/{edge}/{device}"})
    raw = payload(metric("x", kind=10, value=double(13, 1.0)), seq=0)
    assert samples(decoded(codec, raw, "spBv1.0/G/NDATA/E")) == [("G/E", "x", T, 1.0, "")]
    assert [s[0] for s in samples(decoded(codec, payload(metric("x", kind=10, value=double(13, 1.0)), seq=1), "spBv1.0/G/DDATA/E/D"))] == [
        "G/E/D"
    ]


def test_what_is_written_follows_the_protocol() -> None:
    codec = open_codec("sparkplug", options={"group": "G", "edge": "E"})
    reading = Reading("D", ("x",), np.array([T]), np.array([[1.0]]))
    topics = [topic for _ in range(2) for topic, _ in codec.encode(reading)]
    assert topics == ["spBv1.0/G/NBIRTH/E", "spBv1.0/G/DBIRTH/E/D", "spBv1.0/G/DDATA/E/D", "spBv1.0/G/DDATA/E/D"]
    more = Reading("D", ("x", "y"), np.array([T]), np.array([[1.0], [2.0]]))
    messages = codec.encode(more)
    assert [topic.split("/")[2] for topic, _ in messages] == ["DBIRTH", "DDATA"]
    assert [list(fields(raw))[-1] for _, raw in messages] == [(3, 0, 4), (3, 0, 5)]
