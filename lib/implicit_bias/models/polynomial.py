"""Polynomial features on [-1, 1]: one space of functions, several ideas of what is small.

The three bases span the same polynomials. They differ in the norm that they put on coefficients,
and the minimum-norm interpolant sees nothing but that norm.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from implicit_bias.arrays import as_count, as_real

__all__ = ["chebyshev_nodes", "polynomial_features"]

_BASES = {
    "monomial": np.polynomial.polynomial.polyvander,
    "chebyshev": np.polynomial.chebyshev.chebvander,
    "legendre": np.polynomial.legendre.legvander,
}


def chebyshev_nodes(n: int) -> Tensor:
    r"""Returns the n zeros of the Chebyshev polynomial :math:`T_n`, increasing, shape (n,).

    Raises
    ------
    ValueError
        If n is less than 1.

    Examples
    --------
    >>> chebyshev_nodes(2)
    tensor([-0.7071,  0.7071], dtype=torch.float64)
    """
    n = as_count(n, "n")
    return torch.from_numpy(np.polynomial.chebyshev.chebpts1(n))


def polynomial_features(
    x: Any, degree: int, basis: Literal["monomial", "chebyshev", "legendre"] = "chebyshev"
) -> Tensor:
    """Returns the basis polynomials of degree 0 to ``degree`` at the points x.

    Parameters
    ----------
    x : array, shape (n,)
        Points in [-1, 1].
    degree : int
        Highest degree; d = degree + 1 features.
    basis : str
        "monomial", "chebyshev" or "legendre" (the classical ones, equal to 1 at x = 1).

    Returns
    -------
    Tensor, shape (n, degree + 1), float64

    Raises
    ------
    ValueError
        If a point leaves [-1, 1] (high degrees overflow there), x is not a vector, the degree
        is negative, or the basis is unknown.

    Examples
    --------
    >>> polynomial_features([0.5], 2, "monomial")
    tensor([[1.0000, 0.5000, 0.2500]], dtype=torch.float64)
    """
    given = as_real(x, "x")
    points = given.cpu().numpy()
    if points.ndim != 1 or not (np.abs(points) <= 1).all():
        raise ValueError(
            f"polynomial_features needs a vector of points in [-1, 1]; got shape {points.shape} "
            f"with largest size {np.abs(points).max(initial=0.0):g}. Outside, degree {degree} "
            f"explodes. Rescale your interval to [-1, 1] first."
        )
    degree = as_count(degree, "degree", least=0)
    if basis not in _BASES:
        raise ValueError(f"There is no basis {basis!r}. Choose one of {', '.join(_BASES)}.")
    return torch.from_numpy(_BASES[basis](points, degree)).to(given.device)
