"""What every simulator is: segments of samples made from (seed, number) alone, cut into readings, with faults of the readout."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from twin_engine.clock import NS, index_of, seconds, time_of
from twin_engine.errors import InputError
from twin_engine.ports import Float
from twin_engine.records import Reading

START = 1_735_689_600 * NS  # 2025-01-01T00:00:00Z
_ENTRY = re.compile(r"([\w-]+)@([\d.]+)(?::([\d.]+))?")


@dataclass(frozen=True, slots=True)
class Injection:
    """Something that a simulator put in. Times are ns UTC; snr is 0 where it has no meaning."""

    kind: str
    time: int
    start: int
    end: int
    snr: float = 0.0


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of a schedule: what, when (seconds from the start) and how much (its meaning is the kind's)."""

    kind: str
    at: float
    amount: float


def schedule(value: str | Sequence[Entry], kinds: Sequence[str], amount: float) -> list[Entry]:
    """Return a schedule in order of time from entries, or text like ``"blip@12.5:20,tomte@30"`` (kind@seconds:amount).

    kinds: those allowed, in any case. amount: where the text leaves it out. Raises InputError.
    """
    found: list[Entry] = []
    known = {k.lower().replace("-", "_"): k for k in kinds}
    for part in filter(None, value.split(",")) if isinstance(value, str) else value:
        match = _ENTRY.fullmatch(part.strip()) if isinstance(part, str) else None
        entry = Entry(match[1], float(match[2]), float(match[3] or amount)) if match else part
        kind = known.get(entry.kind.lower().replace("-", "_")) if isinstance(entry, Entry) else None
        if not isinstance(entry, Entry) or kind is None:
            raise InputError(
                f"schedule {part!r}", expected="kind@seconds or kind@seconds:amount", found=str(part), mend=f"Kinds are {', '.join(kinds)}."
            )
        found.append(Entry(kind, entry.at, entry.amount))
    return sorted(found, key=lambda e: e.at)


class Simulator(ABC):
    """A simulated asset: ``blocks(first)`` yields the readings of block ``first`` and on; each block depends on its number alone.

    asset: name of the readings. start: ns UTC of the first sample, a whole second. duration: seconds, or None for no end. block: seconds of
    one block. segment: seconds made at once, a whole number of blocks. gaps: spans (from, to) in seconds from the start of which nothing is
    read.
    """

    def __init__(
        self, asset: str, streams: Mapping[str, tuple[Fraction, tuple[str, ...]]], *, start: int, duration: object, block: Fraction,
        segment: Fraction, gaps: Sequence[Entry] = (),
    ) -> None:  # fmt: skip
        self.asset, self.streams, self.block, self.segment = asset, streams, block, segment
        self.start = int(start) // NS * NS
        self.duration = None if duration in {None, "", "inf"} else seconds(_number(duration))
        self._gaps = [(self.start + round(g.at * NS), self.start + round((g.at + g.amount) * NS)) for g in gaps]

    @abstractmethod
    def make(self, k: int) -> Mapping[str, Float]:
        """Return segment k: stream name -> ``(channel, sample)``."""

    @abstractmethod
    def truth(self, until: float | None = None) -> list[Injection]:
        """Return what is put in before that many seconds from the start (default: the duration), by time."""

    def blocks(self, first: int = 0) -> Iterator[list[Reading]]:
        """Yield the readings of each block from block ``first`` on, one a stream; an empty list within a gap."""
        per = int(self.segment / self.block)
        end = None if self.duration is None else int(self.duration / self.block)
        k, made, values = first, -1, dict[str, Float]()
        while end is None or k < end:
            if k // per != made:
                made = k // per
                values = dict(self.make(made))
            yield [r for name in self.streams if (r := self._reading(name, values[name], k, k % per)).times.size]
            k += 1

    def _reading(self, name: str, values: Float, k: int, part: int) -> Reading:
        rate, channels = self.streams[name]
        n = int(self.block * rate)
        first = int(index_of(np.array(self.start), rate)) + k * n
        times = time_of(np.arange(first, first + n), rate)
        keep = np.ones(n, bool)
        for begin, end in self._gaps:
            keep &= (times < begin) | (times >= end)
        return Reading(self.asset, channels, times[keep], values[:, part * n : part * n + n][:, keep])


def _number(value: object) -> str | float | Fraction:
    """Return what ``seconds`` takes: a bare number in text is a number of seconds."""
    if isinstance(value, str):
        return float(value) if re.fullmatch(r"[\d.eE+]+", value) else value
    return value if isinstance(value, Fraction) else float(value)  # type: ignore[arg-type]
