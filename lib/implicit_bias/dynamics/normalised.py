r"""Descent on the logarithm of the exponential loss: normalised, and accelerated.

:math:`f(w) = \log\sum_i e^{-\langle z_i, w\rangle}` has the gradient :math:`-Z^\top p` with p the
softmax of minus the margins, which does not shrink as the loss does, and a Hessian of at most
:math:`\beta = \max_i\|z_i\|^2`. Its dual is :math:`\min_q \tfrac12\|Z^\top q\|^2` over the
simplex, whose value is half the squared margin, and :math:`\beta` is also the smoothness of that
quadratic in the one-norm, which the entropy of the simplex measures. So descent on f with the step
:math:`1/\beta` is exponentiated gradient on the dual, which gains like :math:`1/t`; Nesterov's
acceleration of that gains like :math:`1/t^2`, and translates back into a momentum method on w.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from implicit_bias.arrays import as_count
from implicit_bias.dynamics.descent import _recorded
from implicit_bias.problems import Classification, as_start
from implicit_bias.records import Path, StepTooLarge

__all__ = ["accelerated_descent", "normalised_descent"]


def _setting(problem: Classification, start: Any, name: str) -> tuple[Tensor, Tensor, float]:
    """Z, the start and the curvature bound."""
    if not isinstance(problem, Classification):
        raise TypeError(
            f"{name} maximises a margin and needs labels; got a {type(problem).__name__}. Build a "
            f"Classification(X, y)."
        )
    Z = problem.Z
    beta = float(Z.square().sum(1).max())
    if beta == 0:
        raise ValueError(
            "X is zero, so the gradient is zero everywhere and descent stays where it starts. "
            "Check how the features were made."
        )
    return Z, as_start(problem, start), beta


class _Record:
    """Keeps some of the points, and the logarithms of their losses."""

    def __init__(self, steps: int, every: int | None, w: Tensor, m: Tensor):
        self.keep = _recorded(steps, every)
        self.kept, self.points, self.logs = [0], [w], [torch.logsumexp(-m, 0)]

    def note(self, t: int, w: Tensor, m: Tensor) -> None:
        if t in self.keep:
            self.kept.append(t)
            self.points.append(w)
            self.logs.append(torch.logsumexp(-m, 0))

    def path(self, times: Tensor, step: float, steps: int) -> Path:
        logs = torch.stack(self.logs)
        return Path(
            times=times.to(logs),
            points=torch.stack(self.points),
            losses=logs.exp(),
            stopped="budget",
            step=step,
            steps=steps,
            log_losses=logs,
        )


def normalised_descent(
    problem: Classification,
    start: Any = None,
    step: float | None = None,
    steps: int = 10_000,
    every: int | None = None,
) -> Path:
    r"""Returns the path of :math:`w \leftarrow w + \eta\,Z^\top p(Zw)`, descent on the log-loss.

    Parameters
    ----------
    problem : Classification
        X of shape (n, d), y of shape (n,).
    start : array, shape (d,), optional
        Default zero.
    step : float, optional
        :math:`\eta`, below :math:`2/\beta`; default :math:`1/\beta` with
        :math:`\beta = \max_i\|x_i\|^2`.
    steps : int
        How many.
    every : int, optional
        Keep every so many steps; default about 200 of them, spaced evenly in logarithm.

    Returns
    -------
    Path
        ``points`` (k, d); ``times`` are :math:`\eta \times` steps, an arc length and not the time
        of the flow; ``log_losses`` (k,).

    Raises
    ------
    StepTooLarge
        If the step is not below :math:`2/\beta`.
    TypeError, ValueError
        If an argument is out of range.

    Notes
    -----
    Source: Nacson et al. (2019), Ji and Telgarsky (2021): the margin's gap falls like 1/t.

    Examples
    --------
    >>> from implicit_bias import Classification
    >>> path = normalised_descent(Classification([[3.0, 1.0], [1.0, 3.0]], [1, 1]), steps=1000)
    >>> path.x / path.x.norm()
    tensor([0.7071, 0.7071], dtype=torch.float64)
    """
    Z, w, beta = _setting(problem, start, "normalised_descent")
    steps = as_count(steps, "steps")
    eta = 1 / beta if step is None else float(step)
    if not (math.isfinite(eta) and eta > 0):
        raise ValueError(f"step = {step} is not a positive number. Pass one, or None for 1/beta.")
    if eta >= 2 / beta:
        raise StepTooLarge(
            f"step = {eta:g} is not below 2/beta = {2 / beta:g}, beta being the largest squared "
            f"length of an example: the log-loss may rise. Take step=None for {1 / beta:g}."
        )
    columns = Z.T.contiguous()
    m = Z @ w
    record = _Record(steps, every, w, m)
    for t in range(1, steps + 1):
        w = torch.addmv(w, columns, torch.softmax(-m, 0), alpha=eta)
        m = torch.mv(Z, w)
        record.note(t, w, m)
    return record.path(eta * torch.tensor(record.kept, dtype=torch.float64), eta, steps)


def accelerated_descent(
    problem: Classification,
    start: Any = None,
    steps: int = 10_000,
    every: int | None = None,
) -> Path:
    r"""Returns the path of a momentum method whose margin's gap falls like :math:`1/t^2`.

    With :math:`\theta_t = 2/(t+2)` and the momentum v, which starts at :math:`Z^\top p(Zw_0)`,

    .. math::

        w_{t+1} = w_t + \tfrac{1}{\theta_t\beta}\,[(1-\theta_t)\,v_t + \theta_t Z^\top p(Zw_t)],
        \qquad v_{t+1} = (1-\theta_t)\,v_t + \theta_t Z^\top p(Zw_{t+1}) .

    Parameters
    ----------
    problem : Classification
        X of shape (n, d), y of shape (n,).
    start : array, shape (d,), optional
        Default zero.
    steps : int
        How many.
    every : int, optional
        Keep every so many steps; default about 200 of them, spaced evenly in logarithm.

    Returns
    -------
    Path
        ``points`` (k, d); ``times`` are the sums of the steps :math:`1/(\theta_t\beta)`, an arc
        length; ``log_losses`` (k,).

    Raises
    ------
    TypeError, ValueError
        If an argument is out of range.

    Notes
    -----
    Source: Ji, Srebro and Telgarsky (2021), who accelerate the dual in this way; the sequence
    :math:`\theta_t` is that of Tseng's form of Nesterov's method, which differs from their
    momentum :math:`t/(t+1)` by lower-order terms.

    Examples
    --------
    >>> from implicit_bias import Classification
    >>> path = accelerated_descent(Classification([[3.0, 1.0], [1.0, 3.0]], [1, 1]), steps=100)
    >>> path.x / path.x.norm()
    tensor([0.7071, 0.7071], dtype=torch.float64)
    """
    Z, w, beta = _setting(problem, start, "accelerated_descent")
    steps = as_count(steps, "steps")
    columns = Z.T.contiguous()
    m = Z @ w
    pull = torch.mv(columns, torch.softmax(-m, 0))
    momentum = pull
    record = _Record(steps, every, w, m)
    for t in range(steps):
        theta = 2 / (t + 2)
        w = w + ((1 - theta) * momentum + theta * pull) / (theta * beta)
        m = torch.mv(Z, w)
        pull = torch.mv(columns, torch.softmax(-m, 0))
        momentum = torch.lerp(momentum, pull, theta)
        record.note(t + 1, w, m)
    kept = torch.tensor(record.kept, dtype=torch.float64)
    # The sum of (j + 2) / 2 over j < t.
    return record.path(kept * (kept + 3) / (4 * beta), 1 / beta, steps)
