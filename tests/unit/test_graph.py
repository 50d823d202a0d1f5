"""Definitions that are wrong say where, what and how to mend it; joins of early and late inputs cover the same time."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from typing import ClassVar, NamedTuple

import numpy as np
import pytest

from tests.laws.mean import Mean
from twin_engine.check import report
from twin_engine.clock import NS
from twin_engine.detect import Alarm, Level
from twin_engine.errors import DefinitionError
from twin_engine.fleet import Fleet
from twin_engine.graph import bind, examine
from twin_engine.ports import Block, BlockSpec, Frame, relabel
from twin_engine.stage import Op, Stage, block_input, samples
from twin_engine.twin import Channel, Stream, Twin


class LateState(NamedTuple):
    values: np.ndarray
    valid: np.ndarray


class LateOp(Op):
    """Gives its input again n samples later, and says so."""

    def __init__(self, spec: BlockSpec, n: int) -> None:
        self.n, self.channels = n, len(spec.channels)
        self.outputs = {"late": relabel(spec, lag=spec.lag + n / spec.rate)}

    def init(self, assets: int) -> LateState:
        shape = (assets, self.channels, self.n)
        return LateState(np.zeros(shape), np.zeros(shape, bool))

    def step(self, state, inputs):
        x = inputs["source"]
        values = np.concatenate([state.values[x.rows], x.values], 2)
        valid = np.concatenate([state.valid[x.rows], x.valid], 2)
        state.values[x.rows], state.valid[x.rows] = values[:, :, x.n :], valid[:, :, x.n :]
        return state, {"late": Block(values[:, :, : x.n].copy(), valid[:, :, : x.n].copy(), x.rows, x.start - self.n)}


@dataclass(frozen=True)
class Late(Stage):
    source: str
    n: int = 3

    def bind(self, hop, specs):
        return LateOp(block_input(self, "source", specs), self.n)


class DifferenceOp(Op):
    def __init__(self, spec: BlockSpec) -> None:
        self.outputs = {"difference": spec}

    def init(self, assets: int) -> NamedTuple:
        return LateState(np.zeros((assets, 0)), np.zeros((assets, 0), bool))

    def step(self, state, inputs):
        a, b = inputs["a"], inputs["b"]
        assert (a.start == b.start).all()
        return state, {"difference": Block(a.values - b.values, a.valid & b.valid, a.rows, a.start)}


@dataclass(frozen=True)
class Difference(Stage):
    a: str
    b: str
    INPUTS: ClassVar = ("a", "b")
    UNITS: ClassVar = {"b": "V"}

    def bind(self, hop, specs):
        return DifferenceOp(block_input(self, "b", specs))


def twin(stages: dict[str, Stage], *, rate: object = 4, hop: object = "1 s", unit: str = "V") -> Twin:
    return Twin("t", hop, [Stream("s", rate, [Channel("x", unit)])], stages)


def frame(values: np.ndarray, first: int = 100) -> Frame:
    rows = np.arange(len(values))
    x = Block(values, np.isfinite(values), rows, np.full(len(values), first * 4))
    return Frame({"s": x}, np.zeros(len(values), bool), values.shape[2] // 4, np.full(len(values), first), rows)


def test_the_early_input_of_a_join_is_held_back() -> None:
    graph = bind(twin({"late": Late("s"), "zero": Difference("s", "late")}))
    fleet = Fleet(graph, ["a"])
    x = np.random.default_rng(0).normal(size=(1, 1, 16))
    for k in range(2):
        out = fleet.step(frame(x[:, :, k * 8 : k * 8 + 8], 100 + 2 * k))["zero.difference"]
        assert (out.values[out.valid] == 0).all()
        assert out.start[0] == 400 + 8 * k - 3
        assert out.valid.sum() == (5 if k == 0 else 8)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (lambda: twin({"m": Mean("q")}), "Known are|Did you mean"),
        (lambda: twin({"a": Mean("b"), "b": Mean("a")}), "cycle"),
        (lambda: twin({"m": Mean("s")}, rate="1/3 min"), "whole number of samples"),
        (lambda: twin({"m": Mean("s")}, unit="furlongs per banana"), "pint"),
        (lambda: twin({"m": Difference("s", "s")}, unit="kg"), "unit like 'V'"),
        (lambda: twin({"s": Mean("s")}), "a name of its own"),
        (lambda: twin({"m": Mean("s.mean")}), "stage.port"),
        (lambda: twin({"m": Mean("s")}, hop="1 fortnight"), "a number and a unit"),
        (lambda: twin({"m": Late("s"), "n": Late("m.lat")}), "Did you mean 'm.late'"),
    ],
)
def test_what_is_wrong_is_explained(wrong, says) -> None:
    with pytest.raises(DefinitionError, match=says):
        bind(wrong())


def test_all_that_can_be_told_is_told_at_once() -> None:
    streams = [Stream("s", 4, [Channel("x", "V")]), Stream("odd", "1/3 min", [Channel("y")]), Stream("bad", 4, [Channel("z", "bananas")])]
    stages: dict[str, Stage] = {
        "late": Late("s"), "typo": Mean("lat"), "after": Mean("typo"), "mean": Mean("odd"), "wrong": Mean("late.lat"), "cut": Late("s"),
        "a.b": Mean("s"),
    }  # fmt: skip
    graph, wrong = examine(Twin("t", "1 s", streams, stages, show=("cut.late", "nowhere", "typo")))
    assert graph is None
    places = sorted(f"{error.place}: {error.found}" for error in wrong)
    assert [place.split("twin 't', ")[1].split(":")[0] for place in places] == [
        "show", "stage 'a.b'", "stage 'typo'", "stage 'wrong'", "stream 'bad', channel 'z'", "stream 'odd'",
    ]  # fmt: skip
    assert examine(twin({"late": Late("s")}))[1] == []


def test_an_alarm_on_what_no_stage_has_judged_is_told_by_its_unit() -> None:
    room = Twin("room", "1 s", [Stream("s", 1, [Channel("temperature", "degC")])], {"level": Level("s"), "alarm": Alarm("s", rate="1/day")})
    with pytest.raises(DefinitionError, match=r"stage 'alarm', input 'source'.*unit like '1'.*'temperature' in 'degC'.*stage between"):
        bind(room)
    assert bind(replace(room, stages={"level": Level("s"), "alarm": Alarm("level", rate="1/day")})).nodes
    with pytest.raises(DefinitionError, match="unit like '1'"):
        bind(replace(room, stages={"level": Level("s"), "alarm": Alarm("level.scale", rate="1/day")}))


def test_a_window_shorter_than_a_sample_is_refused() -> None:
    with pytest.raises(DefinitionError, match="at least one sample"):
        samples(Fraction(1, 100), Fraction(4), "stage 'm', memory")


class BadOp(LateOp):
    """Says that something is valid which is not finite."""

    def step(self, state, inputs):
        state, out = super().step(state, inputs)
        out["late"].values[inputs["source"].values > 10] = np.inf
        return state, out


@dataclass(frozen=True)
class Bad(Stage):
    source: str

    def bind(self, hop, specs):
        return BadOp(block_input(self, "source", specs), 1)


def test_a_row_whose_numerics_fail_is_masked_counted_and_begun_anew() -> None:
    counted = []
    fleet = Fleet(bind(twin({"bad": Bad("s")})), ["a", "b"], count=lambda reason, n: counted.append((reason, n)))
    x = np.ones((2, 1, 8))
    x[1, 0, 4] = 11
    out = fleet.step(frame(x))["bad.late"]
    assert counted == [("numerics", 1)]
    assert not out.valid[1, 0, 4]
    assert out.valid[0, 0, 1:].all()
    again = fleet.step(frame(np.ones((2, 1, 8)), 102))["bad.late"]
    assert again.valid[0, 0, 0]
    assert not again.valid[1, 0, 0]  # the held sample is gone


def test_a_changed_stage_begins_anew_and_the_others_keep_their_state() -> None:
    before = Fleet(bind(twin({"m": Mean("s"), "late": Late("s")})), ["a"])
    before.step(frame(np.ones((1, 1, 8))))
    saved = {k: v.copy() for k, v in before.arrays().items()}
    after = Fleet(bind(twin({"m": Mean("s"), "late": Late("s", 2)})), ["a"], saved, before.digests())
    assert after.fresh == ["late"]
    assert after.arrays()["m/mean"] == saved["m/mean"]
    assert after.arrays()["late/values"].shape == (1, 1, 2)


def test_a_report_tells_lag_and_bytes() -> None:
    rows = report(twin({"late": Late("s"), "zero": Difference("s", "late")}))
    assert [r.name for r in rows] == ["late", "zero"]
    assert rows[1].lag == pytest.approx(0.75)
    assert rows[0].state_bytes == 3 * 8 + 3
    assert NS == 10**9
