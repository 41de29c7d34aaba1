r"""Bregman projections on the interpolators, by Newton's method on the dual problem.

The point w with :math:`Xw = y` of least divergence :math:`D_\phi(w, w_0)` is
:math:`w(\lambda) = (\nabla\phi)^{-1}(\nabla\phi(w_0) + X^\top\lambda)`, where :math:`\lambda`
minimises the convex function :math:`\phi^*(\nabla\phi(w_0) + X^\top\lambda) - y^\top\lambda`: its
gradient is :math:`Xw(\lambda) - y`, its Hessian :math:`X(\nabla^2\phi)^{-1}X^\top`. A p-norm with
p > 2 has an infinite dual Hessian where a weight is zero, but a bounded primal one: there Newton
runs on the null space of X instead, on :math:`\phi(w) - \langle\nabla\phi(w_0), w\rangle`.

Either way the function h is a potential plus a linear one, so :math:`h(b) - h(a) = \langle\nabla
h(a), b - a\rangle + D(b, a)` with D a divergence, which is computed without cancellation. The line
search (Armijo) reads off this and works down to rounding.

The entropy has an interpolator only if some :math:`u \ge 0` has :math:`Xu = y`. If none has,
Farkas' lemma gives :math:`\lambda` with :math:`X^\top\lambda \le 0 < y^\top\lambda`, a proof. If
all of them vanish at some coordinates, so does the projection, and a linear programme finds which:
those where :math:`X^\top\mu < 0` for some :math:`\mu` with :math:`X^\top\mu \le 0 = y^\top\mu`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from implicit_bias.potentials import Entropy, PNorm, Potential
from implicit_bias.problems import Regression, as_start
from implicit_bias.records import Limit

__all__ = ["Infeasible", "bregman_projection"]

EPS = torch.finfo(torch.float64).eps


class Infeasible(ValueError):
    """No point in the domain fits the data; the certificate proves it.

    Attributes
    ----------
    certificate : Tensor, shape (n,)
        Multipliers with ``y @ certificate > 0`` and, up to 1e-9 relative, ``X.T @ certificate``
        at most 0 (entropy) or equal to 0 (any potential): no combination of the equations that
        it makes can hold.

    Examples
    --------
    >>> try:
    ...     bregman_projection(Regression([[1.0, 2.0]], [-1.0]), Entropy(), [1.0, 1.0])
    ... except Infeasible as error:
    ...     print(error.certificate)
    tensor([-1.], dtype=torch.float64)
    """

    def __init__(self, message: str, certificate: Tensor):
        super().__init__(message)
        self.certificate = certificate


class _Rows:
    """The equations Aw = b with orthonormal rows that say the same as Xw = y."""

    def __init__(self, X: Tensor, y: Tensor, precision: float, noise: float):
        U, s, Vh = torch.linalg.svd(X, full_matrices=False)
        self.rank = r = int((s > max(X.shape) * precision * s[0]).sum())
        self.back = U[:, :r] / s[:r]  # multipliers of Aw = b to those of Xw = y
        self.A = Vh[:r]
        self.b = self.back.T @ y
        if r == len(y):
            return  # every y is reached
        misfit = y - U[:, :r] @ (U[:, :r].T @ y)
        scale = float(torch.linalg.matrix_norm(X) * self.b.norm() + y.norm())
        if float(misfit.norm()) > 10 * max(X.shape) * noise * scale:
            # Once more, since what is left of a subtraction has few correct digits.
            certificate = _verified(X, y, misfit - U[:, :r] @ (U[:, :r].T @ misfit), equal=True)
            message = (
                f"No w at all has Xw = y: a part of y of relative size "
                f"{float(misfit.norm() / y.norm()):.1e} is outside the range of X, so there is "
                f"nothing to project on. Remove contradictory rows, or use minimum_norm, which "
                f"then fits by least squares."
            )
            raise ValueError(message) if certificate is None else Infeasible(message, certificate)


def _verified(X: Tensor, y: Tensor, certificate: Tensor, equal: bool) -> Tensor | None:
    """The certificate at unit size if it proves what it should, else None."""
    size = float(certificate.abs().max())
    if not 0 < size < math.inf:
        return None
    certificate = certificate / size
    image = X.T @ certificate
    excess = float(image.abs().max() if equal else image.max())
    allowed = 1e-9 * float(X.abs().max())
    gain = float(y @ certificate)
    return certificate if excess <= allowed and gain > 1e-9 * float(y.abs().max()) else None


def _newton(
    base: Tensor,
    B: Tensor,
    linear: Tensor,
    gradient: Callable[[Tensor], Tensor],
    curved: Callable[[Tensor], Tensor],
    divergence: Callable[[Tensor, Tensor], Tensor],
    v: Tensor,
    cap: float,
) -> Tensor:
    """Minimises f(base + B v) - linear . B v over v, f convex, by damped Newton steps.

    ``gradient`` is that of f, ``curved`` its Hessian times B, ``divergence`` its own; ``cap`` is
    the most by which a step may move base + B v.
    """
    at = base + B @ v
    slope = B.T @ (gradient(at) - linear)
    for _ in range(500):
        H = B.T @ curved(at)
        top = float(H.diagonal().max()) if bool(torch.isfinite(H).all()) else math.inf
        if 0 < top < math.inf:
            values, vectors = torch.linalg.eigh((H + H.T) / 2)
            # Where there is no curvature the step is long but finite; the search shortens it.
            move = -vectors @ ((vectors.T @ slope) / values.clamp(min=4 * EPS * top))
        else:
            move = -slope
        drop = -float(slope @ move)
        reach = float((B @ move).abs().max())
        if not drop > 0 or not math.isfinite(reach):
            break
        scale = min(1.0, cap / reach)
        while True:
            trial = base + B @ (v + scale * move)
            if float(divergence(trial, at)) <= 0.9 * scale * drop:
                break
            scale /= 2
            if scale * reach < 1e-18:
                return v
        there = B.T @ (gradient(trial) - linear)
        # Newton squares a small step: the one after this would be rounding.
        small = scale * reach <= 1e-9 * (1.0 if cap < math.inf else float(at.abs().max()))
        if small and float(there.norm()) >= 0.5 * float(slope.norm()):
            break
        v, at, slope = v + scale * move, trial, there
    return v


def _on_dual(potential: Potential, rows: _Rows, w0: Tensor) -> tuple[Tensor, Tensor]:
    """The projection, and its multipliers for Aw = b."""
    A, b, image = rows.A, rows.b, potential.mirror(w0, check=False)

    def point(z: Tensor) -> Tensor:
        return potential.inverse_mirror(z, check=False)

    v = torch.zeros_like(b)
    if not rows.rank:
        return w0, v
    if isinstance(potential, PNorm):
        # The dual Hessian vanishes at z = 0: begin at the image of an interpolator.
        v = A @ (potential.mirror(w0 + A.T @ (b - A @ w0), check=False) - image)

    def solve(image: Tensor, v: Tensor) -> Tensor:
        return _newton(
            image,
            A.T,
            A.T @ b,
            point,
            lambda z: potential.precondition(point(z), A.T),
            lambda z, at: potential.divergence(point(at), point(z), check=False),
            v,
            20.0 if isinstance(potential, Entropy) else math.inf,
        )

    first = solve(image, v)
    reached = float((A @ point(image + A.T @ first) - b).norm())
    if isinstance(potential, Entropy) and not reached <= 1e-9 * float(b.norm()):
        # From a tiny start the Hessian may underflow on the way: begin at u_0^(1/64), and let
        # the exponent double, as the multipliers then do, nearly.
        first = v
        for halvings in range(6, -1, -1):
            first = solve(image / 2**halvings, 2 * first)
    v = first
    return point(image + A.T @ v), v


def _on_null_space(potential: PNorm, rows: _Rows, w0: Tensor) -> tuple[Tensor, Tensor]:
    """The same for a potential with a bounded Hessian, among the interpolators themselves."""
    A, image = rows.A, potential.mirror(w0, check=False)
    x = w0 + A.T @ (rows.b - A @ w0)
    N = torch.linalg.svd(A)[2][rows.rank :].T
    if N.shape[1]:
        v = _newton(
            x,
            N,
            image,
            lambda w: potential.mirror(w, check=False),
            lambda w: (potential.p - 1) * w.abs().pow(potential.p - 2)[:, None] * N,
            lambda w, at: potential.divergence(w, at, check=False),
            torch.zeros_like(N[0]),
            math.inf,
        )
        x = x + N @ v
    return x, A @ (potential.mirror(x, check=False) - image)


def _refuse_infeasible(problem: Regression, rows: _Rows) -> None:
    """Raises if no u >= 0 has Xu = y: what non-negative least squares leaves over proves it."""
    from scipy.optimize import nnls

    A, b = rows.A.cpu().numpy(), rows.b.cpu().numpy()
    u, left = nnls(A, b, maxiter=30 * A.shape[1])
    if left <= 1e-13 * math.sqrt(A.shape[1]) * (np.linalg.norm(u) + np.linalg.norm(b)):
        return
    # The remainder r has A_j . r = 0 on the support; a second projection gives it all digits.
    r = b - A @ u
    support = A[:, u > 0]
    if support.shape[1]:
        r = r - support @ np.linalg.lstsq(support, r, rcond=None)[0]
    dual = rows.back @ torch.from_numpy(r).to(rows.b)
    certificate = _verified(problem.X, problem.y, dual, equal=False)
    if certificate is not None:
        raise Infeasible(
            f"No u >= 0 has Xu = y (the nearest misses by {left / np.linalg.norm(b):.1e} of y), "
            f"and the entropy knows no negative weights. The attribute certificate has X^T c <= 0 "
            f"< y^T c. Use another potential, or write w as a difference: Regression([X, -X], y).",
            certificate,
        )


def _zeros(rows: _Rows) -> Tensor:
    """Which coordinates are 0 in every u >= 0 with Au = b, shape (d,), with proof."""
    from scipy.optimize import linprog

    r, d = rows.A.shape
    size = rows.A.norm(dim=0)
    A = (rows.A / torch.where(size > 0, size, torch.ones_like(size))).cpu().numpy()
    b = rows.b.cpu().numpy()
    length = float(np.linalg.norm(b))
    b = b / length if length else b
    # Maximise the number of strict inequalities in A^T mu <= 0 = b^T mu.
    found = linprog(
        np.concatenate([np.zeros(r), -np.ones(d)]),
        A_ub=np.hstack([A.T, np.eye(d)]),
        b_ub=np.zeros(d),
        A_eq=np.concatenate([b, np.zeros(d)])[None],
        b_eq=[0.0],
        bounds=[(-1e5, 1e5)] * r + [(0, 1)] * d,
        method="highs",
        options={"primal_feasibility_tolerance": 1e-10},
    )
    none = torch.zeros(d, dtype=torch.bool, device=rows.b.device)
    if not found.success:
        return none
    mu = found.x[:r]
    image = A.T @ mu
    # The programme has an exact zero on its right; what comes back must be one to rounding.
    if abs(b @ mu) > 1e-9 * (1 + abs(mu).max()) or image.max() > 1e-9 * (1 + abs(mu).max()):
        return none
    return torch.from_numpy(image < -0.5).to(none)


def bregman_projection(problem: Regression, potential: Potential, start: Any) -> Limit:
    r"""Returns the interpolator of least divergence :math:`D_\phi(w, w_0)` from the start.

    Parameters
    ----------
    problem : Regression
        X of shape (n, d), of any rank, with Xw = y solvable.
    potential : Potential
    start : array, shape (d,)
        :math:`w_0`, in the domain of the potential (positive for the entropy; None, zero,
        elsewhere).

    Returns
    -------
    Limit
        ``x`` (d,) and ``dual`` (n,) with :math:`\nabla\phi(x) - \nabla\phi(w_0) =
        X^\top\mathrm{dual}`; ``objective`` is the divergence; ``residual`` the larger of
        :math:`\|Xx - y\|` and the misfit of that equation, both relative to their parts.

    Raises
    ------
    Infeasible
        If no point in the domain (or none at all) fits the data; with a certificate.
    RuntimeError
        If Newton's method ends with a residual above 1e-8.
    TypeError, ValueError
        If the start is outside the domain, or an argument has the wrong type or shape.

    Notes
    -----
    Source: M24, Theorem 2. Entropy: where every non-negative interpolator has zeros in common,
    the projection has the same zeros; their multipliers would be infinite, and the equation for
    ``dual`` holds on the other coordinates. Weights below 1e-300 are not asked for it either.
    Singular values of X below max(n, d) times the precision of the input count as zero.

    Examples
    --------
    >>> limit = bregman_projection(Regression([[1.0, 1.0]], [3.0]), Entropy(), [0.2, 0.1])
    >>> limit.x.round(decimals=8), limit.dual.exp().round(decimals=8)
    (tensor([2., 1.], dtype=torch.float64), tensor([10.], dtype=torch.float64))
    """
    if not isinstance(problem, Regression):
        raise TypeError(
            f"A Bregman projection needs equations Xw = y, a Regression; got "
            f"{type(problem).__name__}. Build a Regression(X, y)."
        )
    if not isinstance(potential, Potential):
        raise TypeError(
            f"potential = {potential!r} has no divergence. Pass SquaredNorm(), Entropy(), "
            f"Quadratic(K) or PNorm(p)."
        )
    X, y = problem.X, problem.y
    w0 = potential.check_point(as_start(problem, start), "start")
    rows = _Rows(X, y, problem.precision, problem.noise)
    entropy = isinstance(potential, Entropy)
    if entropy:
        _refuse_infeasible(problem, rows)
    solver, kept = "Newton on the dual", torch.ones_like(w0, dtype=torch.bool)
    if isinstance(potential, PNorm) and potential.p > 2:
        solver = "Newton on the null space"
        x, v = _on_null_space(potential, rows, w0)
    else:
        x, v = _on_dual(potential, rows, w0)
    dual = rows.back @ v
    if entropy and not float(x.min()) > 1e-9 * float(x.max()) * float(y.any()):
        kept = ~_zeros(rows)
        if not bool(kept.all()):
            solver += f", {int(kept.sum())} of {len(x)} weights not zero"
            x, dual = torch.zeros_like(x), torch.zeros_like(y)
            if bool(kept.any()):
                face = _Rows(X[:, kept], y, problem.precision, problem.noise)
                x[kept], v = _on_dual(potential, face, w0[kept])
                dual = face.back @ v
    residual = _residual(problem, potential, w0, x, dual, kept)
    if not residual <= 1e-8:
        raise RuntimeError(
            f"Newton's method ended with a residual of {residual:.1e}, so its answer is no "
            f"projection. The data are nearly infeasible or ill-conditioned: scale the columns "
            f"alike, or take a less extreme start or p."
        )
    return Limit(
        x=x,
        dual=dual,
        objective=float(potential.divergence(x, w0)),
        residual=residual,
        solver=solver,
        rank=rows.rank,
    )


def _residual(
    problem: Regression, potential: Potential, w0: Tensor, x: Tensor, dual: Tensor, kept: Tensor
) -> float:
    """The larger of the two relative misfits: of the data, and of the multipliers."""
    X, y = problem.X, problem.y
    parts = float(torch.linalg.matrix_norm(X) * x.norm() + y.norm())
    gap = float((X @ x - y).norm()) / parts if parts else 0.0
    if isinstance(potential, Entropy):
        kept = kept & (x > 1e-300)
    if not bool(kept.any()):
        return gap
    image = potential.mirror(x[kept], check=False)
    before = potential.mirror(w0[kept], check=False)
    shift = X.T[kept] @ dual
    # A change of 1 in log w is of order 1 whatever w; other images have the size of w.
    parts = float(image.norm() + before.norm()) + float(isinstance(potential, Entropy))
    return max(gap, float((image - before - shift).norm()) / parts if parts else 0.0)
