"""The dead letter: shape, cap, cutting back."""

from __future__ import annotations

import base64
import json
from pathlib import Path

from streams.dead_letter import DeadLetter
from twin_engine.records import Reason, Reject

REJECT = Reject(Reason.NOT_UTF8, "invalid start byte", "csv:a.csv", b"1,\xff", position={"offset": 7}, asset="a")


def test_keeps_the_bytes_and_where_they_came_from(tmp_path: Path) -> None:
    letter = DeadLetter(tmp_path / "state" / "rejects.jsonl")
    letter.open(None)
    letter.write(REJECT)
    letter.close()
    (line,) = letter.path.read_text().splitlines()
    fields = json.loads(line)
    assert base64.b64decode(fields.pop("raw")) == REJECT.raw
    assert fields.pop("ts").endswith("Z")
    assert fields == {
        "schema": 1,
        "source": "csv:a.csv",
        "subject": "",
        "asset": "a",
        "reason": "not_utf8",
        "detail": "invalid start byte",
        "position": {"offset": 7},
    }


def test_is_cut_back_and_counts_what_does_not_fit(tmp_path: Path) -> None:
    letter = DeadLetter(tmp_path / "rejects.jsonl", cap=500)
    letter.open(None)
    letter.write(REJECT)
    position = json.loads(json.dumps(letter.flush()))
    for _ in range(5):
        letter.write(REJECT)
    letter.close()
    kept = len(letter.path.read_bytes().splitlines())
    assert letter.unwritten == {"not_utf8": 6 - kept}
    assert kept > 1
    assert letter.path.stat().st_size <= 500
    again = DeadLetter(tmp_path / "rejects.jsonl", cap=500)
    again.open(position)
    assert again.unwritten == {}
    again.close()
    assert len(letter.path.read_bytes().splitlines()) == 1


def test_after_letters_were_taken_out_it_is_cut_back_to_a_whole_line(tmp_path: Path) -> None:
    path = tmp_path / "rejects.jsonl"
    letter = DeadLetter(path)
    letter.open(None)
    for _ in range(3):
        letter.write(REJECT)
    position = letter.flush()
    letter.write(REJECT)  # after the snapshot: it is written again
    letter.close()
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + lines[1][:-3] + b'x"}\n' * 1 + lines[2] + lines[3])  # one of them is another's, and longer
    letter.open(position)
    letter.write(REJECT)
    letter.close()
    assert all(json.loads(line)["schema"] == 1 for line in path.read_bytes().splitlines() if not line.endswith(b'x"}'))
    assert path.read_bytes().endswith(b"\n")
    assert len(path.read_bytes().splitlines()) == 3
