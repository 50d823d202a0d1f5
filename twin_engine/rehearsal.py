"""A twin run on noise, so that its kernels are compiled before its first reading comes."""

from __future__ import annotations

from contextlib import suppress
from fractions import Fraction

import numpy as np

from twin_engine.clock import NS, hertz, index_of, time_of
from twin_engine.engine import Engine
from twin_engine.kernels.cold import compiled_mark
from twin_engine.records import Reading
from twin_engine.twin import Stream, Twin

BEGIN = 1_700_000_000  # Unix seconds
LONGEST = Fraction(8)  # seconds of noise
HOPS = 4  # of it at least
MOST = 1 << 21  # values of it, unless so many hops have more


def rehearse(twin: Twin) -> None:
    """Run a twin on some seconds of noise, unless that was done before with these kernels and this definition. It may take a minute."""
    mark = compiled_mark(f"rehearsed-{twin.digest()[:16]}")
    if mark.exists():
        return
    engine = Engine(twin, ["rehearsal"])
    values = sum(hertz(stream.rate) * len(stream.channels) for stream in twin.streams)
    hops = max(HOPS, int(min(LONGEST, MOST / values) / engine.graph.hop))
    rng = np.random.default_rng(0)
    for hop in range(hops):
        for _ in engine.put_all([_noise(stream, hop * engine.graph.hop, engine.graph.hop, rng) for stream in twin.streams]):
            pass
    with suppress(OSError):
        mark.touch()


def _noise(stream: Stream, start: Fraction, seconds: Fraction, rng: np.random.Generator) -> Reading:
    """Return noise of a stream, each channel within its range."""
    rate = hertz(stream.rate)
    first = int(index_of(np.array([BEGIN * NS]), rate)[0]) + int(start * rate)
    index = first + np.arange(int(seconds * rate))
    values = rng.standard_normal((len(stream.channels), len(index)))
    for row, channel in zip(values, stream.channels, strict=True):
        np.clip(row, *channel.range, out=row)
    return Reading("rehearsal", tuple(channel.name for channel in stream.channels), np.asarray(time_of(index, rate)), values)
