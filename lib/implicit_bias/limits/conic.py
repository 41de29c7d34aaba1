r"""The separator of least norm as a convex programme, for the norms that have no direct method.

The solver (Clarabel, through cvxpy) is asked for twelve digits and gives six to ten; what it says
serves as the guess that ``implicit_bias.limits.polish`` finishes. The linear programmes of the
1-norm and the largest entry go to HiGHS, whose answer is a vertex. Data come scaled so that the
optimum is at most 1.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from implicit_bias.limits.polish import newton, newton_box, newton_groups, newton_power
from implicit_bias.norms import Norm, PowerNorm

__all__ = ["candidates", "fourier_groups", "newton_nuclear", "solve_nuclear"]

Array = NDArray[np.float64]
Indices = NDArray[np.intp]


def fourier_groups(d: int) -> tuple[Array, list[Indices], Array]:
    """An orthonormal real Fourier basis (columns), its groups of indices, and their costs.

    With v = basis^T w the norm of the transform is the sum of cost times Euclidean norm of each
    group: a frequency and its negative share one group of two, at cost sqrt(2).
    """
    time = np.arange(d)
    columns: list[Array] = []
    groups: list[Indices] = []
    cost: list[float] = []
    for k in range(d // 2 + 1):
        phase = 2 * math.pi * (k * time % d) / d
        alone = k == 0 or 2 * k == d
        waves = [np.cos(phase)] if alone else [np.cos(phase), np.sin(phase)]
        groups.append(np.arange(len(columns), len(columns) + len(waves)))
        columns += [wave * math.sqrt((1 if alone else 2) / d) for wave in waves]
        cost.append(1.0 if alone else math.sqrt(2))
    return np.column_stack(columns), groups, np.array(cost)


def _solve(problem: Any) -> None:
    """Clarabel as tight as it will go; a looser answer is still a guess worth polishing."""
    import cvxpy

    cp: Any = cvxpy

    for tol in (1e-12, 1e-9, 1e-7):
        tight = {"tol_gap_abs": tol, "tol_gap_rel": tol, "tol_feas": tol}
        # The residual decides on what is good enough, not the solver's own opinion.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                problem.solve(solver="CLARABEL", **tight)
            except cp.error.SolverError:
                continue
        if problem.status in ("optimal", "optimal_inaccurate"):
            return
    raise RuntimeError(
        f"Clarabel gave up on the separator of least norm ({problem.status}). The data may be "
        f"close to inseparable, or p too close to 1 or too large: try p = 1 or math.inf."
    )


def _conic(Z: Array, groups: list[Indices] | None, cost: Array | float) -> tuple[Array, Array]:
    """Guess for the p-norm (groups None, cost the p) or for a sum of group norms."""
    import cvxpy

    cp: Any = cvxpy

    w = cp.Variable(Z.shape[1])
    if groups is None:
        size = cp.pnorm(w, cost)
    else:
        size = sum(c * cp.norm(w[g], 2) for g, c in zip(groups, np.atleast_1d(cost), strict=True))
    fits = Z @ w >= 1
    _solve(cp.Problem(cp.Minimize(size), [fits]))
    return np.asarray(w.value), np.maximum(fits.dual_value, 0.0) * float(size.value)


def _linear_programme(Z: Array, p: float) -> tuple[Array, Array]:
    """A vertex for p = 1 or inf, by the dual simplex method of HiGHS."""
    from scipy.optimize import linprog

    n, d = Z.shape
    if p == 1:
        cost, A, b = np.ones(2 * d), np.hstack([-Z, Z]), -np.ones(n)
        bounds: list[tuple[float | None, None]] = [(0, None)] * (2 * d)
    else:
        # u = w + t >= 0 and w <= t, that is u <= 2 t.
        cost = np.append(np.zeros(d), 1.0)
        A = np.block([[-Z, Z.sum(1)[:, None]], [np.eye(d), -2 * np.ones((d, 1))]])
        b = np.append(-np.ones(n), np.zeros(d))
        bounds = [(0, None)] * (d + 1)
    for presolve in (True, False):
        found = linprog(
            cost,
            A_ub=A,
            b_ub=b,
            bounds=bounds,
            method="highs-ds",
            options={
                "primal_feasibility_tolerance": 1e-10,
                "dual_feasibility_tolerance": 1e-10,
                "presolve": presolve,
            },
        )
        if found.status == 0:
            x = found.x
            w = x[:d] - x[d:] if p == 1 else x[:d] - x[d]
            return w, np.maximum(-found.ineqlin.marginals[:n], 0.0) * float(found.fun)
    raise RuntimeError(
        f"HiGHS gave up on the separator of least norm ({found.message}). The data may be close "
        f"to inseparable."
    )


def _power(Z: Array, p: float, start: tuple[Array, Array]) -> Iterator[tuple[Array, Array]]:
    """Candidates for 1 < p < inf, the likeliest first."""
    try:
        guess = _conic(Z, None, p)
    except RuntimeError:
        guess = None
    if guess is not None:
        for lean in (1.0, 1e-3, 1e3):
            yield newton_power(Z, *guess, p, lean)
    # The conic form of an awkward p may fail: walk there from the Euclidean answer instead.
    w, alpha = start
    for exponent in (
        1 + (p - 1) ** np.linspace(0, 1, 1 + int(np.ceil(abs(np.log(p - 1)) / 0.2)))[1:]
    ):
        w, alpha = newton_power(Z, w, alpha, float(exponent))
    yield w, alpha
    if guess is not None:
        yield guess


def candidates(norm: Norm, Z: Array, start: tuple[Array, Array]) -> Iterator[tuple[Array, Array]]:
    """Pairs (w, alpha) to choose from by their residual; Z is scaled, start is Euclidean."""
    d = Z.shape[1]
    if isinstance(norm, PowerNorm):
        if 1 < norm.p < np.inf:
            yield from _power(Z, norm.p, start)
            return
        guess = _linear_programme(Z, norm.p)
        yield guess
        singles = [np.array([k]) for k in range(d)]
        for lean in (1.0, 1e-6, 1e6):
            if norm.p == 1:
                yield newton_groups(Z, *guess, singles, np.ones(d), lean)
            else:
                yield newton_box(Z, *guess, lean)
        return
    basis, groups, cost = fourier_groups(d)
    guess = _conic(Z @ basis, groups, cost)
    for lean in (1.0, 1e-3, 1e3):
        v, alpha = newton_groups(Z @ basis, *guess, groups, cost, lean)
        yield basis @ v, alpha
    yield basis @ guess[0], guess[1]


def solve_nuclear(X: Array, y: Array) -> tuple[Array, Array]:
    """Guess for the nuclear norm: w (d, k) and multipliers (n, k)."""
    import cvxpy

    cp: Any = cvxpy

    w = cp.Variable((X.shape[1], y.shape[1]))
    fits = cp.multiply(y, X @ w) >= 1
    size = cp.normNuc(w)
    _solve(cp.Problem(cp.Minimize(size), [fits]))
    return np.asarray(w.value), np.maximum(fits.dual_value, 0.0) * float(size.value)


def newton_nuclear(
    X: Array, y: Array, w: Array, alpha: Array, lean: float = 1.0
) -> tuple[Array, Array]:
    r"""The polished guess: w = P Q^T of the rank that the guess shows.

    The nuclear norm is the least :math:`(\|P\|^2 + \|Q\|^2)/2`, so that on the active rows
    :math:`G Q = P, G^\top P = Q` with :math:`G = X^\top (y\,a)`. Rotations of (P, Q) leave the
    system singular: steps that rotate P against where it started are ruled out.
    """
    d, k = w.shape
    U, s, Vt = np.linalg.svd(w, full_matrices=False)
    a = alpha / s.sum()
    dual = np.linalg.svd(X.T @ (y * a), compute_uv=False)
    r = int((s / s.sum() * lean > 1 - dual).sum())
    slack = np.maximum(y * (X @ w) - 1, 0.0)
    rows = np.argwhere(a / a.sum() * lean > slack)
    if r == 0 or rows.size == 0:
        return w, alpha
    i, j = rows.T
    A = y[i, j][:, None] * X[i]  # row m: gradient of the m-th active margin in column j of w
    m, size = len(i), (d + k) * r

    P0 = U[:, :r] * np.sqrt(s[:r])
    pairs = [(one, two) for one in range(r) for two in range(one)]
    gauge = np.zeros((len(pairs), size + m))
    for row, (one, two) in zip(gauge, pairs, strict=True):
        turn = np.zeros((d, r))
        turn[:, one], turn[:, two] = P0[:, two], -P0[:, one]
        row[: d * r] = turn.ravel()

    def split(x: Array) -> tuple[Array, Array, Array, Array]:
        P, Q, a = x[: d * r].reshape(d, r), x[d * r : size].reshape(k, r), x[size:]
        G = np.zeros((d, k))
        np.add.at(G.T, j, a[:, None] * A)
        return P, Q, a, G

    def residual(x: Array) -> Array:
        P, Q, _, G = split(x)
        margins = np.einsum("md,dr,mr->m", A, P, Q[j])
        still = np.zeros(len(gauge))
        return np.concatenate([(P - G @ Q).ravel(), (Q - G.T @ P).ravel(), 1 - margins, still])

    def jacobian(x: Array) -> Array:
        P, Q, _, G = split(x)
        J = np.eye(size + m)
        J[: d * r, d * r : size] = -np.kron(G, np.eye(r))
        J[d * r : size, : d * r] = -np.kron(G.T, np.eye(r))
        to_P = np.einsum("md,mr->mdr", A, Q[j]).reshape(m, d * r)
        to_Q = np.zeros((m, k, r))
        to_Q[np.arange(m), j] = A @ P
        J[size:, :size] = -np.hstack([to_P, to_Q.reshape(m, k * r)])
        J[:size, size:] = J[size:, :size].T
        J[size:, size:] = 0.0
        return np.vstack([J, gauge])

    start = np.concatenate([P0.ravel(), (Vt[:r].T * np.sqrt(s[:r])).ravel(), a[i, j]])
    P, Q, on_rows, _ = split(newton(residual, jacobian, start))
    full = np.zeros_like(alpha)
    full[i, j] = np.maximum(on_rows, 0.0)
    w = P @ Q.T
    return w, full * float(np.linalg.svd(w, compute_uv=False).sum())
