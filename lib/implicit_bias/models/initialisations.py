r"""Where the hidden units of a wide network bend: initialisations and their densities.

A unit :math:`[wx+b]_+` bends at :math:`c=-b/w`, and its k-th relative :math:`[wx+b]_+^k/k!` has
:math:`|w|^{k}` there as the jump of its k-th derivative. With (W, B) drawn from a density p, what
training of the output layer sees of infinitely many units is

.. math:: \zeta_k(x) = p_C(x)\,\mathbb{E}[W^{2k}\mid C=x]
          = \int |w|^{2k+1}\,p(w, -wx)\,\mathrm{d}w ,

where :math:`p_C=\zeta_0` is the density of the breakpoint C itself. The penalty on the k+1st
derivative is :math:`1/\zeta_k`.

================  =======================================  ===================================
initialisation    W, B (independent)                       :math:`\zeta_k(x)`
================  =======================================  ===================================
Gaussian          :math:`N(0,\sigma_w^2), N(0,\sigma_b^2)` :math:`\frac{k!\,2^k\sigma_w^{2k+1}}
                                                           {\pi\sigma_b(1+x^2\sigma_w^2/
                                                           \sigma_b^2)^{k+1}}`
binary-uniform    :math:`\pm1, U(-a_b, a_b)`               :math:`\frac1{2a_b}` inside
                                                           :math:`|x|\le a_b`, else 0
uniform           :math:`U(-a_w, a_w), U(-a_b, a_b)`       :math:`\frac{\min(a_w, a_b/|x|)^{2k+2}}
                                                           {4(k+1)a_wa_b}`
================  =======================================  ===================================

Random numbers are drawn by NumPy on the CPU, so that every device gets the same ones.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from implicit_bias.arrays import as_count, as_real
from implicit_bias.measures import Density

__all__ = ["LARGEST", "BinaryUniformInit", "GaussianInit", "Initialisation", "UniformInit"]

Array = NDArray[np.float64]
LARGEST = 1e30  # a seventh power of it is still a float


def _positive(value: Any, name: str, what: str) -> float:
    number = float(value)
    if not 1 / LARGEST <= number <= LARGEST:
        raise ValueError(
            f"{name} = {value} is not a number between 1e-30 and 1e30, and {what}: without it "
            f"there are no breakpoints to speak of. 1.0 is usual."
        )
    return number


class Initialisation(ABC):
    """What every initialisation of the hidden layer has.

    Attributes
    ----------
    kinks : tuple of float
        Where zeta is not smooth.
    support : tuple of two floats, or None
        The interval outside which zeta is zero; None when it is the whole line.

    Examples
    --------
    >>> isinstance(GaussianInit(1.0, 1.0), Initialisation)
    True
    """

    kinks: tuple[float, ...] = ()
    support: tuple[float, float] | None = None

    @abstractmethod
    def _zeta(self, x: Tensor, degree: int) -> Tensor:
        """zeta_degree at x, float64."""

    @abstractmethod
    def _draw(self, rng: np.random.Generator, n: int, d: int) -> tuple[Array, Array]:
        """w (n, d) and b (n,)."""

    def zeta(self, x: Any, degree: int = 1) -> Tensor:
        r"""Returns :math:`\zeta_k(x)`, with k = ``degree`` that of the activation (1: ReLU).

        Examples
        --------
        >>> BinaryUniformInit(2.0).zeta([0.0, 1.9, 2.1])
        tensor([0.2500, 0.2500, 0.0000], dtype=torch.float64)
        """
        return self._zeta(as_real(x, "x"), as_count(degree, "degree", least=0))

    def breakpoints(self, x: Any) -> Tensor:
        r"""Returns the probability density of a breakpoint :math:`-B/W` at x.

        Examples
        --------
        >>> GaussianInit(1.0, 1.0).breakpoints(0.0) * torch.pi
        tensor(1., dtype=torch.float64)
        """
        return self.zeta(x, degree=0)

    def measure(self, degree: int = 1) -> Density:
        r"""Returns :math:`\zeta_k(x)\,\mathrm{d}x`, with kinks and support, for any activation.

        Examples
        --------
        >>> UniformInit(1.0, 2.0).measure(degree=3).kinks
        (-2.0, 2.0)
        """
        return Density(partial(self.zeta, degree=degree), kinks=self.kinks, support=self.support)

    def sample(self, n: int, seed: int = 0, d: int = 1) -> tuple[Tensor, Tensor]:
        """Returns the weights and biases of n independent units, on the CPU.

        Parameters
        ----------
        n : int
            Number of units.
        seed : int
            Seed of ``numpy.random.default_rng``; equal seeds give equal units.
        d : int
            Number of inputs. Densities are those of d = 1.

        Returns
        -------
        w : Tensor, shape (n,), or (n, d) when d > 1
        b : Tensor, shape (n,)

        Raises
        ------
        TypeError, ValueError
            If an argument is out of range.

        Examples
        --------
        >>> w, b = BinaryUniformInit(1.0).sample(5)
        >>> w.abs(), bool((b.abs() <= 1).all())
        (tensor([1., 1., 1., 1., 1.], dtype=torch.float64), True)
        """
        n, d = as_count(n, "n"), as_count(d, "d")
        w, b = self._draw(np.random.default_rng(as_count(seed, "seed", least=0)), n, d)
        return torch.from_numpy(w[:, 0].copy() if d == 1 else w), torch.from_numpy(b)


@dataclass(frozen=True)
class GaussianInit(Initialisation):
    r"""Gaussian weights and biases: :math:`W\sim N(0,\sigma_w^2 I)`, :math:`B\sim N(0,\sigma_b^2)`.

    Parameters
    ----------
    sigma_w, sigma_b : float
        Standard deviations, not variances.

    Raises
    ------
    ValueError
        If one is not positive.

    Notes
    -----
    Source: M24, Theorem 6.1. Its Figure 4 writes N(0, 0.1) and does not say whether 0.1 is the
    variance; here it would be ``GaussianInit(1.0, math.sqrt(0.1))`` if it is.

    Examples
    --------
    >>> GaussianInit(1.0, 1.0).zeta([0.0, 1.0]) * torch.pi
    tensor([2.0000, 0.5000], dtype=torch.float64)
    """

    sigma_w: float
    sigma_b: float

    def __post_init__(self) -> None:
        _positive(self.sigma_w, "sigma_w", "a standard deviation is positive")
        _positive(self.sigma_b, "sigma_b", "a standard deviation is positive")

    def _zeta(self, x: Tensor, degree: int) -> Tensor:
        factor = math.factorial(degree) * 2.0**degree * self.sigma_w ** (2 * degree + 1)
        fall = 1 + (x * (self.sigma_w / self.sigma_b)).square()
        return factor / (math.pi * self.sigma_b) / fall ** (degree + 1)

    def _draw(self, rng: np.random.Generator, n: int, d: int) -> tuple[Array, Array]:
        return self.sigma_w * rng.standard_normal((n, d)), self.sigma_b * rng.standard_normal(n)


@dataclass(frozen=True)
class BinaryUniformInit(Initialisation):
    r"""Weights on the unit sphere (:math:`\pm1` when d = 1), biases uniform in ``bound``.

    Parameters
    ----------
    bound : float
        :math:`a_b`; biases are uniform on :math:`(-a_b, a_b)`, and so are the breakpoints.

    Raises
    ------
    ValueError
        If it is not positive.

    Notes
    -----
    Source: M24, Theorem 6.2. For d > 1 directions are uniform, and M24's Theorem 8 then gives
    the cubic polyharmonic spline, as long as all data are within ``bound`` of the origin.

    Examples
    --------
    >>> BinaryUniformInit(1.0).support
    (-1.0, 1.0)
    """

    bound: float
    support: tuple[float, float] = field(init=False)

    def __post_init__(self) -> None:
        a = _positive(self.bound, "bound", "biases are uniform on (-bound, bound)")
        object.__setattr__(self, "support", (-a, a))

    def _zeta(self, x: Tensor, degree: int) -> Tensor:
        return x.abs().le(self.bound).to(x) * (0.5 / self.bound)

    def _draw(self, rng: np.random.Generator, n: int, d: int) -> tuple[Array, Array]:
        w = rng.standard_normal((n, d))
        w /= np.linalg.norm(w, axis=1, keepdims=True)
        return w, rng.uniform(-self.bound, self.bound, n)


@dataclass(frozen=True)
class UniformInit(Initialisation):
    r"""Weights uniform on :math:`(-a_w,a_w)` in every coordinate, biases on :math:`(-a_b,a_b)`.

    Parameters
    ----------
    bound_w, bound_b : float
        :math:`a_w` and :math:`a_b`.

    Raises
    ------
    ValueError
        If one is not positive.

    Notes
    -----
    Source: M24, Theorem 6.3, which gives the constant for :math:`|x|\le a_b/a_w`. Outside, zeta
    falls like :math:`x^{-4}` (for the ReLU).

    Examples
    --------
    >>> UniformInit(1.0, 1.0).zeta([0.0, 1.0, 2.0]) * 8
    tensor([1.0000, 1.0000, 0.0625], dtype=torch.float64)
    """

    bound_w: float
    bound_b: float
    kinks: tuple[float, ...] = field(init=False)

    def __post_init__(self) -> None:
        a = _positive(self.bound_w, "bound_w", "weights are uniform on (-bound_w, bound_w)")
        b = _positive(self.bound_b, "bound_b", "biases are uniform on (-bound_b, bound_b)")
        object.__setattr__(self, "kinks", (-b / a, b / a))

    def _zeta(self, x: Tensor, degree: int) -> Tensor:
        # In units of the bounds: nothing overflows, and 1/0 is an infinity that is clamped.
        least = (self.bound_b / self.bound_w / x.abs()).clamp(max=1.0)
        size = self.bound_w ** (2 * degree + 1) / self.bound_b / (4 * (degree + 1))
        return size * least ** (2 * degree + 2)

    def _draw(self, rng: np.random.Generator, n: int, d: int) -> tuple[Array, Array]:
        w = rng.uniform(-self.bound_w, self.bound_w, (n, d))
        return w, rng.uniform(-self.bound_b, self.bound_b, n)
