"""Put into every copy of the exercises, so that checks need nothing but the package."""

import copy

import numpy as np
import torch


def as_vector(value, size, what="Your function"):
    """The answer as float64 numbers, or a ValueError that says what is wrong."""
    if value is None or value is ...:
        raise ValueError(f"{what} returns nothing yet.")
    try:
        if isinstance(value, np.ndarray):
            value = np.ascontiguousarray(value)  # torch knows no negative strides
        if isinstance(value, np.ndarray | torch.Tensor):
            numbers = torch.as_tensor(value).detach()
        else:
            numbers = torch.as_tensor(value, dtype=torch.float64).detach()
    except (TypeError, ValueError, RuntimeError):
        raise ValueError(
            f"{what} returns a {type(value).__name__}, not numbers."
        ) from None
    if numbers.is_complex():
        raise ValueError(f"{what} returns complex numbers: take their real parts.")
    vector = numbers.to(torch.float64)
    if size == 1:
        vector = vector.reshape(-1)  # a number is a vector of one
    if tuple(vector.shape) != (size,):
        found = tuple(vector.shape)
        raise ValueError(f"{what} should return shape ({size},); it returned {found}.")
    if not torch.isfinite(vector).all():
        raise ValueError(f"{what} returns numbers that are infinite or not a number.")
    return vector


def judged(judge, value, case):
    """The judge's verdict: a share from 0 to 1, and a sentence."""
    try:
        share, message = judge(value, *case)
    except ValueError as error:
        return 0.0, str(error)
    return min(max(float(share), 0.0), 1.0), str(message)


def check(function, judge, cases):
    """Call your function on the visible cases, and say what is wrong."""
    for number, case in enumerate(cases, 1):
        share, message = judged(judge, function(*copy.deepcopy(case)), case)
        print(f"case {number}: {share:4.0%}  {message}")
