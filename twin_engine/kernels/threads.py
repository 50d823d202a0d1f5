"""Parts of a step side by side: kernels and FFTs release the interpreter's lock, and each part writes only its own rows and channels."""

from __future__ import annotations

import os
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


def in_parts(rows: int, channels: int, call: Callable[[slice, slice], None]) -> None:
    """Call ``call(rows, channels)`` once for each share of rows or, where there are more of them, of channels; return when all are done.

    The calls run at the same time and must give the same whatever the shares are.
    """
    count = min(threads(), max(rows, channels))
    cuts = [max(rows, channels) * k // count for k in range(count + 1)] if count else []
    shares = [slice(a, b) for a, b in pairwise(cuts)]
    parts = [(slice(0, rows), share) if channels > rows else (share, slice(0, channels)) for share in shares]
    waiting = [_pool().submit(call, *part) for part in parts[1:]]
    for part in parts[:1]:
        call(*part)
    for future in waiting:
        future.result()
