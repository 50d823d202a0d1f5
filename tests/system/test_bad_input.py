"""Every row of the design's table of bad input, driven through a real source and the run loop."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

import streams
from tests.laws.mean import Mean
from twin_engine.clock import iso
from twin_engine.run import Run, RunReport
from twin_engine.testing.fakes import ListSink
from twin_engine.twin import Channel, Stream, Twin

T0 = 1_700_000_000
TWIN = Twin(
    "t", "1 s", [Stream("s", 1, [Channel("x", "degC", (-50, 150))], bound="100 s", lateness="1 s")], {"m": Mean("s")}
)  # fmt: skip


def run(folder: Path, lines: list[bytes], snapshot_every: float = 1.0) -> tuple[RunReport, ListSink, dict[int, float]]:
    """Run lines through the ``lines:`` source; return the report, the sink, and second -> value for what was valid."""
    file = folder / "in.jsonl"
    file.write_bytes(b"".join(line + b"\n" for line in lines))
    sink = ListSink()
    source = streams.open_source(f"lines:{file}", asset="a", streams={"s": ("x",)})
    report = Run(TWIN, source, [sink], assets=["a"], dead_letter=(dead := Letters()), snapshot_every=snapshot_every)()
    report.letters = dead.kept  # type: ignore[attr-defined]
    found: dict[int, float] = {}
    for update in sink.updates:
        block = update.outputs.get("s")
        if block is not None:
            index = int(block.start[0]) + np.arange(block.n)
            found |= {int(i) - T0: float(v) for i, v, ok in zip(index, block.values[0, 0], block.valid[0, 0], strict=True) if ok}
    return report, sink, found


class Letters:
    """A dead letter in memory."""

    def __init__(self) -> None:
        self.kept: list[tuple[str, bytes]] = []

    def open(self, position):
        del self.kept[position or 0 :]

    def write(self, reject):
        self.kept.append((str(reject.reason), reject.raw))

    def flush(self):
        return len(self.kept)

    def close(self):
        pass


def line(second: float, value: object, **more: object) -> bytes:
    return json.dumps({"channel": "x", "ts": iso(round((T0 + second) * 1e9)), "value": value, **more}).encode()


def good(lo: int, hi: int) -> list[bytes]:
    return [line(s, float(s % 50)) for s in range(lo, hi)]


def test_nan_and_infinity_are_masked_and_counted(tmp_path) -> None:
    csv = tmp_path / "in.csv"
    rows = [f"{T0 + s},{'nan' if s == 3 else 'inf' if s == 5 else s}" for s in range(10)]
    csv.write_text("time,x\n" + "\n".join(rows) + "\n")
    sink = ListSink()
    source = streams.open_source(f"csv:{csv}?time=time&unit=s", asset="a", streams={"s": ("x",)})
    report = Run(TWIN, source, [sink], assets=["a"])()
    assert report.dropped == {"not_finite": 2}
    valid = np.concatenate([u.outputs["s"].valid[0, 0] for u in sink.updates])
    np.testing.assert_array_equal(np.flatnonzero(~valid[:10]), [3, 5])
    assert all(np.isfinite(u.outputs["m.mean"].values[u.outputs["m.mean"].valid]).all() for u in sink.updates)


def test_a_duplicate_is_dropped_and_of_two_values_the_first_is_kept(tmp_path) -> None:
    report, _, found = run(tmp_path, [*good(0, 5), line(4, 4.0), line(4, 99.0), *good(5, 8)])
    assert report.dropped == {"duplicate": 1, "conflict": 1}
    assert found[4] == 4.0


def test_what_is_late_is_counted_and_never_applied(tmp_path) -> None:
    (tmp_path / "big").mkdir()
    pad = [json.dumps({"channel": "z", "ts": iso(T0 * 10**9), "value": 0}).encode()] * 20_000  # so that the late line is in a later piece
    lines = [*good(0, 3), *good(4, 20), *pad, line(3, 77.0), *good(20, 25)]
    report, _, found = run(tmp_path, lines, snapshot_every=0)  # a piece is acted on before the next is read
    assert report.dropped["late"] == 1
    assert 3 not in found
    assert found[24] == 24.0


def test_a_clock_jump_is_rejected_and_two_samples_beyond_it_are_a_new_segment(tmp_path) -> None:
    report, _, found = run(tmp_path, [*good(0, 10), line(90_000, 1.0), *good(10, 20)])
    assert report.dropped == {"clock_jump": 1}
    assert 90_000 not in found
    assert set(range(20)) <= set(found)
    report, _, found = run(tmp_path, [*good(0, 10), *good(90_000, 90_010)])
    assert report.dropped == {}
    assert len(found) == 20


def test_a_gap_is_masked_and_nothing_is_invented(tmp_path) -> None:
    report, sink, found = run(tmp_path, [*good(0, 5), *good(7, 10)])
    assert report.dropped == {}
    assert sorted(found) == [0, 1, 2, 3, 4, 7, 8, 9]
    index = np.concatenate([u.outputs["s"].start[0] + np.arange(u.outputs["s"].n) for u in sink.updates])
    assert (np.diff(index) == 1).all()


def test_out_of_range_and_wrong_unit_are_masked_then_quarantined_with_one_event(tmp_path) -> None:
    hot = [line(s, 4000.0) for s in range(5, 20)]
    report, sink, found = run(tmp_path, [*good(0, 5), *hot, *good(20, 40)])
    assert report.dropped["out_of_range"] == 15
    assert report.dropped["quarantined"] == 10
    assert sorted(found) == [0, 1, 2, 3, 4, *range(30, 40)]
    events = [e for u in sink.updates for e in u.events]
    assert [(e.kind, e.channels) for e in events] == [("quarantine", {"x": 1.0})]
    report, _, found = run(tmp_path, [*good(0, 5), line(5, 300.0, unit="K"), line(6, 1.0, unit="V"), *good(7, 9)])
    assert report.dropped == {"wrong_unit": 1}
    assert abs(found[5] - 26.85) < 1e-9
    assert 6 not in found


def test_unknown_channels_and_assets_are_listed_within_a_bound_and_make_no_series(tmp_path) -> None:
    strange = [line(0, 1.0, channel=f"c{i}") for i in range(150)] + [line(1, 1.0, asset="ghost")]
    file = tmp_path / "in.jsonl"
    file.write_bytes(b"\n".join([*good(0, 5), *strange]) + b"\n")
    runner = Run(TWIN, streams.open_source(f"lines:{file}", asset="a", streams={"s": ("x",)}), [], assets=["a"])
    report = runner()
    assert report.dropped == {"unknown_channel": 150, "unknown_asset": 1}
    assert len(runner.engine.telemetry.unknown) <= runner.engine.telemetry.LIMIT + 1
    assert runner.engine.assets == ["a"]


def test_malformed_not_utf8_and_too_large_go_to_the_dead_letter_with_their_bytes(tmp_path) -> None:
    bad = [b"{not json", b'{"channel": "x", "ts": "yesterday", "value": 1}', b"\xff\xfe\x00", b'{"pad": "' + b"x" * (1 << 20) + b'"}']
    report, _, found = run(tmp_path, [*good(0, 5), *bad, *good(5, 10)])
    assert report.rejects == {"malformed": 2, "not_utf8": 1, "too_large": 1}
    assert sorted(found) == list(range(10))
    kept = report.letters  # type: ignore[attr-defined]
    assert {reason for reason, _ in kept} == {"malformed", "not_utf8", "too_large"}
    assert {raw for reason, raw in kept if reason != "too_large"} == set(bad[:3])
