"""Every registered stage keeps every law; every law catches its mutant."""

from __future__ import annotations

import importlib
import pkgutil
from fractions import Fraction

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import twin_engine
from tests.laws import mean
from twin_engine.ports import BlockSpec
from twin_engine.stage import REGISTRY
from twin_engine.testing.cases import CASES
from twin_engine.testing.laws import LAWS, Case, LawError, check_laws

for package in ("signal", "detect", "estimate"):
    home = importlib.import_module(f"twin_engine.{package}")
    for module in pkgutil.iter_modules(home.__path__):
        importlib.import_module(f"{home.__name__}.{module.name}")

SHIPPED = sorted(name for name, stage in REGISTRY.items() if stage.__module__.startswith(f"{twin_engine.__name__}."))
SPEC = BlockSpec(Fraction(8), ("a", "b"))
MUTANTS = {
    "chunking": [mean.ChunkingMutant],
    "snapshot": [mean.SnapshotMutant],
    "independence": [mean.IndependenceMutant],
    "gap": [mean.GapMutant],
    "purity": [mean.PurityMutant, mean.WritingMutant],
    "memory": [mean.MemoryMutant],
    "causality": [mean.CausalityMutant, mean.LagMutant],
}


def case(op: type) -> Case:
    return Case(mean.Mean("x", op), "1 s", {"source": SPEC}, 20)


@given(st.integers(0, 2**32))
@settings(max_examples=10, deadline=None)
def test_a_lawful_stage_passes(seed: int) -> None:
    check_laws(case(mean.MeanOp), seed)


@pytest.mark.parametrize(("law", "mutant"), [(law, m) for law, ms in MUTANTS.items() for m in ms])
def test_each_law_catches_its_mutant(law: str, mutant: type) -> None:
    with pytest.raises(LawError, match=law):
        LAWS[law](case(mutant), 1)


def test_each_law_has_a_mutant() -> None:
    assert set(MUTANTS) == set(LAWS)


def test_each_stage_has_a_case() -> None:
    assert set(SHIPPED) <= set(CASES)


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("name", sorted(CASES))
@given(seed=st.integers(0, 2**32))
@settings(max_examples=2, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
def test_every_stage_keeps_every_law(name: str, law: str, seed: int) -> None:
    LAWS[law](CASES[name](), seed)
