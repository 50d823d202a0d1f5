from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from twin_engine.errors import DefinitionError, InputError
from twin_engine.frames import Detector, Scores, detect

N = 1500
STAMPS = (np.datetime64("2024-01-01") + np.arange(N) * np.timedelta64(300, "s")).astype("datetime64[s]")


def series() -> np.ndarray:
    x = np.random.default_rng(0).normal(10, 1, N)
    x[1200:1203] = 40
    return x


def test_every_kind_of_table_gives_the_same():
    import polars as pl  # slow to import

    x = series()
    table = {"timestamp": STAMPS.astype(str), "value": x}
    expected, events = detect(table)
    assert set(expected) == {"timestamp", "value", "score", "p_value", "alarm"}
    assert any(e.start == STAMPS[1200].astype("datetime64[ns]").astype(np.int64) for e in events)
    dated = pd.DataFrame({"timestamp": pd.to_datetime(STAMPS), "value": x})
    frames = [
        pd.DataFrame(table), dated, dated.assign(timestamp=dated["timestamp"].dt.tz_localize("UTC")), pl.DataFrame(table),
        pl.DataFrame({"timestamp": STAMPS.astype("datetime64[ms]"), "value": x}), pa.table(table),
        {"timestamp": STAMPS.astype(np.int64), "value": x},
    ]  # fmt: skip
    for frame in frames:
        scored, again = detect(frame)
        assert type(scored) is type(frame)
        assert np.array_equal(np.asarray(scored["score"]), expected["score"])
        assert np.array_equal(np.asarray(scored["alarm"]), expected["alarm"])
        assert again == events


def test_what_cannot_be_read_is_no_evidence():
    x = series()
    values = [str(v) for v in x]
    values[700:703] = ["", "n/a", None]
    stamps = list(STAMPS.astype(str))
    stamps[710] = "yesterday"
    scored, _ = detect({"timestamp": stamps, "value": values})
    for i in (700, 701, 702, 710):
        assert (scored["score"][i], scored["p_value"][i], scored["alarm"][i]) == (0.0, 1.0, False)
    keep = [i for i in range(N) if i not in {700, 701, 702, 710}]
    without, _ = detect({"timestamp": [stamps[i] for i in keep], "value": [values[i] for i in keep]})
    assert np.array_equal(scored["score"][keep], without["score"])


@pytest.mark.parametrize("name", ["auto", "level", "cusum", "page-hinkley"])
def test_rows_depend_on_no_later_row_and_on_no_cut(name):
    x = np.stack([series(), np.random.default_rng(1).normal(size=N)], axis=1)
    times = STAMPS.astype("datetime64[ns]").astype(np.int64)
    whole = Detector(name, 2).update(times, x)
    parts, detector = [], Detector(name, 2)
    for lo, hi in ((0, 1), (1, 300), (300, 1201), (1201, 1400)):
        parts.append(detector.update(times[lo:hi], x[lo:hi]))
    for field in ("score", "p_value", "alarm", "masked", "weight"):
        assert np.array_equal(np.concatenate([getattr(p, field) for p in parts]), getattr(whole, field)[:1400])
    assert whole.alarm[1200:1210].any()
    assert whole.weight[1200, 0] > 0.5
    assert ((whole.score >= 0) & (whole.score < 1) & (whole.p_value > 0) & (whole.p_value <= 1)).all()


def test_what_goes_on_is_no_news_and_its_p_value_says_how_rare_it_is():
    x = series()
    x[1210:1215] = 60  # in the hold-off of the alarm at 1200
    found = detect({"timestamp": STAMPS, "value": x}).scores
    assert found.score[1200] > 0.5
    assert found.p_value[1210] < 1e-2
    assert found.score[1211:1390].max() < 0.5
    assert np.array_equal(np.flatnonzero(np.diff(found.alarm.astype(int)) > 0) + 1, np.flatnonzero(found.score >= 0.5))


def test_late_rows_are_never_applied_and_repeated_times_are_counted():
    x, times = series(), STAMPS.astype("datetime64[ns]").copy()
    times[900:905] = times[890:895]  # late
    times[950] = times[949]  # repeated, yet judged
    times[1000] = np.datetime64("2099-01-01")  # a clock that leaps for one row
    found = detect({"timestamp": times, "value": np.where(np.isin(np.arange(N), range(900, 905)), 1e6, x)})
    assert dict(found.counts) == {"late time": 5, "repeated time": 1, "clock jump": 1}
    masked = found.scores.masked
    assert np.flatnonzero(masked).tolist() == [900, 901, 902, 903, 904, 1000]
    without = detect({"timestamp": times[~masked], "value": x[~masked]})
    assert np.array_equal(found.scores.score[~masked], without.scores.score)


def test_a_long_gap_costs_one_row_and_chunks_change_nothing():
    times = STAMPS.astype("datetime64[ns]").astype(np.int64)
    times[700:] += 400 * 86400 * 10**9
    times[[300, 800]] = times[[290, 790]]
    x = series()[:, None]
    whole = Detector("level")
    scores = whole.update(times, x)
    assert np.flatnonzero(scores.masked).tolist() == [300, 700, 800]
    parts = Detector("level")
    found = Scores.join([parts.update(times[a:b], x[a:b]) for a, b in ((0, 300), (300, 700), (700, 701), (701, 701), (701, N))])
    assert np.array_equal(found.score, scores.score)
    assert parts.counts == whole.counts == {"late time": 2, "clock jump": 1}


def test_a_masked_row_does_not_cut_an_event():
    x = series()
    x[1201] = np.nan
    events = detect({"timestamp": STAMPS, "value": x}).events
    moments = STAMPS.astype("datetime64[ns]").astype(np.int64)
    assert [e.end >= moments[1202] for e in events if e.start == moments[1200]] == [True]


def test_a_pandas_index_of_times_is_taken():
    x = series()
    frame = pd.DataFrame({"value": x}, index=pd.DatetimeIndex(STAMPS))
    scored, events = detect(frame)
    same, again = detect({"timestamp": STAMPS, "value": x})
    assert np.array_equal(scored["score"], same["score"])
    assert scored.index.equals(frame.index)
    assert events == again
    assert np.array_equal(detect(frame.tz_localize("UTC")).scores.score, same["score"])


@pytest.mark.parametrize("kind", [np.int64, np.float64])
def test_times_in_another_unit_are_told(kind):
    stamps = STAMPS.astype("datetime64[ns]").astype(np.int64)
    with pytest.raises(InputError, match="unit='ms', 'us' or 'ns'"):
        detect({"timestamp": stamps.astype(kind), "value": series()})
    assert not detect({"timestamp": stamps, "value": series()}, unit="ns").scores.masked.any()


def test_irregular_and_repeated_times_are_taken():
    rng = np.random.default_rng(2)
    times = np.sort(rng.integers(0, 10**6, N)) * 10**9
    times[100:110] = times[100]
    assert np.isfinite(Detector().update(times, series()[:, None]).score).all()


def test_errors_name_what_is_wrong():
    with pytest.raises(InputError, match="column 'value'"):
        detect({"timestamp": [0], "x": [1.0]})
    with pytest.raises(InputError, match="score"):
        detect({"timestamp": [0], "value": [1.0], "score": [0.0]})
    with pytest.raises(DefinitionError, match="page-hinkley"):
        Detector("automatic")


def test_an_empty_table_gives_an_empty_table():
    scored, events = detect({"timestamp": np.zeros(0), "value": np.zeros(0)})
    assert len(scored["score"]) == 0
    assert events == []
