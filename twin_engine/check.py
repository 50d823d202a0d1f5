"""What ``twin-engine check`` says of a definition that binds: for each stage what it reads and gives, when it is valid, what it costs."""

from __future__ import annotations

from dataclasses import dataclass

from twin_engine.fleet import Fleet
from twin_engine.graph import bind
from twin_engine.ports import BlockSpec
from twin_engine.twin import Twin


@dataclass(frozen=True, slots=True)
class StageReport:
    """One stage. lag, valid_after: seconds, the longest of its outputs. state_bytes: for each asset."""

    name: str
    kind: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    lag: float
    valid_after: float
    state_bytes: int


def report(twin: Twin) -> list[StageReport]:
    """Return a report of each stage, in the order in which they run; raises DefinitionError where the twin is wrong."""
    graph = bind(twin)
    size = Fleet(graph, ["asset"]).state_bytes()
    found: list[StageReport] = []
    for node in graph.nodes:
        specs = node.op.outputs
        outputs = tuple(
            f"{port}: {len(s.channels)} x {float(s.rate):g} Hz"
            if isinstance(s, BlockSpec)
            else f"{port}: {'events' if s.events else 'marks'}"
            for port, s in specs.items()
        )
        lag, ready = max(float(s.lag) for s in specs.values()), max(float(s.valid_after) for s in specs.values())
        found.append(StageReport(node.name, type(node.stage).__name__, tuple(node.inputs.values()), outputs, lag, ready, size[node.name]))
    return found
