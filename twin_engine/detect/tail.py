"""Surprise: how rare a score is under its stated null law, as -log p in nats, so that every known law has the same tail."""

from __future__ import annotations

from collections.abc import Callable
from math import lgamma, log
from typing import Any, cast

import numpy as np
from scipy import special  # pyright: ignore[reportMissingTypeStubs]

from twin_engine.errors import DefinitionError
from twin_engine.ports import Float

_special = cast("Any", special)
LAWS = '"normal", "exponential", "chi2:K", "neglog10p" or "" (unknown)'


def _normal(x: Float) -> Float:
    return -(log(2.0) + _special.log_ndtr(-np.abs(x)))


def _chi2(k: float) -> Callable[[Float], Float]:
    """Return -log of the survival function of chi-squared with k degrees; far out by its series (Abramowitz and Stegun 6.5.32)."""
    a = 0.5 * k

    def surprise(x: Float) -> Float:
        y = np.maximum(0.5 * x, 1e-300)
        near = -_special.xlogy(1.0, np.maximum(_special.gammaincc(a, y), 1e-300))
        series = 1.0 + (a - 1.0) / y * (1.0 + (a - 2.0) / y * (1.0 + (a - 3.0) / y))
        far = y - _special.xlogy(a - 1.0, y) + lgamma(a) - _special.xlogy(1.0, np.maximum(series, 1e-300))
        return np.asarray(np.where(near < 600.0, near, far), np.float64)

    return surprise


def surprise_of(null: str, place: str) -> Callable[[Float], Float]:
    """Return the function from scores to -log p in nats under the null law of a spec (two-sided for ``"normal"``).

    For the unknown law it is the score itself. Elementwise; a score that is not finite stays so. Raises DefinitionError.
    """
    name, _, degrees = null.partition(":")
    if name == "chi2" and degrees.replace(".", "", 1).isdigit() and float(degrees) > 0:
        return _chi2(float(degrees))
    laws: dict[str, Callable[[Float], Float]] = {
        "normal": _normal, "exponential": np.positive, "neglog10p": lambda x: x * log(10.0), "": np.positive,
    }  # fmt: skip
    if null not in laws:
        raise DefinitionError(f"{place}, null law {null!r}", expected=LAWS, found=repr(null), mend="Mend the spec of its source.")
    return laws[null]
