"""Stages of signal processing. Each is imported when it is first asked for."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from twin_engine.signal.coherence import Coherence
    from twin_engine.signal.decimate import Decimate
    from twin_engine.signal.filters import BandPass, HighPass, Notch
    from twin_engine.signal.psd import RunningPSD
    from twin_engine.signal.qtriggers import QTriggers
    from twin_engine.signal.refractory import Refractory
    from twin_engine.signal.resample import Resample
    from twin_engine.signal.subtract import Subtract
    from twin_engine.signal.whiten import Whiten

__all__ = [
    "BandPass",
    "Coherence",
    "Decimate",
    "HighPass",
    "Notch",
    "QTriggers",
    "Refractory",
    "Resample",
    "RunningPSD",
    "Subtract",
    "Whiten",
]

_MODULES = {
    "BandPass": "filters",
    "Coherence": "coherence",
    "Decimate": "decimate",
    "HighPass": "filters",
    "Notch": "filters",
    "QTriggers": "qtriggers",
    "Refractory": "refractory",
    "Resample": "resample",
    "RunningPSD": "psd",
    "Subtract": "subtract",
    "Whiten": "whiten",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
