"""Events: onset, revisions, end, what they say, and what they do with sensors that go wrong."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from tests.detect.feeding import EPOCH, NS, TRIGGERS, block_op, feed, triggers
from twin_engine.detect import Alarm
from twin_engine.detect.events import to_events
from twin_engine.detect.tail import surprise_of
from twin_engine.errors import DefinitionError
from twin_engine.kernels.tail import fit
from twin_engine.ports import BlockSpec, Marks, MarksSpec

MINUTE, DAY = Fraction(1, 60), 1440  # Hz, samples a day


def telemetry(days: int, seed: int = 1, rows: int = 6) -> Any:
    return np.random.default_rng(seed).normal(size=(rows, 1, days * DAY))


def daily(values: Any, **alarm: Any) -> tuple[Any, Any]:
    """Return the onsets of each day for each row, and all columns."""
    _, events = feed(block_op("normal", MINUTE, hop=3600, rate="1/day", **alarm), values)
    first = events["revision"] == 0
    day = (events["start"][first] - EPOCH * NS) // (86400 * NS)
    counts = np.zeros((values.shape[0], values.shape[2] // DAY))
    np.add.at(counts, (events["row"][first], day), 1)
    return counts, events


def test_an_event_opens_in_its_hop_grows_and_closes() -> None:
    values = np.zeros((1, 1, 1200))
    values[0, 0, 700:730] = 8.0
    values[0, 0, 760:770] = 30.0
    values[0, 0, 772:900] = np.nan
    _, e = feed(block_op("normal", hop=10, rate="1/h", gap="40 s"), values, hops=7)
    at = EPOCH * NS
    assert e["revision"].tolist() == [0, 1, 2]
    assert e["final"].tolist() == [False, False, True]
    assert set(e["start"]) == {at + 700 * NS}
    assert e["time"].tolist() == [at + 710 * NS - 1, at + 770 * NS - 1, at + 820 * NS - 1]  # time without data passes too
    assert e["peak"].tolist() == [at + 700 * NS, at + 760 * NS, at + 760 * NS]
    assert e["end"][-1] == at + 770 * NS
    assert e["score"][0] == pytest.approx(surprise_of("normal", "")(np.array([8.0]))[0])
    assert e["severity"].tolist() == [2, 2, 2]
    assert (e["p_value"] < 1e-9).all()


def test_weights_are_shares_of_the_surprise() -> None:
    values = np.random.default_rng(2).normal(size=(1, 4, 1200)) * 0.5
    values[0, 1, 700:710], values[0, 3, 700:710] = 12.0, 6.0
    _, e = feed(block_op("normal", channels=4, rate="1/h"), values)
    weight = e["weight"][-1]
    assert weight.sum() == pytest.approx(1)
    assert np.argsort(weight).tolist()[2:] == [3, 1]
    assert weight[[0, 2]].max() < 0.01


def test_hold_off_and_warm_up() -> None:
    values = np.zeros((1, 1, 3600))
    values[0, 0, 100::200] = 9.0

    def starts(**alarm: Any) -> list[int]:
        _, e = feed(block_op("normal", rate="10/h", **alarm), values)
        return ((e["start"][e["revision"] == 0] - EPOCH * NS) // NS).tolist()

    assert starts()[:3] == [100, 300, 500]
    assert starts(hold_off="350 s")[:3] == [100, 500, 900]
    assert starts(warm_up="10 min")[0] == 700


def test_no_alarm_before_an_unknown_law_is_learned() -> None:
    op = block_op("", rate="1/h")
    values = np.random.default_rng(1).exponential(size=(20, 1, 7200))
    values[:, :, 600] = 1e6  # and what is loud then does not spoil it
    _, e = feed(op, values)
    spec = op.outputs["events"]
    assert isinstance(spec, MarksSpec)
    assert spec.valid_after == 64 * 4 * 5
    assert e["start"].min() >= (EPOCH + spec.valid_after) * NS
    assert 15 < e["final"].sum() < 60


def test_a_stuck_sensor_alarms_once_and_later_anomalies_are_found() -> None:
    values = telemetry(40)
    values[:, :, 10 * DAY : 20 * DAY] = 8.0
    values[:, :, 35 * DAY] = 9.0
    counts, e = daily(values)
    assert counts[:, 10:20].sum(axis=1).max() <= 3
    assert counts[:, 28:].mean() < 1.5
    assert set(e["row"][e["peak"] == (EPOCH + 35 * 86400) * NS]) == set(range(6))
    assert (e["end"] - e["start"]).max() <= (DAY * 60 + 600) * NS


def test_a_noisy_sensor_is_followed() -> None:
    values = telemetry(30)
    values[:, :, 10 * DAY :] *= 10
    counts, _ = daily(values)
    assert counts[:, 10:15].mean() < 10  # eight, then ever louder ones, until the tail has followed
    assert counts[:, 25:].mean() < 2.5


def test_loud_anomalies_do_not_hide_later_ones() -> None:
    values = telemetry(30)
    values[:, :, 10 * DAY :: DAY] = 1e3
    values[:, :, 10 * DAY + DAY // 2 :: DAY] = 7.5
    _, e = daily(values)
    modest = e["final"] & (e["score"] < 100) & (e["score"] > 25)
    assert modest.sum() >= 0.9 * 6 * 20


def test_dropouts_of_a_stuck_sensor_do_not_open_new_events() -> None:
    values = telemetry(12)
    values[:, :, 10 * DAY :] = 8.0
    values[:, :, 10 * DAY :: 120] = np.nan
    values[:, :, 11 * DAY : 11 * DAY + 60] = np.nan
    counts, _ = daily(values)
    assert counts[:, 10:].sum(axis=1).max() <= 3


def test_triggers_become_events_with_what_they_carry() -> None:
    rng = np.random.default_rng(4)
    op = Alarm("q", rate="1/h", kind="glitch").bind(Fraction(1), {"source": TRIGGERS})
    state, found = op.init(1), list[Marks]()
    at = EPOCH * NS
    for step in range(120):
        time = np.sort(rng.integers(0, 60 * NS, size=60)) + at + step * 60 * NS
        score = 6 + rng.exponential(size=60)
        channel = np.zeros(60, np.int64)
        if step == 100:
            score[30], channel[30] = 40.0, 1
            loud = time[30]
        state, out = op.step(state, {"source": triggers(time, score, at + (step + 1) * 60 * NS, 60 * NS, channel)})
        found.append(out["events"])
    spec = op.outputs["events"]
    assert isinstance(spec, MarksSpec)
    events = [e for marks in found for e in to_events(marks, spec, "twin", "digest", "alarm", ["V1"])]
    best = max(events, key=lambda e: (e.score, e.revision))
    assert (best.peak, best.start, best.frequency, best.bandwidth, best.kind) == (loud, loud - 10**7, 140.0, 20.0, "glitch")
    assert best.snr == pytest.approx(np.sqrt(80))
    assert next(iter(best.channels)) == "g"
    assert len({e.id for e in events}) == sum(e.final for e in events)
    assert len({(e.id, e.start) for e in events}) == len({e.id for e in events})
    assert len(events) < 12


def test_the_tail_is_the_field_s() -> None:
    """The maximum-likelihood fit of scipy, from which only the prior on the shape differs."""
    from scipy.stats import genpareto

    for shape in (-0.1, 0.0, 0.3):
        x = genpareto.rvs(shape, scale=2.0, size=4000, random_state=3)
        ours = fit(x, np.zeros(len(x), bool), len(x), 1e-9)
        theirs = genpareto.fit(x, floc=0)
        assert ours[0] == pytest.approx(theirs[0], abs=0.01)
        assert ours[1] == pytest.approx(theirs[2], rel=0.01)


def test_censored_peaks_do_not_bias_the_tail() -> None:
    x = np.random.default_rng(5).exponential(size=20000)
    shape, scale = fit(np.minimum(x, 2.0), x > 2.0, len(x), 1e-9)
    assert shape == pytest.approx(0, abs=0.05)
    assert scale == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("law", ["normal", "exponential", "chi2:1", "chi2:6", "neglog10p"])
def test_surprise_is_minus_log_p(law: str) -> None:
    from scipy import stats

    x = np.array([0.1, 1.0, 3.0, 8.0, 30.0])
    expected = {
        "normal": -np.log(2) - stats.norm.logsf(x), "exponential": x, "chi2:1": -stats.chi2.logsf(x, 1), "chi2:6": -stats.chi2.logsf(x, 6),
        "neglog10p": x * np.log(10),
    }[law]  # fmt: skip
    assert surprise_of(law, "")(x) == pytest.approx(expected, rel=1e-6)
    far = surprise_of(law, "")(np.array([1e4, 1e5, 1e6]))
    assert np.isfinite(far).all()
    assert (np.diff(far) > 0).all()


@pytest.mark.parametrize("wrong", [{"rate": "0 Hz"}, {"hysteresis": 2.0}, {"severity": "loud"}, {"gap": 0}, {"rate": "daily"}])
def test_wrong_definitions_are_refused(wrong: dict[str, Any]) -> None:
    source = MarksSpec({"score": ("f8", ())}, null="exponential", trials_hz=10.0)
    with pytest.raises(DefinitionError):
        Alarm("x", **wrong).bind(Fraction(1), {"source": source})
    with pytest.raises(DefinitionError):
        Alarm("x").bind(Fraction(1), {"source": BlockSpec(Fraction(1, 3), ("a",), null="normal")})
