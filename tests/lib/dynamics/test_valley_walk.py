"""Walks along the valley: what retraining leaves of noise, to second order."""

import numpy as np
import pytest
import torch
from implicit_bias.dynamics.least_squares import reach_zero
from implicit_bias.dynamics.valley_walk import _return, valley_gain, valley_walk
from implicit_bias.models.dense import DenseNetwork
from scipy.integrate import solve_ivp


def valley(widths, activation, n, seed=3, bias=True):
    rng = np.random.default_rng(seed)
    network = DenseNetwork(widths, activation, bias=bias)
    X = torch.from_numpy(rng.standard_normal((n, widths[0])))
    y = torch.from_numpy(rng.standard_normal((n, widths[-1])))
    path = reach_zero(network, network.initial(1), X, y)
    assert path.stopped in ("converged", "rounding")
    return network, path.x, X, y


def measured_gain(walk):
    """Mean growth over sigma^2 of the first kick, from antithetic pairs, and its error."""
    pairs = (walk.squared_norm[1] - walk.squared_norm[0]).reshape(-1, 2).mean(1)
    pairs = pairs / (walk.gain[1, 0] / walk.free)
    return float(pairs.mean()), float(pairs.std()) / len(pairs) ** 0.5


def test_linear_model_keeps_exactly_the_free_part():
    network, theta, X, y = valley((8, 1), "linear", 3, bias=False)
    walk = valley_walk(network, theta, X, y, size=0.5, times=8, repeats=1000)
    assert walk.free == 5
    assert valley_gain(network, theta, X) == (5, pytest.approx(5.0, abs=1e-10))
    # what the data see is back after every kick
    seen = walk.points @ X.T
    torch.testing.assert_close(seen, y[:, 0].expand_as(seen), rtol=0, atol=1e-8)
    # and the free part is a random walk: its mean squared growth within 5 standard errors
    grown = walk.squared_norm - walk.squared_norm[0]
    expected = walk.gain[1:].cumsum(0)
    error = grown[1:].std(1) / 1000**0.5
    assert bool(((grown[1:].mean(1) - expected.mean(1)).abs() < 5 * error).all())
    # the control: all p directions would be 8/5 of it
    assert bool(((grown[1:].mean(1) - 8 / 5 * expected.mean(1)).abs() > 5 * error).all())


@pytest.mark.parametrize(
    ("widths", "activation", "n"),
    [
        ((2, 12, 1), "tanh", 8),
        ((3, 6, 2), "linear", 2),
        ((3, 8, 1), "square", 5),
        ((2, 5, 5, 1), "tanh", 6),
    ],
)
def test_gain_of_a_network_is_that_of_second_order(widths, activation, n):
    network, theta, X, y = valley(widths, activation, n)
    free, gain = valley_gain(network, theta, X)
    walk = valley_walk(
        network, theta, X, y, size=0.01, times=1, repeats=800, seed=1, antithetic=True
    )
    assert walk.free == free == network.size - n * widths[-1]
    found, error = measured_gain(walk)
    # size 0.01: the fourth order is some 1e-4 of the second
    assert abs(found - gain) < 4.5 * error


def test_the_valley_is_curved():
    # N = 71 of 81 directions are free, but the squared norm grows by 102 sigma^2, more than p
    rng = torch.Generator().manual_seed(3)
    network = DenseNetwork((2, 20, 1), "tanh")
    X, y = (torch.randn(10, k, generator=rng, dtype=torch.float64) for k in (2, 1))
    theta = reach_zero(network, network.initial(1), X, y).x
    free, gain = valley_gain(network, theta, X)
    assert (free, network.size) == (71, 81)
    walk = valley_walk(network, theta, X, y, size=0.01, times=1, repeats=400, antithetic=True)
    found, error = measured_gain(walk)
    assert abs(found - gain) < 4.5 * error
    assert found - 5 * error > network.size > free


def test_the_law_over_many_kicks_fixed_and_relative():
    network, theta, X, y = valley((2, 8, 1), "tanh", 5)
    ends = {}
    for noise in ("fixed", "relative"):
        walk = valley_walk(network, theta, X, y, noise, 0.03, times=5, repeats=16)
        # a martingale: growth less the gain at each point, summed over the kicks
        total = torch.zeros(16, dtype=torch.float64)
        for k in range(5):
            gains = [valley_gain(network, t, X)[1] for t in walk.points[k]]
            total += walk.gain[k + 1] / walk.free * torch.tensor(gains, dtype=torch.float64)
        rest = walk.squared_norm[-1] - walk.squared_norm[0] - total
        assert abs(float(rest.mean())) < 4.5 * float(rest.std()) / 16**0.5
        ends[noise] = walk
    # the first kick is the same in both
    torch.testing.assert_close(ends["fixed"].points[1], ends["relative"].points[1])
    # relative noise keeps its share of the weights, fixed noise its size
    assert bool((ends["fixed"].gain[1:] == ends["fixed"].gain[1]).all())
    ratio = ends["relative"].gain[1:] / ends["relative"].squared_norm[:-1]
    torch.testing.assert_close(ratio, ratio[:1, :1].expand_as(ratio))


def test_return_is_the_gradient_flow():
    network, theta, X, y = valley((2, 8, 1), "tanh", 5)
    kicked = theta + 0.05 * torch.from_numpy(np.random.default_rng(0).standard_normal(len(theta)))

    def residual(t):
        return network(t, X).reshape(-1) - y.reshape(-1)

    def slope(_, t):
        t = torch.from_numpy(t)
        value, pull = torch.func.vjp(residual, t)
        return -pull(value)[0].numpy()

    stiff = torch.linalg.svdvals(torch.func.jacrev(residual)(theta))[-1].square()
    exact = solve_ivp(
        slope, (0, 40 / float(stiff)), kicked.numpy(), "BDF", rtol=1e-9, atol=1e-11
    ).y[:, -1]

    def both(t):
        r = residual(t)
        return r, r

    local = torch.func.vmap(torch.func.jacrev(both, has_aux=True))
    errors = []
    for substeps in (2, 6, 18):
        end = _return(local, kicked[None], 1e-22, substeps)[0][0].numpy()
        errors.append(np.linalg.norm(end - exact) / np.linalg.norm(kicked.numpy() - exact))
    # first order or better in the step, and small already as it is used
    assert errors[0] < 5e-3
    assert errors[2] < errors[1] < errors[0]
    assert errors[2] < errors[0] / 5


def test_errors():
    network, theta, X, y = valley((2, 8, 1), "tanh", 5)
    with pytest.raises(ValueError, match="not on the valley"):
        valley_walk(network, theta + 0.1, X, y)
    with pytest.raises(ValueError, match="full row rank"):
        valley_gain(network, 0 * theta, X)
    with pytest.raises(ValueError, match="full row rank"):
        valley_walk(network, theta, torch.cat([X, X[:1]]), torch.cat([y, y[:1]]))
    with pytest.raises(ValueError, match="come in pairs"):
        valley_walk(network, theta, X, y, repeats=3, antithetic=True)
    with pytest.raises(ValueError, match="noise = 'none'"):
        valley_walk(network, theta, X, y, "none")
    for size in (0, -1, float("nan"), "a"):
        with pytest.raises(ValueError, match="positive number"):
            valley_walk(network, theta, X, y, size=size)
    big = DenseNetwork((2, 1500, 1), "tanh")
    with pytest.raises(ValueError, match="second derivatives"):
        valley_gain(big, big.initial(0), X)
    with pytest.raises(ArithmeticError, match="smaller size"):
        valley_walk(network, theta, X, y, size=1e200, repeats=2)
