"""What comes back is a frozen record."""

import dataclasses
import math

import pytest
import torch
from implicit_bias import Limit, Path, StepTooLarge


def test_a_path_ends_at_its_last_point():
    points = torch.arange(6.0).reshape(3, 2)
    path = Path(torch.arange(3.0), points, torch.ones(3), "budget")
    assert torch.equal(path.x, points[2])
    assert math.isnan(path.step)
    assert path.steps == 0


@pytest.mark.parametrize(
    "record",
    [
        Path(torch.zeros(1), torch.zeros(1, 2), torch.zeros(1), "exact"),
        Limit(torch.zeros(2), torch.zeros(1), 0.0, 0.0, "by hand"),
    ],
)
def test_records_are_frozen(record):
    for field in dataclasses.fields(record):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(record, field.name, None)


def test_a_step_too_large_is_a_bad_value():
    assert issubclass(StepTooLarge, ValueError)
