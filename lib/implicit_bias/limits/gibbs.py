r"""Where Langevin noise ends: the Gibbs mass of two wells, by integration, not by simulation.

For :class:`TwoWells` the integral over y is known for each x, and what is left is one integral
for each well, taken in logarithms so that a thousand dimensions do not underflow:

.. math:: Z_\pm = \int_{\pm x > 0} e^{-V(x)/T}\,\Big(\int e^{-g_x(y)/T}\,dy\Big)\,dx .

As :math:`T \to 0`, with stiffnesses :math:`k_i` in D - 1 quadratic directions,

.. math:: \log\frac{Z_r}{Z_\ell} \to -\frac{\tau}{T} + \frac12\sum_i\log\frac{k_{\ell,i}}{k_{r,i}} :

depth first, then volume. A degenerate well, :math:`k|y|^4/4`, has the volume
:math:`\propto T^{(D-1)/4}` in place of :math:`T^{(D-1)/2}` and beats every quadratic one.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from implicit_bias.arrays import as_count, as_real
from implicit_bias.models.wells import TwoWells, noise_across

__all__ = ["Gibbs", "crossover_temperature", "gibbs_shares", "robust_value"]


@dataclass(frozen=True, eq=False)
class Gibbs:
    """The stationary shares of two wells.

    Attributes
    ----------
    shares : Tensor, shape (2,)
        Of the left well and of the right one.
    log_odds : float
        Logarithm of right over left, also where a share underflows.
    laplace : float
        What log_odds tends to as the temperature falls: depth and volume at the minima.

    Examples
    --------
    >>> found = gibbs_shares(TwoWells(4.0, 1.0, dimension=1000), 1e-4)
    >>> round(found.log_odds, 2), round(found.laplace, 2)
    (692.45, 692.45)
    """

    shares: Tensor
    log_odds: float
    laplace: float


def gibbs_shares(
    wells: TwoWells, temperature: float, noise: tuple[float, float] | None = None
) -> Gibbs:
    r"""Returns the share of the Gibbs law :math:`e^{-U/T}/Z` in each of two wells.

    Parameters
    ----------
    wells : TwoWells
    temperature : float
        T.
    noise : tuple of two floats, optional
        For the noise ``wells.noise(left, right)``: S multiplies its variance in the x direction
        and is 1 wherever the stiffness changes. The stationary law of
        :math:`dx = -U_x\,dt + \sqrt{2TS(x)}\,dW` (Itô) is then

        .. math:: \frac{1}{S(x)}\exp\Big(-\frac1T\int_0^x\frac{V'(t)}{S(t)}\,dt\Big)
                  \,e^{-g_x(y)/T} :

        for it the probability current vanishes. To leave a well costs its depth over S: at low
        temperature the *quiet* well wins, flat or not.

    Returns
    -------
    Gibbs

    Raises
    ------
    TypeError, ValueError
        If the potential is not TwoWells, or the temperature or a noise is not positive.

    Notes
    -----
    Source: P18, section 6.3 and Conjecture 1 ("SGDL selects degenerate minimizers and, among
    those, the ones corresponding to larger flat regions"), which gives no such computation.

    Examples
    --------
    >>> gibbs_shares(TwoWells(4.0, 1.0), 0.01).shares  # volumes 1 : 2
    tensor([0.3333, 0.6667], dtype=torch.float64)
    >>> gibbs_shares(TwoWells(4.0, 1.0), 0.05, noise=(1.0, 2.0)).shares[0] > 0.95
    tensor(True)
    """
    if not isinstance(wells, TwoWells):
        raise TypeError(
            f"wells is a {type(wells).__name__}; the integrals are known for TwoWells only."
        )
    T = float(as_real(temperature, "temperature"))
    if not T > 0:
        raise ValueError(f"temperature = {T:g} must be positive: at 0 there is no noise.")
    ends = (1.0, 1.0)
    if noise is not None:
        ends = tuple(as_real(noise, "noise").tolist())
        if len(ends) != 2 or min(ends) <= 0:
            raise ValueError(f"noise = {noise!r} must be two positive numbers: left, right.")
    left, right = (_log_mass(wells, T, side, ends) for side in (-1, 1))
    log_odds = right - left
    share = 1 / (1 + math.exp(-abs(log_odds)))
    small = share * math.exp(-abs(log_odds))  # 1 - share would have no digits left
    both = torch.tensor([small, share] if log_odds > 0 else [share, small], dtype=torch.float64)
    at = wells.minima[:, 0]
    depth = _effort(wells, at, ends)
    volume = wells.log_volume(at, T) - 0.5 * torch.log(torch.tensor(ends, dtype=torch.float64))
    laplace = float(-(depth[1] - depth[0]) / T + volume[1] - volume[0])
    return Gibbs(both, log_odds, laplace)


_NODES, _WEIGHTS = (torch.from_numpy(a) for a in np.polynomial.legendre.leggauss(40))


def _effort(wells: TwoWells, x: Tensor, ends: tuple[float, float]) -> Tensor:
    """The integral of V'/S from 0, by Gauss's rule between the places where S has kinks."""
    if ends == (1.0, 1.0):
        return wells.line(x)[0] - wells.line(torch.zeros_like(x))[0]
    total = torch.zeros_like(x)
    for low, high in ((0.0, 0.5), (0.5, 0.75), (0.75, math.inf)):
        a, b = low * torch.ones_like(x), x.abs().clamp(low, high)
        t = torch.sign(x)[..., None] * (a[..., None] + (b - a)[..., None] * (_NODES + 1) / 2)
        slope = wells.line(t)[1] / noise_across(t, *ends)
        total = total + torch.sign(x) * (b - a) / 2 * (slope * _WEIGHTS).sum(-1)
    return total


def _log_mass(wells: TwoWells, T: float, side: int, ends: tuple[float, float]) -> float:
    def log_density(r: Tensor) -> Tensor:
        x = side * r
        S = noise_across(x, *ends)
        return -_effort(wells, x, ends) / T + wells.log_volume(x, T) - torch.log(S)

    # Beyond this the density is below e^-800 of the one at the minimum.
    far = math.sqrt(1 + math.sqrt(800 * T * max(1.0, *ends) / wells.height))
    low, high = 0.0, max(far, 1.5)
    grid = torch.cat([torch.linspace(low, high, 2001, dtype=torch.float64), torch.ones(1)])
    for _ in range(30):
        grid = torch.sort(grid.to(torch.float64))[0]
        values = log_density(grid)
        kept = torch.nonzero(values > values.max() - 60).reshape(-1)
        a, b = max(0, int(kept[0]) - 1), min(len(grid) - 1, int(kept[-1]) + 1)
        low, high = float(grid[a]), float(grid[b])
        if b - a > 200:
            break
        grid = torch.linspace(low, high, 2001, dtype=torch.float64)
    top = float(values.max())
    kinks = [k for k in (0.5, 0.75) if low < k < high]
    cuts = np.unique(np.concatenate([np.linspace(low, high, 41), kinks]))
    begin, end = (torch.from_numpy(c)[:, None] for c in (cuts[:-1], cuts[1:]))
    points = begin + (end - begin) * (_NODES + 1) / 2
    density = torch.exp(log_density(points.reshape(-1)) - top).reshape(points.shape)
    return top + math.log(float((density * _WEIGHTS * (end - begin) / 2).sum()))


def crossover_temperature(wells: TwoWells) -> float:
    r"""Returns the temperature at which the deeper and the flatter well share the time equally.

    Below it the deeper one wins, above it the one of larger volume. For quadratic wells it is
    near :math:`2\tau/\sum_i\log(k_{\ell,i}/k_{r,i})`, hence of order 1/D.

    Raises
    ------
    ValueError
        If the deeper well is the flatter one too, or there is no such temperature below the
        barrier's height.

    Examples
    --------
    >>> wells = TwoWells(4.0, 1.0, dimension=101, tilt=0.1)
    >>> round(crossover_temperature(wells), 5), round(2 * 0.1 / (100 * math.log(4)), 5)
    (0.00144, 0.00144)
    """
    from scipy.optimize import brentq

    grid = np.geomspace(1e-6, 1.0, 61) * wells.height
    sign = math.copysign(1.0, wells.tilt)
    odds = [sign * gibbs_shares(wells, float(t)).log_odds for t in grid]
    above = [i for i, o in enumerate(odds) if o > 0]
    if wells.tilt == 0 or not above or above[0] == 0:
        raise ValueError(
            "No temperature between 1e-6 and 1 times the height of the barrier makes the wells "
            "equal: their depths are equal, or the deeper one is the flatter one too."
        )
    i = above[0]
    return float(
        brentq(lambda t: sign * gibbs_shares(wells, t).log_odds, grid[i - 1], grid[i], xtol=1e-15)
    )


def robust_value(
    potential: Callable[[Tensor], Tensor], point: Any, radius: float, starts: int = 32
) -> float:
    r"""Returns the largest value of a potential within a distance of a point.

    The objective of robust optimisation over perturbed weights,
    :math:`\max_{\|\delta\| \le \rho} U(x + \delta)`, with one perturbation for all examples.

    Parameters
    ----------
    potential : callable
        From points (m, D) to values (m,), differentiable by torch.
    point : array, shape (D,)
    radius : float
        :math:`\rho`.
    starts : int
        Number of random starts of the ascent, besides both ends of each eigenvector of the
        Hessian, which make it exact for a quadratic at its minimum.

    Raises
    ------
    TypeError, ValueError
        If an argument is out of range, or a value is not finite.

    Notes
    -----
    Source: P18, equation (20); there the perturbation of each example is relative to the weights.
    The largest value *found*: by steps :math:`\delta \leftarrow \rho\,g/|g|`, which never go down
    for a convex U, and projected ascent with halved steps otherwise.

    Examples
    --------
    >>> bowl = lambda k: lambda x: (torch.tensor(k) * x.square()).sum(-1) / 2
    >>> [round(robust_value(bowl(k), [0.0, 0.0], 0.1), 6) for k in ([1.0, 1.0], [0.1, 4.0])]
    [0.005, 0.02]
    """
    centre, rho = as_real(point, "point"), float(as_real(radius, "radius"))
    many = as_count(starts, "starts", least=0)
    if centre.ndim != 1 or not centre.numel() or rho < 0:
        raise ValueError(
            f"point has shape {tuple(centre.shape)} and radius is {rho:g}: pass one point (D,) "
            f"and a distance that is not negative."
        )
    H = torch.autograd.functional.hessian(lambda p: potential(p[None])[0], centre)
    axes = torch.linalg.eigh(H)[1].T
    rng = torch.Generator().manual_seed(0)
    extra = torch.randn(many, len(centre), generator=rng, dtype=torch.float64)
    extra = extra / extra.norm(dim=1, keepdim=True)
    delta = rho * torch.cat([torch.zeros_like(axes[:1]), axes, -axes, extra])
    length = torch.full((len(delta), 1), math.inf, dtype=torch.float64)
    value = potential(centre + delta)
    for _ in range(300):
        shifted = (centre + delta).requires_grad_()
        (g,) = torch.autograd.grad(potential(shifted).sum(), shifted)
        unit = g / g.norm(dim=1, keepdim=True).clamp_min(1e-300)
        free = torch.isinf(length)
        aim = torch.where(free, rho * unit, delta + torch.where(free, rho, length) * unit)
        aim = aim * (rho / aim.norm(dim=1, keepdim=True).clamp_min(rho)) if rho else aim
        new = potential(centre + aim)
        better = new > value
        delta = torch.where(better[:, None], aim, delta)
        value = torch.where(better, new, value)
        length = torch.where(better[:, None], length, torch.where(free, rho, length) / 2)
        if not bool((length > 1e-9 * rho).any()):
            break
    best = float(value.detach().max())
    if not math.isfinite(best):
        raise ValueError("The potential is not finite within that distance. Take a shorter one.")
    return best
