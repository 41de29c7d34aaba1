r"""Multipliers by non-negative least squares: how nearly a point is stationary, on NumPy arrays.

The problem is :math:`\min |w|^2` subject to margins :math:`m_i(w) = \langle z_i, P(w)\rangle` of at
least 1, and the conditions are

.. math:: w = \sum_i\alpha_i\nabla m_i(w), \qquad \alpha_i(m_i - 1) = 0, \qquad \alpha \ge 0.

All are equations linear in :math:`\alpha`, the complementarities too: so no tolerance decides which
margins count as 1. Where gradients of active margins depend on each other there is a whole face of
multipliers that fit equally well, :math:`\alpha + Nc \ge 0` with N a basis of what the equations do
not see. A statement that one of them exists is then decided by linear programmes in c.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from implicit_bias.problems import Classification

__all__ = [
    "Derivatives",
    "Stationarity",
    "best_curvature",
    "fit_multipliers",
    "freedom",
    "least_curvature",
    "least_margin",
    "programme",
    "signed_examples",
    "stationarity",
]

Array = NDArray[np.float64]


class Derivatives(Protocol):
    """What is needed of the kernel of a network (``models.kernels``)."""

    def value(self, w: Array) -> Array: ...

    def jacobian(self, w: Array) -> Array: ...

    def hessian(self, w: Array, g: Array) -> Array: ...


def signed_examples(problem: Any, outputs: int, name: str) -> Array:
    """Returns the rows z with margins <z, beta> for the flattened predictor, shape (n k, d k).

    Parameters
    ----------
    problem : Classification
        X of shape (n, d), y of shape (n,) or (n, k).
    outputs : int
        The number of entries of the flattened predictor.
    name : str
        Who asks; it stands in the messages.

    Raises
    ------
    TypeError
        If it is not a Classification.
    ValueError
        If the predictor has another number of entries.

    Examples
    --------
    >>> signed_examples(Classification([[2.0]], [[1, -1]]), 2, "this")
    array([[ 2.,  0.],
           [ 0., -2.]])
    """
    if not isinstance(problem, Classification):
        raise TypeError(
            f"{name} needs a Classification, for margins are about labels; got a "
            f"{type(problem).__name__}. Build Classification(X, y) with y in {{-1, +1}}."
        )
    X, y = problem.X.cpu().numpy(), problem.y.cpu().numpy()
    k = math.prod(y.shape[1:])
    if outputs != problem.d * k:
        raise ValueError(
            f"{name}: the predictor has {outputs} entries, but data with d = {problem.d} features "
            f"and labels of shape {tuple(y.shape)} need {problem.d * k}. Match the features and "
            f"the number of outputs."
        )
    if y.ndim == 1:
        return np.ascontiguousarray(y[:, None] * X)
    rows: Array = np.einsum("nj,nd,jo->njdo", y, X, np.eye(k))
    return rows.reshape(problem.n * k, problem.d * k)


def least_margin(margins: Array, name: str, what: str) -> float:
    """The least margin, if it is positive."""
    least = float(margins.min())
    if not least > 1e-14 * float(np.abs(margins).max()):
        raise ValueError(
            f"{name}: the {what} does not separate the data (its least margin is {least:.3g}, its "
            f"largest {float(margins.max()):.3g}), so it cannot be scaled to margins of at least "
            f"1, and stationary means nothing there. Follow the flow further, or check the labels."
        )
    return least


def fit_multipliers(A: Array, b: Array, slack: Array, size: float) -> tuple[Array, float]:
    """alpha >= 0 with A alpha = b and alpha * slack = 0 as nearly as can be; |b| is about 1.

    ``size`` is the sum that the multipliers have at a stationary point.
    """
    from scipy.optimize import nnls

    stacked = np.vstack([size * A, np.diag(slack)])
    target = np.concatenate([b, np.zeros(slack.size)])
    try:
        share, _ = nnls(stacked, target, maxiter=30 * slack.size)
    except RuntimeError:  # a cycle, at rounding level
        from scipy.optimize import lsq_linear

        share = lsq_linear(stacked, target, (0, np.inf), method="bvls").x
    return share * size, float(np.linalg.norm(stacked @ share - target))


def freedom(A: Array, slack: Array, size: float, residual: float) -> Array:
    """An orthonormal basis (columns) of the changes of alpha / size that the equations do not see.

    They are those of ``fit_multipliers``; "not" means by less than they are off anyway.
    """
    stacked = np.vstack([size * A, np.diag(slack)])
    _, singular, Vh = np.linalg.svd(stacked, full_matrices=False)
    cut = min(1e-6, max(1e-9, 10 * residual))
    basis: Array = Vh[singular <= cut * singular[0]].T
    return basis


def programme(cost: Array, A: Array, b: Array, bounds: list[Any]) -> Array | None:
    """The minimiser of cost @ x with A x <= b, None where it was not found."""
    from scipy.optimize import linprog

    tight = {"primal_feasibility_tolerance": 1e-10, "dual_feasibility_tolerance": 1e-10}
    found = linprog(cost, A_ub=A, b_ub=b, bounds=bounds, method="highs", options=tight)
    return np.asarray(found.x) if found.status == 0 else None


@dataclass(frozen=True)
class Stationarity:
    """Multipliers of a point scaled to margin 1, and which others there are."""

    w: Array
    alpha: Array
    residual: float
    scale: float
    slack: Array
    size: float
    others: Array


def stationarity(
    kernel: Derivatives, Z: Array, w: Array, degree: int, scale: float | None = None
) -> Stationarity:
    """Returns multipliers, residual and the factor to margin 1, for a w that separates (NumPy).

    Parameters
    ----------
    kernel : value and jacobian of the map
    Z : array, shape (m, outputs)
        Signed examples.
    w : array, shape (P,)
    degree : int
        The degree of homogeneity, by which the factor is found.
    scale : float, optional
        The factor itself, for a map that is not homogeneous.

    Raises
    ------
    ValueError
        If w does not separate.

    Examples
    --------
    >>> from implicit_bias.models.kernels import Diagonal
    >>> stationarity(Diagonal(1, 2), np.array([[4.0]]), np.array([3.0, 3.0]), 2).residual < 1e-15
    True
    """
    if scale is None:
        margins = Z @ kernel.value(w)
        least = least_margin(margins, "parameter_certificate", "predictor of w")
        scale = least ** (-1 / degree)
        gradients = (Z @ kernel.jacobian(w)) * scale ** (degree - 1)
        slack = margins / least - 1
    else:
        gradients = Z @ kernel.jacobian(w * scale)
        slack = Z @ kernel.value(w * scale) - 1
        slack = slack - slack.min()  # of rounding
    norm = float(np.linalg.norm(w)) * scale
    # |w|^2 = <w, sum alpha grad m> = L sum alpha at a stationary point.
    size, A = norm**2 / degree, gradients.T / norm
    alpha, residual = fit_multipliers(A, w * scale / norm, slack, size)
    others = freedom(A, slack, size, residual)
    return Stationarity(w * scale, alpha, residual, scale, slack, size, others)


def least_curvature(kernel: Derivatives, Z: Array, w: Array, alpha: Array) -> float:
    """Returns the least eigenvalue of I - sum alpha_i Hess m_i(w) along the active margins.

    That is on the directions in which no margin of a positive multiplier changes to first order;
    inf where there is no such direction. For stationary w, scaled to a least margin of 1.

    Examples
    --------
    >>> from implicit_bias.models.kernels import Diagonal
    >>> w = np.array([1.0, 1.0])
    >>> round(least_curvature(Diagonal(1, 2), np.array([[1.0]]), w, np.array([1.0])), 10)
    2.0
    """
    kept = alpha > 1e-9 * float(alpha.sum())
    A = Z[kept] @ kernel.jacobian(w)
    hessian = np.eye(w.size) - kernel.hessian(w, Z.T @ alpha)
    tangent = _complement(A)
    if not tangent.size:
        return math.inf
    return float(np.linalg.eigvalsh(tangent @ hessian @ tangent.T)[0])


def best_curvature(kernel: Derivatives, Z: Array, at: Stationarity) -> tuple[float, bool]:
    """Returns the largest least curvature over all multipliers, and whether w is not a minimum.

    The curvature is on the directions along which all margins stand still that have a positive
    multiplier in one choice or another; what is returned is attained, and within 1e-8 of the
    largest unless 60 cutting planes did not do. Not a minimum: a direction was found that the
    constraints permit to first order (no active margin falls, the norm does not grow) with a
    curvature below -1e-6 for all multipliers.

    Examples
    --------
    >>> from implicit_bias.models.kernels import Diagonal
    >>> Z, w = np.array([[1.0, -2.0], [1.0, 0.5]]), np.array([1.0, 0.0, 1.0, 0.0])
    >>> at = stationarity(Diagonal(2, 2), Z, w, 2)
    >>> best, saddle = best_curvature(Diagonal(2, 2), Z, at)
    >>> least_curvature(Diagonal(2, 2), Z, w, at.alpha), round(best, 8), saddle
    (-1.0, 1.0, False)
    """
    from scipy.optimize import nnls

    alpha, N = at.alpha, at.others
    share, r = alpha / at.size, N.shape[1]
    reach = share.copy()  # the largest that a multiplier can be, or nearly
    if r:
        free = [(None, None)] * r
        for i in np.flatnonzero((share == 0) & (np.abs(N).max(axis=1) > 1e-9)):
            found = programme(-N[i], -N, share, free)
            if found is not None:
                reach[i] = max(reach[i], share[i] + float(N[i] @ found))
    total = float(share.sum())
    kept = (share > 1e-9 * total) | (reach > 1e-7 * total)
    gradients = Z @ kernel.jacobian(at.w)
    tangent = _complement(gradients[kept])
    if not tangent.size:
        return math.inf, False
    weak = gradients[~kept & (at.slack <= 1e-7)] @ tangent.T @ tangent
    lengths = np.linalg.norm(weak, axis=1)
    weak = (weak / np.maximum(lengths, 1e-300)[:, None])[lengths > 1e-9 * np.abs(gradients).max()]
    eye = np.eye(at.w.size)

    def curvatures(change: Array, U: Array) -> Array:
        """What the part of the multipliers contributes, along each row of U."""
        H = kernel.hessian(at.w, Z.T @ (change * at.size))
        found: Array = np.einsum("ij,jk,ik->i", U, H, U)
        return found

    def lowest(change: Array, frame: Array) -> tuple[Array, Array]:
        """The lowest eigenvalues at these multipliers, and their directions."""
        H = frame @ (eye - kernel.hessian(at.w, Z.T @ (change * at.size))) @ frame.T
        values, vectors = np.linalg.eigh(H)
        few = min(values.size, 4)
        return values[:few], vectors[:, :few].T @ frame

    values, U = lowest(share, tangent)
    best, bound, seen = float(values[0]), float(values[0]), U
    if r:
        rows, right = np.zeros((0, r + 1)), np.zeros(0)
        limit, signs = np.hstack([-N, np.zeros((len(N), 1))]), share
        for _ in range(60):
            # s <= u^T (I - sum alpha_i Hess m_i) u for the directions seen so far.
            slopes = np.column_stack([curvatures(N[:, j], U) for j in range(r)])
            rows = np.vstack([rows, np.hstack([slopes, np.ones((len(U), 1))])])
            right = np.append(right, 1 - curvatures(share, U))
            found = programme(
                np.append(np.zeros(r), -1.0),
                np.vstack([rows, limit]),
                np.append(right, signs),
                [(None, None)] * (r + 1),
            )
            if found is None:
                break
            values, U = lowest(np.maximum(share + N @ found[:r], 0.0), tangent)
            best, bound, seen = max(best, float(values[0])), float(found[-1]), np.vstack([seen, U])
            if bound - best <= 1e-8:
                break
    if best >= -1e-6:
        return best, False
    inside = _complement(gradients[kept | (at.slack <= 1e-7)])
    trial = [seen, -seen, *([lowest(share, inside)[1]] if inside.size else [])]
    for u in np.vstack(trial):
        # The nearest direction along which no margin of multiplier zero falls.
        if len(weak) and (weak @ u).min() < -1e-9:
            u = u + weak.T @ nnls(weak.T, -u, maxiter=30 * len(weak))[0]
            if (norm := float(np.linalg.norm(u))) < 1e-6:
                continue
            u = u / norm
        top = 1 - float(curvatures(share, u[None])[0])
        if r and top < -1e-6:
            slopes = np.array([float(curvatures(N[:, j], u[None])[0]) for j in range(r)])
            found = programme(slopes, -N, share, [(None, None)] * r)
            top = math.inf if found is None else top - float(slopes @ found)
        if top < -1e-6:
            return best, True
    return best, False


def _complement(rows: Array) -> Array:
    """An orthonormal basis (rows) of the directions orthogonal to all rows."""
    _, singular, Vh = np.linalg.svd(rows)
    rank = int((singular > 1e-10 * singular[0]).sum()) if singular.size else 0
    rest: Array = Vh[rank:]
    return rest
