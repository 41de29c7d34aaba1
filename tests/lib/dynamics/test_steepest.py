"""Steepest descent: the steps by definition, the bound that is proved, the margin at the end."""

import math

import cvxpy as cp
import numpy as np
import pytest
import torch
from implicit_bias.dynamics.proximal import duality_gap, proximal_step
from implicit_bias.dynamics.steepest import steepest_descent, steepest_flow
from implicit_bias.evidence import angle
from implicit_bias.limits.margin import max_margin
from implicit_bias.norms import as_norm, margin
from implicit_bias.problems import Classification, Regression
from implicit_bias.records import StepTooLarge

K = np.diag(np.arange(1.0, 6.0)) + 0.2


def separable(n, d, seed=0, scale=1.0):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, d))
    return Classification(scale * X, np.sign(X @ rng.standard_normal(d)))


def gap(problem, w, norm):
    """Relative distance of the margin from the largest."""
    return 1 - margin(problem, w, norm) * max_margin(problem, norm).objective


# ---- one implicit step


@pytest.mark.parametrize("norm", [1, 1.05, 1.5, 2, 3, 5, math.inf, K], ids=str)
@pytest.mark.parametrize("h", [1e-3, 1.0, 1e3, 1e7])
def test_a_step_is_certified_by_its_dual(norm, h):
    """The gap vanishes only at the solution; here it is computed from the definitions alone."""
    rng = np.random.default_rng(3)
    problem = separable(12, 5, seed=3)
    Z, form = problem.Z, as_norm(norm, 5)
    m = torch.from_numpy(rng.standard_normal(12))
    delta, theta = proximal_step(Z, m, h, form, -m)
    q = theta.exp()
    assert float(q.sum()) == pytest.approx(1, rel=1e-13)
    size = form.value(delta) ** 2 / (2 * h)
    primal = float(torch.logsumexp(-(m + Z @ delta), 0)) + size
    entropy = -float(torch.special.xlogy(q, q).sum())
    dual = entropy - float(q @ m) - h * form.dual(Z.T @ q) ** 2 / 2
    assert primal - dual == pytest.approx(0, abs=1e-10 * (abs(primal) + abs(dual) + 1))
    # The step is h times the duality map of Z^T q, and q the weights after it.
    pulled = Z.T @ q
    assert form.value(delta) == pytest.approx(h * form.dual(pulled), rel=1e-6)
    assert float(pulled @ delta) == pytest.approx(h * form.dual(pulled) ** 2, rel=1e-6)


@pytest.mark.parametrize("norm", [1, 1.5, 2, math.inf], ids=str)
def test_a_step_agrees_with_convex_solver(norm):
    problem = separable(8, 4, seed=1)
    Z, zero = problem.Z, torch.zeros(8).double()
    delta, _ = proximal_step(Z, zero, 2.0, as_norm(norm, 4), zero)
    w = cp.Variable(4)
    objective = cp.log_sum_exp(-Z.numpy() @ w) + cp.square(cp.pnorm(w, norm)) / 4
    other = cp.Problem(cp.Minimize(objective))
    other.solve(solver="CLARABEL")
    ours = float(torch.logsumexp(-(Z @ delta), 0)) + as_norm(norm, 4).value(delta) ** 2 / 4
    assert ours == pytest.approx(other.value, rel=1e-7)
    assert ours <= other.value + 1e-12


def test_the_gap_sees_a_wrong_step():
    problem = separable(8, 4, seed=1)
    Z, zero, form = problem.Z, torch.zeros(8).double(), as_norm(2, 4)
    delta, theta = proximal_step(Z, zero, 2.0, form, zero)
    assert duality_gap(Z, zero, 2.0, form, delta, theta)[0] <= 1e-13
    assert duality_gap(Z, zero, 2.0, form, 1.01 * delta, theta)[0] >= 1e-6


# ---- the flow


@pytest.mark.parametrize("norm", [1.05, 1.5, 2, 3, 1, math.inf], ids=str)
def test_the_flow_ends_at_the_largest_margin(norm, capsys):
    """M24 Theorem 4. What is left obeys a law: about log(n) / (gamma^2 s) relative, s = 1e8."""
    worst = (0.0, 0.0)
    for seed, d in [(0, 5), (0, 20), (1, 50)]:
        problem = separable(20, d, seed)
        path = steepest_flow(problem, norm)
        assert path.stopped == "budget"
        left = math.log(20) * max_margin(problem, norm).objective ** 2 / 1e8
        short = gap(problem, path.x, norm)
        worst = max(worst, (short, left))
        assert -1e-12 <= short <= left + 1e-9
    with capsys.disabled():
        print(f"\nworst relative margin gap, p = {norm}: {worst[0]:.1e}, law {worst[1]:.1e}")
    assert worst[0] <= 2e-6


def test_directions_where_the_limit_is_unique():
    """The angle, too, is of the size of 1 / (gamma^2 s)."""
    for seed, d in enumerate((5, 20, 50)):
        problem = separable(20, d, seed)
        for norm in (1.5, 2):
            limit = max_margin(problem, norm)
            left = limit.objective**2 / 1e8
            assert angle(steepest_flow(problem, norm).x, limit.x) <= 5 * left
    problem = separable(20, 20)
    assert angle(steepest_flow(problem, 2).x, max_margin(problem).x) <= 1e-7
    problem = separable(20, 5)
    assert angle(steepest_flow(problem, K).x, max_margin(problem, K).x) <= 1e-6


def test_another_norm_has_another_limit():
    """The control: measured in a norm that did not drive it, the margin falls short by percents."""
    problem = separable(20, 20)
    ends = {p: steepest_flow(problem, p, until=1e6).x for p in (1, 2, math.inf)}
    for p in ends:
        for q, w in ends.items():
            assert (gap(problem, w, p) < 1e-4) == (p == q)


def test_the_gap_falls_like_one_over_the_arc():
    problem = separable(20, 5)
    gaps = [gap(problem, steepest_flow(problem, 2, until=s).x, 2) for s in (1e4, 1e6, 1e8)]
    assert gaps[0] / gaps[1] == pytest.approx(100, rel=0.05)
    assert gaps[1] / gaps[2] == pytest.approx(100, rel=0.05)


def test_the_record_of_a_flow():
    problem = separable(20, 5)
    path = steepest_flow(problem, 2, until=1e3)
    assert path.times[0] == 0
    assert float(path.times[-1]) == pytest.approx(1e3, rel=1e-12)
    assert bool((path.times[1:] > path.times[:-1]).all())
    assert path.points.shape == (len(path.times), 5)
    assert path.steps == len(path.times) - 1 <= 60
    expected = (-(path.points @ problem.Z.T)).exp().sum(1)
    torch.testing.assert_close(path.losses, expected, rtol=1e-12, atol=1e-300)
    assert bool((path.losses[1:] < path.losses[:-1]).all())
    # d log L / ds = -|Z^T p|^2 lies between -max |z|^2 and -gamma^2.
    drop = -(path.losses[-1].log() - math.log(20)) / 1e3
    assert 1 / max_margin(problem).objective ** 2 <= float(drop) * 1.01
    assert float(drop) <= float(problem.Z.norm(dim=1).max()) ** 2
    assert steepest_flow(problem, 2).losses[-1] == 0  # e^(-1e6) is no float


def test_a_short_flow_follows_the_differential_equation():
    """Implicit Euler is of first order: the first step of 0.01 errs by about its square."""
    problem = separable(6, 3)
    path = steepest_flow(problem, 1.5, until=1e-4)
    form, g = as_norm(1.5, 3), problem.Z.mean(0)
    expected = 1e-4 * form.dual(g) * form.steepest(g)
    torch.testing.assert_close(path.x, expected, rtol=1e-2, atol=0)


@pytest.mark.parametrize("scale", [1e-60, 1e-6, 1e6, 1e60])
def test_the_flow_knows_no_units(scale):
    once = steepest_flow(separable(10, 4), 1.5, until=1e6)
    scaled = steepest_flow(separable(10, 4, scale=scale), 1.5, until=1e6 / scale**2)
    torch.testing.assert_close(scale * scaled.x, once.x, rtol=1e-9, atol=0)


def test_one_example():
    for norm in (1, 1.5, 2, 3, math.inf):
        problem = Classification([[3.0, -4.0]], [1])
        path = steepest_flow(problem, norm, until=10.0)
        # The gradient never turns: w = s |z|_* steepest(z).
        form = as_norm(norm, 2)
        expected = 10 * form.dual(problem.Z[0]) * form.steepest(problem.Z[0])
        torch.testing.assert_close(path.x, expected, rtol=1e-7, atol=1e-6)


# ---- explicit steps


@pytest.mark.parametrize("norm", [1, 1.5, 2, 3, math.inf, K, "fourier"], ids=str)
def test_the_margin_obeys_the_bound_that_is_proved(norm):
    for seed in range(3):
        problem = separable(20, 5, seed)
        form, T = as_norm(norm, 5), 3000
        path = steepest_descent(problem, norm, steps=T)
        S = float(path.times[-1])
        longest = max(form.dual(z) for z in problem.Z)
        assert (1 / longest) * sum(k**-0.5 for k in range(1, T + 1)) == pytest.approx(S, rel=1e-12)
        short = 1 / max_margin(problem, norm).objective - margin(problem, path.x, norm)
        assert -1e-12 <= short <= (math.log(20) + (1 + math.log(T)) / 2) / S
        assert form.value(path.x) <= S * (1 + 1e-12)


def test_explicit_and_implicit_agree_as_far_as_explicit_goes():
    problem = separable(20, 5)
    walked = steepest_descent(problem, 2, steps=10_000).x
    assert angle(walked, steepest_flow(problem, 2).x) <= 0.05


def test_a_fixed_step_is_the_iteration_of_the_theorem():
    problem = separable(6, 3)
    Z = problem.Z
    for norm in (1, 1.5, 2, math.inf):
        form, eta = as_norm(norm, 3), 0.002
        path = steepest_descent(problem, norm, steps=50, step=eta)
        w = torch.zeros(3).double()
        for _ in range(50):
            g = Z.T @ (-(Z @ w)).exp()  # minus the gradient
            w = w + eta * form.dual(g) * form.steepest(g)
        torch.testing.assert_close(path.x, w, rtol=1e-12, atol=1e-14)
        assert float(path.times[-1]) == pytest.approx(0.1)
        assert path.step == eta
        assert path.steps == 50


def test_euclidean_steps_are_gradient_descent():
    from implicit_bias.dynamics import gradient_descent

    problem = separable(10, 4)
    ours = steepest_descent(problem, 2, steps=500, step=0.01)
    other = gradient_descent(problem, step=0.01, steps=500, tol=0, loss="exponential")
    torch.testing.assert_close(ours.x, other.x, rtol=1e-11, atol=0)


def test_nothing_underflows():
    """One long step and the loss is e^-2000; the next gradient is no float, but no NaN either."""
    wide = Classification([[1.0, 0.1], [1.0, -0.1]], [1, 1])
    path = steepest_descent(wide, 2, steps=10, step=1e3)
    assert path.losses[-1] == 0
    assert path.x.tolist() == pytest.approx([2000.0, 0.0])
    # The derived lengths do not depend on the loss: descent goes on where it is no float.
    path = steepest_descent(Classification(wide.X * 1e3, wide.y), 2, steps=500)
    assert bool((path.points[1:, 0] > path.points[:-1, 0]).all())


# ---- what is refused


@pytest.mark.parametrize("norm", [1, 1.5, 2, 3, math.inf], ids=str)
def test_inseparable_data_are_reported(norm):
    rng = np.random.default_rng(0)
    problem = Classification(rng.standard_normal((20, 3)), rng.choice([-1.0, 1.0], 20))
    with pytest.raises(ValueError, match=r"not linearly separable.*max_margin"):
        steepest_flow(problem, norm)
    # A contradiction beside a direction that can still be followed: the flow never rests.
    partly = Classification([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]], [1, -1, 1])
    assert steepest_flow(partly, norm).stopped == "not separated"
    opposed = Classification([[1.0, 2.0], [1.0, 2.0]], [1, -1])
    assert steepest_descent(opposed, norm, steps=10).stopped == "zero gradient"
    with pytest.raises(ValueError, match="not linearly separable"):
        steepest_flow(opposed, norm)


def test_a_step_too_large():
    """Two examples that nearly oppose each other: a long step for one is a disaster for both."""
    problem = Classification([[3.0, 0.1], [-1.0, 0.1]], [1, 1])
    with pytest.raises(StepTooLarge, match=r"rose from 2.*Take step = 0\.0555, which is safe"):
        steepest_descent(problem, 2, 100, step=50.0)
    losses = steepest_descent(problem, 2, 200, step=0.0555).losses
    assert bool((losses[1:] <= losses[:-1]).all())


@pytest.mark.parametrize("run", [steepest_descent, steepest_flow])
def test_problems_that_do_not_suit(run):
    good = separable(4, 2)
    with pytest.raises(TypeError, match=r"labels.*Regression"):
        run(Regression([[1.0]], [1.0]), 2)
    with pytest.raises(ValueError, match=r"y of shape \(n,\)"):
        run(Classification([[1.0]], [[1, -1]]), 2)
    with pytest.raises(ValueError, match="nuclear norm is one of matrices"):
        run(good, "nuclear")
    with pytest.raises(ValueError, match="triangle inequality"):
        run(good, 0.5)
    with pytest.raises(ValueError, match="X is zero"):
        run(Classification([[0.0, 0.0]], [1]), 2)


def test_arguments_out_of_range():
    good = separable(4, 2)
    for until in (0.0, -1.0, math.inf, math.nan):
        with pytest.raises(ValueError, match=r"until = .*not a positive arc length"):
            steepest_flow(good, 2, until=until)
    for step in (0.0, -1.0, math.inf, math.nan):
        with pytest.raises(ValueError, match=r"step = .*not a positive number"):
            steepest_descent(good, 2, step=step)
    with pytest.raises(ValueError, match="steps = 0"):
        steepest_descent(good, 2, steps=0)
    with pytest.raises(TypeError, match=r"steps = 1\.5"):
        steepest_descent(good, 2, steps=1.5)
    with pytest.raises(ValueError, match=r"p-norms and positive definite.*steepest_descent"):
        steepest_flow(good, "fourier")
