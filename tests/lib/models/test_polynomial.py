"""Polynomial features: the bases are what they are called, and their norms choose the fit."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from implicit_bias import Regression, chebyshev_nodes, minimum_norm, polynomial_features
from scipy.special import eval_legendre

BASES = ("monomial", "chebyshev", "legendre")


@settings(derandomize=True, deadline=None)
@given(x=st.lists(st.floats(-1, 1), min_size=1, max_size=8), degree=st.integers(0, 40))
def test_features_are_the_classical_polynomials(x, degree):
    x = np.array(x)
    k = np.arange(degree + 1)
    exact = {
        "monomial": x[:, None] ** k,
        "chebyshev": np.cos(k * np.arccos(x)[:, None]),
        "legendre": eval_legendre(k, x[:, None]),
    }
    for basis in BASES:
        features = polynomial_features(x, degree, basis)
        assert features.shape == (x.size, degree + 1)
        assert features.dtype == torch.float64
        # cos(k arccos x) itself loses k roundings of arccos, near 1 the square root of one.
        np.testing.assert_allclose(features, exact[basis], atol=1e-13 * (degree + 1))


@pytest.mark.parametrize("basis", BASES)
def test_features_are_one_at_one_and_alternate_at_minus_one(basis):
    ends = polynomial_features([1.0, -1.0], 7, basis)
    assert ends[0].tolist() == [1.0] * 8
    assert ends[1].tolist() == [1.0, -1.0] * 4


def test_bases_span_one_space():
    x = torch.linspace(-1, 1, 30, dtype=torch.float64)
    for basis in BASES:
        both = torch.cat(
            [polynomial_features(x, 8, "chebyshev"), polynomial_features(x, 8, basis)], 1
        )
        assert int(torch.linalg.matrix_rank(both)) == 9


def test_lists_keep_all_their_digits():
    assert polynomial_features([0.1], 1)[0, 1].item() == 0.1


@pytest.mark.parametrize("n", [1, 2, 9, 76])
def test_nodes_are_the_zeros_of_the_chebyshev_polynomial(n):
    nodes = chebyshev_nodes(n)
    assert nodes.shape == (n,)
    assert bool((nodes.diff() > 0).all())
    torch.testing.assert_close(nodes, -nodes.flip(0), atol=1e-15, rtol=0)
    # T_n has slope up to n^2, here at most n / sin: a node's rounding is magnified by that.
    last = polynomial_features(nodes, n, "chebyshev")[:, n]
    torch.testing.assert_close(last, torch.zeros(n).double(), atol=2e-16 * n**2 + 1e-15, rtol=0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: polynomial_features([0.5, 1.5], 3),
            r"\[-1, 1\].*1\.5.*degree 3 explodes.*Rescale",
        ),
        (lambda: polynomial_features([math.nan], 3), "x has a NaN"),
        (lambda: polynomial_features([[0.5]], 3), r"vector.*shape \(1, 1\).*Rescale"),
        (lambda: polynomial_features([0.5], -1), "degree = -1 is too small.*Pass 0 or more"),
        (lambda: polynomial_features([0.5], 3, "fourier"), "no basis 'fourier'.*monomial, cheb"),
        (lambda: chebyshev_nodes(0), "n = 0 is too small.*Pass 1 or more"),
    ],
)
def test_refuses_and_says_what_to_do(call, message):
    with pytest.raises(ValueError, match=f"(?s){message}"):
        call()


def test_error_grows_with_degree():
    """P18 Figure 13: it is the norm, hence the basis, that decides what a high degree does."""
    x, test = chebyshev_nodes(76), torch.linspace(-1, 1, 600, dtype=torch.float64)

    def target(x):
        return torch.sin(8 * math.pi * x)

    def error(degree, basis, weights):
        def features(x):
            return polynomial_features(x, degree, basis) * weights(torch.arange(degree + 1.0))

        fit = minimum_norm(Regression(features(x), target(x)))
        assert fit.status == "interpolates"
        return float((features(test) @ fit.x - target(test)).square().mean())

    def plain(k):
        return torch.ones_like(k)

    for basis, at_300 in (("chebyshev", 0.37), ("legendre", 0.044)):
        assert error(76, basis, plain) < 1e-20
        assert error(120, basis, plain) < 1e-5
        assert error(300, basis, plain) == pytest.approx(at_300, rel=0.05)
    # The control: where high degrees cost more, they are not used, and nothing grows.
    for degree in (76, 120, 300):
        assert error(degree, "chebyshev", lambda k: (1 + k) ** -2.0) < 1e-5
