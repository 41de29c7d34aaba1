r"""Losses of one number: the value, the slope and a bound on the curvature.

Training losses are sums over examples, :math:`L(w) = \sum_i \ell(\cdot)`. A regression loss takes
the residual :math:`r_i = \langle x_i, w\rangle - y_i`; a classification loss takes the margin
:math:`m_i = y_i \langle x_i, w\rangle`.

==============  =======================================  =========================  ==========
name            loss                                     slope                      curvature
==============  =======================================  =========================  ==========
square          :math:`r^2/2`                            :math:`r`                  1
logcosh         :math:`\log\cosh r`                      :math:`\tanh r`            at most 1
exponential     :math:`e^{-m}`                           :math:`-e^{-m}`            :math:`e^{-m}`
logistic        :math:`\log(1 + e^{-m})`                 :math:`-1/(1 + e^{m})`     at most 1/4
==============  =======================================  =========================  ==========
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

__all__ = ["LOSSES", "Loss", "loss_named"]


@dataclass(frozen=True)
class Loss:
    """A loss of one number, applied entry by entry.

    Attributes
    ----------
    name : str
    of : "residual" or "margin"
        What it is a function of.
    value, slope : callable
        Tensor to tensor of the same shape.
    curvature : float or None
        A bound on the second derivative everywhere, or None where there is none; then the
        second derivative is at most the loss itself (exponential loss).

    Examples
    --------
    >>> loss = loss_named("logistic")
    >>> loss.of, loss.curvature, loss.slope(torch.tensor([0.0]))
    ('margin', 0.25, tensor([-0.5000]))
    """

    name: str
    of: Literal["residual", "margin"]
    value: Callable[[Tensor], Tensor]
    slope: Callable[[Tensor], Tensor]
    curvature: float | None


def _logcosh(r: Tensor) -> Tensor:
    # |r| + log(1 + e^(-2|r|)) - log 2 never overflows, but cancels near 0; there cosh r is
    # 1 + 2 sinh(r/2)^2.
    size = r.abs()
    near = torch.log1p(2 * torch.sinh(size.clamp(max=1) / 2) ** 2)
    return torch.where(size < 1, near, size + torch.log1p(torch.exp(-2 * size)) - math.log(2))


LOSSES: dict[str, Loss] = {
    "square": Loss("square", "residual", lambda r: r**2 / 2, lambda r: r, 1.0),
    "logcosh": Loss("logcosh", "residual", _logcosh, torch.tanh, 1.0),
    "exponential": Loss(
        "exponential", "margin", lambda m: torch.exp(-m), lambda m: -torch.exp(-m), None
    ),
    "logistic": Loss(
        "logistic",
        "margin",
        # softplus(-m) drops the logarithm beyond 20, and with it ten digits.
        lambda m: -torch.nn.functional.logsigmoid(m),
        lambda m: -torch.sigmoid(-m),
        0.25,
    ),
}


def loss_named(name: str) -> Loss:
    """Returns the loss of that name.

    Raises
    ------
    ValueError
        If there is none of that name.

    Examples
    --------
    >>> loss_named("square").value(torch.tensor([3.0]))
    tensor([4.5000])
    """
    try:
        return LOSSES[name]
    except KeyError:
        raise ValueError(
            f"There is no loss named {name!r}: the descent would not know what to descend. "
            f"Choose one of {', '.join(LOSSES)}."
        ) from None
