"""Losses: value, slope and curvature belong together, to the last digits."""

import math

import mpmath
import numpy as np
import pytest
import torch
from implicit_bias import loss_named
from implicit_bias.losses import LOSSES, TAILS, tail_named

POINTS = torch.cat([-torch.logspace(-8, 1.4, 60), torch.zeros(1), torch.logspace(-8, 1.4, 60)])
POINTS = POINTS.double()
EXACT = {
    "square": lambda r: r * r / 2,
    "logcosh": lambda r: mpmath.log(mpmath.cosh(r)),
    "exponential": lambda m: mpmath.exp(-m),
    "logistic": lambda m: mpmath.log(1 + mpmath.exp(-m)),
    "inverse": lambda m: (mpmath.sqrt(m * m + 4) - m) / 2,
}
SLOPES = {
    "exponential": lambda m: mpmath.exp(-m),
    "logistic": lambda m: 1 / (1 + mpmath.exp(m)),
    "inverse": lambda m: (1 - m / mpmath.sqrt(m * m + 4)) / 2,
}
DECAYS = {
    "exponential": lambda m: mpmath.mpf(1),
    "logistic": lambda m: 1 / (1 + mpmath.exp(-m)),
    "inverse": lambda m: (1 + m / mpmath.sqrt(m * m + 4)) / mpmath.sqrt(m * m + 4),
}
MARGINS = np.concatenate(
    [-np.geomspace(1e4, 1e-8, 80), [0.0], np.geomspace(1e-8, 1e3, 80), [36.9, 37.1, 744.0, 746.0]]
)


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


def test_the_inverse_loss_far_away():
    far = torch.tensor([-1e12, -1e4, 1e4, 1e12], dtype=torch.float64)
    value, slope = loss_named("inverse").value(far), loss_named("inverse").slope(far)
    torch.testing.assert_close(value, torch.tensor([1e12, 1e4 + 1e-4, 1e-4, 1e-12]).double())
    torch.testing.assert_close(
        slope, torch.tensor([-1, -1, -1e-8, -1e-24]).double(), atol=0, rtol=1e-7
    )


@pytest.mark.parametrize("name", TAILS)
def test_tails_against_many_digits(name):
    tail = tail_named(name)
    with mpmath.workdps(500):
        points = [mpmath.mpf(m) for m in MARGINS.tolist()]
        for ours, exact in (
            (tail.log_value(MARGINS), [mpmath.log(EXACT[name](m)) for m in points]),
            (tail.log_slope(MARGINS), [mpmath.log(SLOPES[name](m)) for m in points]),
        ):
            # Logarithms: absolute errors are relative errors of what they stand for.
            np.testing.assert_allclose(ours, [float(x) for x in exact], rtol=4e-16, atol=2e-15)
        decays = [float(DECAYS[name](m)) for m in points]
    np.testing.assert_allclose(tail.decay(MARGINS), decays, rtol=2e-15, atol=0)


@pytest.mark.parametrize("name", TAILS)
def test_tails_belong_together(name):
    """The slope is the loss's derivative, and decay that of the slope's logarithm."""
    tail, m = tail_named(name), mpmath.mpf("0.7")
    for x in (-20.0, -1.0, 0.0, 0.7, 5.0, 30.0):
        m = mpmath.mpf(x)
        with mpmath.workdps(40):
            slope = -mpmath.diff(EXACT[name], m)
            decay = -mpmath.diff(lambda v: mpmath.log(SLOPES[name](v)), m)
        assert float(tail.log_slope(np.array(x))) == pytest.approx(float(mpmath.log(slope)), 1e-14)
        assert float(tail.decay(np.array(x))) == pytest.approx(float(decay), 1e-14)
        loss = loss_named(name)
        point = torch.tensor([x], dtype=torch.float64)
        assert float(tail.log_value(np.array(x))) == pytest.approx(
            math.log(float(loss.value(point))), rel=1e-14, abs=1e-15
        )
        assert math.exp(float(tail.log_slope(np.array(x)))) == pytest.approx(
            -float(loss.slope(point)), rel=1e-13
        )


def test_tails_at_margins_beyond_floats():
    """Where losses have underflowed their logarithms have not; nothing overflows."""
    far = np.array([-1e12, -1e4, 1e4, 1e12])
    for name in ("exponential", "logistic"):
        tail = tail_named(name)
        assert tail.log_value(far)[2:].tolist() == [-1e4, -1e12]
        assert tail.log_slope(far)[2:].tolist() == [-1e4, -1e12]
        assert tail.decay(far)[2:].tolist() == [1.0, 1.0]
    logistic = tail_named("logistic")
    np.testing.assert_allclose(logistic.log_value(far)[:2], np.log([1e12, 1e4]), rtol=1e-15)
    assert logistic.log_slope(far)[:2].tolist() == [0.0, 0.0]
    assert logistic.decay(far)[:2].tolist() == [0.0, 0.0]
    inverse = tail_named("inverse")
    logs = np.log([1e12, 1e4, 1e-4, 1e-12])
    np.testing.assert_allclose(inverse.log_value(far), logs, rtol=1e-8)
    np.testing.assert_allclose(inverse.log_slope(far)[2:], 2 * logs[2:], rtol=1e-8)
    np.testing.assert_allclose(inverse.decay(far), [2e-36, 2e-12, 2e-4, 2e-12], rtol=1e-7)


def test_a_tail_needs_a_margin():
    for name in ("square", "hinge"):
        with pytest.raises(ValueError, match=rf"'{name}' is not a loss of a margin.*exponential"):
            tail_named(name)
