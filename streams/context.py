"""What a source is told about the twin it feeds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from twin_engine.clock import Clock, WallClock
from twin_engine.records import Source


class Recording(Source, Protocol):
    """A source that knows its assets."""

    @property
    def assets(self) -> list[str]:
        """Names of the assets; raises InputError where they cannot be known."""
        ...


@dataclass(frozen=True, slots=True)
class Context:
    """What a source may need besides its address.

    twin: the name of the twin to be fed (empty: none in particular).
    asset: the name the readings get (None: the source's own, or the file's). streams: stream name -> its channels, as the twin has them,
    the twin's first stream first (empty: anything goes). simulator: the twin's, a callable ``(asset, **parameters)``.
    folder: where a source may keep what must outlive the run (None: nowhere).
    """

    asset: str | None = None
    streams: Mapping[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])
    clock: Clock = field(default_factory=WallClock)
    simulator: Callable[..., Any] | None = None
    twin: str = ""
    folder: Path | None = None

    @property
    def channels(self) -> tuple[str, ...]:
        """All channels of the twin, in order."""
        return tuple(name for names in self.streams.values() for name in names)
