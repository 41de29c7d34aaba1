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
        # A slope of 1e-44, which no loss can show.
        (lambda w, x: torch.exp(w * x), [-100.0], [5.0], "stationary", 12.5),
        (lambda w, x: w**12 * x, [1e-15], [1.0], "stationary", 0.5),
        (lambda w, x: w**40 * x, [1e-15], [1.0], "stationary", 0.5),
        # From a slope of 1e-118 with luck to the zero: 1e100 times what the slope had promised.
        (lambda w, x: w**8 * x, [1e-17], [1.0], "converged", 0.0),
        # 1e-16 of the outputs is rounding, 1e-11 is not.
        (lambda w, x: torch.cat([w, x]), [0.0], [3.0, 1 - 1e-11], "stationary", 5e-23),
        # What singular values below 1e-10 of the largest could reach is not asked for.
        (lambda w, x: torch.stack([w[0], 1e-11 * w[1]]), [0.0] * 2, [1.0, 1.0], "stationary", 0.5),
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
        assert float(path.losses[-1]) == pytest.approx(loss, rel=1e-4, abs=1e-24)
    else:
        assert 1e-24 < float(path.losses[-1]) < (1e-15 * 2e12) ** 2


def test_survives_overflow_of_a_trial_step():
    path = reach_zero(lambda w, x: torch.exp(w * x), [-8.0], [1.0], [5.0])
    assert path.stopped == "converged"
    assert float(path.x) == pytest.approx(math.log(5))
    # Refused trials count, and are not kept.
    assert path.times[-1] == path.steps > len(path.points)
    assert path.times[1] > 1


@pytest.mark.parametrize("start", [-30.0, 10.0, 60.0])
def test_a_height_is_left_for_the_zero_below(start):
    """The slope of exp falls by 26 digits on the way down from 60, and is 1e-13 at -30."""
    path = reach_zero(lambda w, x: torch.exp(w * x), [start], [1.0], [5.0])
    assert path.stopped == "converged"
    assert float(path.x) == pytest.approx(math.log(5))
    path = reach_zero(lambda w, x: w**4 * x, [100 * start], [1.0], [16.0])
    assert path.stopped == "converged"
    assert abs(float(path.x)) == pytest.approx(2.0)


@pytest.mark.parametrize("start", [1e-3, 1.0, 1e6])
@pytest.mark.parametrize("size", [1e-6, 1.0, 1e6])
def test_a_minimum_with_a_vanishing_jacobian_is_one_in_any_units(start, size):
    path = reach_zero(lambda w, x: size * (w / start) ** 2 + 0 * x, [start], [1.0], [-size])
    assert path.stopped == "stationary"
    assert float(path.losses[-1]) == pytest.approx(0.5 * size**2, rel=1e-12)


def test_a_module_in_evaluation_mode_may_have_batch_normalisation():
    """Its running statistics are buffers in float32, the parameters are read as float64."""
    torch.manual_seed(0)
    module = torch.nn.Sequential(
        torch.nn.Linear(2, 9), torch.nn.BatchNorm1d(9), torch.nn.Tanh(), torch.nn.Linear(9, 1)
    )
    X, y = data(5, (2, 1))
    path = reach_zero(module.eval(), None, X, y)
    assert path.stopped == "converged"


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"steps": 0}, ValueError, "too small"),
        ({"steps": 1.5}, TypeError, "not an integer"),
        ({"target": -1.0}, ValueError, "target = -1.0"),
        ({"target": math.nan}, ValueError, "target = nan"),
        ({"y": [[1.0, 2.0]]}, ValueError, "broadcast"),
        ({"y": [math.nan, 1.0]}, ValueError, "NaN"),
        ({"y": [1e200, 1.0]}, ValueError, "squares overflows"),
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
