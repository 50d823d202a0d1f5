"""What Sparkplug's births said: for each edge node its sequence, and for it and each of its devices the metrics with their aliases."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from typing import Any, NamedTuple

from streams.codecs.base import RefusedError
from streams.codecs.sparkplug_payload import Metric
from twin_engine.records import Reason

CAP = 100_000  # metrics, tables and nodes that are remembered


class Known(NamedTuple):
    """A metric as its birth said it."""

    name: str
    alias: int | None
    datatype: int
    unit: str


class Table:
    """The metrics of a node or a device. trusted: no message was missed since, so that aliases mean what the birth said."""

    def __init__(self, metrics: Iterable[Known], *, trusted: bool = True) -> None:
        self.metrics, self.trusted = tuple(metrics), trusted
        self.by_name = {metric.name: metric for metric in self.metrics}
        self.by_alias = {metric.alias: metric for metric in self.metrics if metric.alias is not None} if trusted else {}

    def find(self, metric: Metric) -> Known | None:
        """Return what a metric of a data message is, or None where that is not known."""
        return self.by_name.get(metric.name) if metric.name or metric.alias is None else self.by_alias.get(metric.alias)

    @cached_property
    def document(self) -> list[Any]:
        """The table as JSON can hold it."""
        return [self.trusted, [list(metric) for metric in self.metrics]]


class Node:
    """An edge node: the last sequence number, the birth-death number of its session, the tables (``""``: its own)."""

    def __init__(self, seq: int, session: int | None) -> None:
        self.seq, self.session = seq, session
        self.tables: dict[str, Table] = {}


class Nodes:
    """All of them, at most CAP entries. ``memory`` is made anew after a change, and only when it is asked for."""

    def __init__(self) -> None:
        self._nodes: dict[str, Node] = {}
        self._size = 0
        self._documents: dict[str, Any] = {}
        self._memory: dict[str, Any] = {}
        self._stale = False

    def get(self, key: str) -> Node | None:
        """Return a node whose birth was seen."""
        return self._nodes.get(key)

    def begin(self, key: str, node: Node) -> None:
        """Take a node anew, without tables; raises RefusedError beyond the cap."""
        self.end(key)
        self._grow(1)
        self._nodes[key] = node
        self.changed(key)

    def end(self, key: str) -> None:
        """Forget a node."""
        node = self._nodes.pop(key, None)
        if node:
            self._size -= 1 + sum(1 + len(table.metrics) for table in node.tables.values())
            self._documents.pop(key, None)
            self._stale = True

    def put(self, key: str, device: str, table: Table) -> None:
        """Take a table of a node; raises RefusedError beyond the cap."""
        self.drop(key, device)
        self._grow(1 + len(table.metrics))
        self._nodes[key].tables[device] = table
        self.changed(key)

    def drop(self, key: str, device: str) -> None:
        """Forget a table."""
        table = self._nodes[key].tables.pop(device, None)
        if table:
            self._size -= 1 + len(table.metrics)
            self.changed(key)

    def changed(self, key: str) -> None:
        """A node is no longer what its document says."""
        self._documents.pop(key, None)
        self._stale = True

    def _grow(self, count: int) -> None:
        if self._size + count > CAP:
            raise RefusedError(Reason.TOO_LARGE, f"more than {CAP} metrics and nodes would have to be remembered")
        self._size += count

    @property
    def memory(self) -> dict[str, Any]:
        """Everything, as JSON can hold it."""
        if self._stale:
            for key in self._nodes.keys() - self._documents.keys():
                node = self._nodes[key]
                tables = {device: table.document for device, table in node.tables.items()}
                self._documents[key] = {"seq": node.seq, "session": node.session, "tables": tables}
            self._memory = {key: self._documents[key] for key in self._nodes}
            self._stale = False
        return self._memory

    @classmethod
    def recalled(cls, memory: dict[str, Any] | None) -> Nodes:
        """Return those of a memory."""
        nodes = cls()
        for key, kept in (memory or {}).items():
            nodes.begin(key, Node(kept["seq"], kept["session"]))
            for device, (trusted, metrics) in kept["tables"].items():
                nodes.put(key, device, Table((Known(*metric) for metric in metrics), trusted=trusted))
        return nodes
