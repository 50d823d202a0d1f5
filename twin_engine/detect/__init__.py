"""Stages that judge: scores of telemetry, alarms at a stated rate, vetoes. Each is imported when it is first asked for."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from twin_engine.detect.alarm import Alarm
    from twin_engine.detect.auto import Auto
    from twin_engine.detect.cusum import Cusum
    from twin_engine.detect.level import Level
    from twin_engine.detect.page_hinkley import PageHinkley
    from twin_engine.detect.veto import Veto

__all__ = ["Alarm", "Auto", "Cusum", "Level", "PageHinkley", "Veto"]

_MODULES = {
    "Alarm": "alarm",
    "Auto": "auto",
    "Cusum": "cusum",
    "Level": "level",
    "PageHinkley": "page_hinkley",
    "Veto": "veto",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
