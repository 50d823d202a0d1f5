"""The assets of one twin in this process as arrays, one row an asset. It alone owns state that changes, and knows no stage by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twin_engine.clock import NS, time_of
from twin_engine.graph import Graph, Node
from twin_engine.ports import Block, BlockSpec, Frame, Int, Port, empty_marks

Count = Callable[[str, int], None]


def _ignore(reason: str, n: int) -> None:
    del reason, n


class Fleet:
    """Steps frames through the graph. Built from nothing, or from the arrays of a snapshot: there is no other way to set its state.

    arrays: ``stage/field`` -> array as ``arrays()`` gave it; digests: stage -> digest under which they were saved. A stage whose digest
    has changed starts anew
    (``fresh`` names it), all others go on. count: is told (reason, samples) of rows that failed.
    """

    def __init__(
        self,
        graph: Graph,
        assets: Sequence[str],
        arrays: Mapping[str, NDArray[Any]] | None = None,
        digests: Mapping[str, str] | None = None,
        count: Count = _ignore,
    ) -> None:
        self.graph, self.assets, self._count = graph, list(assets), count
        n = len(self.assets)
        self._fresh = {node.name: node.op.init(1) for node in graph.nodes}
        self._state: dict[str, Any] = {node.name: node.op.init(n) for node in graph.nodes}
        self._held: dict[str, tuple[NDArray[np.float64], NDArray[np.bool_]]] = {}
        for node in graph.nodes:
            for role, wait in node.delays.items():
                spec = graph.specs[node.inputs[role]]
                if wait and isinstance(spec, BlockSpec):
                    shape = (n, len(spec.channels), wait)
                    self._held[f"{node.name}/{role}"] = (np.zeros(shape), np.zeros(shape, bool))
        self.fresh = [node.name for node in graph.nodes if arrays is not None and not self._load(node, arrays, digests or {})]

    def _load(self, node: Node, arrays: Mapping[str, NDArray[Any]], digests: Mapping[str, str]) -> bool:
        state = self._state[node.name]
        saved: dict[str, Any] = {field: arrays.get(f"{node.name}/{field}") for field in state._fields}
        if digests.get(node.name) != node.stage.digest():
            return False
        if any(a is None or a.shape[1:] != b.shape[1:] or a.dtype != b.dtype for a, b in zip(saved.values(), state, strict=True)):
            return False
        for array, a in zip(state, saved.values(), strict=True):
            array[: len(a)] = a  # assets that are new come after
        for role in node.delays:
            key = f"{node.name}/{role}"
            if key in self._held and f"{key}/values" in arrays:
                for array, name in zip(self._held[key], ("values", "valid"), strict=True):
                    array[: len(arrays[f"{key}/{name}"])] = arrays[f"{key}/{name}"]
        return True

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return all state by ``stage/field``; the arrays are the fleet's own: save them before the next step."""
        found = {f"{name}/{field}": array for name, state in self._state.items() for field, array in state._asdict().items()}
        for key, (values, valid) in self._held.items():
            found[f"{key}/values"], found[f"{key}/valid"] = values, valid
        return found

    def digests(self) -> dict[str, str]:
        """Return stage -> digest, to be saved beside the arrays."""
        return {node.name: node.stage.digest() for node in self.graph.nodes}

    def state_bytes(self) -> dict[str, int]:
        """Return stage -> bytes of state for each asset, held-back inputs included."""
        found = {name: sum(a.nbytes for a in state) for name, state in self._fresh.items()}
        for key, (values, valid) in self._held.items():
            found[key.split("/")[0]] += (values.nbytes + valid.nbytes) // max(1, len(self.assets))
        return found

    def restart(self, rows: Int, *, only: str | None = None) -> None:
        """Begin rows anew, save for persistent state (alarm memories); ``only`` one stage, persistent or not."""
        for node in self.graph.nodes:
            if only == node.name or (only is None and not node.op.persistent):
                for array, fresh in zip(self._state[node.name], self._fresh[node.name], strict=True):
                    array[rows] = fresh[0]
                for role in node.delays:
                    if held := self._held.get(f"{node.name}/{role}"):
                        held[1][rows] = False

    def step(self, frame: Frame) -> dict[str, Port]:
        """Take a frame and return every output, by ``"stage.port"``; the streams too, by name."""
        rows = next(iter(frame.streams.values())).rows
        if frame.restart.any():
            self.restart(rows[frame.restart])
        ports: dict[str, Port] = dict(frame.streams)
        for node in self.graph.nodes:
            inputs = {role: self._input(node, role, ports[key]) for role, key in node.inputs.items()}
            try:
                self._state[node.name], given = node.op.step(self._state[node.name], inputs)
            except (ArithmeticError, np.linalg.LinAlgError):
                given = self._failed(node, rows, frame)
            for port, value in given.items():
                ports[f"{node.name}.{port}"] = self._checked(node, value)
        return ports

    def _input(self, node: Node, role: str, port: Port) -> Port:
        held = self._held.get(f"{node.name}/{role}")
        if held is None or not isinstance(port, Block):
            return port
        wait = node.delays[role]
        values = np.concatenate([held[0][port.rows], port.values], axis=2)
        valid = np.concatenate([held[1][port.rows], port.valid], axis=2)
        held[0][port.rows], held[1][port.rows] = values[:, :, port.n :], valid[:, :, port.n :]
        return Block(
            np.ascontiguousarray(values[:, :, : port.n]), np.ascontiguousarray(valid[:, :, : port.n]), port.rows, port.start - wait
        )

    def _checked(self, node: Node, port: Port) -> Port:
        """Mask and begin anew the rows of a block that claim to be valid and are not finite."""
        if not isinstance(port, Block) or np.isfinite(port.values.sum()):  # a sum is finite only if all are: one cheap pass
            return port
        wrong = port.valid & ~np.isfinite(port.values)
        if not wrong.any():
            return port
        self._count("numerics", int(wrong.sum()))
        self.restart(port.rows[wrong.any(axis=(1, 2))], only=node.name)
        return Block(port.values, port.valid & ~wrong, port.rows, port.start)

    def _failed(self, node: Node, rows: Int, frame: Frame) -> dict[str, Port]:
        """Return masked outputs of a stage that raised, its rows begun anew."""
        self._count("numerics", len(rows) * frame.hops)
        self.restart(rows, only=node.name)
        found: dict[str, Port] = {}
        hop = self.graph.hop
        for name, spec in node.op.outputs.items():
            if isinstance(spec, BlockSpec):
                n = hop * spec.rate
                shape = (len(rows), len(spec.channels), int(n * frame.hops))
                start = np.array([int((int(f) * hop - spec.lag) * spec.rate) for f in frame.first], np.int64)
                found[name] = Block(np.zeros(shape), np.zeros(shape, bool), rows, start)
            else:
                until = time_of(frame.first + frame.hops, 1 / hop) - int(spec.lag * NS)
                found[name] = empty_marks(spec, rows, np.zeros(len(rows), np.int64), until)
        return found
