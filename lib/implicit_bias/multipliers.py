r"""Multipliers by non-negative least squares: how nearly a point is stationary, on NumPy arrays.

The problem is :math:`\min |w|^2` subject to margins :math:`m_i(w) = \langle z_i, P(w)\rangle` of at
least 1, and the conditions are

.. math:: w = \sum_i\alpha_i\nabla m_i(w), \qquad \alpha_i(m_i - 1) = 0, \qquad \alpha \ge 0.

All are equations linear in :math:`\alpha`, the complementarities too: so no tolerance decides which
margins count as 1.
"""

from __future__ import annotations

import math
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from implicit_bias.problems import Classification

__all__ = [
    "Derivatives",
    "fit_multipliers",
    "least_curvature",
    "least_margin",
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


def stationarity(
    kernel: Derivatives, Z: Array, w: Array, degree: int
) -> tuple[Array, float, float]:
    """Returns multipliers, residual and the factor to margin 1, for a w that separates (NumPy).

    Parameters
    ----------
    kernel : value and jacobian of the map
    Z : array, shape (m, outputs)
        Signed examples.
    w : array, shape (P,)
    degree : int
        The degree of homogeneity, by which the factor is found.

    Raises
    ------
    ValueError
        If w does not separate.

    Examples
    --------
    >>> from implicit_bias.models.kernels import Diagonal
    >>> stationarity(Diagonal(1, 2), np.array([[4.0]]), np.array([3.0, 3.0]), 2)[1] < 1e-15
    True
    """
    margins = Z @ kernel.value(w)
    least = least_margin(margins, "parameter_certificate", "predictor of w")
    scale = least ** (-1 / degree)
    size = float(np.linalg.norm(w)) * scale
    gradients = (Z @ kernel.jacobian(w)) * scale ** (degree - 1)
    # |w|^2 = <w, sum alpha grad m> = L sum alpha at a stationary point.
    alpha, residual = fit_multipliers(
        gradients.T / size, w * scale / size, margins / least - 1, size**2 / degree
    )
    return alpha, residual, scale


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
    _, singular, Vh = np.linalg.svd(A)
    rank = int((singular > 1e-10 * singular[0]).sum()) if singular.size else 0
    tangent = Vh[rank:]
    if not tangent.size:
        return math.inf
    return float(np.linalg.eigvalsh(tangent @ hessian @ tangent.T)[0])
