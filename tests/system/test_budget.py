"""Size is a budget: modules of 120 lines at the median and 400 at most, functions of 45 lines at the 95th percentile."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[2]
MODULES = [p for folder in ("twin_engine", "streams", "twins") for p in sorted((ROOT / folder).rglob("*.py"))]


def test_modules_are_small() -> None:
    lines = {str(p.relative_to(ROOT)): len(p.read_text().splitlines()) for p in MODULES}
    assert {name: n for name, n in lines.items() if n > 400} == {}
    assert np.median([n for n in lines.values() if n > 1]) <= 120


LENGTHS = """
import ast, pathlib, sys
for path in sys.argv[1:]:
    for node in ast.walk(ast.parse(pathlib.Path(path).read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            print(node.end_lineno - node.lineno + 1)
"""


def test_functions_are_short() -> None:
    # in a process of its own: Python 3.11 parses wrongly where another thread, or the collector, comes between (CPython issue 106905)
    found = subprocess.run([sys.executable, "-c", LENGTHS, *map(str, MODULES)], check=True, capture_output=True, text=True)
    assert np.percentile([int(line) for line in found.stdout.split()], 95) <= 45
