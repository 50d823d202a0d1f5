"""What touches the outside: sources and sinks by address."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from streams.context import Context
from streams.registry import SINKS, SOURCES, sink_at, source_at
from twin_engine.clock import Clock, WallClock
from twin_engine.records import Sink, Source

__all__ = ["SINKS", "SOURCES", "open_sink", "open_source"]


def open_source(
    uri: str,
    *,
    asset: str | None = None,
    streams: Mapping[str, tuple[str, ...]] | None = None,
    clock: Clock | None = None,
    simulator: Callable[..., Any] | None = None,
) -> Source:
    """Return the source at an address (``csv:FILE?time=t&value=x``, ``sim:?seed=1``, a bare path).

    asset: the name its readings get. streams: the twin's streams, name -> channels, by which columns are chosen. simulator: the twin's,
    for ``sim:``. Raises InputError.
    """
    return source_at(uri, Context(asset, dict(streams or {}), clock or WallClock(), simulator))


def open_sink(uri: str, *, show: tuple[str, ...] = ()) -> Sink:
    """Return the sink at an address (``jsonl:FILE``, ``sqlite:FILE``, ``terminal:``). ``Sink.open`` comes before writing.

    show: the outputs that it keeps or draws besides events. Raises SinkError.
    """
    return sink_at(uri, show)
