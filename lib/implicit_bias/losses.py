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
inverse         :math:`(\sqrt{m^2+4} - m)/2`             between -1 and 0           at most 1/4
==============  =======================================  =========================  ==========

The last falls like :math:`1/m`: a loss without an exponential tail, for comparison. ``Tail`` holds
the losses of a margin in logarithms, for margins at which they have underflowed.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["LOSSES", "TAILS", "Loss", "Tail", "loss_named", "tail_named"]


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


def _inverse(m: Tensor) -> Tensor:
    # (r - m) / 2 with r = sqrt(m^2 + 4) cancels for large m, its conjugate for large -m.
    r = torch.sqrt(m**2 + 4)
    return torch.where(m > 0, 2 / (r + m.clamp(min=0)), (r - m) / 2)


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
    "inverse": Loss(
        "inverse", "margin", _inverse, lambda m: -_inverse(m) / torch.sqrt(m**2 + 4), 0.25
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


@dataclass(frozen=True)
class Tail:
    """A loss of the margin in logarithms: NumPy functions of margins, entry by entry.

    Attributes
    ----------
    name : str
    log_value, log_slope : callable
        Logarithms of the loss and of minus its derivative.
    decay : callable
        Minus the derivative of ``log_slope``: how fast the slope dies out, 1 for an exponential.

    Examples
    --------
    >>> tail = tail_named("logistic")
    >>> m = np.array([1e4])
    >>> tail.log_value(m), tail.log_slope(m), tail.decay(m)
    (array([-10000.]), array([-10000.]), array([1.]))
    """

    name: str
    log_value: Callable[[NDArray[np.float64]], NDArray[np.float64]]
    log_slope: Callable[[NDArray[np.float64]], NDArray[np.float64]]
    decay: Callable[[NDArray[np.float64]], NDArray[np.float64]]

    def weights(self, m: NDArray[np.float64]) -> tuple[NDArray[np.float64], float]:
        """Returns the slopes over their sum, shape (n,), and the logarithm of that sum."""
        logs = self.log_slope(m)
        top = float(logs.max())
        p = np.exp(logs - top)
        total = float(p.sum())
        return p / total, top + math.log(total)


def _log_softplus(m: NDArray[np.float64]) -> NDArray[np.float64]:
    """log log(1 + e^-m)."""
    # Beyond 37, log(1 + x) is x to the last digit.
    return np.where(m > 37, -m, np.log(np.logaddexp(0, -np.minimum(m, 37))))


def _root(m: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.hypot(m, 2)


def _log_inverse(m: NDArray[np.float64]) -> NDArray[np.float64]:
    # Twice the loss is 4 / (r + m) or r - m: the sum of two numbers of one sign, either way.
    large = np.log(_root(m) + np.abs(m))
    return np.where(m > 0, math.log(2) - large, large - math.log(2))


TAILS: dict[str, Tail] = {
    "exponential": Tail("exponential", lambda m: -m, lambda m: -m, np.ones_like),
    "logistic": Tail(
        "logistic",
        _log_softplus,
        lambda m: -np.logaddexp(0, m),
        lambda m: np.exp(-np.logaddexp(0, -m)),
    ),
    "inverse": Tail(
        "inverse",
        _log_inverse,
        lambda m: _log_inverse(m) - np.log(_root(m)),
        # 1/r + m/r^2, whose terms cancel for large -m.
        lambda m: np.where(m > 0, _root(m) + m, 4 / (_root(m) + np.abs(m))) / _root(m) ** 2,
    ),
}


def tail_named(name: str) -> Tail:
    """Returns the loss of that name, in logarithms.

    Raises
    ------
    ValueError
        If it is not a loss of a margin.

    Examples
    --------
    >>> tail_named("exponential").log_value(np.array([3.0]))
    array([-3.])
    """
    try:
        return TAILS[name]
    except KeyError:
        raise ValueError(
            f"{name!r} is not a loss of a margin, so there is no flow to follow for ever. Choose "
            f"one of {', '.join(TAILS)}."
        ) from None
