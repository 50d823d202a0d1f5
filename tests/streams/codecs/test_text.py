"""InfluxDB's line protocol and ExaMon: examples as published, and what is wrong."""

from __future__ import annotations

import pytest

from streams.codecs import open_codec
from tests.streams.codecs.helpers import NOW, decoded, reason, samples
from twin_engine.errors import InputError
from twin_engine.records import Reading, Reason, Record, Reject

LINES = open_codec("line_protocol", options={"asset": "id"})
T = 1_556_813_561_098_000_000


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        # https://docs.influxdata.com/influxdb/v2/reference/syntax/line-protocol/
        (b'myMeasurement,id=a,tag2=value2 fieldKey="fieldValue" 1556813561098000000', []),
        (b"myMeasurement,id=a fieldKey=1.0", [("a", "fieldKey", NOW, 1.0, "")]),
        (b"myMeasurement,id=a fieldKey=-1.234456e+78 1556813561098000000", [("a", "fieldKey", T, -1.234456e78, "")]),
        (b"myMeasurement,id=a fieldKey=12485903u", [("a", "fieldKey", NOW, 12485903.0, "")]),
        (b"myMeasurement,id=a fieldKey=-12485903i", [("a", "fieldKey", NOW, -12485903.0, "")]),
        (b"m,id=a f=true,g=F", [("a", "f", NOW, 1.0, ""), ("a", "g", NOW, 0.0, "")]),
        (b'my\\ Measurement,id=a fieldKey="string value",x=1', [("a", "x", NOW, 1.0, "")]),
        (b'm,id=a fieldKey="\\"string\\" within, a string",x=1', [("a", "x", NOW, 1.0, "")]),
        (b"m,tag\\ Key1=tag\\ Value1,id=tag\\ Value2 x=100", [("tag Value2", "x", NOW, 100.0, "")]),
        ("m,id=🍭 field=1".encode(), [("🍭", "field", NOW, 1.0, "")]),
        (
            b"# a comment\n\nm,id=a x=1 1556813561098000000\r\nm,id=b x=2 1556813561098000000\n",
            [("a", "x", T, 1, ""), ("b", "x", T, 2, "")],
        ),
        (b"m,id=a\\,b\\=c x\\,y=1", [("a,b=c", "x,y", NOW, 1.0, "")]),
    ],
)
def test_line_protocol(raw: bytes, expected: object) -> None:
    assert samples(decoded(LINES, raw)) == expected


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b"m,id=a", Reason.MALFORMED),
        (b"m,id=a x", Reason.MALFORMED),
        (b"m,id=a x=", Reason.MALFORMED),
        (b"m,id= x=1", Reason.MALFORMED),
        (b", x=1", Reason.MALFORMED),
        (b"m,,id=a x=1", Reason.MALFORMED),
        (b"m,b=a x=1", Reason.MALFORMED),
        (b"m,id=a x=1_0", Reason.MALFORMED),
        (b"m,id=a x=1.5i", Reason.MALFORMED),
        (b"m,id=a x=0x1f", Reason.MALFORMED),
        ("m,id=a x=٣".encode(), Reason.MALFORMED),
        (b'm,id=a x="open', Reason.MALFORMED),
        (b"m,id=a x=1 noon", Reason.MALFORMED),
        (b"m,id=a x=1 99999999999999999999", Reason.MALFORMED),
        (b"m,id=a x=1 1 1", Reason.MALFORMED),
        (b"m,id=a x=nan", Reason.NOT_FINITE),
        (b"m,id=a x=1e999", Reason.NOT_FINITE),
        (b"m,id=\xff x=1", Reason.NOT_UTF8),
        (b"m,id=" + b"a" * 600 + b" x=1", Reason.TOO_LARGE),
    ],
)
def test_bad_lines(raw: bytes, expected: Reason) -> None:
    assert reason(LINES, raw) == expected


def test_a_bad_line_is_rejected_alone_with_its_bytes() -> None:
    good, bad = decoded(LINES, b"m,id=a x=1,y=z 5\nnonsense\nm,id=a x=2 6")
    assert isinstance(good, Reading)
    assert good.values.tolist() == [[1, 2]]
    assert isinstance(bad, Reject)
    assert bad.raw == b"m,id=a x=1,y=z 5\nnonsense"


def test_units_names_and_topics() -> None:
    codec = open_codec("line_protocol", "in/{asset}", {"unit": "s", "name": "{measurement}.{cpu}.{field}"})
    assert samples(decoded(codec, b"use,cpu=cpu0 idle=9 1700000000", "in/n1")) == [("n1", "use.cpu0.idle", NOW, 9.0, "")]


EXAMON = open_codec("examon")
NODE = "org/antarex/cluster/testcluster/node/mabus/plugin/pmu_pub/chnl/data"


@pytest.mark.parametrize(
    ("topic", "raw", "expected"),
    [
        # topics and payloads as mosquitto_sub prints them beside ExaMon's pmu_pub
        (f"{NODE}/cpu/0/tsc", b"6514034410521054;1534429383.000", ("mabus", "cpu/0/tsc", 1534429383 * 10**9, 6514034410521054.0, "")),
        (f"{NODE}/core/0/UOPS_RETIRED.RETIRE_SLOTS", b"140737561474785;1534429383.000",
         ("mabus", "core/0/UOPS_RETIRED.RETIRE_SLOTS", 1534429383 * 10**9, 140737561474785.0, "")),
        # ExaMon's data model
        ("org/cineca/cluster/marconi100/node/r255n18/plugin/ipmi_pub/chnl/data/p0_power", b"25.1;1658832078.001",
         ("r255n18", "p0_power", 1658832078001 * 10**6, 25.1, "")),
        ("org/testorg/cluster/testcluster/node/testnode00/plugin/pmu_pub/chnl/data/core/23/aperf", b"10822010350093;1658832078.001",
         ("testnode00", "core/23/aperf", 1658832078001 * 10**6, 10822010350093.0, "")),
        ("org/o/node/n%2F1/plugin/p/chnl/data/a%20b", b"1;2", ("n/1", "a b", 2 * 10**9, 1.0, "")),
    ],
)  # fmt: skip
def test_examon(topic: str, raw: bytes, expected: object) -> None:
    assert samples(decoded(EXAMON, raw, topic)) == [expected]


def test_examon_with_cores_as_assets() -> None:
    codec = open_codec("examon", options={"asset": "node/core"})
    assert samples(decoded(codec, b"30;1", f"{NODE}/core/7/temp")) == [("mabus/7", "temp", 10**9, 30.0, "")]
    assert reason(codec, b"30;1", f"{NODE}/temp") == Reason.MALFORMED
    with pytest.raises(InputError, match="one key"):
        codec.encode(*decoded(codec, b"30;1", f"{NODE}/core/7/temp"))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("topic", "raw", "expected"),
    [
        (NODE, b"CK", Reason.MALFORMED),
        (f"{NODE}/".replace("data", "cmd") + "x", b"1;2", Reason.MALFORMED),
        ("node/n/temp", b"1;2", Reason.MALFORMED),
        ("org/o/plugin/p/chnl/data/temp", b"1;2", Reason.MALFORMED),
        (f"{NODE}/", b"1;2", Reason.MALFORMED),
        (f"{NODE}/t", b"1", Reason.MALFORMED),
        (f"{NODE}/t", b"1;", Reason.MALFORMED),
        (f"{NODE}/t", b";2", Reason.MALFORMED),
        (f"{NODE}/t", b"DISK CRITICAL - free space: 0 MB;1658832078.001", Reason.MALFORMED),
        (f"{NODE}/t", b"1;1e40", Reason.MALFORMED),
        (f"{NODE}/t", b"nan;2", Reason.NOT_FINITE),
        (f"{NODE}/t", b"inf;2", Reason.NOT_FINITE),
        (f"{NODE}/t", b"\xff;2", Reason.NOT_UTF8),
    ],
)
def test_bad_examon(topic: str, raw: bytes, expected: Reason) -> None:
    assert reason(EXAMON, raw, topic) == expected


def test_examon_is_written_under_a_topic_of_the_pattern() -> None:
    (found,) = EXAMON.decode(Record(b"30;1.5", f"{NODE}/core/0/temp"))
    assert isinstance(found, Reading)
    assert EXAMON.encode(found) == [("org/twin/cluster/twin/node/mabus/plugin/twin/chnl/data/core/0/temp", b"30.0;1.500")]
    codec = open_codec("examon", "org/o/cluster/c/node/{asset}/plugin/p/chnl/data")
    assert codec.encode(found) == [("org/o/cluster/c/node/mabus/plugin/p/chnl/data/core/0/temp", b"30.0;1.500")]
