"""Clocks, sources and sinks for tests of twins: scripted, in memory, with the same contracts as the real ones."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from msgspec.structs import replace

from twin_engine.clock import NS
from twin_engine.records import Item, Position, Update


class FakeClock:
    """A wall clock that moves when told: ``sleep`` moves it and returns at once; each ``now`` moves it by ``tick`` ns."""

    def __init__(self, start: int = 1_700_000_000 * NS, tick: int = 0) -> None:
        self.time, self.tick = start, tick

    def now(self) -> int:
        """Return ns UTC."""
        self.time += self.tick
        return self.time

    def sleep(self, duration: float) -> None:
        """Move on by that many seconds."""
        self.time += int(duration * NS)


class ScriptedSource:
    """Yields the given items; positions are their numbers. ``fail_at`` raises there, as a process that is killed would end."""

    def __init__(self, items: Sequence[Item], *, live: bool = False, fail_at: int | None = None) -> None:
        self.live, self._items, self._fail_at = live, list(items), fail_at
        self.acknowledged: list[Position] = []
        self.closed = False

    def items(self, position: Position) -> Iterator[Item]:
        """Yield the items after a position."""
        for i in range(position or 0, len(self._items)):
            if i == self._fail_at:
                raise KeyboardInterrupt
            yield replace(self._items[i], position=i + 1)

    def acknowledge(self, position: Position) -> None:
        """Note what was acknowledged."""
        self.acknowledged.append(position)

    def close(self) -> None:
        """Note that it was closed."""
        self.closed = True


class ListSink:
    """Keeps updates in memory; its position is how many there are, and opening it at one cuts back to it."""

    def __init__(self) -> None:
        self.updates: list[Update] = []
        self.log: list[str] = []

    def open(self, position: Position) -> None:
        """Cut back to the position."""
        del self.updates[position or 0 :]
        self.log.append("open")

    def write(self, update: Update) -> None:
        """Keep an update."""
        self.updates.append(update)

    def flush(self) -> Position:
        """Return how many updates there are."""
        self.log.append("flush")
        return len(self.updates)

    def close(self) -> None:
        """Note that it was closed."""
        self.log.append("close")
