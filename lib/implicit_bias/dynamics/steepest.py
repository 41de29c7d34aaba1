r"""Steepest descent in a norm on the exponential loss, step by step and implicitly.

With :math:`L(w) = \sum_i e^{-\langle z_i, w\rangle}` and p the softmax of the negative margins,
:math:`-\nabla L = L\,Z^\top p`. Steepest descent moves along the v of norm 1 that gains most, by
:math:`\eta\|\nabla L\|_*`. Its natural clock is not :math:`t = \eta\times` steps but the arc
:math:`s` with :math:`ds = L\,dt`, in which

.. math:: \frac{dw}{ds} = \|Z^\top p\|_*\ \mathrm{steepest}(Z^\top p):

nothing in it underflows, and :math:`\log t \approx \gamma^2 s` once the margins are positive. In
exact arithmetic the loss after s = 1e8 is e^(-1e8 γ²).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from implicit_bias.arrays import as_count
from implicit_bias.dynamics.proximal import proximal_step
from implicit_bias.norms import (
    FourierNorm,
    Norm,
    NuclearNorm,
    PowerNorm,
    QuadraticNorm,
    as_norm,
    check_labels,
)
from implicit_bias.problems import Classification
from implicit_bias.records import Path, StepTooLarge

__all__ = ["steepest_descent", "steepest_flow"]


def _setting(problem: Classification, norm: Any) -> tuple[Tensor, Norm, float]:
    """Z, the norm, and the largest dual norm of a row."""
    form = as_norm(norm, problem.d) if isinstance(problem, Classification) else None
    if isinstance(form, NuclearNorm):
        raise ValueError(
            "Steepest descent here moves one vector of weights, and the nuclear norm is one of "
            "matrices. Choose a p-norm, a positive definite matrix or 'fourier'."
        )
    check_labels(problem, norm)
    assert form is not None
    Z = problem.Z
    longest = max(form.dual(z) for z in Z)
    if longest == 0:
        raise ValueError(
            "X is zero, so the gradient is zero everywhere and descent stays where it starts. "
            "Check how the features were made."
        )
    return Z, form, longest


def _path(
    Z: Tensor, times: list[float], points: list[Tensor], stopped: str, step: float, steps: int
) -> Path:
    path = torch.stack(points)
    return Path(
        times=torch.tensor(times, dtype=Z.dtype, device=Z.device),
        points=path,
        losses=torch.logsumexp(-(path @ Z.T), 1).exp(),
        stopped=stopped,
        step=step,
        steps=steps,
    )


def steepest_descent(
    problem: Classification, norm: Any, steps: int = 100_000, step: float | None = None
) -> Path:
    r"""Returns the path of steepest descent in a norm on the exponential loss, from zero.

    With ``step=None`` the k-th step has length :math:`h_k = 1/(B\sqrt k)` in the norm, with
    :math:`B = \max_i \|z_i\|_*`. With a number it is the iteration of the theorem,
    :math:`w \leftarrow w + \eta\,\|\nabla L\|_*\,\mathrm{steepest}(-\nabla L)`.

    Parameters
    ----------
    problem : Classification
        X of shape (n, d), y of shape (n,).
    norm : float, array of shape (d, d) or "fourier"
        As for ``as_norm``.
    steps : int
        How many.
    step : float, optional
        :math:`\eta`. Safe up to :math:`1/(B^2 n)`.

    Returns
    -------
    Path
        About 200 points, spaced evenly in the logarithm of the step. ``times`` are the distance
        walked, :math:`\sum_k h_k`, when ``step`` is None, and :math:`\eta\times` steps
        otherwise. ``losses`` may underflow to 0. ``stopped`` is "budget", or "zero gradient".

    Raises
    ------
    StepTooLarge
        If the loss rises above where it began.
    TypeError, ValueError
        If the problem or the norm does not suit, or an argument is out of range.

    Notes
    -----
    Source: M24, Theorem 4 (Gunasekar et al. 2018a), with its step :math:`\eta`. The default is
    another one, because under a fixed :math:`\eta` the margin grows with the logarithm of the
    number of steps. Along the norm :math:`\log L` has curvature at most :math:`B^2`, so a step of
    length h changes it by at most :math:`-h\|Z^\top p\|_* + B^2h^2/2 \le -h\gamma + B^2h^2/2`.
    Summed over T steps, with :math:`\|w\| \le S = \sum_k h_k`,

    .. math:: \frac{\min_i\langle z_i, w\rangle}{\|w\|} \ge \gamma
              - \frac{\log n + \tfrac12(1 + \log T)}{S},\qquad S \approx 2\sqrt T/B,

    once the right side is positive: in every norm, for any data that separate. A constant h would
    leave a term :math:`B^2h/2` that does not vanish, and in the 1-norm and the largest-entry norm
    such a run can settle on a wrong direction. Even so 1e5 steps leave one or two percent of B;
    ``steepest_flow`` goes to the end.

    Examples
    --------
    >>> problem = Classification([[2.0, 1.0], [-1.0, -2.0]], [1, -1])
    >>> path = steepest_descent(problem, norm=1, steps=1000)
    >>> bool((path.x > 0).all()), path.stopped
    (True, 'budget')
    """
    count = as_count(steps, "steps")
    Z, form, longest = _setting(problem, norm)
    if step is not None and not (math.isfinite(step) and step > 0):
        raise ValueError(
            f"step = {step} is not a positive number, so the loss would not fall. Pass one, or "
            f"None for lengths that are derived."
        )
    keep = {count, *np.unique(np.round(np.geomspace(1, count, 200)).astype(np.int64)).tolist()}
    first = log_loss = math.log(problem.n)
    w = torch.zeros(problem.d, dtype=Z.dtype, device=Z.device)
    times, points, walked, stopped = [0.0], [w], 0.0, "budget"
    k = 0
    columns = Z.T.contiguous()
    for k in range(1, count + 1):
        exponents = -(Z @ w)
        if step is not None:
            log_loss = float(torch.logsumexp(exponents, 0))
            if log_loss > first + 1e-9 * (1 + first):
                raise StepTooLarge(
                    f"The loss rose from {problem.n} to e^{log_loss:.3g} within {k - 1} steps of "
                    f"size {step}: too large for these data. Take "
                    f"step = {1 / longest**2 / problem.n:.3g}, which is safe, or None."
                )
        g = columns @ torch.softmax(exponents, 0)
        if not float(g.abs().max()) > 0:
            stopped = "zero gradient"
            if times[-1] < walked:
                times.append(walked)
                points.append(w)
            break
        v = form.steepest(g)
        if step is None:
            h = 1 / (longest * math.sqrt(k))
            walked += h
        else:
            h = step * math.exp(log_loss) * float(g @ v)
            walked = step * k
        w = w + h * v
        if k in keep:
            times.append(walked)
            points.append(w)
    return _path(Z, times, points, stopped, math.nan if step is None else step, k)


def steepest_flow(problem: Classification, norm: Any, until: float = 1e8) -> Path:
    r"""Returns the steepest flow in a norm on the exponential loss, from zero, by implicit steps.

    Each step is proximal, :math:`w_{k+1} = \arg\min_w \log L(w) + \|w - w_k\|^2/(2h_k)`, solved to
    rounding and certified by its duality gap; h grows with the arc, so that each step multiplies
    the arc by :math:`e^{1/2}`.

    Parameters
    ----------
    problem : Classification
        X of shape (n, d), y of shape (n,).
    norm : float or array of shape (d, d)
        A number p with 1 <= p <= inf, or a positive definite matrix. Values of p between 5 and
        inf are hard, and may end in a RuntimeError.
    until : float
        The arc s at which to end. It scales with the inverse square of the data; the margin is
        then within about :math:`\log(n)/(\gamma^2 s)` of the largest, relative.

    Returns
    -------
    Path
        ``times`` are the arc s; the k-th point has :math:`\|w\| \le s\max_i\|z_i\|_*`. ``losses``
        underflow to 0. ``stopped`` is "budget" when the arc is spent and all margins are
        positive, and "not separated" when they are not.

    Raises
    ------
    TypeError, ValueError
        If the problem or the norm does not suit, or the data turn out not to be separable: then
        the softmax weights, at which the gradient vanishes, prove it.
    RuntimeError
        If a step could not be solved.

    Notes
    -----
    Source: M24, Theorem 4 (Gunasekar et al. 2018a), in continuous time. Implicit steps are of
    first order: the limit is that of the flow, the path at finite s is not exactly. For p = 1 and
    inf limits need not be unique: compare margins.

    Examples
    --------
    >>> path = steepest_flow(Classification([[2.0, 1.0], [-1.0, -2.0]], [1, -1]), norm=2)
    >>> (path.x / path.x.norm()).round(decimals=6)
    tensor([0.7071, 0.7071], dtype=torch.float64)
    """
    Z, form, longest = _setting(problem, norm)
    if isinstance(form, FourierNorm):
        raise ValueError(
            "The implicit step is solved for p-norms and positive definite matrices only. Use "
            "steepest_descent for 'fourier', or transform the features."
        )
    assert isinstance(form, (PowerNorm, QuadraticNorm))
    if not (math.isfinite(until) and until > 0):
        raise ValueError(
            f"until = {until} is not a positive arc length, and the flow has to end somewhere. "
            f"Pass one; margins settle when it is far above 1 / margin^2."
        )
    # In units of the longest row, so that the first step and the tests below know no scale.
    Z = Z / longest
    goal = until * longest**2
    w = torch.zeros(problem.d, dtype=Z.dtype, device=Z.device)
    theta = torch.zeros(problem.n, dtype=Z.dtype, device=Z.device)
    arc, h = 0.0, min(0.01, goal)
    times, points = [0.0], [w]
    while arc < goal:
        margins = Z @ w
        delta, theta = proximal_step(Z, margins, h, form, theta)
        w, arc = w + delta, arc + h
        if goal - arc < 1e-12 * goal:
            arc = goal
        times.append(arc / longest**2)
        points.append(w / longest)
        slope = form.dual(Z.T @ theta.exp())
        if slope < 1e-9 and float((Z @ w).min()) <= 0:
            raise ValueError(
                f"The data are not linearly separable: at arc {arc / longest**2:.3g} the flow has "
                f"come to rest, with a weighted mean of the examples y x of relative size "
                f"{slope:.1g} and margins that are not all positive. There is no direction to "
                f"end in, unless the margin is below 1e-9 of the longest; ask max_margin for a "
                f"certificate."
            )
        h = min((math.sqrt(math.e) - 1) * arc, goal - arc)
    apart = float((Z @ w).min()) > 0
    stopped = "budget" if apart else "not separated"
    return _path(Z * longest, times, points, stopped, math.nan, len(times) - 1)
