"""What callers hand over is read exactly, or refused in words."""

import numpy as np
import pytest
import torch
from implicit_bias.arrays import as_count, as_real


@pytest.mark.parametrize("kind", [list, tuple, np.array, torch.tensor, lambda v: np.array(v)[::1]])
def test_reads_anything_that_is_an_array(kind):
    assert as_real(kind([1, 2, 3]), "x").tolist() == [1.0, 2.0, 3.0]


def test_reads_views_that_torch_refuses():
    assert as_real(np.arange(3.0)[::-1], "x").tolist() == [2.0, 1.0, 0.0]


def test_is_a_copy():
    given = torch.ones(2, dtype=torch.float64)
    as_real(given, "x")[0] = 5.0
    assert given.tolist() == [1.0, 1.0]


@pytest.mark.parametrize(
    ("values", "error", "message"),
    [
        ("abc", TypeError, "x cannot be read as an array of numbers.*Pass a NumPy array"),
        ([[1.0], [1.0, 2.0]], TypeError, "x cannot be read.*nested lists of equal length"),
        ([1j], TypeError, "x is complex.*Stack its real and imaginary parts"),
        ([1.0, np.nan], ValueError, r"x has a NaN.*index \[1\].*diverged.*remove or impute"),
        (np.inf, ValueError, r"x has a NaN or infinite entry \(first at index \[\]\)"),
    ],
)
def test_refuses_what_is_no_finite_real_array(values, error, message):
    with pytest.raises(error, match=f"(?s){message}"):
        as_real(values, "x")


def test_infinities_pass_where_they_mean_something():
    assert as_real([0.0, np.inf], "times", finite=False).tolist() == [0.0, np.inf]


@pytest.mark.parametrize("value", [3, np.int64(3), torch.tensor(3)])
def test_counts(value):
    assert as_count(value, "steps") == 3


@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        (2.0, TypeError, "steps = 2.0 is not an integer.*steps=1"),
        ("2", TypeError, "steps = '2' is not an integer"),
        (0, ValueError, "steps = 0 is too small.*Pass 1 or more"),
        (-1, ValueError, "steps = -1 is too small"),
    ],
)
def test_refuses_what_is_no_count(value, error, message):
    with pytest.raises(error, match=message):
        as_count(value, "steps")
