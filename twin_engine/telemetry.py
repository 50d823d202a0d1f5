"""Counters: every sample that came in is either delivered or dropped under a reason."""

from __future__ import annotations

from collections import Counter
from typing import Any


class Telemetry:
    """What a run has seen.

    dropped: samples by reason. unknown: names by kind, at most ``LIMIT`` of them; which of more depends on how the input was cut.
    """

    LIMIT = 100

    def __init__(self, saved: dict[str, Any] | None = None) -> None:
        saved = saved or {}
        self.samples: int = saved.get("samples", 0)
        self.hops: int = saved.get("hops", 0)
        self.events: int = saved.get("events", 0)
        self.rejects: Counter[str] = Counter(saved.get("rejects", {}))
        self.dropped: Counter[str] = Counter(saved.get("dropped", {}))
        self.unknown: dict[str, int] = dict(saved.get("unknown", {}))

    def drop(self, reason: str, n: int) -> None:
        """Count samples dropped or masked."""
        if n:
            self.dropped[str(reason)] += n

    def strange(self, name: str, n: int) -> None:
        """Remember a channel or asset that nothing defines; names past the limit are counted together."""
        key = name if name in self.unknown or len(self.unknown) < self.LIMIT else "..."
        self.unknown[key] = self.unknown.get(key, 0) + n

    def document(self) -> dict[str, Any]:
        """Return what a snapshot keeps."""
        return {
            "samples": self.samples, "hops": self.hops, "events": self.events, "rejects": dict(sorted(self.rejects.items())),
            "dropped": dict(sorted(self.dropped.items())), "unknown": dict(sorted(self.unknown.items())),
        }  # fmt: skip
