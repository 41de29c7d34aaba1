"""What every check does first: take an answer for numbers, or say why it cannot."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.append(str(Path(__file__).resolve().parents[2] / "course"))

from checks import as_vector, judged


@pytest.mark.parametrize(
    "value",
    [
        [1, 2, 3],
        (1.0, 2.0, 3.0),
        np.array([3.0, 2.0, 1.0])[::-1],
        torch.tensor([1.0, 2.0, 3.0], requires_grad=True),
        [torch.tensor(1.0), torch.tensor(2.0), torch.tensor(3.0)],
    ],
)
def test_numbers_of_any_kind_are_taken(value):
    assert torch.equal(as_vector(value, 3), torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64))


def test_no_digit_is_lost():
    assert as_vector([0.1, 0.2], 2).tolist() == [0.1, 0.2]
    assert as_vector((np.float64(0.1), 0.2), 2).tolist() == [0.1, 0.2]


def test_a_number_is_a_vector_of_one():
    for value in (2, 2.0, torch.tensor(2.0), np.float64(2), [2.0]):
        assert as_vector(value, 1).tolist() == [2.0]
    with pytest.raises(ValueError, match="shape"):
        as_vector([[1.0, 2.0]], 1)


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (None, "returns nothing yet"),
        (..., "returns nothing yet"),
        ("abc", "returns a str, not numbers"),
        (np.ones(2), r"should return shape \(3,\); it returned \(2,\)"),
        (np.array([1, 2, np.inf]), "infinite or not a number"),
        (np.ones(3) * 1j, "complex numbers: take their real parts"),
    ],
)
def test_what_is_not_is_refused_with_the_reason(value, why):
    with pytest.raises(ValueError, match=why):
        as_vector(value, 3)


def test_a_refusal_is_a_mark_of_zero_with_its_reason():
    share, message = judged(lambda value: as_vector(value, 3), None, ())
    assert (share, message) == (0.0, "Your function returns nothing yet.")
