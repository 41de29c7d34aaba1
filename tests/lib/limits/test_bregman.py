"""Bregman projections: optimality, other solvers, closed forms, and proofs of infeasibility."""

import math

import cvxpy as cp
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from implicit_bias import Regression, minimum_norm, plant_regression, relative_error
from implicit_bias.limits.bregman import Infeasible, bregman_projection
from implicit_bias.potentials import Entropy, PNorm, Quadratic, SquaredNorm
from scipy.optimize import linprog

TIGHT, LOOSER = (
    dict.fromkeys(("tol_gap_abs", "tol_gap_rel", "tol_feas"), size) for size in (1e-13, 1e-10)
)


def positive(n, d, seed, share=0.5, rank=None):
    """Gaussian X and a non-negative answer with about that share of positive entries."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, d))
    if rank:
        X = rng.standard_normal((n, rank)) @ X[:rank]
    u = rng.uniform(0.1, 1, d) * (rng.random(d) < share)
    u[rng.integers(d)] = 1.0
    return Regression(X, X @ u), u


def definite(d, seed):
    A = np.random.default_rng(seed).standard_normal((d, d))
    return A @ A.T + np.eye(d)


@settings(derandomize=True, deadline=None, max_examples=150)
@given(
    n=st.integers(1, 8),
    d=st.integers(1, 20),
    rank=st.sampled_from([None, 1, 3]),
    scale=st.sampled_from([1e-5, 1.0, 1e5]),
    logalpha=st.sampled_from([0, -3, -8, -12]),
    which=st.sampled_from(["entropy", "squared", "quadratic", 1.2, 1.5, 3.0, 4.0]),
    seed=st.integers(0, 10**6),
)
def test_optimality_conditions(n, d, rank, scale, logalpha, which, seed):
    problem, _ = positive(n, d, seed, share=1.0, rank=min(n, d, rank or 99))
    problem = Regression(scale * problem.X, scale * problem.y)
    rng = np.random.default_rng(seed)
    start = 10.0**logalpha * rng.uniform(0.5, 1, d)
    potential = {
        "entropy": Entropy(), "squared": SquaredNorm(), "quadratic": Quadratic(definite(d, seed)),
    }.get(which) or PNorm(which)  # fmt: skip
    if which != "entropy":
        start *= rng.choice([-1, 1], d)
    limit = bregman_projection(problem, potential, start)
    X, y, w0 = problem.X, problem.y, torch.from_numpy(start)
    size = float(torch.linalg.matrix_norm(X) * limit.x.norm() + y.norm())
    assert float((X @ limit.x - y).norm()) <= 1e-10 * size
    assert limit.residual <= 1e-10
    lift = potential.mirror(limit.x) - potential.mirror(w0)
    parts = float(potential.mirror(limit.x).norm() + potential.mirror(w0).norm())
    assert float((lift - X.T @ limit.dual).norm()) <= 1e-10 * (parts + 1)
    assert limit.objective == float(potential.divergence(limit.x, w0))
    assert limit.rank == min(n, d, rank or 99)
    assert limit.status == "interpolates"
    # Pythagoras: for any other interpolator D(w, w0) = D(w, x) + D(x, w0).
    null = np.linalg.svd(X.numpy())[2][limit.rank :]
    if len(null):
        w = limit.x.numpy() + 0.3 * limit.x.abs().min().item() * null[0]
        longer = potential.divergence(w, limit.x) + limit.objective
        assert float(potential.divergence(w, w0)) == pytest.approx(float(longer), rel=1e-8)


@pytest.mark.parametrize("alpha", [1.0, 0.3, 0.1])
@pytest.mark.parametrize(("n", "d"), [(2, 6), (5, 20)])
def test_entropy_agrees_with_a_conic_solver(n, d, alpha):
    problem, _ = positive(n, d, n, share=1.0)
    start = alpha * np.random.default_rng(n).uniform(0.5, 1, d)
    u = cp.Variable(d)
    constraint = problem.X.numpy() @ u == problem.y.numpy()
    cp.Problem(cp.Minimize(cp.sum(cp.kl_div(u, start))), [constraint]).solve("CLARABEL", **TIGHT)
    limit = bregman_projection(problem, Entropy(), start)
    # A point within 1e-13 of the least divergence is within 3e-7 of the minimiser (1e-8 here).
    assert relative_error(limit.x, u.value) <= 1e-7
    np.testing.assert_allclose(limit.dual, -constraint.dual_value, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("p", [1.5, 3.0])
def test_p_norm_agrees_with_a_conic_solver(p):
    problem, _ = positive(4, 10, 3, share=1.0)
    start = np.random.default_rng(3).standard_normal(10)
    image = np.sign(start) * np.abs(start) ** (p - 1)
    w = cp.Variable(10)
    objective = cp.sum(cp.power(cp.abs(w), p)) / p - image @ w
    constraints = [problem.X.numpy() @ w == problem.y.numpy()]
    cp.Problem(cp.Minimize(objective), constraints).solve("CLARABEL", **LOOSER)
    assert relative_error(bregman_projection(problem, PNorm(p), start).x, w.value) <= 1e-6


@pytest.mark.parametrize(("n", "d", "rank"), [(3, 8, 3), (8, 8, 8), (10, 6, 4)])
def test_quadratic_potentials_have_closed_forms(n, d, rank):
    planted = plant_regression(n, d, np.geomspace(1, 0.2, rank), seed=n)
    start = np.random.default_rng(0).standard_normal(d)
    nearest = minimum_norm(planted.problem, start)
    for potential in (SquaredNorm(), PNorm(2), Quadratic(np.eye(d))):
        limit = bregman_projection(planted.problem, potential, start)
        assert relative_error(limit.x, nearest.x) <= 1e-13
        assert limit.objective == pytest.approx(nearest.objective**2 / 2, rel=1e-12)
    X, y, K = planted.problem.X.numpy(), planted.problem.y.numpy(), definite(d, 1)
    inverse = np.linalg.inv(K)
    G = inverse @ X.T @ np.linalg.pinv(X @ inverse @ X.T, rcond=1e-10)
    limit = bregman_projection(planted.problem, Quadratic(K), start)
    assert relative_error(limit.x, start + G @ (y - X @ start)) <= 1e-11


def test_one_equation_by_hand():
    """Sum of u = s: the start, scaled. And every weight of d equal ones is (y/d)."""
    for alpha in (1.0, 1e-12, 1e-100):
        start = alpha * np.array([1.0, 2.0, 5.0])
        limit = bregman_projection(Regression([[1.0, 1.0, 1.0]], [4.0]), Entropy(), start)
        torch.testing.assert_close(
            limit.x, torch.tensor([0.5, 1, 2.5]).double(), rtol=1e-13, atol=0
        )
        assert limit.dual.item() == pytest.approx(math.log(0.5 / alpha), rel=1e-14)


def test_a_square_system_leaves_no_choice():
    problem, u = positive(6, 6, 2, share=1.0)
    for potential in (Entropy(), PNorm(1.3), PNorm(4)):
        limit = bregman_projection(problem, potential, torch.ones(6))
        assert relative_error(limit.x, u) <= 1e-12


def test_a_start_that_fits_is_kept():
    problem, u = positive(3, 9, 5, share=1.0)
    for potential in (Entropy(), PNorm(1.5), PNorm(3), SquaredNorm()):
        limit = bregman_projection(problem, potential, u)
        assert relative_error(limit.x, u) <= 1e-14
        assert limit.objective <= 1e-28


# ---- starts that vanish


def reduced_costs(problem):
    X, y = problem.X.numpy(), problem.y.numpy()
    found = linprog(np.ones(problem.d), A_eq=X, b_eq=y, bounds=(0, None), method="highs")
    return found.x, 1 - X.T @ found.eqlin.marginals


def test_a_vanishing_start_gives_the_linear_programme():
    """M24: u_0 = alpha 1. The error is alpha to the least reduced cost of the programme."""
    seen = 0
    for seed in range(20):
        problem, _ = positive(5, 20, seed, share=0.3)
        best, costs = reduced_costs(problem)
        least = np.min(costs[best < 1e-9])
        if least < 0.04 or (best > 1e-9).sum() < 5:
            continue  # at such a pace even 1e-300 is not small, or the vertex is degenerate
        seen += 1
        # Small enough that the next cost plays no part, large enough to be above rounding.
        alphas = 10.0 ** -np.array([5 / least, 9 / least])
        errors = [
            relative_error(bregman_projection(problem, Entropy(), np.full(20, a)).x, best)
            for a in alphas
        ]
        power = math.log(errors[0] / errors[1]) / math.log(alphas[0] / alphas[1])
        assert power == pytest.approx(least, rel=0.05)
        tiny = bregman_projection(problem, Entropy(), np.full(20, 1e-300))
        assert relative_error(tiny.x, best) <= 1e-11
        assert tiny.residual <= 1e-12
    assert seen >= 8


def test_any_start_near_zero_is_within_reach():
    worst = 0.0
    for seed in range(60):
        n, d = [(3, 8), (5, 20), (10, 40)][seed % 3]
        problem, _ = positive(n, d, seed)
        for alpha in (1.0, 1e-4, 1e-8, 1e-12):
            limit = bregman_projection(problem, Entropy(), np.full(d, alpha))
            worst = max(worst, limit.residual)
            assert (limit.x > 0).all()


def test_a_hessian_that_underflows_on_the_way():
    """Straight from 1e-50 Newton's method loses itself here; by way of 1e-25 and so on not."""
    X = [[1.748, -0.327, -0.98, -0.985, 0.48], [-0.637, -0.01, 0.373, 0.084, -1.559]]
    limit = bregman_projection(Regression(X, [3.196, 1.037]), Entropy(), np.full(5, 1e-50))
    vertex = np.linalg.solve(np.array(X)[:, [0, 2]], [3.196, 1.037])
    assert relative_error(limit.x[[0, 2]], vertex) <= 1e-12
    assert float(limit.x[[1, 3, 4]].max()) <= 1e-12


# ---- no solution, or only on the boundary


def check(problem, certificate):
    image = problem.X.T @ certificate
    assert float(image.max()) <= 1e-9 * float(problem.X.abs().max() * certificate.abs().max())
    assert float(problem.y @ certificate) > 0


def test_infeasible_data_come_with_a_proof():
    found = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        n, d = int(rng.integers(1, 8)), int(rng.integers(2, 12))
        scale = 10.0 ** rng.integers(-4, 5)
        problem = Regression(scale * rng.standard_normal((n, d)), rng.standard_normal(n))
        other = linprog(
            np.zeros(d), A_eq=problem.X.numpy() / scale, b_eq=problem.y.numpy(), method="highs"
        )
        if other.status == 2:
            found += 1
            with pytest.raises(Infeasible) as caught:
                bregman_projection(problem, Entropy(), torch.ones(d))
            check(problem, caught.value.certificate)
        else:
            bregman_projection(problem, Entropy(), torch.ones(d))
    assert found > 20


def test_signs_make_it_infeasible():
    problem = Regression([[1.0, 2.0]], [-3.0])
    with pytest.raises(Infeasible, match=r"No u >= 0 has Xu = y.*certificate.*\[X, -X\]") as caught:
        bregman_projection(problem, Entropy(), [1.0, 1.0])
    check(problem, caught.value.certificate)
    assert isinstance(caught.value, ValueError)
    assert bregman_projection(problem, SquaredNorm(), [0.0, 0.0]).residual <= 1e-15


@pytest.mark.parametrize("potential", [SquaredNorm(), Entropy(), PNorm(3)], ids=repr)
def test_contradictions_are_refused(potential):
    problem = plant_regression(6, 4, inconsistency=1e-6).problem
    with pytest.raises(Infeasible, match=r"No w at all.*outside the range.*minimum_norm") as caught:
        bregman_projection(problem, potential, torch.ones(4))
    certificate = caught.value.certificate
    check(problem, certificate)
    assert float((problem.X.T @ certificate).abs().max()) <= 1e-9


@pytest.mark.parametrize("alpha", [1.0, 1e-16, 1e-100])
def test_a_projection_on_the_boundary(alpha):
    """u_2 + u_3 = 0 makes both zero; the first equation is then all that is left."""
    X = [[1.0, 1.0, 0.0, 2.0], [0.0, 1.0, 1.0, 0.0]]
    limit = bregman_projection(Regression(X, [3.0, 0.0]), Entropy(), np.full(4, alpha))
    rest = bregman_projection(Regression([[1.0, 2.0]], [3.0]), Entropy(), np.full(2, alpha))
    assert limit.x[1:3].tolist() == [0.0, 0.0]
    torch.testing.assert_close(limit.x[[0, 3]], rest.x, rtol=1e-13, atol=0)
    assert limit.residual <= 1e-14
    assert "2 of 4 weights" in limit.solver
    assert limit.objective == pytest.approx(rest.objective + 2 * alpha)


def test_zero_targets():
    ones = torch.ones(3)
    limit = bregman_projection(Regression([[1.0, 2.0, 1.0]], [0.0]), Entropy(), ones)
    assert limit.x.tolist() == [0.0, 0.0, 0.0]
    # A column of zeros is not asked, and a difference has positive solutions.
    limit = bregman_projection(Regression([[1.0, 2.0, 0.0]], [0.0]), Entropy(), ones)
    assert limit.x.tolist() == [0.0, 0.0, 1.0]
    limit = bregman_projection(Regression([[1.0, -2.0, 0.0]], [0.0]), Entropy(), ones)
    root = 2 ** (-1 / 3)  # u = (e^l, e^(-2l), 1) and e^(3l) = 2
    expected = torch.tensor([1 / root, root**2, 1], dtype=torch.float64)
    torch.testing.assert_close(limit.x, expected, rtol=1e-14, atol=0)
    nothing = bregman_projection(Regression(torch.zeros(2, 3), [0.0, 0.0]), Entropy(), ones)
    assert nothing.x.tolist() == [1.0, 1.0, 1.0]


# ---- what is refused


@pytest.mark.parametrize(
    ("problem", "potential", "start", "error", "message"),
    [
        (Regression([[1.0]], [1.0]), Entropy(), [0.0], ValueError, "start has an entry 0"),
        (Regression([[1.0]], [1.0]), Entropy(), None, ValueError, "positive points"),
        (Regression([[1.0]], [1.0]), PNorm(3), [1.0, 2.0], ValueError, r"shape \(2,\).*d = 1"),
        (Regression([[1.0]], [1.0]), "entropy", [1.0], TypeError, "no divergence.*Pass Squared"),
        (([[1.0]], [1.0]), Entropy(), [1.0], TypeError, "Build a Regression"),
        (Regression([[1.0]], [1.0]), Quadratic(np.eye(2)), [1.0], ValueError, "K is 2 x 2"),
    ],
)
def test_refuses(problem, potential, start, error, message):
    with pytest.raises(error, match=message):
        bregman_projection(problem, potential, start)
