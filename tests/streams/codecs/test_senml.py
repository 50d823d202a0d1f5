"""SenML: the examples of RFC 8428, and what is wrong."""

from __future__ import annotations

import math

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.codecs import cbor, open_codec
from tests.streams.codecs.helpers import NOW, decoded, reason, samples
from twin_engine.errors import InputError
from twin_engine.records import Reading, Reason, Reject

SENML = open_codec("senml", "any")
DEVICE = "urn:dev:ow:10e2073a01080063"
BASE = 1_276_020_076_001 * 10**6
SIX = b"""[
  {"bn":"urn:dev:ow:10e2073a01080063:","bt":1.276020076001e+09, "bu":"A","bver":5, "n":"voltage","u":"V","v":120.1},
  {"n":"current","t":-5,"v":1.2}, {"n":"current","t":-4,"v":1.3}, {"n":"current","t":-3,"v":1.4},
  {"n":"current","t":-2,"v":1.5}, {"n":"current","t":-1,"v":1.6}, {"n":"current","v":1.7}
]"""


def found(raw: bytes, subject: str = "any") -> list[tuple[str, str, int, float, str]]:
    return samples(decoded(SENML, raw, subject))


def test_a_single_datapoint() -> None:  # section 5.1.1
    assert found(b'[{"n":"urn:dev:ow:10e2073a01080063","u":"Cel","v":23.1}]') == [(DEVICE, "value", NOW, 23.1, "Cel")]


def test_several_datapoints() -> None:  # section 5.1.2
    raw = b'[{"bn":"urn:dev:ow:10e2073a01080063:","n":"voltage","u":"V","v":120.1},{"n":"current","u":"A","v":1.2}]'
    assert found(raw) == [(DEVICE, "current", NOW, 1.2, "A"), (DEVICE, "voltage", NOW, 120.1, "V")]
    current = [(DEVICE, "current", BASE + (k - 5) * 10**9, round(1.2 + k / 10, 1), "A") for k in range(6)]
    assert found(SIX) == [*current, (DEVICE, "voltage", BASE, 120.1, "V")]


def test_cbor() -> None:  # section 6: the same pack
    records = msgspec.json.decode(SIX)
    labels = {"bver": -1, "bn": -2, "bt": -3, "bu": -4, "n": 0, "u": 1, "v": 2, "t": 6}
    raw = cbor.dumps([{labels[key]: value for key, value in record.items()} for record in records])
    assert raw[:18] == bytes.fromhex("87a721781c75726e3a6465763a6f773a3130")  # as printed there, with the whole base name
    assert found(raw) == found(SIX)


def test_several_data_types() -> None:  # section 5.1.4 of the RFC's examples: numbers, strings, booleans, data
    raw = b"""[{"bn":"urn:dev:ow:10e2073a01080063:","n":"temp","u":"Cel","v":23.1},
      {"n":"label","vs":"Machine Room"},{"n":"open","vb":false},{"n":"nfc-reader","vd":"aGkgCg"}]"""
    assert found(raw) == [(DEVICE, "open", NOW, 0.0, ""), (DEVICE, "temp", NOW, 23.1, "Cel")]


def test_a_collection_of_resources() -> None:
    raw = b"""[{"bn":"2001:db8::2/","bt":1.320078429e+09,"n":"temperature","u":"Cel","v":25.2},{"n":"humidity","u":"%RH","v":30},
      {"bn":"2001:db8::1/","n":"temperature","u":"Cel","v":12.3},{"n":"humidity","u":"%RH","v":67}]"""
    t = 1_320_078_429 * 10**9
    assert found(raw) == [
        ("2001:db8::1", "humidity", t, 67.0, "%RH"), ("2001:db8::1", "temperature", t, 12.3, "Cel"),
        ("2001:db8::2", "humidity", t, 30.0, "%RH"), ("2001:db8::2", "temperature", t, 25.2, "Cel"),
    ]  # fmt: skip


def test_base_values_times_and_sums() -> None:
    raw = b'[{"bn":"d/"},{"bv":20,"bt":-1,"n":"a","v":1.5},{"n":"a","t":-9},{"n":"s","s":7},{"n":"a","t":1.5,"v":-20,"s":3,"ut":9}]'
    values, fault = decoded(SENML, raw, "any")
    assert isinstance(values, Reading)
    assert values.values.tolist() == [[21.5, 0.0]]
    assert values.times.tolist() == [NOW - 10**9, NOW + 500_000_000]
    assert isinstance(fault, Reject)
    assert fault.detail == "record 2: 0 values; one is meant"


def test_topics_go_before_names() -> None:
    codec = open_codec("senml", "plant/{asset}/{channel}")
    assert samples(decoded(codec, b'[{"n":"t","v":1}]', "plant/a/x")) == [("a", "x", NOW, 1.0, "")]
    codec = open_codec("senml", "plant/{asset}")
    assert samples(decoded(codec, b'[{"n":"t","v":1}]', "plant/a")) == [("a", "t", NOW, 1.0, "")]
    assert samples(decoded(codec, b'[{"n":"urn:dev:mac:0024befffe804ff1/t","v":1}]', "plant/a")) == [("a", "t", NOW, 1.0, "")]


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b'{"n":"a","v":1}', Reason.MALFORMED),
        (b"[1]", Reason.MALFORMED),
        (b'[{"n":"a","v":"1"}]', Reason.MALFORMED),
        (b'[{"n":"a","v":1,"vb":true}]', Reason.MALFORMED),
        (b'[{"n":"a","vb":1}]', Reason.MALFORMED),
        (b'[{"v":1}]', Reason.MALFORMED),
        (b'[{"n":"-a","v":1}]', Reason.MALFORMED),
        (b'[{"n":"a b","v":1}]', Reason.MALFORMED),
        (b'[{"n":7,"v":1}]', Reason.MALFORMED),
        (b'[{"n":"a","v":1},{"bn":7,"n":"b","v":1}]', Reason.MALFORMED),
        (b'[{"n":"a","v":1},{"bt":true,"n":"b","v":1}]', Reason.MALFORMED),
        (b'[{"bver":11,"n":"a","v":1}]', Reason.MALFORMED),
        (b'[{"n":"a","v":1,"must_":1}]', Reason.MALFORMED),
        (b'[{"n":"a","v":1,"t":1e11}]', Reason.MALFORMED),
        (b'[{"n":"a","v":1,"t":-2e9}]', Reason.MALFORMED),
        (b'[{"n":"a","v":1e999}]', Reason.NOT_FINITE),
        (b'[{"n":"a","v":NaN}]', Reason.NOT_FINITE),
        (b'[{"bv":1e308,"n":"a","v":1e308}]', Reason.NOT_FINITE),
        (b'[{"n":"\xff","v":1}]', Reason.NOT_UTF8),
        (b"[" * 100_000, Reason.MALFORMED),
        (bytes.fromhex("81a2006161"), Reason.MALFORMED),  # CBOR cut short
        (bytes.fromhex("81a200616102fb7ff8000000000000"), Reason.NOT_FINITE),
        (bytes.fromhex("81a2006161021c"), Reason.MALFORMED),
        (bytes.fromhex("81a20061ff0201"), Reason.NOT_UTF8),
        (bytes.fromhex("81" * 20 + "00"), Reason.MALFORMED),
        (bytes.fromhex("9bffffffffffffffff"), Reason.MALFORMED),
        (bytes.fromhex("80ff"), Reason.MALFORMED),
        (bytes.fromhex("81a200616102c4821a7fffffff01"), Reason.MALFORMED),  # a decimal fraction of ten to the two thousand millions
    ],
)
def test_what_is_wrong(raw: bytes, expected: Reason) -> None:
    assert reason(SENML, raw, "any") == expected


def test_relative_times_need_an_arrival() -> None:
    assert reason(SENML, b'[{"n":"a","v":1}]', "any", arrival=0) == Reason.MALFORMED


def test_a_bad_record_leaves_the_others() -> None:
    good, bad = decoded(SENML, b'[{"bn":"d/","n":"a","v":1},{"n":"b","v":"x"},{"n":"c","v":3}]', "any")
    assert isinstance(good, Reading)
    assert good.channels == ("a", "c")
    assert isinstance(bad, Reject)


def test_names_that_senml_cannot_hold() -> None:
    (reading,) = decoded(SENML, b'[{"n":"d/a","v":1,"t":1700000000}]', "any")
    assert isinstance(reading, Reading)
    for asset, channel in (("d e", "a"), ("d", "a/b"), ("-d", "a")):
        other = Reading(asset, (channel,), reading.times, reading.values)
        with pytest.raises(InputError, match="senml"):
            SENML.encode(other)
    with pytest.raises(InputError, match="1978"):
        SENML.encode(Reading("d", ("a",), reading.times // 10, reading.values))


# RFC 8949, appendix A
@pytest.mark.parametrize(
    ("data", "value"),
    [
        ("00", 0), ("17", 23), ("1818", 24), ("1903e8", 1000), ("1b000000e8d4a51000", 10**12), ("20", -1),
        ("3863", -100), ("3903e7", -1000),
        ("f90000", 0.0), ("f93c00", 1.0), ("fb3ff199999999999a", 1.1), ("f97bff", 65504.0), ("fa47c35000", 100000.0), ("f90001", 2**-24),
        ("fbc010666666666666", -4.1), ("f97c00", math.inf), ("f4", False), ("f5", True), ("f6", None), ("60", ""), ("6449455446", "IETF"),
        ("4401020304", b"\1\2\3\4"), ("80", []), ("8301820203820405", [1, [2, 3], [4, 5]]), ("a201020304", {1: 2, 3: 4}),
        ("7f657374726561646d696e67ff", "streaming"), ("9f018202039f0405ffff", [1, [2, 3], [4, 5]]),
        ("bf6346756ef563416d7421ff", {"Fun": True, "Amt": -2}),
        ("c48221196ab3", 273.15), ("c11a514b67b0", 1363896240),
    ],
)  # fmt: skip
def test_cbor_as_published(data: str, value: object) -> None:
    assert cbor.loads(bytes.fromhex(data)) == value


@given(
    st.recursive(
        st.integers(-(2**64), 2**64 - 1) | st.floats(allow_nan=False) | st.text(),
        lambda s: st.lists(s) | st.dictionaries(st.text(), s),
        max_leaves=20,
    )
)
def test_cbor_there_and_back(item: object) -> None:
    def depth(x: object) -> int:
        inner = list(x.values()) if isinstance(x, dict) else x if isinstance(x, list) else []
        return 1 + max(map(depth, inner), default=0)

    if depth(item) < 8:
        assert cbor.loads(cbor.dumps(item)) == item
