"""The algebra under the splines: B-splines, differences, measures, modes, against dense algebra."""

import math

import numpy as np
import pytest
import scipy.linalg
import torch
from implicit_bias.knots import TooFewBreakpoints, sort_data
from implicit_bias.measures import Breakpoints, Density, as_measure
from implicit_bias.spline_system import spline_system
from scipy.interpolate import BSpline

KS = pytest.mark.parametrize("k", [1, 2, 3])


def random_knots(M, seed):
    return np.sort(np.random.default_rng(seed).uniform(-1, 1, M))


def elements(x, k):
    """SciPy's B-splines on k+2 neighbouring knots."""
    return [
        BSpline.basis_element(x[j : j + k + 2], extrapolate=False) for j in range(len(x) - k - 1)
    ]


def values(x, k, t):
    return np.stack([np.nan_to_num(N(t)) for N in elements(x, k)], axis=1)


# ---- the system


@KS
@pytest.mark.parametrize("M", [5, 6, 20])
def test_q_is_a_combination_of_b_splines(k, M):
    x = random_knots(M, M)
    system = spline_system(x, lambda t: 1.0, k)
    q = np.random.default_rng(0).standard_normal(system.size)
    t = np.linspace(-1.2, 1.2, 501)
    np.testing.assert_allclose(system.q_at(q, t), values(x, k, t) @ q, atol=1e-13)
    assert np.abs(system.q_at(q, np.array([x[0], x[-1], -9.0, 9.0]))).max() <= 1e-15


@KS
def test_gram_matrix_of_a_density(k):
    """Against Gauss quadrature of SciPy's B-splines, gap by gap."""
    x = random_knots(9, 3)
    system = spline_system(x, lambda t: torch.exp(t), k)
    u, w = np.polynomial.legendre.leggauss(40)
    t = (x[:-1, None] + np.diff(x)[:, None] * (u + 1) / 2).ravel()
    m = (np.diff(x)[:, None] * w / 2).ravel() * np.exp(t)
    N = values(x, k, t)
    A, _ = system.dense()
    np.testing.assert_allclose(A, N.T @ (m[:, None] * N), rtol=1e-12, atol=1e-16)
    q = np.random.default_rng(0).standard_normal(system.size)
    np.testing.assert_allclose(system.apply(q), A @ q, rtol=1e-13, atol=1e-16)
    assert system.energy(q) == pytest.approx(q @ A @ q, rel=1e-13)


@KS
def test_gram_matrix_of_breakpoints(k):
    x, rng = random_knots(9, 3), np.random.default_rng(1)
    c, m = rng.uniform(-1.5, 1.5, 200), rng.uniform(0, 1, 200)
    c[:3] = x[4], x[0], x[-1]
    N = values(x, k, c)
    A, _ = spline_system(x, Breakpoints(c, m), k).dense()
    np.testing.assert_allclose(A, N.T @ (m[:, None] * N), rtol=1e-12, atol=1e-15)


@KS
def test_differences_are_integrals_against_b_splines(k):
    """Peano: (Q^T h)_j = int N_j h^(k+1), for a function whose derivative is known."""
    x = random_knots(10, 5)
    system = spline_system(x, lambda t: 1.0, k)
    derivative = {1: lambda t: -9 * np.sin(3 * t), 2: lambda t: -27 * np.cos(3 * t)}
    derivative[3] = lambda t: 81 * np.sin(3 * t)
    u, w = np.polynomial.legendre.leggauss(30)
    t = (x[:-1, None] + np.diff(x)[:, None] * (u + 1) / 2).ravel()
    m = (np.diff(x)[:, None] * w / 2).ravel()
    expected = values(x, k, t).T @ (m * derivative[k](t))
    np.testing.assert_allclose(system.differences(np.sin(3 * x)), expected, atol=1e-9)
    # Polynomials of degree k have none.
    assert np.abs(system.differences(system._legendre(x)[:, k])).max() <= 1e-9


@KS
def test_adjoint(k):
    rng, x = np.random.default_rng(2), random_knots(10, 6)
    system = spline_system(x, lambda t: 1.0, k)
    _, Q = system.dense()
    h, q = rng.standard_normal(10), rng.standard_normal(system.size)
    scale = np.abs(Q).max()
    np.testing.assert_allclose(system.adjoint(q), Q @ q, atol=1e-14 * scale)
    np.testing.assert_allclose(system.differences(h), Q.T @ h, atol=1e-13 * scale)


def test_hat_functions():
    """k = 1 by hand: A has h/3 and h/6, differences are those of slopes."""
    system = spline_system([0.0, 1.0, 3.0, 4.0], lambda t: 6.0)
    np.testing.assert_allclose(system.dense()[0], [[6.0, 2.0], [2.0, 6.0]], rtol=1e-14)
    assert system.differences(np.array([0.0, 1.0, 1.0, 3.0])).tolist() == [-1.0, 2.0]


@KS
def test_smoothing_solves_its_equations(k):
    """Against dense normal equations, where these are accurate: few and even knots."""
    x, y = np.linspace(-1, 1, 9), np.random.default_rng(1).standard_normal(9)
    system = spline_system(x, lambda t: 1 + t * t, k)
    A, Q = system.dense()
    for s in (1e-4, 1.0, 100.0):
        fitted, q = system.solve(y, s)
        dense = np.linalg.solve(A + s * Q.T @ Q, Q.T @ y)
        np.testing.assert_allclose(q, dense, rtol=1e-8)
        np.testing.assert_allclose(fitted, y - s * Q @ dense, rtol=1e-8)


# ---- the flow


@KS
@pytest.mark.parametrize("starved", [False, True])
def test_modes_are_those_of_the_flow(k, starved):
    """e' = -P K P e with the kernel of many units, P off the polynomials: by matrix exponential."""
    rng, M = np.random.default_rng(k), 7
    x, y = np.linspace(-1, 1, M) + rng.uniform(-0.05, 0.05, M), rng.standard_normal(M)
    n = M - k - 2 if starved else 200
    c, m = rng.uniform(-1, 1, n), rng.uniform(0.5, 1, n)
    features = np.maximum(x[:, None] - c, 0) ** k * np.sqrt(m) / math.factorial(k)
    P = scipy.linalg.null_space((x[:, None] ** np.arange(k + 1)).T)
    P = P @ P.T
    K = P @ features @ features.T @ P
    system = spline_system(x, Breakpoints(c, m), k)
    U, rates, W = system.modes()
    assert (rates >= 0).all()
    rank = np.linalg.matrix_rank(K, rtol=1e-10)
    assert int((rates == 0).sum()) == system.size - rank
    assert (rank < system.size) == starved
    np.testing.assert_allclose(U.T @ U, np.eye(system.size), atol=1e-13)
    np.testing.assert_allclose(U @ np.diag(rates) @ U.T, K, atol=1e-11 * np.abs(K).max())
    coefficients = U.T @ y
    for tau in (0.0, 0.3, 20.0, 1e4):
        left = U @ (np.exp(-rates * tau) * coefficients)
        expected = scipy.linalg.expm(-tau * K) @ P @ y
        np.testing.assert_allclose(left, expected, atol=1e-9)
        # The misfit's integral over time makes q: its curve has those values.
        some = np.where(rates > 0, rates, 1.0)
        gained = np.where(rates > 0, -np.expm1(-rates * tau) / some, tau)
        curve = system.curve(y - left, W @ (gained * coefficients))
        assert curve.jump() <= 1e-9
        v = features.T @ (U @ (gained * coefficients))  # the output weights
        t = np.linspace(-1.3, 1.3, 50)
        free = curve(t) - np.maximum(t[:, None] - c, 0) ** k * np.sqrt(m) / math.factorial(k) @ v
        assert np.abs(free - np.polynomial.Polynomial.fit(t, free, k)(t)).max() <= 1e-9


@KS
@pytest.mark.parametrize("M", [10, 60])
def test_modes_smooth_and_interpolate(k, M):
    """Filters lambda tau / (1 + lambda tau) are smoothing splines; 1 is the interpolant."""
    x, y = random_knots(M, M), np.random.default_rng(1).standard_normal(M)
    system = spline_system(x, lambda t: 1.0, k)
    U, rates, W = system.modes()
    c, scale = U.T @ y, np.abs(y).max()
    for tau in 10.0 ** np.arange(-3, 9, 2):
        fitted, q = system.solve(y, 1 / tau)
        # Seen: 9e-11 with k = 3; 9e-9 at M = 200, where 1/rates spans sixteen powers of ten.
        np.testing.assert_allclose(y - U @ (c / (1 + rates * tau)), fitted, atol=1e-8 * scale)
        other = W @ (c * tau / (1 + rates * tau))
        at = np.linspace(x[0], x[-1], 50)
        gap = system.curve(fitted, q)(at) - system.curve(fitted, other)(at)
        assert np.abs(gap).max() <= 1e-7 * np.abs(system.curve(fitted, q)(at)).max()
    np.testing.assert_allclose(W @ (c / rates), system.solve(y)[1], rtol=1e-8, atol=1e-8)


# ---- curves


@KS
def test_curve_of_breakpoints_is_a_sum_of_powers(k):
    """h minus sum m q(c) (x-c)_+^k / k! is one polynomial, on and off the data."""
    rng, x = np.random.default_rng(0), random_knots(8, 2)
    c, m = rng.uniform(-1, 1, 5000), rng.uniform(0, 1, 5000)
    system = spline_system(x, Breakpoints(c, m), k)
    fitted, q = system.solve(rng.standard_normal(8))
    curve, t = system.curve(fitted, q), np.linspace(-1.5, 1.5, 300)
    mass = m * (values(x, k, c) @ q)
    for order in range(k + 1):
        power = k - order
        kernel = np.maximum(t[:, None] - c, 0) ** power if power else (t[:, None] >= c) * 1.0
        rest = curve(t, order) - kernel @ mass / math.factorial(power)
        fit = np.polynomial.Polynomial.fit(t, rest, power)
        np.testing.assert_allclose(rest, fit(t), atol=1e-10 * np.abs(rest).max())


@KS
def test_curve_does_not_mind_the_order_or_shape_of_points(k):
    x = random_knots(8, 2)
    system = spline_system(x, Density(lambda t: 1.0 * (t > 0.1), (0.1,), None), k)
    fitted, q = system.solve(np.arange(8.0) % 3, 0.1)
    curve = system.curve(fitted, q)
    t = np.random.default_rng(0).uniform(-2, 2, (41, 1000))  # more than one chunk
    whole = curve(t)
    np.testing.assert_array_equal(whole.ravel()[::-1], curve(t.ravel()[::-1]))
    single = [float(curve(np.array(v))) for v in t[:5, 0]]
    np.testing.assert_array_equal(whole[:5, 0], single)


def test_close_knots():
    """A pair of knots 1e-9 apart, values to match: the pair costs nothing elsewhere."""
    x = np.array([-1.0, -0.5, 0.0, 1e-9, 0.5, 1.0])
    system = spline_system(x, lambda t: 1.0)
    fitted, q = system.solve(np.cos(x))
    curve = system.curve(fitted, q)
    single = spline_system(np.delete(x, 3), lambda t: 1.0)
    other = single.curve(*single.solve(np.cos(np.delete(x, 3))))
    # The slope at 0 is now prescribed, to 1e-7 by rounding: 0, as it is by symmetry.
    t = np.linspace(-1, 1, 101)
    assert np.abs(curve(t) - other(t)).max() <= 1e-6
    assert curve.jump() <= 1e-12


@pytest.mark.parametrize("k", [2, 3])
@pytest.mark.parametrize("apart", [1e-3, 1e-5, 1e-7])
def test_pairs_of_knots_do_not_spread_rounding(k, apart):
    """A gap beside a tight pair takes its derivatives from other knots. Seen: 2e-15."""
    even = np.linspace(-1, 1, 9)
    x = np.sort(np.concatenate([even, even[3:6] + apart]))
    system = spline_system(x, lambda t: 1.0, k)
    curve = system.curve(*system.solve(np.cos(3 * x), 1e-6))
    assert curve.jump() <= 2e-14 * curve.size()


# ---- measures


def test_breakpoints_are_sorted_once_and_are_a_copy():
    c = np.array([3.0, 1.0, 2.0])
    measure = Breakpoints(c, [30.0, 10.0, 20.0])
    c[:] = 0
    assert measure.positions.tolist() == [1.0, 2.0, 3.0]
    assert measure.weights.tolist() == [10.0, 20.0, 30.0]
    assert as_measure(measure) is measure


@pytest.mark.parametrize(
    "zeta",
    [
        lambda t: 1 / (1 + t * t),
        lambda t: 1 / (1 + np.asarray(t) ** 2),
        lambda t: np.exp(-np.log1p(t**2)),
        lambda t: torch.exp(-torch.log1p(t**2)),
    ],
)
def test_densities_in_numpy_and_torch(zeta):
    system = spline_system([0.0, 1.0, 2.0], zeta)
    first = 1 - math.pi / 4  # int_0^1 t^2 / (1 + t^2)
    t = np.linspace(1, 2, 200_001)
    second = np.trapezoid((2 - t) ** 2 / (1 + t * t), t)
    assert system.banded[1, 0] == pytest.approx(first + second, rel=1e-9)


@KS
@pytest.mark.parametrize("named", [True, False])
def test_kinks_are_found_if_not_named(k, named):
    """A step, a corner and a support that ends, at no knot: moments by hand."""
    x = np.array([0.0, 1.0, 2.0, 3.0, 4.0, 5.0])
    step = lambda t: 1.0 * (t >= 0.3) * (t < 2.7)  # noqa: E731
    A, _ = spline_system(x, Density(step, (0.3, 2.7) if named else ()), k).dense()
    B, _ = spline_system(x, Density(lambda t: 1.0, support=(0.3, 2.7)), k).dense()
    u, w = np.polynomial.legendre.leggauss(10)
    cuts = np.array([0.3, 1.0, 2.0, 2.7])
    t = (cuts[:-1, None] + np.diff(cuts)[:, None] * (u + 1) / 2).ravel()
    m = (np.diff(cuts)[:, None] * w / 2).ravel()
    N = values(x, k, t)
    expected = N.T @ (m[:, None] * N)
    np.testing.assert_allclose(A, expected, rtol=1e-13, atol=1e-14)
    np.testing.assert_allclose(B, expected, rtol=1e-13, atol=1e-14)


def test_outside_its_support_a_density_is_not_asked():
    def partial(t):
        assert float(t.min()) >= 0.2
        return torch.sqrt(t - 0.2)

    zeta = Density(partial, support=(0.2, math.inf))
    assert zeta([0.0, 0.2, 0.45]).tolist() == [0.0, 0.0, 0.5]
    assert spline_system([0.0, 0.5, 1.0, 2.0], zeta).banded.shape == (2, 2)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: Breakpoints([0.0], [1.0, 2.0]), ValueError, r"one weight for each position"),
        (lambda: Breakpoints([[0.0]], [[1.0]]), ValueError, r"both of shape \(n,\)"),
        (lambda: Breakpoints([0.0], [-1.0]), ValueError, r"negative entry.*convex"),
        (lambda: Breakpoints([math.inf], [1.0]), ValueError, r"positions has a NaN or inf"),
        (lambda: Breakpoints([1j], [1.0]), TypeError, r"positions is complex"),
        (lambda: Density(3.0), TypeError, r"needs a function of x.*lambda x: c"),
        (lambda: Density(abs, kinks=(math.nan,)), ValueError, r"kinks has a NaN"),
        (lambda: Density(abs, support=(1.0, 1.0)), ValueError, r"not an interval.*whole line"),
        (lambda: Density(abs, support=(1.0, 2.0, 3.0)), ValueError, r"not an interval"),
        (lambda: Density(lambda t: -t)([1.0]), ValueError, r"negative at x = 1.*no minimum"),
        (lambda: Density(lambda t: t[:1])([1.0, 2.0]), ValueError, r"shape \(1,\).*each point"),
        (lambda: as_measure("flat"), TypeError, r"zeta is a str.*Breakpoints\(positions"),
    ],
)
def test_measures_refuse(make, error, message):
    with pytest.raises(error, match=message):
        make()


@pytest.mark.parametrize(
    "zeta",
    [
        lambda t: 1 / (t - 0.3).abs(),  # not integrable
        lambda t: 1 + 1e-6 * torch.sin(1e9 * t),  # noise
        lambda t: torch.exp(t).float(),  # seven digits
    ],
)
def test_densities_that_cannot_be_integrated(zeta):
    with pytest.raises(ValueError, match=r"cannot be integrated near.*kinks.*float64.*bounded"):
        spline_system([0.0, 1.0, 2.0], zeta)


def test_too_few_breakpoints_says_where():
    system = spline_system(np.arange(5.0), Breakpoints([0.5, 3.5], [1.0, 1.0]))
    assert system.matched().tolist() == [True, False, True]
    with pytest.raises(TooFewBreakpoints) as caught:
        system.solve(np.array([0.0, 1.0, 0.0, 1.0, 0.0]))
    assert caught.value.gap == (1.0, 3.0)


def test_sort_data():
    knots, values, order = sort_data(torch.tensor([3.0, 1.0, 2.0]), [30, 10, 20])
    assert (knots.tolist(), values.tolist()) == ([1.0, 2.0, 3.0], [10.0, 20.0, 30.0])
    assert order.tolist() == [1, 2, 0]
    near = np.nextafter(1.0, 2)
    with pytest.raises(ValueError, match=r"x\[0\] and x\[2\] are the same number \(1\) up to"):
        sort_data([1.0, 5.0, near], [0.0, 0.0, 1.0])


def test_a_million_units():
    """One sort and a few passes."""
    rng = np.random.default_rng(0)
    measure = Breakpoints(rng.uniform(-1, 1, 10**6), np.full(10**6, 2e-6))
    x, y = random_knots(8, 1), rng.standard_normal(8)
    t = np.linspace(-1, 1, 200)
    found = []
    for zeta in (measure, lambda s: 1.0):
        system = spline_system(x, zeta)
        found.append(system.curve(*system.solve(y))(t))
    assert np.abs(found[0] - found[1]).max() <= 0.02 * np.abs(found[1]).max()
