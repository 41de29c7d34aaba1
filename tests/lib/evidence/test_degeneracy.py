"""Trivial and non-trivial flat directions: symmetries known in closed form, valleys followed."""

import math

import numpy as np
import pytest
import torch
from implicit_bias.dynamics.least_squares import reach_zero
from implicit_bias.evidence.degeneracy import degeneracy, follow_valley, function_change
from implicit_bias.evidence.landscape import hessian_spectrum
from implicit_bias.models.dense import DenseNetwork


def normal(*shape, seed=0):
    return torch.from_numpy(np.random.default_rng([seed, *shape]).standard_normal(shape))


def at_zero(activation, widths, n, seed=0):
    network = DenseNetwork(widths, activation)
    X, y = normal(n, widths[0], seed=seed), normal(n, widths[-1], seed=seed + 50)
    path = reach_zero(network, network.initial(seed=seed, bias_scale=0.5), X, y)
    assert path.stopped == "converged"
    return network, path.x, X, 3 * normal(600, widths[0], seed=seed + 99)


def rescaling(network, theta, layer, unit):
    """The direction of w, b -> c w, c b with the weights that leave the unit divided by c."""
    parts = [(torch.zeros_like(W), torch.zeros_like(b)) for W, b in network.split(theta)]
    (W, b), (out, _) = network.split(theta)[layer : layer + 2]
    parts[layer][0][unit], parts[layer][1][unit] = W[unit], b[unit]
    parts[layer + 1][0][:, unit] = -out[:, unit]
    return network.join(parts)


# ---- counting


@pytest.mark.parametrize("seed", range(3))
def test_relu_trivial_directions_are_the_rescalings(seed):
    network, theta, X, fresh = at_zero("relu", (3, 20, 1), 5, seed)
    found = degeneracy(network, theta, X, fresh)
    assert found.flat == network.size - 5
    assert found.trivial == 20
    assert found.nontrivial == found.flat - 20
    assert found.gap > 1e5
    both = torch.cat([found.trivial_directions, found.nontrivial_directions], 1)
    torch.testing.assert_close(both.T @ both, torch.eye(found.flat).double(), atol=1e-10, rtol=0)
    for unit in range(20):
        v = rescaling(network, theta, 0, unit)
        rest = v - found.trivial_directions @ (found.trivial_directions.T @ v)
        assert float(rest.norm() / v.norm()) < 1e-9


def test_tanh_has_no_trivial_directions():
    network, theta, X, fresh = at_zero("tanh", (3, 6, 1), 5)
    found = degeneracy(network, theta, X, fresh)
    assert (found.trivial, found.nontrivial) == (0, network.size - 5)


@pytest.mark.parametrize(("n", "free"), [(20, 0), (3, 2)])
def test_linear_pairs_under_and_over_determined(n, free):
    """Of full rank k: trivial p - k d; the d - n dimensions of x unseen give k (d - n)."""
    d, h, k = 5, 4, 2
    network = DenseNetwork((d, h, k), "linear", bias=False)
    theta = network.initial(seed=1)
    found = degeneracy(network, theta, normal(n, d), normal(60, d, seed=1))
    assert found.trivial == network.size - k * d
    assert found.nontrivial == k * free


@pytest.mark.parametrize("fresh", [[0.0, 0.0, 1e18], [1e18, 0.0, 0.0]])
def test_ranks_that_contradict_each_other_are_refused(fresh):
    """Beside a number of 1e18 those at the training inputs look like zeros, which they are not."""
    inputs = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]
    with pytest.raises(ArithmeticError, match="one of the two ranks is wrong"):
        degeneracy(lambda w, x: x @ w, [1.0] * 3, inputs, [fresh])
    found = degeneracy(lambda w, x: x @ w, [1.0] * 3, inputs, [[1.0, 1.0, 1.0]])
    assert (found.flat, found.trivial, found.nontrivial) == (1, 0, 1)
    none = degeneracy(lambda w, x: x @ w, [1.0] * 3, np.eye(3), np.eye(3))
    assert (none.flat, none.trivial, none.nontrivial) == (0, 0, 0)
    assert none.nontrivial_directions.shape == (3, 0)


@pytest.mark.parametrize(("small", "fresh"), [(1e-3, 1.0), (1.0, 1e-3)])
def test_the_gap_is_that_of_the_less_clear_rank(small, fresh):
    """Singular values 1, small, fresh; at the training inputs the first two, or the first."""
    inputs, others = np.diag([1.0, small, 0.0])[:2], [[0.0, 0.0, fresh], [0.0, small, 0.0]]
    found = degeneracy(lambda w, x: x @ w, [1.0] * 3, inputs, others)
    assert found.gap == pytest.approx(1e-3 * 2.0**52, rel=0.5)
    narrow = [[1.0, 0.0, 0.0], [1e-3, 1e-3, 0.0]]
    found = degeneracy(lambda w, x: x @ w, [1.0] * 3, narrow, np.eye(3))
    assert found.gap == pytest.approx(1e-3 * 2.0**52, rel=0.5)


# ---- along the directions


def test_second_order_tells_symmetry_from_change():
    network, theta, X, fresh = at_zero("relu", (3, 20, 1), 5)
    found = degeneracy(network, theta, X, fresh)
    for j in (0, 7, 19):
        first, second = function_change(network, theta, found.trivial_directions[:, j], fresh)
        assert first < 1e-10
        assert second < 1e-10
    first, _ = function_change(network, theta, found.nontrivial_directions[:, 0], fresh)
    assert first > 1e-3
    assert function_change(network, theta, found.nontrivial_directions[:, 0], X)[0] < 1e-10


def test_second_order_sees_what_the_first_cannot():
    """At W = 0 every direction is flat for f = <W2 W1, x>, but both layers together move f."""
    network = DenseNetwork((3, 2, 1), "linear", bias=False)
    X, theta = normal(10, 3), torch.zeros(8).double()
    only, both = theta.clone(), torch.ones(8).double()
    only[:6] = 1.0
    assert function_change(network, theta, only, X) == (0.0, 0.0)
    first, second = function_change(network, theta, both, X)
    unit = X.sum(1) * 2 / 8
    assert first == 0.0
    assert second == pytest.approx(float(unit.norm()) / math.sqrt(10), rel=1e-12)
    # And the valley of a singular point cannot be followed there, but along `only` it can.
    assert follow_valley(network, theta, both, X).stopped == "obstructed"
    assert follow_valley(network, theta, only, X).stopped == "reached"


def test_valley_of_training_data_changes_the_function_elsewhere():
    network, theta, X, fresh = at_zero("tanh", (3, 12, 1), 5)
    y = network(theta, X)
    v = hessian_spectrum(lambda t: 0.5 * (network(t, X) - y).square().sum(), theta).null_space[:, 0]
    path = follow_valley(network, theta, v, X, length=2.0)
    assert path.stopped == "reached"
    assert float(path.times[-1]) == pytest.approx(2.0)
    assert float(path.losses.max()) < 1e-20
    assert float((network(path.x, X) - y).abs().max()) < 1e-11
    assert float((network(path.x, fresh) - network(theta, fresh)).abs().max()) > 1e-2
    # It starts along the direction.
    step = path.points[1] - path.points[0]
    assert abs(float(step @ v) / float(step.norm())) > 0.99


@pytest.mark.parametrize("activation", ["linear", "square"])
def test_symmetry_followed_on_some_inputs_holds_on_others(activation):
    network = DenseNetwork((3, 4, 2), activation)
    theta = network.initial(seed=2, bias_scale=0.5)
    X, many, other = normal(4, 3), normal(120, 3, seed=1), normal(50, 3, seed=2)
    found = degeneracy(network, theta, X, many)
    assert found.trivial > 0
    path = follow_valley(network, theta, found.trivial_directions[:, 0], many, length=1.0)
    assert path.stopped == "reached"
    assert float((path.x - theta).norm()) > 0.5
    torch.testing.assert_close(network(path.x, other), network(theta, other), atol=1e-9, rtol=0)


def test_rescaling_of_a_relu_is_followed_to_its_orbit():
    """One unit a relu(w x): the valley is the hyperbola-like orbit with a w constant."""
    network = DenseNetwork((1, 1, 1), bias=False)
    path = follow_valley(network, [1.0, 1.0], [1.0, -1.0], [[1.0], [2.0], [-1.0]], length=3.0)
    assert path.stopped == "reached"
    np.testing.assert_allclose(path.points.prod(1), 1.0, atol=1e-12)
    assert float(path.x[0]) > 3


def test_narrow_bends_are_not_cut():
    """Once around a circle that is smaller than the longest step."""
    circle = lambda w, x: w.square().sum() * x  # noqa: E731
    path = follow_valley(circle, [0.01, 0.0], [0.0, 1.0], [1e4], length=0.02 * math.pi)
    assert path.stopped == "reached"
    np.testing.assert_allclose(path.points.norm(dim=1), 0.01, rtol=1e-10)
    turned = np.unwrap(torch.atan2(path.points[:, 1], path.points[:, 0]).numpy())[-1]
    # A chord for an arc: tan a = a (1 + a^2/3), where a is below 0.2 a step.
    assert turned == pytest.approx(2 * math.pi, rel=0.02)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda m, x: degeneracy(m, [1.0, 1.0], x, [[1.0]]), "inputs of one model"),
        (lambda m, x: degeneracy(m, [1.0, 1.0], x, x[:0]), "Pass more fresh inputs"),
        (lambda m, x: function_change(m, [1.0, 1.0], [0.0, 0.0], x), "not all zero"),
        (lambda m, x: function_change(m, [1.0, 1.0], [1.0], x), "2 numbers"),
        (lambda m, x: function_change(lambda w, x: w**1.5 * x, [0.0], [1.0], x), "twice"),
        (lambda m, x: follow_valley(m, [1.0, 1.0], [1.0, 1.0], x), "not flat"),
        (lambda m, x: follow_valley(m, [1.0, 1.0], [1.0, -1.0], x, length=0.0), "length = 0.0"),
        (lambda m, x: follow_valley(m, [1.0, 1.0], [1.0, -1.0], x, step=math.nan), "step = nan"),
        (lambda m, x: follow_valley(m, [1.0, 1.0], [1.0, -1.0], x, tol=-1.0), "tol = -1.0"),
    ],
)
def test_refuses(call, words):
    with pytest.raises(ValueError, match=words):
        call(lambda w, x: w[0] * w[1] * x, [1.0])
