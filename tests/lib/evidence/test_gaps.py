"""Distances keep their accuracy where they are small."""

import math

import mpmath
import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from implicit_bias import angle, outside_span, relative_error

VECTORS = st.lists(st.floats(-100, 100), min_size=3, max_size=3)


@pytest.mark.parametrize("size", [1e-15, 1e-12, 1e-8, 1e-4, 0.5, 1.5, 3.0, math.pi])
def test_angle_of_a_rotation(size):
    u = torch.tensor([0.6, 0.8, 0.0], dtype=torch.float64)
    v = math.cos(size) * u + math.sin(size) * torch.tensor([0.0, 0.0, 1.0]).double()
    # Forming v rounds it by eps, and turns it by as much.
    assert angle(u, v) == pytest.approx(size, rel=1e-14, abs=3e-16)
    assert angle(1e-150 * u, 1e150 * v) == pytest.approx(size, rel=1e-14, abs=5e-16)


@settings(derandomize=True, deadline=None)
@given(u=VECTORS, v=VECTORS)
def test_angle_against_fifty_digits(u, v):
    assume(np.linalg.norm(u) > 1e-3 and np.linalg.norm(v) > 1e-3)
    with mpmath.workdps(50):
        a, b = mpmath.matrix(u), mpmath.matrix(v)
        dot = mpmath.fdot(a, b) / (mpmath.norm(a) * mpmath.norm(b))
        exact = float(mpmath.acos(min(mpmath.mpf(1), max(mpmath.mpf(-1), dot))))
    # Normalising rounds each vector by eps, and turns it by as much.
    assert angle(u, v) == pytest.approx(exact, rel=1e-13, abs=1e-15)
    assert angle(v, u) == angle(u, v)


def test_relative_error():
    assert relative_error([1.0, 1.0], [1.0, 1.0]) == 0.0
    assert relative_error([3.0, 4.0], [0.0, 0.0]) == 5.0
    assert relative_error(torch.ones(2, 2), 2 * torch.ones(2, 2)) == 0.5
    assert relative_error([0.1 + 1e-12], [0.1]) == pytest.approx(1e-11, rel=1e-3, abs=0)


def test_outside_span_is_the_largest_share():
    basis = [[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]]
    points = [[1.0, 2.0, 0.0], [3.0, 0.0, 4.0], [0.0, 0.0, 0.0], [0.0, 12.0, 5.0]]
    assert outside_span(points, basis) == 0.8
    assert outside_span([points, points], basis) == 0.8
    assert outside_span(points[0], basis) == 0.0
    assert outside_span([0.0, 0.0, 0.0], basis) == 0.0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: relative_error([1.0], [1.0, 2.0]), r"relative_error compares.*\(1,\) and \(2,\)"),
        (
            lambda: relative_error([math.nan], [1.0]),
            "first argument of relative_error has a NaN.*losses",
        ),
        (
            lambda: relative_error([1.0], [math.inf]),
            "second argument of relative_error has.*infinite.*losses",
        ),
        (lambda: angle([1.0], [1.0, 2.0]), r"angle compares.*one shape.*broadcast"),
        (lambda: angle([math.nan, 1.0], [1.0, 2.0]), "first argument of angle has a NaN.*losses"),
        (lambda: angle([0.0, 0.0], [1.0, 2.0]), "zero vector has no direction"),
        (lambda: angle([1.0, 2.0], [0.0, 0.0]), "zero vector has no direction"),
        (lambda: outside_span([1.0, 2.0], [[2.0], [0.0]]), r"orthonormal.*torch\.linalg\.qr"),
        (lambda: outside_span([1.0, 2.0], [[math.nan], [0.0]]), "basis has a NaN"),
        (lambda: outside_span([1.0, 2.0], [[1.0, 0.0]]), r"\(2,\) and \(1, 2\).*transpose rows"),
        (lambda: relative_error([], []), "relative_error was given empty arrays"),
        (lambda: outside_span([1.0, math.inf], [[1.0], [0.0]]), "diverged.*losses"),
    ],
)
def test_refuses_and_says_what_to_do(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("measure", [relative_error, angle])
def test_refuses_complex_numbers(measure):
    with pytest.raises(TypeError, match=r"complex.*real"):
        measure([1.0, 2.0], [1j, 2.0])


@pytest.mark.parametrize("size", [1e-300, 1e-160, 1.0, 1e160, 1e300])
def test_no_size_is_too_large_or_too_small(size):
    """Squares of these leave float64; the answers do not depend on the size."""
    u, v = [3.0 * size, 4.0 * size], [4.0 * size, 3.0 * size]
    assert angle(u, v) == pytest.approx(math.acos(24 / 25), rel=1e-14)
    assert relative_error(u, v) == pytest.approx(math.sqrt(2) / 5, rel=1e-14)
    assert outside_span([u, [0.0, 0.0]], [[1.0], [0.0]]) == pytest.approx(0.8, rel=1e-14)
