"""Recordings as sources: GWOSC HDF5 and npz, written here and, where the data are at hand, real."""

from __future__ import annotations

import os
from pathlib import Path

import h5py
import numpy as np
import pytest

from streams import open_source
from twin_engine.clock import NS, gps_to_ns, iso
from twin_engine.errors import InputError
from twin_engine.records import Item, Reading

DATA = Path(os.environ.get("TWIN_ENGINE_DATA", Path(__file__).parents[2] / "../shared/data"))


def _join(items: list[Item]) -> tuple[np.ndarray, np.ndarray]:
    readings = [item for item in items if isinstance(item, Reading)]
    return np.concatenate([r.times for r in readings]), np.concatenate([r.values for r in readings], axis=1)


def _gwosc(path: Path, rate: int = 16, seconds: int = 4) -> str:
    with h5py.File(path, "w") as file:
        file["strain/Strain"] = np.arange(rate * seconds, dtype=float)
        file["meta/GPSstart"], file["meta/Duration"], file["meta/Detector"] = 1126259446, seconds, "H1"
        file["quality/simple/DQmask"] = np.array([3, 1, 0, 3], np.uint32)
        file["quality/simple/DQShortnames"] = np.array([b"DATA", b"CBC_CAT1"])
    return f"gwosc:{path}"


def test_gwosc_times_names_and_quality(tmp_path: Path) -> None:
    uri = _gwosc(tmp_path / "h.hdf5")
    source = open_source(uri, streams={"strain": ("h",), "witness": ("w0", "w1")})
    items = list(source.items(None))
    source.close()
    assert [(i.asset, i.channels) for i in items if isinstance(i, Reading)] == [("H1", ("h",))] * 4
    times, values = _join(items)
    assert times[0] == gps_to_ns(1126259446 * NS)
    np.testing.assert_array_equal(np.diff(times), NS // 16)
    np.testing.assert_array_equal(np.isnan(values[0]), np.repeat([False, False, True, False], 16))
    strict = open_source(uri + "?quality=DATA,CBC_CAT1")
    np.testing.assert_array_equal(np.isnan(_join(list(strict.items(None)))[1][0]), np.repeat([False, True, True, False], 16))


def test_gwosc_resumes_at_every_position(tmp_path: Path) -> None:
    source = open_source(_gwosc(tmp_path / "h.hdf5") + "?block=0.7")
    items = list(source.items(None))
    for k, item in enumerate(items[:-1]):
        np.testing.assert_array_equal(_join(list(source.items(item.position)))[0], _join(items[k + 1 :])[0])
    assert list(source.items(items[-1].position)) == []


def test_gwosc_errors(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "other.hdf5", "w") as file:
        file["data"] = 1
    with pytest.raises(InputError, match="GWOSC file with strain/Strain"):
        open_source(str(tmp_path / "other.hdf5"))
    (tmp_path / "text.hdf5").write_text("no")
    with pytest.raises(InputError, match="an HDF5 file"):
        open_source(str(tmp_path / "text.hdf5"))
    with pytest.raises(InputError, match="Did you mean 'DATA'"):
        open_source(_gwosc(tmp_path / "h.hdf5") + "?quality=DATE")


def test_npz_at_a_rate_or_with_times(tmp_path: Path) -> None:
    path = tmp_path / "machine.npz"
    values = np.arange(20.0).reshape(10, 2)
    np.savez(path, load=values, time=np.arange(10) + 100, stack=np.arange(12.0).reshape(3, 4))
    times, read = _join(list(open_source(f"{path}?value=load").items(None)))
    np.testing.assert_array_equal(times, (np.arange(10) + 100) * NS)
    np.testing.assert_array_equal(read, values.T)
    source = open_source(f"npz:{path}?value=stack&row=1&rate=3&start=2020-01-01T00:00:00Z&channel=x", asset="m")
    (reading,) = source.items(None)
    assert isinstance(reading, Reading)
    assert (reading.asset, reading.channels, reading.values.tolist()) == ("m", ("x",), [[4.0, 5.0, 6.0, 7.0]])
    assert [iso(int(t))[17:29] for t in reading.times] == ["00.000000000", "00.333333333", "00.666666667", "01.000000000"]


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("?value=lode&rate=1", "Did you mean 'load'"),
        ("?value=load", "rate="),
        ("?value=load,other&rate=1", "one length"),
        ("?value=stack&rate=1", "row="),
        ("?value=load&rate=1&channel=a", "2 names"),
    ],
)
def test_npz_errors_name_the_mend(tmp_path: Path, query: str, says: str) -> None:
    path = tmp_path / "machine.npz"
    np.savez(path, load=np.zeros((10, 2)), other=np.zeros(3), stack=np.zeros((2, 2, 2)))
    with pytest.raises(InputError) as caught:
        open_source(f"npz:{path}{query}")
    assert says in str(caught.value)


@pytest.mark.skipif(not DATA.is_dir(), reason="the real data are not here")
def test_real_strain() -> None:
    source = open_source(str(DATA / "ligo_losc/H-H1_LOSC_4_V2-1126259446-32.hdf5"), streams={"strain": ("h",)})
    times, values = _join(list(source.items(None)))
    source.close()
    assert values.shape == (1, 131072)
    assert iso(int(times[0])) == "2015-09-14T09:50:29.000000000Z"
    assert 1e-19 < np.std(values) < 1e-18
