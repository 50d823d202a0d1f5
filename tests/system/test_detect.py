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
    assert found["score"].between(0, 1).all()
    assert found["p_value"].between(0, 1).all()
    assert found.loc[4999:5100, "alarm"].any()
    assert found.loc[70, ["score", "p_value", "alarm"]].tolist() == [0, 1, 0]
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
