"""What a caller hands over, read as numbers: the checks that every public function shares."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np
import torch
from torch import Tensor

__all__ = ["as_array", "as_count", "as_real"]


def as_array(values: Any) -> Tensor:
    """Returns the values as a detached tensor; numbers in lists are float64, as NumPy has them.

    ``torch.as_tensor`` alone would round lists to float32, and refuse or warn of NumPy views that
    run backwards or are read-only.

    Examples
    --------
    >>> as_array([0.1]).dtype
    torch.float64
    """
    if isinstance(values, Tensor):
        return values.detach()
    if isinstance(values, (np.ndarray, list, tuple, int, float, complex)):
        values = np.array(values)
    return torch.as_tensor(values)


def as_real(values: Any, name: str, finite: bool = True) -> Tensor:
    """Returns a float64 copy of the values, on their device.

    Parameters
    ----------
    values : array
    name : str
        What the caller knows them as; it stands in the messages.
    finite : bool
        Whether a NaN or an infinity is an error.

    Raises
    ------
    TypeError
        If they are not real numbers.
    ValueError
        If one of them is NaN or infinite.

    Examples
    --------
    >>> as_real([1, 2], "x")
    tensor([1., 2.], dtype=torch.float64)
    """
    try:
        given = as_array(values)
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(
            f"{name} cannot be read as an array of numbers ({error}). "
            f"Pass a NumPy array, a torch tensor or nested lists of equal length."
        ) from error
    if given.is_complex():
        raise TypeError(
            f"{name} is complex; everything here compares real numbers, and dropping the imaginary "
            f"part would change the question. Stack its real and imaginary parts instead."
        )
    copy = given.to(torch.float64, copy=True)
    bad = ~torch.isfinite(copy)
    if finite and bool(bad.any()):
        where = torch.nonzero(bad)[0].tolist() if copy.ndim else []
        raise ValueError(
            f"{name} has a NaN or infinite entry (first at index {where}), and whatever is "
            f"computed from it would be NaN too. If it comes from a run, the run diverged: look "
            f"at its losses. If it is data, remove or impute it."
        )
    return copy


def as_count(value: Any, name: str, least: int = 1) -> int:
    """Returns the value as an int, if it is a whole number that is large enough.

    Raises
    ------
    TypeError
        If it is not an integer.
    ValueError
        If it is smaller than ``least``.

    Examples
    --------
    >>> as_count(3, "steps")
    3
    """
    try:
        count = operator.index(value)
    except TypeError:
        raise TypeError(
            f"{name} = {value!r} is not an integer, and a fraction of it cannot be done. Pass an "
            f"int, such as {name}={least}."
        ) from None
    if count < least:
        raise ValueError(
            f"{name} = {count} is too small to mean anything here. Pass {least} or more."
        )
    return count
