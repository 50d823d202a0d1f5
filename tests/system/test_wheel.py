"""The wheel, built and installed into a clean environment with the core alone, runs."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest

ROOT = Path(__file__).parents[2]
UV = shutil.which("uv", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]))
pytestmark = pytest.mark.skipif(UV is None, reason="needs uv, which `make test` installs")


def call(*words: object, cwd: Path) -> str:
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "VIRTUAL_ENV"))}
    done = subprocess.run([str(w) for w in words], cwd=cwd, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    call(UV, "build", "-q", "--wheel", "--out-dir", folder, ROOT, cwd=folder)
    (wheel,) = folder.glob("*.whl")
    parts = {name.split("/")[0] for name in ZipFile(wheel).namelist() if ".dist-info" not in name}
    assert parts == {"twin_engine", "streams", "twins"}
    call(UV, "venv", "-q", "--python", sys.executable, folder / "venv", cwd=folder)
    python = folder / "venv" / "bin" / "python"
    call(UV, "pip", "install", "-q", "--python", python, "-c", ROOT / "constraints.txt", wheel, cwd=folder)
    return folder


def test_it_finds_itself_sound(installed: Path) -> None:
    program = installed / "venv" / "bin" / "twin-engine"
    call(program, "doctor", cwd=installed)
    assert "interferometer" in call(program, "twins", cwd=installed)
    assert "right" in call(program, "check", "interferometer", cwd=installed)
    python = installed / "venv" / "bin" / "python"
    call(python, "-c", "from twin_engine.sim import CURVES, curve; [curve(name) for name in CURVES]", cwd=installed)


def test_a_new_twin_runs_on_its_simulator(installed: Path) -> None:
    program = installed / "venv" / "bin" / "twin-engine"
    call(program, "new", "pump", cwd=installed)
    call(program, "run", "pump.py", "--from", "sim:?seed=1&duration=7200&faults=leak@5400:600", "--to", "jsonl:events.jsonl", cwd=installed)
    events = [json.loads(line) for line in (installed / "events.jsonl").read_text().splitlines()]
    assert [e["kind"] for e in events]
