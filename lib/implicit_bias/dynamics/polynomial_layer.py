r"""One hidden layer with a polynomial activation: its gradients, by the formulas.

With examples as rows of X (n, d) and Y (n, d'), :math:`W_1` (h, d), :math:`W_2` (d', h),
:math:`Z = XW_1^\top`, :math:`s(z) = \sum_k c_kz^k` entry by entry, :math:`E = s(Z)W_2^\top - Y`
and :math:`L = \tfrac12\|E\|_F^2`,

.. math:: \nabla_{W_1} L = \big(s'(Z) \circ (EW_2)\big)^\top X, \qquad
          \nabla_{W_2} L = E^\top s(Z) .

:math:`s(z) = z^m` is P18's (16) and (17), :math:`s(z) = az + bz^2` its (18) and (19), and
:math:`s(z) = z` the linear network of ``two_layer_gradient``.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from implicit_bias.arrays import as_real
from implicit_bias.dynamics.two_layer import read_layers

__all__ = ["polynomial_gradient"]


def polynomial_gradient(
    X: Any, Y: Any, W1: Any, W2: Any, coefficients: Any
) -> tuple[Tensor, Tensor]:
    r"""Returns the gradients in W1 (h, d) and W2 (d', h) for a polynomial activation.

    Parameters
    ----------
    X : array, shape (n, d)
    Y : array, shape (n, d'), or (n,) for d' = 1
    W1 : array, shape (h, d)
    W2 : array, shape (d', h)
    coefficients : array, shape (m + 1,)
        :math:`c_0, \dots, c_m` of the powers, the constant first: ``[0, a, b]`` for
        :math:`az + bz^2`. (Those of a ``PolynomialActivation`` belong to Chebyshev polynomials
        of z/R: convert them with ``numpy.polynomial.chebyshev.cheb2poly``.)

    Raises
    ------
    TypeError, ValueError
        If shapes disagree, or a number is not finite.
    OverflowError
        If a power leaves the range of float64.

    Notes
    -----
    Source: P18 (16) to (19), with examples as rows. (16) lacks the opening bracket of
    :math:`[m(W_1X)^{m-1} \circ (W_2^\top E)]X^\top`, and the E' defined by it has a row for each
    hidden unit and a column for each example, not d' rows and d columns.

    Examples
    --------
    >>> polynomial_gradient([[1.0]], [3.0], [[2.0]], [[1.0]], [0.0, 0.0, 1.0])  # s(z) = z^2
    (tensor([[4.]], dtype=torch.float64), tensor([[4.]], dtype=torch.float64))
    """
    a, b, u, v = read_layers(X, Y, W1, W2, "W2 s(W1 x)")
    c = as_real(coefficients, "coefficients")
    if c.ndim != 1 or not c.numel():
        raise ValueError(
            f"coefficients has shape {tuple(c.shape)}; a polynomial of degree m has a vector of "
            f"m + 1 of them, the constant first."
        )
    Z = a @ u.T
    value, slope = torch.zeros_like(Z), torch.zeros_like(Z)
    for number in c.tolist()[::-1]:  # Horner's rule, for s and its derivative at once
        slope = slope * Z + value
        value = value * Z + number
    E = value @ v.T - b
    first, second = (slope * (E @ v)).T @ a, E.T @ value
    if not bool(torch.isfinite(first).all()) or not bool(torch.isfinite(second).all()):
        raise OverflowError(
            f"With pre-activations up to {float(Z.abs().max()):.3g} and degree {c.numel() - 1} "
            f"the powers leave the range of float64. Scale X or W1 down."
        )
    return first, second
