"""Parts of a step side by side: kernels and FFTs release the interpreter's lock, and each part writes only its own rows and channels."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from itertools import pairwise

from twin_engine.errors import DefinitionError


@lru_cache(1)
def threads() -> int:
    """Return how many threads a step may use: ``TWIN_ENGINE_THREADS``, or the processors that this process may use."""
    text = os.environ.get("TWIN_ENGINE_THREADS")
    if text is None:
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if not text.isdecimal() or int(text) < 1:
        raise DefinitionError("TWIN_ENGINE_THREADS", expected="a whole number above 0", found=repr(text))
    return int(text)


@lru_cache(1)
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads() - 1, "twin-engine-part")


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.cache_clear)  # a child process has no threads but its own


def in_parts(rows: int, channels: int, call: Callable[[slice, slice], None], most: int = sys.maxsize) -> None:
    """Call ``call(rows, channels)`` once for each share of rows or, where there are more of them, of channels; return when all are done.

    A share is handed over in pieces of at most ``most`` rows or channels. The calls run at the same time and must give the same
    whatever the shares are.
    """
    count = min(threads(), max(rows, channels))
    cuts = [max(rows, channels) * k // count for k in range(count + 1)] if count else []

    def share(begin: int, end: int) -> None:
        for at in range(begin, end, most):
            piece = slice(at, min(at + most, end))
            call(*((slice(0, rows), piece) if channels > rows else (piece, slice(0, channels))))

    waiting = [_pool().submit(share, *ends) for ends in pairwise(cuts[1:])]
    if count:
        share(*cuts[:2])
    for future in waiting:
        future.result()


Split = Callable[[int, int, Callable[[slice], None]], None]


def in_slices(count: int, most: int, call: Callable[[slice], None]) -> None:
    """Call ``call`` with slices of at most ``most`` that make up ``count``; not from within one of the threads that share them."""
    if count > most:
        in_parts(count, 1, lambda part, _: call(part), most)
    elif count:
        call(slice(0, count))


def in_turn(count: int, most: int, call: Callable[[slice], None]) -> None:
    """Call ``call`` with slices of at most ``most`` that make up ``count``, one after the other."""
    for at in range(0, count, most):
        call(slice(at, min(at + most, count)))
