"""Twins on streams by address: what ``twin-engine run`` does."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import streams
from twin_engine.loader import load
from twin_engine.run import Run, RunReport


def run(
    name: str, source_uri: str, sink_uris: Sequence[str], *, assets: Sequence[str] = (), speed: str = "max", state: Path | None = None,
    duration: float | None = None,
) -> RunReport:  # fmt: skip
    """Run a twin by name on a source and sinks by address, and return what it came to.

    assets: names; one is given to a source that has none of its own, several are those that are taken. speed: of a recording, ``max``,
    ``realtime`` or ``10x``. state: folder of snapshots and rejects, from which a run goes on. duration: seconds on the wall clock.
    Raises TwinError.
    """
    twin = load(name)
    sinks = [streams.open_sink(uri, show=tuple(twin.show)) for uri in sink_uris]
    source = streams.open_source(source_uri, twin=twin, asset=assets[0] if len(assets) == 1 else None, folder=state)
    paced = streams.pace(source, speed)
    dead = streams.DeadLetter(state / "dead_letter.jsonl") if state else None
    return Run(twin, paced, sinks, assets=list(assets) or source.assets, state_dir=state, dead_letter=dead, duration=duration)()
