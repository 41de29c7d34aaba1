r"""What closeness to a function says about closeness to its derivative, for polynomials.

A polynomial of degree below n within :math:`\epsilon` of f has a derivative off by about
:math:`n\epsilon`, beside what no derivative of a polynomial of that degree can avoid: inequalities
of Bernstein's kind in the angle :math:`\theta` of :math:`x = \cos\theta`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from implicit_bias.arrays import as_count
from implicit_bias.limits.approximation import best_approximation, largest_error
from implicit_bias.models.activations import PolynomialActivation

__all__ = ["DerivativeBound", "derivative_bound"]

_Function = Callable[[Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class DerivativeBound:
    r"""Both sides of the bound on the derivative of an approximation.

    Attributes
    ----------
    left : float
        The error of the derivative.
    right : float
        :math:`3 \cdot 2^r n^r\epsilon + 4E`.
    epsilon : float
        :math:`\|f - P\|`.
    best : float
        E, the best error for the derivative itself.
    n : int
        The degree of P plus one.

    Examples
    --------
    >>> bound = derivative_bound(torch.sin, best_approximation(torch.sin, 3).polynomial)
    >>> bound.left < bound.right, bound.n
    (True, 4)
    """

    left: float
    right: float
    epsilon: float
    best: float
    n: int


def _derivative(function: Any) -> _Function:
    if hasattr(function, "derivative"):
        made: _Function = function.derivative()
        return made

    def slope(x: Tensor) -> Tensor:
        with torch.enable_grad():
            at = x if x.requires_grad else x.detach().requires_grad_()
            total = function(at).sum()
            if not total.requires_grad:  # a constant
                return torch.zeros_like(x)
            (found,) = torch.autograd.grad(total, at, create_graph=True)
        return found if x.requires_grad else found.detach()

    return slope


def derivative_bound(
    function: _Function, polynomial: PolynomialActivation, order: int = 1
) -> DerivativeBound:
    r"""Returns both sides of the bound on the derivative of a polynomial near a function.

    With :math:`x = \cos\theta`, :math:`g(\theta) = f(\cos\theta)` and
    :math:`T(\theta) = P(\cos\theta)`, a cosine sum of order below n = deg P + 1, Theorem 4 of P18
    says :math:`\|g^{(r)} - T^{(r)}\| \le 3\cdot 2^r n^r\|g - T\| + 4E^*_n(g^{(r)})`. In terms of x

    .. math:: r = 1:&\quad \|\varphi(f' - P')\| \le 6n\epsilon
              + 4\min_{\deg Q \le n - 2}\|\varphi(f' - Q)\|, \\
              r = 2:&\quad \|L(f - P)\| \le 12n^2\epsilon + 4\min_{\deg Q \le n - 1}\|Lf - Q\|,
              \quad Lf = (1 - x^2)f'' - xf' :

    for g' is odd, and a best sine sum is :math:`\sin\theta\,Q(\cos\theta)`; g'' is even.

    Parameters
    ----------
    function : callable
        f, r times continuously differentiable on [-1, 1]; its method ``derivative`` is used if it
        has one, else autograd.
    polynomial : PolynomialActivation
        P, on [-1, 1] (radius 1).
    order : int
        r: 1 is Corollary 2 as corrected, 2 is Theorem 4 for even functions.

    Raises
    ------
    TypeError, ValueError
        If P is not a polynomial of radius 1, or the order neither 1 nor 2.

    Notes
    -----
    Source: P18, Theorem 4 (Czipser and Freud) and Corollary 2. The memo's second term is
    :math:`4E_{n-1}(\varphi f')`, the error of approximating a product; for f(x) = x that is
    positive and the right one is zero.

    Examples
    --------
    >>> bound = derivative_bound(lambda x: x, PolynomialActivation([0.0, 1.0]))
    >>> bound.left, bound.right
    (0.0, 0.0)
    """
    if not isinstance(polynomial, PolynomialActivation) or polynomial.radius != 1:
        raise TypeError(
            "polynomial must be a PolynomialActivation of radius 1, such as "
            "best_approximation(f, 10).polynomial: the bound is one on [-1, 1]."
        )
    r = as_count(order, "order")
    if r > 2:
        raise ValueError(f"order = {r} must be 1 or 2.")
    n, epsilon = polynomial.degree + 1, largest_error(function, polynomial)
    df, dp = _derivative(function), polynomial.derivative()
    if r == 1:
        left = largest_error(df, dp, 1)
        best = best_approximation(df, n - 2, 1).error if n > 1 else left
    else:
        Lf, Lp = _Angular(df), _Angular(dp, n - 1)
        left = largest_error(Lf, Lp)
        best = best_approximation(Lf, n - 1).error
    return DerivativeBound(left, 3 * 2**r * n**r * epsilon + 4 * best, epsilon, best, n)


class _Angular:
    """(1 - x^2) f'' - x f', the second derivative of f(cos t) in t, from f'."""

    def __init__(self, slope: Any, degree: int = 100) -> None:
        self.slope, self.curvature, self.degree = slope, _derivative(slope), degree
        self.breakpoints = getattr(slope, "breakpoints", [0.0])

    def __call__(self, x: Tensor) -> Tensor:
        value: Tensor = (1 - x) * (1 + x) * self.curvature(x) - x * self.slope(x)
        return value
