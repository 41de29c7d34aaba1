"""Where the data lie: sorted abscissae, the degree of a spline, and data that no bend can serve."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from implicit_bias.arrays import as_count, as_real

__all__ = ["TooFewBreakpoints", "as_degree", "sort_data"]

Array = NDArray[np.float64]


class TooFewBreakpoints(ValueError):
    """No function of the asked form passes through the data; ``gap`` says where it fails.

    Attributes
    ----------
    gap : tuple of float
        The ends of an interval in which the data ask for more bends than the measure allows.

    Examples
    --------
    >>> from implicit_bias import Breakpoints, curvature_spline
    >>> try:
    ...     curvature_spline([0.0, 1.0, 2.0, 3.0], [0.0, 1.0, 0.0, 1.0], Breakpoints([0.5], [1.0]))
    ... except TooFewBreakpoints as error:
    ...     print(error.gap)
    (1.0, 3.0)
    """

    def __init__(self, message: str, gap: tuple[float, float]):
        super().__init__(message)
        self.gap = gap


def as_degree(degree: Any) -> int:
    """Returns the degree k of the free polynomials, if it is 1, 2 or 3.

    Raises
    ------
    TypeError, ValueError
        If it is not.

    Examples
    --------
    >>> as_degree(2)
    2
    """
    if as_count(degree, "degree") > 3:
        raise ValueError(
            f"degree = {degree}: splines of order 2k+1 = {2 * degree + 1} are too ill conditioned "
            f"to be trusted in float64. Pass 1, 2 or 3."
        )
    return int(degree)


def sort_data(x: Any, y: Any, degree: int = 1) -> tuple[Array, Array, NDArray[np.int64]]:
    """Returns the knots in increasing order, their values, and the order: ``x[order]``.

    Parameters
    ----------
    x, y : array, shape (M,)
        Different abscissae in any order, at least degree + 1 of them, and a value for each.
    degree : int
        Degree k of the polynomials that cost nothing.

    Raises
    ------
    TypeError, ValueError
        If they are not finite real vectors of one length, too short, or an abscissa repeats.
        A repeated one is refused even where the values agree: it would count twice in a sum of
        squares, and not at all in an interpolation.

    Examples
    --------
    >>> sort_data([2.0, 0.0, 1.0], [4.0, 0.0, 1.0])[1]
    array([0., 1., 4.])
    """
    X, Y = as_real(x, "x").cpu().numpy(), as_real(y, "y").cpu().numpy()
    if X.ndim != 1 or X.shape != Y.shape:
        raise ValueError(
            f"x and y must be vectors of one length, shape (M,); got {X.shape} and {Y.shape}. "
            f"These splines are functions of one number with one output: pass y[:, j] one by one."
        )
    if X.size < degree + 1:
        raise ValueError(
            f"{X.size} data points do not determine a polynomial of degree {degree}, which costs "
            f"nothing here, so the minimiser is not unique. Pass {degree + 1} or more."
        )
    reach = float(X.max() - X.min()) if X.size else 0.0
    if X.size > 1 and not (
        1e-20 <= max(reach, np.abs(X).max()) <= 1e20 and np.abs(Y).max() <= 1e20
    ):
        raise ValueError(
            f"x spans {reach:.2g} and y reaches {np.abs(Y).max():.2g}: the powers of such numbers "
            f"leave the range of float64. Rescale both to sizes near 1."
        )
    order = np.argsort(X, kind="stable")
    knots, values = X[order], Y[order]
    close = np.flatnonzero(np.diff(knots) <= 4 * np.finfo(float).eps * np.abs(knots).max())
    if close.size:
        i, j = order[close[0]], order[close[0] + 1]
        same = (
            "with equal values: drop one"
            if Y[i] == Y[j]
            else (f"with values {Y[i]:.6g} and {Y[j]:.6g}: no function takes both; average them")
        )
        raise ValueError(
            f"x[{i}] and x[{j}] are the same number ({X[i]:.6g}) up to rounding, {same}. Splines "
            f"need different knots."
        )
    return knots, values, order
