"""The definition of a kind of asset, as data."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from twin_engine.clock import hertz, seconds
from twin_engine.ports import BlockSpec
from twin_engine.stage import Stage


@dataclass(frozen=True, slots=True)
class Channel:
    """A measured quantity. unit: pint's spelling, SI by default. range: lowest and highest value that can be true, in that unit."""

    name: str
    unit: str = "1"
    range: tuple[float, float] = (float("-inf"), float("inf"))


@dataclass(frozen=True, slots=True)
class Stream:
    """Channels sampled together at one exact rate.

    rate: Hz (a number, a Fraction, or text as in ``"1/5 min"``). lateness: how long a hop waits, by arrival time, for this stream when
    others have
    arrived. jitter: how far, in sample periods, a sample's time may be off the grid point it is put on (0.5: any time is taken). hold: for
    irregular telemetry, how long a value stays true when no new one comes (0: not at all). bound: a step of the clock, ahead of the
    newest sample, beyond which a sample is rejected.
    """

    name: str
    rate: Any
    channels: Sequence[Channel]
    lateness: Any = "2 s"
    jitter: float = 0.5
    hold: Any = 0
    bound: Any = "1 day"

    @property
    def spec(self) -> BlockSpec:
        """What the stream carries as an edge of the graph."""
        return BlockSpec(hertz(self.rate), tuple(c.name for c in self.channels), tuple(c.unit for c in self.channels))


@dataclass(frozen=True)
class Twin:
    """A kind of asset: its streams, its stages and the hop (event-time step) that both are cut into.

    hop: seconds (text or number), a whole number of sample periods of every stream. stages: name -> stage; a stage refers to streams and
    other stages by
    name. simulator: a callable ``(asset, **parameters) -> Simulator`` behind ``--from sim:``. show: block outputs that sinks keep and
    screens draw (events always are).
    """

    name: str
    hop: Any
    streams: Sequence[Stream]
    stages: Mapping[str, Stage]
    simulator: Callable[..., Any] | None = field(default=None, compare=False)
    show: Sequence[str] = ()
    version: int = 0

    @property
    def hop_s(self) -> Fraction:
        """The hop in exact seconds."""
        return seconds(self.hop)

    def stream(self, name: str) -> Stream:
        """Return the stream of that name (KeyError if there is none)."""
        return next(s for s in self.streams if s.name == name)

    def digest(self) -> str:
        """Return 16 hex digits over all that decides what the twin puts out."""
        streams = [[s.name, str(hertz(s.rate)), [[c.name, c.unit, list(c.range)] for c in s.channels]] for s in self.streams]
        stages = {name: [stage.digest(), stage.inputs()] for name, stage in self.stages.items()}
        text = json.dumps([self.name, str(self.hop_s), streams, stages], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]
