"""Losses: value, slope and curvature belong together, to the last digits."""

import math

import mpmath
import pytest
import torch
from implicit_bias import loss_named
from implicit_bias.losses import LOSSES

POINTS = torch.cat([-torch.logspace(-8, 1.4, 60), torch.zeros(1), torch.logspace(-8, 1.4, 60)])
POINTS = POINTS.double()
EXACT = {
    "square": lambda r: r * r / 2,
    "logcosh": lambda r: mpmath.log(mpmath.cosh(r)),
    "exponential": lambda m: mpmath.exp(-m),
    "logistic": lambda m: mpmath.log(1 + mpmath.exp(-m)),
}


@pytest.mark.parametrize("name", LOSSES)
def test_value_and_slope_against_fifty_digits(name):
    loss = loss_named(name)
    with mpmath.workdps(50):
        values = [float(EXACT[name](mpmath.mpf(x))) for x in POINTS.tolist()]
        slopes = [float(mpmath.diff(EXACT[name], mpmath.mpf(x))) for x in POINTS.tolist()]
    # A few roundings each.
    for x, ours, exact in zip(POINTS.tolist(), loss.value(POINTS).tolist(), values, strict=True):
        assert ours == pytest.approx(exact, rel=1e-14, abs=0), x
    for x, ours, exact in zip(POINTS.tolist(), loss.slope(POINTS).tolist(), slopes, strict=True):
        assert ours == pytest.approx(exact, rel=1e-14, abs=0), x


@pytest.mark.parametrize("name", LOSSES)
def test_slope_is_the_derivative_and_curvature_bounds_the_next(name):
    loss = loss_named(name)
    x = POINTS.clone().requires_grad_()
    (slope,) = torch.autograd.grad(loss.value(x).sum(), x)
    torch.testing.assert_close(slope, loss.slope(POINTS), rtol=1e-8, atol=1e-15)
    (second,) = torch.autograd.grad(loss.slope(x).sum(), x)
    bound = loss.value(POINTS) if loss.curvature is None else loss.curvature
    assert bool((second <= bound * (1 + 1e-14)).all())
    assert bool((second >= 0).all())
    if loss.curvature is not None:  # and the bound is the best one
        assert float(second.max()) == pytest.approx(loss.curvature, rel=1e-3)


def test_no_overflow_where_the_loss_itself_is_finite():
    far = torch.tensor([-1e5, 1e5], dtype=torch.float64)
    assert loss_named("logcosh").value(far).tolist() == [1e5 - math.log(2)] * 2
    assert loss_named("logcosh").slope(far).tolist() == [-1.0, 1.0]
    assert loss_named("logistic").value(far).tolist() == [1e5, 0.0]
    assert loss_named("logistic").slope(far).tolist() == [-1.0, -0.0]


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(ValueError, match=r"no loss named 'hinge'.*Choose one of square, logcosh"):
        loss_named("hinge")
