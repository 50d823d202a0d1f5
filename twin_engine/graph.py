"""A twin's stages bound in order. The graph delays early inputs, so that a stage's inputs cover the same event time."""

from __future__ import annotations

import difflib
from collections.abc import Container, Generator, Iterable, Mapping
from contextlib import contextmanager
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
    graph, wrong = examine(twin)
    if graph is None:
        raise wrong[0]
    return graph


def examine(twin: Twin) -> tuple[Graph | None, list[DefinitionError]]:
    """Return a twin's graph, or None and all that is wrong, except with stages that read what is wrong: of these nothing can be told."""
    wrong: list[DefinitionError] = []
    place = f"twin {twin.name!r}"
    with _collect(wrong):
        hop = _hop(twin, place)
        order = _order(twin, place, wrong)
        specs: dict[str, Spec] = {}
        for stream in twin.streams:
            with _collect(wrong):
                _check_stream(place, stream, hop, specs)
                specs[stream.name] = stream.spec
        primary = {name: name for name in specs}
        unknown = {stream.name for stream in twin.streams}.union(twin.stages) - set(specs)
        nodes: list[Node] = []
        for name in order:
            if unknown.intersection(ref.split(".")[0] for ref in twin.stages[name].inputs().values()):
                continue
            with _collect(wrong):
                node = _bind_stage(twin, name, hop, specs, primary)
                nodes.append(node)
                unknown.remove(name)
                specs.update({f"{name}.{port}": spec for port, spec in node.op.outputs.items()})
                primary.update({f"{name}.{port}": f"{name}.{port}" for port in node.op.outputs})
                primary[name] = f"{name}.{next(iter(node.op.outputs))}"
        for shown in twin.show:
            with _collect(wrong):
                if shown.split(".")[0] not in unknown:
                    _resolve(shown, primary, f"{place}, show")
        if not wrong:
            longest = max((node.op.memory for node in nodes), default=Fraction(0)) + max(s.lag for s in specs.values())
            return Graph(twin, hop, tuple(nodes), specs, longest), []
    return None, wrong


@contextmanager
def _collect(wrong: list[DefinitionError]) -> Generator[None]:
    """While inside, a DefinitionError ends the block and is kept."""
    try:
        yield
    except DefinitionError as error:
        wrong.append(error)


def _hop(twin: Twin, place: str) -> Fraction:
    if twin.hop_s <= 0:
        raise DefinitionError(place, expected="a hop above zero", found=f"{float(twin.hop_s):g} s")
    if not twin.streams:
        raise DefinitionError(place, expected="at least one stream", found="none", mend="Add a Stream with its channels.")
    return twin.hop_s


def resolve(graph: Graph, reference: str) -> str:
    """Return the key in ``graph.specs`` of a reference (``"white"`` is its first port); raises DefinitionError."""
    primary = {key: key for key in graph.specs}
    primary |= {node.name: f"{node.name}.{next(iter(node.op.outputs))}" for node in graph.nodes}
    return _resolve(reference, primary, f"twin {graph.twin.name!r}")


def _check_stream(place: str, stream: Any, hop: Fraction, others: Container[str]) -> None:
    where = f"{place}, stream {stream.name!r}"
    if stream.name in others:
        raise DefinitionError(place, expected="streams of different names", found=f"{stream.name!r} twice")
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


def _order(twin: Twin, place: str, wrong: list[DefinitionError]) -> list[str]:
    """Return the stages' names so that each comes after what it reads; declaration order breaks ties. Raises on a cycle.

    A stage whose name or inputs are wrong is told in ``wrong`` and left out.
    """
    needs: dict[str, list[str]] = {}
    for name in twin.stages:
        with _collect(wrong):
            needs[name] = _needs(twin, name, f"{place}, stage {name!r}")
    try:
        return [name for name in TopologicalSorter(needs).static_order() if name in needs]
    except CycleError as error:
        circle = " -> ".join(reversed(error.args[1]))
        raise DefinitionError(
            place, expected="stages without a cycle", found=circle, mend="Take one of these inputs from a stream or an earlier stage."
        ) from None


def _needs(twin: Twin, name: str, place: str) -> list[str]:
    """Return the stages that a stage reads."""
    streams = {s.name for s in twin.streams}
    if name in streams or "." in name:
        raise DefinitionError(place, expected="a name of its own without a dot", found=repr(name))
    owners = {reference: reference.split(".")[0] for reference in twin.stages[name].inputs().values()}
    for reference, owner in owners.items():
        if owner not in streams and owner not in twin.stages:
            mend = _nearest(owner, [*streams, *twin.stages])
            raise DefinitionError(place, expected="an input that exists", found=repr(reference), mend=mend)
    return [owner for owner in owners.values() if owner not in streams]


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
                    mend="Give another input, put a stage between, or mend the channel's unit.",
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
