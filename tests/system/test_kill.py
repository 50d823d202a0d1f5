"""kill -9 at random moments of a run from the command line: the events file and the snapshot equal an undisturbed run's."""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from twin_engine.run import SNAPSHOT
from twin_engine.snapshot import read_snapshot

SIM = "sim:?seed=11&duration=400&glitches=12"


def start(folder: Path) -> subprocess.Popen[bytes]:
    command = [
        sys.executable, "-m", "twin_engine.cli", "run", "interferometer", "--from", SIM, "--asset", "V1", "--speed", "max",
        "--to", f"jsonl:{folder / 'events.jsonl'}", "--state", str(folder / "state"),
    ]  # fmt: skip
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def finish(process: subprocess.Popen[bytes]) -> None:
    _, errors = process.communicate(timeout=900)
    assert process.returncode == 0, errors.decode()


def kept(folder: Path) -> int:
    """Return the size of the events file that the newest snapshot knows."""
    snapshot = read_snapshot(folder / "state" / SNAPSHOT)
    return snapshot.document["sinks"][0]["inner"] or 0 if snapshot else 0


def size(folder: Path) -> int:
    path = folder / "events.jsonl"
    return path.stat().st_size if path.exists() else 0


def kill_once(folder: Path, chance: random.Random, *, on_event: bool) -> bool:
    """Kill a run at a random moment, or as soon as it has written an event; return whether it was killed before its end."""
    before = size(folder)
    with start(folder) as process:
        deadline = time.monotonic() + (60.0 if on_event else chance.uniform(0.3, 5.0))
        begun = False
        while process.poll() is None and time.monotonic() < deadline:
            now = size(folder)
            begun |= now < before or before == 0  # it was cut back to the snapshot
            if on_event and begun and now > kept(folder):
                break
            before = min(before, now)
            time.sleep(0.002)
        if process.poll() is not None:
            return False
        process.kill()
    return True


def kill_and_compare(tmp_path: Path, kills: int, seed: int) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    whole.mkdir()
    cut.mkdir()
    finish(start(whole))
    chance = random.Random(seed)
    landed = ahead = 0
    while landed < kills:
        if kill_once(cut, chance, on_event=landed % 2 == 0):
            landed += 1
            ahead += size(cut) > kept(cut)
        else:
            shutil.rmtree(cut / "state")  # played to its end before the kill: begin again
    assert ahead > 0  # events that no snapshot knows were there, to be cut back
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
