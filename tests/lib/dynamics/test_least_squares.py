"""Levenberg-Marquardt: against SciPy's, its quadratic end, and what it says where it cannot."""

import math

import numpy as np
import pytest
import torch
from implicit_bias.dynamics.least_squares import reach_zero
from implicit_bias.models.dense import DenseNetwork
from implicit_bias.models.pure import jacobian
from scipy.optimize import least_squares


def data(n, widths, seed=0):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, widths[0])), rng.standard_normal((n, widths[-1]))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("activation", ["tanh", "square"])
def test_ends_where_scipy_ends_when_there_is_one_end(activation, seed):
    """More equations than unknowns: a minimum with a positive loss, the same for both methods."""
    widths = (2, 3, 1)
    network = DenseNetwork(widths, activation)
    X, noise = data(200, widths, seed)
    teacher = network.initial(seed=seed, scale=1.5, bias_scale=0.5)
    # So little noise that the minimum does not run away to infinity, as it may for tanh.
    y = network(teacher, X) + 1e-4 * torch.from_numpy(noise)
    start = teacher + 0.01
    path = reach_zero(network, start, X, y)
    assert path.stopped == "stationary"

    def residuals(theta):
        return (network(torch.from_numpy(theta), torch.from_numpy(X)) - y).numpy().reshape(-1)

    theirs = least_squares(residuals, start.numpy(), xtol=1e-15, ftol=1e-15, gtol=1e-15)
    # The parameters may differ (a square has flat directions), the loss may not.
    assert float(path.losses[-1]) == pytest.approx(theirs.cost, rel=1e-9)
    gradient = jacobian(lambda t: network(t, torch.from_numpy(X)), path.x)[1].T @ torch.from_numpy(
        residuals(path.x.numpy())
    )
    assert float(gradient.norm()) < 1e-5


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("widths", [(2, 20, 1), (3, 10, 10, 2)])
def test_reaches_zero_of_random_targets(widths, seed):
    network = DenseNetwork(widths, "tanh")
    X, y = data(8, widths, seed)
    path = reach_zero(network, network.initial(seed=seed, bias_scale=0.5), X, y)
    assert path.stopped == "converged"
    assert float(path.losses[-1]) <= 1e-24
    assert bool((path.losses[1:] < path.losses[:-1]).all())
    assert path.points.shape == (len(path.times), network.size)
    fresh = 0.5 * (network(path.x, X) - torch.from_numpy(y)).square().sum()
    assert float(fresh) == pytest.approx(float(path.losses[-1]), rel=1e-6, abs=1e-28)


def test_first_step_is_the_damped_one():
    """By the normal equations, on two numbers."""
    J, r = np.array([[3.0, 1.0], [0.0, 2.0]]), np.array([1.0, -2.0])
    path = reach_zero(lambda w, x: x @ w, [0.0, 0.0], J, -r, steps=1)
    mu = 1e-3 * np.linalg.norm(J, 2) ** 2
    step = -np.linalg.solve(J.T @ J + mu * np.eye(2), J.T @ r)
    np.testing.assert_allclose(path.x, step, rtol=1e-13)
    assert path.stopped == "budget"
    assert path.steps == 1


def test_stays_in_the_row_space():
    """A linear model: the least distance from the start, as descent would find."""
    rng = np.random.default_rng(0)
    X, w0 = rng.standard_normal((4, 9)), rng.standard_normal(9)
    y = rng.standard_normal(4)
    path = reach_zero(lambda w, x: x @ w, w0, X, y, target=1e-28)
    np.testing.assert_allclose(path.x, w0 + np.linalg.pinv(X) @ (y - X @ w0), atol=1e-13)


def test_a_module_keeps_its_own_parameters():
    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Linear(2, 9), torch.nn.Tanh(), torch.nn.Linear(9, 1))
    before = [p.clone() for p in module.parameters()]
    X, y = data(5, (2, 1))
    path = reach_zero(module, None, X, y)
    assert path.stopped == "converged"
    assert path.points.dtype == torch.float64
    assert all(torch.equal(p, q) for p, q in zip(module.parameters(), before, strict=True))


@pytest.mark.parametrize(
    ("model", "start", "y", "word", "loss"),
    [
        # No real root: the minimum has loss 1/2, with one parameter and with a saddle at 0.
        (lambda w, x: w**2 + 0 * x, [1.0], [-1.0], "stationary", 0.5),
        (lambda w, x: w**2 + 0 * x, [0.0], [1.0], "stationary", 0.5),
        # Nothing depends on the parameters.
        (lambda w, x: 0 * w + x, [1.0], [0.0], "stationary", 0.5),
        # A kink with a slope on either side.
        (lambda w, x: w.abs() + 1 + 0 * x, [0.3], [0.0], "stalled", 0.5),
        # The root of 2e12 is not a float: rounding is as near as it gets.
        (lambda w, x: w**2 + 0 * x, [1e6], [2e12], "rounding", None),
        # Solved before it began.
        (lambda w, x: w * x, [2.0], [2.0], "converged", 0.0),
    ],
)
def test_says_how_it_ended(model, start, y, word, loss):
    path = reach_zero(model, start, [1.0], y)
    assert path.stopped == word
    if loss is not None:
        assert float(path.losses[-1]) == pytest.approx(loss, abs=1e-12)
    else:
        assert 1e-24 < float(path.losses[-1]) < (1e-15 * 2e12) ** 2


def test_survives_overflow_of_a_trial_step():
    path = reach_zero(lambda w, x: torch.exp(w * x), [-8.0], [1.0], [5.0])
    assert path.stopped == "converged"
    assert float(path.x) == pytest.approx(math.log(5))


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"steps": 0}, ValueError, "too small"),
        ({"steps": 1.5}, TypeError, "not an integer"),
        ({"target": -1.0}, ValueError, "target = -1.0"),
        ({"target": math.nan}, ValueError, "target = nan"),
        ({"y": [[1.0, 2.0]]}, ValueError, "broadcast"),
        ({"y": [math.nan, 1.0]}, ValueError, "NaN"),
        ({"X": [[math.inf], [1.0]]}, ValueError, "infinite"),
        ({"parameters": [math.nan] * 7}, ValueError, "NaN"),
        ({"parameters": [1.0]}, ValueError, "7 parameters"),
        ({"model": "net"}, TypeError, "cannot be called"),
    ],
)
def test_refuses(change, error, words):
    arguments = {
        "model": DenseNetwork((1, 2, 1)),
        "parameters": [1.0] * 7,
        "X": [[1.0], [2.0]],
        "y": [1.0, 2.0],
    }
    with pytest.raises(error, match=words):
        reach_zero(**(arguments | change))
