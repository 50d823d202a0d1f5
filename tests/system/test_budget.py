"""Size is a budget: modules of 120 lines at the median and 400 at most, functions of 45 lines at the 95th percentile."""

from __future__ import annotations

import ast
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[2]
MODULES = [p for folder in ("twin_engine", "streams", "twins") for p in sorted((ROOT / folder).rglob("*.py"))]


def test_modules_are_small() -> None:
    lines = {str(p.relative_to(ROOT)): len(p.read_text().splitlines()) for p in MODULES}
    assert {name: n for name, n in lines.items() if n > 400} == {}
    assert np.median([n for n in lines.values() if n > 1]) <= 120


def test_functions_are_short() -> None:
    nodes = [n for p in MODULES for n in ast.walk(ast.parse(p.read_text())) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
    assert np.percentile([n.end_lineno - n.lineno + 1 for n in nodes], 95) <= 45
