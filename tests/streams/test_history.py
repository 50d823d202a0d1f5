"""History: what comes in is kept as it came, and played again it gives what it gave live, to the last bit."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from msgspec.structs import replace

from streams import open_sink, open_source, segments
from streams.history import History
from streams.readings_table import from_batch, to_table
from twin_engine import Channel, Stream, Twin
from twin_engine.cli import main
from twin_engine.clock import NS, iso
from twin_engine.detect import Alarm, Auto
from twin_engine.errors import InputError
from twin_engine.records import Reading, Sink
from twin_engine.run import Run
from twin_engine.testing.fakes import FakeClock, ListSink, ScriptedSource

START = 1_700_000_000 // 86_400 * 86_400 + 86_400 - 120  # two minutes before midnight
TWIN = Twin(
    name="pump",
    hop="1 s",
    streams=[
        Stream("fast", rate=4, channels=[Channel("x", range=(-50, 50)), Channel("y")], lateness="1 s"),
        Stream("slow", rate=1, channels=[Channel("z", unit="V")], lateness="3 s", hold="2 s"),
    ],
    stages={"odd": Auto("fast", memory="2 min"), "alarm": Alarm("odd", rate="1/h")},
    show=("odd.score", "slow"),
)


def _readings() -> list[Reading]:
    """Return 5 minutes of two assets as a plant sends them: late, twice, with holes, out of range, in pieces of any size, over midnight."""
    rng = np.random.default_rng(4)
    found: list[tuple[float, Reading]] = []
    for asset in ("p1", "p2"):
        for stream, rate in (("fast", 4), ("slow", 1)):
            k = 0
            while k < 300 * rate:
                n = int(rng.integers(1, 4 * rate))
                times = ((START + np.arange(k, k + n) / rate) * NS).astype(np.int64)
                values = rng.standard_normal((2 if stream == "fast" else 1, n))
                values[rng.random(values.shape) < 0.01] = 99.0
                values[rng.random(values.shape) < 0.01] = np.nan
                values[0, (times > (START + 280) * NS) & (asset == "p1") & (stream == "fast")] = 99.0  # it ends in quarantine
                arrival = float(times[-1]) / NS + rng.exponential(0.3) + (4.0 if rng.random() < 0.05 else 0.0)
                channels, units = (("x", "y"), ()) if stream == "fast" else (("z",), ("mV",))
                reading = Reading(asset, channels, times, values, arrival=round(arrival * NS), units=units)
                if rng.random() > 0.05:
                    found += [(arrival, reading)] * (2 if rng.random() < 0.05 else 1)
                k += n
    return [reading for _, reading in sorted(found, key=lambda pair: pair[0])]


def _play(source: object, sinks: list[Sink], **options: object) -> Run:
    run = Run(TWIN, source, sinks, assets=["p1", "p2"], clock=FakeClock(tick=NS // 50), **options)
    run()
    return run


def _outputs(folder: Path) -> dict[str, list[dict[str, object]]]:
    """Return rows of all but the input, sorted, every float by its bits."""
    found: dict[str, list[dict[str, object]]] = {}
    for path in sorted(folder.glob("twin=*/output=*/day=*/*.parquet")):
        if "output=input" not in str(path):
            found.setdefault(path.parents[1].name, []).extend(pq.ParquetFile(path).read().to_pylist())
    return {name: sorted(rows, key=repr) for name, rows in found.items()}


def test_replayed_scores_equal_live_ones_bit_for_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segments, "_JOIN", 4)
    live = _play(ScriptedSource(_readings()), [open_sink(f"parquet:{tmp_path}/live?input=yes", show=TWIN.show)])
    assert len(list((tmp_path / "live" / "twin=pump" / "output=input").glob("day=*"))) == 2
    again = _play(open_source(f"history:{tmp_path}/live", twin=TWIN), [open_sink(f"parquet:{tmp_path}/again?input=yes", show=TWIN.show)])
    first, second = _outputs(tmp_path / "live"), _outputs(tmp_path / "again")
    assert first.keys() == {"output=odd.score", "output=slow", "output=events"}
    assert repr(first) == repr(second)
    assert sum(row["x"] is not None for row in first["output=odd.score"]) > 1000
    assert "quarantine" in {event["kind"] for event in first["output=events"]}
    assert again.report.dropped == live.report.dropped
    assert live.report.dropped.keys() >= {"duplicate", "late", "out_of_range", "not_finite"}


@pytest.mark.parametrize("stop", [40, 190])
def test_a_run_that_was_killed_keeps_each_reading_once(tmp_path: Path, stop: int) -> None:
    given_ = _readings()
    uri = f"parquet:{tmp_path}/kept?input=yes"
    with pytest.raises(KeyboardInterrupt):
        _play(ScriptedSource(given_, fail_at=stop), [open_sink(uri, show=TWIN.show)], state_dir=tmp_path / "state", snapshot_every=0.3)
    _play(ScriptedSource(given_), [open_sink(uri, show=TWIN.show)], state_dir=tmp_path / "state", snapshot_every=0.3)
    kept = list(open_source(f"history:{tmp_path}/kept").items(None))
    assert [(r.asset, r.arrival, r.times.tolist()) for r in kept] == [(r.asset, r.arrival, r.times.tolist()) for r in given_]


def test_source_goes_on_from_any_position_and_cuts(tmp_path: Path) -> None:
    sink = open_sink(f"parquet:{tmp_path}?input=yes")
    sink.open(None)
    for i, reading in enumerate(_readings()):
        sink.take("pump", reading)
        if i % 20 == 19:
            sink.flush()
    sink.close()
    source = open_source(f"history:{tmp_path}")
    assert source.assets == ["p1", "p2"]
    whole = list(source.items(None))
    for k in (0, 25, len(whole) - 2):
        rest = list(source.items(json.loads(json.dumps(whole[k].position))))
        assert [r.position for r in rest] == [r.position for r in whole[k + 1 :]]
    begin, end = START + 30, START + 200
    part = open_source(f"history:{tmp_path}?asset=p2&from={iso(begin * NS)}&to={iso(end * NS)}")
    assert part.assets == ["p2"]
    mine = np.concatenate([r.times for r in part.items(None)])
    everything = np.concatenate([r.times for r in whole if r.asset == "p2"])
    assert mine.tolist() == [t for t in everything.tolist() if begin * NS <= t < end * NS]
    with pytest.raises(InputError, match="Did you mean 'pump'"):
        open_source(f"history:{tmp_path}?twin=pmp")
    with pytest.raises(InputError, match="input=yes"):
        open_source(f"history:{tmp_path / 'twin=pump'}")


@given(
    st.lists(
        st.tuples(
            st.text(max_size=3), st.integers(0, 3), st.integers(0, 4), st.integers(0, 2**62), st.lists(st.text(max_size=2), max_size=2)
        ),
        min_size=1, max_size=6,
    ),
    st.data(),
)  # fmt: skip
def test_readings_come_back_to_the_bit(shapes: list[tuple[str, int, int, int, list[str]]], data: st.DataObject) -> None:
    readings = []
    for asset, channels, n, arrival, units in shapes:
        times = data.draw(hnp.arrays(np.int64, n, elements=st.integers(-(2**62), 2**62)))
        values = data.draw(hnp.arrays(np.float64, (channels, n)))
        readings.append(Reading(asset, tuple(f"c{i}" for i in range(channels)), times, values, None, arrival, tuple(units)))
    table = to_table(readings, range(len(readings)))
    buffer = pa.BufferOutputStream()
    pq.write_table(table, buffer)
    back = [pair for batch in pq.ParquetFile(buffer.getvalue()).iter_batches(4) for pair in from_batch(batch)]
    assert [seq for seq, _ in back] == list(range(len(readings)))
    for (_, found), kept in zip(back, readings, strict=True):
        assert replace(found, times=kept.times, values=kept.values) == kept
        assert found.times.tobytes() == kept.times.tobytes()
        assert found.values.shape == kept.values.shape
        assert np.isnan(found.values).tolist() == np.isnan(kept.values).tolist()
        assert found.values[~np.isnan(kept.values)].tobytes() == kept.values[~np.isnan(kept.values)].tobytes()


def test_a_sink_without_input_keeps_none(tmp_path: Path) -> None:
    listed = ListSink()
    _play(ScriptedSource(_readings()[:20]), [open_sink(f"parquet:{tmp_path}/plain", show=TWIN.show), listed])
    assert not list((tmp_path / "plain").glob("*/output=input"))


def _cli(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr("sys.argv", ["twin-engine", "history", *words])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


def test_history_is_queried_shown_and_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("duckdb", reason="the extra history is not installed")
    kept = f"{tmp_path}/it's kept"
    _play(ScriptedSource(_readings()), [open_sink(f"parquet:{kept}?input=yes", show=TWIN.show)])
    assert _cli(monkeypatch, kept) == 0
    assert "quarantine" in capsys.readouterr().out
    midnight = iso((START + 120) * NS)
    assert _cli(monkeypatch, kept, "--output", "odd.score", "--asset", "p2", "--from", midnight, "--to", iso((START + 122) * NS)) == 0
    assert [line.split()[:3] for line in capsys.readouterr().out.splitlines()[1:]] == [
        [iso((START + 120) * NS + k * NS // 4), "pump", "p2"] for k in range(8)
    ]
    query = f"SELECT count(*) AS n FROM input WHERE channel = 'z' AND time < '{midnight}'"  # noqa: S608
    assert _cli(monkeypatch, kept, "--sql", query, "--save", f"{tmp_path}/n.parquet") == 0
    expected = sum(int(np.sum(r.times < (START + 120) * NS)) for r in _readings() if r.channels == ("z",))
    assert pq.read_table(tmp_path / "n.parquet").to_pylist() == [{"n": expected}]
    assert _cli(monkeypatch, kept, "--output", "input", "--twin", "pump", "--save", f"{tmp_path}/input.csv") == 0
    assert len((tmp_path / "input.csv").read_text().splitlines()) == 1 + sum(r.values.size for r in _readings())
    capsys.readouterr()
    for words, code, told in (
        ((kept, "--output", "odd.scor"), 4, "Did you mean 'odd.score'?"),
        ((kept, "--sql", "SELECT nothing"), 4, "odd.score"),
        ((kept, "--save", "x.xls"), 6, ".csv"),
        ((str(tmp_path / "none"),), 4, "parquet:DIR"),
    ):
        assert _cli(monkeypatch, *words) == code
        assert told in capsys.readouterr().err


def test_a_file_that_was_joined_beside_its_parts_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As it is for a moment while a run goes on."""
    pytest.importorskip("duckdb", reason="the extra history is not installed")
    monkeypatch.setattr(segments, "_JOIN", 3)
    sink = open_sink(f"parquet:{tmp_path}?input=yes")
    sink.open(None)
    parts: dict[Path, bytes] = {}
    for reading in _readings()[:40]:
        sink.take("pump", reading)
        sink.flush()
        parts |= {path: path.read_bytes() for path in tmp_path.glob("*/*/*/part-*")}
    for path, data in parts.items():
        path.write_bytes(data)
    samples = sum(reading.values.size for reading in _readings()[:40])
    assert History(tmp_path).table("input").num_rows == samples
    assert sum(item.values.size for item in open_source(f"history:{tmp_path}").items(None)) == samples
