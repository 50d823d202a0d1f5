"""Outputs and states do not depend on how many threads share a step."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from twin_engine.errors import DefinitionError
from twin_engine.kernels import threads
from twin_engine.ports import Block, BlockSpec
from twin_engine.signal import QTriggers, Whiten

RATE = 512


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    yield
    threads.threads.cache_clear()
    threads._pool.cache_clear()


def use(count: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TWIN_ENGINE_THREADS", count)
    threads.threads.cache_clear()
    threads._pool.cache_clear()


def chain(rows: int, channels: int) -> list[np.ndarray]:
    x = np.random.default_rng(0).normal(size=(rows, channels, 8 * RATE))
    x[..., 6 * RATE : 6 * RATE + 9] += 20
    spec: Any = BlockSpec(Fraction(RATE), tuple(f"c{c}" for c in range(channels)))
    port: Any = Block(x, np.ones(x.shape, bool), np.arange(rows), np.full(rows, 1000 * RATE))
    found: list[np.ndarray] = []
    for stage in (Whiten("x", memory="4 s", segment="1/2 s", warm_up="2 s"), QTriggers("x", band=(20, 200), q=(4, 32))):
        op = stage.bind(Fraction(1, 4), {"source": spec})
        state, out = op.step(op.init(rows), {"source": port})
        port, spec = next(iter(out.values())), next(iter(op.outputs.values()))
        found += list(state)
    return [*found, *port.columns.values(), out["energy"].values]


@pytest.mark.parametrize(("rows", "channels"), [(1, 1), (1, 5), (3, 1)])
def test_the_number_of_threads_changes_no_bit(rows: int, channels: int, monkeypatch: pytest.MonkeyPatch) -> None:
    use("1", monkeypatch)
    alone = chain(rows, channels)
    use("3", monkeypatch)
    for one, other in zip(alone, chain(rows, channels), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("count", ["0", "two", "-1"])
def test_a_number_of_threads_that_is_none_is_refused(count: str, monkeypatch: pytest.MonkeyPatch) -> None:
    use(count, monkeypatch)
    with pytest.raises(DefinitionError):
        threads.threads()
