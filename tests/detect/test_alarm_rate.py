"""The asked rate is the rate that comes, whatever the law of the scores."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.signal import lfilter

from tests.detect.feeding import EPOCH, NS, block_op, feed

Draw = Callable[[np.random.Generator, tuple[int, ...]], NDArray[np.float64]]
ROWS, DAYS, DAY = 20, 4, 86_400


def moving(rng: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Gaussian noise of unit variance that remembers about ten samples: high scores come in clusters."""
    x = lfilter([np.sqrt(1 - 0.9**2)], [1, -0.9], rng.normal(size=shape), axis=-1)
    return np.asarray(x, np.float64)


def daily(rng: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Exponential noise whose scale swings by half over the day."""
    return rng.exponential(size=shape) * (1 + 0.5 * np.sin(2 * np.pi * np.arange(shape[-1]) / DAY))


LAWS: dict[str, tuple[str, Draw]] = {
    "exponential, stated": ("exponential", lambda rng, n: rng.exponential(size=n)),
    "normal, stated": ("normal", lambda rng, n: rng.normal(size=n)),
    "chi-squared, stated": ("chi2:3", lambda rng, n: rng.chisquare(3, size=n)),
    "exponential, not stated": ("", lambda rng, n: rng.exponential(size=n)),
    "normal, not stated": ("", lambda rng, n: np.abs(rng.normal(size=n))),
    "power law, not stated": ("", lambda rng, n: rng.pareto(3, size=n)),
    "Student's t stated as normal": ("normal", lambda rng, n: rng.standard_t(5, size=n)),
    "three times the stated scale": ("exponential", lambda rng, n: 3 * rng.exponential(size=n)),
    "half the stated scale": ("normal", lambda rng, n: 0.5 * rng.normal(size=n)),
    "clustered": ("normal", moving),
    "daily": ("exponential", daily),
}


@pytest.mark.parametrize("law", LAWS)
def test_false_alarms_come_at_the_asked_rate(law: str) -> None:
    null, draw = LAWS[law]
    values = draw(np.random.default_rng(7), (ROWS, 1, DAYS * DAY))
    _, events = feed(block_op(null, gap="20 s" if law == "clustered" else None, rate="1/h"), values)
    first = events["revision"] == 0
    day = (events["start"][first] - EPOCH * NS) // (DAY * NS)
    asked = ROWS * 24
    counts = np.bincount(day, minlength=DAYS) / asked
    later = counts[1:].mean()  # 1 +- 0.03 by Poisson's law alone
    assert 0.75 < later < 1.25 or (law == "half the stated scale" and later < 0.1)
    assert counts[0] < 1.75  # while the tail is being learned


def test_a_stated_law_that_holds_is_not_given_up_for_a_fit() -> None:
    """Far beyond the first peaks a fit would err: asked for one an hour, 60 rows are judged in their first two hours."""
    values = np.random.default_rng(8).exponential(size=(60, 1, 16 * 7200))
    _, events = feed(block_op("exponential", Fraction(16), hop=1, rate="1/h", gap="1/4 s"), values, hops=3600)
    first = int((events["revision"] == 0).sum())
    assert 90 < first < 155  # 120 +- 11 by Poisson's law alone
