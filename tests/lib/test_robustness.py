"""Flat, robust and wide (P18, Lemma 6 and remarks 3 and 4): the worst cases, attained.

Balls around the examples cost a separator its Euclidean margin; balls around the weights cost it
the margin of the examples scaled to unit length; inside a loss the dual norm appears.
"""

import math

import cvxpy as cp
import numpy as np
import pytest
import torch
from implicit_bias import Classification, angle, as_norm, margin, max_margin

TIGHT = dict.fromkeys(("tol_gap_abs", "tol_gap_rel", "tol_feas"), 1e-9)
SEEDS = range(5)


def separable(seed, n=25, d=6):
    """Examples whose lengths differ by a factor of ten."""
    rng = np.random.default_rng(seed)
    truth = rng.standard_normal(d)
    truth /= np.linalg.norm(truth)
    X = rng.standard_normal((n, d))
    X = X[abs(X @ truth) > 0.3]
    return Classification(X * rng.uniform(0.3, 3.0, (len(X), 1)), np.sign(X @ truth))


def toughest(Z, costs):
    """The unit-ball w with the largest rho such that <z_i, w> >= rho cost_i, by a cone solver."""
    w, rho = cp.Variable(Z.shape[1]), cp.Variable()
    holds = [Z @ w >= rho * costs, cp.norm(w) <= 1]
    cp.Problem(cp.Maximize(rho), holds).solve(solver="CLARABEL", **TIGHT)
    return torch.from_numpy(w.value), float(rho.value)


@pytest.mark.parametrize("seed", SEEDS)
def test_lemma_6(seed):
    problem = separable(seed)
    Z = problem.Z.numpy()
    # The programme's value is known to 1e-9, so its solution to the root of that.
    w, rho = toughest(Z, np.ones(len(Z)))
    assert angle(w, max_margin(problem).x) <= 1e-4
    assert rho == pytest.approx(1 / max_margin(problem).objective, rel=1e-7)
    lengths = np.linalg.norm(Z, axis=1)
    flat, reach = toughest(Z, lengths)
    scaled = Classification(Z / lengths[:, None], np.ones(len(Z)))
    assert angle(flat, max_margin(scaled).x) <= 1e-4
    assert reach == pytest.approx(margin(scaled, max_margin(scaled).x), rel=1e-7)
    # As printed, lengths left as they are, the two would be one: they are not.
    assert angle(flat, w) > 1e-2


@pytest.mark.parametrize("seed", SEEDS)
def test_no_smaller_perturbation_makes_a_mistake(seed):
    """Random attacks of the promised size all fail, and one along the right direction succeeds."""
    problem = separable(seed)
    Z, w = problem.Z, max_margin(problem).x
    radius = margin(problem, w)
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(1000, *Z.shape, generator=generator, dtype=torch.float64)
    noise *= 0.999999 * radius / noise.norm(dim=-1, keepdim=True)
    assert float(((Z + noise) @ w).min()) > 0
    worst = -1.000001 * radius * w / w.norm()
    assert float(((Z + worst) @ w).min()) < 0


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("p", [1, 2, math.inf])
def test_the_dual_norm_stands_inside_the_loss(seed, p):
    """Hinge, and square with its cross term: random perturbations stay below, one attains."""
    rng = np.random.default_rng(seed)
    x, w, y, rho = rng.standard_normal(7), rng.standard_normal(7), -1.0, 0.3
    norm = as_norm(p, 7)
    size = rho * float(np.linalg.norm(w))
    x_ = torch.from_numpy(x)
    reach = size * norm.dual(x_)
    m, r = y * float(x @ w), float(x @ w) - y

    def hinge(delta):
        return max(0.0, 1 - y * float(x @ (w + delta)))

    def square(delta):
        return (float(x @ (w + delta)) - y) ** 2

    steepest = size * norm.steepest(x_).numpy()
    assert norm.value(torch.from_numpy(steepest)) == pytest.approx(size, rel=1e-12)
    assert hinge(-y * steepest) == pytest.approx(max(0.0, 1 - m + reach), rel=1e-12)
    assert square(math.copysign(1, r) * steepest) == pytest.approx((abs(r) + reach) ** 2, rel=1e-12)
    for _ in range(500):
        delta = rng.standard_normal(7)
        delta *= size / norm.value(torch.from_numpy(delta))
        assert hinge(delta) <= max(0.0, 1 - m + reach) + 1e-12
        assert square(delta) <= (abs(r) + reach) ** 2 + 1e-12
    # P18 (28) leaves out the cross term, and P18 (25) the dual norm of the example.
    assert square(math.copysign(1, r) * steepest) > r**2 + reach**2 + 1e-3
    if p == math.inf:
        assert norm.dual(x_) == pytest.approx(np.abs(x).sum(), rel=1e-12)
        assert reach > 1.5 * size


@pytest.mark.parametrize("seed", SEEDS)
def test_the_worst_hinge_is_at_most_hinge_plus_norm(seed):
    """[a + b]_+ <= [a]_+ + b: the robust loss is at most the regularised one, and can be less."""
    rng = np.random.default_rng(seed)
    m, b = 3 * rng.standard_normal(1000), np.abs(rng.standard_normal(1000))
    robust, regularised = np.maximum(0, 1 - m + b), np.maximum(0, 1 - m) + b
    assert (robust <= regularised + 1e-12).all()
    assert (robust < regularised - 1e-3).any()
