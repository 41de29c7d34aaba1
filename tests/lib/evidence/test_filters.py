"""Early stopping beside ridge: alike, and how unlike."""

import math

import numpy as np
import pytest
import torch
from implicit_bias import (
    Regression,
    exact_descent,
    expected_risk,
    flow_filter,
    gradient_flow,
    minimum_norm,
    plant_regression,
    ridge,
    ridge_filter,
)
from scipy.optimize import minimize_scalar


def one_mode(share):
    """The regression whose only mode has s^2 t = ``share`` at t = 1, and whose answer is 1."""
    s = math.sqrt(share)
    return Regression([[s]], [s])


def test_largest_difference():
    """P18 section 3.1: measured on the flow itself and on ridge itself, not on formulas."""

    def difference(share, strength=1.0):
        problem = one_mode(share)
        return float(gradient_flow(problem, [1.0]).x - ridge(problem, strength).x)

    worst = minimize_scalar(
        lambda x: -difference(x), bounds=(0.5, 6), method="bounded", options={"xatol": 1e-9}
    )
    assert -worst.fun == pytest.approx(0.203632, abs=1e-6)
    assert worst.x == pytest.approx(2.512862, abs=1e-5)
    # On one problem with many modes no share exceeds it, and one comes near.
    shares = np.geomspace(1e-3, 1e3, 120)
    planted = plant_regression(150, 200, np.sqrt(shares)[::-1].copy(), seed=0)
    V = torch.linalg.svd(planted.problem.X, full_matrices=False).Vh[:120]
    answer = V @ minimum_norm(planted.problem).x
    flow = V @ gradient_flow(planted.problem, [1.0]).x / answer
    penalised = V @ ridge(planted.problem, 1.0).x / answer
    largest = float((flow - penalised).abs().max())
    assert largest <= worst.fun * -1 + 1e-9
    assert largest == pytest.approx(0.203632, abs=1e-3)

    # The matching strength = c / t whose worst difference is least: not c = 1.
    def worst_difference(c):
        over = minimize_scalar(lambda x: -difference(x, c), bounds=(0.5, 9), method="bounded")
        under = minimize_scalar(lambda x: difference(x, c), bounds=(1e-3, 1), method="bounded")
        return max(-over.fun, -under.fun)

    best = minimize_scalar(
        worst_difference, bounds=(0.3, 0.9), method="bounded", options={"xatol": 1e-6}
    )
    assert best.x == pytest.approx(0.5317, abs=1e-4)
    assert best.fun == pytest.approx(0.1019, abs=1e-4)


def test_filters_are_what_the_estimators_do():
    shares = np.geomspace(1e-4, 1e2, 9)
    flow = [float(gradient_flow(one_mode(x), [1.0]).x) for x in shares]
    penalised = [float(ridge(one_mode(x), 1.0).x) for x in shares]
    np.testing.assert_allclose(flow_filter(shares), flow, rtol=1e-12)
    np.testing.assert_allclose(ridge_filter(shares), penalised, rtol=1e-12)
    steps = exact_descent(one_mode(2.0), [1000], 1e-3).x
    assert float(steps) == pytest.approx(float(flow_filter(2.0)), rel=2e-3)


def test_filters_at_the_ends():
    ends = [0.0, 1e-300, 1e300, math.inf]
    assert flow_filter(ends).tolist() == [0.0, 1e-300, 1.0, 1.0]
    assert ridge_filter(ends).tolist() == [0.0, 1e-300, 1.0, 1.0]
    x = torch.logspace(-6, 6, 200, dtype=torch.float64).reshape(2, 100)
    assert flow_filter(x).shape == x.shape
    # Both have slope 1 at zero, and ridge is the more hesitant everywhere.
    assert bool((ridge_filter(x) < flow_filter(x)).all())


@pytest.mark.parametrize("weighted", [False, True])
def test_expected_risk_is_bias_and_variance(weighted):
    """Against dense algebra: E |A y - w|^2_G = |(A X - I) w|^2_G + noise^2 tr(G A A^T)."""
    planted = plant_regression(6, 4, [2.0, 1.0, 0.7, 0.2], seed=5)
    X = planted.problem.X.numpy()
    U, s, Vt = np.linalg.svd(X, full_matrices=False)
    rng = np.random.default_rng(0)
    w, f, omega = rng.standard_normal(4), rng.random((3, 4)), rng.random(4) + 0.5
    G = Vt.T @ np.diag(omega if weighted else np.ones(4)) @ Vt
    for row in f:
        A = Vt.T @ np.diag(row / s) @ U.T
        bias = (A @ X - np.eye(4)) @ w
        exact = bias @ G @ bias + 0.3**2 * np.trace(G @ A @ A.T)
        risk = expected_risk(row, s, Vt @ w, 0.3, list(omega) if weighted else None)
        assert float(risk) == pytest.approx(exact, rel=1e-12)
    assert expected_risk(f, s, Vt @ w, 0.3).shape == (3,)


def test_expected_risk_against_simulation():
    planted = plant_regression(8, 3, [1.5, 1.0, 0.4], seed=6)
    X = planted.problem.X
    V = torch.linalg.svd(X, full_matrices=False).Vh
    rng = np.random.default_rng(2)
    w = V.T @ torch.tensor([1.0, -2.0, 0.5]).double()
    errors = []
    for _ in range(400):
        y = X @ w + 0.5 * torch.from_numpy(rng.standard_normal(8))
        errors.append(float((ridge(Regression(X, y), 0.3).x - w).square().sum()))
    s = torch.linalg.svdvals(X)
    risk = float(expected_risk(ridge_filter(s**2 / 0.3), s, V @ w, 0.5))
    assert np.mean(errors) == pytest.approx(risk, abs=4 * np.std(errors) / 20)


@pytest.mark.parametrize("call", [flow_filter, ridge_filter])
@pytest.mark.parametrize("x", [-1.0, [0.0, math.nan]])
def test_filters_refuse(call, x):
    with pytest.raises(ValueError, match=r"s\^2 t or s\^2 / lambda.*never negative or NaN"):
        call(x)


@pytest.mark.parametrize(("s", "noise"), [([0.0], 1.0), ([-1.0], 1.0), ([1.0], -1.0)])
def test_expected_risk_refuses(s, noise):
    with pytest.raises(ValueError, match=r"divides the noise.*must be positive.*null directions"):
        expected_risk([0.5], s, [1.0], noise)
