"""Two wells: depth, curvature, gradient and the integral over y, each by a second way."""

import math

import numpy as np
import pytest
import torch
from implicit_bias.models.smoothed import SmoothedReLU, smoothed_relu
from implicit_bias.models.wells import TwoWells, noise_across

WELLS = [
    TwoWells(4.0, 1.0),
    TwoWells(3.0, 0.5, dimension=1, tilt=0.2),
    TwoWells(4.0, 1.0, dimension=6, tilt=-0.3, height=2.0),
    TwoWells((1.0, 1.0), (0.1, 4.0), tilt=0.1),
    TwoWells(4.0, 1.0, dimension=4, powers=(2, 4)),
    TwoWells(4.0, 1.0, dimension=4, powers=(4, 2)),
    TwoWells(0.7, 2.0, dimension=3, powers=(4, 4)),
]


@pytest.mark.parametrize("wells", WELLS)
def test_gradient_is_that_of_autograd(wells):
    rng = np.random.default_rng(0)
    points = torch.from_numpy(rng.uniform(-1.5, 1.5, (200, wells.dimension))).requires_grad_()
    (found,) = torch.autograd.grad(wells(points).sum(), points)
    torch.testing.assert_close(wells.gradient(points.detach()), found, rtol=1e-12, atol=1e-12)
    assert torch.equal(wells.value(points), wells(points))
    assert torch.equal(wells.region(points), (points[:, 0] >= 0).long())


@pytest.mark.parametrize("wells", WELLS)
def test_minima_have_the_depth_and_curvature_asked_for(wells):
    assert wells(wells.minima).tolist() == pytest.approx([0.0, wells.tilt], abs=1e-15)
    assert float(wells.gradient(wells.minima).abs().max()) == 0
    for well, point in enumerate(wells.minima):
        H = torch.autograd.functional.hessian(lambda p: wells(p[None])[0], point)
        k = wells.stiffness(well) * (wells.powers[well] == 2)
        expected = torch.diag(torch.cat([torch.tensor([8 * wells.height]), k.to(torch.float64)]))
        torch.testing.assert_close(H, expected.to(torch.float64), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("wells", [w for w in WELLS if w.dimension in (2, 3)])
@pytest.mark.parametrize("T", [0.05, 0.7])
def test_integral_over_y_is_that_of_quadrature(wells, T):
    line = TwoWells(1.0, 1.0, dimension=1, height=wells.height, tilt=wells.tilt)
    # The sum over a grid converges faster than any power for what is smooth and dies out.
    side = torch.linspace(-20, 20, 801, dtype=torch.float64)
    y = torch.cartesian_prod(*[side] * (wells.dimension - 1)).reshape(-1, wells.dimension - 1)
    for x in (-1.0, -0.2, 0.1, 0.9):
        at = torch.full((len(y), 1), x, dtype=torch.float64)
        bowl = wells(torch.cat([at, y], 1)) - line(at)
        expected = float(torch.logsumexp(-bowl / T, 0)) + (wells.dimension - 1) * math.log(0.05)
        found = float(wells.log_volume(torch.tensor(x, dtype=torch.float64), T))
        assert found == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("D", [2, 3, 10, 1000])
@pytest.mark.parametrize("T", [1e-6, 0.1, 3.0])
def test_mixture_of_powers_has_the_known_ends(D, T):
    """At x = 1 only one bowl is left: the rule must agree with the Gamma functions."""
    wells = TwoWells(3.0, 0.7, dimension=D, powers=(2, 4))
    found = wells.log_volume(wells.minima[:, 0], T).tolist()
    m = D - 1
    quadratic = m / 2 * math.log(2 * math.pi * T / 3.0)
    quartic = m / 2 * math.log(math.pi) - math.lgamma(m / 2) + math.lgamma(m / 4) - math.log(2)
    quartic += m / 4 * math.log(4 * T / 0.7)
    assert found == pytest.approx([quadratic, quartic], abs=1e-11, rel=1e-13)


def test_noise_is_one_where_the_stiffness_changes():
    x = torch.linspace(-0.5, 0.5, 11, dtype=torch.float64)
    assert torch.equal(noise_across(x, 4.0, 0.1), torch.ones_like(x))
    S = TwoWells(1.0, 1.0, dimension=3).noise(4.0, 0.1)(torch.tensor([[-0.8, 1, 1], [2, 0, 0]]))
    torch.testing.assert_close(S, torch.tensor([[4.0, 1, 1], [0.1, 1, 1]]))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: TwoWells(0.0, 1.0), "positive stiffness"),
        (lambda: TwoWells(1.0, 1.0, powers=(2, 3)), "must be two of"),
        (lambda: TwoWells((1.0, 2.0), 1.0, powers=(4, 2)), "has one k"),
        (lambda: TwoWells((1.0, 2.0), 1.0, dimension=2), "one for each"),
        (lambda: TwoWells((1.0, 2.0), (1.0, 2.0, 3.0)), "directions"),
        (lambda: TwoWells(1.0, (1.0, 2.0, 3.0), dimension=3), "directions"),
        (lambda: TwoWells(1.0, 1.0, height=0.0), "height"),
        (lambda: TwoWells(1.0, math.nan), "NaN"),
        (lambda: TwoWells(1.0, 1.0, dimension=0), "dimension"),
        (lambda: TwoWells(1.0, 1.0)(torch.zeros(4, 3)), "last axis"),
        (lambda: TwoWells(1.0, 1.0).noise(0.0, 1.0), "must be positive"),
        (lambda: smoothed_relu(0.0), "must be positive"),
        (lambda: smoothed_relu(0.5, 9), "above 8"),
        (lambda: smoothed_relu(0.5, 0), "order"),
        (lambda: SmoothedReLU(0.5, 1, 3), "2 derivatives"),
    ],
)
def test_refuses(make, words):
    with pytest.raises(ValueError, match=words):
        make()


@pytest.mark.parametrize("order", range(1, 9))
def test_smoothed_relu_is_a_convolution(order):
    """Against the mean of the ReLU over sums of uniform variables, by exact moments of one box."""
    s = smoothed_relu(0.4, order)
    z = torch.linspace(-1, 1, 201, dtype=torch.float64)
    value = s(z)
    assert torch.equal(value[z >= 0.4], z[z >= 0.4])
    assert torch.equal(value[z <= -0.4], torch.zeros_like(z[z <= -0.4]))
    torch.testing.assert_close(value, z + s(-z), rtol=0, atol=1e-15)
    assert bool((value >= torch.relu(z)).all())
    if order > 1:  # one more box of half-width delta / order on the spline of order - 1
        inner = smoothed_relu(0.4 * (order - 1) / order, order - 1)
        nodes, weights = np.polynomial.legendre.leggauss(200)
        shift = torch.from_numpy(nodes) * 0.4 / order
        again = (inner(z[:, None] - shift) * torch.from_numpy(weights / 2)).sum(1)
        # The integrand has a kink in a high derivative: the rule is not exact.
        torch.testing.assert_close(value, again, rtol=0, atol=2e-6)
    else:
        blend = (z + 0.4).square() / 1.6
        torch.testing.assert_close(value[z.abs() < 0.4], blend[z.abs() < 0.4])


@pytest.mark.parametrize("order", [1, 2, 3, 5])
def test_smoothed_relu_has_the_derivatives_it_says(order):
    s = smoothed_relu(0.4, order)
    z = torch.linspace(-0.613, 0.587, 301, dtype=torch.float64, requires_grad=True)
    for _ in range(order):
        (slope,) = torch.autograd.grad(s(z).sum(), z)
        s = s.derivative()
        torch.testing.assert_close(s(z.detach()), slope, rtol=1e-9, atol=1e-9)
    for knot in s.breakpoints:  # continuous up to this one ...
        near = knot + torch.tensor([-1e-9, 1e-9], dtype=torch.float64)
        assert float(s(near).diff().abs()) < 1e-7 * (order / 0.8) ** order
    last = s.derivative()  # ... and the next one jumps
    near = s.breakpoints[0] + torch.tensor([-1e-9, 1e-9], dtype=torch.float64)
    h = 0.8 / order
    assert float(last(near).diff()) == pytest.approx(1 / h**order, rel=1e-9)
