"""Rest points: gradients to rounding, saddles refused, and what weight decay leaves degenerate."""

import math

import numpy as np
import pytest
import torch
from implicit_bias import Regression, ridge
from implicit_bias.dynamics.linearisation import loss_flow
from implicit_bias.limits.rest_point import rest_point
from implicit_bias.models.dense import DenseNetwork


def network_loss(widths, activation, decay, seed, n=10, bias=False):
    rng = np.random.default_rng([seed, *widths])
    net = DenseNetwork(widths, activation, bias=bias)
    X = torch.from_numpy(rng.standard_normal((n, widths[0])))
    Y = torch.from_numpy(rng.standard_normal((n, widths[-1])))

    def loss(w):
        return 0.5 * (net(w, X) - Y).square().sum() + decay / 2 * w.square().sum()

    return net, loss, X, Y


def hessian(loss, x):
    return torch.autograd.functional.hessian(loss, x)


@pytest.mark.parametrize("decay", [0.3, 1e-6])
def test_of_a_quadratic_is_ridge(decay):
    rng = np.random.default_rng(3)
    X, y = rng.standard_normal((4, 6)), rng.standard_normal(4)
    A, b = torch.from_numpy(X), torch.from_numpy(y)
    found = rest_point(
        lambda w: 0.5 * (A @ w - b).square().sum() + decay / 2 * w.square().sum(), np.ones(6)
    )
    expected = ridge(Regression(X, y), decay)
    # Rounding times the condition, 1e7 at most.
    torch.testing.assert_close(found.x, expected.x, rtol=0, atol=1e-8)
    assert (found.status, found.rank, found.dual.numel()) == ("isolated", 6, 0)


@pytest.mark.parametrize("seed", range(6))
def test_tanh_with_decay_has_a_definite_hessian(seed):
    decay = [1e-1, 1e-2, 1e-3][seed % 3]
    net, loss, *_ = network_loss((2, 3, 1), "tanh", decay, seed, bias=seed > 2)
    found = rest_point(loss, net.initial(seed))
    gradient = torch.autograd.functional.jacobian(loss, found.x)
    values = torch.linalg.eigvalsh(hessian(loss, found.x))
    # 12 sums of rounding errors of size eps times the eigenvalue times the weights.
    assert float(gradient.norm()) <= 1e-14 * float(values[-1] * found.x.norm())
    assert found.residual <= 1e-14
    assert values[0] > 0.5 * decay
    assert (found.status, found.rank) == ("isolated", net.size)
    assert found.objective == pytest.approx(float(loss(found.x)), rel=1e-15)
    # Newton from the end of a flow keeps to the flow's own minimum.
    end = loss_flow(loss, net.initial(seed), [30 / float(values[0])], rtol=1e-8).x
    own = rest_point(loss, end)
    assert float((own.x - end).norm()) <= 1e-4 * float(end.norm())
    assert own.objective <= float(loss(end)) * (1 + 1e-12)


@pytest.mark.parametrize(
    ("sizes", "decay", "rank"),
    [
        ((3, 2, 1), 0.1, 1),
        ((3, 3, 1), 0.1, 1),
        ((3, 2, 2), 0.1, 2),
        ((4, 3, 3), 0.1, 3),
        ((3, 4, 3), 0.1, 3),
        ((4, 5, 2), 0.1, 2),
        ((4, 3, 3), 6.0, 1),
        ((4, 3, 3), 100.0, 0),
    ],
)
def test_rotations_keep_zero_eigenvalues_of_linear_nets(sizes, decay, rank):
    """r (2h - r - 1) / 2 of them: rotations of h hidden units, less those that keep the layers.

    The layers are balanced, W1 W1^T = W2^T W2, and have the rank r of their product; rotations of
    the h - r dimensions of the hidden layer that they do not use change nothing. For r >= h - 1
    that is h (h - 1) / 2.
    """
    h = sizes[1]
    net, loss, X, Y = network_loss(sizes, "linear", decay, 0)
    found = rest_point(loss, net.initial(1))
    (A, _), (B, _) = net.split(found.x)
    torch.testing.assert_close(A @ A.T, B.T @ B, rtol=0, atol=1e-10)
    singular = torch.linalg.svdvals(B @ A)
    assert int((singular > 1e-6).sum()) == rank
    # The product minimises the fit plus decay times the sum of singular values: off its range
    # the gradient has norm at most the decay, on it exactly that.
    force = torch.linalg.svdvals((X @ A.T @ B.T - Y).T @ X)
    np.testing.assert_allclose(force[:rank], decay, rtol=1e-9)
    assert bool((force[rank:] < decay).all())
    values = torch.linalg.eigvalsh(hessian(loss, found.x))
    zeros = rank * (2 * h - rank - 1) // 2
    assert int((values.abs() <= 1e-12 * values[-1]).sum()) == zeros
    assert int((values > 1e-6 * values[-1]).sum()) == net.size - zeros
    assert found.rank == net.size - zeros
    assert found.status == ("degenerate" if zeros else "isolated")
    if rank >= h - 1:
        assert zeros == h * (h - 1) // 2


@pytest.mark.parametrize("activation", ["tanh", "linear", "square"])
@pytest.mark.parametrize("seed", range(4))
def test_zeros_of_the_loss_are_reached_as_members_of_a_family(activation, seed):
    net, loss, *_ = network_loss((3, 4, 1), activation, 0.0, seed, n=3)
    found = rest_point(loss, net.initial(seed))
    assert found.status == "degenerate"
    assert found.objective <= 1e-20
    assert found.rank == 3


def test_decay_moves_the_minimum_to_the_least_norm_of_the_valley():
    """xy = 1 (E-P18-weight-decay): from (2, 1/2) it goes to nearly (1, 1): no bowl there."""

    def loss(w):
        return 0.5 * (w[0] * w[1] - 1) ** 2

    found = rest_point(lambda w: loss(w) + 1e-4 / 2 * w.square().sum(), [2.0, 0.5])
    # Balanced: x = y, and (x^2 - 1) x + decay x = 0.
    assert found.x.tolist() == pytest.approx([math.sqrt(1 - 1e-4)] * 2, rel=1e-12)
    # P18's gamma |W|^2 is 2 gamma / 2 |W|^2.
    twice = rest_point(lambda w: loss(w) + 1e-4 * w.square().sum(), [2.0, 0.5])
    assert twice.x.tolist() == pytest.approx([math.sqrt(1 - 2e-4)] * 2, rel=1e-12)


@pytest.mark.parametrize("unit", [1e-5, 1.0, 1e5])
@pytest.mark.parametrize("factor", [1e-12, 1.0, 1e12])
def test_units_do_not_matter(unit, factor):
    def loss(w):
        a, b = w / unit
        return factor * ((1 - a) ** 2 + 100 * (b - a**2) ** 2)

    found = rest_point(loss, [-1.2 * unit, unit])
    np.testing.assert_allclose(found.x / unit, [1, 1], rtol=1e-13)
    assert found.residual <= 1e-14


def test_higher_order_minima_are_degenerate():
    found = rest_point(lambda w: w[0] ** 2 / 2 + w[1] ** 4 / 4, [1.0, 1.0])
    assert (found.status, found.rank) == ("degenerate", 1)
    # The Hessian in y is lost in rounding from 1e-8 on.
    assert float(found.x.norm()) <= 1e-7
    assert rest_point(lambda w: w[0] ** 4, [1.0]).status == "degenerate"
    flat = rest_point(lambda w: torch.tensor(2.0), [3.0])
    assert (flat.x.tolist(), flat.residual, flat.status) == ([3.0], 0.0, "degenerate")


def test_leaves_saddles_unless_it_begins_on_one():
    def loss(w):
        return w[0] ** 2 - w[1] ** 2 + w[1] ** 4

    for start in ([1.0, 1e-3], [1.0, 0.0]):
        found = rest_point(loss, start)
        np.testing.assert_allclose(found.x.abs(), [0, math.sqrt(0.5)], atol=1e-12)
    with pytest.raises(ArithmeticError, match=r"saddle.*eigenvalue -2 .*move the start"):
        rest_point(loss, [0.0, 0.0])
    # All weights zero: stationary for tanh without biases, and kept by symmetry.
    net, fit, *_ = network_loss((2, 2, 1), "tanh", 0.0, 0)
    with pytest.raises(ArithmeticError, match="saddle"):
        rest_point(fit, np.zeros(net.size))


@pytest.mark.parametrize(
    "loss", [lambda w: w[0], lambda w: -w.square().sum(), lambda w: torch.exp(-w[0])]
)
def test_without_a_minimum_there_is_no_rest_point(loss):
    with pytest.raises(ArithmeticError, match="there is no rest point"):
        rest_point(loss, [1.0], steps=60)


@pytest.mark.parametrize(
    ("call", "kind", "words"),
    [
        (lambda: rest_point(lambda w: w.sum(), [[1.0]]), ValueError, "one vector"),
        (lambda: rest_point(lambda w: w.sum(), torch.ones(2001)), ValueError, "at most 2000"),
        (lambda: rest_point(lambda w: w.sum(), [math.inf]), ValueError, "infinite"),
        (lambda: rest_point(lambda w: w.sum(), [1.0], tol=0), ValueError, "tol"),
        (lambda: rest_point(lambda w: w.sum(), [1.0], steps=0), ValueError, "steps"),
        (lambda: rest_point("loss", [1.0]), TypeError, "cannot be called"),
        (lambda: rest_point(lambda w: w, [1.0, 1.0]), ValueError, "one number"),
        (lambda: rest_point(lambda w: w.log().sum(), [0.0]), ValueError, "not finite"),
        (lambda: rest_point(lambda w: torch.exp(w[0]), [500.0]), ValueError, "above 1e150"),
    ],
)
def test_says_what_is_wrong(call, kind, words):
    with pytest.raises(kind, match=words):
        call()
