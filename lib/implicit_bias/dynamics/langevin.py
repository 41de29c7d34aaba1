r"""Langevin dynamics: gradient descent in white noise, many chains at once.

.. math:: dx = -\nabla U(x)\,dt + \sqrt{2T}\,dW, \qquad
          x_{t+1} = x_t - \eta\nabla U(x_t) + \sqrt{2\eta T}\,\xi_t,\quad \xi_t \sim N(0, I).

The stationary law of the first is Gibbs', :math:`e^{-U/T}/Z`; that of the second differs by
:math:`O(\eta)`. Accepting each step with Metropolis's probability (MALA) removes the difference.
With a noise of variance :math:`2T\,S(x)` (Itô) the law is in general another.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from implicit_bias.arrays import as_count, as_real
from implicit_bias.records import StepTooLarge

__all__ = ["Langevin", "langevin"]

_BLOCKS = 20


@dataclass(frozen=True, eq=False)
class Langevin:
    r"""What chains of Langevin dynamics did.

    Attributes
    ----------
    shares : Tensor, shape (r,)
        Share of the time after the burn-in that was spent in each region, over all chains.
    errors : Tensor, shape (r,)
        Standard errors of the shares: from the scatter of the chains, which are independent, or
        for one chain from 20 batch means, which is too small if it crosses more rarely than that.
    history : Tensor, shape (20, r)
        The shares in each twentieth of that time: without a trend in a stationary run.
    crossings : float
        Mean number of changes of region per chain after the burn-in. Well below one, the shares
        remember the start, whatever their errors say.
    acceptance : float
        Share of steps accepted; 1.0 without adjustment.
    temperature : float
        The one measured, mean of :math:`\langle x - \bar x, \nabla U\rangle / D`: equal to T under
        the Gibbs law, and not for steps that are too large or noise that is not plain.
    points : Tensor, shape (chains, D)
        Where the chains ended.
    steps, burn : int
        Steps in all, and those not counted.

    Examples
    --------
    >>> run = langevin(lambda x: x.square().sum(-1) / 2, [0.0], 1.0, 0.1, 2000, chains=100)
    >>> run.shares, run.acceptance
    (tensor([1.], dtype=torch.float64), 1.0)
    """

    shares: Tensor
    errors: Tensor
    history: Tensor
    crossings: float
    acceptance: float
    temperature: float
    points: Tensor
    steps: int
    burn: int


def langevin(
    potential: Callable[[Tensor], Tensor],
    start: Any,
    temperature: float,
    step: float,
    steps: int = 10_000,
    chains: int = 1000,
    seed: int = 0,
    adjust: bool = False,
    region: Callable[[Tensor], Tensor] | None = None,
    noise: Callable[[Tensor], Tensor] | None = None,
    burn: float = 0.5,
) -> Langevin:
    r"""Returns the record of many chains of Langevin dynamics, and where they spent their time.

    Parameters
    ----------
    potential : callable
        U, from points (chains, D) to values (chains,), differentiable by torch. Its methods
        ``gradient`` and ``region`` and its attribute ``minima`` are used if it has them.
    start : array, shape (D,) or (chains, D)
        Where all the chains begin, or each.
    temperature : float
        T; 0 is gradient descent.
    step : float
        :math:`\eta`.
    steps, chains, seed : int
        Number of steps and of chains; seed of the noise.
    adjust : bool
        Metropolis-adjusted: the Gibbs law is exactly stationary.
    region : callable
        From points (chains, D) to integers (chains,) from 0; the default is ``potential.region``,
        or one region.
    noise : callable
        S, from points (chains, D) to factors of the variance of the noise, of a shape that
        broadcasts to (chains, D); plain noise is 1. Not with ``adjust``.
    burn : float
        The first part of the steps, not counted in the shares.

    Returns
    -------
    Langevin

    Raises
    ------
    TypeError, ValueError
        If an argument is out of range, or the potential does not give one number for each chain.
    StepTooLarge
        If the step is not below 2 over the largest curvature, at the first start and at
        ``potential.minima``, or a chain diverges.

    Notes
    -----
    Source: P18, equations (20) and before, "SGDL": descent plus white noise, which is the
    Euler-Maruyama step here; Metropolis adjustment after Roberts and Tweedie (1996).

    Examples
    --------
    >>> from implicit_bias.models.wells import TwoWells
    >>> wells = TwoWells(4.0, 1.0)
    >>> run = langevin(wells, [0.0, 0.0], 0.4, 0.05, 2000, chains=500, adjust=True)
    >>> bool((run.shares[1] - 0.65).abs() < 0.05)
    True
    """
    total, count = as_count(steps, "steps", least=2 * _BLOCKS), as_count(chains, "chains")
    T, eta = float(as_real(temperature, "temperature")), float(as_real(step, "step"))
    if T < 0 or not eta > 0:
        raise ValueError(
            f"temperature = {T:g} must not be negative, and step = {eta:g} must be positive."
        )
    if adjust and (noise is not None or T == 0):
        raise ValueError(
            "adjust=True corrects towards the Gibbs law of plain noise at T > 0; there is none "
            "here. Leave it out."
        )
    if not 0 <= burn < 1:
        raise ValueError(f"burn = {burn} must be a share of the steps: from 0 to below 1.")
    x = as_real(start, "start")
    if x.ndim == 1:
        x = x.expand(count, -1)
    if x.ndim != 2 or len(x) != count or not x.numel():
        raise ValueError(
            f"start has shape {tuple(x.shape)}; it must be one point (D,) or one for each of the "
            f"{count} chains, (chains, D)."
        )
    x = x.clone()
    slope = _slopes(potential, x, adjust)
    _refuse_large(potential, x, eta)
    label = region or getattr(potential, "region", None) or _everywhere
    generator = torch.Generator(x.device).manual_seed(seed)
    skipped = round(burn * total)
    tally = _Tally(label(x), skipped, total)
    acceptance, spread = 0.0, math.sqrt(2 * eta * T)
    centre = x.mean(0)
    virial, sampled = 0.0, 0
    value, gradient = slope(x)
    for t in range(total):
        if t >= skipped and t % 5 == 0:
            if sampled == 0:
                centre = x.mean(0)
            virial += float(((x - centre) * gradient).sum()) / x.numel()
            sampled += 1
        # Five times faster drawn in single precision, whose grid no statistic here can see.
        xi = torch.randn(x.shape, generator=generator, device=x.device).to(x.dtype)
        move = xi if noise is None else noise(x).sqrt() * xi
        proposal = torch.add(x, gradient, alpha=-eta).add_(move, alpha=spread)
        new_value, new_gradient = slope(proposal)
        if adjust:
            # Forward and backward moves, in units of the noise.
            back = xi - (eta / spread) * (gradient + new_gradient)
            ratio = (value - new_value) / T + 0.5 * ((xi * xi).sum(1) - (back * back).sum(1))
            draw = torch.rand(count, generator=generator, dtype=x.dtype, device=x.device)
            accepted = torch.log(draw) < ratio  # False for NaN: a wild proposal is refused
            acceptance += float(accepted.sum()) / count
            x = torch.where(accepted[:, None], proposal, x)
            value = torch.where(accepted, new_value, value)
            gradient = torch.where(accepted[:, None], new_gradient, gradient)
        else:
            x, value, gradient = proposal, new_value, new_gradient
        if t % 100 == 99 and not bool(torch.isfinite(x).all()):
            break
        if t >= skipped:
            tally.add(label(x))
    if not bool(torch.isfinite(x).all() and torch.isfinite(value).all()):
        raise StepTooLarge(
            f"step = {eta:g}: a chain diverged within {t + 1} steps; far out the potential is "
            f"too steep for it. Take a smaller step, or adjust=True."
        )
    shares, errors, history = tally.shares()
    return Langevin(
        shares,
        errors,
        history,
        tally.crossings / count,
        acceptance / total if adjust else 1.0,
        virial / sampled,
        x,
        total,
        skipped,
    )


def _everywhere(points: Tensor) -> Tensor:
    return torch.zeros(len(points), dtype=torch.long, device=points.device)


def _slopes(potential: Any, x: Tensor, adjust: bool) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
    """The potential with its gradient, its own or that of autograd."""
    own = getattr(potential, "gradient", None)

    def by_autograd(points: Tensor) -> tuple[Tensor, Tensor]:
        points = points.detach().requires_grad_()
        with torch.enable_grad():
            values = potential(points)
            (slope,) = torch.autograd.grad(values.sum(), points)
        return values.detach(), slope

    def by_formula(points: Tensor) -> tuple[Tensor, Tensor]:
        slope: Tensor = own(points)  # type: ignore[misc]
        return (potential(points) if adjust else points[:, 0]), slope  # no value is needed

    values = potential(x)
    if values.shape != (len(x),) or not bool(torch.isfinite(values).all()):
        raise ValueError(
            f"The potential gives values of shape {tuple(values.shape)} at points of shape "
            f"{tuple(x.shape)}, or not finite ones. It must give one finite number for each "
            f"chain: sum over the last axis, (chains, D) to (chains,)."
        )
    return by_autograd if own is None else by_formula


def _refuse_large(potential: Any, x: Tensor, step: float) -> None:
    D = x.shape[1]
    if D > 100:  # a Hessian would cost more than the run
        return
    points = [x[0]]
    if getattr(potential, "minima", None) is not None:
        points += list(potential.minima.to(x))
    for point in points:
        H = torch.autograd.functional.hessian(lambda p: potential(p[None])[0], point)
        top = float(torch.linalg.eigvalsh(H)[-1])
        if step * top >= 2:
            raise StepTooLarge(
                f"step = {step:g} is not below 2/{top:g} = {2 / top:g}, 2 over the curvature of "
                f"the potential at a start or a minimum: the chain would leave it, noise or none. "
                f"Take a tenth of that."
            )


class _Tally:
    """Counts the regions of each chain in each block of the steps after the burn-in."""

    def __init__(self, labels: Tensor, skipped: int, total: int) -> None:
        if labels.is_floating_point() or labels.ndim != 1:
            raise TypeError(
                f"region gives {labels.dtype} of shape {tuple(labels.shape)}; it must give one "
                f"integer for each chain."
            )
        self.chains, self.kept, self.seen = len(labels), total - skipped, 0
        self.last, self.crossings, self.regions = labels, 0, 1
        self.counts = torch.zeros(_BLOCKS, self.chains, 1, dtype=torch.float64)

    def add(self, labels: Tensor) -> None:
        self.crossings += int((labels != self.last).sum()) if self.seen else 0
        self.last = labels
        most = int(labels.max()) + 1
        if most > self.regions or bool((labels < 0).any()):
            if bool((labels < 0).any()):
                raise ValueError("region gives a negative integer; they count from 0.")
            more = torch.zeros(_BLOCKS, self.chains, most - self.regions, dtype=torch.float64)
            self.counts, self.regions = torch.cat([self.counts, more], 2), most
        block = min(_BLOCKS - 1, self.seen * _BLOCKS // self.kept)
        self.counts[block].scatter_add_(
            1, labels.cpu()[:, None], torch.ones(self.chains, 1, dtype=torch.float64)
        )
        self.seen += 1

    def shares(self) -> tuple[Tensor, Tensor, Tensor]:
        per_block = self.counts.sum(1)
        history = per_block / per_block.sum(1, keepdim=True)
        chains = self.counts.sum(0) / self.kept
        sample = chains if self.chains > 1 else history
        errors = sample.std(0) / math.sqrt(len(sample))
        return chains.mean(0), errors, history
