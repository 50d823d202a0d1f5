"""Frame files: written here from the specification, words packed by FrameL, and a real one."""

from __future__ import annotations

import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest

from streams import open_source
from streams.frames import read_data, read_vectors
from twin_engine.clock import NS, gps_to_ns, iso
from twin_engine.errors import InputError
from twin_engine.records import Item, Reading

DATA = Path(os.environ.get("TWIN_ENGINE_DATA", Path(__file__).parents[2] / "../shared/data"))
GPS = 1266281937
CODES = {"i2": 1, "f8": 2, "f4": 3, "i4": 4, "i8": 5, "u2": 9, "u4": 10, "u8": 11}


def _text(order: str, text: str) -> bytes:
    raw = text.encode() + b"\0"
    return struct.pack(order + "H", len(raw)) + raw


def _structure(order: str, kind: int, body: bytes) -> bytes:
    return struct.pack(order + "QBBI", 14 + len(body) + 4, 1, kind, 0) + body + b"\0\0\0\0"


def _vector(order: str, name: str, data: np.ndarray, rate: float, scheme: int, raw: bytes) -> bytes:
    compress = scheme + (256 if order == "<" else 0)
    front = _text(order, name) + struct.pack(order + "HHQQ", compress, CODES[data.dtype.str[1:]], len(data), len(raw))
    rest = (
        struct.pack(order + "IQdd", 1, len(data), 1 / rate, 0.0)
        + _text(order, "s")
        + _text(order, "strain")
        + struct.pack(order + "HI", 0, 0)
    )
    return _structure(order, 20, front + raw + rest)


def _frame(order: str, gps: int, vectors: list[bytes]) -> bytes:
    body = _text(order, "frame") + struct.pack(order + "iIIIIHd", 0, 0, 0, gps, 0, 18, 1.0)
    return b"".join([_structure(order, 3, body), *vectors])


def _file(order: str, frames: list[bytes]) -> bytes:
    head = b"IGWD\0\x08\x01\x02\x04\x08\x04\x08" + struct.pack(order + "HIQ", 0x1234, 0x12345678, 0x123456789ABCDEF)
    head += struct.pack(order + "fd", np.pi, np.pi) + b"\x00\x00"
    names = [
        _structure(order, 1, _text(order, name) + struct.pack(order + "H", kind) + _text(order, ""))
        for name, kind in (("FrameH", 3), ("FrVect", 20))
    ]
    return head + b"".join(names) + b"".join(frames)


def _pack(data: np.ndarray, block: int, order: str) -> bytes:
    """Zero-suppress as the specification says, one bit after the other."""
    word = data.dtype.itemsize
    front = {2: 4, 4: 5, 8: 6}[word]
    bits = [block >> k & 1 for k in range(16)]
    for first in range(0, len(data), block):
        values = [int(v) for v in data[first : first + block]]
        width = max(max(abs(v) for v in values).bit_length() + 1, 1)
        bits += [(width - 1) >> k & 1 for k in range(front)]
        if width > 1:
            bits += [(v + 2 ** (width - 1) - 1) >> k & 1 for v in values for k in range(width)]
    bits += [0] * (-len(bits) % (8 * word))
    raw = np.packbits(bits, bitorder="little").view(f"<u{word}")
    return raw.astype(f"{order}u{word}").tobytes()


def _readings(items: list[Item]) -> list[Reading]:
    return [item for item in items if isinstance(item, Reading)]


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("code", ["f8", "f4", "i2", "u4"])
@pytest.mark.parametrize("scheme", [0, 1])
def test_raw_and_gzip(tmp_path: Path, order: str, code: str, scheme: int) -> None:
    data = np.arange(32).astype(order + code)
    raw = zlib.compress(data.tobytes()) if scheme else data.tobytes()
    path = tmp_path / "a.gwf"
    path.write_bytes(_file(order, [_frame(order, GPS, [_vector(order, "V1:X", data, 16, scheme, raw)])]))
    (vector,) = read_vectors(path)
    assert (vector.name, vector.start, vector.period, vector.unit) == ("V1:X", GPS * NS, 1 / 16, "strain")
    np.testing.assert_array_equal(read_data(path, vector), data)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(("scheme", "code"), [(3, "i4"), (5, "i2"), (8, "i4"), (10, "i8")])
def test_differences_and_zero_suppression(tmp_path: Path, order: str, scheme: int, code: str) -> None:
    data = np.cumsum(np.random.default_rng(1).integers(-300, 300, 101)).astype(code)
    data[30:60] = data[30]
    differences = np.diff(data, prepend=data.dtype.type(0))
    raw = zlib.compress(differences.astype(order + code).tobytes()) if scheme == 3 else _pack(differences, 12, order)
    path = tmp_path / "a.gwf"
    path.write_bytes(_file(order, [_frame(order, GPS, [_vector(order, "V1:X", data, 101, scheme, raw)])]))
    np.testing.assert_array_equal(read_data(path, read_vectors(path)[0]), data)


def test_zero_suppression_as_framel_packs_it() -> None:
    """The words are what FrVectZCompI of FrameL 8.48 makes of these differences in blocks of 4."""
    differences = np.array([1, 0, -1, 1, 3, -3, 2, 0, 0, 0, 0, 0, 100, -100, 5, 6], np.int32)
    words = np.array([0x50C10004, 0xE3381D18, 0x0085841B], "<u4")
    assert _pack(differences, 4, "<")[:12] == words.tobytes()


def test_channels_of_different_rates_come_second_by_second(tmp_path: Path) -> None:
    frames = [
        _frame("<", GPS + 2 * k, [
            _vector("<", "V1:STRAIN", np.arange(8.0) + 8 * k, 4, 0, (np.arange(8.0) + 8 * k).tobytes()),
            _vector("<", "V1:AUX", np.arange(2.0) + 2 * k, 1, 0, (np.arange(2.0) + 2 * k).tobytes()),
        ])
        for k in (0, 1, 3)
    ]  # fmt: skip
    path = tmp_path / "a.gwf"
    path.write_bytes(_file("<", frames))
    source = open_source(f"gwf:{path}?channel=V1:STRAIN=h,V1:AUX=w0")
    items = list(source.items(None))
    readings = _readings(items)
    assert [(r.asset, r.channels[0], r.values.shape[1]) for r in readings] == [("V1", "h", 4), ("V1", "w0", 1)] * 6
    h = np.concatenate([r.times for r in readings if r.channels == ("h",)])
    assert h[0] == gps_to_ns(GPS * NS)
    np.testing.assert_array_equal(np.diff(h), [NS // 4] * 15 + [NS // 4 + 2 * NS] + [NS // 4] * 7)
    for k in range(len(items)):
        again = _readings(list(source.items(items[k].position)))
        assert [r.times.tolist() for r in again] == [r.times.tolist() for r in readings[k + 1 :]]
    source.close()
    (first, *_) = _readings(list(open_source(str(path), streams={"main": ("strain",)}).items(None)))
    assert first.channels == ("strain",)


def test_errors_name_the_mend(tmp_path: Path) -> None:
    path = tmp_path / "a.gwf"
    data = np.arange(8.0)
    two = [_vector("<", name, data, 4, 0, data.tobytes()) for name in ("V1:A", "V1:B")]
    path.write_bytes(_file("<", [_frame("<", GPS, two)]))
    with pytest.raises(InputError, match=r"\?channel="):
        open_source(str(path))
    with pytest.raises(InputError, match="Did you mean 'V1:A'"):
        open_source(f"gwf:{path}?channel=V1:a")
    path.write_bytes(path.read_bytes()[:-60])
    with pytest.raises(InputError, match="whole frame file"):
        open_source(str(path))
    path.write_bytes(b"nothing of the kind, but long enough for a header")
    with pytest.raises(InputError, match="whole frame file"):
        open_source(str(path))


@pytest.mark.skipif(not DATA.is_dir(), reason="the real data are not here")
def test_a_real_frame() -> None:
    """The first samples are those that lalframe reads, and the loud transient is where it should be."""
    (path,) = (DATA / "ligo_o3b").glob("*.gwf")
    readings = _readings(list(open_source(str(path), streams={"strain": ("h",)}).items(None)))
    assert len(readings) == 128
    assert {(r.asset, r.channels) for r in readings} == {("H1", ("h",))}
    values = np.concatenate([r.values[0] for r in readings])
    assert len(values) == 524288
    np.testing.assert_allclose(values[:3], [-3.45428241e-20, -3.17864249e-20, -7.06381359e-21], rtol=1e-8)
    assert iso(int(readings[0].times[0])) == "2020-02-21T00:58:39.000000000Z"
