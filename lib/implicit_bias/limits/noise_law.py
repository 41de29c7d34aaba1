r"""How the squared norm of weights grows under repeated Gaussian noise, if nothing is undone.

For a layer of p weights with squared norm T, and noise of standard deviation :math:`\sigma`,

.. math:: T' = T + 2\sigma\lVert w\rVert g + \sigma^2\chi^2_{p}
          \quad(g\text{ normal, one of the }\chi^2\text{'s parts}).

**Fixed** :math:`\sigma`: k kicks are one of :math:`\sqrt k\sigma`, hence
:math:`E\,T_k = T_0 + k\sigma^2p` and
:math:`\mathrm{Var}\,T_k = 4k\sigma^2T_0 + 2k^2\sigma^4p`. **Relative**,
:math:`\sigma^2 = \epsilon^2T/p`: the factors :math:`F = T'/T` are independent with mean
:math:`1 + \epsilon^2` and variance :math:`v = 4\epsilon^2/p + 2\epsilon^4/p`, so that
:math:`E\,T_k = (1+\epsilon^2)^k\,T_0` and
:math:`E\,T_k^2 = ((1+\epsilon^2)^2 + v)^k\,T_0^2`.

Descent at a minimum of the square loss takes back what J sees: with :math:`N = p - \mathrm{rank}J`
directions left, p becomes N in the gain of a kick, to first order in the noise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from implicit_bias.arrays import as_count, as_real

__all__ = ["NoiseLaw", "noise_law"]


@dataclass(frozen=True, eq=False)
class NoiseLaw:
    """Squared norms to be expected after 0, 1, 2, ... kicks.

    Attributes
    ----------
    mean : Tensor, shape (times + 1,), float64
    deviation : Tensor, shape (times + 1,)
        Standard deviation of one run.

    Examples
    --------
    >>> noise_law([[3.0, 4.0]], "relative", 0.5, 2).mean
    tensor([25.0000, 31.2500, 39.0625], dtype=torch.float64)
    """

    mean: Tensor
    deviation: Tensor


def noise_law(
    weights: Sequence[Any],
    noise: Literal["relative", "fixed"],
    size: float,
    times: int,
    free: float = 1.0,
) -> NoiseLaw:
    r"""Returns the squared norms that repeated noise makes, on average, and their scatter.

    Parameters
    ----------
    weights : sequence of arrays
        Each with noise of its own size: the layers of a network, or one vector ``[theta]``.
    noise : str
        "relative" or "fixed".
    size : float
        Standard deviation over the root mean square of the weights: of the current ones, or of
        those given.
    times : int
        Number of kicks.
    free : float
        The share of directions, N/p, in which noise stays.

    Raises
    ------
    TypeError, ValueError
        If an argument is out of range.

    Notes
    -----
    Source: P18, section 4.1 and Figure 3, with E-P18-random-walk and E-P18-relative-noise. Exact
    for ``free = 1``. Below, the mean holds to first order, and the deviation takes the weights to
    lie in the free directions, which it can only overrate.

    Examples
    --------
    >>> law = noise_law([[3.0, 4.0]], "fixed", 0.5, 2)
    >>> law.mean, law.deviation[0]
    (tensor([25.0000, 31.2500, 37.5000], dtype=torch.float64), tensor(0., dtype=torch.float64))
    """
    if noise not in ("relative", "fixed"):
        raise ValueError(f"noise = {noise!r}; pass 'relative' or 'fixed'.")
    eps, share = float(as_real(size, "size")), float(as_real(free, "free"))
    if eps < 0:
        raise ValueError(f"size = {eps:g} is a standard deviation, and cannot be negative.")
    if not 0 <= share <= 1:
        raise ValueError(f"free = {share:g} is a share of the directions, between 0 and 1: N/p.")
    layers = [as_real(w, "weights").detach() for w in weights]
    if not layers or any(not w.numel() for w in layers):
        raise ValueError("weights are empty: pass at least one array, such as [theta].")
    k = torch.arange(as_count(times, "times") + 1, dtype=torch.float64, device=layers[0].device)
    mean, variance = torch.zeros_like(k), torch.zeros_like(k)
    for w in layers:
        p, square = w.numel(), w.square().sum()
        if noise == "fixed":
            gain = eps**2 * square / p  # sigma^2
            mean = mean + square + k * gain * share * p
            variance = variance + 4 * k * gain * square + 2 * k**2 * gain**2 * share * p
        else:
            growth, v = 1 + eps**2 * share, (4 * eps**2 + 2 * eps**4 * share) / p
            mean = mean + square * growth**k
            # growth^2k ((1 + v/growth^2)^k - 1), without cancellation
            spread = torch.expm1(k * torch.log1p(torch.tensor(v / growth**2, dtype=torch.float64)))
            variance = variance + square**2 * growth ** (2 * k) * spread.to(k.device)
    return NoiseLaw(mean, variance.sqrt())
