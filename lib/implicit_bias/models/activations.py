r"""Activations of dense networks, and polynomials in place of the ReLU.

A polynomial q of degree k near a function g on :math:`[-R, R]` minimises

.. math:: \int_{-1}^1 \big(g(Rt) - q(Rt)\big)^2\,\omega(t)\,dt,
          \qquad \omega = 1 \text{ (uniform)} \text{ or } (1 - t^2)^{-1/2} \text{ (Chebyshev)} :

a truncated Legendre or Chebyshev series. Outside :math:`[-R, R]` it grows like :math:`(2t)^k`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from implicit_bias.arrays import as_count, as_real

__all__ = ["Activation", "PolynomialActivation", "activation_named", "fit_polynomial"]

Activation = Callable[[Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class PolynomialActivation:
    r"""A polynomial :math:`\sum_j c_j T_j(z/R)` in Chebyshev polynomials, as an activation.

    Attributes
    ----------
    coefficients : Tensor, shape (k + 1,), float64
        The :math:`c_j`, for degree k.
    radius : float
        R: it is meant for inputs in :math:`[-R, R]`, and explodes outside.

    Raises
    ------
    TypeError, ValueError
        If the coefficients are not a vector of finite real numbers, or the radius not positive.

    Examples
    --------
    >>> square = PolynomialActivation(torch.tensor([0.5, 0.0, 0.5]))
    >>> square(torch.tensor([3.0])), square.derivative()(torch.tensor([3.0]))
    (tensor([9.]), tensor([6.]))
    """

    coefficients: Tensor
    radius: float = 1.0

    def __post_init__(self) -> None:
        c = as_real(self.coefficients, "coefficients")
        if c.ndim != 1 or not c.numel():
            raise ValueError(
                f"coefficients has shape {tuple(c.shape)}; a polynomial of degree k has a vector "
                f"of k + 1 of them, the constant first."
            )
        object.__setattr__(self, "coefficients", c)
        object.__setattr__(self, "radius", _positive(self.radius, "radius"))

    @property
    def degree(self) -> int:
        """Number of coefficients less one."""
        return self.coefficients.numel() - 1

    def __call__(self, z: Tensor) -> Tensor:
        """Returns the values at z, of any shape, in the precision of z."""
        t = z / self.radius
        # Clenshaw's recurrence: stable on [-R, R] where powers of z would cancel.
        ahead, after = torch.zeros_like(t), torch.zeros_like(t)
        for c in self.coefficients[1:].tolist()[::-1]:
            ahead, after = 2 * t * ahead - after + c, ahead
        return t * ahead - after + float(self.coefficients[0])

    def derivative(self) -> PolynomialActivation:
        """Returns its derivative, a polynomial of one degree less (0 for a constant)."""
        d = np.polynomial.chebyshev.chebder(self.coefficients.cpu().numpy()) / self.radius
        return PolynomialActivation(torch.from_numpy(np.atleast_1d(d)), self.radius)


def _positive(value: Any, name: str) -> float:
    number = float(as_real(value, name))
    if not number > 0:
        raise ValueError(f"{name} = {number:g} is not a positive number. Pass one, such as 1.")
    return number


def fit_polynomial(
    degree: int,
    radius: float = 1.0,
    weight: Literal["uniform", "chebyshev"] = "uniform",
    function: Activation = torch.relu,
) -> PolynomialActivation:
    r"""Returns the polynomial that is nearest in mean square to a function on [-R, R].

    Parameters
    ----------
    degree : int
        Up to 200.
    radius : float
        R.
    weight : str
        "uniform", or "chebyshev": :math:`(1 - (z/R)^2)^{-1/2}`, which weighs the ends and is
        within a factor of order log(degree) of the best in the supremum norm.
    function : callable
        From a tensor to one of its shape; smooth on each side of 0, where it may have a kink.

    Raises
    ------
    TypeError, ValueError
        If an argument is out of range, or the function is not finite on [-R, R].

    Notes
    -----
    Source: P18, appendix on polynomial approximation and Figure 9 (degree 10 in place of the
    ReLU; the memo does not say which fit). Integrals by Gauss's rule with 400 nodes a side.

    Examples
    --------
    >>> fit_polynomial(2)(torch.tensor([0.0, 1.0]))
    tensor([0.0938, 1.0625])
    """
    degree, R = as_count(degree, "degree", least=0), _positive(radius, "radius")
    if degree > 200:
        raise ValueError(
            f"degree = {degree} is beyond the quadrature used here, which is exact for the ReLU "
            f"up to 200. Pass 200 or less."
        )
    if weight not in ("uniform", "chebyshev"):
        raise ValueError(f"weight = {weight!r} must be 'uniform' or 'chebyshev'.")
    nodes, weights = np.polynomial.legendre.leggauss(400)
    half, weights = (nodes + 1) / 2, weights / 2  # on [0, 1]
    if weight == "chebyshev":  # t = sin(a): the weight is gone
        t, weights = np.sin(half * math.pi / 2), weights * math.pi / 2
    else:
        t = half
    t, weights = np.concatenate([-t[::-1], t]), np.concatenate([weights[::-1], weights])
    value = as_real(function(torch.from_numpy(R * t)), "function on [-R, R]").cpu().numpy()
    if value.shape != t.shape:
        raise ValueError(
            f"function took {t.size} numbers and gave {value.size}; an activation acts on each "
            f"number by itself."
        )
    if weight == "chebyshev":
        basis = np.polynomial.chebyshev.chebvander(t, degree)
        c = basis.T @ (weights * value) * 2 / math.pi
        c[0] /= 2
    else:
        basis = np.polynomial.legendre.legvander(t, degree)
        c = basis.T @ (weights * value) * (np.arange(degree + 1) + 0.5)
        # To Chebyshev coefficients by interpolation at Chebyshev nodes, exact and stable.
        c = np.polynomial.chebyshev.chebinterpolate(
            lambda s: np.polynomial.legendre.legval(s, c), degree
        )
    return PolynomialActivation(torch.from_numpy(np.atleast_1d(c)), R)


_NAMED: dict[str, Activation] = {
    "relu": torch.relu,
    "tanh": torch.tanh,
    "linear": lambda z: z,
    "square": lambda z: z * z,
}


def activation_named(activation: Any) -> Activation:
    """Returns the activation of that name, or the callable itself.

    Raises
    ------
    ValueError
        If the name is unknown.

    Examples
    --------
    >>> activation_named("square")(torch.tensor([3.0]))
    tensor([9.])
    """
    if callable(activation):
        found: Activation = activation
        return found
    if activation not in _NAMED:
        raise ValueError(
            f"activation = {activation!r} is not known here. Choose one of {', '.join(_NAMED)}, "
            f"or pass a function of a tensor, such as fit_polynomial(10, radius=5)."
        )
    return _NAMED[activation]
