"""Twins on streams: what ``twin-engine run`` does. The one module, besides the command line, that sees both."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import streams
from streams.dead_letter import DeadLetter
from streams.pace import Paced, parse_speed
from twin_engine.clock import WallClock
from twin_engine.errors import InputError
from twin_engine.loader import load
from twin_engine.records import Idle, Reading, Source
from twin_engine.run import Run, RunReport
from twin_engine.twin import Twin


def run(
    name: str, source_uri: str, sink_uris: Sequence[str], *, assets: Sequence[str] = (), speed: str = "max", state: Path | None = None,
    duration: float | None = None,
) -> RunReport:  # fmt: skip
    """Run a twin by name on a source and sinks by address, and return what it came to.

    assets: names; one is given to a source that has none of its own, several are those that are taken. speed: of a recording, ``max``,
    ``realtime`` or ``10x``. state: folder of snapshots and rejects, from which a run goes on. duration: seconds on the wall clock.
    Raises TwinError.
    """
    pace, twin, clock = parse_speed(speed), load(name), WallClock()
    sinks = [streams.open_sink(uri, show=tuple(twin.show)) for uri in sink_uris]
    source = open_source(twin, source_uri, assets[0] if len(assets) == 1 else None)
    found = list(assets) or assets_of(source, source_uri)
    dead = DeadLetter(state) if state else None
    return Run(twin, Paced(source, pace, clock), sinks, assets=found, state_dir=state, dead_letter=dead, clock=clock, duration=duration)()


def open_source(twin: Twin, uri: str, asset: str | None = None) -> Source:
    """Return the source at an address as a twin needs it; raises InputError."""
    channels = {s.name: tuple(c.name for c in s.channels) for s in twin.streams}
    return streams.open_source(uri, asset=asset, streams=channels, simulator=twin.simulator)


def assets_of(source: Source, uri: str) -> list[str]:
    """Return the assets of a source: of one whose rows name them (``asset=COLUMN``, JSON lines) all, else that of its first reading.

    What arrives later under another name is counted as unknown. Raises InputError where the source cannot be asked.
    """
    if uri == "lines:-":
        raise InputError(uri, expected="the names of the assets", found="none", mend="Name them with --asset.")
    named = "asset=" in uri or uri.startswith("lines:") or uri.endswith((".jsonl", ".ndjson"))
    found: dict[str, None] = {}
    for item in source.items(None):
        if isinstance(item, Reading):
            found[item.asset] = None
        if (isinstance(item, Idle) and not source.live) or (found and not named):
            break
    if not found:
        raise InputError(uri, expected="at least one reading", found="none yet", mend="Name the assets with --asset.")
    return list(found)
