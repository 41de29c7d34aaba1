r"""One implicit step of steepest descent on the exponential loss, solved to the last digits.

The step from a point with margins m solves

.. math:: \min_\delta\ \log\sum_i e^{-m_i - \langle z_i, \delta\rangle}
          + \frac{\|\delta\|^2}{2h},

and its dual, over weights q on the simplex, is

.. math:: \max_q\ -\sum_i q_i \log q_i - \langle q, m\rangle - \tfrac h2 \|Z^\top q\|_*^2 .

At the optimum q are the softmax weights after the step and :math:`\delta = h\,\nabla\tfrac12
\|Z^\top q\|_*^2`. Where that square is smooth Newton's method runs in q; for p = 1 and inf a
primal-dual interior point method does. Both keep :math:`\theta = \log q`, so that weights of
e^(-1e8) are as good as any, and both are judged by the gap between the two values above, which is
computed from the data and is zero only at the solution.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from implicit_bias.norms import PowerNorm, QuadraticNorm

__all__ = ["duality_gap", "proximal_step"]

Smooth = PowerNorm | QuadraticNorm


def _normalised(theta: Tensor) -> Tensor:
    return theta - torch.logsumexp(theta, 0)


def _moved(theta: Tensor, change: Tensor) -> Tensor:
    """log q after Newton's change of log q: falling weights fall exponentially, as log q tells;
    rising ones rise linearly, as q tells, but are free to come back from nothing."""
    rising = torch.maximum(theta + torch.log1p(change.clamp(min=0)), theta.clamp(min=-20))
    rising = torch.minimum(rising, theta + change)
    return torch.where(change > 0, rising, theta + change)


def duality_gap(
    Z: Tensor, m: Tensor, h: float, norm: Smooth, delta: Tensor, theta: Tensor
) -> tuple[float, float]:
    """Primal minus dual value of the step, and the size of what cancels in it."""
    size = norm.value(delta) ** 2 / (2 * h)
    primal = float(torch.logsumexp(-(m + Z @ delta), 0)) + size
    q = theta.exp()
    reach = h * norm.dual(Z.T @ q) ** 2 / 2
    inner = float((q * theta).sum() + q @ m)
    return primal + inner + reach, abs(primal) + abs(inner) + reach


def _smooth(Z: Tensor, m: Tensor, h: float, norm: Smooth, theta: Tensor) -> tuple[Tensor, Tensor]:
    """Damped Newton in q, on the convex function that the dual maximises (with its sign turned)."""

    def objective(theta: Tensor) -> float:
        q = theta.exp()
        return float((q * theta).sum() + q @ m) + h * norm.dual(Z.T @ q) ** 2 / 2

    value = objective(theta)
    eye = torch.eye(len(m), dtype=m.dtype, device=m.device)
    for _ in range(300):
        q = theta.exp()
        g = Z.T @ q
        if not float(g.abs().max()):
            break
        r = theta + m + h * norm.dual(g) * (Z @ norm.steepest(g))
        root = q.sqrt()
        curvature = h * (Z @ norm.dual_hessian(g) @ Z.T)
        B = eye + root[:, None] * curvature * root
        factor, info = torch.linalg.cholesky_ex(B)
        if int(info):
            break
        r = r - q @ r
        both = torch.cholesky_solve(torch.stack([-root * r, root], 1), factor)
        shift = float(root @ both[:, 0]) / float(root @ both[:, 1])
        x = both[:, 0] - shift * both[:, 1]
        change = -r - shift - curvature @ (root * x)
        decrease = float(x @ (root * r))  # negative: the slope along the step
        t, rounding = 1.0, 1e-15 * (abs(value) + 1)
        while t > 1e-8:
            trial = _normalised(_moved(theta, t * change))
            new = objective(trial)
            if new <= value + 1e-4 * t * decrease + rounding:
                break
            t /= 2
        else:
            break
        theta, value = trial, new
        if t == 1 and float((q * change.abs()).max()) <= 1e-12:
            break
    g = Z.T @ theta.exp()
    if not float(g.abs().max()):
        return torch.zeros_like(g), theta
    return h * norm.dual(g) * norm.steepest(g), theta


def _primal(
    Z: Tensor, m: Tensor, h: float, norm: PowerNorm, theta: Tensor
) -> tuple[Tensor, Tensor]:
    """Damped Newton in delta, for p > 2: there the square of the norm is the smooth one."""
    polar = PowerNorm(norm.q)
    g = Z.T @ theta.exp()
    if not float(g.abs().max()):
        return torch.zeros_like(g), theta
    delta = h * norm.dual(g) * norm.steepest(g)

    def objective(delta: Tensor) -> float:
        return float(torch.logsumexp(-(m + Z @ delta), 0)) + norm.value(delta) ** 2 / (2 * h)

    value = objective(delta)
    eye = torch.eye(len(delta), dtype=m.dtype, device=m.device)
    for _ in range(300):
        q = torch.softmax(-(m + Z @ delta), 0)
        g = Z.T @ q
        gradient = norm.value(delta) / h * polar.steepest(delta) - g
        H = polar.dual_hessian(delta) / h + (Z.T * q) @ Z - torch.outer(g, g)
        # Where an entry of delta vanishes the norm is flat to second order.
        H = H + 1e-14 * float(H.diagonal().abs().max()) * eye
        step, info = torch.linalg.solve_ex(H, -gradient)
        slope = float(step @ gradient)
        if int(info) or not slope < 0:
            break
        t, rounding = 1.0, 1e-15 * (abs(value) + 1)
        while t > 1e-8:
            new = objective(delta + t * step)
            if new <= value + 1e-4 * t * slope + rounding:
                break
            t /= 2
        else:
            break
        delta, value = delta + t * step, new
        if t == 1 and float((Z @ step).abs().max()) <= 1e-10:
            break
    return delta, _normalised(-(m + Z @ delta))


def _boundary(v: Tensor, dv: Tensor) -> float:
    """The largest step up to 1 that keeps 0.995 of the way to v = 0 unspent."""
    falling = dv < 0
    return min(1.0, 0.995 * float((-v[falling] / dv[falling]).min())) if falling.any() else 1.0


def _interior(
    Z: Tensor, m: Tensor, h: float, norm: PowerNorm, theta: Tensor
) -> tuple[Tensor, Tensor]:
    r"""Primal-dual interior point method for p = 1 and p = inf, in :math:`u = \delta/h`.

    For p = 1: constraints :math:`|Z^\top q|_j \le t`, whose multipliers are the two signs of u.
    For p = inf: constraints :math:`|u_j| \le t`, whose multipliers are those of Z^T q. The two
    exchange the roles of u and :math:`g = Z^\top q`; s are the slacks, dual the multipliers.
    """
    one = norm.p == 1
    d = Z.shape[1]
    g = Z.T @ theta.exp()
    t = 1.1 * norm.dual(g) + 1e-300
    u = torch.zeros_like(g)
    held = g if one else u  # what the constraints hold within [-t, t]
    s = torch.stack([t - held, t + held])
    dual = torch.full_like(s, t / (2 * d))
    if not one:
        dual = torch.stack([g.clamp(min=0), (-g).clamp(min=0)]) + 0.1 * t / d
    best, least, stalled = (h * u, theta), math.inf, 0
    sign = torch.tensor([[1.0], [-1.0]], dtype=Z.dtype, device=Z.device)
    n = len(m)
    for _ in range(200):
        q = theta.exp()
        g = Z.T @ q
        if one:
            u = dual[0] - dual[1]
        gap, size = duality_gap(Z, m, h, norm, h * u, theta)
        stalled = 0 if gap < least else stalled + 1
        if gap < least:
            least, best = gap, (h * u, theta)
        mean = float((dual * s).mean())
        if (
            gap <= 1e-14 * size
            or mean < 1e-18 * t * t
            or stalled > (6 if gap <= 1e-9 * size else 40)
        ):
            break
        mu = 0.1 * mean
        D = dual / s
        total, skew = D.sum(0), D[0] - D[1]
        a = mu / s - dual - D * (t - sign * (g if one else u) - s)
        r_t = t - float(dual.sum())
        r_q = (theta + m) / h + Z @ u
        r_q = r_q - q @ r_q
        if one:
            weight, lean, push = total, -skew, a[0] - a[1]
            corner = 1 + float(total.sum())
            right_t = -r_t + float(a.sum())
        else:
            weight, lean = 1 / total, skew / total
            push = (g - (dual[0] - dual[1]) - (a[0] - a[1])) / total
            corner = 1 + float((4 * D[0] * D[1] / total).sum())
            right_t = -r_t + float(a.sum()) + float(skew @ push)
        root = q.sqrt()
        rows = root[:, None] * Z
        K = torch.zeros(n + 2, n + 2, dtype=Z.dtype, device=Z.device)
        K[:n, :n] = (rows * weight) @ rows.T
        K[:n, :n].diagonal().add_(1 / h)
        K[:n, n] = rows @ lean
        K[n, :n] = K[:n, n] * (1 if one else -1)
        K[n, n] = corner
        K[:n, n + 1] = K[n + 1, :n] = root
        right = torch.zeros(n + 2, dtype=Z.dtype, device=Z.device)
        right[:n] = -root * (r_q + Z @ push)
        right[n] = right_t
        x, info = torch.linalg.solve_ex(K, right)
        if int(info) or not bool(torch.isfinite(x).all()):
            break
        dt, dc = float(x[n]), float(x[n + 1])
        dg = rows.T @ x[:n]
        if one:
            d_dual = a - D * (dt - sign * dg)
            du = d_dual[0] - d_dual[1]
        else:
            du = weight * dg + push + lean * dt
            d_dual = a - D * (dt - sign * du)
        ds = (t - sign * (g if one else u) - s) + dt - sign * (dg if one else du)
        # du carries the rounding of D, times h; where q is not tiny its own change is better.
        tiny = q < 1e-6
        change = torch.where(tiny, -h * (r_q + Z @ du + dc), x[:n] / root.clamp(min=1e-4))
        step = min(_boundary(s, ds), _boundary(dual, d_dual))
        step = min(step, _boundary(q[~tiny], (q * change)[~tiny]))
        s, dual, t, u = s + step * ds, dual + step * d_dual, t + step * dt, u + step * du
        linear = theta + torch.log1p((step * change).clamp(min=-0.999))
        theta = _normalised(torch.where(tiny, _moved(theta, step * change), linear))
    return best


def proximal_step(
    Z: Tensor, m: Tensor, h: float, norm: Smooth, theta: Tensor
) -> tuple[Tensor, Tensor]:
    """Returns the step delta (d,) and log q (n,) after it.

    Parameters
    ----------
    Z : Tensor, shape (n, d)
    m : Tensor, shape (n,)
        Margins before the step.
    h : float
        Its length in arc.
    norm : PowerNorm or QuadraticNorm
    theta : Tensor, shape (n,)
        Guess of log q; the logarithms of the softmax weights before the step serve.

    Raises
    ------
    RuntimeError
        If the duality gap stays above 1e-9, relative to what cancels in it.

    Examples
    --------
    >>> Z = torch.eye(2, dtype=torch.float64)
    >>> zero = torch.zeros(2, dtype=torch.float64)
    >>> proximal_step(Z, zero, 4.0, PowerNorm(2.0), zero)[0]
    tensor([2., 2.], dtype=torch.float64)
    """
    theta = _normalised(theta)
    if isinstance(norm, PowerNorm) and not norm.strictly_convex:
        found = [_interior(Z, m, h, norm, theta)]
    else:
        found = [_smooth(Z, m, h, norm, theta)]
    enough = 1e-9  # both reach 1e-13, as a rule
    gap, size = duality_gap(Z, m, h, norm, *found[0])
    if not gap <= enough * (size + 1) and isinstance(norm, PowerNorm) and 2 < norm.p < math.inf:
        found.append(_primal(Z, m, h, norm, theta))
        gap, size = duality_gap(Z, m, h, norm, *found[-1])
    if not gap <= enough * (size + 1):
        raise RuntimeError(
            f"The implicit step of length {h:.3g} was not solved: its duality gap is {gap:.3g}, "
            f"beside values of {size:.3g}. Another norm, or better scaled features, may help."
        )
    return found[-1]
