from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from bench.nab_rules import at, best, judge

DATA = Path(os.environ.get("TWIN_ENGINE_DATA", Path(__file__).parents[2] / "../shared/data"))
PEER = DATA / "../eval/nab_score.py"


def test_alarming_at_the_first_row_of_each_window_is_perfect_and_silence_is_nothing():
    score = np.zeros(1000)
    score[[300, 700]] = 1.0
    assert best([judge(score, [(300, 350), (700, 750)])])[0] == pytest.approx(100.0)
    assert at([judge(np.zeros(1000), [(300, 350)])], 0.5) == 0.0


def test_a_false_alarm_costs_its_weight_and_probation_is_not_scored():
    score = np.zeros(1000)
    score[300], score[100], score[900] = 1.0, 1.0, 1.0
    assert at([judge(score, [(300, 350)])], 0.5) == pytest.approx(100 - 100 * 0.11 / 2)


@pytest.mark.skipif(not (DATA / "nab").is_dir() or not PEER.is_file(), reason="the NAB files and the reference scorer are not there")
def test_the_scorer_agrees_with_the_reference(tmp_path):
    import json

    rng = np.random.default_rng(0)
    labels = json.loads((DATA / "nab/labels/combined_windows.json").read_text())
    files = []
    for name, windows in labels.items():
        stamps = [line.split(",")[0] for line in (DATA / "nab/data" / name).read_text().splitlines()[1:]]
        score = np.round(rng.random(len(stamps)) ** 0.02 * 0.9, 4)
        for a, b in windows:
            first, last = stamps.index(a[:19]), stamps.index(b[:19])
            score[rng.integers(first, last)] = 0.95
        (tmp_path / name).parent.mkdir(exist_ok=True)
        lines = [f"{t},{s}" for t, s in zip(stamps, score.tolist(), strict=True)]
        (tmp_path / name).write_text("\n".join(["timestamp,anomaly_score", *lines, ""]))
        files.append(judge(score, [(stamps.index(a[:19]), stamps.index(b[:19])) for a, b in windows]))
    done = subprocess.run([sys.executable, PEER, DATA / "nab", tmp_path], capture_output=True, text=True, check=True)
    for profile in ("standard", "reward_low_FP_rate", "reward_low_FN_rate"):
        assert f"{profile} {best(files, profile)[0]:.2f} " in done.stdout
