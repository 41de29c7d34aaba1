r"""The constants of the logarithmic laws of the margin flow, after Soudry et al.

On separable data :math:`w(t) = \hat w\log t + \tilde w + o(1)`. In the span of the support vectors
:math:`\tilde w` is determined by them alone, through :math:`\sum_S e^{-\langle z_i, \tilde
w\rangle}z_i = \hat w`: it minimises the convex function :math:`\sum_S e^{-\langle z_i, w\rangle} +
\langle\hat w, w\rangle`. Outside that span it is what the early flow left there. From it follow

.. math:: \angle(w(t), \hat w)\,\log t \to \gamma\,\|P_\perp\tilde w\|, \qquad
   \Bigl(\gamma - \frac{\min_i\langle z_i, w(t)\rangle}{\|w(t)\|}\Bigr)\log t \to
   \gamma\,\bigl(\gamma^2\langle\hat w, \tilde w\rangle - \min_S\langle z_i, \tilde w\rangle\bigr)

with :math:`P_\perp` the projection orthogonal to :math:`\hat w` and :math:`\gamma = 1/\|\hat w\|`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from implicit_bias.arrays import as_real
from implicit_bias.problems import Classification
from implicit_bias.records import Limit

__all__ = ["SlowLaw", "slow_law"]


@dataclass(frozen=True, eq=False)
class SlowLaw:
    r"""What separates the flow from its limit.

    Attributes
    ----------
    residual : Tensor, shape (d,)
        :math:`\tilde w`, the limit of :math:`w(t) - \hat w\log t`.
    support : Tensor, shape (n,), bool
        The support vectors: examples of margin one.
    angle : float
        Limit of the angle (radians) times log t.
    gap : float
        Limit of the gap of the margin times log t.

    Examples
    --------
    >>> from implicit_bias import Classification, max_margin
    >>> problem = Classification([[2.0, 0.0], [0.0, 1.0]], [1, 1])
    >>> slow_law(problem, max_margin(problem)).residual.round(decimals=4)
    tensor([0.6931, 0.0000], dtype=torch.float64)
    """

    residual: Tensor
    support: Tensor
    angle: float
    gap: float


def slow_law(problem: Classification, limit: Limit, point: Any = None) -> SlowLaw:
    r"""Returns the limit of :math:`w(t) - \hat w\log t` and the constants that follow from it.

    Parameters
    ----------
    problem : Classification
        X of shape (n, d), y of shape (n,).
    limit : Limit
        Its ``max_margin`` in the Euclidean norm.
    point : array, shape (d,), optional
        A late point of the flow: its part outside the span of the support vectors is the part of
        :math:`\tilde w` that depends on the start and the early flow. Default zero.

    Raises
    ------
    ValueError
        If a support vector can only have the multiplier zero: it is left behind like
        :math:`\log\log t`, there is no :math:`\tilde w`, and the angle falls like
        :math:`\log s/s` with :math:`s = \log t`.

    Notes
    -----
    Source: Soudry et al. (2018), Theorems 3, 4 and 9, for the exponential loss; the logistic
    loss has the same constants. The gap's constant is ours.

    Examples
    --------
    >>> from implicit_bias import Classification, max_margin
    >>> problem = Classification([[2.0, 0.0], [0.0, 1.0]], [1, 1])
    >>> law = slow_law(problem, max_margin(problem))
    >>> round(law.angle, 4), round(law.gap, 4)
    (0.5545, 0.248)
    """
    Z, w_hat, alpha = problem.Z, limit.x, limit.dual
    margins = Z @ w_hat
    # The examples whose margins are one up to what the limit itself is off by.
    support = margins <= 1 + max(1e-9, 1e3 * limit.residual)
    S = Z[support]
    basis, sizes, _ = torch.linalg.svd(S.T, full_matrices=False)
    basis = basis[:, sizes > max(S.shape) * 1e-13 * sizes[0]]
    A, b = S @ basis, basis.T @ w_hat
    start = torch.log(alpha[support].clamp(min=1e-3 * float(alpha.max())))
    v = torch.linalg.lstsq(A, -start[:, None], driver="gelsd").solution[:, 0]
    v = _newton(A, b, v)
    residual = basis @ v
    if point is not None:
        late = as_real(point, "point").to(Z.device)
        if late.shape != w_hat.shape:
            raise ValueError(
                f"point has shape {tuple(late.shape)} and the limit {tuple(w_hat.shape)}: it has "
                f"to be a point of the same weights, such as path.x."
            )
        residual = residual + late - basis @ (basis.T @ late)
    gamma = 1 / float(w_hat.norm())
    along = gamma * w_hat
    across = residual - (along @ residual) * along
    least = float((S @ residual).min())
    return SlowLaw(
        residual=residual,
        support=support,
        angle=gamma * float(across.norm()),
        gap=gamma * (gamma**2 * float(w_hat @ residual) - least),
    )


def _newton(A: Tensor, b: Tensor, v: Tensor) -> Tensor:
    """The minimiser of sum exp(-A v) + b.v; A has full column rank."""

    def value(v: Tensor) -> float:
        return float(torch.exp(-A @ v).sum() + b @ v)

    for _ in range(200):
        e = torch.exp(-A @ v)
        gradient = b - A.T @ e
        step = torch.linalg.solve((A.T * e) @ A, -gradient)
        size = float((A @ step).abs().max())
        if size <= 1e-13:
            break
        scale, fall = min(1.0, 2.0 / size), float(gradient @ step)
        while scale > 1e-10 and value(v + scale * step) > value(v) + 1e-4 * scale * fall + 1e-15:
            scale /= 2
        v = v + scale * step
        if size <= 1e-9:
            break
    margins = A @ v
    # A weight that runs away is left at the level of rounding.
    if float(margins.max() - margins.min()) < 27:
        return v
    raise ValueError(
        "A support vector can only have the multiplier zero, so its margin runs away from the "
        "others like log log t and w(t) - w_hat log t has no limit. The direction still converges, "
        "with an angle like log(s)/s, s = log t; move the example a little for the usual law."
    )
