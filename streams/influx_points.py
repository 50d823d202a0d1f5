"""What an update is in InfluxDB: outputs as points of their channels, high rates summarised, every revision of an event a point of its own.

Measurement: the twin. Tags: ``asset``; ``stream``, or ``stage`` and ``port``; ``site`` if there is one; of an event also ``kind`` and the
``channel`` with the largest weight. Never what has no bound (ids, revisions). A revision of an event is at its start plus as many
nanoseconds as its number: it is written once and never changes, so that one that comes again, or late from a worker that was thought
dead, mixes with no other. The highest ``revision`` of an ``id`` is the event; at most one is ``final``.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import msgspec
import numpy as np

from streams.influx_lines import Batch, batches, head, name, number, string
from streams.moments import STATISTICS, Moments, Summary
from streams.shown import shown_blocks
from twin_engine.clock import time_of
from twin_engine.ports import Block, BlockSpec
from twin_engine.records import Event, Update

TAGS = ("asset", "stream", "stage", "port", "site", "kind", "channel")
_TEXTS = ("id", "severity", "class", "channels")
_WHOLE = ("start", "peak", "end", "revision")
_FLOATS = ("score", "p_value", "frequency", "bandwidth", "snr")
_NOT_FLOATS = {*TAGS, *_TEXTS, *_WHOLE, "final", "time"}


def field_of(channel: str) -> str:
    """Return the field that holds a channel: its name, with an underscore behind where a tag or a field of events has that name."""
    return f"{channel}_" if channel in _NOT_FLOATS else channel


class Points:
    """Updates as batches of lines.

    limit: Hz; a faster output is summarised in intervals of ``interval`` seconds: ``CHANNEL_min``, ``_mean``, ``_max`` and ``_rms`` at the
    interval's start.
    """

    def __init__(self, show: tuple[str, ...], site: str, limit: Fraction, interval: Fraction) -> None:
        self._show, self._site, self._limit, self._interval = show, site, limit, interval
        self._heads: dict[str, list[bytes]] = {}  # by output, of each asset
        self._moments: dict[str, Moments] = {}
        self._saved: dict[str, Any] = {}
        self._twin = ""
        self._assets: list[str] = []
        self._specs: dict[str, BlockSpec] = {}

    def of(self, update: Update) -> Iterator[Batch]:
        """Yield an update's lines."""
        if (self._twin, self._assets) != (update.twin, update.assets):
            self._twin, self._assets, self._heads = update.twin, list(update.assets), {}
        if update.events:
            yield Batch(len(update.events), b"".join(self._event(event) for event in update.events))
        for key, block in shown_blocks(update, self._show).items():
            spec = update.specs[key]
            if not isinstance(spec, BlockSpec):
                continue
            self._specs[key] = spec
            if spec.rate <= self._limit:
                yield from self._samples(key, block, spec)
            else:
                for summary in self._summaries(key, spec).take(block):
                    yield from self._summary(key, summary)

    def _head(self, key: str) -> list[bytes]:
        """Return measurement and tags of an output, for each asset."""
        if key not in self._heads:
            stage, dot, port = key.partition(".")
            tags = {"stage": stage, "port": port} if dot else {"stream": key}
            self._heads[key] = [head(self._twin, {"asset": asset, "site": self._site, **tags}) for asset in self._assets]
        return self._heads[key]

    def _samples(self, key: str, block: Block, spec: BlockSpec) -> Iterator[Batch]:
        """Yield a block in full: a point for each row and sample."""
        heads = self._head(key)
        times = time_of(block.start[:, None] + np.arange(block.n, dtype=np.int64), spec.rate).ravel()
        shape = (-1, len(spec.channels))
        values, valid = block.values.transpose(0, 2, 1).reshape(shape), block.valid.transpose(0, 2, 1).reshape(shape)
        each = list(map(heads.__getitem__, np.repeat(block.rows, block.n).tolist()))
        yield from batches(each, [field_of(c) for c in spec.channels], values, valid, times)

    def _summaries(self, key: str, spec: BlockSpec) -> Moments:
        if key not in self._moments:
            self._moments[key] = Moments(len(spec.channels), spec.rate, self._interval)
            self._moments[key].restore(self._saved.pop(key, []), self._assets)
        return self._moments[key]

    def _summary(self, key: str, summary: Summary) -> Iterator[Batch]:
        heads = self._head(key)
        fields = [f"{channel}_{statistic}" for channel in self._specs[key].channels for statistic in STATISTICS]
        shape = (len(summary.rows), len(fields))
        yield from batches(
            [heads[i] for i in summary.rows.tolist()], fields, summary.values.reshape(shape), summary.valid.reshape(shape), summary.start
        )

    def _event(self, event: Event) -> bytes:
        """Return a revision of an event as a line, all its fields in it; what is not a number is left out."""
        first = next(iter(event.channels), "")
        tags = {"asset": event.asset, "stage": event.stage, "site": self._site, "kind": event.kind, "channel": first}
        weights = msgspec.json.encode(event.channels).decode()
        texts = zip(_TEXTS, (event.id, event.severity, event.class_ or "", weights), strict=True)
        floats = {field: getattr(event, field) for field in _FLOATS}
        fields = [f"{field}={string(text)}" for field, text in texts]
        fields += [f"{field}={getattr(event, field)}i" for field in _WHOLE]
        fields += [f"{field}={number(value)}" for field, value in floats.items() if value is not None and np.isfinite(value)]
        fields.append(f"final={'true' if event.final else 'false'}")
        return head(event.twin, tags) + ",".join(fields).encode() + b" %d\n" % (event.start + event.revision)

    def standing(self) -> Iterator[Batch]:
        """Yield the summaries of intervals that have not ended, as they stand; the whole ones are written over them."""
        for key, moments in self._moments.items():
            for summary in moments.standing():
                yield from self._summary(key, summary)

    def document(self) -> dict[str, Any]:
        """Return the intervals that are open, for a position."""
        return {**self._saved, **{key: moments.document(self._assets) for key, moments in self._moments.items()}}

    def restore(self, document: dict[str, Any] | None) -> None:
        """Go on from what ``document`` gave."""
        self._moments, self._saved = {}, dict(document or {})


def health_line(twin: str, worker: str, values: dict[str, float], time: int) -> Batch:
    """Return a line on the engine itself: measurement ``twin_engine``, tags ``twin`` and ``worker``. time: ns UTC."""
    fields = ",".join(f"{name(field)}={number(value)}" for field, value in sorted(values.items()) if np.isfinite(value))
    return Batch(1, head("twin_engine", {"twin": twin, "worker": worker}) + fields.encode() + b" %d\n" % time)
