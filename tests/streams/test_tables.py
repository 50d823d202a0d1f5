"""Reading and writing the tables of `detect`."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from streams.tables import NO_TIME, read, write
from twin_engine.errors import InputError

CSV = 'timestamp,"a, b",note\n2014-02-14 14:30:00,1.5,x\n2014-02-14 14:35:00,,"y ""z"""\n2014-02-14 14:40:00,oops,\n'


def test_csv_keeps_rows_and_columns(tmp_path: Path) -> None:
    path = tmp_path / "in.csv"
    path.write_text(CSV)
    series = read(path, "timestamp", ["a, b"], "s")
    assert series.times.tolist() == [1392388200_000000000, 1392388500_000000000, 1392388800_000000000]
    np.testing.assert_equal(series.values[:, 0], [1.5, np.nan, np.nan])
    assert series.unreadable == 1
    out = tmp_path / "deep" / "out.csv"
    write(out, series, np.array([0.0, 0.5, 1.0]), np.array([1.0, 0.5, 1e-9]), np.array([False, False, True]))
    lines = out.read_text().splitlines()
    assert lines[0] == 'timestamp,"a, b",note,score,p_value,alarm'
    assert lines[1].endswith(",x,0.0,1.0,0")
    assert '"y ""z""",0.5,0.5,0' in lines[2]
    assert lines[3].endswith(",1.0,1e-09,1")
    assert [p.name for p in out.parent.iterdir()] == ["out.csv"]


def test_gzip_and_parquet_come_back_as_their_kind(tmp_path: Path) -> None:
    zipped = tmp_path / "in.csv.gz"
    zipped.write_bytes(gzip.compress(CSV.encode()))
    series = read(zipped, "timestamp", ["a, b"], "s")
    flat = np.zeros(3)
    write(tmp_path / "out.csv.gz", series, flat, flat, flat > 0)
    assert gzip.decompress((tmp_path / "out.csv.gz").read_bytes()).decode().count("\n") == 4
    table = pa.table({"t": pa.array([0, 10**9], pa.timestamp("ns")), "v": [1, 2]})
    pq.write_table(table, tmp_path / "in.parquet")
    series = read(tmp_path / "in.parquet", "t", ["v"], "s")
    write(tmp_path / "out.parquet", series, flat[:2], flat[:2], flat[:2] > 0)
    back = pq.read_table(tmp_path / "out.parquet")
    assert back.column_names == ["t", "v", "score", "p_value", "alarm"]
    assert str(back.schema.field("alarm").type) == "bool"


@pytest.mark.parametrize(
    ("text", "unit", "ns"),
    [
        ("2015-09-14T09:50:45.422Z", "s", 1442224245_422000000),
        ("1442224245.422", "s", 1442224245_422000000),
        ("1442224245422", "ms", 1442224245_422000000),
        ("1126259462.422", "gps", 1442224245_422000000),
        ("2015-09-14T11:50:45.422+02:00", "s", 1442224245_422000000),
    ],
)
def test_times_are_exact(tmp_path: Path, text: str, unit: str, ns: int) -> None:
    path = tmp_path / "in.csv"
    path.write_text(f"t,v\n{text},1\n")
    assert read(path, "t", ["v"], unit).times.tolist() == [ns]


@pytest.mark.parametrize(
    ("text", "time", "value", "told"),
    [
        (CSV, "timestmp", "note", "Did you mean 'timestamp'?"),
        ("t,v\ntoday,1\nyesterday,2\n", "t", "v", "column 't'"),
        ("t,v\n1442224245422000000,1\n", "t", "v", "--unit"),
        ("t,v\n2014-02-14,1\n2014-02-15\n", "t", "v", "Row #3"),
        ("t,v,score\n2014-02-14,1,2\n", "t", "v", "found score"),
        ("", "t", "v", "a header"),
        ("v,v\n1,2\n", "v", "v", "a header"),
    ],
)
def test_errors_name_the_place(tmp_path: Path, text: str, time: str, value: str, told: str) -> None:
    path = tmp_path / "in.csv"
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        read(path, time, [value], "s")
    assert told in str(caught.value)


def test_a_time_that_cannot_be_read_is_none(tmp_path: Path) -> None:
    path = tmp_path / "in.csv"
    path.write_text("t,v\n2014-02-14,1\nyesterday,2\n,3\n")
    assert (read(path, "t", ["v"], "s").times == NO_TIME).tolist() == [False, True, True]
    whole = pa.array([10**9, None, 2**62], pa.int64())
    for column in (whole, pa.array([1e9, float("nan"), 1e300]), pa.array([10**12, None, 2**62], pa.timestamp("ms"))):
        pq.write_table(pa.table({"t": column, "v": [1, 2, 3]}), tmp_path / "in.parquet")
        assert read(tmp_path / "in.parquet", "t", ["v"], "s").times.tolist() == [10**18, NO_TIME, NO_TIME]


def test_other_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "x.xlsx").write_bytes(b"")
    with pytest.raises(InputError, match="ending in"):
        read(tmp_path / "x.xlsx", "t", ["v"], "s")
    with pytest.raises(InputError, match="nothing there"):
        read(tmp_path / "x.csv", "t", ["v"], "s")
