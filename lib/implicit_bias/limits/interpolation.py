r"""Minimum-norm interpolation and ridge regression, by orthogonal factorisations.

With :math:`X = QB` (tall) or :math:`X = BQ^\top` (wide) from one unpivoted QR, B is square of size
k = min(n, d), and everything else happens at that size. B is triangular; where it is near singular
a complete orthogonal decomposition (pivoted QR, then QR of the transposed rows; Golub & Van Loan,
section 5.5) reveals its rank. No square of X is ever formed, so a condition number of 1e8 costs
eight digits and not sixteen. The flow (``implicit_bias.dynamics.exact``) uses a singular value
decomposition instead: the two wings share neither code nor factorisation.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from implicit_bias.problems import Regression, as_regression, as_start
from implicit_bias.records import Limit

__all__ = ["minimum_norm", "ridge"]


class _Factorisation:
    """X = Q B or B Q^T with B = left core rows^T, core triangular and of full rank."""

    def __init__(self, problem: Regression, target: Tensor):
        X = problem.X
        self.wide = problem.n < problem.d
        k = min(X.shape)
        # Householder vectors, applied when needed: forming Q would double the work. The target of
        # a tall problem is carried along as one more column, which comes out as Q^T target.
        columns = X if self.wide else torch.cat([X.T, target[None]])
        vectors, scales = torch.geqrf(columns.T)
        self.vectors, self.scales = vectors[:, :k], scales[:k]
        self.target = target if self.wide else vectors[:k, k]
        R = self.vectors[:k].triu()
        self.size = float(torch.linalg.matrix_norm(R))  # of X too, in the Frobenius norm
        noise = max(X.shape) * problem.precision
        # SciPy's linear algebra is slow to import: only when it is used.
        from scipy.linalg import lapack

        # R is triangular already. Where it is far from singular nothing more is needed; the
        # estimate of its condition costs O(k^2) and is off by a factor of k at most. (It is its own
        # LU factorisation; LAPACK's estimate for triangles, dtrcon, needs SciPy 1.15.)
        small = R.cpu().numpy()
        inverse_condition, _ = lapack.dgecon(small, abs(small).sum(0).max())
        self.rank = k
        self.left: Tensor | None = None
        self.rows: Tensor | None = None
        self.core, self.upper = (R.T, False) if self.wide else (R, True)
        if inverse_condition <= k * noise:
            self._reveal_rank(small.T if self.wide else small, noise)

    def _reveal_rank(self, B: Any, noise: float) -> None:
        import scipy.linalg

        # The diagonal of a pivoted QR overestimates the smallest singular values, by a factor
        # that grows with k; counting what is noise takes the singular values themselves.
        singular = scipy.linalg.svdvals(B, check_finite=False)
        self.rank = rank = int((singular > noise * singular[0]).sum())
        left, upper, pivots = scipy.linalg.qr(B, pivoting=True, check_finite=False)
        rows, lower = scipy.linalg.qr(upper[:rank].T, mode="economic", check_finite=False)
        unpivoted = rows[pivots.argsort()]
        device = self.vectors.device
        self.left = torch.from_numpy(left[:, :rank].copy()).to(device)
        self.rows = torch.from_numpy(unpivoted).to(device)
        self.core, self.upper = torch.from_numpy(lower.copy()).to(device).T, False

    def _apply(self, z: Tensor) -> Tensor:
        """Q z for z of length k."""
        padded = z.new_zeros(self.vectors.shape[0], 1)
        padded[: z.shape[0], 0] = z
        return torch.ormqr(self.vectors, self.scales, padded)[:, 0]

    def _apply_transposed(self, b: Tensor) -> Tensor:
        """Q^T b, of length k."""
        k = self.vectors.shape[1]
        return torch.ormqr(self.vectors, self.scales, b[:, None], transpose=True)[:k, 0]

    def solve(self, r: Tensor | None = None, strength: float = 0.0) -> Tensor:
        """X^+ r; with a positive strength, the ridge solution for the targets r.

        Without r, for the target that was given with the problem.
        """
        b = self.target if r is None else r if self.wide else self._apply_transposed(r)
        b = b if self.left is None else self.left.T @ b
        if strength and strength >= float(self.core.square().sum()):
            # A penalty that outweighs the data: the condition number is below 2, and QR would
            # lose the small data part beside the large root.
            gram = self.core.T @ self.core + strength * torch.eye(self.rank).to(self.core)
            z = torch.cholesky_solve((self.core.T @ b)[:, None], torch.linalg.cholesky(gram))[:, 0]
        elif strength:
            root = math.sqrt(strength) * torch.eye(self.rank).to(self.core)
            Q, R = torch.linalg.qr(torch.cat([self.core, root]))
            z = torch.linalg.solve_triangular(R, (Q[: self.rank].T @ b)[:, None], upper=True)[:, 0]
        else:
            z = torch.linalg.solve_triangular(self.core, b[:, None], upper=self.upper)[:, 0]
        z = z if self.rows is None else self.rows @ z
        return self._apply(z) if self.wide else z

    def solve_transposed(self, w: Tensor) -> Tensor:
        """(X^T)^+ w."""
        b = self._apply_transposed(w) if self.wide else w
        b = b if self.rows is None else self.rows.T @ b
        z = torch.linalg.solve_triangular(self.core.T, b[:, None], upper=not self.upper)[:, 0]
        z = z if self.left is None else self.left @ z
        return z if self.wide else self._apply(z)


def minimum_norm(problem: Regression, start: Any = None) -> Limit:
    r"""Returns the interpolator nearest to ``start``: least :math:`\|w-w_0\|` with :math:`Xw=y`.

    With ``start=None`` this is the minimum-norm solution :math:`X^\top(XX^\top)^{-1}y`, in general
    :math:`w_0 + X^+(y - Xw_0)`. Any shape and rank of X is allowed. Where :math:`Xw=y` has no
    solution the answer is the least-squares solution nearest to ``start``, which is where
    gradient descent ends, and ``status`` says "least squares".

    Parameters
    ----------
    problem : Regression
        X of shape (n, d).
    start : array, shape (d,), optional
        Default zero.

    Returns
    -------
    Limit
        ``x`` (d,) and ``dual`` (n,) float64 with :math:`x = w_0 + X^\top\mathrm{dual}`;
        ``objective`` is :math:`\|x - w_0\|`; ``residual`` is the larger of the normal-equations
        (or interpolation) residual and the part of :math:`x - w_0` outside the row space, both
        relative.

    Raises
    ------
    ValueError
        If ``start`` has the wrong shape or is not finite.

    Notes
    -----
    Source: P18, Lemma 2 (full row rank, zero start), and M24, Theorem 1, problem (1). The
    extension to any rank and to inconsistent data is the Moore-Penrose solution. Singular values
    below max(n, d) times the precision of the input are treated as zero.

    Examples
    --------
    >>> minimum_norm(Regression([[1.0, 2.0, 2.0]], [9.0])).x
    tensor([1., 2., 2.], dtype=torch.float64)
    """
    problem = as_regression(problem, "minimum_norm")
    w0 = as_start(problem, start)
    X, y = problem.X, problem.y
    factors = _Factorisation(problem, y - X @ w0 if start is not None else y)
    change = x = factors.solve()
    if start is not None:
        # Where the start is much larger than the answer, so is the rounding of the target. One
        # step of refinement, two products, removes it.
        x = w0 + change
        correction = factors.solve(y - X @ x)
        x, change = x + correction, change + correction
    dual = factors.solve_transposed(change)
    misfit = X @ x - y
    # Rounding is relative to what was added up: y and X w0 may nearly cancel in the target.
    scale = float(factors.size * (change.norm() + w0.norm()) + y.norm())
    size = float(change.norm())
    tiny = torch.finfo(X.dtype).tiny
    # At full rank only rounding is left of the misfit of consistent data (its worst was half a
    # unit on random problems); where directions were cut off, what they carried is left too.
    slack = 8.0 if factors.rank == min(X.shape) else 10.0 * max(X.shape)
    fits = float(misfit.norm()) <= slack * problem.noise * scale
    gap = float(misfit.norm()) if fits else float((X.T @ misfit).norm()) / max(factors.size, tiny)
    outside = float((X.T @ dual - change).norm())
    return Limit(
        x=x,
        dual=dual,
        objective=size,
        residual=max(gap / scale if scale else 0.0, outside / size if size else 0.0),
        solver="complete orthogonal decomposition",
        status="interpolates" if fits else "least squares",
        rank=factors.rank,
    )


def ridge(problem: Regression, strength: float) -> Limit:
    r"""Returns the minimiser of :math:`\tfrac12\|Xw-y\|^2 + \tfrac12\lambda\|w\|^2`.

    Solved as the least-squares problem with rows :math:`(X; \sqrt\lambda I)` reduced to the
    size of the rank, so that the condition number is never squared.

    Parameters
    ----------
    problem : Regression
        X of shape (n, d).
    strength : float
        The penalty :math:`\lambda > 0`, in the units of a squared singular value of X.

    Returns
    -------
    Limit
        ``x`` (d,); ``dual`` (n,) is the shortest vector with :math:`x = X^\top\mathrm{dual}`,
        the part of :math:`(y - Xx)/\lambda` in the range of X; ``objective`` the penalised loss;
        ``residual`` the larger of the gradient's norm relative to its parts and the relative
        error of :math:`x = X^\top\mathrm{dual}`; ``status`` is "regularised".

    Raises
    ------
    TypeError, ValueError
        If the problem is no Regression, or ``strength`` is not in [1e-150, 1e150].

    Notes
    -----
    Sums, not means: for the penalty :math:`\lambda` of :math:`\frac{1}{2n}\|Xw-y\|^2 +
    \frac{\lambda}{2}\|w\|^2` pass :math:`n\lambda`. Singular values that count as zero for
    ``minimum_norm`` count as zero here, so that the two meet as the strength vanishes.

    Examples
    --------
    >>> ridge(Regression([[1.0, 0.0]], [2.0]), 1.0).x.round(decimals=8)
    tensor([1., 0.], dtype=torch.float64)
    """
    problem = as_regression(problem, "ridge")
    if not 1e-150 <= strength <= 1e150:
        raise ValueError(
            f"strength = {strength} is not a number from 1e-150 to 1e150: at 0 the ridge solution "
            f"is not unique when d > n, and far outside nothing is left of the penalty or of the "
            f"data. Use minimum_norm for the limit of vanishing strength."
        )
    X, y = problem.X, problem.y
    factors = _Factorisation(problem, y)
    w = factors.solve(strength=strength)
    dual = factors.solve_transposed(w)
    misfit = X @ w - y
    gradient = X.T @ misfit + strength * w
    parts = (X.T @ misfit).norm() + strength * w.norm() + factors.size * y.norm()
    size = float(w.norm())
    outside = float((X.T @ dual - w).norm()) / size if size else 0.0
    return Limit(
        x=w,
        dual=dual,
        objective=float(misfit @ misfit + strength * (w @ w)) / 2,
        residual=max(float(gradient.norm() / parts) if float(parts) else 0.0, outside),
        solver="QR of the augmented system, or Cholesky where the penalty dominates",
        status="regularised",
        rank=factors.rank,
    )
