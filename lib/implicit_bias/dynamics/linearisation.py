r"""The gradient flow of any smooth loss, and the flow of its linearisation at a rest point.

With :math:`\nabla L(w_*) = 0` and :math:`H = \nabla^2 L(w_*) = V\,\mathrm{diag}(\lambda)\,V^\top`,
the flow of the gradient and of its first-order part are

.. math:: \dot w = -\nabla L(w), \qquad \dot u = -H(u - w_*), \quad
          u(t) = w_* + V\,\mathrm{diag}(e^{-\lambda t})\,V^\top(w(0) - w_*) .

If every :math:`\lambda > 0`, a start at distance s from :math:`w_*` gives
:math:`\sup_t\|w(t) - u(t)\| = O(s^2)`, and a homeomorphism near :math:`w_*` carries the one flow
into the other (Hartman and Grobman). Where some :math:`\lambda = 0`, u never moves along its
eigenvector while w may: for :math:`L = \tfrac12x^2 + \tfrac14y^4`, :math:`y = y_0/\sqrt{1 +
2y_0^2t}`.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from implicit_bias.arrays import as_real
from implicit_bias.records import Path

__all__ = ["expand", "linearised_flow", "loss_flow"]

_EPS = 2.0**-52
_DENSE = 1000  # parameters up to which the integrator is given Hessians
_BUDGET = 20_000  # gradients; a smooth flow over ten decades of time takes a few thousand
_LARGEST = 5000  # parameters up to which a Hessian is decomposed

Loss = Callable[[Tensor], Tensor]


def expand(loss: Loss, at: Any, name: str = "at") -> tuple[Tensor, float, Tensor, Tensor]:
    """Returns the point as a float64 vector, and the loss, its gradient and Hessian there.

    Parameters
    ----------
    loss : callable
        From a vector (p,) to a tensor with one number; twice differentiable by torch.func.
    at : array, shape (p,)
        p up to 5,000.
    name : str
        What the caller knows the point as.

    Raises
    ------
    TypeError, ValueError
        If the point is no vector of finite numbers, or the loss there is not one finite number
        with a finite gradient and Hessian.

    Examples
    --------
    >>> expand(lambda w: w.square().sum(), [1.0, 0.0])[1:]
    (1.0, tensor([2., 0.], dtype=torch.float64),
     tensor([[2., 0.],
             [0., 2.]], dtype=torch.float64))
    """
    theta = _vector(at, name)
    if theta.numel() > _LARGEST:
        raise ValueError(
            f"A Hessian of {theta.numel()} parameters is too large to decompose; {_LARGEST} is "
            f"the most. Take a smaller model, or hessian_spectrum(..., k=...) for a few "
            f"eigenvalues."
        )
    value = _scalar(loss)
    here = float(value(theta))
    gradient = _gradient(value, theta)
    H = torch.func.jacrev(torch.func.grad(value))(theta).detach()
    if not all(bool(torch.isfinite(t).all()) for t in (torch.tensor(here), gradient, H)):
        raise ValueError(
            f"The loss is {here} at {name}, or its gradient or Hessian is not finite: there is "
            f"nothing to expand. If {name} comes from a run, the run diverged; at a kink, move it."
        )
    return theta, here, gradient, (H + H.T) / 2


def loss_flow(loss: Loss, start: Any, times: Any, rtol: float = 1e-10) -> Path:
    r"""Returns the gradient flow :math:`\dot w = -\nabla L(w)` of a loss, at the times asked for.

    Parameters
    ----------
    loss : callable
        From a vector (p,) to a tensor with one number; twice differentiable by torch, for
        example ``lambda w: 0.5 * (network(w, X) - y).square().sum()``.
    start : array, shape (p,)
    times : array, shape (k,)
        Increasing, from 0 or later, finite.
    rtol : float
        Relative error that a step may make, from 1e-13 to 1e-2.

    Returns
    -------
    Path
        ``points`` (k, p), float64; ``losses`` (k,); ``stopped`` is "reached".

    Raises
    ------
    ArithmeticError
        If the integrator gives up before the last time, or after 20,000 gradients, or the flow
        comes to where the gradient is not finite: as where the loss falls without bound.
    TypeError, ValueError
        If the start is no vector, the loss is not one finite number there, or an argument is out
        of range.

    Notes
    -----
    Source: P18 (1). SciPy's LSODA, which turns implicit where the flow is stiff, with exact
    Hessians as Jacobians up to 1,000 parameters. What a step may be off is ``rtol`` times the
    larger of each coordinate and the largest coordinate of the start (or 1e-3): for a flow that
    ends near zero ask for a smaller ``rtol``. A kink (ReLU) costs many steps, and
    a flow that runs along one does not get on.

    Examples
    --------
    >>> path = loss_flow(lambda w: w[0]**2 / 2 + w[1]**4 / 4, [1.0, 1.0], [0.0, 12.0])
    >>> [round(value, 5) for value in path.x.tolist()]  # exp(-12), 1/sqrt(1 + 24)
    [1e-05, 0.2]
    """
    theta = _vector(start, "start")
    at = _times(times, theta, infinite=False)
    if not 1e-13 <= rtol <= 1e-2:
        raise ValueError(f"rtol = {rtol} is not between 1e-13 (rounding) and 1e-2.")
    value = _scalar(loss)
    first = _gradient(value, theta)
    if not (math.isfinite(float(value(theta))) and bool(torch.isfinite(first).all())):
        raise ValueError(
            f"The loss is {float(value(theta))} at the start, or its gradient is not finite: no "
            f"flow begins there. Start elsewhere, or scale the data down."
        )
    from scipy.integrate import solve_ivp

    count = itertools.count(1)

    def right(t: float, point: Any) -> Any:
        if next(count) > _BUDGET:
            raise ArithmeticError(
                f"After {_BUDGET} gradients the flow is at time {t:g} of {goal[-1]:g}. It runs "
                f"off, or along a kink, which no step size can follow: ask for earlier times, a "
                f"larger rtol, or take a smooth activation such as tanh."
            )
        slope = _gradient(value, torch.from_numpy(point.copy()).to(theta.device))
        if not bool(torch.isfinite(slope).all()):
            raise ArithmeticError(
                f"The gradient is not finite where the flow comes at time {t:g} of {goal[-1]:g}. "
                f"The loss falls without bound, or is not smooth there: ask for earlier times, or "
                f"scale the data down."
            )
        return -slope.cpu().numpy()

    hessian = torch.func.jacrev(torch.func.grad(value))

    def turning(_: float, point: Any) -> Any:
        return -hessian(torch.from_numpy(point.copy()).to(theta.device)).numpy(force=True)

    goal, begin = at.cpu().numpy(), theta.cpu().numpy()
    if goal[-1] == 0:
        found = begin[None]
    else:
        scale = rtol * max(float(np.abs(begin).max()), 1e-3)
        options: dict[str, Any] = {"t_eval": goal, "rtol": rtol, "atol": scale}
        if theta.numel() <= _DENSE:
            options["jac"] = turning
        run = solve_ivp(right, (0.0, goal[-1]), begin, method="LSODA", **options)
        if not run.success:
            raise ArithmeticError(
                f"The integrator stopped after {run.t.size} of the {goal.size} times "
                f"({run.message}). If the loss falls without bound, the flow may end in finite "
                f"time: ask for earlier times. Else ask for a larger rtol."
            )
        found = run.y.T
        if goal[0] == 0:
            found[0] = begin  # its interpolant is off by rounding
    points = torch.from_numpy(np.ascontiguousarray(found)).to(theta.device)
    return Path(at, points, _losses(value, points), "reached")


def linearised_flow(loss: Loss, at: Any, start: Any, times: Any) -> Path:
    r"""Returns the flow of the linearisation at a rest point, exactly.

    :math:`u(t) = w_* + e^{-tH}(w_0 - w_*)` with H the Hessian of the loss at :math:`w_*`.

    Parameters
    ----------
    loss : callable
        From a vector (p,) to a tensor with one number; twice differentiable by torch.func.
    at : array, shape (p,)
        :math:`w_*`, where the gradient vanishes; p up to 5,000. A minimum, or a saddle.
    start : array, shape (p,)
        :math:`w_0`.
    times : array, shape (k,)
        Increasing, from 0 or later; ``math.inf`` is allowed.

    Returns
    -------
    Path
        ``points`` (k, p), float64; ``losses`` are the true loss there, not its quadratic part;
        ``stopped`` is "exact".

    Raises
    ------
    ArithmeticError
        If H has a negative eigenvalue and the flow has left the range of float64 by then.
    TypeError, ValueError
        If the gradient at ``at`` is above 1e-8 times the largest eigenvalue of H times the
        larger of ``|at|`` and ``|start - at|``, shapes disagree, or an argument is out of range.

    Notes
    -----
    Source: P18 (2), (3) and section 4.2. Eigenvalues below p times 2.2e-16 of the largest are
    rounding and count as zero: along their eigenvectors nothing moves, at no time. At a zero of
    the loss known to residuals of 1e-12 only, the null space has eigenvalues of that size, which
    show at times of 1e12.

    Examples
    --------
    >>> path = linearised_flow(lambda w: w[0]**2 / 2 + w[1]**4 / 4, [0, 0], [1, 1], [0.0, 12.0])
    >>> [round(value, 5) for value in path.x.tolist()]  # the quartic is not seen
    [1e-05, 1.0]
    """
    rest, _, gradient, H = expand(loss, at)
    w0 = _vector(start, "start").to(rest.device)
    if w0.shape != rest.shape:
        raise ValueError(
            f"start has {w0.numel()} numbers and at has {rest.numel()}: they must be parameters "
            f"of one model."
        )
    t = _times(times, rest, infinite=True)
    values, V = torch.linalg.eigh(H)
    top, reach = float(values.abs().max()), max(float(rest.norm()), float((w0 - rest).norm()))
    slope = float(gradient.norm())
    if slope > 1e-8 * top * reach:
        raise ValueError(
            f"The gradient at this point is {slope:.3g}, and the largest eigenvalue of the "
            f"Hessian {top:.3g}: it is not a rest point (1e-8 of {top * reach:.3g} is allowed), "
            f"so the flow there has a constant part that the linearisation leaves out. Pass the "
            f"point that rest_point or reach_zero ends at."
        )
    values = values.where(values.abs() > rest.numel() * _EPS * top, 0.0)
    inside = V.T @ (w0 - rest)
    # Infinity times zero would be NaN: what does not move does not move at infinity either.
    exponent = torch.where(values == 0, 0.0, -t[:, None] * values)
    kept = torch.exp(exponent) * inside
    kept = torch.where(inside == 0, 0.0, kept)
    points = rest + kept @ V.T
    points = torch.where((t == 0)[:, None], w0, points)  # the way to the basis and back rounds
    losses = _losses(_scalar(loss), points)
    if not bool(torch.isfinite(points).all()) or not bool(torch.isfinite(losses).all()):
        raise ArithmeticError(
            f"The Hessian has the eigenvalue {float(values[0]):.3g} < 0, along which the "
            f"linearised flow leaves the range of float64 before time {float(t[-1]):g}. Ask for "
            f"earlier times."
        )
    return Path(t, points, losses, "exact")


def _vector(values: Any, name: str) -> Tensor:
    vector = as_real(values, name)
    if vector.ndim != 1 or not vector.numel():
        raise ValueError(
            f"{name} has shape {tuple(vector.shape)}; the loss is a function of one vector of "
            f"parameters, shape (p,). Flatten them, and reshape inside the loss."
        )
    return vector


def _times(times: Any, like: Tensor, infinite: bool) -> Tensor:
    t = as_real(times, "times", finite=not infinite).to(like.device).reshape(-1)
    if not t.numel() or not bool((t >= 0).all()) or not bool((t[1:] > t[:-1]).all()):
        raise ValueError(
            f"times must increase from 0 or later: the flow is recorded as it passes. Got "
            f"{t.tolist()[:6]}."
        )
    return t


def _scalar(loss: Loss) -> Loss:
    if not callable(loss):
        raise TypeError(
            f"The loss is a {type(loss).__name__}, which cannot be called. Pass a function from "
            f"a vector of parameters to one number."
        )

    def value(theta: Tensor) -> Tensor:
        result = loss(theta)
        if not isinstance(result, Tensor) or result.numel() != 1:
            shape = tuple(result.shape) if isinstance(result, Tensor) else type(result).__name__
            raise ValueError(
                f"The loss is {shape}, not a tensor with one number: a flow descends one number. "
                f"Sum over the examples."
            )
        return result.reshape(())

    return value


def _gradient(value: Loss, theta: Tensor) -> Tensor:
    w = theta.detach().requires_grad_()
    with torch.enable_grad():
        result = value(w)
        if not result.requires_grad:
            return torch.zeros_like(theta)  # constant nearby
        return torch.autograd.grad(result, w, materialize_grads=True)[0].detach()


def _losses(value: Loss, points: Tensor) -> Tensor:
    with torch.no_grad():
        return torch.stack([value(point) for point in points]).to(torch.float64)
