"""Speed: a recording given out as fast as it can be taken, in real time, or at a multiple of it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import numpy as np
from msgspec.structs import replace

from twin_engine.clock import NS, Clock
from twin_engine.errors import InputError
from twin_engine.records import Idle, Item, Position, Reading, Source, Telling, Waiting

PIECE = 1 / 16  # seconds of event time in a reading of a paced source
_LOOK = 0.1  # seconds between looks at the clock while waiting


def parse_speed(text: str) -> float:
    """Return the multiple of real time of ``realtime``, ``max`` (infinity) or ``10x``; raises InputError."""
    text = text.strip().lower()
    words = {"realtime": 1.0, "max": math.inf}
    try:
        speed = words[text] if text in words else float(text.removesuffix("x"))
    except ValueError:
        speed = 0.0
    if not speed > 0:
        raise InputError("--speed", expected="realtime, max, or a multiple such as 10x", found=repr(text), mend="Write --speed realtime.")
    return speed


class Paced:
    """A source whose readings come when they are due.

    The first sample is due at once, and every later one as long after it as its time is after the first's, divided by the speed. Readings
    are cut on the epoch's grid of ``PIECE`` seconds, and each piece comes when its last sample is due. A live source keeps its own time.
    Positions are the source's own; inside a reading that was cut, ``{"before", "samples"}``: where the reading began, and how many of its
    samples were given.
    """

    def __init__(self, source: Source, speed: float, clock: Clock) -> None:
        self._source, self._speed, self._clock = source, speed, clock
        self.live = source.live

    def items(self, position: Position) -> Iterator[Item]:
        """Yield the items that come after the position; Idle, at the position of the item before it, while waiting."""
        before, skip, last = position, 0, position
        if isinstance(position, dict) and "before" in position:
            before, skip = position["before"], position["samples"]
        paced = not (self.live or math.isinf(self._speed))
        first: tuple[int, int] | None = None  # event time of the first sample, and when it was given out
        for item in self._source.items(before):
            if not isinstance(item, Reading) or not (paced or skip):
                yield item
                before = last = item.position
                continue
            for piece in _cut(item, before, skip, PIECE if paced else math.inf):
                if paced:
                    first = first or (int(piece.times.min()), self._clock.now())
                    due = first[1] + (int(piece.times.max()) - first[0]) / self._speed
                    for _ in self._until(due):
                        yield Idle(last)
                yield piece
                last = piece.position
            before, skip = item.position, 0

    def _until(self, due: float) -> Iterator[None]:
        """Sleep until the clock says ``due`` (ns); yield before each sleep."""
        while (left := (due - self._clock.now()) / NS) > 0:
            yield
            self._clock.sleep(min(left, _LOOK))

    def acknowledge(self, position: Position) -> None:
        """Pass it on, as the source's own position."""
        self._source.acknowledge(position["before"] if isinstance(position, dict) and "before" in position else position)

    def figures(self) -> Mapping[str, float]:
        """Return the source's own figures."""
        return self._source.figures() if isinstance(self._source, Telling) else {}

    @property
    def waits(self) -> str:
        """What the source waits for."""
        return self._source.waits if isinstance(self._source, Waiting) else ""

    def close(self) -> None:
        """Close the source."""
        self._source.close()


def _cut(reading: Reading, before: Position, skip: int, piece: float) -> list[Reading]:
    """Return a reading without its first ``skip`` samples, in pieces of ``piece`` seconds on the epoch's grid, with their positions."""
    n = len(reading.times)
    ends = [n] if math.isinf(piece) else [*(np.flatnonzero(np.diff(reading.times // round(piece * NS))) + 1).tolist(), n]
    pieces: list[Reading] = []
    for end in ends:
        if end > skip:
            position = reading.position if end == n else {"before": before, "samples": end}
            pieces.append(replace(reading, times=reading.times[skip:end], values=reading.values[:, skip:end], position=position))
            skip = end
    return pieces
