"""Grafana's published types (npm ``@grafana/schema``) as a check of dashboards: their JSON as TypeScript, compiled against them.

An unknown key, a wrong type or a word that an enumeration does not have is an error of the compiler, in the dashboard, in each panel's
options and in its fields' custom part.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

PACKAGES = ("@grafana/schema@13.2.3", "typescript@5.9.3")
_HEAD = """
import type { Dashboard, Panel } from '@grafana/schema';
import type * as timeseries from './node_modules/@grafana/schema/dist/types/raw/composable/timeseries/panelcfg/x/types.gen';
import type * as stat from './node_modules/@grafana/schema/dist/types/raw/composable/stat/panelcfg/x/types.gen';
import type * as table from './node_modules/@grafana/schema/dist/types/raw/composable/table/panelcfg/x/types.gen';
import type * as xychart from './node_modules/@grafana/schema/dist/types/raw/composable/xychart/panelcfg/x/types.gen';

// the same as JSON has it: words for the members of an enumeration of words
type Json<T> = T extends string ? `${T}` : T extends number | boolean | null | undefined ? T
  : T extends Array<infer U> ? Array<Json<U>> : T extends object ? { [K in keyof T]: Json<T[K]> } : T;
"""
_CUSTOM = {
    "timeseries": "timeseries.FieldConfig",
    "xychart": "xychart.FieldConfig",
    "table": "table.FieldConfig",
    "stat": "Record<string, never>",
}


def packages(folder: Path) -> Path:
    """Return a folder with the packages installed; skips the test, with the reason, where they cannot be had."""
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("no npm: Grafana's published types cannot be had")
    command = [npm, "install", "--silent", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix", str(folder), *PACKAGES]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    except subprocess.TimeoutExpired:
        pytest.skip("npm does not answer: Grafana's published types cannot be had")
    if done.returncode:
        pytest.skip(f"npm cannot install Grafana's published types: {done.stderr.strip()[-200:]}")
    return folder


def program(boards: dict[str, Any]) -> str:
    """Return the dashboards as TypeScript."""
    parts = [_HEAD]
    for number, given in enumerate(boards.values()):
        board = json.loads(json.dumps(given))
        for annotation in board.get("annotations", {}).get("list", []):
            annotation["target"].pop("query")  # the data source's own: the types of the dashboard have the common part only
        parts.append(f"const board{number}: Json<Dashboard> = {json.dumps(board)};")
        for panel in board["panels"]:
            kind, place = panel["type"], f"{number}_{panel['id']}"
            parts.append(f"const panel{place}: Json<Panel> = {json.dumps(panel)};")
            parts.append(f"const options{place}: Json<Partial<{kind}.Options>> = {json.dumps(panel['options'])};")
            custom = panel["fieldConfig"]["defaults"].get("custom", {})
            parts.append(f"const custom{place}: Json<Partial<{_CUSTOM[kind]}>> = {json.dumps(custom)};")
    return "\n".join(parts) + "\n"


def complaints(folder: Path, text: str) -> str:
    """Return what the compiler says of a program: nothing where it is right."""
    path = folder / "boards.ts"
    path.write_text(text)
    tsc = folder / "node_modules" / "typescript" / "bin" / "tsc"
    flags = ["--noEmit", "--strict", "--skipLibCheck", "--moduleResolution", "bundler", "--module", "esnext", "--target", "es2022"]
    done = subprocess.run(["node", str(tsc), *flags, str(path)], capture_output=True, text=True, timeout=120, check=False, cwd=folder)
    return done.stdout
