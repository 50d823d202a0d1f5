"""Shown marks on their way out: as bytes and back, and over a real Mosquitto."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from streams.registry import sink_at
from streams.shown import shown_marks, shown_tables
from streams.update_codec import decode_update, encode_update
from tests.services.clients import Listener
from tests.streams.mqtt_helpers import address
from tests.streams.test_mqtt_sink import until, update
from twin_engine.clock import NS
from twin_engine.ports import Marks, MarksSpec
from twin_engine.records import Update

SPEC = MarksSpec({"start": ("i8", ()), "dead": ("f8", ()), "weight": ("f8", (2,))}, ("x", "y"), kind="glitch")


def marked() -> Update:
    """Return an update of four assets, of which the second and the last have marks."""
    row, whole = np.array([1, 1, 3]), np.arange(4) * NS
    columns = {"start": np.array([7, 8, 9]) * NS, "dead": np.array([0.5, 1.0, 0.25]), "weight": np.arange(6.0).reshape(3, 2)}
    marks = Marks(row, np.array([10, 11, 12]) * NS, columns, np.arange(4), whole, whole + 1)
    return replace(update(0), assets=["a", "b", "c", "d"], outputs={"veto.segments": marks}, specs={"veto.segments": SPEC})


def test_marks_are_the_same_behind_a_spool_and_behind_kafka() -> None:
    first = marked()
    second = decode_update(encode_update(first, ("veto",)))
    assert list(second.assets) == ["b", "d"]
    assert second.specs["veto.segments"] == replace(SPEC, columns={k: (np.dtype(t).str, s) for k, (t, s) in SPEC.columns.items()})
    (marks,) = shown_marks(second, ("veto",)).values()
    assert (marks.rows.tolist(), marks.until.tolist()) == ([0, 1], [NS + 1, 3 * NS + 1])
    for (_, asset, _, told), (_, same, _, again) in zip(shown_tables(first, ("veto",)), shown_tables(second, ("veto",)), strict=True):
        assert asset == same
        assert told.keys() == again.keys()
        for name, column in told.items():
            np.testing.assert_array_equal(column, again[name])
    none = replace(first, outputs={"veto.segments": replace(marks, row=marks.row[:0], time=marks.time[:0], columns={})})
    assert not decode_update(encode_update(none, ("veto",))).outputs


def test_marks_over_mqtt(mosquitto: str, unique: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with Listener(mosquitto, unique) as listener:
        listener.subscribe(f"{unique}/d/veto.segments")
        sink = sink_at(address(mosquitto, unique, monkeypatch, outputs="yes"), ("veto",))
        sink.open(None)
        sink.write(marked())
        sink.close()
        until(listener, 1)
    said = json.loads(listener.got[0])
    assert said == {
        "time": ["1970-01-01T00:00:12.000000000Z"], "start": ["1970-01-01T00:00:09.000000000Z"], "dead": [0.25], "weight": [[4.0, 5.0]],
    }  # fmt: skip
