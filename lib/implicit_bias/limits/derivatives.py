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
from implicit_bias.limits.approximation import (
    BestApproximation,
    best_approximation,
    largest_error,
)
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
        bad = ~torch.isfinite(found.detach())
        if bool(bad.any()):
            raise ValueError(
                f"autograd finds a derivative that is NaN or infinite at x = "
                f"{float(x.detach()[bad][0]):.17g}, where the bound needs one. If the function has "
                f"one, give it a method derivative that returns it."
            )
        return found if x.requires_grad else found.detach()

    return slope


def derivative_bound(
    function: _Function,
    polynomial: PolynomialActivation,
    order: int = 1,
    *,
    best: BestApproximation | None = None,
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
        f, with g r times continuously differentiable; its method ``derivative`` is used if it has
        one, else autograd. Derivatives are taken inside [-1, 1] only: f' may be infinite at the
        ends, as for :math:`(1 - x^2)^{3/4}`, if :math:`\varphi f'` tends to 0.
    polynomial : PolynomialActivation
        P, on [-1, 1] (radius 1).
    order : int
        r: 1 is Corollary 2 as corrected, 2 is Theorem 4 for even functions.
    best : BestApproximation, optional
        The best approximation in the second term, which does not depend on P but for its degree:
        for r = 1 ``best_approximation(df, P.degree - 1, weight=1)`` with df = f'; for r = 2
        ``best_approximation(Lf, P.degree)``. Computed if not given.

    Raises
    ------
    TypeError, ValueError
        If P is not a polynomial of radius 1, the order neither 1 nor 2, a derivative infinite
        inside the interval, or ``best`` not that of this function.

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
    target: _Function
    if r == 1:
        target, degree, weight = df, n - 2, 1
        left = largest_error(df, dp, 1)
    else:
        target, degree, weight = _Angular(df), n - 1, 0
        left = largest_error(target, _Angular(dp, n - 1))
    if best is not None:
        E = _error_of(best, target, degree, weight)
    else:  # no polynomial is of degree -1 but zero, and P is constant
        E = best_approximation(target, degree, weight).error if degree >= 0 else left
    return DerivativeBound(left, 3 * 2**r * n**r * epsilon + 4 * E, epsilon, E, n)


def _error_of(best: Any, target: _Function, degree: int, weight: int) -> float:
    """The error of a best approximation that was handed over, if it is one of the target."""
    if not isinstance(best, BestApproximation):
        raise TypeError(
            f"best is a {type(best).__name__}; pass what best_approximation returns, for the "
            f"derivative (order 1) or (1 - x^2) f'' - x f' (order 2), not its error alone."
        )
    if best.weight != weight or best.polynomial.degree != degree:
        raise ValueError(
            f"best is of degree {best.polynomial.degree} and weight {best.weight}; the bound needs "
            f"degree {degree} and weight {weight}. Pass best_approximation(..., {degree}, {weight})"
            f", or nothing where the degree is negative."
        )
    x = best.points
    value = target(x)
    gap = ((1 - x) * (1 + x)).sqrt() ** weight * (value - best.polynomial(x))
    slack = 1e-9 * best.error + 1e-12 * float(value.abs().max())
    size = gap.abs()
    if not best.lower - slack <= float(size.min()) <= float(size.max()) <= best.error + slack:
        raise ValueError(
            f"best is not the best approximation of this function's derivative: at its points the "
            f"errors are from {float(size.min()):g} to {float(size.max()):g}, not from "
            f"{best.lower:g} to {best.error:g}. Approximate the derivative, not the function."
        )
    return best.error


class _Angular:
    """(1 - x^2) f'' - x f', the second derivative of f(cos t) in t, from f'."""

    def __init__(self, slope: Any, degree: int = 100) -> None:
        self.slope, self.curvature, self.degree = slope, _derivative(slope), degree
        self.breakpoints = getattr(slope, "breakpoints", [0.0])

    def __call__(self, x: Tensor) -> Tensor:
        # f'' may be infinite at the ends where (1 - x^2) f'' is not: look next to them.
        x = x.clamp(-1 + 2.0**-53, 1 - 2.0**-53)
        value: Tensor = (1 - x) * (1 + x) * self.curvature(x) - x * self.slope(x)
        return value
