"""The laws that every stage passes, as properties. ``check_laws(case)`` runs them all; each raises ``LawError`` naming the law.

A case is a bound configuration with the specs of its inputs. Inputs are drawn from a seed: noise with steps and spikes, gaps in some
rows, each row on its own place of the epoch's grid. All comparisons are bit for bit on what is valid.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twin_engine.clock import NS, seconds, time_of
from twin_engine.ports import Block, BlockSpec, Int, Marks, Port, Spec
from twin_engine.snapshot import pack_arrays, unpack_arrays
from twin_engine.stage import Op
from twin_engine.testing.drawing import Case, Ports, cut, draw


class LawError(AssertionError):
    """A stage broke a law."""


def feed(op: Op, state: Any, case: Case, ports: Mapping[str, Port], cuts: Sequence[int], rows: Sequence[int]) -> tuple[Any, list[Ports]]:
    """Step through the cuts (hop numbers, ascending, first to last) and return the state and each step's outputs."""
    outs: list[Ports] = []
    for lo, hi in itertools.pairwise(cuts):
        state, out = op.step(state, cut(case, ports, lo, hi, rows))
        outs.append(out)
    return state, outs


def join(outs: Sequence[Ports]) -> Ports:
    """Return the outputs of successive steps as if they were one step's."""
    whole: Ports = {}
    for port in outs[0]:
        parts: list[Any] = [out[port] for out in outs]
        if isinstance(parts[0], Block):
            values, valid = (np.concatenate([getattr(p, k) for p in parts], axis=2) for k in ("values", "valid"))
            whole[port] = Block(values, valid, parts[0].rows, parts[0].start)
        else:
            row, time = (np.concatenate([getattr(p, k) for p in parts]) for k in ("row", "time"))
            order = np.argsort(row, kind="stable")  # within a row, the order in which they were given
            columns = {k: np.concatenate([p.columns[k] for p in parts])[order] for k in parts[0].columns}
            live = np.sum([p.live for p in parts], axis=0)
            whole[port] = Marks(row[order], time[order], columns, parts[0].rows, live, parts[-1].until)
    return whole


def pick(ports: Mapping[str, Port], row: int) -> Ports:
    """Return one row of some outputs, as row 0."""
    found: Ports = {}
    for name, port in ports.items():
        at = port.rows == row
        zero = np.zeros(1, np.int64)
        if isinstance(port, Block):
            found[name] = Block(port.values[at], port.valid[at], zero, port.start[at])
        else:
            keep = port.row == row
            columns = {k: v[keep] for k, v in port.columns.items()}
            found[name] = Marks(port.row[keep] * 0, port.time[keep], columns, zero, port.live[at], port.until[at])
    return found


def _bits(a: NDArray[Any]) -> NDArray[Any]:
    return a.view(np.int64) if a.dtype == np.float64 else a


def differ(a: Mapping[str, Port], b: Mapping[str, Port]) -> str:
    """Return what differs first between two outputs, bit for bit on what is valid, or an empty string."""
    for name, x in a.items():
        y = b[name]
        if isinstance(x, Block) and isinstance(y, Block):
            if not np.array_equal(x.start, y.start) or x.values.shape != y.values.shape:
                return f"{name}: start or shape"
            if not np.array_equal(x.valid, y.valid):
                return f"{name}: valid, first at {np.argwhere(x.valid != y.valid)[0]}"
            unlike = (_bits(np.ascontiguousarray(x.values)) != _bits(np.ascontiguousarray(y.values))) & x.valid
            if unlike.any():
                at = tuple(np.argwhere(unlike)[0])
                return f"{name}: value at {at}: {x.values[at]!r} and {y.values[at]!r}"
        elif isinstance(x, Marks) and isinstance(y, Marks):
            for field in ("row", "time", "rows", "live", "until"):
                if not np.array_equal(getattr(x, field), getattr(y, field)):
                    return f"{name}.{field}: {getattr(x, field)} and {getattr(y, field)}"
            for column, values in x.columns.items():
                if not np.array_equal(_bits(values), _bits(y.columns[column])):
                    return f"{name}.{column}"
    return ""


def _same(law: str, case: Case, a: Mapping[str, Port], b: Mapping[str, Port]) -> None:
    if what := differ(a, b):
        raise LawError(f"{law}: {type(case.stage).__name__}: {what}")


def _random_cuts(rng: np.random.Generator, hops: int) -> list[int]:
    return [0, *(int(i) + 1 for i in np.flatnonzero(rng.random(hops - 1) < rng.choice([0.1, 0.5]))), hops]


def check_chunking(case: Case, seed: int) -> None:
    """Law 1: k hops in one step equal k steps of one hop, and any other cutting: what comes out, and the state that is left."""
    ports, rows = draw(case, seed), list(range(case.rows))
    rng = np.random.default_rng(seed + 1)
    state, outs = feed(case.bind(), case.bind().init(case.rows), case, ports, [0, case.hops], rows)
    whole = join(outs)
    for cuts in (list(range(case.hops + 1)), _random_cuts(rng, case.hops)):
        op = case.bind()
        other, outs = feed(op, op.init(case.rows), case, ports, cuts, rows)
        _same("chunking", case, whole, join(outs))
        for name, array in state._asdict().items():
            if not np.array_equal(array, getattr(other, name), equal_nan=array.dtype.kind in "fc"):
                raise LawError(f"chunking: {type(case.stage).__name__}: state {name} depends on how hops were cut")


def check_snapshot(case: Case, seed: int) -> None:
    """Law 2: save and restore at any hop changes no later output."""
    ports, rows = draw(case, seed), list(range(case.rows))
    at = int(np.random.default_rng(seed + 2).integers(1, case.hops))
    op = case.bind()
    state, _ = feed(op, op.init(case.rows), case, ports, [0, at], rows)
    saved = pack_arrays(state._asdict())
    _, straight = feed(op, state, case, ports, [at, case.hops], rows)
    fresh = case.bind()
    restored = fresh.init(case.rows)._replace(**unpack_arrays(saved))
    _same("snapshot", case, join(straight), join(feed(fresh, restored, case, ports, [at, case.hops], rows)[1]))


def check_independence(case: Case, seed: int) -> None:
    """Law 3: a row never depends on another row, nor on which rows share the step."""
    ports, rows = draw(case, seed), list(range(case.rows))
    op = case.bind()
    half = case.hops // 2
    _, outs = feed(op, op.init(case.rows), case, ports, [0, half, case.hops], rows)
    whole = join(outs)
    mixed = op.init(case.rows)
    mixed, last = feed(op, mixed, case, ports, [0, half, case.hops], rows[-1:])
    mixed, rest = feed(op, mixed, case, ports, [0, half, case.hops], rows[:-1])
    for row in rows:
        _same("independence", case, pick(whole, row), pick(join(last if row == rows[-1] else rest), row))
    alone = {k: _only(v, rows[-1]) for k, v in ports.items()}
    _, single = feed(op, op.init(1), case, alone, [0, half, case.hops], [0])
    _same("independence", case, pick(whole, rows[-1]), pick(join(single), 0))


def _only(port: Port, row: int) -> Port:
    return pick({"x": port}, row)["x"]


def check_gap(case: Case, seed: int) -> None:
    """Law 4: what is invalid is never read, nothing valid is not finite, and silence gives nothing."""
    ports, rows = draw(case, seed), list(range(case.rows))
    op = case.bind()
    results: list[Ports] = []
    for fill in (np.nan, 1e300, -7.0):
        filled: Ports = {
            k: Block(np.where(p.valid, p.values, fill), p.valid, p.rows, p.start) if isinstance(p, Block) else p for k, p in ports.items()
        }
        results.append(join(feed(op, op.init(case.rows), case, filled, [0, case.hops], rows)[1]))
    for other in results[1:]:
        _same("gap", case, results[0], other)
    for name, port in results[0].items():
        if isinstance(port, Block) and not np.isfinite(port.values[port.valid]).all():
            raise LawError(f"gap: {type(case.stage).__name__}: {name} is valid and not finite")
    silent = {k: _silence(p) for k, p in ports.items()}
    for name, port in join(feed(op, op.init(case.rows), case, silent, [0, case.hops], rows)[1]).items():
        if port.valid.any() if isinstance(port, Block) else len(port):
            raise LawError(f"gap: {type(case.stage).__name__}: {name} says something of no input")


def _silence(port: Port) -> Port:
    if isinstance(port, Block):
        return Block(port.values, np.zeros_like(port.valid), port.rows, port.start)
    none = np.zeros(0, np.int64)
    return Marks(none, none, {k: v[:0] for k, v in port.columns.items()}, port.rows, port.live * 0, port.until)


def check_purity(case: Case, seed: int) -> None:
    """Law 5: inputs are not changed or aliased, only the given rows' state is written, nothing is kept outside the state."""
    ports, rows = draw(case, seed), list(range(case.rows))
    op, name = case.bind(), type(case.stage).__name__
    straight = join(feed(op, op.init(case.rows), case, ports, [0, case.hops // 2, case.hops], rows)[1])
    state, other = op.init(case.rows), op.init(case.rows)
    strange = draw(case, seed + 77)
    outs: list[Ports] = []
    for lo, hi in ((0, case.hops // 2), (case.hops // 2, case.hops)):
        given, before = cut(case, ports, lo, hi, rows), cut(case, ports, lo, hi, rows)
        state, out = op.step(state, given)
        if any(np.shares_memory(a, b) for a in _arrays(out) if a.size for b in (*_arrays(given), *state) if _kind(a) == _kind(b)):
            raise LawError(f"purity: {name}: an output shares memory with an input or the state")
        if any(a.tobytes() != b.tobytes() for a, b in zip(_arrays(given), _arrays(before), strict=True)):
            raise LawError(f"purity: {name}: an input was changed")
        outs.append(out)
        other, _ = op.step(other, cut(case, strange, lo, hi, rows))  # another fleet in between
    _same("purity", case, straight, join(outs))
    state, _ = op.step(op.init(case.rows), cut(case, ports, 0, case.hops, [0]))
    fresh = op.init(case.rows)
    if case.rows > 1 and any(not np.array_equal(a[1:], b[1:], equal_nan=a.dtype.kind == "f") for a, b in zip(state, fresh, strict=True)):
        raise LawError(f"purity: {name}: a step wrote the state of a row that it was not given")


def _kind(a: NDArray[Any]) -> str:
    return a.dtype.kind


def _arrays(ports: Mapping[str, Port]) -> list[NDArray[Any]]:
    found: list[NDArray[Any]] = []
    for port in ports.values():
        if isinstance(port, Block):
            found += [port.values, port.valid]
        else:
            found += [port.row, port.time, *port.columns.values()]
    return found


def check_memory(case: Case, seed: int) -> None:
    """Law 6: the state's size is constant after init, asset first, and the same for every asset."""
    ports, rows = draw(case, seed), list(range(case.rows))
    op = case.bind()
    fresh = op.init(case.rows)
    shapes = [(a.shape, a.dtype) for a in fresh]
    name = type(case.stage).__name__
    if any(shape[0] != case.rows for shape, _ in shapes):
        raise LawError(f"memory: {name}: a state array is not asset first: {shapes}")
    if any(not np.array_equal(a[:1], b, equal_nan=a.dtype.kind == "f") for a, b in zip(fresh, op.init(1), strict=True)):
        raise LawError(f"memory: {name}: init(1) is not the first row of init(n)")
    state, _ = feed(op, fresh, case, ports, [0, 1, case.hops], rows)
    if [(a.shape, a.dtype) for a in state] != shapes:
        raise LawError(f"memory: {name}: the state changed its shape: {shapes} to {[(a.shape, a.dtype) for a in state]}")


def check_causality(case: Case, seed: int) -> None:
    """Law 7: no output before t - lag depends on input from t on, and ``start`` has the stated lag taken off."""
    ports, rows = draw(case, seed, gaps=False), list(range(case.rows))
    later = draw(case, seed + 5, gaps=False)
    hop, at = seconds(case.hop), int(np.random.default_rng(seed + 3).integers(1, case.hops))
    mixed: Ports = {}
    for role, port in ports.items():
        head, tail = cut(case, ports, 0, at, rows)[role], cut(case, {role: _moved(later[role], port)}, at, case.hops, rows)[role]
        mixed[role] = join([{role: head}, {role: tail}])[role]
    op = case.bind()
    a = join(feed(op, op.init(case.rows), case, ports, [0, case.hops], rows)[1])
    b = join(feed(op, op.init(case.rows), case, mixed, [0, case.hops], rows)[1])
    begin = _begin(case, ports)
    for name, spec in op.outputs.items():
        limit = begin + time_of(0, Fraction(1)) + int((at * hop - spec.lag) * NS)
        _same("causality", case, {name: _before(a[name], spec, limit)}, {name: _before(b[name], spec, limit)})
        port = a[name]
        if isinstance(port, Block) and isinstance(spec, BlockSpec):
            expected = (time_of(port.start, spec.rate) - begin) + int(spec.lag * NS)
            if np.abs(expected).max() > int(NS / spec.rate) // 2 + 1:
                raise LawError(f"causality: {type(case.stage).__name__}: {name}.start does not have the stated lag taken off")
            if port.n != case.hops * hop * spec.rate:
                raise LawError(f"causality: {type(case.stage).__name__}: {name} does not put out whole hops")


def _begin(case: Case, ports: Mapping[str, Port]) -> Int:
    role, port = next(iter(ports.items()))
    spec = case.inputs[role]
    if isinstance(port, Block) and isinstance(spec, BlockSpec):
        return time_of(port.start, spec.rate)
    assert isinstance(port, Marks)
    return port.until - case.hops * int(seconds(case.hop) * NS)


def _moved(port: Port, like: Port) -> Port:
    """Return a port with the times of another."""
    if isinstance(port, Block) and isinstance(like, Block):
        return Block(port.values, port.valid, like.rows, like.start)
    assert isinstance(port, Marks)
    assert isinstance(like, Marks)
    shift = (like.until - port.until)[port.row]
    columns = {k: v + shift if k in {"start", "end"} else v for k, v in port.columns.items()}
    return Marks(port.row, port.time + shift, columns, like.rows, port.live, like.until)


def _before(port: Port, spec: Spec, limit: Int) -> Port:
    """Return a port with all that is at or after each row's limit (ns) made invalid or left out."""
    if isinstance(port, Block) and isinstance(spec, BlockSpec):
        time = np.stack([time_of(np.arange(s, s + port.n, dtype=np.int64), spec.rate) for s in port.start])
        valid = port.valid & (time < limit[port.rows][:, None])[:, None, :]
        return Block(port.values, valid, port.rows, port.start)
    assert isinstance(port, Marks)
    keep = port.time < limit[port.row]
    columns = {k: v[keep] for k, v in port.columns.items()}
    return Marks(port.row[keep], port.time[keep], columns, port.rows, port.live * 0, port.until)


LAWS: dict[str, Callable[[Case, int], None]] = {
    "chunking": check_chunking,
    "snapshot": check_snapshot,
    "independence": check_independence,
    "gap": check_gap,
    "purity": check_purity,
    "memory": check_memory,
    "causality": check_causality,
}


def check_laws(case: Case, seed: int = 0) -> None:
    """Run every law but the oracle's on one drawn input; raises LawError."""
    for law in LAWS.values():
        law(case, seed)
