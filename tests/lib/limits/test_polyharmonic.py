"""Polyharmonic splines: optimality, the natural cubic spline in one dimension, kernels of nets."""

import math

import numpy as np
import pytest
import torch
from implicit_bias.limits.polyharmonic import polyharmonic
from scipy.interpolate import CubicSpline
from scipy.spatial.distance import cdist


def cloud(M, d, seed=0):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((M, d)), rng.standard_normal(M)


DIMENSIONS = pytest.mark.parametrize("d", [1, 2, 3, 5])


@DIMENSIONS
@pytest.mark.parametrize("s", [0.0, 1e-3, 10.0])
def test_optimality_conditions(d, s):
    for seed in range(10):
        X, y = cloud(6 + d + 2 * seed, d, seed)
        spline = polyharmonic(X, y, s)
        alpha = spline.dual.numpy()
        P = np.hstack([np.ones((len(y), 1)), X])
        # In one dimension random points are close, and alpha is large.
        tolerance = 1e-6 if d == 1 else 1e-10
        np.testing.assert_allclose(spline(X).numpy() + s * alpha, y, atol=tolerance)
        np.testing.assert_allclose(P.T @ alpha, 0, atol=1e-11 * np.abs(alpha).max())
        # The function is the sum that it should be, everywhere.
        at = np.random.default_rng(1).uniform(-3, 3, (50, d))
        line = np.linalg.lstsq(P, y - s * alpha - cdist(X, X) ** 3 @ alpha, rcond=None)[0]
        own = cdist(at, X) ** 3 @ alpha + line[0] + at @ line[1:]
        np.testing.assert_allclose(spline(at), own, atol=100 * tolerance)
        assert spline.energy == pytest.approx(alpha @ cdist(X, X) ** 3 @ alpha, rel=1e-6)
        assert spline.residual <= tolerance


@DIMENSIONS
@pytest.mark.parametrize("s", [0.0, 0.1])
def test_nothing_nearby_is_better(d, s):
    """Among sums with other centres too, the energy of an interpolant is larger (Pythagoras)."""
    X, y = cloud(7 + d, d, 3)
    spline, rng = polyharmonic(X, y, s), np.random.default_rng(0)
    extra = np.concatenate([X, rng.standard_normal((5, d))])
    Phi, P = cdist(extra, extra) ** 3, np.hstack([np.ones((len(extra), 1)), extra])
    base = np.concatenate([spline.dual.numpy(), np.zeros(5)])
    for _ in range(20):
        # A change of coefficients that stays orthogonal to linear functions ...
        step = rng.standard_normal(len(extra))
        if s == 0:  # ... and that vanishes at the data, by another linear part.
            rows = np.concatenate(
                [np.hstack([Phi, P])[: len(y)], np.hstack([P.T, np.zeros((d + 1,) * 2)])]
            )
            null = np.linalg.svd(rows)[2][len(rows) :].T
            step = (null @ rng.standard_normal(null.shape[1]))[: len(extra)]
            assert (base + step) @ Phi @ (base + step) > spline.energy
        else:
            step -= P @ np.linalg.lstsq(P, step, rcond=None)[0]
            shift = 0.01 * (Phi @ step)[: len(y)]
            other = base + 0.01 * step
            fit = spline(X).numpy() + shift
            objective = ((fit - y) ** 2).sum() + s * other @ Phi @ other
            assert objective > spline.objective


def test_one_dimension_is_the_natural_cubic_spline():
    x = np.linspace(-2, 2, 12) + np.random.default_rng(0).uniform(-0.1, 0.1, 12)
    y = np.random.default_rng(1).standard_normal(12)
    spline, scipy = polyharmonic(x[:, None], y), CubicSpline(x, y, bc_type="natural")
    t = np.linspace(x[0], x[-1], 201)
    np.testing.assert_allclose(spline(t[:, None]), scipy(t), atol=1e-10)
    a, b = scipy(x[:-1], 2), scipy(x[1:], 2)
    roughness = (np.diff(x) * (a * a + a * b + b * b) / 3).sum()
    assert 12 * spline.energy == pytest.approx(roughness, rel=1e-10)


@pytest.mark.parametrize("d", [2, 3])
def test_kernel_of_random_relus(d):
    """M24 Theorem 8: directions uniform, biases uniform on (-R, R), R >= max |x|."""
    X, y = cloud(12, d, 3)
    X = X / np.linalg.norm(X, axis=1).max()
    rng, at = np.random.default_rng(0), cloud(30, d, 5)[0]
    at = at / np.linalg.norm(at, axis=1).max()
    n = 40_000
    direction = rng.standard_normal((n, d))
    direction /= np.linalg.norm(direction, axis=1)[:, None]

    def network(R):
        bias = rng.uniform(-R, R, n)
        features = lambda Z: np.maximum(Z @ direction.T + bias, 0) / math.sqrt(n)  # noqa: E731
        P = np.hstack([np.ones((12, 1)), X])
        off = np.linalg.qr(P, mode="complete")[0][:, d + 1 :].T
        v = np.linalg.pinv(off @ features(X)) @ off @ y
        line = np.linalg.lstsq(P, y - features(X) @ v, rcond=None)[0]
        return features(at) @ v + line[0] + at @ line[1:]

    limit = polyharmonic(X, y)(at).numpy()
    size = np.abs(limit).max()
    assert np.abs(network(1.0) - limit).max() <= 0.05 * size  # seen: 0.007 and 0.024
    # The control: too small a range of biases.
    assert np.abs(network(0.1) - limit).max() > 0.3 * size


@DIMENSIONS
def test_linear_data_cost_nothing(d):
    X, _ = cloud(d + 6, d)
    y = 3 + X @ np.arange(1.0, d + 1)
    for M in (d + 1, d + 6):
        for s in (0.0, 1.0):
            spline = polyharmonic(X[:M], y[:M], s)
            at = np.ones((2, d)) * [[4.0], [-4.0]]
            np.testing.assert_allclose(spline(at), 3 + at @ np.arange(1.0, d + 1), rtol=1e-8)
            assert spline.energy <= 1e-20
            assert spline.residual <= 1e-9


@DIMENSIONS
def test_smoothing_from_nothing_to_everything(d):
    X, y = cloud(d + 8, d, 1)
    at = cloud(20, d, 4)[0]
    interpolant = polyharmonic(X, y)
    assert interpolant.status == "interpolates"
    near = polyharmonic(X, y, 1e-13)
    assert near.status == "smooths"
    np.testing.assert_allclose(near(at), interpolant(at), rtol=1e-6, atol=1e-6)
    P = np.hstack([np.ones((len(y), 1)), X])
    plane = np.linalg.lstsq(P, y, rcond=None)[0]
    far = polyharmonic(X, y, 1e14)
    np.testing.assert_allclose(far(at), plane[0] + at @ plane[1:], rtol=1e-8, atol=1e-8)
    steps = [polyharmonic(X, y, s) for s in (1e-3, 1e-1, 10.0, 1e3)]
    energies = [spline.energy for spline in steps]
    assert sorted(energies, reverse=True) == energies
    assert interpolant.energy > energies[0]


@DIMENSIONS
def test_equivariance(d):
    X, y = cloud(d + 8, d, 1)
    at, rng = cloud(20, d, 4)[0], np.random.default_rng(2)
    turn = np.linalg.qr(rng.standard_normal((d, d)))[0]
    for s in (0.0, 0.5):
        base = polyharmonic(X, y, s)
        moved = polyharmonic(1e3 * X @ turn + 7, y, s * 1e9)
        np.testing.assert_allclose(moved(1e3 * at @ turn + 7), base(at), rtol=1e-7, atol=1e-7)
        assert moved.energy == pytest.approx(base.energy / 1e9, rel=1e-6)
        order = rng.permutation(len(y))
        shuffled = polyharmonic(X[order], -2 * y[order], s)
        np.testing.assert_allclose(shuffled(at), -2 * base(at), rtol=1e-7, atol=1e-7)
        torch.testing.assert_close(shuffled.dual, -2 * base.dual[order], rtol=1e-7, atol=1e-7)


def test_inputs_and_outputs():
    corners = np.float32([[0, 0], [1, 0], [0, 1], [1, 1]])
    spline = polyharmonic(corners, torch.tensor([0.0, 1.0, 1.0, 0.0]))
    assert spline(torch.zeros(4, 5, 2)).shape == (4, 5)
    assert spline([0.0, 1.0]).shape == ()
    assert spline(np.zeros((0, 2))).shape == (0,)
    assert spline([1.0, 0.0]).dtype == torch.float64
    assert isinstance(spline.energy, float)
    # Far from the data float64 still holds.
    assert bool(torch.isfinite(spline([[1e6, -1e6]])).all())


@pytest.mark.parametrize(
    ("X", "y", "s", "message"),
    [
        ([[0.0, 0.0], [1.0, 1.0], [2.0, 2.0]], [0.0] * 3, 0.0, r"3 points lie in one hyperplane"),
        ([[0.0, 0.0], [1.0, 1.0]], [0.0] * 2, 0.0, r"2 points lie in.*Pass 3 or more"),
        ([[0.0], [1.0], [0.0]], [0.0, 1.0, 2.0], 0.0, r"points 0 and 2 are the same"),
        ([[1.0]], [0.0], 0.0, r"1 points lie in one hyperplane"),
        ([0.0, 1.0], [0.0, 1.0], 0.0, r"X of shape \(n, d\)"),
        ([[0.0], [1.0]], [[0.0], [1.0]], 0.0, r"y of shape \(n,\)"),
        ([[0.0], [math.nan]], [0.0, 1.0], 0.0, r"X has a NaN"),
        ([[0.0], [1.0]], [0.0, 1.0], -1.0, r"smoothing = -1.0.*price of energy"),
        ([[0.0], [1.0]], [0.0, 1.0], math.nan, r"smoothing = nan"),
        ([[0.0], [1.0]], [0.0, 1.0], math.inf, r"smoothing = inf.*linear function"),
    ],
)
def test_refuses(X, y, s, message):
    with pytest.raises(ValueError, match=message):
        polyharmonic(X, y, s)


def test_refuses_points_and_what_float64_cannot_do():
    spline = polyharmonic([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]], [0.0, 1.0, 2.0])
    for points in ([1.0], 1.0, [[1.0, 2.0, 3.0]]):
        with pytest.raises(ValueError, match=r"function of 2 numbers.*\(\.\.\., 2\)"):
            spline(points)
    with pytest.raises(ValueError, match=r"too many, or too close.*curvature_spline has no such"):
        polyharmonic(*cloud(500, 1))
    # Enough smoothing cures it.
    assert polyharmonic(*cloud(500, 1), 1.0).residual <= 1e-9


def test_the_residual_sees_another_function(monkeypatch):
    """A solver that interpolates with another kernel is found out between the data."""
    import scipy.interpolate

    right = scipy.interpolate.RBFInterpolator

    def wrong(*arguments, **options):
        return right(*arguments, **{**options, "kernel": "thin_plate_spline"})

    assert polyharmonic(*cloud(9, 2)).residual <= 1e-10
    monkeypatch.setattr(scipy.interpolate, "RBFInterpolator", wrong)
    with pytest.raises(ValueError, match=r"cannot be solved to six digits"):
        polyharmonic(*cloud(9, 2))
