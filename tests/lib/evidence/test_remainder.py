"""The remainder of the second order: third order across a valley, fourth along its null space."""

import math

import numpy as np
import pytest
import torch
from implicit_bias import jacobian_rank, loglog_slope, reach_zero
from implicit_bias.evidence.remainder import quadratic_remainder
from implicit_bias.limits.rest_point import rest_point
from implicit_bias.models.dense import DenseNetwork
from implicit_bias.models.pure import along

X = torch.tensor([[-1.0], [-0.3], [0.4], [1.0]], dtype=torch.float64)
Y = torch.tensor([[1.0], [-1.0], [0.5], [1.0]], dtype=torch.float64)


def zero(activation="tanh", seed=0):
    net = DenseNetwork((1, 6, 1), activation)
    path = reach_zero(net, net.initial(seed, bias_scale=0.5), X, Y)
    assert path.stopped == "converged"

    def loss(w):
        return 0.5 * (net(w, X) - Y).square().sum()

    return net, loss, path.x


def derivatives(net, at, v):
    def outputs(w):
        return net(w, X).reshape(-1)

    def slope(w):
        return along(outputs, w, v)

    return slope(at), along(slope, at, v), along(lambda w: along(slope, w, v), at, v)


@pytest.mark.parametrize("seed", [0, 1])
def test_third_order_across_and_fourth_along(seed):
    net, loss, at = zero(seed=seed)
    rng = np.random.default_rng(seed)
    s = torch.logspace(-3, -2, 5, dtype=torch.float64)
    null = jacobian_rank(net, X, at).null_space
    across = torch.from_numpy(rng.standard_normal(net.size))
    across /= across.norm()
    flat = null @ torch.from_numpy(rng.standard_normal(null.shape[1]))
    flat /= flat.norm()
    found = quadratic_remainder(loss, at, across, s)
    a, b, c = derivatives(net, at, across)
    expected = s**3 * float(a @ b) / 2 + s**4 * float(b @ b / 8 + a @ c / 6)
    # The next order is s^2 times the first, times numbers of order one to ten.
    np.testing.assert_allclose(found, expected, rtol=2e-3)
    assert loglog_slope(s, found.abs()).slope == pytest.approx(3, abs=0.05)
    found = quadratic_remainder(loss, at, flat, s)
    b, c = derivatives(net, at, flat)[1:]
    expected = s**4 * float(b @ b) / 8 + s**5 * float(b @ c) / 12
    np.testing.assert_allclose(found, expected, rtol=2e-3)
    assert loglog_slope(s, found).slope == pytest.approx(4, abs=0.05)


def test_a_straight_line_of_zeros_has_no_remainder():
    """W1 plus what W2 maps to zero: nothing moves, at any size."""
    net = DenseNetwork((1, 2, 1), "linear", bias=False)

    def loss(w):
        return 0.5 * (net(w, X) - 2 * X).square().sum()

    found = quadratic_remainder(loss, [1.0, 1.0, 1.0, 1.0], [1.0, -1.0, 0.0, 0.0], [-3.0, 0.1, 5.0])
    # Rounding of outputs of size ten, squared.
    assert float(found.abs().max()) <= 1e-28


def test_a_quadratic_has_no_remainder_and_signs_are_kept():
    found = quadratic_remainder(lambda w: w[0] ** 2 + 1, [0.0, 0.0], [2.0, 0.0], [0.5, -3.0])
    assert found.tolist() == pytest.approx([0, 0], abs=1e-14)
    found = quadratic_remainder(lambda w: w[0] ** 2 + w[0] ** 3, [0.0], [-7.0], [0.1, -0.1])
    assert found.tolist() == pytest.approx([-1e-3, 1e-3], rel=1e-12)


def test_what_is_left_of_the_gradient_is_taken_off():
    # s times a gradient of 1e-10 would be 1e-11.
    found = quadratic_remainder(lambda w: w[0] ** 2 / 2, [1e-10], [1.0], [0.1])
    assert abs(float(found)) <= 1e-17


def test_with_decay_the_slowest_direction_is_of_third_order_when_near_enough():
    """Along what was the valley the third order is small, and the fourth takes over early."""
    _, fit, at = zero()

    def loss(w):
        return fit(w) + 0.05 * w.square().sum()

    rest = rest_point(loss, at).x
    v = torch.linalg.eigh(torch.autograd.functional.hessian(loss, rest)).eigenvectors[:, 0]

    def third(w):
        return along(lambda a: along(lambda b: along(loss, b, v), a, v), w, v)

    s = torch.tensor([3e-3, 1e-2, 3e-2], dtype=torch.float64)
    found = quadratic_remainder(loss, rest, v, s)
    expected = s**3 * float(third(rest)) / 6 + s**4 * float(along(third, rest, v)) / 24
    # The fifth order, and rounding of a loss near 1 in a remainder near 1e-9.
    np.testing.assert_allclose(found, expected, rtol=2e-2)
    assert abs(float(third(rest))) > 1e-3


@pytest.mark.parametrize(
    ("at", "direction", "sizes", "words"),
    [
        ([1e-3, 0.0], [1.0, 0.0], [0.1], "no rest point"),
        ([0.0, 0.0], [1.0], [0.1], "2 numbers"),
        ([0.0, 0.0], [0.0, 0.0], [0.1], "not all zero"),
        ([0.0, 0.0], [1.0, 0.0], [], "other than zero"),
        ([0.0, 0.0], [1.0, 0.0], [0.1, 0.0], "other than zero"),
        ([0.0, 0.0], [1.0, 0.0], [math.nan], "NaN"),
        ([0.0, 0.0], [1.0, 0.0], [1e200], "not finite at all"),
        ([[0.0, 0.0]], [1.0, 0.0], [1.0], "one vector"),
    ],
)
def test_says_what_is_wrong(at, direction, sizes, words):
    with pytest.raises(ValueError, match=words):
        quadratic_remainder(lambda w: w[0] ** 2 + w[1] ** 4, at, direction, sizes)
