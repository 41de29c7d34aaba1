r"""How far a loss is from quadratic along a line.

At a rest point, and for a unit vector v, the remainder of the second order is

.. math:: R(s) = L(w_* + sv) - L(w_*) - \tfrac{s^2}{2}\,v^\top Hv = \tfrac{s^3}{6}L'''[v,v,v]
          + O(s^4) .

At a zero of :math:`L = \tfrac12\|f - y\|^2` put :math:`a = Jv`, :math:`b = f''[v,v]`,
:math:`c = f'''[v,v,v]`: the residuals are :math:`sa + \tfrac{s^2}{2}b + \tfrac{s^3}{6}c + \dots`,
and :math:`v^\top Hv = \|a\|^2`, so that

.. math:: R(s) = \tfrac{s^3}{2}\langle a, b\rangle
          + s^4\big(\tfrac18\|b\|^2 + \tfrac16\langle a, c\rangle\big) + O(s^5) .

Along a generic direction R is of third order: slope 3 in a log-log plot. Along a null direction
of J, :math:`a = 0`, it is :math:`\tfrac{s^4}{8}\|b\|^2`, of fourth order, and never negative;
where b = 0 too it is smaller still, and it is zero along a straight line of zeros of the loss.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from implicit_bias.arrays import as_real
from implicit_bias.dynamics.linearisation import expand

__all__ = ["quadratic_remainder"]


def quadratic_remainder(
    loss: Callable[[Tensor], Tensor], at: Any, direction: Any, sizes: Any
) -> Tensor:
    r"""Returns :math:`L(w_* + sv) - L(w_*) - \tfrac12 s^2 v^\top Hv` for each size s.

    Parameters
    ----------
    loss : callable
        From a vector (p,) to a tensor with one number; twice differentiable by torch.func.
    at : array, shape (p,)
        :math:`w_*`, a rest point; p up to 5,000.
    direction : array, shape (p,)
        Scaled to the unit vector v.
    sizes : array, shape (k,)
        Not zero; negative ones go the other way.

    Returns
    -------
    Tensor, shape (k,), float64
        With their signs. Rounding of the losses, about 1e-16 of :math:`L(w_*) + \tfrac12 s^2
        v^\top Hv`, remains in them: it drowns an s too small.

    Raises
    ------
    TypeError, ValueError
        If the gradient at ``at`` is above 1e-8 times the largest eigenvalue of the Hessian times
        the larger of ``|at|`` and the largest size, the direction is zero or of the wrong
        length, a size is zero, or the loss is not finite at one of the points.

    Notes
    -----
    Source: P18, Proposition 1 and (5), which lacks the half and squares the eigenvalues. What is
    left of the gradient at ``at``, :math:`s\langle\nabla L, v\rangle`, is taken off too: at a
    rest point known to rounding it would hide the fourth order.

    Examples
    --------
    >>> loss = lambda w: 0.5 * (w[0] + w[1]**2).square()
    >>> quadratic_remainder(loss, [0.0, 0.0], [0.0, 1.0], [0.1, 0.2])  # s^4 / 2
    tensor([5.0000e-05, 8.0000e-04], dtype=torch.float64)
    """
    rest, here, gradient, H = expand(loss, at)
    v, s = as_real(direction, "direction").to(rest), as_real(sizes, "sizes").to(rest).reshape(-1)
    if v.shape != rest.shape or not bool(v.any()):
        raise ValueError(
            f"direction must be a vector of {rest.numel()} numbers, one a parameter, not all "
            f"zero; got shape {tuple(v.shape)}."
        )
    if not s.numel() or not bool((s != 0).all()):
        raise ValueError(
            f"sizes must be numbers other than zero, where every remainder is zero; got "
            f"{s.tolist()[:6]}."
        )
    v = v / v.abs().max()
    v = v / v.norm()
    top = float(torch.linalg.eigvalsh(H).abs().max())
    allowed = 1e-8 * top * max(float(rest.norm()), float(s.abs().max()))
    slope = float(gradient.norm())
    if slope > allowed:
        raise ValueError(
            f"The gradient at this point is {slope:.3g}, more than {allowed:.3g}: it is no rest "
            f"point, and the loss has a linear part there. Pass the point that rest_point or "
            f"reach_zero ends at."
        )
    with torch.no_grad():
        ahead = torch.stack([loss(rest + size * v).reshape(()) for size in s]).to(rest)
    if not bool(torch.isfinite(ahead).all()):
        raise ValueError(
            f"The loss is not finite at all of the sizes {s.tolist()[:6]}. Pass smaller ones."
        )
    remainder: Tensor = ahead - here - s * (gradient @ v) - s.square() / 2 * (v @ H @ v)
    return remainder
