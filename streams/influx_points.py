"""What an update is in InfluxDB: outputs as points of their channels, high rates summarised, every revision of an event a point of its own.

Measurement: the twin. Tags: ``asset``; ``stream``, or ``stage`` and ``port``; ``site`` if there is one; of an event also ``kind`` and the
``channel`` with the largest weight. Never what has no bound (ids, revisions). A revision of an event is at its start plus as many
nanoseconds as its number: it is written once and never changes, so that one that comes again, or late from a worker that was thought
dead, mixes with no other. The highest ``revision`` of an ``id`` is the event; at most one is ``final``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any

import msgspec
import numpy as np

from streams.influx_lines import Batch, batches, head, name, number, string
from streams.moments import STATISTICS, Moments, Summary
from streams.shown import shown_blocks
from twin_engine.clock import time_of
from twin_engine.ports import Block, BlockSpec, Int
from twin_engine.records import Event, Update

FLEETS = 256  # whose rows are remembered
TAGS = ("asset", "stream", "stage", "port", "site", "kind", "channel")
_TEXTS = ("id", "severity", "class", "channels")
_WHOLE = ("start", "peak", "end", "revision")
_FLOATS = ("score", "p_value", "frequency", "bandwidth", "snr")
_NOT_FLOATS = {*TAGS, *_TEXTS, *_WHOLE, "final", "time"}


def field_of(channel: str) -> str:
    """Return the field that holds a channel: its name, with an underscore behind where a tag or a field of events has that name."""
    return f"{channel}_" if channel in _NOT_FLOATS else channel


class _Output:
    """One output of a twin: what its lines begin with, by row, and the open intervals of a fast one."""

    def __init__(self, twin: str, key: str, site: str, spec: BlockSpec) -> None:
        stage, dot, port = key.partition(".")
        self._twin, self._tags = twin, {"site": site, **({"stage": stage, "port": port} if dot else {"stream": key})}
        self.spec, self.fields = spec, [field_of(c) for c in spec.channels]
        self.summaries = [f"{channel}_{statistic}" for channel in spec.channels for statistic in STATISTICS]
        self.heads: list[bytes] = []
        self.moments: Moments | None = None

    def grow(self, assets: Sequence[str]) -> None:
        """Make heads for assets that have none."""
        self.heads += [head(self._twin, {"asset": asset, **self._tags}) for asset in assets[len(self.heads) :]]

    def samples(self, block: Block) -> Iterator[Batch]:
        """Yield a block in full: a point for each row and sample."""
        times = time_of(block.start[:, None] + np.arange(block.n, dtype=np.int64), self.spec.rate).ravel()
        shape = (-1, len(self.fields))
        values, valid = block.values.transpose(0, 2, 1).reshape(shape), block.valid.transpose(0, 2, 1).reshape(shape)
        each = list(map(self.heads.__getitem__, np.repeat(block.rows, block.n).tolist()))
        yield from batches(each, self.fields, values, valid, times)

    def summary(self, summary: Summary) -> Iterator[Batch]:
        """Yield the intervals of a summary, a point for each row."""
        shape = (len(summary.rows), len(self.summaries))
        values, valid = summary.values.reshape(shape), summary.valid.reshape(shape)
        yield from batches([self.heads[i] for i in summary.rows.tolist()], self.summaries, values, valid, summary.start)


class Points:
    """Updates as batches of lines, of any twins and fleets: rows here are assets in the order in which they were first seen.

    limit: Hz; a faster output is summarised in intervals of ``interval`` seconds: ``CHANNEL_min``, ``_mean``, ``_max`` and ``_rms`` at the
    interval's start.
    """

    def __init__(self, show: tuple[str, ...], site: str, limit: Fraction, interval: Fraction) -> None:
        self._show, self._site, self._limit, self._interval = show, site, limit, interval
        self._rows: dict[str, int] = {}
        self._fleets: dict[tuple[str, ...], Int] = {}
        self._outputs: dict[tuple[str, str], _Output] = {}
        self._saved: dict[tuple[str, str], Any] = {}

    def of(self, update: Update) -> Iterator[Batch]:
        """Yield an update's lines."""
        if update.events:
            yield Batch(len(update.events), b"".join(self._event(event) for event in update.events))
        fleet = self._fleet(update.assets)
        for key, block in shown_blocks(update, self._show).items():
            spec = update.specs[key]
            if not isinstance(spec, BlockSpec):
                continue
            output, own = self._output(update.twin, key, spec), replace(block, rows=fleet[block.rows])
            if output.moments is None:
                yield from output.samples(own)
            else:
                for summary in output.moments.take(own):
                    yield from output.summary(summary)

    def _fleet(self, assets: Sequence[str]) -> Int:
        """Return the row of each asset of a fleet."""
        names = tuple(assets)
        if names not in self._fleets:
            if len(self._fleets) >= FLEETS:
                self._fleets.clear()
            self._fleets[names] = np.array([self._rows.setdefault(name, len(self._rows)) for name in names], np.int64)
        return self._fleets[names]

    def _output(self, twin: str, key: str, spec: BlockSpec) -> _Output:
        output = self._outputs.get((twin, key))
        if output is None or output.spec != spec:
            output = self._outputs[twin, key] = _Output(twin, key, self._site, spec)
            if spec.rate > self._limit:
                output.moments = Moments(len(spec.channels), spec.rate, self._interval)
                saved = self._saved.pop((twin, key), [])
                for name, *_ in saved:
                    self._rows.setdefault(name, len(self._rows))
                output.moments.restore(saved, list(self._rows))
        if len(output.heads) < len(self._rows):
            output.grow(list(self._rows))
        return output

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
        for output in self._outputs.values():
            for summary in output.moments.standing() if output.moments else ():
                yield from output.summary(summary)

    def document(self) -> list[Any]:
        """Return the intervals that are open, for a position."""
        names = list(self._rows)
        kept = {place: output.moments.document(names) for place, output in self._outputs.items() if output.moments}
        return [[twin, key, held] for (twin, key), held in {**self._saved, **kept}.items()]

    def restore(self, document: Sequence[Any] | None) -> None:
        """Go on from what ``document`` gave."""
        self._outputs, self._saved = {}, {(twin, key): held for twin, key, held in document or ()}


def health_line(twin: str, worker: str, values: dict[str, float], time: int) -> Batch:
    """Return a line on the engine itself: measurement ``twin_engine``, tags ``twin`` and ``worker``. time: ns UTC."""
    fields = ",".join(f"{name(field)}={number(value)}" for field, value in sorted(values.items()) if np.isfinite(value))
    return Batch(1, head("twin_engine", {"twin": twin, "worker": worker}) + fields.encode() + b" %d\n" % time)
