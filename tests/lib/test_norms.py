"""Norms: Hölder's inequality and its equality case, scale, and what is refused."""

import math

import numpy as np
import pytest
import torch
from implicit_bias.norms import FourierNorm, NuclearNorm, PowerNorm, QuadraticNorm, as_norm, margin
from implicit_bias.problems import Classification, Regression

D = 6
K = np.diag(np.arange(1.0, D + 1)) + 0.3
EVERY = [1, 1.05, 1.5, 2, 3, 20, math.inf, K, "fourier"]


def vectors(count, seed=0, shape=(D,)):
    return torch.from_numpy(np.random.default_rng(seed).standard_normal((count, *shape)))


@pytest.mark.parametrize("norm", EVERY, ids=str)
def test_it_is_a_norm(norm):
    form = as_norm(norm, D)
    for u, v in zip(vectors(20), vectors(20, 1), strict=True):
        assert form.value(u + v) <= (form.value(u) + form.value(v)) * (1 + 1e-14)
        assert form.value(-3 * u) == pytest.approx(3 * form.value(u), rel=1e-14)
    assert form.value(torch.zeros(D).double()) == form.dual(torch.zeros(D).double()) == 0.0


@pytest.mark.parametrize("norm", EVERY, ids=str)
def test_hoelder_with_equality_at_the_steepest_direction(norm):
    form = as_norm(norm, D)
    for g in vectors(20):
        v = form.steepest(g)
        assert form.value(v) == pytest.approx(1, rel=1e-14)
        assert float(g @ v) == pytest.approx(form.dual(g), rel=1e-13)
        for w in vectors(20, 1):
            assert float(g @ w) <= form.dual(g) * form.value(w) * (1 + 1e-13)


@pytest.mark.parametrize("d", [1, 2, 3, 6, 7])
def test_fourier_steepest_at_every_length(d):
    for g in [*vectors(10, shape=(d,)), torch.ones(d).double(), (-1.0) ** torch.arange(d).double()]:
        v = FourierNorm().steepest(g)
        assert FourierNorm().value(v) == pytest.approx(1, rel=1e-13)
        assert float(g @ v) == pytest.approx(FourierNorm().dual(g), rel=1e-13)


def test_nuclear_is_dual_to_the_largest_singular_value():
    form = NuclearNorm()
    for G, W in zip(vectors(20, shape=(4, 3)), vectors(20, 1, (4, 3)), strict=True):
        V = form.steepest(G)
        assert form.value(V) == pytest.approx(1, rel=1e-13)
        assert float((G * V).sum()) == pytest.approx(form.dual(G), rel=1e-13)
        assert float((G * W).sum()) <= form.dual(G) * form.value(W)
        assert form.value(W) == pytest.approx(np.linalg.norm(W.numpy(), "nuc"), rel=1e-13)


@pytest.mark.parametrize("p", [1, 1.05, 1.5, 2, 3, 20, math.inf])
def test_power_norms_are_those_of_numpy(p):
    for w in vectors(5):
        assert as_norm(p, D).value(w) == pytest.approx(np.linalg.norm(w.numpy(), p), rel=1e-13)


def test_quadratic_norm_by_definition():
    for w in vectors(5):
        form = as_norm(K, D)
        assert form.value(w) == pytest.approx(math.sqrt(w.numpy() @ K @ w.numpy()), rel=1e-14)
        dual = math.sqrt(w.numpy() @ np.linalg.solve(K, w.numpy()))
        assert form.dual(w) == pytest.approx(dual, rel=1e-13)


@pytest.mark.parametrize("norm", [1.2, 1.5, 2, 3, 5, K], ids=str)
def test_the_hessian_is_the_derivative_of_the_dual_map(norm):
    form = as_norm(norm, D)

    def dual_map(g):
        return form.dual(g) * form.steepest(g)

    for g in vectors(5):
        H = form.dual_hessian(g)
        torch.testing.assert_close(H @ g, dual_map(g), rtol=1e-12, atol=1e-12)
        for v in vectors(3, 1):
            # Central differences: the error is 1e-10 from their step, and cancellation.
            slope = (dual_map(g + 1e-5 * v) - dual_map(g - 1e-5 * v)) / 2e-5
            torch.testing.assert_close(H @ v, slope, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("scale", [1e-200, 1e200])
@pytest.mark.parametrize("norm", EVERY, ids=str)
def test_no_scale_overflows(norm, scale):
    form = as_norm(norm, D)
    for g in vectors(5):
        assert form.value(scale * g) == pytest.approx(scale * form.value(g), rel=1e-13)
        assert form.dual(scale * g) == pytest.approx(scale * form.dual(g), rel=1e-13)
        # At p near 1 the steepest direction magnifies rounding by q - 1.
        torch.testing.assert_close(form.steepest(scale * g), form.steepest(g), atol=1e-13, rtol=0)


def test_which_are_strictly_convex():
    assert [as_norm(norm, D).strictly_convex for norm in EVERY] == [
        *(False, True, True, True, True, True, False, True, False)
    ]
    assert isinstance(as_norm(2, 3), PowerNorm)
    assert isinstance(as_norm(torch.eye(3), 3), QuadraticNorm)
    form = PowerNorm(3.0)
    assert as_norm(form, 7) is form


# ---- margin


def two_points():
    return Classification([[3.0, 4.0], [-6.0, 0.0]], [1, -1])


@pytest.mark.parametrize(
    ("norm", "expected"),
    [(2, 6 / math.sqrt(2)), (1, 3.0), (math.inf, 6.0), (np.diag([1.0, 3.0]), 3.0)],
    ids=str,
)
def test_margin_by_hand(norm, expected):
    """w = (1, 1) has margins 7 and 6; its norms are sqrt 2, 2, 1 and 2."""
    assert margin(two_points(), [1.0, 1.0], norm) == pytest.approx(expected, rel=1e-15)


def test_margin_knows_no_scale():
    for scale in (1e-300, 1e-3, 1e300):
        assert margin(two_points(), np.array([1.0, 1.0]) * scale) == pytest.approx(6 / 2**0.5)
    assert margin(two_points(), [-1.0, 0.0]) == -6.0


def test_margin_of_a_matrix_and_of_a_transform():
    X = [[1.0, 0.0], [0.0, 2.0]]
    problem = Classification(X, [[1, -1], [1, 1]])
    W = [[1.0, -1.0], [1.0, 1.0]]  # margins 1, 1, 2, 2; singular values sqrt 2, twice
    assert margin(problem, W, "nuclear") == pytest.approx(1 / (2 * math.sqrt(2)), rel=1e-15)
    # The transform of (1, 1) is (sqrt 2, 0).
    single = Classification(X, [1, 1])
    assert margin(single, [1.0, 1.0], "fourier") == pytest.approx(1 / math.sqrt(2), rel=1e-15)


# ---- what is refused


@pytest.mark.parametrize(
    ("norm", "error", "message"),
    [
        (0.5, ValueError, "norm = 0.5.*triangle inequality.*p >= 1"),
        (-1, ValueError, "p >= 1"),
        (math.nan, ValueError, "p >= 1"),
        (True, ValueError, "p >= 1"),
        (1j, ValueError, "p >= 1"),
        ("spectral", ValueError, "no norm named 'spectral'.*'fourier' or 'nuclear'"),
        pytest.param(object(), TypeError, "number or a matrix", id="object"),
        (np.eye(3), ValueError, r"shape \(3, 3\).*K of shape \(2, 2\)"),
        ([1.0, 2.0], ValueError, r"shape \(2,\).*K of shape \(2, 2\)"),
        ([[1.0, 2.0], [0.0, 1.0]], ValueError, r"not symmetric.*K \+ K.T"),
        ([[1.0, 2.0], [2.0, 1.0]], ValueError, "not positive definite.*smallest eigenvalue is -1"),
        ([[1.0, 1.0], [1.0, 1.0]], ValueError, "not positive definite"),
        (np.zeros((2, 2)), ValueError, "or zero"),
        ([[math.nan, 0.0], [0.0, 1.0]], ValueError, "NaN"),
        (1j * np.eye(2), TypeError, "complex"),
    ],
    ids=str,
)
def test_norms_that_are_none(norm, error, message):
    with pytest.raises(error, match=message):
        as_norm(norm, 2)


@pytest.mark.parametrize(
    ("w", "norm", "error", "message"),
    [
        ([0.0, 0.0], 2, ValueError, "w = 0 has no direction"),
        ([1.0, math.inf], 2, ValueError, "w has a NaN or infinite entry"),
        ([1.0], 2, ValueError, r"shape \(1,\).*need \(2,\)"),
        ([[1.0], [1.0]], "nuclear", ValueError, r"y has shape \(2,\).*y\[:, None\]"),
        ([1j, 1.0], 2, TypeError, "complex"),
        ("no", 2, TypeError, "w cannot be read"),
    ],
)
def test_margins_of_nothing(w, norm, error, message):
    with pytest.raises(error, match=message):
        margin(two_points(), w, norm)


def test_margins_need_labels_of_the_right_shape():
    with pytest.raises(TypeError, match=r"labels.*Regression"):
        margin(Regression([[1.0]], [1.0]), [1.0])
    with pytest.raises(ValueError, match=r"y has shape \(1, 2\).*norm='nuclear'"):
        margin(Classification([[1.0]], [[1, -1]]), [1.0])


def test_zero_has_no_steepest_direction():
    with pytest.raises(ValueError, match=r"g is zero.*non-zero vector"):
        PowerNorm(2.0).steepest(torch.zeros(3))
