"""Schemes of sources and sinks, and what opens each; a module is imported when its scheme is first named."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from streams.context import Context, Recording
from streams.uri import Uri, parse
from twin_engine.errors import InputError, SinkError
from twin_engine.records import Sink

SOURCES = {
    "csv": "source_csv:open_csv",
    "dir": "directory:open_directory",
    "gwf": "source_gwf:open_gwf",
    "gwosc": "source_gwosc:open_gwosc",
    "history": "source_history:open_history",
    "host": "host:open_host",
    "kafka": "kafka.source:open_kafka",
    "kafkas": "kafka.source:open_kafka",
    "lines": "source_lines:open_lines",
    "mqtt": "source_mqtt:open_mqtt",
    "mqtts": "source_mqtt:open_mqtt",
    "npz": "source_npz:open_npz",
    "parquet": "source_parquet:open_parquet",
    "sim": "source_sim:open_sim",
}
FILE_SUFFIXES = {
    ".csv": "csv",
    ".gwf": "gwf",
    ".h5": "gwosc",
    ".hdf5": "gwosc",
    ".jsonl": "lines",
    ".ndjson": "lines",
    ".npz": "npz",
    ".parquet": "parquet",
}
SINKS = {
    "influx": "sink_influx:open_influx",
    "jsonl": "sink_jsonl:open_jsonl",
    "kafka": "kafka.sink:open_kafka_sink",
    "kafkas": "kafka.sink:open_kafka_sink",
    "mqtt": "sink_mqtt:open_mqtt_sink",
    "mqtts": "sink_mqtt:open_mqtt_sink",
    "parquet": "sink_parquet:open_parquet",
    "sqlite": "sink_sqlite:open_sqlite",
    "terminal": "sink_terminal:open_terminal",
    "webhook": "sink_webhook:open_webhook",
}
FILES = ("jsonl", "sqlite")  # sinks of one file each
SINK_SUFFIXES = {".jsonl": "jsonl", ".db": "sqlite", ".sqlite": "sqlite", "/": "parquet"}


def _opener(home: str) -> Callable[..., Any]:
    """Return the function that a table names."""
    module, _, name = home.partition(":")
    return cast("Callable[..., Any]", getattr(importlib.import_module(f"streams.{module}"), name))


def source_at(uri: str, context: Context) -> Recording:
    """Return the source at an address; raises InputError."""
    parsed = parse(uri, SOURCES, {**FILE_SUFFIXES, "/": "dir"}, InputError)
    return cast("Recording", _opener(SOURCES[parsed.scheme])(parsed, context))


def source_of_file(file: Uri, context: Context) -> Recording:
    """Return the source of a file whose suffix says its kind, with the options of the address; raises InputError."""
    scheme = next(FILE_SUFFIXES[s] for s in FILE_SUFFIXES if file.path.lower().removesuffix(".gz").endswith(s))
    return cast("Recording", _opener(SOURCES[scheme])(replace(file, scheme=scheme), context))


def sink_at(uri: str, show: tuple[str, ...], folder: Path | None = None) -> Sink:
    """Return the sink at an address. Folders that are missing are made below ``folder`` alone. Raises SinkError."""
    parsed = parse(uri, SINKS, SINK_SUFFIXES, SinkError)
    if parsed.scheme in FILES:
        _check_folder(parsed, folder)
    return cast("Sink", _opener(SINKS[parsed.scheme])(parsed, show))


def _check_folder(uri: Uri, folder: Path | None) -> None:
    """Raise SinkError where the folder of a file is missing, which may be a slip of the pen; below ``folder``, make it."""
    parent = uri.file.absolute().parent
    if folder is not None and parent.is_relative_to(folder.absolute()):
        parent.mkdir(parents=True, exist_ok=True)
    elif not parent.is_dir():
        raise SinkError(uri.text, expected="a folder that is there", found=f"no {parent}", mend=f"Check the path, or: mkdir -p '{parent}'.")
