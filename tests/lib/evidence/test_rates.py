"""Slopes: exact on exact laws, and intervals that cover as often as they say."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from implicit_bias import loglog_slope
from scipy import stats

X = np.array([10.0, 20.0, 50.0, 100.0, 300.0, 1000.0])


@settings(derandomize=True, deadline=None)
@given(power=st.floats(-3, 3), factor=st.floats(1e-6, 1e6))
def test_an_exact_law_is_found_exactly(power, factor):
    for y in (factor * X**power, np.tile(factor * X[:, None] ** power, (1, 4))):
        fit = loglog_slope(X, y, bootstrap=100)
        assert fit.slope == pytest.approx(power, abs=1e-12)
        assert fit.intercept == pytest.approx(math.log(factor), abs=1e-11)
        assert fit.interval == pytest.approx((power, power), abs=1e-6)


def test_t_interval_against_the_textbook_formula():
    rng = np.random.default_rng(0)
    y = X**-0.5 * np.exp(0.1 * rng.standard_normal(6))
    fit = loglog_slope(X, torch.from_numpy(y), level=0.9)
    A = np.stack([np.log(X), np.ones(6)], 1)
    (slope, _), (rss,) = np.linalg.lstsq(A, np.log(y), rcond=None)[:2]
    half = stats.t.ppf(0.95, 4) * math.sqrt(rss / 4 * np.linalg.inv(A.T @ A)[0, 0])
    assert fit.slope == pytest.approx(slope, rel=1e-12)
    assert fit.interval == pytest.approx((slope - half, slope + half), rel=1e-10)
    assert (fit.level, fit.method) == (0.9, "t")


@pytest.mark.parametrize("repeats", [None, 40])
def test_intervals_cover_as_often_as_they_say(repeats):
    rng = np.random.default_rng(1)
    hits = 0
    for _ in range(400):
        shape = (6,) if repeats is None else (6, repeats)
        noise = np.exp(0.3 * rng.standard_normal(shape) - 0.045)  # of mean 1
        y = X.reshape(-1, *(1,) * (len(shape) - 1)) ** -0.5 * noise
        low, high = loglog_slope(X, y, level=0.9, bootstrap=300).interval
        hits += low <= -0.5 <= high
    # Binomial: 360 expected of 400, four standard deviations are 24; the bootstrap runs short.
    assert 330 <= hits <= 384


def test_repeats_are_averaged_before_the_logarithm():
    y = np.array([[1.0, 3.0], [2.0, 6.0], [4.0, 12.0]])
    fit = loglog_slope([1.0, 2.0, 4.0], y)
    assert fit.slope == pytest.approx(1.0, abs=1e-12)
    assert math.exp(fit.intercept) == pytest.approx(2.0)
    assert fit.method == "bootstrap"


def test_the_bootstrap_repeats_itself():
    y = np.random.default_rng(0).random((6, 10))
    assert loglog_slope(X, y) == loglog_slope(X, y)
    assert loglog_slope(X, y) != loglog_slope(X, y, seed=1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"x": [1.0, 2.0], "y": [1.0, 2.0]}, r"at least three different.*\(2,\).*Two points fit"),
        ({"x": [1.0, 1.0, 2.0], "y": [1.0, 1.0, 2.0]}, "at least three different.*Two points"),
        ({"x": [1.0, 2.0, 3.0], "y": [1.0, 2.0]}, r"got \(3,\) and \(2,\)"),
        ({"x": [[1.0, 2.0, 3.0]], "y": [1.0]}, r"needs x \(k,\)"),
        ({"x": [1.0, 2.0, 3.0], "y": [1.0, 0.0, 1.0]}, "positive values only.*Drop points"),
        ({"x": [1.0, -2.0, 3.0], "y": [1.0, 1.0, 1.0]}, "positive values only.*Drop points"),
        ({"x": [1.0, 2.0, 3.0], "y": [1.0, math.nan, 1.0]}, "not finite.*Drop points"),
        ({"x": [1.0, 2.0, 3.0], "y": [1.0, 1.0, 1.0], "level": 95}, "level = 95.*0.95 is usual"),
        ({"x": [1.0, 2.0, 3.0], "y": [[1.0], [1.0], [1.0]]}, r"one repeat.*Pass y of shape \(k,\)"),
        (
            {"x": [1.0, 2.0, 3.0], "y": [[1.0, 2.0]] * 3, "bootstrap": 0},
            "bootstrap = 0 is too small.*Pass 100 or more",
        ),
        ({"x": [1.0, 2.0, 3.0], "y": [1.0, 1.0, 1.0], "level": 0}, "level = 0.*0.95 is usual"),
    ],
)
def test_refuses_and_says_what_to_do(arguments, message):
    with pytest.raises(ValueError, match=f"(?s){message}"):
        loglog_slope(**arguments)
