"""A digital-twin engine with streaming anomaly detection. Names are imported when first used."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from twin_engine.clock import hertz, seconds
    from twin_engine.engine import Engine, latest, replay
    from twin_engine.loader import load
    from twin_engine.records import Event, Reading, Update
    from twin_engine.run import Run
    from twin_engine.stage import Op, Stage
    from twin_engine.twin import Channel, Stream, Twin

_HOMES = {
    "Channel": "twin", "Stream": "twin", "Twin": "twin", "Stage": "stage", "Op": "stage", "Event": "records", "Reading": "records",
    "Update": "records", "Engine": "engine", "replay": "engine", "latest": "engine", "load": "loader", "Run": "run",
    "hertz": "clock", "seconds": "clock",
}  # fmt: skip

__version__ = "0.1.0"
__all__ = [
    "Channel", "Engine", "Event", "Op", "Reading", "Run", "Stage", "Stream", "Twin", "Update", "hertz", "latest", "load", "replay",
    "seconds",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    """Import a public name from its module (PEP 562)."""
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'twin_engine' has no attribute {name!r}")
    return getattr(importlib.import_module(f"twin_engine.{home}"), name)
