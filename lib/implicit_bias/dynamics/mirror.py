r"""Mirror descent for the square loss :math:`L(w) = \tfrac12\|Xw - y\|^2`.

The mirror image :math:`z = \nabla\phi(w)` moves, :math:`z_{t+1} = z_t - \eta X^\top(Xw_t - y)`,
and the point follows. What is kept is :math:`\lambda \in R^n` with :math:`z = z_0 + X^\top\lambda`,
so no iterate can leave :math:`z_0` + row space of X, not even by rounding.

**The step.** L is quadratic: :math:`L(w^+) = L(w) + \langle\nabla L(w), w^+ - w\rangle +
\tfrac12\|X(w^+ - w)\|^2`, and :math:`\eta\langle\nabla L(w), w^+ - w\rangle = -D_\phi(w^+, w) -
D_\phi(w, w^+)`. So a step :math:`\eta` with

.. math:: \tfrac12\|X(w^+ - w)\|^2 \le D_\phi(w^+, w)/\eta \qquad (*)

gives :math:`L(w^+) \le L(w) - D_\phi(w, w^+)/\eta`, and by the three-point identity every
interpolator comes nearer: :math:`D_\phi(w^*, w^+) \le D_\phi(w^*, w) - \eta(L(w) + L(w^+))`. For a
quadratic potential (*) holds everywhere if :math:`\eta \le 1/\lambda_{\max}(K^{-1/2}X^\top
XK^{-1/2})`. No other potential has such a number (the entropy bends as 1/w): there (*) is tested
at every step. The step shrinks until (*) holds, as it does in the end, and the slack that was left
is the most by which the next one may grow.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from implicit_bias.dynamics.descent import _check_steps, _recorded
from implicit_bias.potentials import Entropy, Potential, Quadratic, SquaredNorm
from implicit_bias.problems import Regression, as_start
from implicit_bias.records import Path, StepTooLarge

__all__ = ["mirror_descent", "square_descent"]

EPS = torch.finfo(torch.float64).eps
TINY = torch.finfo(torch.float64).tiny
HUGE = torch.finfo(torch.float64).max


def _begin(problem: Regression, potential: Potential, start: Any) -> Tensor:
    """The starting point, in the domain of the potential."""
    if not isinstance(problem, Regression):
        raise TypeError(
            f"Mirror dynamics here descend the square loss of a Regression; got "
            f"{type(problem).__name__}. Build a Regression(X, y)."
        )
    if not isinstance(potential, Potential):
        raise TypeError(
            f"potential = {potential!r} has no mirror. Pass SquaredNorm(), Entropy(), "
            f"Quadratic(K) or PNorm(p)."
        )
    if not bool(problem.X.any()):
        raise ValueError(
            "X is zero, so the gradient is zero everywhere and descent stays where it starts. "
            "Check how the features were made."
        )
    return potential.check_point(as_start(problem, start), "start")


def _curvature(X: Tensor, potential: Potential, w: Tensor) -> float:
    """The largest eigenvalue of X (hess phi)^-1 X^T at w, the loss's curvature seen by phi."""
    metric = X @ potential.precondition(w, X.T)
    if not bool(torch.isfinite(metric).all()):
        return math.inf
    return float(torch.linalg.matrix_norm(metric, 2))


def _rise(what: str, first: float, now: float, t: int, eta: float, safe: float) -> StepTooLarge:
    known = f"; where it stood last, {safe:.3g} would be safe" if 0 < safe < math.inf else ""
    steps = "1 step" if t == 1 else f"{t} steps"
    return StepTooLarge(
        f"The loss {what}: {first:g} at first, {now:g} after {steps} of size {eta:g}, which is "
        f"too large here{known}. Take a smaller one."
    )


class _Dual:
    """The points w = (grad phi)^-1(z_0 + X^T lambda), and when they have come to rest."""

    def __init__(self, problem: Regression, potential: Potential, w0: Tensor):
        self.X, self.y, self.potential = problem.X, problem.y, potential
        self.columns = problem.X.T.contiguous()
        self.image = potential.mirror(w0, check=False)
        self.reach = float(torch.linalg.matrix_norm(self.X))
        first = float((self.X @ w0 - self.y).norm())
        self.goal = float(self.y.norm()) or first
        # How far lambda has to go, and how long at its first speed: from the mirror image of the
        # start to that of a typical answer.
        typical = torch.full_like(w0, max(self.goal, TINY) / self.reach / math.sqrt(len(w0)))
        distance = potential.mirror(typical, check=False) - self.image
        self.far = max(float(distance.norm()) / self.reach, TINY)
        self.unit = self.far / max(first, TINY)

    def point(self, dual: Tensor) -> Tensor:
        image = torch.addmv(self.image, self.columns, dual)
        return self.potential.inverse_mirror(image, check=False)

    def rounding(self, w: Tensor) -> float:
        """The level below which a misfit at w is rounding."""
        return 4 * EPS * (self.goal + self.reach * float(w.norm()))

    def idle(self, dual: Tensor, tol: float) -> bool:
        """Whether lambda may go on as it does, a hundred times as far, and move no misfit.

        That it does not move now would not do: from a tiny start nothing seems to move at first.
        """
        w = self.point(dual)
        misfit = self.y - self.X @ w
        later = self.point(dual + 100 * self.unit * misfit)
        return float((self.X @ (later - w)).norm()) <= tol * float(misfit.norm())


def mirror_descent(
    problem: Regression,
    potential: Potential,
    start: Any,
    step: float | None = None,
    steps: int = 100_000,
    tol: float = 1e-12,
    every: int | None = None,
) -> Path:
    r"""Returns the path of :math:`\nabla\phi(w^+) = \nabla\phi(w) - \eta X^\top(Xw - y)`.

    Parameters
    ----------
    problem : Regression
        X of shape (n, d); square loss :math:`\tfrac12\|Xw - y\|^2`.
    potential : Potential
        ``Entropy()`` makes it exponentiated gradient.
    start : array, shape (d,)
        In the domain of the potential (positive for the entropy; None, zero, elsewhere).
    step : float, optional
        A constant :math:`\eta`. By default derived: constant for a quadratic potential, else
        adapted at every step (see the module's notes).
    steps : int
        Budget.
    tol : float
        A run has "converged" when :math:`\|Xw - y\| \le` tol :math:`\|y\|` (of the first misfit
        where y = 0), or rounding level; or, where the misfit cannot vanish, when as many steps
        again would change it by less than tol. 0 spends the whole budget.
    every : int, optional
        Keep every so many steps; default about 200 of them, spaced evenly in logarithm.

    Returns
    -------
    Path
        ``points`` (k, d); ``times`` are sums of steps :math:`\eta`; ``step`` is the last one.

    Raises
    ------
    StepTooLarge
        If a step that was given makes the loss rise above one and a half times its first value,
        or overflow, or still rise when the budget is spent.
    TypeError, ValueError
        If the start is outside the domain, or an argument is out of range.

    Notes
    -----
    Source: M24, mirror descent before Theorem 2. Where no interpolator exists in the domain the
    run goes on towards a minimiser of the loss over its closure, and says how it stopped.

    Examples
    --------
    >>> path = mirror_descent(Regression([[1.0, 1.0]], [3.0]), Entropy(), [0.2, 0.1])
    >>> path.x.round(decimals=8), path.stopped
    (tensor([2., 1.], dtype=torch.float64), 'converged')
    """
    _check_steps(steps, tol)
    w = _begin(problem, potential, start)
    if step is not None and not (math.isfinite(step) and step > 0):
        raise ValueError(
            f"step = {step} is not a positive number. Pass one, or None for a safe one."
        )
    X, y = problem.X, problem.y
    safe = 1 / max(_curvature(X, potential, w), TINY)
    quadratic = isinstance(potential, (SquaredNorm, Quadratic))
    if quadratic and step is not None and step >= 2 * safe:
        raise StepTooLarge(
            f"step = {step:g} is not below 2/beta = {2 * safe:g}, where beta is the largest "
            f"curvature of the loss in the metric of the potential: the iteration cannot settle. "
            f"Take a smaller step, or step=None for 1/beta = {safe:g}."
        )
    adapt = step is None and not quadratic
    # An absurd guess costs a few trials: steps shrink tenfold and double.
    eta = step or (safe if 1e-100 < safe < 1e300 else 1.0)
    run, dual, offset = _Dual(problem, potential, w), torch.zeros_like(y), -y
    misfit = X @ w - y
    size = math.sqrt(float(misfit @ misfit))
    first, goal = size * size / 2, tol * run.goal
    keep = _recorded(steps, every)
    kept, points, losses = [0.0], [w], [first]
    elapsed, last_rise, stopped, done = 0.0, 0, "budget", steps
    for t in range(1, steps + 1):
        while True:
            trial = dual - eta * misfit
            new = run.point(trial)
            change = X @ (new - w)
            squared = float(change @ change)
            if not adapt:
                break
            # Condition (*); an overflow, infinite or nan, fails it.
            slack = 2 * float(potential.divergence(new, w, check=False)) / eta
            if squared <= min(slack, HUGE) or squared <= (EPS * goal) ** 2:
                break
            known = math.isfinite(slack) and math.isfinite(squared)
            eta *= min(0.7, max(0.1, 0.9 * slack / squared)) if known else 0.1
        elapsed += eta
        dual, w = trial, new
        misfit = torch.addmv(offset, X, w)
        before, size = size, math.sqrt(float(misfit @ misfit))
        if step is not None and not size <= before + run.rounding(w):
            last_rise = t
            if not size * size / 2 <= 1.5 * first:
                safe = 1 / max(_curvature(X, potential, points[-1]), TINY)
                raise _rise("rose", first, size * size / 2, t, eta, safe)
        converged = tol > 0 and size <= goal
        if tol > 0 and not converged and t % 8 == 0:
            # The cheap look first: a step now moves the misfit less than rounding would.
            slow = math.sqrt(squared) <= max(tol, 8 * EPS) * size
            converged = size <= run.rounding(w) or (slow and run.idle(dual, max(tol, 1e-12)))
        if t in keep or converged:
            kept.append(elapsed)
            points.append(w)
            losses.append(size * size / 2)
        if converged:
            stopped, done = "converged", t
            break
        if adapt:
            grown = slack / squared if squared else math.inf
            eta *= min(1.5, max(1.0, 0.9 * grown))
    if stopped == "budget" and steps >= 100 and steps - last_rise < 10 and last_rise:
        safe = 1 / max(_curvature(X, potential, w), TINY)
        raise _rise("goes up and down without end", first, size * size / 2, steps, eta, safe)
    return Path(
        times=torch.tensor(kept, dtype=torch.float64, device=X.device),
        points=torch.stack(points),
        losses=torch.tensor(losses, dtype=torch.float64, device=X.device),
        stopped=stopped,
        step=eta,
        steps=done,
    )


def square_descent(
    problem: Regression,
    start: Any,
    step: float,
    steps: int = 100_000,
    tol: float = 1e-12,
    every: int | None = None,
) -> Path:
    r"""Returns gradient descent on w of :math:`\tfrac12\|X(w\odot w) - y\|^2`, as the path of u.

    Parameters
    ----------
    problem : Regression
        X of shape (n, d).
    start : array, shape (d,)
        The positive start of :math:`u = w \odot w`; w starts at its positive root.
    step : float
        :math:`\eta`, in the time of w: compare with ``square_flow`` at the same times.
    steps : int
        Budget.
    tol : float
        A run has "converged" when :math:`\|Xu - y\| \le` tol :math:`\|y\|` (of the first misfit
        where y = 0), or rounding level. 0 spends the whole budget.
    every : int, optional
        Keep every so many steps; default about 200 of them, spaced evenly in logarithm.

    Returns
    -------
    Path
        ``points`` (k, d) are u; ``times`` are :math:`\eta \times` steps.

    Raises
    ------
    StepTooLarge
        If the loss rises above one and a half times its first value, or still rises when the
        budget is spent.
    TypeError, ValueError
        If the start is not positive, or an argument is out of range.

    Notes
    -----
    Source: M24, reparametrisation by squares. A step multiplies u by :math:`(1 - 2\eta g)^2` and
    not by :math:`e^{-4\eta g}`, g being the gradient in u; so u does not keep to the mirror
    flow's dual space, and ends at a distance of order :math:`\eta` from the flow's limit.

    Examples
    --------
    >>> path = square_descent(Regression([[1.0, 1.0]], [3.0]), [0.2, 0.1], step=1e-4)
    >>> path.x.round(decimals=3), path.stopped
    (tensor([2., 1.], dtype=torch.float64), 'converged')
    """
    _check_steps(steps, tol)
    u = _begin(problem, Entropy(), start)
    if not (math.isfinite(step) and step > 0):
        raise ValueError(f"step = {step} is not a positive number. Pass one, 1e-3 say.")
    X, y = problem.X, problem.y
    columns, offset = X.T.contiguous(), -y
    w = u.sqrt()
    misfit = X @ u - y
    size = float(misfit.norm())
    first = size * size / 2
    reach = float(torch.linalg.matrix_norm(X))
    goal = tol * (float(y.norm()) or size)
    keep = _recorded(steps, every)
    kept, points, losses = [0], [u], [first]
    last_rise, stopped, done = 0, "budget", steps
    for t in range(1, steps + 1):
        w = torch.addcmul(w, w, torch.mv(columns, misfit), value=-2 * step)
        u = w * w
        misfit = torch.addmv(offset, X, u)
        before, size = size, math.sqrt(float(misfit @ misfit))
        if not size <= before * (1 + 1e-12) and (
            not size <= 4 * EPS * reach * float(u.norm()) + before
        ):
            last_rise = t
            if not size * size / 2 <= 1.5 * first:
                raise _rise("rose", first, size * size / 2, t, step, 0.0)
        converged = tol > 0 and (
            size <= goal or (t % 8 == 0 and size <= 4 * EPS * reach * float(u.norm()))
        )
        if t in keep or converged:
            kept.append(t)
            points.append(u)
            losses.append(size * size / 2)
        if converged:
            stopped, done = "converged", t
            break
    if stopped == "budget" and steps >= 100 and last_rise and steps - last_rise < 10:
        raise _rise("goes up and down without end", first, size * size / 2, steps, step, 0.0)
    return Path(
        times=step * torch.tensor(kept, dtype=torch.float64, device=X.device),
        points=torch.stack(points),
        losses=torch.tensor(losses, dtype=torch.float64, device=X.device),
        stopped=stopped,
        step=step,
        steps=done,
    )
