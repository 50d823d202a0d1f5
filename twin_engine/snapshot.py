"""Snapshots: every stage's state, alignment, positions of sources and sinks; whole or not at all.

A file is one safetensors container: arrays under ``stage/field``, and a JSON document under the metadata key ``twin_engine``. It is
written beside its place, fsynced and renamed, and the folder is fsynced, so a crash leaves the old one or the new one. Never pickle.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load, save

from twin_engine.errors import SnapshotError

VERSION = 1  # raised when the layout changes; another version is refused, never guessed at
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


def write_snapshot(path: Path, snapshot: Snapshot) -> int:
    """Write atomically and durably; return the size in bytes."""
    document = msgspec.json.encode({"version": VERSION, **snapshot.document}).decode()
    data = pack_arrays(snapshot.arrays, {"twin_engine": document})
    beside = path.with_suffix(".tmp")
    with beside.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
    return len(data)


def read_snapshot(path: Path) -> Snapshot | None:
    """Return the snapshot of a file, or None where there is none; raises SnapshotError where it cannot be used."""
    if not path.exists():
        return None
    try:
        opened: Any = safe_open  # its types say nothing
        with opened(path, framework="numpy") as file:
            meta: dict[str, str] = dict(file.metadata() or {})
            arrays: dict[str, NDArray[Any]] = {k: np.array(file.get_tensor(k)) for k in file.keys()}  # noqa: SIM118 - not a dict
        document: dict[str, Any] = msgspec.json.decode(meta["twin_engine"])
        version = document.pop("version")
    except (SafetensorError, KeyError, ValueError, OSError) as error:
        raise SnapshotError(
            f"snapshot {path}", expected="a whole snapshot of this engine", found=f"{type(error).__name__}: {error}",
            mend="Move the file away to begin anew, or give another --state.",
        ) from error  # fmt: skip
    if version != VERSION:
        raise SnapshotError(
            f"snapshot {path}", expected=f"version {VERSION}", found=str(version),
            mend="Run it with the release that wrote it, or begin anew with another --state.",
        )  # fmt: skip
    return Snapshot(arrays, document)
