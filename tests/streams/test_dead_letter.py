"""The dead letter: shape, cap, cutting back."""

from __future__ import annotations

import base64
import json
from pathlib import Path

from streams.dead_letter import FILE, DeadLetter
from streams.letters import letters
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
    short, long = (Reject(Reason.MALFORMED, detail, "mqtt://h/x", b"{") for detail in ("a", "a" * 50))
    dead = DeadLetter(tmp_path / FILE)
    dead.open(None)
    for one in (short, long, short):
        dead.write(one)
    position = dead.flush()
    for _ in range(6):  # after the snapshot: they come again
        dead.write(REJECT)
    dead.close()
    lines = dead.path.read_bytes().splitlines(keepends=True)
    assert len(letters(tmp_path, reason="malformed", discard=True)) == 3
    assert 0 < position["offset"] < 6 * len(lines[3])
    assert position["offset"] % len(lines[3])  # within a line of what is left
    dead.open(position)
    dead.write(short)
    dead.close()
    left = letters(tmp_path)  # each line can be read
    assert [one.detail for one in left][-1] == "a"
    assert {one.detail for one in left[:-1]} <= {REJECT.detail}
