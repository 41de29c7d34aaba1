r"""Early stopping and ridge as filters on singular values.

Both estimators of :math:`y = Xw^* + \text{noise}` multiply the minimum-norm solution, in each
right singular direction, by a number between 0 and 1. With :math:`x = s^2 t` (or
:math:`s^2/\lambda`) that number is :math:`1-e^{-x}` for the flow stopped at time t and
:math:`x/(1+x)` for ridge.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from implicit_bias.arrays import as_real

__all__ = ["expected_risk", "flow_filter", "ridge_filter"]


def _non_negative(x: Any) -> Tensor:
    values = as_real(x, "x", finite=False)
    if not bool((values >= 0).all()):
        raise ValueError(
            "A filter is a function of s^2 t or s^2 / lambda, which is never negative or NaN."
        )
    return values


def flow_filter(x: Any) -> Tensor:
    r"""Returns :math:`1 - e^{-x}`, the gradient flow's filter at :math:`x = s^2 t`; any shape.

    Raises
    ------
    ValueError
        If a value is negative or NaN.

    Notes
    -----
    Source: P18, section 3.1, made exact.

    Examples
    --------
    >>> flow_filter([0.0, 1.0])
    tensor([0.0000, 0.6321], dtype=torch.float64)
    """
    return -torch.expm1(-_non_negative(x))


def ridge_filter(x: Any) -> Tensor:
    r"""Returns :math:`x/(1+x)`, ridge regression's filter at :math:`x = s^2/\lambda`; any shape.

    Raises
    ------
    ValueError
        If a value is negative or NaN.

    Notes
    -----
    Source: P18, section 3.1, made exact.

    Examples
    --------
    >>> ridge_filter([0.0, 1.0])
    tensor([0.0000, 0.5000], dtype=torch.float64)
    """
    # 1 - 1/(1+x) is also right at infinity, but cancels near 0.
    values = _non_negative(x)
    return torch.where(torch.isinf(values), torch.ones_like(values), values / (1 + values))


def expected_risk(filters: Any, s: Any, signal: Any, noise: float, weights: Any = None) -> Tensor:
    r"""Returns the expected squared error of filtered estimators, in closed form.

    The estimator's coordinate in direction i is :math:`f_i(c_i + \epsilon_i/s_i)` with
    :math:`\epsilon_i` of variance :math:`\sigma^2`, so its expected weighted error is
    :math:`\sum_i \omega_i\,[(1-f_i)^2c_i^2 + \sigma^2 f_i^2/s_i^2]`: bias and variance.

    Parameters
    ----------
    filters : array, shape (..., r)
        Values between 0 and 1.
    s : array, shape (r,)
        Positive singular values.
    signal : array, shape (r,)
        The true coefficients :math:`c_i`.
    noise : float
        Standard deviation :math:`\sigma` of each target.
    weights : array, shape (r,), optional
        :math:`\omega_i`; default 1, the squared distance of the weights.

    Raises
    ------
    ValueError
        If a singular value is not positive, or the noise is negative.

    Examples
    --------
    >>> expected_risk([1.0], [2.0], [3.0], noise=4.0)
    tensor(4., dtype=torch.float64)
    """
    f = as_real(filters, "filters")
    sizes, c = as_real(s, "s").to(f.device), as_real(signal, "signal").to(f.device)
    if not bool((sizes > 0).all()) or not noise >= 0:
        raise ValueError(
            "expected_risk divides the noise by each singular value: they must be positive, and "
            "the noise's standard deviation non-negative. Leave null directions out."
        )
    omega = torch.ones_like(c) if weights is None else as_real(weights, "weights").to(c.device)
    return ((1 - f) ** 2 * c**2 * omega + noise**2 * f**2 / sizes**2 * omega).sum(-1)
