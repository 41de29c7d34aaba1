r"""Square-loss dynamics in closed form, by singular value decomposition.

In the right singular basis of X the coordinates of :math:`w - w_0` move independently. With s a
singular value and :math:`\eta` the step, the distance left in its coordinate after t steps is
:math:`(1-\eta s^2)^t` of the first one, and :math:`e^{-s^2 t}` along the flow; coordinates in the
null space never move. A quarter of a million steps cost one decomposition.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from implicit_bias.arrays import as_array, as_count, as_real
from implicit_bias.problems import Regression, as_regression, as_start
from implicit_bias.records import Path, StepTooLarge

__all__ = ["exact_descent", "gradient_flow", "perturbed_descent"]


def _spectrum(problem: Regression) -> tuple[Tensor, Tensor, Tensor]:
    """U (n, r), s (r,), V (d, r) of the part of X above its own noise."""
    U, s, Vh = torch.linalg.svd(problem.X, full_matrices=False)
    floor = max(problem.X.shape) * problem.precision * float(s[0])
    kept = s > floor
    return U[:, kept], s[kept], Vh[kept].T


def _losses(problem: Regression, points: Tensor) -> Tensor:
    return (points @ problem.X.T - problem.y).square().sum(-1) / 2


def gradient_flow(problem: Regression, times: Any, start: Any = None) -> Path:
    r"""Returns the gradient flow :math:`\dot w = -X^\top(Xw-y)` at the given times, exactly.

    Parameters
    ----------
    problem : Regression
        X of shape (n, d); square loss :math:`\tfrac12\|Xw-y\|^2`.
    times : array, shape (k,)
        Non-negative and increasing; ``math.inf`` is allowed.
    start : array, shape (d,), optional
        Default zero.

    Returns
    -------
    Path
        ``points`` (k, d), float64; ``stopped`` is "exact".

    Raises
    ------
    TypeError, ValueError
        If the problem is no Regression, a time is negative or NaN, or they do not increase.

    Notes
    -----
    Source: the continuous form of P18, section 6.2.1; filter :math:`1-e^{-s^2t}` (M24, wide
    networks, uses the same). Singular values below max(n, d) times the input's precision count
    as zero: otherwise rounding noise would be fitted at infinite time.

    Examples
    --------
    >>> import math
    >>> gradient_flow(Regression([[1.0, 0.0]], [1.0]), [0.0, math.log(2), math.inf]).points
    tensor([[0.0000, 0.0000],
            [0.5000, 0.0000],
            [1.0000, 0.0000]], dtype=torch.float64)
    """
    problem = as_regression(problem, "gradient_flow")
    t = as_real(times, "times", finite=False).to(problem.X.device).reshape(-1)
    if t.numel() == 0 or not bool((t >= 0).all()) or not bool((t[1:] >= t[:-1]).all()):
        raise ValueError(
            "times must be non-negative and increasing: the flow is recorded as it passes. "
            f"Got {t.tolist()[:6]}."
        )
    w0 = as_start(problem, start)
    U, s, V = _spectrum(problem)
    target = (U.T @ (problem.y - problem.X @ w0)) / s
    gained = -torch.expm1(-t[:, None] * s**2)
    points = w0 + (gained * target) @ V.T
    return Path(times=t, points=points, losses=_losses(problem, points), stopped="exact")


def _left(s: Tensor, eta: float, steps: Tensor) -> Tensor:
    """(1 - eta s^2)^t for every t in steps and s, shape (k, r), to full relative accuracy."""
    rate = -eta * s**2
    size = torch.where(rate > -1, torch.log1p(rate), torch.log((1 + rate).abs()))
    # t * log 0 with t = 0 would be NaN: zero steps leave everything.
    power = torch.where(steps[:, None] == 0, torch.zeros_like(size), steps[:, None] * size)
    odd = (steps[:, None] % 2 == 1) & (rate < -1)
    return torch.where(odd, -power.exp(), power.exp())


def _gained(s: Tensor, eta: float, steps: Tensor) -> Tensor:
    """1 - (1 - eta s^2)^t, without cancellation where little has been gained."""
    rate = -eta * s**2
    slow = -torch.expm1(steps[:, None] * torch.log1p(rate.clamp(min=-0.5)))
    return torch.where(rate >= -0.5, slow, 1 - _left(s, eta, steps))


def _step(s: Tensor, step: float | None) -> float:
    if s.numel() == 0:
        raise ValueError(
            "X is zero, so the gradient is zero everywhere and descent stays where it starts. "
            "Check how the features were made."
        )
    beta = float(s[0]) ** 2
    if step is None:
        return 1 / beta
    if not step > 0:
        raise ValueError(f"step = {step} is not a positive number. Pass one, or None for 1/beta.")
    if step >= 2 / beta:
        raise StepTooLarge(
            f"step = {step:g} is not below 2/sigma_max^2 = {2 / beta:g}: gradient "
            f"descent on the square loss diverges there. Pass a smaller step, or None."
        )
    return step


def exact_descent(
    problem: Regression, steps: Any, step: float | None = None, start: Any = None
) -> Path:
    r"""Returns the iterates of gradient descent on the square loss at the given steps, exactly.

    Parameters
    ----------
    problem : Regression
        X of shape (n, d).
    steps : array of int, shape (k,)
        Non-negative and increasing.
    step : float, optional
        :math:`\eta`; default :math:`1/\sigma_{\max}^2`, as in ``gradient_descent``.
    start : array, shape (d,), optional
        Default zero.

    Returns
    -------
    Path
        ``points`` (k, d): what ``gradient_descent`` computes after so many steps, up to rounding.

    Raises
    ------
    StepTooLarge
        If the step is not below 2/sigma_max^2.
    TypeError, ValueError
        If the problem is no Regression, the steps are not non-negative integers that increase,
        the step is not positive, or X is zero.

    Notes
    -----
    Source: P18, section 6.2.1, with its step divided by n (its loss is a mean).

    Examples
    --------
    >>> exact_descent(Regression([[1.0, 0.0]], [1.0]), [0, 1, 2], step=0.5).points[:, 0]
    tensor([0.0000, 0.5000, 0.7500], dtype=torch.float64)
    """
    problem = as_regression(problem, "exact_descent")
    t = as_real(steps, "steps", finite=False).to(problem.X.device).reshape(-1)
    whole = torch.isfinite(t) & (t >= 0) & (t == t.round())
    if t.numel() == 0 or not bool(whole.all()) or bool((t[1:] < t[:-1]).any()):
        raise ValueError(
            f"steps must be non-negative integers and increasing; got {t.tolist()[:6]}. For the "
            f"limit of many steps, or times between steps, use gradient_flow."
        )
    w0 = as_start(problem, start)
    U, s, V = _spectrum(problem)
    eta = _step(s, step)
    target = (U.T @ (problem.y - problem.X @ w0)) / s
    gained = _gained(s, eta, t)
    points = w0 + (gained * target) @ V.T
    return Path(
        times=eta * t,
        points=points,
        losses=_losses(problem, points),
        stopped="exact",
        step=eta,
        steps=int(t[-1]),
    )


def perturbed_descent(
    problem: Regression,
    steps: Sequence[int],
    every: int,
    noise: float,
    step: float | None = None,
    start: Any = None,
    repeats: int = 30,
    seed: int = 0,
    relative: bool = False,
) -> Path:
    r"""Returns gradient descent whose weights are kicked again and again, in closed form.

    After every ``every`` steps Gaussian noise is added to all d weights; between kicks the
    iteration is that of ``exact_descent``.

    Parameters
    ----------
    problem : Regression
        X of shape (n, d).
    steps : sequence of int, shape (k,)
        Steps at which to record, increasing. At a multiple of ``every`` the record is taken
        before the kick.
    every : int
        Steps between kicks; the first kick follows step ``every``.
    noise : float
        Standard deviation of the kick in each weight; 0 for none.
    step, start
        As in ``exact_descent``.
    repeats, seed : int
        Independent runs, seed of the noise (drawn on the CPU).
    relative : bool
        If true the standard deviation is ``noise`` times the root mean square of the weights.

    Returns
    -------
    Path
        ``points`` (k, repeats, d), ``losses`` (k, repeats).

    Raises
    ------
    StepTooLarge
        If the step is not below 2/sigma_max^2.
    TypeError, ValueError
        If the problem is no Regression, or an argument is out of range.

    Notes
    -----
    Source: P18, Figures 4 and 16 (every 4,000 of 250,000 steps, noise 0.6, 30 repeats).

    Examples
    --------
    >>> path = perturbed_descent(Regression([[1.0, 0.0]], [1.0]), [50, 100], 50, 0.6, step=0.5)
    >>> path.points.shape
    torch.Size([2, 30, 2])
    """
    problem = as_regression(problem, "perturbed_descent")
    wanted = as_array(steps).cpu().numpy()
    if (
        wanted.ndim != 1
        or wanted.size == 0
        or not np.issubdtype(wanted.dtype, np.integer)
        or wanted[0] < 0
        or (np.diff(wanted) <= 0).any()
    ):
        raise ValueError(
            f"steps must be a non-empty list of increasing non-negative integers: the steps at "
            f"which to record. Got {wanted.tolist()!r:.80}."
        )
    every, repeats = as_count(every, "every"), as_count(repeats, "repeats")
    if not 0 <= noise < math.inf:
        raise ValueError(
            f"noise = {noise}: the size of a kick is a finite number that is not negative. Pass 0 "
            f"for no kicks."
        )
    w0 = as_start(problem, start)
    U, s, V = _spectrum(problem)
    eta = _step(s, step)
    goal = (U.T @ problem.y) / s
    generator = torch.Generator().manual_seed(seed)
    w = w0.expand(repeats, -1).clone()
    at, points = 0, []

    def advance(w: Tensor, by: int) -> Tensor:
        count = torch.tensor([float(by)], dtype=torch.float64, device=w.device)
        gained = _gained(s, eta, count)
        return w + (gained * (goal - w @ V)) @ V.T

    for stop in wanted.tolist():
        while at < stop:
            kick = (at // every + 1) * every
            to = min(kick, stop)
            w = advance(w, to - at)
            at = to
            if at == kick and at < stop:
                w = _kick(w, noise, relative, generator)
        points.append(w)
        if at > 0 and at % every == 0:
            w = _kick(w, noise, relative, generator)
    path = torch.stack(points)
    return Path(
        times=eta * torch.from_numpy(wanted).to(w),
        points=path,
        losses=_losses(problem, path),
        stopped="exact",
        step=eta,
        steps=int(wanted[-1]),
    )


def _kick(w: Tensor, noise: float, relative: bool, generator: torch.Generator) -> Tensor:
    size = noise * w.square().mean(1, keepdim=True).sqrt() if relative else noise
    return w + size * torch.randn(w.shape, generator=generator, dtype=w.dtype).to(w.device)
