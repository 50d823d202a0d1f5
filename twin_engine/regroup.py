"""A fleet changed: its assets dealt out anew over another number of partitions, or one added, removed or begun anew by a command."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twin_engine.align import CELLS
from twin_engine.engine import Engine
from twin_engine.errors import InputError, SnapshotError
from twin_engine.records import Command
from twin_engine.snapshot import Snapshot
from twin_engine.telemetry import Telemetry


def regroup(snapshots: Sequence[Snapshot], groups: Sequence[Sequence[str]]) -> list[Snapshot]:
    """Return a snapshot for each group of assets, each asset's state as one of the snapshots has it; an asset that none has is left out.

    The counters of all go into the first. ``source`` in the documents is left to the caller. Raises SnapshotError where the snapshots are
    not of one definition, or one of them remembers what its codec was told.
    """
    first = snapshots[0].document
    for snapshot in snapshots:
        document = snapshot.document
        if any(document[key] != first[key] for key in ("twin", "hop", "stages")):
            raise SnapshotError(
                "snapshots", expected="all of one definition", found=f"{first['definition']} and {document['definition']}",
                mend="Let workers of the newest definition run first.",
            )  # fmt: skip
        if document["source"]["memory"] is not None:
            raise SnapshotError(
                "snapshots", expected="a codec that remembers nothing", found="Sparkplug's aliases", mend="Begin anew under another app."
            )
    where = {name: (i, row) for i, snapshot in enumerate(snapshots) for row, name in enumerate(snapshot.document["assets"])}
    telemetry = Telemetry()
    for snapshot in snapshots:
        _add(telemetry, Telemetry(snapshot.document["telemetry"]))
    found: list[Snapshot] = []
    for number, group in enumerate(groups):
        names = [name for name in group if name in where]
        places = [where[name] for name in names]
        align = {name: snapshots[i].document["align"][name] for name, (i, _) in zip(names, places, strict=True)}
        told = (telemetry if number == 0 else Telemetry()).document()
        document = {**first, "assets": names, "align": align, "telemetry": told, "sinks": []}
        found.append(Snapshot({key: _rows(snapshots, key, places) for key in snapshots[0].arrays}, document))
    return found


def commanded(engine: Engine, command: Command) -> Engine:
    """Return the engine after a command; raises InputError for an asset that it does not have."""
    name, twin = command.asset, engine.graph.twin
    if name == "*" and command.kind != "restart":
        raise InputError(f"command {command.kind}", expected="the name of an asset", found="*", mend="Name one.")
    if command.kind == "add":
        return engine if name in engine.assets else Engine(twin, [*engine.assets, name], engine.snapshot())
    if name != "*" and name not in engine.assets:
        raise InputError(f"asset {name!r}", expected="one of the fleet", found="none of that name", mend="Add it first.")
    if command.kind == "restart":
        rows = [row for row, asset in enumerate(engine.assets) if name in {"*", asset}]
        engine.fleet.restart(np.array(rows, np.int64))
        return engine
    [snapshot] = regroup([engine.snapshot({"memory": None})], [[asset for asset in engine.assets if asset != name]])
    return Engine(twin, [], snapshot)


def _add(total: Telemetry, one: Telemetry) -> None:
    total.samples += one.samples
    total.hops += one.hops
    total.events += one.events
    total.rejects.update(one.rejects)
    total.dropped.update(one.dropped)
    for name, n in one.unknown.items():
        total.strange(name, n)


def _rows(snapshots: Sequence[Snapshot], key: str, places: Sequence[tuple[int, int]]) -> NDArray[Any]:
    """Return an array of some assets' rows; of buffered cells, ``(channel, cell)``, each asset's cells one after the other."""
    arrays = [snapshot.arrays[key] for snapshot in snapshots]
    kind, _, rest = key.partition("/")
    stream, _, field = rest.rpartition("/")
    if kind == "align" and field in CELLS:
        return np.concatenate([arrays[0][:, :0], *(_cells(snapshots[i].arrays, stream, arrays[i], row) for i, row in places)], axis=1)
    return np.stack([arrays[i][row] for i, row in places]) if places else arrays[0][:0].copy()


def _cells(arrays: Mapping[str, NDArray[Any]], stream: str, cells: NDArray[Any], row: int) -> NDArray[Any]:
    ends = np.cumsum(arrays[f"align/{stream}/cells"])
    return cells[:, ends[row] - arrays[f"align/{stream}/cells"][row] : ends[row]]
