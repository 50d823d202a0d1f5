"""Predict against weighted least squares written out, and on a thermal model that is known."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from twin_engine.errors import DefinitionError
from twin_engine.estimate import Predict
from twin_engine.kernels.regression import student_to_normal
from twin_engine.ports import Block, BlockSpec

Array = NDArray[np.float64]


def run(stage: Predict, x: Array, valid: NDArray[np.bool_] | None = None, rate: Fraction = Fraction(1)) -> tuple[Array, Array]:
    spec = BlockSpec(rate, ("u", "v", "y", "z"), ("1", "1", "K", "1"))
    op = stage.bind(Fraction(1), {"source": spec})
    known = np.ones_like(x, bool) if valid is None else valid
    _, out = op.step(op.init(1), {"source": Block(x[None], known[None], np.zeros(1, np.int64), np.zeros(1, np.int64))})
    residual, prediction = out["residual"], out["prediction"]
    assert np.array_equal(np.isfinite(residual.values), residual.valid)
    return residual.values[0], prediction.values[0]


def test_prediction_equals_weighted_least_squares() -> None:
    rng = np.random.default_rng(0)
    n, memory = 400, 80
    u, v = rng.normal(2, 3, n), rng.normal(-1, 0.1, n)
    y = 5 + 2 * u - 30 * v + rng.normal(0, 0.5, n)
    valid = rng.random((4, n)) > 0.1
    valid[:2] = True
    x = np.stack([u, v, y, y])
    _, prediction = run(Predict("x", ["y"], ["u", "v"], memory=memory, warm_up=20), x, valid)
    learnt = [t for t in range(n) if valid[2, t]]
    for t in (60, 200, 399):
        past = np.array([s for s in learnt if s < t])
        weight = np.sqrt(np.exp(-(len(past) - 1.0 - np.arange(len(past))) / memory))
        design = np.stack([np.ones(len(past)), u[past], v[past]], axis=1)
        beta = np.linalg.lstsq(design * weight[:, None], y[past] * weight, rcond=None)[0]
        assert prediction[0, t] == pytest.approx(beta @ [1, u[t], v[t]], rel=1e-4)


def test_residual_is_never_wider_than_a_standard_normal() -> None:
    """Over many short runs: just after the warm-up coefficients and correlations are poorly known, and the residual errs towards calm."""
    rng = np.random.default_rng(1)
    runs, n = 1500, 60
    x = rng.normal(size=(runs, 4, n))
    x[:, 2] += 3 * x[:, 0]
    spec = BlockSpec(Fraction(1), ("u", "v", "y", "z"))
    op = Predict("x", ["y"], ["u", "v"], memory=50, warm_up=12).bind(Fraction(1), {"source": spec})
    rows = np.arange(runs)
    _, out = op.step(op.init(runs), {"source": Block(x, np.ones_like(x, bool), rows, rows * 0)})
    z = out["residual"].values[:, 0]
    for t, least in ((14, 0.75), (20, 0.85), (59, 0.92)):
        assert least < np.nanstd(z[:, t]) < 1.05
        assert np.mean(np.abs(z[:, t]) > 2.576) < 0.018


def test_lags_are_those_of_a_thermal_model() -> None:
    """A temperature behind two resistances and capacities is predicted to its noise; a resistance that grows is seen until it is learnt."""
    rng = np.random.default_rng(2)
    n = 6000
    load = np.repeat(rng.random(n // 20), 20)
    heat, fast, slow = np.zeros(n), load[0], load[0]
    for t in range(n):
        fast += (1 - np.exp(-1 / 10)) * (load[t] - fast)
        slow += (1 - np.exp(-1 / 60)) * (load[t] - slow)
        heat[t] = 25 + 10 * fast + (25 if t < 5000 else 40) * slow
    x = np.stack([load, load, heat + rng.normal(0, 0.2, n), load])
    residual, prediction = run(Predict("x", ["y"], ["u"], responses=(10, 60), memory="2 h", warm_up="1 min"), x)
    assert np.std((prediction[0] - heat)[1000:5000]) < 0.05
    assert np.abs(residual[0, 1000:5000]).max() < 4.7
    assert np.abs(residual[0, 5060:5300]).min() > 8
    assert np.abs(residual[0, 5990]) < np.abs(residual[0, 5100])


def test_a_missing_target_is_still_predicted() -> None:
    rng = np.random.default_rng(3)
    x = rng.normal(size=(4, 300))
    x[2] = 7 * x[0] + 1
    valid = np.ones_like(x, bool)
    valid[2, 200:] = False
    residual, prediction = run(Predict("x", ["y"], ["u"], memory=100, warm_up=20), x + 0, valid)
    assert np.isnan(residual[0, 200:]).all()
    assert prediction[0, 200:] == pytest.approx(x[2, 200:], abs=1e-3)


def test_a_missing_regressor_is_taken_at_its_mean() -> None:
    rng = np.random.default_rng(4)
    x = rng.normal(5, 1, size=(4, 3000))
    x[2] = 2 * x[0] + x[1]
    valid = np.ones_like(x, bool)
    valid[1, 2900:] = False
    _, prediction = run(Predict("x", ["y"], ["u", "v"], memory=1000, warm_up=20), x, valid)
    assert prediction[0, 2950] == pytest.approx(2 * x[0, 2950] + np.mean(x[1, :2900]), abs=0.2)
    valid[0, 2900:] = False
    assert np.isnan(run(Predict("x", ["y"], ["u", "v"], memory=1000, warm_up=20), x, valid)[1][0, 2900:]).all()


def test_a_regressor_that_comes_late_or_never_does_no_harm() -> None:
    rng = np.random.default_rng(5)
    x = rng.normal(1e9, 1, size=(4, 600))
    x[2] = 2 * (x[0] - 1e9) + (x[1] - 1e9) + 0.01 * rng.normal(size=600)
    valid = np.ones_like(x, bool)
    valid[1, :300] = False
    residual, prediction = run(Predict("x", ["y"], ["u", "v"], memory=200, warm_up=20), x, valid)
    assert np.abs((prediction - x[2])[0, 550:]).max() < 0.5
    assert np.abs(residual[0, 300:]).max() < 6


def test_a_constant_target_has_no_residual() -> None:
    x = np.random.default_rng(6).normal(size=(4, 200))
    x[2] = 0.02
    residual, prediction = run(Predict("x", ["y"], ["u"], memory=100, warm_up=20), x)
    assert np.isnan(residual).all()
    assert prediction[0, 100] == pytest.approx(0.02)


def test_one_outlier_hardly_moves_the_model() -> None:
    rng = np.random.default_rng(7)
    x = rng.normal(size=(4, 400))
    x[2] = x[0] + 0.1 * rng.normal(size=400)
    x[2, 200] = 1e3
    _, prediction = run(Predict("x", ["y"], ["u"], memory=200, warm_up=20), x)
    assert np.abs(prediction[0, 201:] - x[0, 201:]).max() < 0.3


@pytest.mark.parametrize("freedom", [3.0, 10.0, 200.0])
def test_student_to_normal(freedom: float) -> None:
    for t in (-8.0, -1.0, 0.0, 0.5, 4.0):
        assert student_to_normal(t, freedom) == pytest.approx(stats.norm.ppf(stats.t.cdf(t, freedom)), abs=0.05)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"targets": ["w"]}, "Did you mean|channels of u, v, y, z"),
        ({"targets": ["u"]}, "'u' as both"),
        ({"targets": []}, "found none"),
        ({"warm_up": 3}, "a warm-up of more than 4 samples"),
        ({"warm_up": "1 d"}, "at most the memory"),
    ],
)
def test_definitions_that_cannot_work(options: dict[str, object], match: str) -> None:
    spec = BlockSpec(Fraction(1), ("u", "v", "y", "z"))
    stage = Predict("x", **({"targets": ["y"], "regressors": ["u"], "memory": 100, "warm_up": 20} | options))  # type: ignore[arg-type]
    with pytest.raises(DefinitionError, match=match):
        stage.bind(Fraction(1), {"source": spec})
