r"""Gradient descent and stochastic gradient descent on linear models, step by step.

Steps are derived, never tuned. A convex L whose Hessian is at most :math:`\beta` decreases at
every step :math:`\eta < 2/\beta`; the default is :math:`1/\beta`, with :math:`\beta =
c\,\sigma_{\max}(X)^2` for a loss whose curvature is at most c. The exponential loss has no such
bound, but its Hessian is at most :math:`\max_i\|x_i\|^2 L(w)`, and L only falls from where it
started. A single-example step is safe below :math:`2/\max_i \|x_i\|^2` for the square loss: then
it is a contraction, whichever example is drawn.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from implicit_bias.arrays import as_count
from implicit_bias.losses import Loss, loss_named
from implicit_bias.problems import Classification, Regression, as_start
from implicit_bias.records import Path, StepTooLarge

__all__ = ["gradient_descent", "stochastic_gradient_descent"]

Problem = Regression | Classification


def _loss_for(problem: Problem, name: str) -> Loss:
    loss = loss_named(name)
    if loss.of == "margin" and not isinstance(problem, Classification):
        raise TypeError(
            f"The {name} loss is a function of the margin y <x, w> and needs labels; this is a "
            f"Regression. Build a Classification(X, y), or choose the square or logcosh loss."
        )
    if problem.y.ndim != 1:
        raise ValueError(
            f"Descent on a linear model needs one output; y has shape {tuple(problem.y.shape)}. "
            f"Train one column of y at a time."
        )
    return loss


def _arguments(loss: Loss, X: Tensor, y: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
    """What the loss is a function of, and the rows that its slope multiplies the gradient by."""
    if loss.of == "residual":
        return X @ w - y, X
    return y * (X @ w), y[:, None] * X


def _check_steps(steps: int, tol: float) -> None:
    as_count(steps, "steps")
    if not tol >= 0:
        raise ValueError(
            f"tol = {tol} is negative or NaN, so nothing would ever converge to it. Pass "
            f"tol >= 0; 0 spends the whole budget."
        )


def _safe_step(
    problem: Problem, loss: Loss, step: float | None, largest: float, start_loss: float
) -> float:
    """The step to use, when the squared norm of the rows taken together is ``largest``."""
    curvature = start_loss if loss.curvature is None else loss.curvature
    beta = curvature * largest
    if beta == 0:
        raise ValueError(
            "X is zero, so the gradient is zero everywhere and descent stays where it starts. "
            "Check how the features were made."
        )
    if step is None:
        return 1 / beta
    if not (math.isfinite(step) and step > 0):
        raise ValueError(f"step = {step} is not a positive number. Pass one, or None for 1/beta.")
    if loss.of == "residual" and step >= 2 / beta:
        raise StepTooLarge(
            f"step = {step:g} is not below 2/beta = {2 / beta:g}, where beta is the largest "
            f"curvature of the {loss.name} loss on these data: the iteration cannot settle. "
            f"Take a smaller step, or step=None for 1/beta = {1 / beta:g}."
        )
    return step


def _check_start(first: float, loss: Loss) -> None:
    if not math.isfinite(first):
        raise ValueError(
            f"The {loss.name} loss is {first} at the start, beyond the largest float: no gradient "
            f"can be taken there. Start nearer to zero, or scale the data down."
        )


def _recorded(steps: int, every: int | None) -> set[int]:
    """Which steps to keep: every ``every``-th, or about 200 spaced evenly in logarithm."""
    if every is None:
        chosen = np.unique(np.round(np.geomspace(1, steps, 200)).astype(np.int64))
    else:
        chosen = np.arange(0, steps + 1, as_count(every, "every"))
    return {0, steps, *chosen.tolist()}


def gradient_descent(
    problem: Problem,
    start: Any = None,
    step: float | None = None,
    steps: int = 100_000,
    tol: float = 1e-12,
    loss: str = "square",
    every: int | None = None,
) -> Path:
    r"""Returns the path of :math:`w \leftarrow w - \eta\,\nabla L(w)` on a linear model.

    Parameters
    ----------
    problem : Regression or Classification
        X of shape (n, d).
    start : array, shape (d,), optional
        Default zero.
    step : float, optional
        :math:`\eta`. Default :math:`1/\beta`, with :math:`\beta` the largest curvature of L.
    steps : int
        Budget.
    tol : float
        Looked at every few steps; 0 spends the whole budget. A regression has "converged" when a
        step of the default size would move w by at most ``tol`` times its norm (for the square
        loss the distance to the limit is then at most ``tol`` times the squared condition number
        of X, relative), or when the gradient has sunk into its own rounding; a
        classification when the gradient has fallen to ``tol`` times its first value.
    loss : str
        "square", "logcosh", and for a Classification "exponential", "logistic" or "inverse".
    every : int, optional
        Keep every so many steps; default about 200 of them, spaced evenly in logarithm.

    Returns
    -------
    Path
        ``times`` are :math:`\eta \times` steps; ``points`` (k, d) and ``losses`` (k,) float64.

    Raises
    ------
    StepTooLarge
        If the step cannot converge, or the loss is seen to rise above where it began.
    TypeError, ValueError
        If the loss does not suit the problem, or an argument is out of range.

    Notes
    -----
    Source: M24, the iteration before Theorem 1 (losses are sums). P18 (10) divides the square
    loss by n: its step is n times ours.

    Examples
    --------
    >>> path = gradient_descent(Regression([[1.0, 1.0]], [2.0]), start=[1.0, 0.0])
    >>> path.x
    tensor([1.5000, 0.5000], dtype=torch.float64)
    """
    _check_steps(steps, tol)
    form = _loss_for(problem, loss)
    X, y = problem.X, problem.y
    w = as_start(problem, start)
    value, rows = _arguments(form, X, y, w)
    first = float(form.value(value).sum())
    _check_start(first, form)
    largest = spectral = float(torch.linalg.matrix_norm(X, 2)) ** 2
    if form.curvature is None:
        largest = min(largest, float(X.square().sum(1).max()))
    eta = _safe_step(problem, form, step, largest, first)
    # Losses at rounding level may wander; a rise counts only above that.
    noise = 1e-24 * (largest * float(w @ w) + float(y @ y))
    beta = spectral * (form.curvature or 1.0)
    rounding = max(X.shape) * torch.finfo(X.dtype).eps * math.sqrt(spectral)
    keep = _recorded(steps, every)
    kept, points, losses = [0], [w], [first]
    stopped, done = "budget", steps
    first_gradient = float((rows.T @ form.slope(value)).norm())
    offset = -y if form.of == "residual" else torch.zeros_like(y)
    columns = rows.T.contiguous()
    for t in range(1, steps + 1):
        slope = form.slope(value)
        w = torch.addmv(w, columns, slope, alpha=-eta)
        value = torch.addmv(offset, rows, w)
        if t not in keep and t % 8:
            continue  # looking at every step would cost as much as the steps
        size = float(torch.mv(columns, slope).norm())
        if form.of == "residual":
            # Past the rounding level of X^T r there is nothing to descend, only noise whose part
            # in the null space would add up.
            floor = rounding * float(slope.norm())
            converged = size <= max(tol * beta * float(w.norm()), floor)
        else:
            converged = size <= tol * first_gradient
        converged = converged and tol > 0
        if t in keep or converged or t % 100 == 0 or not math.isfinite(size):
            now = float(form.value(value).sum())
            if not now <= 1.5 * first + noise:
                raise StepTooLarge(
                    f"The loss rose from {first:g} to {now:g} within {t} steps of size {eta:g}: "
                    f"the step is too large for the {loss} loss here. Take a smaller one, or "
                    f"step=None for one that is safe."
                )
            if t in keep or converged:
                kept.append(t)
                points.append(w)
                losses.append(now)
        if converged:
            stopped, done = "converged", t
            break
    return Path(
        times=eta * torch.tensor(kept, dtype=torch.float64, device=X.device),
        points=torch.stack(points),
        losses=torch.tensor(losses, dtype=torch.float64, device=X.device),
        stopped=stopped,
        step=eta,
        steps=done,
    )


def stochastic_gradient_descent(
    problem: Problem,
    start: Any = None,
    step: float | None = None,
    steps: int = 100_000,
    batch: int = 1,
    seed: int = 0,
    loss: str = "square",
    repeats: int | None = None,
    every: int | None = None,
    tol: float = 1e-12,
) -> Path:
    r"""Returns the path of :math:`w \leftarrow w - \eta\sum_{i\in B}\nabla\ell_i(w)`.

    Each batch B is drawn uniformly, with replacement.

    Parameters
    ----------
    problem : Regression or Classification
        X of shape (n, d).
    start : array, shape (d,), optional
        Default zero.
    step : float, optional
        Default :math:`1/\beta` with :math:`\beta = c\,b\max_i\|x_i\|^2` for a batch of b and
        a loss of curvature at most c: no batch is curved more, not even one example b times.
    steps, batch, seed : int
        Budget, batch size, seed of the draws (drawn on the CPU, so equal on every device).
    loss : str
        As for ``gradient_descent``; the exponential loss has no safe step here and needs one.
    repeats : int, optional
        Run so many independent chains at once; points are then (k, repeats, d).
    every : int, optional
        Keep every so many steps; default about 200 of them, spaced evenly in logarithm.
    tol : float
        Stop when the *full* gradient, looked at every n steps, would move w by less than this
        relative amount in every chain (regression only).

    Returns
    -------
    Path
        ``times`` are :math:`\eta \times` steps :math:`\times\, b/n`, the time that the full
        gradient flow would have spent on average; ``losses`` are full training losses.

    Raises
    ------
    StepTooLarge
        If the step is not below :math:`2/\beta`, or the loss overflows.
    TypeError, ValueError
        If the loss does not suit the problem, or an argument is out of range.

    Notes
    -----
    Source: P18, section 6.2.1, proof of Lemma 3 (batch = 1, square loss: the update there).

    Examples
    --------
    >>> problem = Regression([[1.0, 0.0, 0.0], [0.0, 2.0, 0.0]], [3.0, 4.0])
    >>> stochastic_gradient_descent(problem, steps=2000).x.round(decimals=8)
    tensor([3., 2., 0.], dtype=torch.float64)
    """
    _check_steps(steps, tol)
    form = _loss_for(problem, loss)
    batch = as_count(batch, "batch")
    chains = 1 if repeats is None else as_count(repeats, "repeats")
    if form.curvature is None and step is None:
        raise ValueError(
            "The exponential loss has unbounded curvature, so no step is safe for every "
            "sequence of draws. Pass step=..., or use gradient_descent, whose step is derived."
        )
    X, y = problem.X, problem.y
    rows = X if form.of == "residual" else y[:, None] * X
    offset = y if form.of == "residual" else torch.zeros_like(y)
    largest = batch * float(X.square().sum(1).max())
    eta = _safe_step(problem, form, step, largest, 1.0)
    w = as_start(problem, start).expand(chains, problem.d).clone()
    draws = torch.Generator().manual_seed(seed)
    keep = _recorded(steps, every)

    def total(w: Tensor) -> Tensor:
        return form.value(w @ rows.T - offset).sum(1)

    first = total(w)
    _check_start(float(first.max()), form)
    kept, points, losses = [0], [w], [first]
    stopped, done = "budget", steps
    block = torch.empty(0)
    for t in range(1, steps + 1):
        if (t - 1) % 1000 == 0:
            size = (min(1000, steps - t + 1), chains, batch)
            block = torch.randint(problem.n, size, generator=draws).to(X.device)
        drawn = block[(t - 1) % 1000]
        sample = rows[drawn]  # (chains, batch, d)
        value = torch.einsum("cbd,cd->cb", sample, w) - offset[drawn]
        w = w - eta * torch.einsum("cbd,cb->cd", sample, form.slope(value))
        converged = False
        if form.of == "residual" and tol > 0 and t % problem.n == 0:
            gradient = form.slope(w @ rows.T - offset) @ rows
            converged = bool((gradient.norm(dim=1) <= tol * largest * w.norm(dim=1)).all())
        if t in keep or converged:
            now = total(w)
            if not bool(torch.isfinite(now).all()):
                raise StepTooLarge(
                    f"The loss overflowed within {t} steps of size {eta:g}: the step is too "
                    f"large for the {loss} loss here. Take a smaller one."
                )
            kept.append(t)
            points.append(w)
            losses.append(now)
        if converged:
            stopped, done = "converged", t
            break
    path = torch.stack(points)
    values = torch.stack(losses)
    scale = eta * batch / problem.n
    return Path(
        times=scale * torch.tensor(kept, dtype=torch.float64, device=X.device),
        points=path if repeats is not None else path[:, 0],
        losses=values if repeats is not None else values[:, 0],
        stopped=stopped,
        step=eta,
        steps=done,
    )
