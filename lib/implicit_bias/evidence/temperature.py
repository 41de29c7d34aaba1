r"""The temperature at which a classifier's outputs have the least cross-entropy.

With :math:`\beta = 1/T` the mean cross-entropy of the outputs :math:`z_i / T`,

.. math:: \ell(\beta) = \frac1n\sum_i \Big(\log\sum_c e^{\beta z_{ic}} - \beta z_{iy_i}\Big),

is convex, and :math:`\ell(0) = \log C`. Dividing by T changes no answer: what the best temperature
takes off the loss was scale, and what is left was not.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from implicit_bias.arrays import as_array, as_real

__all__ = ["Temperature", "best_temperature"]


@dataclass(frozen=True)
class Temperature:
    """The best temperature, and the loss there.

    Attributes
    ----------
    value : float
        The best T; 0 or infinity if there the loss tends to its infimum.
    loss : float
        Mean cross-entropy of the outputs over T, or that infimum.
    loss_at_one : float
        Mean cross-entropy of the outputs as they are.
    status : str
        "found"; "cold" (T to 0: no wrong answer, and the loss only falls as outputs grow); "hot"
        (T to infinity: the outputs are no better than none, and the infimum is log C).
    residual : float
        Size of the derivative in 1/T over that of its two parts, the expected output and that of
        the label; recomputed, and 0 where the infimum is a limit.

    Examples
    --------
    >>> best_temperature([[2.0, 0.0], [0.0, 2.0]], [0, 1]).status
    'cold'
    """

    value: float
    loss: float
    loss_at_one: float
    status: str
    residual: float


def best_temperature(logits: Any, labels: Any) -> Temperature:
    r"""Returns the T > 0 for which the outputs divided by T have the least mean cross-entropy.

    Parameters
    ----------
    logits : array, shape (n, C)
        Outputs of a classifier, C >= 2.
    labels : array of integers, shape (n,)
        The right classes, from 0.

    Returns
    -------
    Temperature

    Raises
    ------
    TypeError, ValueError
        If shapes or labels do not fit, or an output is not finite.

    Notes
    -----
    Source: P18, Figure 3, with E-P18-temperature. A root of the derivative in 1/T, increasing
    since the loss is convex, by Brent's method. The infimum is at T = 0 exactly if no output
    exceeds that of the label; at infinity if the derivative at 1/T = 0 is not negative, that is if
    the label's output is on average at most the mean output.

    Examples
    --------
    >>> found = best_temperature([[4.0, 0.0]] * 4, [0, 0, 0, 1])  # right three times out of four
    >>> round(found.value * math.log(3), 12), found.loss < found.loss_at_one
    (4.0, True)
    """
    z = as_real(logits, "logits").detach()
    if z.ndim != 2 or z.shape[0] < 1 or z.shape[1] < 2:
        raise ValueError(
            f"logits have shape {tuple(z.shape)}; they need a row for each example and a column "
            f"for each of two classes or more."
        )
    y = as_array(labels)
    if y.is_floating_point() or y.is_complex() or y.dtype == torch.bool:
        raise TypeError(f"labels are of type {y.dtype}; a label is the number of a class.")
    y = y.to(z.device, torch.int64)
    if y.shape != (len(z),) or int(y.min()) < 0 or int(y.max()) >= z.shape[1]:
        raise ValueError(
            f"labels must be {len(z)} numbers from 0 to {z.shape[1] - 1}, one for each row of "
            f"the logits; got shape {tuple(y.shape)}, from {int(y.min())} to {int(y.max())}."
            if y.numel()
            else "labels are empty: one is needed for each row of the logits."
        )
    # Relative to the label's output: no cancellation of large outputs.
    m = z - z.gather(1, y[:, None])
    size = float(m.abs().max())
    at_one, log_c = _loss(m, 1.0), math.log(z.shape[1])
    if size == 0:
        # All outputs equal: every temperature is as good.
        return Temperature(1.0, at_one, at_one, "found", 0.0)
    if float(m.max()) <= 0:
        ties = (m == 0).sum(1).double().log().mean()
        return Temperature(0.0, float(ties), at_one, "cold", 0.0)
    if _slope(m, 0.0) >= 0:
        return Temperature(math.inf, log_c, at_one, "hot", 0.0)
    from scipy.optimize import brentq

    scaled = m / size
    high = 1.0
    # A wrong answer makes the slope positive in the end.
    while _slope(scaled, high) <= 0:
        high *= 2
    # Near zero the sum of slopes is linear: Brent's method needs no relative scale of its own.
    beta = float(brentq(lambda b: _slope(scaled, b), 0.0, high, xtol=1e-300, rtol=1e-15))
    share = torch.softmax(beta * scaled, 1)
    parts = float((share * scaled.abs()).sum(1).mean())
    residual = abs(_slope(scaled, beta)) / parts
    return Temperature(size / beta, _loss(scaled, beta), at_one, "found", residual)


def _loss(m: Tensor, beta: float) -> float:
    return float(torch.logsumexp(beta * m, 1).mean())


def _slope(m: Tensor, beta: float) -> float:
    return float((torch.softmax(beta * m, 1) * m).sum(1).mean())
