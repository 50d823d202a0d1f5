"""The Numenta Anomaly Benchmark: ``detect`` with one configuration on every file.

``python -m bench.nab [--data DIR] [--scores DIR] [--detector NAME]``. Prints for each category the normalised score of each profile, its
threshold chosen on that category as the benchmark does; the standard score with the threshold chosen on the artificial files alone; and
with the alarm's own, 0.5. What is scored is the column ``score``, which is 0 in the detector's own hold-off of 200 rows: the benchmark
charges each row above the threshold as an alarm of its own. Time constants are fixed in samples, and no file's length, minimum or maximum
is used. ``--scores`` keeps the scores, one CSV a file, in the benchmark's own format.
"""

from __future__ import annotations

import argparse
import csv
import json
import time
from pathlib import Path

import numpy as np

from bench.nab_rules import PROFILES, Judged, at, best, judge
from twin_engine.frames import detect
from twin_engine.ports import Float

# realKnownCause alone, from each detector's published scores under the same rules and choice of threshold
PEERS = {"ARTime": 66.5, "HTM": 57.8, "RCF": 50.3, "CAD OSE": 45.4}
PEERS_WHOLE = {"ARTime": 74.9, "HTM": 70.1, "CAD OSE": 69.9, "KNN-CAD": 58.0, "RCF": 51.7, "windowed Gaussian": 39.6}


def score_file(path: Path, detector: str) -> tuple[list[str], Float]:
    """Return the time stamps of a file and the score of each row."""
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    stamps = [row["timestamp"] for row in rows]
    found = detect({"timestamp": stamps, "value": [row["value"] for row in rows]}, detector=detector)
    return stamps, found.scores.score


def run(nab: Path, detector: str, keep: Path | None) -> tuple[dict[str, list[Judged]], float]:
    """Score all labelled files that are there; return them judged, by category, and microseconds a row."""
    labels = json.loads((nab / "labels" / "combined_windows.json").read_text())
    detect({"timestamp": [0, 1], "value": [0.0, 1.0]}, detector=detector)  # compiles
    judged: dict[str, list[Judged]] = {}
    spent, rows = 0.0, 0
    for name, windows in sorted(labels.items()):
        path = nab / "data" / name
        if not path.exists():
            continue
        begin = time.perf_counter()
        stamps, score = score_file(path, detector)
        spent, rows = spent + time.perf_counter() - begin, rows + len(score)
        place: dict[str, int] = {}
        for i, stamp in enumerate(stamps):
            place.setdefault(stamp[:19], i)
        judged.setdefault(name.split("/")[0], []).append(judge(score, [(place[a[:19]], place[b[:19]]) for a, b in windows]))
        if keep:
            (keep / name).parent.mkdir(parents=True, exist_ok=True)
            with (keep / name).open("w", newline="") as file:
                csv.writer(file).writerows([("timestamp", "anomaly_score"), *zip(stamps, score.tolist(), strict=True)])
    return judged, spent / max(rows, 1) * 1e6


def main() -> None:
    """Print a line a category, and one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path(__file__).parents[1] / "../shared/data")
    parser.add_argument("--scores", type=Path)
    parser.add_argument("--detector", default="auto")
    arguments = parser.parse_args()
    judged, microseconds = run(arguments.data / "nab", arguments.detector, arguments.scores)
    if not judged:
        raise SystemExit(f"{arguments.data / 'nab' / 'data'}: none of the labelled files is there")
    artificial = [f for name, files in judged.items() if name.startswith("artificial") for f in files]
    fixed = best(artificial)[1] if artificial else None
    groups = {**judged, "all": [f for files in judged.values() for f in files]}
    result: dict[str, dict[str, float]] = {}
    for name, files in groups.items():
        found = {profile: round(best(files, profile)[0], 2) for profile in PROFILES}
        found |= {"threshold": best(files)[1], "windows": int(sum(len(np.unique(f.window[f.window >= 0])) for f in files))}
        if fixed is not None:
            found["standard_threshold_from_artificial"] = round(at(files, fixed), 2)
        result[name] = found
        found["standard_threshold_0.5"] = round(at(files, 0.5), 2)
        print(f"{name:24}", "  ".join(f"{key} {value:.4g}" for key, value in found.items()))
    known = result.get("realKnownCause", {})
    print(json.dumps({
        "name": "nab", "detector": arguments.detector, "realKnownCause_standard": known.get("standard"),
        "realKnownCause_threshold_from_artificial": known.get("standard_threshold_from_artificial"),
        "realKnownCause_threshold_0.5": known.get("standard_threshold_0.5"),
        "threshold_from_artificial": fixed, "categories": result, "peers_realKnownCause": PEERS, "peers_whole": PEERS_WHOLE,
        "us_a_row": round(microseconds, 1),
    }))  # fmt: skip


if __name__ == "__main__":
    main()
