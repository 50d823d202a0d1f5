"""What touches the outside: sources and sinks by address, each imported when it is first named."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any, cast

from streams.context import Context
from streams.uri import parse
from twin_engine.clock import Clock, WallClock
from twin_engine.errors import InputError, SinkError
from twin_engine.records import Sink, Source

SOURCES = {
    "csv": "source_csv:open_csv",
    "gwosc": "source_gwosc:open_gwosc",
    "npz": "source_npz:open_npz",
}
SINKS = {
    "jsonl": "sink_jsonl:open_jsonl",
}
_SOURCE_SUFFIXES = {".csv": "csv", ".hdf5": "gwosc", ".h5": "gwosc", ".npz": "npz"}
_SINK_SUFFIXES = {".jsonl": "jsonl"}


def _opener(home: str) -> Callable[..., Any]:
    """Return the function that a table names."""
    module, _, name = home.partition(":")
    return cast("Callable[..., Any]", getattr(importlib.import_module(f"streams.{module}"), name))


def open_source(
    uri: str,
    *,
    asset: str | None = None,
    streams: Mapping[str, tuple[str, ...]] | None = None,
    clock: Clock | None = None,
    simulator: Callable[..., Any] | None = None,
) -> Source:
    """Return the source at an address, for a twin with these streams (name -> channels). Raises InputError."""
    parsed = parse(uri, SOURCES, _SOURCE_SUFFIXES, InputError)
    context = Context(asset, dict(streams or {}), clock or WallClock(), simulator)
    return cast("Source", _opener(SOURCES[parsed.scheme])(parsed, context))


def open_sink(uri: str, *, show: tuple[str, ...] = ()) -> Sink:
    """Return the sink at an address. show: the outputs it may keep besides events. Raises SinkError; ``Sink.open`` comes before writing."""
    parsed = parse(uri, SINKS, _SINK_SUFFIXES, SinkError)
    return cast("Sink", _opener(SINKS[parsed.scheme])(parsed, show))
