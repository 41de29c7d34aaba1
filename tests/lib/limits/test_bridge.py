"""The bridge problem by brute force: convex special cases, closed forms, certificates."""

import itertools

import numpy as np
import pytest
import torch
from implicit_bias import Classification, NotSeparable, Regression, max_margin
from implicit_bias.limits.bridge import brute_force_bridge
from implicit_bias.models.factorisations import unitary_dft


def random_problem(n, d, seed):
    rng = np.random.default_rng(seed)
    return Classification(rng.standard_normal((n, d)), np.sign(rng.standard_normal(n)))


def quasi_norm(beta, depth, basis):
    size = unitary_dft(beta).abs() if basis == "fourier" else beta.abs()
    size = size[size > 1e-12 * size.max()]
    return float((size ** (2 / depth)).sum() ** (depth / 2))


@pytest.mark.parametrize(("basis", "norm"), [("fourier", "fourier"), ("identity", 1)])
@pytest.mark.parametrize(("n", "d"), [(2, 5), (3, 6)])
def test_convex_at_depth_2(basis, norm, n, d):
    problem = random_problem(n, d, n)
    limit = brute_force_bridge(problem, 2, basis)
    # SLSQP ends at a relative change of 1e-15 in the objective.
    assert limit.objective == pytest.approx(max_margin(problem, norm).objective, rel=1e-10)
    assert limit.residual < 1e-6


@pytest.mark.parametrize("depth", [3, 4])
@pytest.mark.parametrize(("basis", "d"), [("fourier", 6), ("fourier", 5), ("identity", 5)])
def test_feasible_stationary_and_as_reported(basis, d, depth):
    problem = random_problem(3, d, depth)
    limit = brute_force_bridge(problem, depth, basis)
    assert float((problem.Z @ limit.x).min()) == pytest.approx(1, abs=1e-12)
    assert limit.residual < 1e-6
    assert limit.objective == pytest.approx(quasi_norm(limit.x, depth, basis), rel=1e-9)
    assert limit.status == "separates"


def test_one_example():
    """The best single coefficient: 1/|z|_inf, or sqrt 2 times more in a pair of frequencies."""
    problem = Classification([[3.0, 1.0, -4.0, 1.5]], [1])
    assert brute_force_bridge(problem, 4, "identity").objective == pytest.approx(1 / 4)
    spectrum = unitary_dft(problem.Z[0]).abs().numpy()
    # A lone frequency costs 1/|z_k|, a pair 2^(1/p) r with 2 r |z_k| = 1.
    costs = [1 / spectrum[0], 2 ** (3 / 2 - 1) / spectrum[1], 1 / spectrum[2]]
    assert brute_force_bridge(problem, 3).objective == pytest.approx(min(costs))


@pytest.mark.parametrize("seed", range(3))
def test_against_vertices(seed):
    """In coordinates the least is at a vertex: try all of them."""
    depth, d, n = 3, 5, 2
    problem = random_problem(n, d, seed)
    Z = problem.Z.numpy()
    best = np.inf
    for count in range(1, n + 1):
        for rows in itertools.combinations(range(n), count):
            for columns in itertools.combinations(range(d), count):
                beta = np.zeros(d)
                beta[list(columns)] = np.linalg.solve(Z[np.ix_(rows, columns)], np.ones(count))
                if (Z @ beta).min() >= 1 - 1e-9:
                    best = min(best, quasi_norm(torch.from_numpy(beta), depth, "identity"))
    assert brute_force_bridge(problem, depth, "identity").objective == pytest.approx(best)


@pytest.mark.parametrize("rows", [[[1.0, -2.0], [1.0, 0.5]], [[1.0, 0.5], [1.0, -2.0]]])
def test_dependent_examples(rows):
    """The multipliers are not unique, and the certificate finds some that prove the optimum."""
    limit = brute_force_bridge(Classification(rows, [1, 1]), 2, "identity")
    assert limit.x.tolist() == pytest.approx([1, 0], abs=1e-9)
    assert limit.residual < 1e-7


@pytest.mark.parametrize("scale", [1e-5, 1e5])
def test_scale(scale):
    problem = random_problem(2, 5, 1)
    limit = brute_force_bridge(problem, 3)
    scaled = brute_force_bridge(Classification(scale * problem.X, problem.y), 3)
    assert scaled.objective * scale == pytest.approx(limit.objective, rel=1e-9)


def test_messages():
    problem = random_problem(2, 4, 0)
    with pytest.raises(ValueError, match="At most d = 8"):
        brute_force_bridge(random_problem(2, 9, 0), 3)
    with pytest.raises(ValueError, match="depth = 1 is too small"):
        brute_force_bridge(problem, 1)
    with pytest.raises(ValueError, match="no basis 'nuclear'"):
        brute_force_bridge(problem, 3, "nuclear")
    with pytest.raises(TypeError, match="got a Regression"):
        brute_force_bridge(Regression([[1.0]], [1.0]), 3)
    with pytest.raises(NotSeparable):
        brute_force_bridge(Classification([[1.0], [-1.0]], [1, 1]), 3)
    with pytest.raises(ValueError, match="y has shape"):
        brute_force_bridge(Classification([[1.0]], [[1]]), 3)
