r"""The ReLU smoothed by a spline: once, twice, ... r times differentiable.

The convolution of :math:`\max(0, z)` with the B-spline density of order r on
:math:`[-\delta, \delta]` (the law of a sum of r uniform variables),

.. math:: s(z) = \sum_{j=0}^{r} (-1)^j\binom{r}{j}\frac{(z - t_j)_+^{r+1}}{(r+1)!\,h^r},
          \qquad h = \frac{2\delta}{r},\quad t_j = -\delta + jh,

is 0 left of :math:`-\delta`, z right of :math:`\delta`, convex, and in :math:`C^r` with jumps of
the derivative r + 1 at the :math:`t_j`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from implicit_bias.arrays import as_count, as_real

__all__ = ["SmoothedReLU", "smoothed_relu"]


@dataclass(frozen=True)
class SmoothedReLU:
    r"""A ReLU convolved with a B-spline, or a derivative of one; a function of a tensor.

    Attributes
    ----------
    delta : float
        :math:`\delta`: the ReLU is changed where :math:`|z| < \delta` only.
    order : int
        r, the number of continuous derivatives.
    times : int
        How often it has been differentiated; 0 for the function itself.

    Examples
    --------
    >>> s = SmoothedReLU(0.5, 1)
    >>> s(torch.tensor([-1.0, 0.0, 1.0])), s.derivative()(torch.tensor([0.0, 0.25]))
    (tensor([0.0000, 0.1250, 1.0000]), tensor([0.5000, 0.7500]))
    """

    delta: float
    order: int = 1
    times: int = 0

    def __post_init__(self) -> None:
        delta = float(as_real(self.delta, "delta"))
        if not delta > 0:
            raise ValueError(
                f"delta = {delta:g} must be positive; without smoothing take torch.relu, which has "
                f"no continuous derivative."
            )
        if as_count(self.order, "order") > 8:
            raise ValueError(
                f"order = {self.order} is above 8, where the sum of powers loses its digits."
            )
        if as_count(self.times, "times", least=0) > self.order + 1:
            raise ValueError(
                f"A spline of order {self.order} has {self.order + 1} derivatives, the last one "
                f"with jumps; {self.times} are asked for."
            )
        object.__setattr__(self, "delta", delta)

    @property
    def breakpoints(self) -> Tensor:
        """The :math:`t_j`, shape (r + 1,): between them it is a polynomial."""
        return torch.linspace(-self.delta, self.delta, self.order + 1, dtype=torch.float64)

    def derivative(self) -> SmoothedReLU:
        """Returns its derivative, exactly."""
        return SmoothedReLU(self.delta, self.order, self.times + 1)

    def __call__(self, z: Tensor) -> Tensor:
        """Returns the values at z, of any shape, in the precision of z; torch can differentiate."""
        # Its reflection has the same values less the straight part, and no cancellation.
        r, power = self.order, self.order + 1 - self.times
        mirrored = -z.abs()
        h = 2 * self.delta / r
        total = torch.zeros_like(z)
        for j, knot in enumerate(self.breakpoints.tolist()):
            if knot <= 0:
                from_knot = mirrored - knot
                piece = from_knot.clamp_min(0) ** power if power else (from_knot > 0).to(z.dtype)
                total = total + (-1) ** j * math.comb(r, j) * piece
        total = total / (math.factorial(power) * h**r)
        straight = (z, torch.ones_like(z))[self.times] if self.times < 2 else torch.zeros_like(z)
        return torch.where(z > 0, straight + (-1) ** self.times * total, total)


def smoothed_relu(delta: float, order: int = 1) -> SmoothedReLU:
    r"""Returns the ReLU convolved with a B-spline, with ``order`` continuous derivatives.

    Parameters
    ----------
    delta : float
        Half the width of the smoothing: outside :math:`|z| < \delta` it is the ReLU. At 0 it is
        :math:`\delta/4` for order 1, less for higher ones.
    order : int
        1 (two parabolas blended, Huber's way) to 8.

    Raises
    ------
    TypeError, ValueError
        If delta is not positive, or the order not a whole number from 1 to 8.

    Notes
    -----
    Source: P18, after Corollary 2, "a smoothed version of the relu function", not specified there.

    Examples
    --------
    >>> float(smoothed_relu(0.4)(torch.tensor(0.0)))
    0.10000...
    """
    return SmoothedReLU(delta, order)
