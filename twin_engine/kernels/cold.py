"""Whether kernels were compiled before."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from typing import Any, cast

import numba

from twin_engine.kernels import _jit  # noqa: F401  # pyright: ignore[reportUnusedImport]  (it says where they are kept)


def compiled_mark(name: str) -> Path:
    """Return the path of a mark beside the compiled kernels, which begin anew in another folder whenever their sources change.

    It is of this installation alone: numba keeps what it compiled by the path of the source.
    """
    here = sha256(str(Path(__file__).resolve().parent).encode()).hexdigest()[:16]
    return Path(cast("Any", numba).config.CACHE_DIR) / f"{name}-{here}.compiled"
