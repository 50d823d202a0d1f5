from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from twin_engine.detect import Cusum, Level, PageHinkley
from twin_engine.errors import DefinitionError
from twin_engine.ports import Block, BlockSpec

SPEC = BlockSpec(Fraction(1), ("x",))


def run(stage, x):
    op = stage.bind(Fraction(1), {"source": SPEC})
    values = np.asarray(x, float)[None, None]
    _, out = op.step(op.init(1), {"source": Block(values, np.isfinite(values), np.arange(1), np.zeros(1, np.int64))})
    return {name: np.where(port.valid, port.values, np.nan)[0, 0] for name, port in out.items()}


def slow_level(x, memory, clip, warm):
    """Level the slow way: (z, level, scale) before each sample."""
    level, scale, found = x[0], 0.0, []
    for n, v in enumerate(x):
        gain, e = max(1 / memory, 1 / (n + 1)), v - level
        moved = np.clip(e, -clip * scale, clip * scale) if n >= 8 and scale > 0 else e
        z = e / (scale * np.sqrt(1 + gain / (2 - gain))) if scale > 0 else 0.0
        found.append((z, level, scale) if n >= warm else (np.nan,) * 3)
        level += gain * moved
        if n:
            scale += max(1 / memory, 1 / n) * (np.sqrt(np.pi / 2) * abs(moved) - scale)
    return np.array(found).T


def test_level_agrees_with_the_slow_version():
    x = np.random.default_rng(0).normal(5, 2, 500)
    x[200] = 90
    out = run(Level("x", memory=50), x)
    expected = slow_level(x, 50, 3.0, 12)
    for got, want in zip((out["score"], out["level"], out["scale"]), expected, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-12)


def test_level_is_standard_normal_under_its_null():
    z = run(Level("x", memory=500), np.random.default_rng(1).normal(-3, 7, 100_000))["score"]
    z = z[np.isfinite(z)]
    assert z.std() == pytest.approx(1.0, abs=0.02)
    assert np.mean(np.abs(z) > 2.5758) == pytest.approx(0.01, rel=0.15)


CUMULATIVE = [(Cusum("x", memory=8000), 0.25), (PageHinkley("x", memory=8000, warm_up=200, restart=99), 0.35)]


@pytest.mark.parametrize(("stage", "tolerance"), CUMULATIVE)
def test_cumulative_sums_follow_their_stated_law(stage, tolerance):
    s = run(stage, np.random.default_rng(2).normal(size=300_000))["score"][2000:]
    for p in (0.1, 0.01, 0.001):
        assert np.mean(s >= -np.log10(p)) == pytest.approx(p, rel=tolerance)


def test_cusum_finds_a_small_shift_and_forgets_it():
    x = np.random.default_rng(3).normal(size=6000)
    x[3000:] += 1.5
    s = run(Cusum("x", memory=300), x)["score"]
    assert np.nanmax(s[300:3000]) < 7 < np.nanmax(s[3000:3060])
    assert np.nanmax(s[5000:]) < 7


def test_page_hinkley_starts_anew_after_a_change():
    x = np.random.default_rng(4).normal(size=3000)
    x[2000:] += 2
    s = run(PageHinkley("x", memory=5000, warm_up=50), x)["score"]
    found = np.flatnonzero(s >= 6)
    assert len(found) == 1
    assert 2000 <= found[0] < 2050
    assert np.isnan(s[found[0] + 1 : found[0] + 40]).all()


def test_a_stuck_and_then_a_noisy_sensor_are_learnt():
    rng = np.random.default_rng(5)
    x = np.concatenate([rng.normal(size=1000), np.zeros(5000), rng.normal(size=1000), rng.normal(0, 100, 4000)])
    out = run(Level("x", memory=100), x)
    assert out["scale"][5990] > 0.5  # a stuck sensor is no quiet one
    assert np.abs(out["score"][6000:7000]).max() < 8
    assert np.abs(out["score"][9000:]).max() < 8


def test_wrong_settings_are_refused():
    for stage in (Level("x", memory="1/10 s"), Level("x", clip=0), Cusum("x", drift=-1)):
        with pytest.raises(DefinitionError):
            stage.bind(Fraction(1), {"source": SPEC})
