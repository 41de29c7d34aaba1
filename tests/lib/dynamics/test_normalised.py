"""Descent on the log-loss, and its accelerated form: the rates of their margins."""

import math

import numpy as np
import pytest
import torch
from implicit_bias import (
    Classification,
    Regression,
    StepTooLarge,
    accelerated_descent,
    angle,
    loglog_slope,
    margin,
    max_margin,
    normalised_descent,
    relative_error,
)

BOTH = [normalised_descent, accelerated_descent]


def separable(n, d, seed, gap=0.1):
    rng = np.random.default_rng(seed)
    truth = rng.standard_normal(d)
    truth /= np.linalg.norm(truth)
    X = rng.standard_normal((n, d))
    y = np.where(X @ truth >= 0, 1.0, -1.0)
    return Classification(X + gap * y[:, None] * truth, y)


def gaps(problem, path):
    best = 1 / max_margin(problem).objective
    return [1 - margin(problem, w) / best for w in path.points[1:]]


@pytest.mark.parametrize(("n", "d"), [(50, 20), (20, 50), (30, 5)])
def test_the_accelerated_margin_is_within_its_guarantee(n, d):
    """Nesterov's bound: f(q_t) - min f <= 4 beta log n / (t + 1)^2, with 2 f the squared margin.

    By duality the margin of w_t is at least gamma - 8 beta log(n) (1 + log t) / (gamma t^2), up to
    the logarithm of the weights; 20 in place of 8 covers the difference between averages and ends.
    """
    problem = separable(n, d, seed=n)
    path = accelerated_descent(problem, steps=10_000)
    best = 1 / max_margin(problem).objective
    beta = float(problem.X.square().sum(1).max())
    bound = 20 * beta * math.log(n) * (1 + math.log(10_000)) / (best**2 * 10_000**2)
    assert gaps(problem, path)[-1] <= bound


@pytest.mark.parametrize(("run", "power"), [(normalised_descent, -1), (accelerated_descent, -2)])
def test_rates(run, power):
    """The gap falls like the named power of the number of steps, or faster."""
    problem = separable(40, 12, seed=3)
    path = run(problem, steps=20_000, every=500)
    steps = np.arange(500, 20_001, 500)
    gap = np.array(gaps(problem, path))
    assert loglog_slope(steps, gap).slope <= power + 0.15
    # The control: plain time. Against log t of the flow, 1 / t would be out of reach.
    assert gap[-1] < gap[0] / 20


@pytest.mark.parametrize(
    ("run", "bound"), [(normalised_descent, 2e-2), (accelerated_descent, 2e-3)]
)
def test_ends_in_the_direction_of_the_separator(run, bound):
    problem = separable(30, 8, seed=1)
    limit = max_margin(problem)
    assert angle(run(problem, steps=30_000).x, limit.x) <= bound


def test_one_normalised_step_is_a_step_along_the_normalised_gradient():
    problem = separable(6, 4, seed=2)
    w0 = torch.linspace(-1, 1, 4, dtype=torch.float64)
    w = w0.clone().requires_grad_()
    torch.logsumexp(-(problem.Z @ w), 0).backward()
    path = normalised_descent(problem, w0, step=0.01, steps=1)
    assert relative_error(path.x, w0 - 0.01 * w.grad) <= 1e-14
    assert path.times.tolist() == [0.0, 0.01]


def test_the_log_loss_falls_at_every_safe_step():
    problem = separable(25, 10, seed=4)
    beta = float(problem.X.square().sum(1).max())
    for step in (None, 1.99 / beta):
        logs = normalised_descent(problem, step=step, steps=300, every=1).log_losses
        assert bool((logs.diff() < 0).all())


def test_acceleration_starts_with_a_normalised_step():
    problem = separable(6, 4, seed=2)
    one = accelerated_descent(problem, steps=1)
    assert relative_error(one.x, normalised_descent(problem, steps=1).x) <= 1e-14
    beta = float(problem.X.square().sum(1).max())
    assert accelerated_descent(problem, steps=3, every=1).times.tolist() == pytest.approx(
        [0.0, 1 / beta, 2.5 / beta, 4.5 / beta]
    )


@pytest.mark.parametrize("run", BOTH)
def test_records(run):
    problem = separable(10, 4, seed=5)
    path = run(problem, steps=50, every=10)
    assert path.points.shape == (6, 4)
    direct = torch.logsumexp(-(path.points @ problem.Z.T), 1)
    torch.testing.assert_close(path.log_losses, direct, rtol=1e-13, atol=1e-12)
    torch.testing.assert_close(path.losses, direct.exp(), rtol=1e-12, atol=0)
    assert path.stopped == "budget"
    assert path.steps == 50


@pytest.mark.parametrize("run", BOTH)
@pytest.mark.parametrize(
    ("problem", "arguments", "error", "message"),
    [
        (Regression([[1.0]], [1.0]), {}, TypeError, "maximises a margin.*got a Regression"),
        (Classification([[0.0]], [1]), {}, ValueError, "X is zero.*stays where it starts"),
        (Classification([[1.0]], [[1, -1]]), {}, ValueError, "one output"),
        (Classification([[1.0]], [1]), {"steps": 0}, ValueError, "steps = 0 is too small"),
        (Classification([[1.0]], [1]), {"steps": 1.5}, TypeError, "steps = 1.5 is not an integer"),
    ],
)
def test_refuses_and_says_what_to_do(run, problem, arguments, error, message):
    with pytest.raises(error, match=message):
        run(problem, **arguments)


@pytest.mark.parametrize(
    ("step", "error", "message"),
    [
        (0.5, StepTooLarge, r"step = 0.5 is not below 2/beta = 0.5.*step=None for 0.25"),
        (0.0, ValueError, "step = 0.0 is not a positive number"),
        (math.nan, ValueError, "step = nan is not a positive number"),
    ],
)
def test_refuses_steps(step, error, message):
    with pytest.raises(error, match=message):
        normalised_descent(Classification([[2.0]], [1]), step=step)
