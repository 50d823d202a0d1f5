"""What touches the outside: sources and sinks by address, the speed of a recording, the dead letter."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from streams.context import Context, Recording
from streams.dead_letter import DeadLetter
from streams.pacing import Paced, parse_speed
from streams.registry import SINKS, SOURCES, sink_at, source_at
from streams.spool import Spool
from twin_engine.clock import Clock, WallClock
from twin_engine.records import Sink, Source

__all__ = ["SINKS", "SOURCES", "DeadLetter", "Recording", "Spool", "open_sink", "open_source", "pace"]


def open_source(
    uri: str,
    *,
    asset: str | None = None,
    twin: Any = None,
    streams: Mapping[str, tuple[str, ...]] | None = None,
    simulator: Callable[..., Any] | None = None,
    clock: Clock | None = None,
    folder: Path | None = None,
) -> Recording:
    """Return the source at an address (``csv:FILE?time=t&value=x``, ``sim:?seed=1``, a bare path).

    asset: the name its readings get. twin: the twin to be fed: columns are chosen by its streams' channels, and ``sim:`` is its simulator.
    Without a twin the same can be said with streams (name -> channels) and simulator. folder: where a source may keep what must outlive
    the run. Raises InputError.
    """
    if twin is not None:
        streams = {stream.name: tuple(channel.name for channel in stream.channels) for stream in twin.streams}
        simulator = twin.simulator
    name = twin.name if twin is not None else ""
    return source_at(uri, Context(asset, dict(streams or {}), clock or WallClock(), simulator, name, folder))


def open_sink(uri: str, *, show: tuple[str, ...] = (), folder: Path | None = None) -> Sink:
    """Return the sink at an address (``jsonl:FILE``, ``sqlite:FILE``, ``terminal:``). ``Sink.open`` comes before writing.

    show: the outputs that it keeps or draws besides events. folder: where folders may be made for it. Raises SinkError.
    """
    return sink_at(uri, show, folder)


def pace(source: Source, speed: str, clock: Clock | None = None) -> Paced:
    """Return the source at a speed: ``realtime``, ``max``, or a multiple such as ``10x``. Raises InputError."""
    return Paced(source, parse_speed(speed), clock or WallClock())
