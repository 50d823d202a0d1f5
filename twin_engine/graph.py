"""A twin's stages bound in order. The graph delays early inputs, so that a stage's inputs cover the same event time."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from graphlib import CycleError, TopologicalSorter
from typing import Any

from twin_engine.clock import hertz, seconds
from twin_engine.errors import DefinitionError
from twin_engine.ports import BlockSpec, Spec, relabel
from twin_engine.stage import Op, Stage
from twin_engine.twin import Twin
from twin_engine.units import check_unit, conversion


@dataclass(frozen=True)
class Node:
    """A bound stage. inputs: role -> key of an output or stream. delays: role -> samples by which that input is held back."""

    name: str
    stage: Stage
    op: Op
    inputs: Mapping[str, str]
    delays: Mapping[str, int]


@dataclass(frozen=True)
class Graph:
    """nodes: in an order in which every input comes before its use. specs: by ``"stream"`` and ``"stage.port"``. memory: seconds."""

    twin: Twin
    hop: Fraction
    nodes: tuple[Node, ...]
    specs: Mapping[str, Spec]
    memory: Fraction

    @property
    def lag(self) -> Fraction:
        """The longest lag of any output, seconds."""
        return max((spec.lag for spec in self.specs.values()), default=Fraction(0))

    def warm_up(self) -> Fraction:
        """Return the seconds of data after which every output is valid."""
        return max((spec.valid_after for spec in self.specs.values()), default=Fraction(0))


def bind(twin: Twin) -> Graph:
    """Check a twin and bind its stages; raises DefinitionError on the first thing wrong."""
    hop = twin.hop_s
    place = f"twin {twin.name!r}"
    if hop <= 0:
        raise DefinitionError(place, expected="a hop above zero", found=f"{float(hop):g} s")
    if not twin.streams:
        raise DefinitionError(place, expected="at least one stream", found="none", mend="Add a Stream with its channels.")
    specs: dict[str, Spec] = {}
    for stream in twin.streams:
        if stream.name in specs:
            raise DefinitionError(place, expected="streams of different names", found=f"{stream.name!r} twice")
        _check_stream(place, stream, hop)
        specs[stream.name] = stream.spec
    primary = {name: name for name in specs}
    nodes: list[Node] = []
    for name in _order(twin, place):
        node = _bind_stage(twin, name, hop, specs, primary)
        nodes.append(node)
        specs.update({f"{name}.{port}": spec for port, spec in node.op.outputs.items()})
        primary.update({f"{name}.{port}": f"{name}.{port}" for port in node.op.outputs})
        primary[name] = f"{name}.{next(iter(node.op.outputs))}"
    for shown in twin.show:
        _resolve(shown, primary, f"{place}, show")
    longest = max((node.op.memory for node in nodes), default=Fraction(0)) + max(s.lag for s in specs.values())
    return Graph(twin, hop, tuple(nodes), specs, longest)


def resolve(graph: Graph, reference: str) -> str:
    """Return the key in ``graph.specs`` of a reference (``"white"`` is its first port); raises DefinitionError."""
    primary = {key: key for key in graph.specs}
    primary |= {node.name: f"{node.name}.{next(iter(node.op.outputs))}" for node in graph.nodes}
    return _resolve(reference, primary, f"twin {graph.twin.name!r}")


def _check_stream(place: str, stream: Any, hop: Fraction) -> None:
    where = f"{place}, stream {stream.name!r}"
    if not stream.channels:
        raise DefinitionError(where, expected="at least one channel", found="none")
    names = [c.name for c in stream.channels]
    if len(set(names)) != len(names):
        raise DefinitionError(where, expected="channels of different names", found=", ".join(names))
    for channel in stream.channels:
        check_unit(channel.unit, f"{where}, channel {channel.name!r}")
    rate = hertz(stream.rate)
    if rate <= 0 or (rate * hop).denominator != 1:
        raise DefinitionError(
            where, expected=f"a whole number of samples in a hop of {hop} s", found=f"{rate} Hz, which is {float(rate * hop):g} a hop",
            mend=f"Take a hop that is a multiple of {1 / rate if rate else 'the sample period'} s; "
            "declare a slower stream at the hop's rate with hold=.",
        )  # fmt: skip
    for name in ("lateness", "hold", "bound"):
        seconds(getattr(stream, name))


def _nearest(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(known), 1, 0.4)
    return f"Did you mean {close[0]!r}?" if close else f"Known are: {', '.join(sorted(known))}."


def _resolve(reference: str, primary: Mapping[str, str], place: str) -> str:
    if reference not in primary:
        raise DefinitionError(place, expected="a stream, a stage or stage.port", found=repr(reference), mend=_nearest(reference, primary))
    return primary[reference]


def _order(twin: Twin, place: str) -> list[str]:
    """Return the stages' names so that each comes after what it reads; declaration order breaks ties."""
    streams = {s.name for s in twin.streams}
    needs: dict[str, list[str]] = {}
    for name, stage in twin.stages.items():
        if name in streams or "." in name:
            raise DefinitionError(f"{place}, stage {name!r}", expected="a name of its own without a dot", found=repr(name))
        needs[name] = []
        for reference in stage.inputs().values():
            owner = reference.split(".")[0]
            if owner in streams:
                continue
            if owner not in twin.stages:
                known = [*streams, *twin.stages]
                raise DefinitionError(
                    f"{place}, stage {name!r}", expected="an input that exists", found=repr(reference), mend=_nearest(owner, known)
                )
            needs[name].append(owner)
    try:
        return list(TopologicalSorter(needs).static_order())
    except CycleError as error:
        circle = " -> ".join(reversed(error.args[1]))
        raise DefinitionError(
            place, expected="stages without a cycle", found=circle, mend="Take one of these inputs from a stream or an earlier stage."
        ) from None


def _bind_stage(twin: Twin, name: str, hop: Fraction, specs: Mapping[str, Spec], primary: Mapping[str, str]) -> Node:
    stage, place = twin.stages[name], f"twin {twin.name!r}, stage {name!r}"
    inputs = {role: _resolve(ref, primary, place) for role, ref in stage.inputs().items()}
    found = {role: specs[key] for role, key in inputs.items()}
    for role, unit in stage.UNITS.items():
        spec = found.get(role)
        for channel, has in zip(spec.channels, spec.units, strict=True) if isinstance(spec, BlockSpec) else ():
            if conversion(has, unit) is None:
                raise DefinitionError(
                    f"{place}, input {role!r}", expected=f"a unit like {unit!r}", found=f"channel {channel!r} in {has!r}",
                    mend="Give another channel, or mend its unit.",
                )  # fmt: skip
    latest = max((s.lag for s in found.values() if isinstance(s, BlockSpec)), default=Fraction(0))
    delays: dict[str, int] = {}
    for role, spec in found.items():
        if not isinstance(spec, BlockSpec):
            continue  # marks carry their own time, and `until`
        wait = (latest - spec.lag) * spec.rate
        if wait.denominator != 1:
            raise DefinitionError(
                f"{place}, input {role!r}", expected="lags that differ by whole samples",
                found=f"{spec.lag} s against {latest} s at {spec.rate} Hz",
                mend="Take rates that divide one another.",
            )  # fmt: skip
        delays[role] = int(wait)
        found[role] = relabel(spec, lag=latest)
    try:
        op = stage.bind(hop, found)
    except DefinitionError as error:
        raise DefinitionError(f"{place}: {error.place}", expected=error.expected, found=error.found, mend=error.mend) from error
    if not op.outputs:
        raise DefinitionError(place, expected="at least one output", found="none")
    return Node(name, stage, op, inputs, delays)
