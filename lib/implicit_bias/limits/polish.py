r"""From the active set to the last digit: the algorithms behind ``max_margin``.

All of them work on NumPy arrays and solve, or finish solving,

.. math:: \min \tfrac12\|w\|^2 \quad\text{subject to}\quad Zw \ge 1,

whose optimum is :math:`Z^\top\alpha = \nabla\tfrac12\|w\|^2` with :math:`\alpha \ge 0` supported
on the rows where :math:`\langle z_i, w\rangle = 1`: the active ones. Once these are known, what
is left is a system of equations, and Newton's method solves it to rounding.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Separation", "least_distance", "newton", "newton_box", "newton_groups", "newton_power"]

Array = NDArray[np.float64]
_EPS = float(np.finfo(np.float64).eps)


class Separation(Exception):
    """Raised inside when no separator was found; carries the best multipliers on the simplex."""

    def __init__(self, multipliers: Array):
        super().__init__()
        self.multipliers = multipliers


def _equality(A: Array, b: Array) -> tuple[Array, Array]:
    """The w of least norm with A w = b, and the multipliers with A^T beta = w."""
    from scipy.linalg import solve_triangular

    if A.shape[0] <= A.shape[1]:
        Q, R = np.linalg.qr(A.T)
        size = np.abs(np.diag(R))
        if size.min() > 8 * max(A.shape) * _EPS * size.max():

            def solve(r: Array) -> Array:
                half = solve_triangular(R, r, trans="T", check_finite=False)
                solution: Array = Q @ half
                return solution

            w = solve(b)
            w = w + solve(b - A @ w)  # one step of refinement removes most of the rounding
            return w, solve_triangular(R, Q.T @ w, check_finite=False)
    # Dependent rows: only least squares has an answer, and only if the rows agree is it exact.
    w = np.asarray(np.linalg.lstsq(A, b, rcond=None)[0], dtype=np.float64)
    return w, np.asarray(np.linalg.lstsq(A.T, w, rcond=None)[0], dtype=np.float64)


def _lawson_hanson(A: Array, b: Array) -> tuple[Array, float]:
    """Multipliers from non-negative least squares on [A^T; c b^T], and an upper bound on 1/|w|.

    The residual is ~ c |w|^-1 when that is small, so c is brought to the size of 1/|w|: then
    nothing cancels. Certified to be inseparable when the residual vanishes.
    """
    from scipy.optimize import nnls

    n, d = A.shape
    target = np.zeros(d + 1)
    target[d] = 1.0
    c = 0.1
    for _ in range(4):
        u, _ = nnls(np.vstack([A.T, c * b]), target, maxiter=20 * (n + d))
        total, pull = float(b @ u), float(np.linalg.norm(A.T @ u))
        # SciPy reports the residual 0 when as many weights as equations are positive, true or not.
        misfit = math.hypot(pull, c * total - 1)
        bound = pull / total
        if misfit < 1e-14 or bound < 1e-15:
            raise Separation(u)
        if 0.1 <= c / bound <= 10:
            break
        c = bound
    return u, bound


def least_distance(Z: Array) -> tuple[Array, Array]:
    """The Euclidean max margin: w and alpha with w = Z^T alpha, min Zw = 1 up to rounding.

    Rows are normalised first. Lawson and Hanson's non-negative least squares finds the active
    set; the equations on it are solved by QR; then rows that are still violated enter, and rows
    whose multiplier would turn negative leave, until rounding decides.
    """
    top = float(np.abs(Z).max())
    sizes = np.abs(Z / top).max(1)
    sizes = sizes * np.linalg.norm(Z / top / sizes[:, None], axis=1)
    A = Z / top / sizes[:, None]
    b = sizes.min() / sizes
    try:
        u, bound = _lawson_hanson(A, b)
    except Separation as found:
        raise Separation(found.multipliers * b) from None  # of the rows of Z again
    A = A / bound  # now |w| is about 1
    active = u > 0
    reach = float(np.linalg.norm(A.T @ u))
    beta = u * (float(b @ u) / reach**2)
    solution = None
    least = math.inf
    for _ in range(100):
        rows = np.flatnonzero(active)
        w, target = _equality(A[rows], b[rows])
        misfit = b[rows] - A[rows] @ w
        if np.linalg.norm(misfit) > 64 * _EPS * np.linalg.norm(A[rows]) * np.linalg.norm(w):
            # Dependent rows that contradict each other as equations: A^T misfit = 0 and
            # b^T misfit > 0, so the dual rises along misfit until a multiplier is spent.
            falling = misfit < 0
            if not falling.any():
                break
            ratio = np.full(rows.size, math.inf)
            ratio[falling] = beta[rows][falling] / -misfit[falling]
            step = float(ratio.min())
            beta[rows] = np.where(ratio <= step, 0.0, beta[rows] + step * misfit)
            active[rows[ratio <= step]] = False
            continue
        falling = target <= -8 * _EPS * np.abs(target).max()  # a zero may come out negative
        if falling.any():
            # Towards the new multipliers as far as all stay non-negative, as Lawson and Hanson do.
            old = beta[rows]
            ratio = np.full(rows.size, math.inf)
            ratio[falling] = old[falling] / np.maximum(old[falling] - target[falling], 1e-300)
            step = float(ratio.min())
            beta[rows] = np.where(ratio <= step, 0.0, old + step * (target - old))
            active[rows[ratio <= step]] = False
            if active.any():
                continue
            break
        beta[:] = 0.0
        beta[rows] = np.maximum(target, 0.0)
        violation = b - A @ w
        worst = int(np.argmax(violation))
        drift = float(np.linalg.norm(A.T @ beta - w) / np.linalg.norm(w))
        error = max(float(violation[worst] / b[worst]), drift, 0.0)
        if error < least:
            least, solution = error, (w.copy(), beta.copy())
        if violation[worst] <= 4 * _EPS * np.linalg.norm(A[worst]) * np.linalg.norm(w):
            break
        if active[worst]:
            break  # already an equation: what is left is rounding
        active[worst] = True
    if solution is None:
        raise Separation(u * b)
    w, beta = solution
    # A w >= b, with A = Z / (top sizes bound) and b = min(sizes) / sizes, is Z w' >= 1 with:
    factor = 1 / (top * bound * sizes.min())
    return w * factor, beta * (factor / (top * bound)) / sizes


def _half_square(v: Array, r: float) -> tuple[Array, Array]:
    """Gradient and Hessian of half the squared r-norm, r >= 2, at v not 0."""
    top = float(np.abs(v).max())
    size = top * float((np.abs(v / top) ** r).sum()) ** (1 / r)
    share = np.abs(v) / size
    u = np.sign(v) * share ** (r - 1)
    return size * u, (r - 1) * np.diag(share ** (r - 2)) - (r - 2) * np.outer(u, u)


def newton(
    residual: Callable[[Array], Array], jacobian: Callable[[Array], Array], x: Array
) -> Array:
    """Newton's method with halving; steps of least norm where the system is singular."""
    value = residual(x)
    size = float(np.abs(value).max())
    for _ in range(60):
        if size == 0:
            break
        step = np.linalg.lstsq(jacobian(x), -value, rcond=1e-14)[0]
        for halving in range(25):
            trial = x + step * 0.5**halving
            new = residual(trial)
            if float(np.abs(new).max()) < size * (1 - 0.1 * 0.5**halving):
                break
        else:
            break
        x, value = trial, new
        size = float(np.abs(value).max())
    return x


def _likely(Z: Array, w: Array, alpha: Array, lean: float) -> NDArray[np.bool_]:
    """Rows whose multiplier is large beside their slack: by complementarity one of them is 0."""
    slack = np.maximum(Z @ w - 1, 0.0)
    found: NDArray[np.bool_] = alpha / max(float(alpha.sum()), 1e-300) * lean > slack
    return found


def _settle(
    Z: Array,
    active: NDArray[np.bool_],
    solve: Callable[[NDArray[np.intp], Array, Array], tuple[Array, Array]],
    w: Array,
    alpha: Array,
) -> tuple[Array, Array]:
    """Solve on the active rows; let one row leave or enter at a time until none has to."""
    for _ in range(40):
        rows = np.flatnonzero(active)
        if rows.size == 0:
            break
        w, on_rows = solve(rows, w, alpha[rows])
        alpha = np.zeros_like(alpha)
        alpha[rows] = on_rows
        if not (np.isfinite(w).all() and np.isfinite(alpha).all()):
            break
        if on_rows.min() < -1e-13 * np.abs(on_rows).max():
            active[rows[on_rows.argmin()]] = False
            continue
        slack = Z @ w - 1
        if slack.min() >= -1e-13 or active[slack.argmin()]:
            break
        active[slack.argmin()] = True
    return w, np.maximum(alpha, 0.0)


def newton_power(
    Z: Array, w: Array, alpha: Array, p: float, lean: float = 1.0
) -> tuple[Array, Array]:
    """The max margin of the p-norm, 1 < p < inf, from a good guess.

    The equations are solved in whichever of w and g = Z^T alpha is the smooth function of the
    other: in alpha for p <= 2, where w ~ |g|^(q-1); in (w, alpha) for p > 2.
    """
    d = Z.shape[1]
    q = p / (p - 1)

    def solve(rows: NDArray[np.intp], w: Array, a: Array) -> tuple[Array, Array]:
        A = Z[rows]
        if p <= 2:
            a = newton(
                lambda a: A @ _half_square(A.T @ a, q)[0] - 1,
                lambda a: A @ _half_square(A.T @ a, q)[1] @ A.T,
                np.maximum(a, 1e-12 * a.max()),
            )
            return _half_square(A.T @ a, q)[0], a
        none = np.zeros((rows.size, rows.size))
        x = newton(
            lambda x: np.concatenate([_half_square(x[:d], p)[0] - A.T @ x[d:], A @ x[:d] - 1]),
            lambda x: np.block([[_half_square(x[:d], p)[1], -A.T], [A, none]]),
            np.concatenate([w, a]),
        )
        return x[:d], x[d:]

    return _settle(Z, _likely(Z, w, alpha, lean), solve, w, alpha)


def newton_groups(
    Z: Array, w: Array, alpha: Array, groups: list[Any], cost: Array, lean: float = 1.0
) -> tuple[Array, Array]:
    r"""The max margin of :math:`\sum_g c_g\|w_g\|_2`, from a good guess; l1 has groups of one.

    Groups are kept where their norm is large beside the slack :math:`1 - \|(Z^\top a)_g\|/c_g`.
    Here the multipliers a sum to the norm itself, not to its square; they are rescaled at the end.
    """
    sizes = np.array([np.linalg.norm(w[g]) for g in groups])
    total = float(cost @ sizes)
    a = alpha / total
    g = Z.T @ a
    slack = 1 - np.array([np.linalg.norm(g[k]) for k in groups]) / cost
    kept = [k for k in range(len(groups)) if cost[k] * sizes[k] / total * lean > slack[k]]
    if not kept:
        return w, alpha
    index = np.concatenate([groups[k] for k in kept])
    ends = np.cumsum([0, *[len(groups[k]) for k in kept]])
    parts = [(slice(ends[i], ends[i + 1]), cost[k]) for i, k in enumerate(kept)]
    m = index.size

    def slope(v: Array) -> Array:
        return np.concatenate([c * v[s] / np.linalg.norm(v[s]) for s, c in parts])

    def curvature(v: Array) -> Array:
        H = np.zeros((m, m))
        for s, c in parts:
            size = np.linalg.norm(v[s])
            u = v[s] / size
            H[s, s] = c / size * (np.eye(u.size) - np.outer(u, u))
        return H

    def solve(rows: NDArray[np.intp], w: Array, a: Array) -> tuple[Array, Array]:
        A = Z[np.ix_(rows, index)]
        none = np.zeros((rows.size, rows.size))
        x = newton(
            lambda x: np.concatenate([slope(x[:m]) - A.T @ x[m:], A @ x[:m] - 1]),
            lambda x: np.block([[curvature(x[:m]), -A.T], [A, none]]),
            np.concatenate([w[index], a]),
        )
        full = np.zeros_like(w)
        full[index] = x[:m]
        return full, x[m:]

    w, a = _settle(Z, _likely(Z, w, a, lean), solve, w, a)
    return w, a * sum(c * float(np.linalg.norm(w[g])) for g, c in zip(groups, cost, strict=True))


def newton_box(Z: Array, w: Array, alpha: Array, lean: float = 1.0) -> tuple[Array, Array]:
    """The max margin of the largest entry, from a good guess: a vertex, so one linear solve.

    Unknown are the common size t of the entries at the bound and the values of the free ones;
    their columns of Z make B with B v = 1 on the active rows and B^T a = (1, 0, ..., 0).
    """
    t = float(np.abs(w).max())
    g = Z.T @ alpha
    bound = (t - np.abs(w)) / t <= lean * np.abs(g) / float(np.abs(g).sum())
    rows = np.flatnonzero(_likely(Z, w, alpha, lean))
    if rows.size == 0 or not bound.any():
        return w, alpha
    signs = np.where(bound, np.sign(w), 0.0)
    B = np.column_stack([Z @ signs, Z[:, ~bound]])[rows]
    goal = np.zeros(B.shape[1])
    goal[0] = 1.0
    v = np.linalg.lstsq(B, np.ones(rows.size), rcond=1e-14)[0]
    v = v + np.linalg.lstsq(B, 1 - B @ v, rcond=1e-14)[0]
    a = alpha[rows] / t
    for _ in range(2):
        a = a + np.linalg.lstsq(B.T, goal - B.T @ a, rcond=1e-14)[0]
    full = v[0] * signs
    full[~bound] = v[1:]
    multipliers = np.zeros_like(alpha)
    multipliers[rows] = np.maximum(a, 0.0) * np.abs(full).max()
    return full, multipliers
