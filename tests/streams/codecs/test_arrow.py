"""Arrow IPC frames and LIGO's arrakis."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from streams.codecs import open_codec
from tests.streams.codecs.helpers import NOW, decoded, reason, samples
from twin_engine.clock import gps_to_ns
from twin_engine.records import Reading, Reason, Reject

ARROW = open_codec("arrow", "{asset}")


def stream(columns: dict[str, pa.Array], metadata: dict[str, str] | None = None, batches: int = 1, **options: str) -> bytes:
    batch = pa.RecordBatch.from_arrays(list(columns.values()), names=list(columns))
    batch = batch.replace_schema_metadata(metadata)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema, options=pa.ipc.IpcWriteOptions(**options)) as writer:
        for _ in range(batches):
            writer.write_batch(batch)
    return sink.getvalue().to_pybytes()


def test_types_of_columns() -> None:
    columns = {
        "i": pa.array([1, None, 3], pa.int32()), "f": pa.array([0.5, 1.5, None], pa.float32()), "h": pa.array([1, 2, 3], pa.uint8()),
        "b": pa.array([True, None, False]), "time": pa.array([1, 2, 3], pa.timestamp("s", "UTC")), "half": pa.array(np.float16([1, 2, 3])),
    }  # fmt: skip
    (found,) = decoded(ARROW, stream(columns, {"asset": "from metadata"}), "a")
    assert isinstance(found, Reading)
    assert found.asset == "a"  # the subject goes before
    assert found.channels == ("i", "f", "h", "b", "half")
    assert found.times.tolist() == [10**9, 2 * 10**9, 3 * 10**9]
    nan = np.nan
    assert np.array_equal(found.values, [[1, nan, 3], [0.5, 1.5, nan], [1, 2, 3], [1, nan, 0], [1, 2, 3]], equal_nan=True)
    (named,) = decoded(open_codec("arrow", "any"), stream(columns, {"asset": "from metadata"}), "any")
    assert isinstance(named, Reading)
    assert named.asset == "from metadata"


@pytest.mark.parametrize("kind", [pa.int64(), pa.float64(), pa.int32()])
def test_times_in_a_unit(kind: pa.DataType) -> None:
    codec = open_codec("arrow", "{asset}", {"unit": "s", "time": "t"})
    raw = stream({"t": pa.array([1_700_000_000, 1_700_000_001], kind), "x": pa.array([1.0, 2.0])})
    assert samples(decoded(codec, raw, "a")) == [("a", "x", NOW, 1.0, ""), ("a", "x", NOW + 10**9, 2.0, "")]


def test_a_stream_of_two_batches_is_two_readings() -> None:
    assert len(decoded(ARROW, stream({"time": pa.array([1]), "x": pa.array([1.0])}, batches=2), "a")) == 2


@pytest.mark.parametrize(
    "raw",
    [
        b"ARROW1\0\0",
        b"\xff\xff\xff\xff\xff\xff\xff\x7f",
        stream({"x": pa.array([1.0])}),
        stream({"time": pa.array([1, None]), "x": pa.array([1.0, 2.0])}),
        stream({"time": pa.array(["1"]), "x": pa.array([1.0])}),
        stream({"time": pa.array([-1]), "x": pa.array([1.0])}),
        stream({"time": pa.array([2**63 - 1]), "x": pa.array([1.0])}),
        stream({"time": pa.array([2**62], pa.timestamp("s")), "x": pa.array([1.0])}),
        stream({"time": pa.array([1]), "x": pa.array(["a"]).dictionary_encode()}),
        stream({"time": pa.array([1]), "x": pa.array([1.0])}, compression="zstd"),
        stream({"time": pa.array([1]), "x": pa.array([1.0])})[:-60],
        stream({"time": pa.array([1]), "x": pa.array([1.0])}, batches=0),
    ],
)
def test_what_is_wrong(raw: bytes) -> None:
    assert reason(ARROW, raw, "a") == Reason.MALFORMED


def test_a_column_of_text_leaves_the_others() -> None:
    good, bad = decoded(ARROW, stream({"time": pa.array([1]), "x": pa.array([1.0]), "s": pa.array(["a"])}), "a")
    assert isinstance(good, Reading)
    assert isinstance(bad, Reject)
    assert good.channels == ("x",)
    assert bad.detail == "s: not a column of numbers"


GPS = 1_126_259_462 * 10**9
ROWS = {
    "time": pa.array([GPS] * 4), "id": pa.array([3, 0, 9, 4], pa.uint32()),
    "data": pa.array([[1, None], [1, 2, 3, 4], [5], [7, 8]], pa.list_(pa.int32())),
}  # fmt: skip


def test_arrakis() -> None:
    codec = open_codec("arrakis", "arrakis", {"channels": "0=H1:GDS-CALIB_STRAIN@64,3=H1:PEM-MIC@32,4=L1:PEM-MIC@32"})
    strain, mic, other = sorted(decoded(codec, stream(ROWS), "arrakis"), key=str)
    assert isinstance(strain, Reading)
    assert isinstance(mic, Reading)
    assert isinstance(other, Reading)
    start = gps_to_ns(GPS)
    assert (strain.asset, strain.channels, strain.values.tolist()) == ("H1", ("GDS-CALIB_STRAIN",), [[1, 2, 3, 4]])
    assert strain.times.tolist() == [start, start + 15_625_000, start + 31_250_000, start + 46_875_000]
    assert mic.channels == ("PEM-MIC",)
    assert np.array_equal(mic.values, [[1, np.nan]], equal_nan=True)
    assert (other.asset, other.times.tolist()) == ("L1", [start, start + 31_250_000])


@pytest.mark.parametrize(
    "columns",
    [
        {"time": ROWS["time"], "x": pa.array([1.0] * 4)},
        {**ROWS, "time": pa.array([1.0] * 4)},
        {**ROWS, "data": pa.array([1] * 4)},
        {**ROWS, "data": pa.array([["a"]] * 4)},
        {**ROWS, "id": pa.array([None] * 4, pa.uint32())},
        {**ROWS, "time": pa.array([-5] * 4)},
        {**ROWS, "time": pa.array([2**63 - 1] * 4)},
    ],
)
def test_what_is_wrong_in_arrakis(columns: dict[str, pa.Array]) -> None:
    codec = open_codec("arrakis", "arrakis", {"channels": "0=H1:h@64"})
    assert reason(codec, stream(columns), "arrakis") == Reason.MALFORMED


@pytest.mark.parametrize("last", [10, -1, 2**31 - 1, 3])
def test_offsets_of_lists_that_lie(last: int) -> None:
    raw = stream(ROWS)
    offsets = np.array([0, 2, 6, 7, 9], "<i4").tobytes()
    assert raw.count(offsets) == 1
    lie = raw.replace(offsets, np.array([0, 2, 6, 7, last], "<i4").tobytes())
    assert reason(open_codec("arrakis", "arrakis", {"channels": "4=H1:h@64"}), lie, "arrakis") == Reason.MALFORMED
