"""One hidden layer with a polynomial: P18's formulas against automatic differentiation."""

import math

import numpy as np
import pytest
import torch
from implicit_bias.dynamics.polynomial_layer import polynomial_gradient
from implicit_bias.dynamics.two_layer import two_layer_gradient
from implicit_bias.models.activations import fit_polynomial
from implicit_bias.models.dense import DenseNetwork

SIZES = [(5, 3, 4, 2), (3, 6, 2, 1), (4, 4, 1, 3), (2, 1, 5, 1)]  # n, d, h, d'


def draw(n, d, h, k):
    rng = np.random.default_rng([n, d, h, k])
    shapes = [(n, d), (n, k), (h, d), (k, h)]
    return [torch.from_numpy(rng.standard_normal(shape)) for shape in shapes]


def autograd(X, Y, W1, W2, activation):
    h, d = W1.shape
    net = DenseNetwork((d, h, W2.shape[0]), activation, bias=False)
    theta = net.join([W1, W2])
    slope = torch.func.grad(lambda w: 0.5 * (net(w, X) - Y).square().sum())(theta)
    return [W for W, _ in net.split(slope)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    "c", [[0.0, 0.0, 0.0, 1.0], [0.0, 0.7, -1.3], [2.0, 1.0, 0.5, 0.0, -0.2], [3.0]]
)
def test_is_the_gradient_of_autograd(size, c):
    parts = draw(*size)

    def activation(z):
        return sum((number * z**k for k, number in enumerate(c)), torch.zeros_like(z))

    found = polynomial_gradient(*parts, c)
    for one, other in zip(found, autograd(*parts, activation), strict=True):
        # Sums of at most 30 terms, rounded in another order.
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12 * float(other.abs().max()))


@pytest.mark.parametrize("m", [1, 2, 5])
def test_is_the_memo_s_16_and_17_with_the_bracket(m):
    """Examples as columns: [m (W1 X)^(m-1) o (W2^T E)] X^T and E ((W1 X)^m)^T."""
    X, Y, W1, W2 = (part.numpy() for part in draw(5, 3, 4, 2))
    Z = W1 @ X.T
    E = W2 @ Z**m - Y.T
    first, second = polynomial_gradient(X, Y, W1, W2, [0.0] * m + [1.0])
    inner = m * Z ** (m - 1) * (W2.T @ E)
    assert inner.shape == (4, 5)  # h rows, n columns: not d' and d
    np.testing.assert_allclose(first, inner @ X, rtol=1e-11, atol=1e-10)
    np.testing.assert_allclose(second, E @ (Z**m).T, rtol=1e-11, atol=1e-10)


def test_is_the_memo_s_18_and_19():
    X, Y, W1, W2 = (part.numpy() for part in draw(5, 3, 4, 2))
    a, b, Z = 0.6, -0.4, W1 @ X.T
    E = W2 @ (a * Z + b * Z**2) - Y.T
    first, second = polynomial_gradient(X, Y, W1, W2, [0.0, a, b])
    np.testing.assert_allclose(first, (a * W2.T @ E + 2 * b * Z * (W2.T @ E)) @ X, rtol=1e-12)
    np.testing.assert_allclose(second, a * E @ X @ W1.T + b * E @ (Z**2).T, rtol=1e-12)


def test_of_degree_one_is_the_linear_network():
    parts = draw(5, 3, 4, 2)
    found = polynomial_gradient(*parts, [0.0, 1.0])
    for one, other in zip(found, two_layer_gradient(*parts), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-14, atol=1e-14)


def test_takes_a_fitted_activation_after_conversion():
    parts, fitted = draw(5, 3, 4, 1), fit_polynomial(4, radius=3.0)
    c = np.polynomial.chebyshev.cheb2poly(fitted.coefficients.numpy()) / 3.0 ** np.arange(5)
    found = polynomial_gradient(*parts, c)
    for one, other in zip(found, autograd(*parts, fitted), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-11, atol=1e-11)


def test_targets_may_be_a_vector():
    X, Y, W1, W2 = draw(3, 6, 2, 1)
    found = polynomial_gradient(X, Y[:, 0], W1, W2, [0.0, 0.0, 1.0])
    for one, other in zip(found, polynomial_gradient(X, Y, W1, W2, [0, 0, 1]), strict=True):
        assert torch.equal(one, other)


def test_says_what_is_wrong():
    X, Y, W1, W2 = draw(5, 3, 4, 2)
    with pytest.raises(ValueError, match="Examples are rows"):
        polynomial_gradient(X.T, Y, W1, W2, [0, 1])
    with pytest.raises(ValueError, match="Examples are rows"):
        polynomial_gradient(X, Y, W1, W2.T, [0, 1])
    for bad in ([], [[0.0, 1.0]]):
        with pytest.raises(ValueError, match="the constant first"):
            polynomial_gradient(X, Y, W1, W2, bad)
    with pytest.raises(ValueError, match="NaN"):
        polynomial_gradient(X, Y, W1, W2, [0, math.nan])
    with pytest.raises(OverflowError, match="leave the range"):
        polynomial_gradient(1e100 * X, Y, W1, W2, [0, 0, 0, 1])
