"""Sparkplug B: births that say names, types and aliases, data that use them, deaths.

``spBv1.0/GROUP/TYPE/NODE[/DEVICE]``; a metric is a channel of the device, or of the node itself. Numbers and booleans are samples; other
types and the protocol's own metrics (bdSeq, Node Control) are left out. What is not there to be known is rejected:

- an alias whose birth was not seen: ``unknown_channel``;
- a step in the sequence (a message was missed, maybe a birth): one ``malformed``, and from there on aliases of that node mean nothing
  until their next birth; metrics that come with their names go on.

A death makes each known channel NaN at its time (a missing sample), and its aliases void; a death of an earlier session (bdSeq) changes
nothing.
Specification: https://sparkplug.eclipse.org/specification/version/3.0
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from streams.codecs.base import LONGEST_NAME, Faults, RefusedError, Samples, named
from streams.codecs.pattern import Pattern
from streams.codecs.sparkplug_nodes import Known, Node, Nodes, Table
from streams.codecs.sparkplug_payload import Metric, Payload, number_of, numeric, read_payload
from streams.codecs.sparkplug_writer import Writer
from streams.codecs.when import Times
from streams.uri import Uri
from twin_engine.records import Reading, Reason, Record, Reject

_NAMESPACE = "spBv1.0"
_TYPES = {"NBIRTH", "NDATA", "NDEATH", "DBIRTH", "DDATA", "DDEATH"}
_OTHERS = {"NCMD", "DCMD", "STATE"}  # to nodes, and of hosts: no data


class Sparkplug:
    """The format. Options: asset (how it is called, of ``{group}``, ``{edge}``, ``{device}``; default the device, else the node).

    What is written comes from the edge node ``edge`` (twin) of ``group`` (twins), an asset as a device.
    """

    def __init__(self, _pattern: Pattern, options: Uri, _asset: str) -> None:
        said = options.options
        self._asset = said.get("asset", "")
        self._times = Times("ms", options.text)
        self._nodes = Nodes()
        self._writer = Writer(said.get("group", "twins"), said.get("edge", "twin"))

    def read(self, raw: bytes, record: Record) -> Sequence[Reading | Reject]:
        """See the module."""
        levels = record.subject.split("/")
        kind = levels[2] if len(levels) > 2 and levels[1] != "STATE" else "STATE" if "STATE" in levels[:2] else ""
        if kind in _OTHERS:
            return ()
        if levels[0] != _NAMESPACE or kind not in _TYPES or len(levels) != (5 if kind[0] == "D" else 4) or not all(levels):
            raise RefusedError(Reason.MALFORMED, f"the topic is not {_NAMESPACE}/GROUP/TYPE/NODE, and /DEVICE for types of devices")
        if len(record.subject) > LONGEST_NAME:
            raise RefusedError(Reason.TOO_LARGE, f"a topic of {len(record.subject)} characters")
        key, device = f"{levels[1]}/{levels[3]}", levels[4] if kind[0] == "D" else ""
        samples, faults = Samples(), Faults()
        payload = read_payload(raw, faults)
        message = _Message(self, record, payload, key, device, samples, faults)
        if kind == "NDEATH":
            message.end_node()
        else:
            if kind != "NBIRTH":
                message.count()
            {"BIRTH": message.birth, "DATA": message.data, "DEATH": message.end_device}[kind[1:]]()
        return [*samples.readings(record), *faults.rejects(record)]

    def write(self, reading: Reading) -> Sequence[tuple[str, bytes]]:
        """Return a reading's messages, the births that they need first. Times are to the ms."""
        return self._writer.write(reading)

    @property
    def nodes(self) -> Nodes:
        """What births said."""
        return self._nodes

    @property
    def memory(self) -> Any:
        """What births said, as JSON can hold it."""
        return self._nodes.memory

    def recall(self, memory: Any) -> None:
        """Go on from a memory."""
        self._nodes = Nodes.recalled(memory)

    def asset_of(self, key: str, device: str) -> str:
        """Return what a device of a node is called; raises RefusedError."""
        group, _, edge = key.partition("/")
        name = device or edge
        if self._asset:
            name = self._asset.replace("{group}", group).replace("{edge}", edge).replace("{device}", device).strip("/")
        return named(name, "asset")

    def when(self, metric: Metric | None, payload: Payload, record: Record) -> int:
        """Return the time of a metric, of its message, or of its arrival, in ns UTC; raises RefusedError."""
        stamp = payload.timestamp if metric is None or metric.timestamp is None else metric.timestamp
        try:
            ns = record.arrival if stamp is None else self._times.one(stamp)
        except ValueError as error:
            raise RefusedError(Reason.MALFORMED, str(error)) from None
        if ns <= 0:
            raise RefusedError(Reason.MALFORMED, "no time, neither in the message nor of its arrival")
        return ns


class _Message:
    """One message on its way into the samples and what is remembered."""

    def __init__(self, form: Sparkplug, record: Record, payload: Payload, key: str, device: str, samples: Samples, faults: Faults) -> None:
        self._form, self._record, self._payload = form, record, payload
        self._key, self._device, self._samples, self._faults = key, device, samples, faults
        self._nodes = form.nodes
        self._asset = form.asset_of(key, device)

    def count(self) -> None:
        """Compare the sequence; a step voids the node's aliases. The last number again is the last message again, and no step."""
        node, seq = self._nodes.get(self._key), self._payload.seq
        if node is None:
            self._nodes.begin(self._key, Node(seq, None))
            return
        if seq not in {node.seq, (node.seq + 1) % 256}:
            self._faults.add(Reason.MALFORMED, f"seq {seq} after {node.seq}: the node's aliases are void until their next birth")
            for device, table in node.tables.items():
                node.tables[device] = Table(table.metrics, trusted=False)
        if seq != node.seq:
            node.seq = seq
            self._nodes.changed(self._key)

    def birth(self) -> None:
        """Take names, types and aliases, and the values that come with them."""
        metrics = numeric(self._payload.metrics, self._faults)
        if not self._device:
            session = next((m.integer for m in self._payload.metrics if m.name == "bdSeq"), None)
            self._nodes.begin(self._key, Node(self._payload.seq, session))
        table = Table({m.name: Known(m.name, m.alias, m.datatype, m.unit) for m in metrics}.values())
        self._nodes.put(self._key, self._device, table)
        for metric in metrics:
            if not metric.null:  # which says that there is no value yet
                self._take(metric, Known(metric.name, metric.alias, metric.datatype, metric.unit))

    def data(self) -> None:
        """Take the values of known metrics."""
        node = self._nodes.get(self._key)
        table = node.tables.get(self._device) if node else None
        for metric in self._payload.metrics:
            known = table.find(metric) if table else None
            if known is None and metric.name:
                known = next(iter(Known(m.name, m.alias, m.datatype, "") for m in numeric([metric], self._faults)), None)
                if known is None:
                    continue  # no number
            if known is None and metric.value is None and not metric.null:
                continue  # a text by its alias, which a birth's table does not hold
            if known is None:
                self._faults.add(Reason.UNKNOWN_CHANNEL, f"alias {metric.alias}, which no birth says")
            else:
                self._take(metric, known)

    def _take(self, metric: Metric, known: Known) -> None:
        """Take one value."""
        try:
            value = number_of(metric, metric.datatype or known.datatype)
            if value is not None:
                when = self._form.when(metric, self._payload, self._record)
                self._samples.add(self._asset, when, known.name, known.unit, value)
        except RefusedError as error:
            self._faults.add(error.reason, f"{known.name[:80]}: {error}")

    def end_device(self) -> None:
        """Its channels are missing from here on."""
        if self._device:
            self._mask(self._device, self._form.when(None, self._payload, self._record))
            self._nodes.drop(self._key, self._device)

    def end_node(self) -> None:
        """All its channels and those of its devices are missing from when this arrived: its own time is that of the connection."""
        node = self._nodes.get(self._key)
        session = next((m.integer for m in self._payload.metrics if m.name == "bdSeq"), None)
        if node is None or (None not in {session, node.session} and session != node.session):
            return
        when = self._record.arrival or self._form.when(None, self._payload, self._record)
        for device in node.tables:
            self._mask(device, when)
        self._nodes.end(self._key)

    def _mask(self, device: str, when: int) -> None:
        """Make each known channel of a device (or the node) NaN."""
        node = self._nodes.get(self._key)
        table = node.tables.get(device) if node else None
        asset = self._form.asset_of(self._key, device)
        for known in table.metrics if table else ():
            self._samples.add(asset, when, known.name, known.unit, math.nan)
