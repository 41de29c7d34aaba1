"""Curvature splines: optimality conditions, other solvers, special cases that coincide."""

import math
from itertools import pairwise

import mpmath as mp
import numpy as np
import pytest
import torch
from implicit_bias.knots import TooFewBreakpoints
from implicit_bias.limits import spline as spline_module
from implicit_bias.limits.spline import curvature_spline, linear_spline
from implicit_bias.measures import Breakpoints, Density
from implicit_bias.spline_system import spline_system
from scipy.interpolate import CubicSpline, make_interp_spline, make_smoothing_spline


def flat(x):
    return 1.0


def data(M, seed, spread=1.0):
    rng = np.random.default_rng(seed)
    return np.sort(rng.uniform(-spread, spread, M)), rng.standard_normal(M)


def inside(x, n=400):
    return np.linspace(x.min(), x.max(), n)


def worst(a, b):
    a, b = np.asarray(a), np.asarray(b)
    return np.abs(a - b).max() / np.abs(b).max()


# ---- an independent solution: truncated powers, full matrices, many digits


def reference(x, y, kernel, points, k=1, s=0, digits=60):
    """h = sum_i a_i K(., x_i) + polynomial, K(x, z) = int (x-t)_+^k (z-t)_+^k zeta / k!^2.

    Shares nothing with the library: no B-splines, no differences, no bands. K loses all of
    float64's digits, so it is done with 60.
    """
    with mp.workdps(digits):
        X, M = [mp.mpf(float(t)) for t in x], len(x)
        A, b = mp.zeros(M + k + 1), mp.zeros(M + k + 1, 1)
        for i in range(M):
            b[i] = mp.mpf(float(y[i]))
            for j in range(i, M):
                A[i, j] = A[j, i] = kernel(X[i], X[j]) / mp.factorial(k) ** 2
            A[i, i] += mp.mpf(s)
            for power in range(k + 1):
                A[i, M + power] = A[M + power, i] = X[i] ** power
        c = mp.lu_solve(A, b)
        return np.array(
            [
                float(
                    mp.fsum(c[j] * kernel(t, X[j]) for j in range(M)) / mp.factorial(k) ** 2
                    + mp.fsum(c[M + power] * t**power for power in range(k + 1))
                )
                for t in (mp.mpf(float(p)) for p in points)
            ]
        )


def constant_kernel(k, lo):
    def kernel(a, b):
        low, apart = min(a, b) - lo, abs(a - b)
        if low <= 0:
            return mp.mpf(0)
        terms = (
            mp.binomial(k, i) * apart ** (k - i) * low ** (k + i + 1) / (k + i + 1)
            for i in range(k + 1)
        )
        return mp.fsum(terms)

    return kernel


def quadrature_kernel(k, zeta, cuts):
    """Cuts: the first is where the integral begins, the others are split points."""

    def kernel(a, b):
        end = min(a, b)
        stops = [mp.mpf(c) for c in cuts if c < end] + [end]
        if len(stops) == 1:
            return mp.mpf(0)
        return mp.quad(lambda t: zeta(t) * (a - t) ** k * (b - t) ** k, stops)

    return kernel


def atomic_kernel(k, positions, weights):
    atoms = [(mp.mpf(float(c)), mp.mpf(float(w))) for c, w in zip(positions, weights, strict=True)]

    def kernel(a, b):
        end = min(a, b)
        return mp.fsum(w * (a - c) ** k * (b - c) ** k for c, w in atoms if c < end)

    return kernel


# ---- constant zeta: natural splines


@pytest.mark.parametrize("M", [3, 4, 5, 10, 30, 100, 200])
def test_constant_zeta_is_the_natural_cubic_spline(M):
    """M24 Theorem 5 with binary weights: random knots, so gaps from 1e-5 to 0.1."""
    for seed in range(20):
        x, y = data(M, seed)
        ours = curvature_spline(x, y, lambda t: 3.0)
        scipy = CubicSpline(x, y, bc_type="natural")
        at = inside(x)
        for order in range(3):
            found = ours.derivative(order)(at).numpy()
            # Worst seen: 5e-14 of the largest value.
            assert worst(found, scipy(at, order)) <= 1e-12
        assert worst(ours(x), y) <= 1e-14
        assert ours.energy == pytest.approx(_roughness(scipy) / 3, rel=1e-10)


def _roughness(spline):
    """int (h'')^2 of a cubic spline: h'' is linear in each gap."""
    a, b = spline(spline.x[:-1], 2), spline(spline.x[1:], 2)
    b = a + 6 * spline.c[0] * np.diff(spline.x)
    return float((np.diff(spline.x) * (a * a + a * b + b * b) / 3).sum())


@pytest.mark.parametrize("k", [2, 3])
@pytest.mark.parametrize("M", [8, 10, 30, 100, 200])
def test_other_degrees_are_natural_splines(k, M):
    """M24 Theorem 9: [z]_+^k / k! gives the natural spline of degree 2k+1."""
    rng = np.random.default_rng(M)
    x = np.sort(np.linspace(-1, 1, M) + rng.uniform(-0.3, 0.3, M) / M)
    y = rng.standard_normal(M)
    ends = [(order, 0.0) for order in range(k + 1, 2 * k + 1)]
    scipy = make_interp_spline(x, y, 2 * k + 1, bc_type=(ends, ends))
    # SciPy itself misses the data by up to 2e-12 here.
    assert worst(curvature_spline(x, y, flat, degree=k)(inside(x)), scipy(inside(x))) <= 1e-10


@pytest.mark.parametrize("k", [1, 2, 3])
@pytest.mark.parametrize("s", [0, 1e-12, 1e-6, 1e-3, 1.0, 1e6])
def test_agrees_with_sixty_digits(k, s):
    for M, seed in [(k + 1, 0), (k + 2, 1), (8, 2), (16, 3)]:
        x, y = data(M, seed)
        at = np.concatenate([inside(x, 13), [-1.5, 1.7]])
        exact = reference(x, y, constant_kernel(k, mp.mpf(float(x[0]))), at, k, s)
        ours = curvature_spline(x, y, flat, s, k)
        # Worst seen 2e-13 (k = 3, interpolation).
        assert worst(ours(at)[:-2], exact[:-2]) <= 1e-11
        assert worst(ours(at), exact) <= 1e-11


@pytest.mark.parametrize(("k", "error"), [(1, 1e-11), (2, 1e-7), (3, 1e-7)])
def test_clusters_of_knots(k, error):
    """Triples of knots down to 1e-5 apart: the problem itself loses digits. Seen: 4e-13, 3e-9."""
    for seed in range(2):
        rng = np.random.default_rng(seed)
        apart = 10 ** rng.uniform(-5, -2) * rng.uniform(0, 1, (8, 3))
        x = np.sort((np.linspace(-1, 1, 8)[:, None] + apart).ravel())
        y = np.cos(3 * x) + 0.1 * (seed % 2) * rng.standard_normal(24)
        at = np.concatenate([(x[1:] + x[:-1]) / 2, x[:-1] + 0.01 * np.diff(x)])
        spline = curvature_spline(x, y, flat, degree=k)
        exact = reference(x, y, constant_kernel(k, mp.mpf(float(x[0]))), at, k)
        assert worst(spline(at), exact) <= error
        assert spline.residual <= 1e-10


@pytest.mark.parametrize("s", [1e-9, 1e-5, 1e-3])
def test_agrees_with_scipys_smoothing_spline(s):
    """Where that one is accurate: few knots, little smoothing."""
    x, y = data(40, 5)
    theirs = make_smoothing_spline(x, y, lam=s)
    assert worst(curvature_spline(x, y, flat, s)(inside(x)), theirs(inside(x))) <= 1e-10


def test_a_thousand_knots_smoothed():
    """SciPy is off by 7e-8 here: the banded system is solved with 40 digits instead."""
    rng = np.random.default_rng(7)
    x, s = np.linspace(0, 1, 1000), 0.1
    y = np.sin(9 * x) + 0.1 * rng.standard_normal(1000)
    ours = curvature_spline(x, y, flat, s)
    assert worst(ours(x), _smooth_in_digits(x, y, s)) <= 1e-12  # seen: 2e-15
    assert worst(make_smoothing_spline(x, y, lam=s)(x), ours(x)) > 1e-9


def _smooth_in_digits(x, y, s):
    """Reinsch's algorithm: (A + s Q^T Q) q = Q^T y by elimination without pivots."""
    with mp.workdps(40):
        X, Y = ([mp.mpf(float(v)) for v in values] for values in (x, y))
        gap, N, s = [b - a for a, b in pairwise(X)], len(X) - 2, mp.mpf(s)
        Q = [(1 / gap[j], -1 / gap[j] - 1 / gap[j + 1], 1 / gap[j + 1]) for j in range(N)]
        band = [[mp.mpf(0)] * 3 for _ in range(N + 2)]
        q = [mp.mpf(0)] * (N + 2)
        for j in range(N):
            band[j][0] = (gap[j] + gap[j + 1]) / 3 + s * sum(c * c for c in Q[j])
            if j + 1 < N:
                overlap = Q[j][1] * Q[j + 1][0] + Q[j][2] * Q[j + 1][1]
                band[j][1] = gap[j + 1] / 6 + s * overlap
            if j + 2 < N:
                band[j][2] = s * Q[j][2] * Q[j + 2][0]
            q[j] = sum(Q[j][i] * Y[j + i] for i in range(3))
        for j in range(N):
            for o in (1, 2):
                factor = band[j][o] / band[j][0]
                for p in range(o, 3):
                    band[j + o][p - o] -= factor * band[j][p]
                q[j + o] -= factor * q[j]
        for j in reversed(range(N)):
            q[j] = (q[j] - band[j][1] * q[j + 1] - band[j][2] * q[j + 2]) / band[j][0]
        for j in range(N):
            for i in range(3):
                Y[j + i] -= s * Q[j][i] * q[j]
        return np.array([float(v) for v in Y])


# ---- other densities


def tent(t):
    return 1 - abs(t) if abs(t) < 1 else 0 * t


TENT = Density(lambda t: torch.clamp(1 - t.abs(), min=0), kinks=(-1.0, 0.0, 1.0))
BOX = Density(lambda t: 2.0, support=(-0.45, 0.62))
GAUSS = {"sharp": 0.05, "plain": 1.0}


@pytest.mark.parametrize("k", [1, 2, 3])
@pytest.mark.parametrize("s", [0, 1e-2])
def test_kinks(k, s):
    x, y = np.array([-0.9, -0.35, -0.2, 0.1, 0.5, 0.85]), data(6, 3)[1]
    kernel = quadrature_kernel(k, tent, [float(x[0]), 0.0])
    at = np.concatenate([inside(x, 21), [-1.2, 1.4]])
    exact = reference(x, y, kernel, at, k, s, digits=30)
    for zeta in (TENT, lambda t: torch.clamp(1 - t.abs(), min=0)):  # kinks named, and not
        assert worst(curvature_spline(x, y, zeta, s, k)(at), exact) <= 1e-10  # seen: 3e-14


@pytest.mark.parametrize("s", [0, 1e-2])
def test_compact_support(s):
    """Data outside the support act too: h is straight there."""
    x, y = np.array([-0.8, -0.5, -0.3, 0.1, 0.5, 0.9]), data(6, 4)[1]
    kernel = quadrature_kernel(1, lambda t: mp.mpf(2) if t < 0.62 else mp.mpf(0), [-0.45, 0.62])
    at = np.concatenate([inside(x, 21), [-1.2, 1.4]])
    ours = curvature_spline(x, y, BOX, s)
    assert worst(ours(at), reference(x, y, kernel, at, 1, s, digits=30)) <= 1e-10
    straight = np.array([-2.0, -0.8, -0.6, -0.46, 0.63, 0.8, 3.0])
    assert ours.derivative(2)(straight).abs().max() == 0
    slopes = ours.derivative(1)(straight).numpy()
    np.testing.assert_allclose(slopes[:4], slopes[0], rtol=1e-13)
    np.testing.assert_allclose(slopes[4:], slopes[-1], rtol=1e-13)
    # The control: without the outer data it is another function.
    inner = curvature_spline(x[1:-1], y[1:-1], BOX, s)
    assert worst(inner(inside(x[1:-1])), ours(inside(x[1:-1]))) > 0.01


@pytest.mark.parametrize("width", [0.01, 0.05, 1.0])
def test_the_density_of_gaussian_initialisation(width):
    """M24 Theorem 6: zeta ~ 1 / (width^2 + x^2)^2; sharp ones gather the curvature near 0."""
    x, y = np.array([-0.9, -0.4, -0.2, 0.1, 0.3, 0.85]), data(6, 3)[1]
    c = mp.mpf(width) ** 2
    cuts = [float(x[0]), -0.1, -0.02, 0.0, 0.02, 0.1, 0.3]
    kernel = quadrature_kernel(1, lambda t: c / (c + t * t) ** 2, cuts)
    exact = reference(x, y, kernel, inside(x, 21), digits=30)
    ours = curvature_spline(x, y, lambda t: width**2 / (width**2 + t * t) ** 2)
    assert worst(ours(inside(x, 21)), exact) <= 1e-10


@pytest.mark.parametrize("k", [1, 2, 3])
@pytest.mark.parametrize("s", [0, 1e-3, 10.0])
def test_breakpoints(k, s):
    rng = np.random.default_rng(8)
    x, y = data(7, 9)
    c, w = rng.uniform(-1.3, 1.3, 60), rng.uniform(0, 1, 60) ** 2
    c[:2] = x[2], x[0]  # a bend at a knot, and one at the first
    at = np.concatenate([inside(x, 21), c[:5], [-1.2, 1.4]])
    exact = reference(x, y, atomic_kernel(k, c, w), at, k, s)
    # Bends left of the data make no difference; the reference sees those right of x_1 only.
    ours = curvature_spline(x, y, Breakpoints(c, w), s, k)
    assert worst(ours(at), exact) <= 1e-10  # seen: 6e-13


def test_breakpoints_are_the_least_weights_of_a_network():
    """Dense algebra in the output weights: least |v| with Phi v + line = y, on each unit's side."""
    rng = np.random.default_rng(4)
    n, x, y = 300, *data(9, 2)
    weight, bias = rng.standard_normal(n), rng.standard_normal(n)
    spline = curvature_spline(x, y, Breakpoints(-bias / weight, weight**2 / n))

    def features(t):
        return np.maximum(np.outer(t, weight) + bias, 0) / math.sqrt(n)

    line = np.stack([np.ones(9), x], axis=1)
    off = np.linalg.qr(line, mode="complete")[0][:, 2:].T
    v = np.linalg.pinv(off @ features(x)) @ off @ y
    coefficients = np.linalg.lstsq(line, y - features(x) @ v, rcond=None)[0]
    at = np.linspace(-1.5, 1.5, 101)
    network = features(at) @ v + coefficients[0] + coefficients[1] * at
    assert worst(spline(at), network) <= 1e-10
    assert spline.energy == pytest.approx(v @ v, rel=1e-10)


def test_many_breakpoints_approach_the_density():
    """Half the distance for four times the units, at quantiles: first order and better."""
    x, y = data(8, 1)
    limit = curvature_spline(x, y, lambda t: 1 + t)
    error = []
    for n in (1000, 4000, 16_000):
        c = -1 + 2 * (np.arange(n) + 0.5) / n
        finite = curvature_spline(x, y, Breakpoints(c, (1 + c) * 2 / n))
        error.append(worst(finite(inside(x)), limit(inside(x))))
    assert error[0] < 1e-2
    assert error[2] < error[1] / 2 < error[0] / 4


# ---- optimality, on a thousand random problems


def random_problem(rng):
    k = int(rng.choice([1, 1, 2, 3]))
    M = max(k + 1, int(np.exp(rng.uniform(np.log(3), np.log(200)))))
    kind = rng.choice(["constant", "gaussian", "steps", "breakpoints"])
    if kind == "constant":
        zeta = flat
    elif kind == "gaussian":
        width = 10 ** rng.uniform(-1.5, 1)
        zeta = lambda t: 1 / (width**2 + t * t) ** 2  # noqa: E731
    elif kind == "steps":
        a, b = rng.uniform(-1, 1, 2)
        kinks = (a, b) if rng.random() < 0.5 else ()
        zeta = Density(lambda t: 0.1 + 1.0 * (t > a) + 3.0 * (t > b), kinks)
    else:
        n = int(10 ** rng.uniform(1, 4.5))
        zeta = Breakpoints(rng.uniform(-1.2, 1.2, n), rng.uniform(0, 1, n) ** 2 / n)
    smoothing = 0.0 if rng.random() < 0.5 else float(10 ** rng.uniform(-12, 6))
    return rng.uniform(-1, 1, M), rng.standard_normal(M), zeta, smoothing, k


def conditions(spline, x, y, smoothing, k):
    """Violations of what characterises the minimiser, relative, from the function alone."""
    order = np.argsort(x)
    x, y = x[order], y[order]
    h = spline(x).numpy()
    polynomial = np.polynomial.legendre.Legendre.fit(x, y, k)
    between = (x[1:] + x[:-1]) / 2
    scale = max(np.abs(y - polynomial(x)).max(), np.abs(spline(between).numpy()).max())
    found = [np.abs(h - spline.values.numpy()).max() / scale]
    if smoothing == 0:
        return max(found[0], np.abs(h - y).max() / scale)
    # Misfits are orthogonal to polynomials, and price every bend: s q(t) = sum e_i (x_i-t)_+^k/k!
    e, reach = y - h, x[-1] - x[0]
    u = (x - x[0]) / reach
    found += [abs(e @ u**power) / np.abs(y - polynomial(x)).sum() for power in range(k + 1)]
    t = np.random.default_rng(0).uniform(x[0], x[-1], 20)
    price = smoothing * spline.q(t).numpy() * math.factorial(k) / reach**k
    gain = (np.maximum(x - t[:, None], 0) / reach) ** k @ e
    found.append(np.abs(price - gain).max() / max(scale, np.abs(y - polynomial(x)).sum()))
    return max(found)


def test_optimality_conditions():
    rng, worst_residual, worst_condition = np.random.default_rng(7), 0.0, 0.0
    infeasible, too_close = 0, 0
    for _ in range(1000):
        x, y, zeta, smoothing, k = random_problem(rng)
        try:
            spline = curvature_spline(x, y, zeta, smoothing, k)
        except TooFewBreakpoints as error:
            assert smoothing == 0
            assert isinstance(zeta, Breakpoints)
            if "float64" in str(error):
                assert k > 1
                too_close += 1
                continue
            infeasible += 1
            a, b = error.gap
            c = zeta.positions
            assert int(((c > a) & (c < b)).sum()) < int(((x >= a) & (x <= b)).sum()) - k - 1
            continue
        worst_residual = max(worst_residual, spline.residual)
        if x.size > k + 1:
            worst_condition = max(worst_condition, conditions(spline, x, y, smoothing, k))
    print(
        f"worst residual {worst_residual:.1e}, worst condition {worst_condition:.1e}, "
        f"{infeasible=}, {too_close=}"
    )
    assert worst_residual <= 1e-9  # seen: 2e-12
    assert worst_condition <= 1e-9  # seen: 2e-12
    assert 0 < infeasible < 100
    assert too_close <= 2


@pytest.mark.parametrize("k", [1, 2, 3])
def test_highest_derivative_is_zeta_times_q(k):
    """By differences of h itself, in the middle of gaps."""
    x, y = data(9, 6)
    spline = curvature_spline(x, y, TENT, 1e-3, k)
    points, step = (x[1:] + x[:-1]) / 2, 1e-4
    for order in range(k + 1):
        f = spline.derivative(order)
        slope = (f(points + step) - f(points - step)) / (2 * step)
        exact = spline.derivative(order + 1)(points)
        assert worst(slope, exact) <= 1e-4
    expected = TENT(points) * spline.q(points)
    torch.testing.assert_close(spline.derivative(k + 1)(points), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("s", [0.0, 0.01])
@pytest.mark.parametrize("k", [1, 2, 3])
def test_nothing_nearby_is_better(k, s):
    """Every other function of the same form, here on finer knots, has a larger objective."""
    rng = np.random.default_rng(1)
    x, y = data(7, 3)
    zeta = Density(lambda t: 1 / (0.3 + t * t))
    spline = curvature_spline(x, y, zeta, s, k)
    # A rough quadrature of the objective, the same for all.
    t = np.linspace(x[0], x[-1], 20_001)
    t = (t[1:] + t[:-1]) / 2
    bend, price = spline.derivative(k + 1)(t).numpy(), 1 / zeta(t).numpy()
    width = (x[-1] - x[0]) / 20_000

    def objective(top, at_knots):
        energy = float((top**2 * price).sum() * width)
        return float(((at_knots - y) ** 2).sum()) + (s * energy if s else energy)

    best = objective(bend, spline(x).numpy())
    assert best == pytest.approx(spline.objective, rel=1e-6)
    for _ in range(20):
        # A smooth bump with zeros at the knots keeps the interpolation.
        a, b = rng.uniform(2, 12), rng.uniform(0, 6)
        roots = np.polynomial.Polynomial.fromroots(x)
        wave = np.polynomial.Chebyshev.interpolate(lambda u, a=a, b=b: np.sin(a * u + b), 20)
        change = roots * wave.convert(kind=np.polynomial.Polynomial)
        if s:
            change = change + np.polynomial.Polynomial(rng.standard_normal(3))
        for size in (1e-3, 1e-1):
            other = objective(
                bend + size * change.deriv(k + 1)(t), spline(x).numpy() + size * change(x)
            )
            assert other > best


@pytest.mark.parametrize("s", [0.0, 0.02])
@pytest.mark.parametrize("k", [1, 3])
def test_multipliers_are_derivatives_of_the_least_objective(k, s):
    x, y = data(8, 5)
    spline = curvature_spline(x, y, TENT if k == 1 else flat, s, k)
    scale = s or 1.0  # d objective / d y_i = 2 s multiplier_i with smoothing
    for i in (0, 3, 7):
        up, down = (
            curvature_spline(x, y + step * (np.arange(8) == i), TENT if k == 1 else flat, s, k)
            for step in (1e-5, -1e-5)
        )
        slope = (up.objective - down.objective) / 2e-5
        assert slope == pytest.approx(2 * scale * float(spline.multipliers[i]), rel=1e-5, abs=1e-7)


# ---- what does not change the answer


@pytest.mark.parametrize("k", [1, 2, 3])
@pytest.mark.parametrize("s", [0.0, 0.01])
def test_equivariance(k, s):
    x, y = data(12, 3)
    at = np.linspace(-1.4, 1.4, 57)
    base = curvature_spline(x, y, TENT if s else flat, s, k)
    zeta = TENT if s else flat
    shuffled = np.random.default_rng(0).permutation(12)
    np.testing.assert_array_equal(
        curvature_spline(x[shuffled], y[shuffled], zeta, s, k)(at), base(at)
    )
    # y scaled; a polynomial added.
    assert worst(curvature_spline(x, -7 * y, zeta, s, k)(at), -7 * base(at)) <= 1e-13
    p = np.polynomial.Polynomial([3.0, -2.0, 0.7, 5.0][: k + 1])
    lifted = curvature_spline(x, y + p(x), zeta, s, k)
    assert worst(lifted(at).numpy() - p(at), base(at)) <= 1e-11
    assert lifted.energy == pytest.approx(base.energy, rel=1e-9)
    # x mirrored, moved, scaled; zeta multiplied.
    mirrored = curvature_spline(-x, y, zeta, s, k)
    assert worst(mirrored(-at), base(at)) <= 1e-11
    if not s:
        moved = curvature_spline(5 + 100 * x, y, flat, degree=k)
        assert worst(moved(5 + 100 * at), base(at)) <= 1e-10
        assert moved.energy == pytest.approx(base.energy / 100 ** (2 * k + 1), rel=1e-9)
    dearer = curvature_spline(x, y, lambda t: 4 * Density(zeta)(t), 4 * s, k)
    assert worst(dearer(at), base(at)) <= 1e-11
    assert dearer.energy == pytest.approx(base.energy / 4, rel=1e-9)


@pytest.mark.parametrize("k", [1, 2, 3])
def test_smoothing_from_nothing_to_everything(k):
    x, y = data(15, 2)
    at = inside(x)
    interpolant, smooth = curvature_spline(x, y, flat, degree=k), []
    assert worst(curvature_spline(x, y, flat, 1e-90, k)(at), interpolant(at)) <= 1e-9
    polynomial = np.polynomial.Polynomial.fit(x, y, k)
    assert worst(curvature_spline(x, y, flat, 1e90, k)(at), polynomial(at)) <= 1e-12
    for s in 10.0 ** np.arange(-10, 10):
        spline = curvature_spline(x, y, flat, s, k)
        smooth.append((float(((spline(x).numpy() - y) ** 2).sum()), spline.energy))
        assert spline.status == "smooths"
    misfit, energy = np.array(smooth).T
    assert (np.diff(misfit) > 0).all()
    assert (np.diff(energy) < 0).all()
    assert interpolant.status == "interpolates"
    assert interpolant.energy > energy[0]


@pytest.mark.parametrize("k", [1, 2, 3])
@pytest.mark.parametrize("s", [0.0, 1.0])
def test_polynomials_cost_nothing(k, s):
    x = data(9, 4)[0]
    p = np.polynomial.Polynomial([1.0, -2.0, 0.5, 3.0][: k + 1])
    for M in (k + 1, 9):
        spline = curvature_spline(x[:M], p(x[:M]), flat, s, k)
        at = np.linspace(-2, 2, 9)
        np.testing.assert_allclose(spline(at), p(at), rtol=1e-9, atol=1e-9)
        assert spline.energy <= 1e-15
        assert spline.residual <= 1e-9
        assert spline.dual.shape == (M - k - 1,)


def test_zero_data():
    spline = curvature_spline([0.0, 1.0, 3.0, 4.0], [0.0] * 4, flat)
    assert spline([0.3, 9.0]).tolist() == [0.0, 0.0]
    assert (spline.energy, spline.residual) == (0.0, 0.0)


def test_inputs_and_outputs():
    class Initialisation:
        kinks, support = (0.5,), (-1.0, 1.0)

        def zeta(self, x):
            return 1.0 + (x > 0.5)

    x, y = [0.0, 0.4, 0.7, 0.9], [1.0, 2.0, 0.0, 1.0]
    spline = curvature_spline(np.float32(x), torch.tensor(y), Initialisation())
    again = curvature_spline(
        np.float32(x), y, Density(lambda t: 1.0 + (t > 0.5), (0.5,), (-1.0, 1.0))
    )
    points = torch.tensor([[0.1, 0.2], [0.8, 1.5]])
    torch.testing.assert_close(spline(points), again(points))
    assert spline(points).shape == (2, 2)
    assert spline(points).dtype == torch.float64
    assert spline(0.4).shape == ()
    assert spline([]).shape == (0,)
    assert isinstance(spline.energy, float)
    assert isinstance(spline.residual, float)
    assert spline.q([-1.0, 0.0, 0.9, 2.0]).tolist() == [0.0] * 4
    torch.testing.assert_close(spline.q(spline.knots[1:-1]), spline.dual)
    assert float(spline.multipliers.sum()) == pytest.approx(0, abs=1e-12)


# ---- what cannot be done


def test_too_few_breakpoints():
    """Data in four points of which three lie where nothing bends."""
    x = np.array([0.0, 1.0, 2.0, 3.0, 4.0])
    with pytest.raises(TooFewBreakpoints, match=r"Between x = 0 and x = 2 .* \(1 needed, 0 fo"):
        curvature_spline(x, x**2, Density(flat, support=(2.0, 9.0)))
    # Two outside are fine, and so are three in a line.
    assert curvature_spline(x, x**2, Density(flat, support=(1.0, 9.0))).residual <= 1e-12
    spline = curvature_spline(x, [1.0, 2.0, 3.0, 0.0, 7.0], Density(flat, support=(2.0, 9.0)))
    assert spline.residual <= 1e-12
    assert float(spline(-1.0)) == pytest.approx(0.0, abs=1e-12)
    assert float(spline.dual[0]) == 0
    # With smoothing there is always an answer.
    assert curvature_spline(x, x**2, Density(flat, support=(2.0, 9.0)), 0.1).residual <= 1e-12
    line = curvature_spline(x, x**2, Density(lambda t: 0.0), 0.1)
    np.testing.assert_allclose(line(x), np.polynomial.Polynomial.fit(x, x**2, 1)(x), rtol=1e-12)


def test_counting_breakpoints():
    x, y = np.arange(6.0), np.array([0.0, 1.0, 0.0, 1.0, 0.0, 1.0])
    enough = Breakpoints([0.5, 1.5, 2.5, 3.5], np.ones(4))
    assert curvature_spline(x, y, enough).residual <= 1e-13
    # As many, but two of them where one is needed.
    crowded = Breakpoints([0.3, 0.5, 0.7, 4.5], np.ones(4))
    with pytest.raises(TooFewBreakpoints, match=r"1 needed, 0 found") as caught:
        curvature_spline(x, y, crowded)
    assert caught.value.gap == (1.0, 3.0)
    # A run of three gaps with one bend, two needed; weight zero is no bend.
    run = Breakpoints([0.5, 2.5, 2.6, 4.5, 4.6], [1.0, 1.0, 0.0, 1.0, 1.0])
    with pytest.raises(TooFewBreakpoints, match=r"2 needed, 1 found") as caught:
        curvature_spline(x, y, run)
    assert caught.value.gap == (1.0, 4.0)
    # Copies of one bend are one.
    with pytest.raises(TooFewBreakpoints, match=r"found"):
        curvature_spline(x, y, Breakpoints([1.5, 1.5, 1.5, 3.5], np.ones(4)))
    # A bend at a knot is none for the B-splines that begin or end there.
    with pytest.raises(TooFewBreakpoints, match=r"1 needed, 0 found") as caught:
        curvature_spline(x[:4], y[:4], Breakpoints([0.5, 1.0], np.ones(2)))
    assert caught.value.gap == (1.0, 3.0)
    assert curvature_spline(x[:4], y[:4], Breakpoints([1.0, 2.0], np.ones(2))).residual <= 1e-13
    almost = Breakpoints([1.5, np.nextafter(1.5, 2), 3.4, 3.5], np.ones(4))
    with pytest.raises(TooFewBreakpoints, match=r"float64 cannot tell how"):
        curvature_spline(x, y, almost)


@pytest.mark.parametrize("k", [1, 2, 3])
def test_no_breakpoints_at_all(k):
    """Then h is the least-squares polynomial; it interpolates data that are one."""
    x, y = data(7, 3)
    for zeta in (Breakpoints([], []), Breakpoints([5.0], [1.0]), Density(lambda t: 0.0)):
        spline = curvature_spline(x, y, zeta, 0.1, k)
        np.testing.assert_allclose(spline(x), np.polynomial.Polynomial.fit(x, y, k)(x), rtol=1e-11)
        assert (spline.energy, spline.residual <= 1e-12) == (0.0, True)
        with pytest.raises(TooFewBreakpoints, match=r"1 needed, 0 found"):
            curvature_spline(x, y, zeta, 0.0, k)
        assert curvature_spline(x, 1 + x, zeta, 0.0, k).energy == 0


@pytest.mark.parametrize("seed", range(60))
def test_feasible_or_not_is_a_matter_of_rank(seed):
    """Against the rank of the matrix of truncated powers, a few random units at a time."""
    rng = np.random.default_rng(seed)
    k, M = int(rng.integers(1, 4)), int(rng.integers(5, 9))
    x, y = np.sort(rng.uniform(0, 1, M)), rng.standard_normal(M)
    c = rng.uniform(0, 1, int(rng.integers(M - k - 1, M + 3)))
    powers = np.concatenate([x[:, None] ** np.arange(k + 1), np.maximum(x[:, None] - c, 0) ** k], 1)
    left, singular, _ = np.linalg.svd(powers)
    rank = int((singular > 1e-9 * singular[0]).sum())
    # y in the range of the matrix, or not.
    for values, fits in ((y, rank == M), (left[:, :rank] @ left[:, :rank].T @ y, True)):
        if fits:
            assert (
                curvature_spline(x, values, Breakpoints(c, np.ones(c.size)), 0.0, k).residual
                <= 1e-6
            )
        else:
            with pytest.raises(TooFewBreakpoints):
                curvature_spline(x, values, Breakpoints(c, np.ones(c.size)), 0.0, k)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (([0.0, 1.0, 1.0], [0.0, 1.0, 2.0], flat), ValueError, r"x\[1\] and x\[2\].*average them"),
        (([0.0, 1.0, 1.0], [0.0, 1.0, 1.0], flat), ValueError, r"equal values: drop one"),
        (([0.0], [0.0], flat), ValueError, r"1 data points do not determine.*Pass 2 or more"),
        (([0.0, 1.0, 2.0], [0.0] * 3, flat, 0.0, 3), ValueError, r"degree 3.*Pass 4 or more"),
        (([[0.0, 1.0]], [[0.0, 1.0]], flat), ValueError, r"vectors of one length.*one by one"),
        (([0.0, 1.0], [0.0], flat), ValueError, r"vectors of one length"),
        (([0.0, math.nan], [0.0, 1.0], flat), ValueError, r"x has a NaN"),
        (([0.0, 1.0], [0.0, math.inf], flat), ValueError, r"y has a NaN or inf"),
        (([0.0, 1.0j], [0.0, 1.0], flat), TypeError, r"x is complex"),
        (([0.0, 1e30], [0.0, 1.0], flat), ValueError, r"leave the range.*Rescale"),
        (([0.0, 1.0], [0.0, 1e30], flat), ValueError, r"leave the range.*Rescale"),
        (([0.0, 1.0], [0.0, 1.0], 3.0), TypeError, r"zeta is a float.*lambda x: 1.0"),
        (([0.0, 1.0], [0.0, 1.0], flat, -1.0), ValueError, r"smoothing = -1.0.*price of energy"),
        (([0.0, 1.0], [0.0, 1.0], flat, math.inf), ValueError, r"smoothing = inf.*polynomial"),
        (([0.0, 1.0], [0.0, 1.0], flat, math.nan), ValueError, r"smoothing = nan"),
        (([0.0, 1.0], [0.0, 1.0], flat, 0.0, 4), ValueError, r"degree = 4.*Pass 1, 2 or 3"),
        (([0.0, 1.0], [0.0, 1.0], flat, 0.0, 0), ValueError, r"degree = 0 is too small"),
        (([0.0, 1.0], [0.0, 1.0], flat, 0.0, 1.5), TypeError, r"degree = 1.5 is not an integer"),
        (([0.0, 1.0], [0.0, 1.0], lambda t: -1.0), ValueError, r"zeta is negative at x = "),
        (([0.0, 1.0], [0.0, 1.0], lambda t: t / 0), ValueError, r"zeta\(x\) has a NaN or inf"),
        (([0.0, 1.0], [0.0, 1.0], lambda t: t[:2]), ValueError, r"each point to one number"),
    ],
)
def test_refuses(arguments, error, message):
    with pytest.raises(error, match=message):
        curvature_spline(*arguments)


def test_refuses_points_and_orders():
    spline = curvature_spline([0.0, 1.0, 2.0], [0.0, 1.0, 0.0], flat)
    with pytest.raises(ValueError, match=r"points has a NaN"):
        spline([math.nan])
    with pytest.raises(ValueError, match=r"order = 3.*orders 0 to 2|order = 3.*order 0 to 2"):
        spline.derivative(3)
    with pytest.raises(ValueError, match=r"order = -1 is too small"):
        spline.derivative(-1)
    finite = curvature_spline([0.0, 1.0, 2.0], [0.0, 1.0, 0.0], Breakpoints([0.5], [1.0]))
    assert finite.derivative(1)([0.4, 0.5, 0.6]).tolist() == pytest.approx([3.0, -1.0, -1.0])
    with pytest.raises(ValueError, match=r"sum of point masses.*Ask for an order up to 1"):
        finite.derivative(2)


@pytest.mark.parametrize(
    "device",
    [
        "cpu",
        pytest.param(
            "cuda",
            marks=[
                pytest.mark.gpu,
                pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA"),
            ],
        ),
    ],
)
@pytest.mark.parametrize("s", [0.0, 0.1])
def test_devices(device, s):
    x, y = (torch.from_numpy(v).to(device) for v in data(9, 3))
    measure = Breakpoints(torch.linspace(-1, 1, 100, device=device), torch.ones(100, device=device))
    for zeta in (measure, TENT):
        spline = curvature_spline(x, y, zeta, s)
        there = (spline.knots, spline.values, spline.dual, spline.multipliers, spline(x))
        assert all(part.device.type == device for part in (*there, spline.q(x)))
        here = curvature_spline(x.cpu(), y.cpu(), zeta, s)
        torch.testing.assert_close(spline(x).cpu(), here(x.cpu()), rtol=1e-13, atol=1e-13)
        # Data and points need not share a device.
        assert spline(x.cpu()).device.type == "cpu"
    assert linear_spline(x, y)(x).device.type == device


# ---- the other norm


@pytest.mark.parametrize("seed", range(20))
def test_linear_spline(seed):
    """M24, weight decay: the dual proves that no interpolant has less total variation of slope."""
    rng = np.random.default_rng(seed)
    x, y = rng.uniform(-1, 1, 12), rng.standard_normal(12)
    y[3] = y[4]
    spline = linear_spline(x, y)
    order = np.argsort(x)
    at = np.linspace(x.min(), x.max(), 301)
    np.testing.assert_allclose(spline(at), np.interp(at, x[order], y[order]), atol=1e-12)
    slopes = np.diff(y[order]) / np.diff(x[order])
    variation = np.abs(np.diff(slopes)).sum()
    assert spline.energy == pytest.approx(variation, rel=1e-12)
    # The certificate: |q| <= 1, zero outside, and int q g'' is fixed by the data alone.
    q = spline.q(np.linspace(-1.5, 1.5, 1001))
    assert float(q.abs().max()) <= 1 + 1e-12
    assert spline.dual.numpy() @ np.diff(slopes) == pytest.approx(variation, rel=1e-12)
    # The cubic spline has more of it: int |h''|, h'' piecewise linear.
    t = np.linspace(x.min(), x.max(), 100_001)
    cubic = curvature_spline(x, y, flat).derivative(2)(t).abs().mean() * (x.max() - x.min())
    assert float(cubic) > variation


def test_a_line_has_no_bends():
    spline = linear_spline([0.0, 1.0, 2.0], [0.0, 1.0, 2.0])
    assert (spline.energy, spline.dual.tolist()) == (0.0, [0.0])
    assert spline([-1.0, 5.0]).tolist() == pytest.approx([-1.0, 5.0])


def test_not_unique():
    """Between bends of one sign the cubic spline of convex data does as well as the line."""
    x = np.linspace(0, 1, 5)
    straight = linear_spline(x, x**2)
    t = np.linspace(0, 1, 100_001)
    curved = float((2 * np.ones_like(t)).mean())  # g = x^2 interpolates too, with g'' = 2
    assert straight.energy < curved
    assert straight.energy == pytest.approx(1.5)


def test_the_residual_sees_a_wrong_answer():
    """The control of all the above: spoil the solution, and look."""
    x, y = data(10, 1)
    system = spline_system(x, flat)
    fitted, q = system.solve(y)
    good = spline_module._spline(system.curve(fitted, q), y, 0.0, torch.device("cpu"))
    bad = spline_module._spline(system.curve(fitted, q * 1.001), y, 0.0, torch.device("cpu"))
    assert good.residual < 1e-14
    assert bad.residual > 1e-6
    fitted, q = system.solve(y, 0.1)
    good = spline_module._spline(system.curve(fitted, q), y, 0.1, torch.device("cpu"))
    bad = spline_module._spline(system.curve(fitted, q), y, 0.2, torch.device("cpu"))
    assert good.residual < 1e-14
    assert bad.residual > 1e-3
