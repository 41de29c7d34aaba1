"""Best polynomials against known ones and linear programmes; what they do to derivatives."""

import math

import numpy as np
import pytest
import torch
from implicit_bias.limits.approximation import best_approximation, largest_error
from implicit_bias.limits.derivatives import derivative_bound
from implicit_bias.models.activations import PolynomialActivation, fit_polynomial
from implicit_bias.models.smoothed import smoothed_relu
from scipy.optimize import linprog


def runge(x):
    return 1 / (1 + 25 * x * x)


def circle(x):
    return ((1 - x) * (1 + x)).clamp_min(0).sqrt()


class Bent:
    """A function with its kinks; none unless they are named."""

    def __init__(self, function, breakpoints=()):
        self.function, self.breakpoints = function, breakpoints

    def __call__(self, x):
        return self.function(x)


LINE = PolynomialActivation([0.0, 1.0])
FUNCTIONS = [torch.relu, smoothed_relu(0.3, 1), smoothed_relu(0.5, 3), torch.exp, runge]


def by_programme(function, degree, weight, points):
    """The best error on a grid: a lower bound of the best error."""
    x = np.union1d(-np.cos(np.linspace(0, np.pi, points)), [-0.3, 0, 0.3])
    w = np.sqrt((1 - x) * (1 + x)) ** weight
    V = w[:, None] * np.polynomial.chebyshev.chebvander(x, degree)
    f, one = w * function(torch.from_numpy(x)).numpy(), np.ones((len(x), 1))
    found = linprog(
        np.r_[np.zeros(degree + 1), 1],
        A_ub=np.block([[V, -one], [-V, -one]]),
        b_ub=np.r_[f, -f],
        bounds=[(None, None)] * (degree + 2),
        method="highs",
    )
    return found.fun


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize(("degree", "weight"), [(3, 0), (6, 0), (5, 1), (4, 2)])
def test_is_the_value_of_a_linear_programme(function, degree, weight):
    best = best_approximation(function, degree, weight)
    value = by_programme(function, degree, weight, 801)
    # HiGHS is exact to 1e-7; the grid misses the maxima by the square of its spacing over that of
    # the extrema, (pi / 800)^2 (n + 2)^2 / 8 at most where f is as smooth.
    assert best.error >= value - 1e-7
    assert best.error <= value * 1.001 + 1e-7


@pytest.mark.parametrize("function", [*FUNCTIONS, torch.abs, circle])
@pytest.mark.parametrize("degree", [0, 2, 7, 48])
@pytest.mark.parametrize("weight", [0, 1])
def test_certificate_proves_it_best(function, degree, weight):
    """The bounds meet, and hold on points that the exchange never saw."""
    best = best_approximation(function, degree, weight)
    if best.error > 1e-13:
        assert 0 < best.lower <= best.error <= best.lower * (1 + 1e-9) + 1e-13
    x = torch.from_numpy(np.random.default_rng(degree).uniform(-1, 1, 5000))
    gap = ((1 - x) * (1 + x)).sqrt() ** weight * (function(x) - best.polynomial(x))
    assert float(gap.abs().max()) <= best.error * (1 + 1e-9) + 1e-14
    at = best.points
    gap = ((1 - at) * (1 + at)).sqrt() ** weight * (function(at) - best.polynomial(at))
    assert at.shape == (degree + 2,)
    assert bool((at.diff() > 0).all())
    if best.error > 1e-13:
        assert bool((gap[1:] * gap[:-1] < 0).all())
        assert float(gap.abs().min()) == pytest.approx(best.lower, rel=1e-9)


# Functions and their parity, 0 for none.
SWEPT = {
    "ReLU": (torch.relu, 0),
    "|x|": (torch.abs, 0),
    "|x|^1.5": (lambda x: x.abs() ** 1.5, 0),
    "two kinks": (Bent(lambda x: (x - 0.3).abs() + 2 * (x + 0.61).abs(), [-0.61, 0.3]), 0),
    "spline": (smoothed_relu(0.8, 1), 0),
    "spline of order 3": (smoothed_relu(0.1, 3), 0),
    "exp": (Bent(torch.exp), 0),
    "even": (Bent(lambda x: torch.cos(7 * x)), 1),
    "odd": (Bent(lambda x: torch.sin(9 * x)), -1),
    "Runge": (Bent(runge), 1),
}


@pytest.mark.parametrize("weight", [0, 1])
@pytest.mark.parametrize("name", SWEPT)
def test_every_degree_is_certified(name, weight):
    """Also where the best polynomial is that of the next degree, whose error alternates once more
    than it must, and where a symmetric reference sees no error at all."""
    function, parity = SWEPT[name]
    errors = []
    for n in [*range(13), 20, 49]:
        best = best_approximation(function, n, weight)
        # Relative 1e-10 is the default tol; values are of size up to 3, errors of rounding 1e-14.
        assert best.error - best.lower <= 1e-9 * best.error + 5e-14
        assert best.iterations < 30
        errors.append(best.error)
    assert bool((np.diff(errors) <= 1e-9 * np.array(errors[1:]) + 5e-14).all())
    if parity:
        # Parity: degrees 2m and 2m + 1 (even), or 2m - 1 and 2m (odd), have one best polynomial.
        first = slice(0, 12, 2) if parity > 0 else slice(1, 12, 2)
        then = slice(1, 12, 2) if parity > 0 else slice(2, 13, 2)
        assert errors[first] == pytest.approx(errors[then], rel=1e-9, abs=5e-14)


@pytest.mark.parametrize(("degree", "weight"), [(13, 0), (18, 1), (29, 1)])
def test_spline_whose_exchange_once_cycled(degree, weight):
    best = best_approximation(smoothed_relu(0.8, 1), degree, weight)
    assert best.error <= best.lower * (1 + 1e-9)


def test_first_reference_may_see_nothing():
    """A hat between the points of the reference: the error is zero at all of them."""
    hat = Bent(lambda x: (1 - (x - 0.3).abs() / 0.005).clamp_min(0), [0.295, 0.3, 0.305])
    for degree in (1, 2, 7):
        best = best_approximation(hat, degree)
        # Half of its height: two points of opposite error next to each other.
        assert best.error == pytest.approx(0.5, abs=0.03)
        assert best.lower == pytest.approx(best.error, rel=1e-9)
        assert best.error <= 0.5


@pytest.mark.parametrize("factor", [1e-200, 1e200])
def test_scales_with_the_function(factor):
    best = best_approximation(lambda x: factor * x.abs(), 2)
    assert best.error / factor == pytest.approx(0.125, rel=1e-9)
    assert best.lower / factor == pytest.approx(0.125, rel=1e-9)


def test_kink_that_is_not_announced_is_found_nearly():
    """|x - 0.3|: the maximum at the kink is bracketed to 1e-5 of a grid cell in the exchange."""
    told = best_approximation(Bent(lambda x: (x - 0.3).abs(), [0.3]), 12)
    untold = best_approximation(Bent(lambda x: (x - 0.3).abs()), 12)
    assert untold.lower * (1 - 1e-12) <= told.error <= untold.error * (1 + 1e-12)
    assert untold.error == pytest.approx(told.error, rel=1e-4)


def test_no_certificate_is_an_error():
    with pytest.raises(ArithmeticError, match="breakpoints"):
        best_approximation(lambda x: torch.frac(1e4 * x), 10)


@pytest.mark.parametrize("n", [1, 2, 5, 12])
def test_power_is_approximated_as_chebyshev_says(n):
    best = best_approximation(lambda x: x**n, n - 1)
    assert best.error == pytest.approx(2.0 ** (1 - n), rel=1e-11)
    # With the weight: the second kind, phi U_n = sin((n + 1) t).
    best = best_approximation(lambda x: x**n, n - 1, 1)
    assert best.error == pytest.approx(2.0**-n, rel=1e-11)


def test_bernsteins_constant():
    """2n E_2n(|x|) tends to 0.2801694990238691 (Varga and Carpenter 1985), with 1/n^2 behind."""
    assert best_approximation(torch.abs, 4).error * 4 == pytest.approx(0.27048359711, rel=1e-9)
    a, b = (n * best_approximation(torch.abs, n).error for n in (60, 120))
    assert (4 * b - a) / 3 == pytest.approx(0.2801694990, abs=1e-8)
    # The ReLU is half of |x| + x.
    assert best_approximation(torch.relu, 60).error == pytest.approx(a / 120, rel=1e-9)


def test_a_polynomial_is_its_own_best_approximation():
    for weight in (0, 1):
        best = best_approximation(lambda x: 4 * x**3 - 3 * x, 5, weight)
        torch.testing.assert_close(
            best.polynomial.coefficients, torch.eye(6, dtype=torch.float64)[3], atol=1e-14, rtol=0
        )
        assert best.error < 1e-14
        assert best.lower == 0


@pytest.mark.parametrize("order", [1, 2, 3])
def test_rates_of_value_and_derivative(order):
    """C^r with a jump in derivative r + 1: n^-(r + 1), and n^-r for the derivative, weighted."""
    s, ns = smoothed_relu(0.5, order), np.array([24, 36, 54, 80])
    value, slope, truncated = [], [], []
    for n in ns.tolist():
        best = best_approximation(s, n)
        value.append(best.error)
        slope.append(largest_error(s.derivative(), best.polynomial.derivative(), 1))
        truncated.append(largest_error(s, fit_polynomial(n, weight="chebyshev", function=s)))
        # Near the best within the Lebesgue constant of truncation, 4/pi^2 log n + 1.27 and 1.
        assert best.error <= truncated[-1] <= (2.3 + 4 / math.pi**2 * math.log(n)) * best.error
    rates = [np.polyfit(np.log(ns), np.log(v), 1)[0] for v in (value, slope)]
    # Four degrees, whose phase against the knots makes the constant swing.
    assert rates[0] == pytest.approx(-(order + 1), abs=0.35)
    assert rates[1] == pytest.approx(-order, abs=0.35)


def test_relu_is_approximated_like_one_over_n():
    errors = [n * best_approximation(torch.relu, n).error for n in (20, 40, 80)]
    assert errors == pytest.approx([0.14] * 3, rel=2e-3)


def angular(first, second, breakpoints=()):
    return Bent(lambda x: (1 - x) * (1 + x) * second(x) - x * first(x), breakpoints)


S = smoothed_relu(0.4, 2)


@pytest.mark.parametrize(
    ("function", "derivative", "second"),
    [
        (smoothed_relu(0.4, 1), smoothed_relu(0.4, 1).derivative(), None),
        (S, S.derivative(), angular(S.derivative(), S.derivative().derivative(), S.breakpoints)),
        (torch.exp, torch.exp, angular(torch.exp, torch.exp)),
        (
            lambda x: torch.sin(9 * x),
            lambda x: 9 * torch.cos(9 * x),
            angular(lambda x: 9 * torch.cos(9 * x), lambda x: -81 * torch.sin(9 * x)),
        ),
    ],
)
def test_derivative_bound_holds(function, derivative, second):
    """For best, truncated and badly perturbed polynomials; Corollary 2 corrected and Theorem 4."""
    rng, largest = np.random.default_rng(0), 0.0
    for degree in (2, 9):
        best = best_approximation(function, degree)
        kinds = [best.polynomial, fit_polynomial(degree, weight="chebyshev", function=function)]
        for size in (1.0, 1e3):
            top = best.polynomial.coefficients.clone()
            top[-1] += size * best.error
            noisy = best.polynomial.coefficients + size * best.error * torch.from_numpy(
                rng.standard_normal(degree + 1)
            )
            kinds += [PolynomialActivation(top), PolynomialActivation(noisy)]
        seconds = {1: best_approximation(derivative, degree - 1, 1)}
        if second is not None:
            seconds[2] = best_approximation(second, degree)
        for order, given in seconds.items():
            for P in kinds:
                bound = derivative_bound(function, P, order, best=given)
                assert bound.n == degree + 1
                assert bound.best == given.error
                assert bound.left <= bound.right
                largest = max(largest, bound.left / bound.right)
                expected = 3 * 2**order * bound.n**order * bound.epsilon + 4 * bound.best
                assert bound.right == pytest.approx(expected, rel=1e-14)
            # Through autograd, or the function's own derivative, the same.
            found = derivative_bound(function, best.polynomial, order).best
            assert found == pytest.approx(given.error, rel=1e-9, abs=1e-12)
    assert 0.05 < largest < 0.5


def test_infinite_slope_at_the_ends_is_weighted_away():
    """g = |sin t|^1.5 is C^1, f' infinite at +-1; (1 - x)^1.5 is C^2 in t, f'' infinite at 1."""
    f = Bent(lambda x: (1 - x * x) ** 0.75)
    P = best_approximation(f, 6).polynomial
    bound = derivative_bound(f, P)
    t = torch.linspace(1e-6, math.pi - 1e-6, 20001, dtype=torch.float64)
    slope = 1.5 * t.sin() ** 0.5 * t.cos() + t.sin() * P.derivative()(t.cos())
    assert bound.left == pytest.approx(float(slope.abs().max()), rel=1e-5)
    assert bound.left <= bound.right < 10

    f = Bent(lambda x: (1 - x) ** 1.5)
    P = best_approximation(f, 6).polynomial
    bound = derivative_bound(f, P, order=2)
    # f = 2^1.5 sin^3(t / 2) has second derivative in t 2^1.5 (6 sin cos^2 - 3 sin^3) / 4.
    s, c, x = (t / 2).sin(), (t / 2).cos(), t.cos()
    dP = P.derivative()
    curve = 2**1.5 * (6 * s * c * c - 3 * s**3) / 4
    curve -= (1 - x) * (1 + x) * dP.derivative()(x) - x * dP(x)
    # 1e-6 from the ends the second derivative has moved by 1e-6 of its size, which is 4.
    assert bound.left == pytest.approx(float(curve.abs().max()), abs=1e-5)
    assert bound.left <= bound.right < 10


def test_bernstein_says_how_sharp_it_can_be():
    """f = 0, P = T_m: left m, right 6 (m + 1): no function and polynomial push it beyond 1/6."""
    for m in (1, 8, 40):
        P = PolynomialActivation(torch.eye(m + 1)[m])
        bound = derivative_bound(lambda x: 0 * x, P)
        assert bound.left == pytest.approx(m, rel=1e-9)
        assert bound.right == pytest.approx(6 * (m + 1), rel=1e-9)
        second = derivative_bound(lambda x: 0 * x, P, order=2)
        assert second.left == pytest.approx(m * m, rel=1e-9)


def test_product_is_another_error_than_the_weighted_one():
    """f = x: the corrected second term is zero, that of the memo is 4 E_(n-1)(phi) > 0."""
    for n in (3, 6, 11):
        assert derivative_bound(lambda x: x, fit_polynomial(n - 1, function=lambda x: x)).best == (
            pytest.approx(0, abs=1e-13)
        )
        assert best_approximation(circle, n - 2).error > 0.5 / n / math.pi


def test_second_derivative_of_the_angle_is_that_of_the_chain_rule():
    """T_m has -m^2 T_m: through autograd and through its own derivative alike."""
    P = PolynomialActivation(torch.eye(6)[5])
    bound = derivative_bound(P, PolynomialActivation([0.0] * 6), order=2)
    assert bound.left == pytest.approx(25, rel=1e-9)
    again = derivative_bound(lambda x: P(x), PolynomialActivation([0.0] * 6), order=2)
    assert again.left == pytest.approx(25, rel=1e-9)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: best_approximation(torch.relu, -1), ValueError, "degree"),
        (lambda: best_approximation(torch.relu, 301), ValueError, "above 300"),
        (lambda: best_approximation(torch.relu, 2, weight=9), ValueError, "weight = 9"),
        (lambda: best_approximation(torch.relu, 2, weight="uniform"), TypeError, "weight"),
        (lambda: best_approximation(torch.relu, 2, tol=0.0), ValueError, "tol"),
        (lambda: best_approximation(torch.log, 2), ValueError, "NaN or infinite"),
        (lambda: best_approximation(lambda x: x.sum(), 2), ValueError, "by itself"),
        (lambda: largest_error(torch.relu, torch.relu, -1), ValueError, "weight"),
        (lambda: derivative_bound(torch.exp, torch.exp), TypeError, "PolynomialActivation"),
        (
            lambda: derivative_bound(lambda x: x + (0 * x).sqrt(), LINE),
            ValueError,
            "autograd finds",
        ),
        (lambda: derivative_bound(torch.exp, LINE, best=0.1), TypeError, "a float"),
        (
            lambda: derivative_bound(torch.exp, LINE, best=best_approximation(torch.exp, 0)),
            ValueError,
            "degree 0 and weight 1",
        ),
        (
            lambda: derivative_bound(torch.sin, LINE, best=best_approximation(torch.sin, 0, 1)),
            ValueError,
            "Approximate the derivative",
        ),
        (
            lambda: derivative_bound(torch.exp, PolynomialActivation([0.0, 1.0], 2.0)),
            TypeError,
            "radius 1",
        ),
        (
            lambda: derivative_bound(torch.exp, LINE, 3),
            ValueError,
            "1 or 2",
        ),
    ],
)
def test_refuses(call, error, words):
    with pytest.raises(error, match=words):
        call()
