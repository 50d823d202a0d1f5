"""Surprise: how rare a score is under its stated null law, as -log p in nats, so that every known law has the same tail."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from math import lgamma, log
from typing import Any

import numpy as np

from twin_engine.errors import DefinitionError
from twin_engine.ports import Float

LAWS = '"normal", "exponential", "chi2:K", "neglog10p" or "" (unknown)'


def _normal() -> Callable[[Float], Float]:
    special = _special()
    return lambda x: -(log(2.0) + special.log_ndtr(-np.abs(x)))


def _chi2(k: float) -> Callable[[Float], Float]:
    """Return -log of the survival function of chi-squared with k degrees; far out by its series (Abramowitz and Stegun 6.5.32)."""
    a, special = 0.5 * k, _special()

    def surprise(x: Float) -> Float:
        y = np.maximum(0.5 * x, 1e-300)
        near = -special.xlogy(1.0, np.maximum(special.gammaincc(a, y), 1e-300))
        series = 1.0 + (a - 1.0) / y * (1.0 + (a - 2.0) / y * (1.0 + (a - 3.0) / y))
        far = y - special.xlogy(a - 1.0, y) + lgamma(a) - special.xlogy(1.0, np.maximum(series, 1e-300))
        return np.asarray(np.where(near < 600.0, near, far), np.float64)

    return surprise


def _special() -> Any:
    return import_module("scipy.special")  # a quarter of a second: for the laws that need it


def surprise_of(null: str, place: str) -> Callable[[Float], Float]:
    """Return the function from scores to -log p in nats under the null law of a spec (two-sided for ``"normal"``).

    For the unknown law it is the score itself. Elementwise; a score that is not finite stays so. Raises DefinitionError.
    """
    name, _, degrees = null.partition(":")
    if name == "chi2" and degrees.replace(".", "", 1).isdigit() and float(degrees) > 0:
        return _chi2(float(degrees))
    if null == "normal":
        return _normal()
    laws: dict[str, Callable[[Float], Float]] = {
        "exponential": np.positive, "neglog10p": lambda x: x * log(10.0), "": np.positive,
    }  # fmt: skip
    if null not in laws:
        raise DefinitionError(f"{place}, null law {null!r}", expected=LAWS, found=repr(null), mend="Mend the spec of its source.")
    return laws[null]
