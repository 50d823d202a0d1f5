"""Whether kernels were compiled before."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import numba

from twin_engine.kernels import _jit  # noqa: F401  # pyright: ignore[reportUnusedImport]  (it says where they are kept)


def compiled_mark(name: str) -> Path:
    """Return the path of a mark beside the compiled kernels, which begin anew in another folder whenever their sources change."""
    return Path(cast("Any", numba).config.CACHE_DIR) / f"{name}.compiled"
