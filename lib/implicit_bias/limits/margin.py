r"""The largest margin in a norm, as the separator of least norm.

With :math:`z_i = y_i x_i`, the direction of largest margin :math:`\gamma = \max_w \min_i \langle
z_i, w\rangle/\|w\|` is that of

.. math:: \widehat w = \arg\min \|w\| \quad\text{subject to}\quad \langle z_i, w\rangle \ge 1,

and :math:`\gamma = 1/\|\widehat w\|`. For any :math:`\alpha \ge 0` with sum 1, :math:`\gamma \le
\|Z^\top\alpha\|_*`, with equality for the optimal multipliers: this bound, evaluated from the
data, is what ``Limit.residual`` reports, whatever algorithm ran. When no w separates, some
:math:`\alpha` makes it zero, and proves it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NoReturn

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from implicit_bias.limits.conic import candidates, newton_nuclear, solve_nuclear
from implicit_bias.limits.polish import Separation, least_distance
from implicit_bias.norms import (
    Norm,
    NuclearNorm,
    PowerNorm,
    QuadraticNorm,
    as_norm,
    check_labels,
)
from implicit_bias.problems import Classification
from implicit_bias.records import Limit, NotSeparable
from implicit_bias.threads import single_threaded

__all__ = ["max_margin"]

_EXACT = "non-negative least squares, then QR on the active set"
_CONIC = "Clarabel, then Newton on the active set"
_VERTEX = "HiGHS, then the equations of its vertex"

Array = NDArray[np.float64]


def _pull(problem: Classification, alpha: Tensor) -> Tensor:
    """Z^T alpha, of the shape of the weights."""
    return problem.X.T @ (problem.y * alpha)


def _residual(problem: Classification, norm: Norm, x: Tensor, alpha: Tensor) -> float:
    """Largest of: violation, negative multiplier, duality gap, stationarity (all relative)."""
    least = float((problem.y * (problem.X @ x)).min())
    total = float(alpha.sum())
    pulled = _pull(problem, alpha)
    size, dual = norm.value(x), norm.dual(pulled)
    if not (total > 0 and dual > 0 and size > 0):
        return float("inf")
    # x / least is feasible, and no feasible point is shorter than total / dual.
    gap = 1 - least * (total / dual / size)
    parts = [1 - least, -float(alpha.min()) / total, gap, 0.0]
    if norm.strictly_convex:
        # x determines Z^T alpha and the other way round; compare where the map is smooth.
        there, here, other = x, pulled, norm
        if isinstance(norm, PowerNorm) and norm.p > 2:
            there, here, other = pulled, x, PowerNorm(norm.q)
        mapped = other.dual(here) * other.steepest(here)
        top = float(there.abs().max())
        parts.append(float(((there - mapped) / top).norm() / (there / top).norm()))
    return max(parts)


def _euclidean(problem: Classification, Z: Array) -> tuple[Array, Array]:
    """The Euclidean separator of one output; raises NotSeparable."""
    n = Z.shape[0]
    lengths = np.abs(Z).max(1)
    if not lengths.all():
        alpha = np.zeros(n)
        alpha[int(np.flatnonzero(lengths == 0)[0])] = 1.0
        _refuse(problem, Z, alpha)
    top = float(lengths.max())
    if not 1e-140 < top < 1e140:
        raise ValueError(
            f"The largest entry of X is {top:.3g}, and the multipliers of the margin scale with "
            f"its inverse square, beyond the range of floats. Divide X by it first."
        )
    try:
        w, alpha = least_distance(Z)
    except Separation as found:
        _refuse(problem, Z, found.multipliers)
    reach = float(np.linalg.norm(Z / top, axis=1).max()) * float(np.linalg.norm(w * top))
    if not (reach < 1e12 and (Z @ w).min() > 0.5):
        _refuse(problem, Z, alpha)
    return w, alpha


def _refuse(problem: Classification, Z: Array, alpha: Array) -> NoReturn:
    """Raises NotSeparable if the multipliers prove it, and says so if they do not."""
    top = float(np.abs(Z).max())
    alpha = np.maximum(alpha, 0) / max(float(alpha.max()), 1e-300)
    alpha = alpha / alpha.sum()
    pull = float(np.linalg.norm((Z / top).T @ alpha)) if top else 0.0
    if pull > 1e-14 * np.linalg.norm(Z / (top or 1), axis=1).max():
        raise ValueError(
            f"The data are neither clearly separable nor clearly not: the largest margin is at "
            f"most {pull * top:.3g}, less than 1e-12 of the longest example or not distinguishable "
            f"from rounding. Check for examples that contradict each other, or rescale features."
        )
    certificate = torch.from_numpy(alpha).to(problem.X)
    raise NotSeparable(
        f"The data are not linearly separable: a weighted mean of the examples y x is zero (on "
        f"{int((alpha > 0).sum())} of {alpha.size}), so no w has all margins positive and there "
        f"is no largest one. The weights are in .certificate; use more features, or drop examples.",
        certificate,
    )


@single_threaded
def max_margin(problem: Classification, norm: Any = 2) -> Limit:
    r"""Returns the separator of least norm: :math:`\min \|w\|` with every margin at least 1.

    Parameters
    ----------
    problem : Classification
        X of shape (n, d), y of shape (n,), linearly separable through the origin; for "nuclear"
        y of shape (n, k), and then all n k margins :math:`y_{ij}\langle x_i, w_j\rangle` are
        at least 1.
    norm : float, array of shape (d, d), "fourier" or "nuclear"
        A number p with 1 <= p <= inf; a positive definite matrix K, for
        :math:`\sqrt{w^\top K w}`; "fourier", the sum of the absolute values of the unitary
        discrete Fourier transform; "nuclear", the sum of singular values of w of shape (d, k).

    Returns
    -------
    Limit
        ``x`` (d,) or (d, k); ``objective`` is :math:`\|x\| = 1/\gamma`. ``dual``, of the shape of
        y, is non-negative with sum :math:`\|x\|^2`, and :math:`Z^\top\mathrm{dual}` is a
        subgradient of :math:`\tfrac12\|\cdot\|^2` at x: x itself for norm 2, K x for a
        matrix, in general :math:`\|x\|` times a subgradient of the norm. ``residual`` is the
        largest of the relative duality gap, :math:`1 - \min_i\langle z_i, x\rangle`, a
        negative multiplier and, for strictly convex norms, the distance from stationarity.

    Raises
    ------
    NotSeparable
        If no w has all margins positive, with a certificate.
    TypeError
        If the problem is not a Classification.
    ValueError
        If the norm is none of these, y has the wrong shape for it, or the margin is too thin to
        be told from zero (below 1e-12 of the longest example).

    Notes
    -----
    Source: M24, Theorems 3 and 4; G18, Theorem 2 ("fourier", depth 2). The solution is unique for
    1 < p < inf and for a matrix; for p = 1, inf, "fourier" and "nuclear" only the margin is, and
    a direction should not be compared (M24 says "the solution"). Norm 2 and matrices are solved
    by non-negative least squares and a QR on the active set, without a convex solver.

    Examples
    --------
    >>> limit = max_margin(Classification([[1.0, 0.0], [0.0, 0.5]], [1, -1]))
    >>> limit.x, round(limit.objective**2, 10)
    (tensor([ 1., -2.], dtype=torch.float64), 5.0)
    >>> max_margin(Classification([[3.0, 4.0]], [1]), norm=1).x
    tensor([0.0000, 0.2500], dtype=torch.float64)
    """
    check_labels(problem, norm)
    form = as_norm(norm, problem.d)
    X = problem.X.cpu().numpy()
    y = problem.y.cpu().numpy()
    if isinstance(form, NuclearNorm):
        return _nuclear(problem, form, X, y)
    Z = y[:, None] * X
    w, alpha = _euclidean(problem, Z)
    if isinstance(form, PowerNorm) and form.p == 2:
        return _limit(problem, form, w, alpha, _EXACT)
    if isinstance(form, QuadraticNorm):
        from scipy.linalg import solve_triangular

        # In v = root^T w the norm is Euclidean.
        root = form.root.cpu().numpy()
        v, alpha = _euclidean(problem, solve_triangular(root, Z.T, lower=True).T)
        w = solve_triangular(root, v, lower=True, trans="T")
        return _limit(problem, form, w, alpha, _EXACT)
    # Scaled by a separator that is known, so that the optimum is at most 1.
    size = form.value(torch.from_numpy(w))
    linear = isinstance(form, PowerNorm) and form.p in (1.0, np.inf)
    return _best(
        problem,
        form,
        (
            (v * size, a * size**2)
            for v, a in candidates(form, Z * size, (w / size, alpha / size**2))
        ),
        _VERTEX if linear else _CONIC,
    )


def _nuclear(problem: Classification, form: Norm, X: Array, y: Array) -> Limit:
    n, k = y.shape
    W, alpha = np.zeros((problem.d, k)), np.zeros((n, k))
    for j in range(k):
        column = Classification(problem.X, problem.y[:, j])
        try:
            W[:, j], alpha[:, j] = _euclidean(column, y[:, [j]] * X)
        except NotSeparable as error:
            certificate = torch.zeros_like(problem.y)
            certificate[:, j] = error.certificate
            raise NotSeparable(f"Output {j}: {error}", certificate) from None
    size = form.value(torch.from_numpy(W))
    # Nothing outside the rows of X can help, and the programme is cubic in what is left.
    Q = np.linalg.qr(X.T)[0] if problem.d > n else np.eye(problem.d)
    reduced = X @ Q * size

    def pairs() -> Iterator[tuple[Array, Array]]:
        guess = solve_nuclear(reduced, y)
        for lean in (1.0, 1e-3, 1e3):
            w, a = newton_nuclear(reduced, y, *guess, lean)
            yield Q @ w * size, a * size**2
        yield Q @ guess[0] * size, guess[1] * size**2

    return _best(problem, form, pairs(), _CONIC)


def _best(
    problem: Classification, form: Norm, pairs: Iterator[tuple[Array, Array]], solver: str
) -> Limit:
    """The candidate of least residual, made feasible; the first that is at rounding level."""
    best: Limit | None = None
    for w, alpha in pairs:
        least = float((problem.y.cpu().numpy() * (problem.X.cpu().numpy() @ w)).min())
        total = float(alpha.sum())
        if not (least > 0 and total > 0 and np.isfinite(least) and np.isfinite(total)):
            continue
        w = w / least
        size = form.value(torch.from_numpy(w))
        limit = _limit(problem, form, w, alpha * (size / total * size), solver)
        if best is None or limit.residual < best.residual:
            best = limit
        if best.residual <= 1e-13:
            break
    if best is None:
        raise RuntimeError(
            "No separator of least norm was found in this norm, although the data are separable "
            "(norm=2 works). The margin may be too thin for the convex solver."
        )
    return best


def _limit(problem: Classification, form: Norm, w: Array, alpha: Array, solver: str) -> Limit:
    x = torch.from_numpy(np.ascontiguousarray(w)).to(problem.X)
    dual = torch.from_numpy(np.ascontiguousarray(alpha)).to(problem.X)
    return Limit(
        x=x,
        dual=dual,
        objective=form.value(x),
        residual=_residual(problem, form, x, dual),
        solver=solver,
        status="separates",
    )
