r"""Descent and flow of a linear network of two layers, with weight decay.

The formulas are in ``two_layer``. Without decay every step adds to the rows of :math:`W_1`
combinations of the rows of X only, and the flow keeps :math:`W_1W_1^\top - W_2^\top W_2`.
"""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
import torch
from torch import Tensor

from implicit_bias.arrays import as_count, as_real
from implicit_bias.dynamics.two_layer import (
    layers_gradient,
    layers_loss,
    read_decay,
    read_layers,
)
from implicit_bias.records import Path, StepTooLarge

__all__ = ["two_layer_descent", "two_layer_flow"]


def _first(X: Tensor, Y: Tensor, W1: Tensor, W2: Tensor, decay: float) -> float:
    """The loss, if neither it nor its gradient overflows."""
    loss = layers_loss(X, Y, W1, W2, decay)
    grads = layers_gradient(X, Y, W1, W2, decay)
    if not math.isfinite(loss) or not all(bool(torch.isfinite(g).all()) for g in grads):
        raise ValueError(
            f"The loss is {loss:g} where this begins, and it or its gradient overflows. Scale the "
            f"data or the weights down."
        )
    return loss


def two_layer_descent(
    X: Any,
    Y: Any,
    W1: Any,
    W2: Any,
    step: float,
    steps: int = 10_000,
    decay: float = 0.0,
    batch: int | None = None,
    tol: float = 1e-12,
    seed: int = 0,
    every: int | None = None,
) -> Path:
    r"""Returns the path of gradient descent, or of its stochastic version, on both layers.

    Parameters
    ----------
    X : array, shape (n, d)
    Y : array, shape (n, d'), or (n,) for d' = 1
    W1, W2 : array, shapes (h, d) and (d', h)
        Where to begin.
    step : float
        :math:`\eta`, on the loss that is a sum over the examples.
    steps : int
        Budget.
    decay : float
        Weight decay, on every weight at every step; with batches it is divided by how many
        batches make an epoch.
    batch : int, optional
        Examples a step, drawn without replacement; default all of them.
    tol : float
        Full descent has "converged" when the gradient is at most ``tol`` times its largest size
        so far (small weights begin near a saddle, where it is small); 0 spends the whole budget,
        as batches of fewer than all examples always do.
    seed : int
        Of the batches.
    every : int, optional
        Keep every so many steps; default about 200 of them, evenly spaced in logarithm.

    Returns
    -------
    Path
        ``points`` (k, p) are W1 row by row and then W2, as ``DenseNetwork((d, h, d'), "linear",
        bias=False)`` has them; ``losses`` are on all examples, with the decay.

    Raises
    ------
    StepTooLarge
        If the loss rises far above where it began, or overflows on the way.
    TypeError, ValueError
        If shapes disagree, an argument is out of range, or the first loss overflows.

    Notes
    -----
    Source: P18 (13), Lemma 4 and Theorem 2.

    Examples
    --------
    >>> path = two_layer_descent([[1.0, 1.0]], [2.0], [[0.5, 0.5]], [[1.0]], step=0.1)
    >>> path.stopped, round(float(path.points[-1, 0] * path.points[-1, 2]), 9)
    ('converged', 1.0)
    """
    (a, b, u, v), decay = read_layers(X, Y, W1, W2), read_decay(decay)
    budget, n = as_count(steps, "steps"), a.shape[0]
    if not 0 < step < math.inf:
        raise ValueError(f"step = {step} is not a positive number. Pass one.")
    if not tol >= 0:
        raise ValueError(f"tol = {tol} is negative or NaN; 0 spends the whole budget.")
    if batch is not None and as_count(batch, "batch") > n:
        raise ValueError(f"batch = {batch} is more than the {n} examples there are.")
    if every is None:
        keep = {*np.unique(np.round(np.geomspace(1, budget, 200)).astype(int)).tolist()}
    else:
        keep = {*range(0, budget + 1, as_count(every, "every")), budget}
    rng = np.random.default_rng(as_count(seed, "seed", least=0))
    first = _first(a, b, u, v, decay)
    times, points, losses = [0], [torch.cat([u.reshape(-1), v.reshape(-1)])], [first]
    ceiling = 1e3 * first + 1e-20 * float(b.square().sum())
    stopped, largest = "budget", 0.0
    whole = batch is None or batch == n
    share = 1.0 if whole else float(batch or n) / n
    for t in range(1, budget + 1):
        if whole:
            g, k = layers_gradient(a, b, u, v, decay)
            size = math.hypot(float(g.norm()), float(k.norm()))
            largest = max(largest, size)
            if tol > 0 and size <= tol * largest:
                stopped = "converged"
                _keep(t - 1, times, points, losses, a, b, u, v, decay)
                break
        else:
            which = torch.from_numpy(rng.permutation(n)[:batch]).to(a.device)
            g, k = layers_gradient(a[which], b[which], u, v, decay * share)
        u, v = u - step * g, v - step * k
        if t in keep or t == budget or t % 64 == 0:
            now = layers_loss(a, b, u, v, decay)
            if not now <= ceiling:
                raise StepTooLarge(
                    f"The loss rose from {first:g} to {now:g} within {t} steps of size {step:g}. "
                    f"Take a smaller one: at the end it must be below 2 over the largest "
                    f"eigenvalue of the Hessian (two_layer_hessian)."
                )
            if t in keep or t == budget:
                _keep(t, times, points, losses, a, b, u, v, decay)
    at = step * torch.tensor(times).to(a)
    done = times[-1]
    return Path(
        at,
        torch.stack(points),
        torch.tensor(losses, dtype=a.dtype, device=a.device),
        stopped,
        step,
        done,
    )


def _keep(
    t: int, times: Any, points: Any, losses: Any, X: Tensor, Y: Tensor, u: Any, v: Any, decay: float
) -> None:
    if times[-1] != t:
        times.append(t)
        points.append(torch.cat([u.reshape(-1), v.reshape(-1)]))
        losses.append(layers_loss(X, Y, u, v, decay))


def two_layer_flow(
    X: Any, Y: Any, W1: Any, W2: Any, times: Any, decay: float = 0.0, rtol: float = 1e-10
) -> Path:
    r"""Returns the gradient flow of both layers at the times asked for.

    Parameters
    ----------
    X : array, shape (n, d)
    Y : array, shape (n, d'), or (n,) for d' = 1
    W1, W2 : array, shapes (h, d) and (d', h)
        Where to begin.
    times : array, shape (k,)
        Increasing, from 0 or later, finite.
    decay : float
        Weight decay.
    rtol : float
        Relative error that a step may make, from 1e-13 to 1e-2.

    Returns
    -------
    Path
        ``points`` (k, p) as in ``two_layer_descent``; ``stopped`` is "reached".

    Raises
    ------
    ArithmeticError
        If the integrator gives up, or ends where the flow cannot: see Notes.
    TypeError, ValueError
        If shapes disagree, an argument is out of range, or the first loss overflows.

    Notes
    -----
    Source: P18 (13). SciPy's LSODA, which turns implicit where the flow is stiff. The loss falls
    along the flow, and :math:`e^{2\gamma t}(W_1 W_1^\top - W_2^\top W_2)` stays as it is; what
    breaks either law by 1e-4 of the largest weights or of the first loss, or 100 ``rtol`` of it if
    that is more, is refused.

    Examples
    --------
    >>> path = two_layer_flow([[1.0]], [1.0], [[1.0]], [[0.0]], [0.0, 100.0])
    >>> round(float(path.x.prod()), 9)
    1.0
    """
    (a, b, u, v), decay = read_layers(X, Y, W1, W2), read_decay(decay)
    at = as_real(times, "times").reshape(-1)
    if not at.numel() or not bool((at >= 0).all()) or not bool((at[1:] > at[:-1]).all()):
        raise ValueError(
            f"times must increase from 0 or later: the flow is recorded as it passes. Got "
            f"{at.tolist()[:6]}."
        )
    if not 1e-13 <= rtol <= 1e-2:
        raise ValueError(f"rtol = {rtol} is not between 1e-13 (rounding) and 1e-2.")
    from scipy.integrate import solve_ivp

    A, B = a.cpu(), b.cpu()
    shapes, cut = (u.shape, v.shape), u.numel()

    left = 20_000 + 1000 * (cut + v.numel())  # a Jacobian by differences takes p evaluations

    def right(_: float, theta: Any) -> Any:
        nonlocal left
        left -= 1
        if left < 0:
            raise ArithmeticError(
                "The integrator came to no end: the flow is too stiff for it. Scale the data and "
                "the weights towards 1, or ask for a larger rtol."
            )
        w = torch.from_numpy(theta)
        grads = layers_gradient(A, B, w[:cut].reshape(shapes[0]), w[cut:].reshape(shapes[1]), decay)
        return -torch.cat([g.reshape(-1) for g in grads]).numpy()

    first = _first(a, b, u, v, decay)
    start = torch.cat([u.reshape(-1), v.reshape(-1)]).cpu().numpy()
    goal = at.cpu().numpy()
    if goal[-1] == 0:
        found = start[None]
    else:
        # Relative to where it begins: near the saddle at zero a small error is a late escape.
        scale = max(rtol * np.abs(start).max(), np.finfo(float).tiny)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what LSODA warns of, it also reports
            run = solve_ivp(
                right, (0.0, goal[-1]), start, "LSODA", t_eval=goal, rtol=rtol, atol=scale
            )
        if not run.success:
            raise ArithmeticError(
                f"The integrator stopped at time {run.t[-1] if run.t.size else 0:g} of "
                f"{goal[-1]:g} ({run.message}). Ask for a larger rtol, or scale the data down."
            )
        found = run.y.T
        if goal[0] == 0:
            found[0] = start  # its interpolant is off by rounding
    points = torch.from_numpy(np.ascontiguousarray(found)).to(a)
    losses = [
        layers_loss(a, b, w[:cut].reshape(shapes[0]), w[cut:].reshape(shapes[1]), decay)
        for w in points
    ]
    slack, largest = max(1e-4, 100 * rtol), float(u.square().sum() + v.square().sum())
    kept = u @ u.T - v.T @ v
    for t, w, before, loss in zip(at.tolist(), points, [first, *losses], losses, strict=False):
        W1, W2 = w[:cut].reshape(shapes[0]), w[cut:].reshape(shapes[1])
        drift = float((W1 @ W1.T - W2.T @ W2 - math.exp(-2 * decay * t) * kept).norm())
        largest = max(largest, float(w.square().sum()))  # weights may grow, and their rounding
        if not drift <= slack * largest:
            raise _off(f"W1 W1^T - W2^T W2 is off by {drift:g}", t)
        if not loss <= before + slack * first:
            raise _off(f"the loss rose from {before:g} to {loss:g}", t)
    return Path(at.to(a), points, torch.tensor(losses, dtype=a.dtype, device=a.device), "reached")


def _off(what: str, t: float) -> ArithmeticError:
    return ArithmeticError(
        f"The integrator lost the flow before time {t:g}: {what}, as no gradient flow can. Ask for "
        f"a smaller rtol, or scale the data towards 1."
    )
