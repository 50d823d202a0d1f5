"""Separated values: what is read, what is rejected, and that every position resumes."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams import open_source
from streams.columns import Layout
from streams.rows import Rows, fast, slow
from twin_engine.errors import InputError
from twin_engine.records import Item, Reading, Reason, Reject


def _items(uri: str, position: object = None, **options: object) -> list[Item]:
    source = open_source(uri, **options)  # type: ignore[arg-type]
    try:
        return list(source.items(position))
    finally:
        source.close()


def _flat(items: list[Item]) -> list[tuple[str, str, int, float]]:
    """Every sample as asset, channel, time, value (the NaN as None-like text so that lists compare)."""
    return [
        (item.asset, channel, int(t), "nan" if np.isnan(v) else float(v))  # type: ignore[misc]
        for item in items if isinstance(item, Reading)
        for channel, row in zip(item.channels, item.values, strict=True)
        for t, v in zip(item.times, row, strict=True)
    ]  # fmt: skip


def _write(path: Path, text: str | bytes) -> str:
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return f"csv:{path}"


def test_reads_a_plain_table(tmp_path: Path) -> None:
    uri = _write(tmp_path / "pump.csv", "timestamp,value\n2014-01-01 00:00:00,1.5\n2014-01-01 00:05:00,\n")
    (reading,) = _items(uri)
    assert isinstance(reading, Reading)
    assert (reading.asset, reading.channels) == ("pump", ("value",))
    np.testing.assert_array_equal(reading.times, [1388534400 * 10**9, 1388534700 * 10**9])
    np.testing.assert_array_equal(reading.values, [[1.5, np.nan]])


@pytest.mark.parametrize(
    ("cell", "unit", "ns"),
    [
        ("2015-09-14T09:50:45.422Z", "", 1442224245422000000),
        ("2015-09-14T11:50:45.422+02:00", "", 1442224245422000000),
        ("1442224245.422000001", "", 1442224245422000001),
        ("1442224245422", "ms", 1442224245422000000),
        ("1442224245422000001", "ns", 1442224245422000001),
        ("1.442224245422e9", "s", 1442224245422000000),
        ("1126259462.422", "gps", 1442224245422000000),
    ],
)
def test_times_are_exact_in_the_stated_unit(tmp_path: Path, cell: str, unit: str, ns: int) -> None:
    uri = _write(tmp_path / "a.csv", f"time,x\n{cell},1\n")
    (reading,) = _items(uri + (f"?unit={unit}" if unit else ""))
    assert isinstance(reading, Reading)
    assert int(reading.times[0]) == ns


def test_one_reading_for_each_asset_in_order(tmp_path: Path) -> None:
    uri = _write(tmp_path / "farm.csv", "time;name;p;q\n1;b;1;2\n1;a;3;4\n2;b;5;6\n")
    items = _items(uri + "?asset=name&value=p,q:power")
    assert [(i.asset, i.channels, i.values.tolist()) for i in items if isinstance(i, Reading)] == [
        ("b", ("p", "power"), [[1.0, 5.0], [2.0, 6.0]]),
        ("a", ("p", "power"), [[3.0], [4.0]]),
    ]


def test_takes_the_columns_of_the_twin(tmp_path: Path) -> None:
    uri = _write(tmp_path / "a.csv", "time,note,x,y\n1,hello,2,3\n")
    (reading,) = _items(uri, streams={"main": ("y", "z")})
    assert isinstance(reading, Reading)
    assert reading.channels == ("y",)
    (reading,) = _items(uri + "?value=x", streams={"main": ("only",)})
    assert isinstance(reading, Reading)
    assert reading.channels == ("only",)


def test_bad_rows_are_rejects_with_their_bytes_and_the_rest_goes_on(tmp_path: Path) -> None:
    long = b"4," + b"9" * (1 << 20)
    rows = [b"1,1", b"2,two", b"3,\xff\xfe", long, b"5,5,5", b"noon,6", b'7,"7', b"8,NaN", b"9,inf", b"10,10"]
    uri = _write(tmp_path / "a.csv", b"time,x\n" + b"\n".join(rows))
    items = _items(uri)
    assert [v for *_, v in _flat(items)] == [1.0, "nan", np.inf, 10.0]
    rejects = [item for item in items if isinstance(item, Reject)]
    assert [(r.reason, r.raw) for r in rejects] == [
        (Reason.MALFORMED, b"2,two"),
        (Reason.NOT_UTF8, b"3,\xff\xfe"),
        (Reason.TOO_LARGE, long),
        (Reason.MALFORMED, b"5,5,5"),
        (Reason.MALFORMED, b"noon,6"),
        (Reason.MALFORMED, b'7,"7'),
    ]
    assert all(r.source == uri for r in rejects)
    assert "found 3" in rejects[3].detail


def test_a_line_longer_than_memory_allows_is_skipped(tmp_path: Path) -> None:
    uri = _write(tmp_path / "a.csv", b"time,x\n1,1\n2," + b"9" * (5 << 20) + b"\n3,3\n")
    items = _items(uri)
    assert [v for *_, v in _flat(items)] == [1.0, 3.0]
    (reject,) = [item for item in items if isinstance(item, Reject)]
    assert reject.reason is Reason.TOO_LARGE
    assert len(reject.raw) == 1 << 20
    assert str((5 << 20) + 3) in reject.detail


def test_every_position_resumes(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    rows = [f"{i},{'abc'[i % 3]},{rng.normal()}" if rng.random() > 0.001 else "broken" for i in range(40_000)]
    for name, opener in (("a.csv", Path.open), ("a.csv.gz", gzip.open)):
        path = tmp_path / name
        with opener(path, "wb") as file:  # type: ignore[operator]
            file.write(("time,name,x\n" + "\n".join(rows)).encode())
        uri = f"csv:{path}?asset=name"
        items = _items(uri)
        assert len(items) > 8
        for k in [0, 1, 2, 3, len(items) // 2, len(items) - 2]:
            position = json.loads(json.dumps(items[k].position))
            again = _items(uri, position)
            assert sorted(_flat(again)) == sorted(_flat(items[k + 1 :]))
            assert [i.raw for i in again if isinstance(i, Reject)] == [i.raw for i in items[k + 1 :] if isinstance(i, Reject)]


_NUMBERS = st.one_of(
    st.floats(allow_nan=False).map(repr),
    st.integers(-(10**20), 10**20).map(str),
    st.sampled_from(["", "NA", "nan", "inf", "-inf", " 1", "+2", "1e3", ".5"]),
)
_STAMPS = st.one_of(
    st.integers(0, 4 * 10**9).map(str),
    st.decimals(0, 10**9, places=9).map(str),
    st.datetimes().map(lambda t: t.isoformat(sep=" ")),
    st.datetimes().map(lambda t: t.isoformat() + "Z"),
    st.sampled_from(["2020-01-01T00:00:00+05:30", "2020-01-01", "-1", "1e9", "99999999999999999999"]),
)


@given(
    st.lists(st.tuples(_STAMPS, st.sampled_from(["a", "b", "é"]), _NUMBERS, _NUMBERS), min_size=1, max_size=8),
    st.sampled_from(["", "s", "iso", "gps"]),
)
@settings(max_examples=150, deadline=None)
def test_the_fast_way_equals_the_slow_way(table: list[tuple[str, str, str, str]], unit: str) -> None:
    """Where Arrow takes a piece it gives what the row-by-row way gives, to the bit."""
    data = "".join(",".join(row) + "\n" for row in table).encode()
    rows = Rows(Layout(0, (2, 3), ("x", "y"), 1), 4, ",", unit, "none")
    quick, careful = fast(rows, data), slow(rows, data)
    if quick is None:
        return
    assert not careful.bad
    assert _flat([*quick.readings]) == _flat([*careful.readings])
    assert [r.asset for r in quick.readings] == [r.asset for r in careful.readings]


def test_clean_input_goes_the_fast_way() -> None:
    rows = Rows(Layout(0, (1,), ("x",)), 2, ",", "", "none")
    for data in (b"2020-01-01 00:00:00,1.5\n", b"2020-01-01T00:00:00Z,1\n", b"12.5,1\n", b"2020-01-01T00:00:00+01:00,NA\r\n"):
        assert fast(rows, data) is not None


@pytest.mark.parametrize(
    ("name", "text", "query", "says"),
    [
        ("a.csv", "timestamp,value\n1,2\n", "?value=valu", "Did you mean 'value'?"),
        ("a.csv", "when,value\n1,2\n", "", "?time=COLUMN"),
        ("a.csv", "time,value\n1,2\n", "?tim=time", "Did you mean 'time'?"),
        ("a.csv", "time,value\n1,2\n", "?unit=sec", "unit=iso, s, ms, us, ns or gps"),
        ("a.csv", "time,label\n1,x\n", "", "value=COLUMN:CHANNEL"),
    ],
)
def test_errors_name_the_mend(tmp_path: Path, name: str, text: str, query: str, says: str) -> None:
    uri = _write(tmp_path / name, text)
    with pytest.raises(InputError, match="expected") as caught:
        open_source(uri + query)
    assert says in str(caught.value)


def test_a_missing_file_names_its_neighbour(tmp_path: Path) -> None:
    _write(tmp_path / "pumps.csv", "time,x\n1,1\n")
    with pytest.raises(InputError, match=r"pumps\.csv"):
        open_source(f"csv:{tmp_path / 'pump.csv'}")
    with pytest.raises(InputError, match="Did you mean 'csv'"):
        open_source(f"cvs:{tmp_path / 'pumps.csv'}")


def test_a_file_that_shrank_is_told(tmp_path: Path) -> None:
    uri = _write(tmp_path / "a.csv", "time,x\n1,1\n2,2\n")
    position = _items(uri)[-1].position
    _write(tmp_path / "a.csv", "time,x\n")
    with pytest.raises(InputError, match="shorter"):
        _items(uri, position)
