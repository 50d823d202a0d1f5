"""The one place that compiles: a decorator that fixes cache, error model and float flags for every kernel."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, ParamSpec, TypeVar, cast

import llvmlite  # pyright: ignore[reportMissingTypeStubs]
import numba
import numpy as np

P = ParamSpec("P")
R = TypeVar("R")

# Never nnan or ninf: kernels must see NaN and Inf as they are. Reassociation makes a sum depend on how its loop was cut, so it is for
# reductions of a fixed length alone (windows, dot products), never for a sum carried from step to step.
REASSOCIATE = {"reassoc", "nsz", "arcp", "contract"}


def _cache_dir() -> str:
    """Return a cache folder keyed by all kernel sources and library versions.

    Numba alone runs a stale kernel when a helper in another file has changed.
    """
    digest = hashlib.sha256(f"{sys.version} {numba.__version__} {llvmlite.__version__} {np.__version__}".encode())
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return str(Path(base) / "twin-engine" / f"kernels-{digest.hexdigest()[:16]}")


if not os.environ.get("NUMBA_CACHE_DIR"):
    numba.config.CACHE_DIR = _cache_dir()  # type: ignore[attr-defined]


def _compile(function: Callable[P, R], **more: Any) -> Callable[P, R]:
    """Compile; a private function is called by kernels alone: it gets no way in from Python, which is a fifth of all compile time."""
    private = function.__name__.startswith("_")
    options = {"cache": True, "nogil": True, "error_model": "numpy", "no_cpython_wrapper": private, "no_cfunc_wrapper": private}
    return cast("Callable[P, R]", cast("Any", numba).njit(**options, **more)(function))


def kernel(function: Callable[P, R]) -> Callable[P, R]:
    """Compile at first call, cached on disk, without the GIL, dividing by zero as IEEE 754 does. Strict floating point.

    Arrays come from the caller and none is made: references to them are not counted. Numba would count one, atomically, at each access to
    an array in a tuple, which in small work on many arrays is nearly all of the time.
    """
    return _compile(function, _nrt=False)


def owning_kernel(function: Callable[P, R]) -> Callable[P, R]:
    """Compile like ``kernel``, for what makes arrays of its own."""
    return _compile(function, _nrt=True)


def fixed_length_kernel(function: Callable[P, R]) -> Callable[P, R]:
    """Compile like ``kernel``, with sums free to be vectorised: only for loops whose length no chunking changes."""
    return _compile(function, _nrt=True, fastmath=REASSOCIATE)
