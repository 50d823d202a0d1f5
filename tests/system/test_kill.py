"""kill -9 at random moments of a run from the command line: the events file and the snapshot equal an undisturbed run's."""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from twin_engine.run import SNAPSHOT
from twin_engine.snapshot import read_snapshot

SIM = "sim:?seed=11&duration=600&glitches=12"


def start(folder: Path) -> subprocess.Popen[bytes]:
    command = [
        sys.executable, "-m", "twin_engine.cli", "run", "interferometer", "--from", SIM, "--asset", "V1", "--speed", "max",
        "--to", f"jsonl:{folder / 'events.jsonl'}", "--state", str(folder / "state"),
    ]  # fmt: skip
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def finish(process: subprocess.Popen[bytes]) -> None:
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors.decode()


def kill_and_compare(tmp_path: Path, kills: int, seed: int) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    whole.mkdir()
    cut.mkdir()
    finish(start(whole))
    chance = random.Random(seed)
    landed = 0
    while landed < kills:
        with start(cut) as process:
            try:
                process.wait(timeout=chance.uniform(0.3, 8.0))
            except subprocess.TimeoutExpired:
                process.kill()
                landed += 1
                continue
        shutil.rmtree(cut / "state")  # played to its end before the kill: begin again
    finish(start(cut))
    events = (whole / "events.jsonl").read_bytes()
    assert events.count(b"\n") >= 3
    assert events == (cut / "events.jsonl").read_bytes()
    a, b = (read_snapshot(folder / "state" / SNAPSHOT) for folder in (whole, cut))
    assert a is not None
    assert b is not None
    assert a.document == b.document
    for name, array in a.arrays.items():
        np.testing.assert_array_equal(array, b.arrays[name], err_msg=name)


def test_five_kills(tmp_path: Path) -> None:
    kill_and_compare(tmp_path, 5, seed=1)


@pytest.mark.soak
def test_fifty_kills(tmp_path: Path) -> None:
    kill_and_compare(tmp_path, 50, seed=2)
