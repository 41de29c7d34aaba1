r"""Cubic polyharmonic splines: where wide ReLU networks of several inputs end.

With directions uniform on the sphere and biases uniform on :math:`(-R, R)`, R at least the
largest :math:`|x|`, the kernel of the output layer is :math:`C_d\,\|x - x'\|^3` up to terms that
are linear in x or in x'. With the linear part free the least-norm interpolant is then

.. math:: h(x) = \sum_i \alpha_i \|x - x_i\|^3 + \beta_0 + \langle\beta, x\rangle, \qquad
          \sum_i \alpha_i = 0,\quad \sum_i \alpha_i x_i = 0,

which has the least :math:`\alpha^\top\Phi\alpha \ge 0`, with :math:`\Phi_{ij} = \|x_i - x_j\|^3`.
In one dimension that is :math:`\frac1{12}\int (h'')^2`, and h the natural cubic spline.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from implicit_bias.arrays import as_real
from implicit_bias.problems import Regression

__all__ = ["Polyharmonic", "polyharmonic"]


@dataclass(frozen=True, eq=False)
class Polyharmonic:
    r"""A cubic polyharmonic spline of d numbers; call it with points of shape (..., d).

    Attributes
    ----------
    X : Tensor, shape (M, d)
        The centres.
    dual : Tensor, shape (M,)
        The coefficients :math:`\alpha`.
    energy : float
        :math:`\alpha^\top\Phi\alpha`; in one dimension a twelfth of :math:`\int (h'')^2`.
    objective : float
        Sum of squared misfits plus smoothing times energy; the energy itself when interpolating.
    residual : float
        The larger of the relative violations of :math:`h(x_i) + s\alpha_i = y_i` and of h being
        the sum above, at the data and halfway between them.
    smoothing : float
    solver : str
    status : str
        "interpolates" or "smooths".

    Examples
    --------
    >>> corners = [[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]
    >>> spline = polyharmonic(corners, [0.0, 1.0, 1.0, 0.0])
    >>> spline([[1.0, 0.0], [0.5, 0.5]]).round(decimals=10)
    tensor([1.0000, 0.5000], dtype=torch.float64)
    """

    X: Tensor
    dual: Tensor
    energy: float
    objective: float
    residual: float
    smoothing: float
    solver: str
    status: str
    _function: Callable[[NDArray[np.float64]], NDArray[np.float64]]

    def __call__(self, points: Any) -> Tensor:
        """Returns h at the points (..., d), of shape (...), on their device."""
        at = as_real(points, "points")
        d = self.X.shape[1]
        if at.ndim == 0 or at.shape[-1] != d:
            raise ValueError(
                f"points has shape {tuple(at.shape)}, but this is a function of {d} numbers: pass "
                f"points of shape (..., {d})."
            )
        found = self._function(at.reshape(-1, d).cpu().numpy()) if at.numel() else np.zeros(0)
        return torch.from_numpy(np.array(found)).reshape(at.shape[:-1]).to(at.device)


def polyharmonic(X: Any, y: Any, smoothing: float = 0.0) -> Polyharmonic:
    r"""Returns the cubic polyharmonic spline with a free linear part through the data.

    Parameters
    ----------
    X : array, shape (M, d)
        Points as rows, all different, not in one hyperplane; so M >= d + 1.
    y : array, shape (M,)
        Values.
    smoothing : float
        s >= 0: 0 interpolates, a positive one minimises
        :math:`\sum_i (h(x_i) - y_i)^2 + s\,\alpha^\top\Phi\alpha`.

    Returns
    -------
    Polyharmonic

    Raises
    ------
    TypeError, ValueError
        If X and y are no regression problem, a point repeats, the points lie in a hyperplane, or
        smoothing is out of range.

    Notes
    -----
    Source: M24, Theorem 8, for the initialisation named above; its statement over all of
    :math:`\mathbb{R}^d` cannot hold, for h grows: compare on bounded sets. Solved by
    ``scipy.interpolate.RBFInterpolator`` (kernel "cubic", degree 1); the coefficients, for the
    energy and the residual, by a Cholesky factorisation on the complement of the linear
    functions, in O(M^3).

    Examples
    --------
    >>> cubic = polyharmonic([[0.0], [1.0], [2.0]], [0.0, 1.0, 0.0])
    >>> cubic([[0.5]]), round(12 * cubic.energy, 10)
    (tensor([0.6875], dtype=torch.float64), 6.0)
    """
    problem = Regression(X, y)
    s = float(smoothing)
    if not (s == 0 or 1e-100 <= s <= 1e100):
        raise ValueError(
            f"smoothing = {smoothing}: it is the price of energy in units of squared misfit, 0 "
            f"(interpolate) or a number from 1e-100 to 1e100. For the limit of large ones fit a "
            f"linear function."
        )
    points, values = problem.X.cpu().numpy(), problem.y.cpu().numpy()
    # In units in which the cloud has size 1, the cubes of its distances are numbers near 1 too.
    centre = (points.max(axis=0) + points.min(axis=0)) / 2
    unit = float(np.abs(points - centre).max()) or 1.0
    scaled = (points - centre) / unit
    from scipy.interpolate import RBFInterpolator
    from scipy.linalg import cho_factor, cho_solve
    from scipy.spatial.distance import cdist

    distances = cdist(scaled, scaled)
    linear = np.hstack([np.ones((problem.n, 1)), scaled])
    _check_points(linear, distances, points)
    strength = s / unit**3
    function = RBFInterpolator(scaled, values, kernel="cubic", degree=1, smoothing=strength)
    # The same by another way: on the complement of the linear functions Phi is positive.
    cubes = distances**3
    frame = np.linalg.qr(linear, mode="complete")[0]
    span, complement = frame[:, : problem.d + 1], frame[:, problem.d + 1 :]
    alpha = np.zeros(problem.n)
    if problem.n > problem.d + 1:
        gram = complement.T @ (cubes + strength * np.eye(problem.n)) @ complement
        try:
            alpha = complement @ cho_solve(cho_factor(gram), complement.T @ values)
        except np.linalg.LinAlgError:
            raise _too_close(problem.d) from None
    rest = values - cubes @ alpha - strength * alpha
    beta = np.linalg.lstsq(linear, rest, rcond=None)[0]
    between = (scaled + np.roll(scaled, 1, axis=0)) / 2
    ours = cdist(between, scaled) ** 3 @ alpha + beta[0] + between @ beta[1:]
    fitted = function(scaled)
    violation = max(
        float(np.abs(fitted + strength * alpha - values).max()),
        float(np.abs(function(between) - ours).max()),
    )
    largest = float(np.abs(values).max())
    bent = float(np.abs(values - span @ (span.T @ values)).max())
    # Beside data that are linear there is only rounding, which is relative to the data.
    scale = bent if bent > 1e-12 * largest else largest
    residual = violation / scale if scale else 0.0
    if residual > 1e-6:
        raise _too_close(problem.d)
    energy = max(float(alpha @ cubes @ alpha), 0.0) / unit**3
    misfit = float(((fitted - values) ** 2).sum())

    def at(x: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(function((x - centre) / unit))

    return Polyharmonic(
        X=problem.X,
        dual=torch.from_numpy(alpha / unit**3).to(problem.X.device),
        energy=energy,
        objective=misfit + s * energy if s else energy,
        residual=residual,
        smoothing=s,
        solver="RBFInterpolator (LU)",
        status="smooths" if s else "interpolates",
        _function=at,
    )


def _too_close(d: int) -> ValueError:
    better = " In one dimension curvature_spline has no such trouble." if d == 1 else ""
    return ValueError(
        "The points are too many, or too close to each other, for float64: the equations of the "
        "spline cannot be solved to six digits. Thin them out, or use a larger smoothing." + better
    )


def _check_points(
    linear: NDArray[np.float64], distances: NDArray[np.float64], points: NDArray[np.float64]
) -> None:
    M, d = points.shape
    if d >= M or np.linalg.svd(linear, compute_uv=False)[-1] <= 1e-12 * np.sqrt(M):
        raise ValueError(
            f"The {M} points lie in one hyperplane of R^{d}, so the linear part, which costs "
            f"nothing, is not determined. Pass {d + 1} or more in general position, or drop the "
            f"features that depend on others."
        )
    i, j = np.divmod(int((distances + 2 * np.eye(M) * distances.max()).argmin()), M)
    if distances[i, j] <= 4 * np.finfo(float).eps:
        raise ValueError(
            f"The points {i} and {j} are the same up to rounding: no function takes two values "
            f"there, and one value needs no copy. Drop one, or average them."
        )
