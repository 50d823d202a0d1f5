"""`twin-engine detect` on files and folders."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from twin_engine.cli import main
from twin_engine.frames import detect


def call(monkeypatch: pytest.MonkeyPatch, *words: object) -> int:
    monkeypatch.setattr(sys, "argv", ["twin-engine", "detect", *map(str, words)])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


def table(seed: int, rows: int = 6000) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    x = np.sin(np.arange(rows) * 2 * np.pi / 288) + 0.1 * rng.standard_normal(rows)
    x[5000:5030] += 4
    times = pd.date_range("2020-01-01", periods=rows, freq="5min").strftime("%Y-%m-%d %H:%M:%S")
    return pd.DataFrame({"when": times, "load": x, "other": "a,b"})


def test_one_row_out_for_each_row_in(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    given = table(1)
    given.loc[[70, 71], "load"] = np.nan
    given.to_csv(tmp_path / "in.csv", index=False)
    out, picture = tmp_path / "out.csv", tmp_path / "out.png"
    assert call(monkeypatch, tmp_path / "in.csv", "--time", "when", "--value", "load", "--to", out, "--plot", picture) == 0
    found = pd.read_csv(out)
    pd.testing.assert_frame_equal(found[["when", "load", "other"]], pd.read_csv(tmp_path / "in.csv"))
    assert (found.loc[[70, 71], ["score", "p_value"]] == [0, 1]).all(axis=None)
    assert found["score"].between(0, 1).all()
    assert found["p_value"].between(0, 1).all()
    assert found.loc[4999:5100, "alarm"].any()
    assert not found.loc[[70, 71], "alarm"].any()
    same, _ = detect(given, "when", "load")
    np.testing.assert_allclose(found["score"], same["score"], rtol=1e-12)
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_a_folder_is_mirrored(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("a.csv", "deep/er/b.csv.gz", "deep/c.parquet"):
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        given = table(2, 400)
        given.to_parquet(path) if name.endswith("parquet") else given.to_csv(path, index=False)
    (tmp_path / "in" / "notes.txt").write_text("not a table")
    target = tmp_path / "in" / "scored"
    for _ in range(2):  # a second time the output inside is not taken as input
        words = (
            tmp_path / "in",
            "--time",
            "when",
            "--value",
            "load",
            "--detector",
            "level",
            "--to",
            target,
            "--plot",
            tmp_path / "pictures",
        )
        assert call(monkeypatch, *words) == 0
    assert sorted(str(p.relative_to(target)) for p in target.rglob("*") if p.is_file()) == ["a.csv", "deep/c.parquet", "deep/er/b.csv.gz"]
    assert (tmp_path / "pictures" / "deep" / "c.png").exists()
    frames = [pd.read_csv(target / "a.csv"), pd.read_parquet(target / "deep" / "c.parquet")]
    np.testing.assert_allclose(frames[0]["score"], frames[1]["score"], atol=1e-9)


def test_unknown_detectors_and_columns_are_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table(3, 10).to_csv(tmp_path / "in.csv", index=False)
    words = (tmp_path / "in.csv", "--time", "when", "--to", tmp_path / "out.csv")
    assert call(monkeypatch, *words, "--value", "load", "--detector", "magic") == 3
    assert call(monkeypatch, *words, "--value", "laod") == 4
    assert "Did you mean 'load'?" in capsys.readouterr().err
    assert call(monkeypatch, tmp_path / "in.csv", "--time", "when", "--value", "load", "--to", tmp_path) == 4
    assert not (tmp_path / "out.csv").exists()


def test_a_bad_file_does_not_stop_the_others(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    (folder / "a.parquet").write_bytes(b"no parquet")
    (folder / "b.csv").write_text("when,other\n2020-01-01,1\n")
    (folder / "c.csv.gz").write_bytes(b"\x1f\x8b\x08\x00broken")
    (folder / "d.csv").write_text("when,load\n2020-01-01,1\n2020-01-02\n")
    table(4, 400).to_csv(folder / "e.csv", index=False)
    words = ("--time", "when", "--value", "load", "--detector", "level", "--to", out)
    assert call(monkeypatch, folder, *words) == 4
    told = capsys.readouterr().err
    assert "4 of 5" in told
    assert all(str(folder / name) in told for name in ("a.parquet", "b.csv", "c.csv.gz", "d.csv"))
    assert [p.name for p in out.iterdir()] == ["e.csv"]
    assert len(pd.read_csv(out / "e.csv")) == 400


def test_bad_rows_are_masked_and_counted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = table(5, 1000).astype({"load": object})
    given.loc[[500, 501], "when"] = ["yesterday", ""]
    given.loc[510, "when"] = given.loc[505, "when"]
    given.loc[520, "when"] = given.loc[519, "when"]
    given.loc[530, "load"] = "oops"
    given.to_csv(tmp_path / "in.csv", index=False)
    words = ("--time", "when", "--value", "load", "--detector", "level", "--to", tmp_path / "out.csv", "--plot", tmp_path / "out.png")
    assert call(monkeypatch, tmp_path / "in.csv", *words) == 0
    found = pd.read_csv(tmp_path / "out.csv", keep_default_na=False)
    assert found["when"].tolist() == given["when"].tolist()
    assert (found.loc[[500, 501, 510, 530], ["score", "p_value", "alarm"]].astype(float) == [0, 1, 0]).all(axis=None)
    told = capsys.readouterr().err
    assert "1000 rows, 4 masked (no time: 2, late time: 1, no value: 1), 1 at the time of the row before (judged), 1 values" in told
    assert (tmp_path / "out.png").exists()


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_times_in_another_unit_are_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    given = table(6, 50)
    given["when"] = pd.to_datetime(given["when"]).astype("datetime64[ns]").astype("int64")
    path = tmp_path / f"in.{kind}"
    given.to_csv(path, index=False) if kind == "csv" else given.to_parquet(path)
    words = (path, "--time", "when", "--value", "load", "--detector", "level", "--to", tmp_path / f"out.{kind}")
    assert call(monkeypatch, *words) == 4
    assert "--unit (s, ms, us, ns, gps)" in capsys.readouterr().err
    assert call(monkeypatch, *words, "--unit", "ns") == 0
