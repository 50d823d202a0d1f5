"""Snapshots: every stage's state, alignment, positions of sources and sinks; whole or not at all.

A file is one safetensors container: arrays under ``stage/field``, and a JSON document under the metadata key ``twin_engine``. It is
written beside its place, fsynced and renamed, and the folder is fsynced, so a crash leaves the old one or the new one. Never pickle.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from twin_engine.errors import SnapshotError
from twin_engine.whole import write_whole

VERSION = 2  # raised when the layout changes; another version is refused, never guessed at
Arrays = Mapping[str, NDArray[Any]]


def pack_arrays(arrays: Arrays, meta: Mapping[str, str] | None = None) -> bytes:
    """Return arrays as safetensors bytes."""
    return save({k: np.ascontiguousarray(v) for k, v in arrays.items()}, dict(meta or {}))


def unpack_arrays(data: bytes) -> dict[str, NDArray[Any]]:
    """Return the arrays of safetensors bytes, each writable and its own."""
    return {k: np.array(v) for k, v in load(data).items()}


@dataclass(frozen=True)
class Snapshot:
    """What a run is built from. arrays: state by ``stage/field``. document: what JSON can hold (assets, digests, positions, alignment)."""

    arrays: Arrays
    document: Mapping[str, Any]


def pack(snapshot: Snapshot) -> bytes:
    """Return a snapshot as bytes."""
    document = msgspec.json.encode({"version": VERSION, **snapshot.document}).decode()
    return pack_arrays(snapshot.arrays, {"twin_engine": document})


def write_snapshot(path: Path, snapshot: Snapshot) -> int:
    """Write atomically and durably; return the size in bytes."""
    data = pack(snapshot)
    write_whole(path, data)
    return len(data)


def read_snapshot(path: Path) -> Snapshot | None:
    """Return the snapshot of a file, or None where there is none; raises SnapshotError where it cannot be used."""
    if not path.exists():
        return None
    try:
        data = path.read_bytes()
    except OSError as error:
        raise SnapshotError(f"snapshot {path}", expected="a file that can be read", found=str(error), mend="Mend its rights.") from error
    return unpack(data, f"snapshot {path}")


def unpack(data: bytes, place: str) -> Snapshot:
    """Return the snapshot of bytes; ``place`` says where they are from. Raises SnapshotError where they cannot be used."""
    try:
        arrays = unpack_arrays(data)
        size = int.from_bytes(data[:8], "little")  # safetensors: the header's length, the header as JSON, the arrays
        header: dict[str, Any] = msgspec.json.decode(data[8 : 8 + size])
        document: dict[str, Any] = msgspec.json.decode(header["__metadata__"]["twin_engine"])
        version = document.pop("version")
    except (SafetensorError, KeyError, ValueError) as error:
        raise SnapshotError(
            place, expected="a whole snapshot of this engine", found=f"{type(error).__name__}: {error}",
            mend="Move it away to begin anew, or give another --state.",
        ) from error  # fmt: skip
    if version != VERSION:
        raise SnapshotError(
            place, expected=f"version {VERSION}", found=str(version),
            mend="Run it with the release that wrote it, or begin anew with another --state.",
        )  # fmt: skip
    return Snapshot(arrays, document)
