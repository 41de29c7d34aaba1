"""Minimum norm and ridge: optimality conditions, other solvers, special cases that coincide."""

import math

import cvxpy as cp
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from implicit_bias import (
    Classification,
    Regression,
    minimum_norm,
    plant_regression,
    relative_error,
    ridge,
)
from sklearn.linear_model import Ridge

TIGHT = {"tol_gap_abs": 1e-14, "tol_gap_rel": 1e-14, "tol_feas": 1e-14}


def problems(test):
    """Random problems of any shape and rank, consistent or not, with and without a start."""
    return settings(derandomize=True, deadline=None)(
        given(
            n=st.integers(1, 12),
            d=st.integers(1, 12),
            rank=st.integers(1, 12),
            miss=st.sampled_from([0.0, 0.01, 1.0]),
            scale=st.sampled_from([1e-6, 1.0, 1e6]),
            seed=st.integers(0, 10**6),
        )(test)
    )


def planted_and_start(n, d, rank, miss, scale, seed):
    rank = min(n, d, rank)
    planted = plant_regression(
        n,
        d,
        scale * np.geomspace(1, 0.1, rank),
        inconsistency=scale * miss if rank < n else 0.0,
        seed=seed,
    )
    start = torch.from_numpy(np.random.default_rng(seed).standard_normal(d))
    return planted, None if seed % 3 == 0 else start


# ---- minimum norm


@problems
def test_optimality_conditions(n, d, rank, miss, scale, seed):
    planted, start = planted_and_start(n, d, rank, miss, scale, seed)
    X, y = planted.problem.X, planted.problem.y
    w0 = torch.zeros(d).double() if start is None else start
    limit = minimum_norm(planted.problem, start)
    size = scale * float(limit.x.norm() + w0.norm() + 1)  # of the products that were added up
    # Normal equations, and interpolation where it is possible.
    assert float((X.T @ (X @ limit.x - y)).norm()) <= 1e-13 * scale * size
    assert float((X @ limit.x - y).norm()) == pytest.approx(planted.residual, abs=1e-13 * size)
    # Stationarity: w - w0 is in the row space, with the multipliers that are reported.
    torch.testing.assert_close(w0 + X.T @ limit.dual, limit.x, atol=1e-12, rtol=1e-12)
    assert limit.objective == pytest.approx(float((limit.x - w0).norm()), rel=1e-12, abs=1e-14)
    assert limit.rank == planted.singular_values.numel()
    assert limit.status == ("least squares" if planted.residual else "interpolates")
    assert 0 <= limit.residual <= 1e-13


@problems
def test_agrees_with_the_pseudo_inverse(n, d, rank, miss, scale, seed):
    planted, start = planted_and_start(n, d, rank, miss, scale, seed)
    X, y = planted.problem.X.numpy(), planted.problem.y.numpy()
    w0 = np.zeros(d) if start is None else start.numpy()
    expected = w0 + np.linalg.pinv(X, rcond=1e-10) @ (y - X @ w0)
    np.testing.assert_allclose(minimum_norm(planted.problem, start).x, expected, atol=1e-12)


@pytest.mark.parametrize("from_zero", [True, False])
@pytest.mark.parametrize(("n", "d", "rank"), [(1, 5, 1), (6, 15, 6), (10, 12, 4), (8, 8, 8)])
def test_agrees_with_convex_solver(n, d, rank, from_zero):
    """P18 Lemma 2: Clarabel, asked for the nearest interpolator, knows nothing of any of this."""
    planted = plant_regression(n, d, np.geomspace(1, 0.3, rank), seed=n)
    X, y = planted.problem.X.numpy(), planted.problem.y.numpy()
    w0 = np.zeros(d) if from_zero else np.random.default_rng(n).standard_normal(d)
    w = cp.Variable(d)
    # Rows that repeat others make a solver's equations singular: an independent set of them.
    P = np.linalg.svd(X)[0][:, :rank].T
    constraint = P @ X @ w == P @ y
    cp.Problem(cp.Minimize(cp.sum_squares(w - w0)), [constraint]).solve("CLARABEL", **TIGHT)
    limit = minimum_norm(planted.problem, w0)
    assert relative_error(limit.x, w.value) <= 1e-9
    # Its multipliers are ours: 2 (w - w0) + (PX)^T nu = 0, and ours satisfy w - w0 = X^T dual.
    assert relative_error(X.T @ limit.dual.numpy(), -(P @ X).T @ constraint.dual_value / 2) <= 1e-8
    # Every other interpolator is longer, by Pythagoras.
    null = np.linalg.svd(X)[2][rank:]
    for step in np.random.default_rng(0).standard_normal((5, d - rank)):
        other = limit.x.numpy() - w0 + step @ null
        longer = limit.objective**2 + step @ step
        assert other @ other == pytest.approx(longer, rel=1e-13)


def test_agrees_with_the_closed_form():
    """P18 Lemma 2, full row rank: X^T (X X^T)^(-1) y."""
    planted = plant_regression(7, 20, seed=3)
    X, y = planted.problem.X, planted.problem.y
    closed = X.T @ torch.linalg.solve(X @ X.T, y)
    assert relative_error(minimum_norm(planted.problem).x, closed) <= 1e-12


def test_a_square_regular_system_has_one_solution():
    planted = plant_regression(6, 6, seed=3)
    a, b = (minimum_norm(planted.problem, start).x for start in (None, torch.ones(6)))
    torch.testing.assert_close(a, b, atol=1e-13, rtol=0)
    direct = torch.linalg.solve(planted.problem.X, planted.problem.y)
    torch.testing.assert_close(a, direct, atol=1e-13, rtol=0)


@pytest.mark.parametrize("condition", [1e2, 1e4, 1e6, 1e8])
@pytest.mark.parametrize(
    ("n", "d", "rank"), [(20, 50, 20), (50, 20, 20), (30, 40, 20), (20, 20, 20), (1, 9, 1)]
)
def test_an_ill_conditioned_system_loses_its_condition_and_no_more(n, d, rank, condition):
    planted = plant_regression(n, d, np.geomspace(1, 1 / condition, rank), seed=3)
    limit = minimum_norm(planted.problem)
    assert relative_error(limit.x, planted.minimum_norm) <= condition * 1e-15 * 100
    assert limit.status == "interpolates"
    assert limit.rank == rank
    assert limit.residual <= condition * 1e-15


def test_a_start_that_solves_the_system_is_kept():
    planted = plant_regression(10, 20, [1.0, 0.5, 0.2], seed=1)
    null = torch.from_numpy(np.linalg.svd(planted.problem.X.numpy())[2][5])
    start = planted.minimum_norm + 100 * null
    limit = minimum_norm(planted.problem, start)
    assert relative_error(limit.x, start) <= 1e-14
    # What is left of the target is rounding, and rounding is not inconsistency.
    assert limit.status == "interpolates"


def test_a_start_far_larger_than_the_answer_costs_no_digits():
    planted = plant_regression(8, 5, seed=2)
    limit = minimum_norm(planted.problem, 1e6 * torch.ones(5))
    assert relative_error(limit.x, planted.minimum_norm) <= 1e-14


@pytest.mark.parametrize("y", [[0.0, 0.0], [1.0, 2.0]])
def test_data_that_say_nothing_leave_the_start(y):
    limit = minimum_norm(Regression(torch.zeros(2, 3), y), [1.0, 2.0, 3.0])
    assert limit.x.tolist() == [1.0, 2.0, 3.0]
    assert limit.dual.tolist() == [0.0, 0.0]
    assert (limit.rank, limit.residual) == (0, 0.0)
    assert limit.status == ("least squares" if any(y) else "interpolates")


def test_float32_noise_does_not_count_as_rank():
    planted = plant_regression(15, 20, np.geomspace(1, 0.2, 6), seed=2)
    rounded = Regression(planted.problem.X.float(), planted.problem.y.float())
    limit = minimum_norm(rounded)
    assert limit.rank == 6
    assert limit.status == "interpolates"
    assert limit.x.dtype == torch.float64
    assert relative_error(limit.x, planted.minimum_norm) <= 1e-5
    # The same numbers declared exact are another problem: of full rank, and far away.
    assert minimum_norm(Regression(rounded.X, rounded.y)).rank == 15


def test_small_inconsistencies_are_told_from_rounding():
    for miss, status in ((1e-15, "interpolates"), (1e-9, "least squares")):
        planted = plant_regression(30, 10, inconsistency=miss)
        assert minimum_norm(planted.problem).status == status


# ---- ridge


@problems
def test_ridge_is_a_filter(n, d, rank, miss, scale, seed):
    planted, _ = planted_and_start(n, d, rank, miss, scale, seed)
    X, y = planted.problem.X, planted.problem.y
    U, s, Vt = np.linalg.svd(X.numpy(), full_matrices=False)
    for strength in scale**2 * np.array([1e-3, 1.0, 1e3]):
        limit = ridge(planted.problem, strength)
        expected = Vt.T @ (s / (s**2 + strength) * (U.T @ y.numpy()))
        np.testing.assert_allclose(limit.x, expected, atol=1e-13 * (1 + miss))
        gradient = X.T @ (X @ limit.x - y) + strength * limit.x
        assert float(gradient.norm()) <= 1e-13 * scale**2 * (1 + miss)
        torch.testing.assert_close(X.T @ limit.dual, limit.x, atol=1e-9, rtol=1e-9)
        loss = float((X @ limit.x - y).square().sum() + strength * limit.x.square().sum()) / 2
        assert limit.objective == pytest.approx(loss, rel=1e-12)
        assert limit.residual <= 1e-14
        assert limit.status == "regularised"


@pytest.mark.parametrize(("n", "d"), [(8, 20), (20, 8)])
def test_ridge_agrees_with_scikit_learn(n, d):
    planted = plant_regression(n, d, seed=4, inconsistency=0.0 if n < d else 0.5)
    X, y = planted.problem.X.numpy(), planted.problem.y.numpy()
    other = Ridge(alpha=0.3, fit_intercept=False, solver="svd").fit(X, y)
    assert relative_error(ridge(planted.problem, 0.3).x, other.coef_) <= 1e-13


@pytest.mark.parametrize(("n", "d"), [(8, 20), (20, 8)])
def test_ridge_lies_between_nothing_and_minimum_norm(n, d):
    planted = plant_regression(n, d, seed=4)
    limit = minimum_norm(planted.problem).x
    # Off by strength / s_min^2 relative, here 1e-10.
    assert relative_error(ridge(planted.problem, 1e-12).x, limit) <= 2e-10
    assert float(ridge(planted.problem, 1e12).x.norm()) <= 1e-11
    norms = [float(ridge(planted.problem, k).x.norm()) for k in np.geomspace(1e-4, 1e4, 20)]
    assert all(np.diff(norms) < 0)


# ---- what is refused


@pytest.mark.parametrize("strength", [0.0, -1.0, math.nan, math.inf, 1e200, 1e-200])
def test_ridge_refuses(strength):
    with pytest.raises(ValueError, match=r"strength = .*not unique when d > n.*Use minimum_norm"):
        ridge(Regression([[1.0]], [1.0]), strength)


@pytest.mark.parametrize(
    ("start", "message"),
    [
        ([1.0], r"shape \(1,\).*d = 2.*length 2"),
        ([1.0, math.inf], "start has a NaN or infinite entry"),
    ],
)
def test_minimum_norm_refuses(start, message):
    with pytest.raises(ValueError, match=message):
        minimum_norm(Regression([[1.0, 2.0]], [1.0]), start)


@pytest.mark.parametrize("solve", [minimum_norm, lambda problem: ridge(problem, 1.0)])
def test_refuses_what_is_no_regression(solve):
    with pytest.raises(TypeError, match=r"needs a Regression.*square loss.*Classification"):
        solve(Classification([[1.0, 0.0]], [[1, -1]]))


@pytest.mark.parametrize("size", [1e-70, 1e-40, 1e40, 1e70])
def test_the_answer_scales_with_the_data(size):
    planted = plant_regression(4, 7, seed=9)
    X, y = planted.problem.X, planted.problem.y
    scaled = minimum_norm(Regression(size * X, y))
    assert scaled.residual <= 1e-13
    assert relative_error(size * scaled.x, planted.minimum_norm) <= 1e-13


def test_the_rank_is_that_of_the_singular_values():
    """Kahan's matrix: pivoted QR sees nothing of its smallest singular value.

    With c = 0.285 and 150 rows the last diagonal entry is 1e16 times too large; the limit
    must still count as noise what the flow counts as noise.
    """
    k, c = 150, 0.285
    s = math.sqrt(1 - c * c)
    kahan = np.diag(s ** np.arange(k)) @ (np.eye(k) - c * np.triu(np.ones((k, k)), 1))
    problem = Regression(kahan, np.ones(k))
    singular = torch.linalg.svdvals(problem.X)
    rank = int((singular > k * problem.precision * singular[0]).sum())
    assert minimum_norm(problem).rank == rank < k


@pytest.mark.parametrize("strength", [1e-100, 1e-30, 1e-12, 1e-3])
def test_ridge_does_not_fit_rounding(strength):
    """Rank 3 in float32: seven singular values are rounding, and stay unfitted for any strength."""
    planted = plant_regression(10, 20, [1.0, 0.5, 0.2], seed=3)
    X = planted.problem.X.to(torch.float32)
    problem = Regression(X, planted.problem.y)
    limit = ridge(problem, strength)
    assert limit.rank == 3
    assert limit.residual <= 1e-12
    target = planted.row_basis.T @ planted.minimum_norm
    shrunk = target * planted.singular_values**2 / (planted.singular_values**2 + strength)
    # The input was rounded to 6e-8, and 1 / 0.2 amplifies that.
    assert relative_error(limit.x, planted.row_basis @ shrunk) <= 5e-6


@pytest.mark.parametrize("strength", [1e-14, 1e-6, 1.0, 1e6, 1e14, 1e100])
def test_the_dual_of_ridge_makes_its_solution(strength):
    planted = plant_regression(9, 5, inconsistency=1.0, seed=3)
    limit = ridge(planted.problem, strength)
    X = planted.problem.X
    assert relative_error(X.T @ limit.dual, limit.x) <= 1e-13
    U = torch.linalg.svd(X, full_matrices=False)[0]
    misfit = (planted.problem.y - X @ limit.x) / strength
    if strength >= 1:  # below, the quotient itself is mostly rounding
        assert relative_error(U @ (U.T @ misfit), limit.dual) <= 1e-12
