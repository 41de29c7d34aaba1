r"""Norms on the weights: their duals, their steepest directions, and the margin that they measure.

The dual of a norm is :math:`\|g\|_* = \max_{\|v\| \le 1} \langle g, v\rangle`, and a v that
attains it is a steepest direction for g. Both steepest descent and the largest margin speak of
a norm only through these two and through the map

.. math:: J(g) = \nabla \tfrac12 \|g\|_*^2 = \|g\|_* \operatorname{steepest}(g),

which for the Euclidean norm is the identity. With 1/p + 1/q = 1:

============  ================================  ============================================
norm          dual                              steepest direction, up to a factor
============  ================================  ============================================
p             q-norm                            :math:`|g|^{q-1}` with the signs of g
1             largest entry                     a signed unit vector
inf           sum of absolute values            signs
matrix K      :math:`\sqrt{g^\top K^{-1} g}`    :math:`K^{-1} g`
"fourier"     largest :math:`|\widehat g_k|`    a wave
"nuclear"     largest singular value            its pair of singular vectors
============  ================================  ============================================

Everything is computed on entries divided by the largest, so that 1e-200 and 1e200 are as good
as 1.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from implicit_bias.arrays import as_array, as_real
from implicit_bias.problems import Classification

__all__ = ["FourierNorm", "Norm", "NuclearNorm", "PowerNorm", "QuadraticNorm", "as_norm", "margin"]


def _unit(v: Tensor) -> tuple[Tensor, float]:
    """v divided by its largest entry in size, and that size; v itself when it is zero."""
    size = float(v.abs().max())
    return (v / size, size) if size > 0 else (v, 0.0)


class Norm(ABC):
    """What every norm has; built by ``as_norm``.

    Attributes
    ----------
    strictly_convex : bool
        Whether the steepest direction and the separator of least norm are unique.

    Examples
    --------
    >>> norm = as_norm(1, 2)
    >>> norm.value(torch.tensor([3.0, -4.0])), norm.dual(torch.tensor([3.0, -4.0]))
    (7.0, 4.0)
    """

    strictly_convex: bool = False

    def value(self, w: Tensor) -> float:
        """The norm of w."""
        unit, size = _unit(w)
        return size * self._value(unit) if size else 0.0

    def dual(self, g: Tensor) -> float:
        """The dual norm of g."""
        unit, size = _unit(g)
        return size * self._dual(unit) if size else 0.0

    def steepest(self, g: Tensor) -> Tensor:
        """A v of norm 1 with the largest <g, v>, which is the dual norm of g."""
        unit, size = _unit(g)
        if not size:
            raise ValueError(
                "g is zero, and along a zero slope every direction is as steep as any other. "
                "Ask for the steepest direction of a non-zero vector."
            )
        v = self._steepest(unit)
        # Underflow in the power can leave the norm a little off one, never zero.
        return v / self.value(v)

    @abstractmethod
    def _value(self, w: Tensor) -> float: ...

    @abstractmethod
    def _dual(self, g: Tensor) -> float: ...

    @abstractmethod
    def _steepest(self, g: Tensor) -> Tensor: ...


@dataclass(frozen=True, eq=False)
class PowerNorm(Norm):
    """The p-norm, 1 <= p <= inf.

    Examples
    --------
    >>> PowerNorm(1.0).value(torch.tensor([3.0, -4.0])), PowerNorm(1.0).dual(torch.ones(2))
    (7.0, 1.0)
    """

    p: float

    @property
    def q(self) -> float:
        """The conjugate exponent."""
        return {1.0: math.inf, math.inf: 1.0}.get(self.p) or self.p / (self.p - 1)

    @property
    def strictly_convex(self) -> bool:  # type: ignore[override]
        """True for 1 < p < inf."""
        return 1 < self.p < math.inf

    def _value(self, w: Tensor) -> float:
        return float(torch.linalg.vector_norm(w, self.p))

    def _dual(self, g: Tensor) -> float:
        return float(torch.linalg.vector_norm(g, self.q))

    def _steepest(self, g: Tensor) -> Tensor:
        if self.p == 1:
            v = torch.zeros_like(g)
            first = int(g.abs().argmax())
            v[first] = g[first].sign()
            return v
        # 1 / (p - 1) is q - 1, without cancellation when p is large.
        power: Tensor = g.sign() * g.abs() ** (1 / (self.p - 1))
        return power

    def dual_hessian(self, g: Tensor) -> Tensor:
        r"""The Hessian of :math:`\tfrac12\|g\|_*^2`, shape (d, d), for 1 < p < inf and g not 0.

        For p > 2 it is infinite where an entry of g vanishes; entries count as at least 1e-12 of
        the largest.
        """
        q = self.q
        u = self.steepest(g)
        share = g.abs() / self.dual(g)
        if q < 2:
            share = share.clamp(min=1e-12)
        curved: Tensor = torch.diag(share ** (q - 2)) / (self.p - 1)
        return curved + (2 - q) * torch.outer(u, u)


@dataclass(frozen=True, eq=False)
class QuadraticNorm(Norm):
    r"""The norm :math:`\sqrt{w^\top K w}` of a positive definite matrix K of shape (d, d).

    Examples
    --------
    >>> QuadraticNorm(torch.diag(torch.tensor([4.0, 9.0]))).value(torch.tensor([1.0, 0.0]))
    2.0
    """

    K: Tensor
    root: Tensor = field(init=False)
    strictly_convex: bool = field(init=False, default=True)

    def __post_init__(self) -> None:
        object.__setattr__(self, "root", torch.linalg.cholesky(self.K))

    def _solve(self, g: Tensor) -> Tensor:
        solution: Tensor = torch.linalg.solve_triangular(self.root, g[:, None], upper=False)
        return solution[:, 0]

    def _value(self, w: Tensor) -> float:
        return float((self.root.T @ w).norm())

    def _dual(self, g: Tensor) -> float:
        return float(self._solve(g).norm())

    def _steepest(self, g: Tensor) -> Tensor:
        solution: Tensor = torch.cholesky_solve(g[:, None], self.root)
        return solution[:, 0]

    def dual_hessian(self, g: Tensor) -> Tensor:
        r"""The Hessian of :math:`\tfrac12\|g\|_*^2`: the inverse of K, wherever g is."""
        inverse: Tensor = torch.cholesky_inverse(self.root)
        return inverse


@dataclass(frozen=True, eq=False)
class FourierNorm(Norm):
    """The sum of the absolute values of the unitary discrete Fourier transform of w.

    Examples
    --------
    >>> FourierNorm().value(torch.ones(4, dtype=torch.float64))
    2.0
    """

    def _value(self, w: Tensor) -> float:
        return float(torch.fft.fft(w, norm="ortho").abs().sum())

    def _dual(self, g: Tensor) -> float:
        return float(torch.fft.fft(g, norm="ortho").abs().max())

    def _steepest(self, g: Tensor) -> Tensor:
        spectrum = torch.fft.fft(g, norm="ortho")
        k = int(spectrum.abs()[: g.shape[0] // 2 + 1].argmax())
        wave = torch.zeros_like(spectrum)
        wave[k] = spectrum[k]
        wave[-k] = spectrum[k].conj()
        signal: Tensor = torch.fft.ifft(wave, norm="ortho").real
        return signal


@dataclass(frozen=True, eq=False)
class NuclearNorm(Norm):
    """The sum of the singular values of a matrix w of shape (d, k).

    Examples
    --------
    >>> NuclearNorm().value(torch.eye(3)), NuclearNorm().dual(torch.eye(3))
    (3.0, 1.0)
    """

    def _value(self, w: Tensor) -> float:
        return float(torch.linalg.svdvals(w).sum())

    def _dual(self, g: Tensor) -> float:
        return float(torch.linalg.svdvals(g)[0])

    def _steepest(self, g: Tensor) -> Tensor:
        U, _, Vh = torch.linalg.svd(g, full_matrices=False)
        return torch.outer(U[:, 0], Vh[0])


def _quadratic(norm: Any, d: int) -> QuadraticNorm:
    K = as_real(norm, "norm")
    if K.shape != (d, d):
        raise ValueError(
            f"norm is an array of shape {tuple(K.shape)}; the norm sqrt(w^T K w) of weights with "
            f"d = {d} entries needs a K of shape ({d}, {d}). For a p-norm pass the number p."
        )
    top = float(K.abs().max())
    if top == 0 or float((K - K.T).abs().max()) > 1e-12 * top:
        raise ValueError(
            "norm is a matrix that is not symmetric (or zero), so sqrt(w^T K w) is not the norm "
            "that it seems to be. Pass (K + K.T) / 2 if that is what you mean."
        )
    K = (K + K.T) / 2
    eigenvalues = torch.linalg.eigvalsh(K / top)
    if float(eigenvalues[0]) <= d * torch.finfo(K.dtype).eps * float(eigenvalues[-1]):
        raise ValueError(
            f"norm is a matrix that is not positive definite (its smallest eigenvalue is "
            f"{top * float(eigenvalues[0]):.3g}, its largest {top * float(eigenvalues[-1]):.3g}): "
            f"some direction would cost nothing. Pass a K whose eigenvalues are all positive."
        )
    return QuadraticNorm(K)


def as_norm(norm: Any, d: int) -> Norm:
    r"""Returns the norm on weights with d entries that a number, a matrix or a name stands for.

    Parameters
    ----------
    norm : float, array of shape (d, d), "fourier" or "nuclear"
        A number p with 1 <= p <= inf; a positive definite matrix K, for
        :math:`\sqrt{w^\top K w}`; or a name. A ``Norm`` is returned as it is.
    d : int
        Number of weights (of rows, for "nuclear").

    Raises
    ------
    TypeError, ValueError
        If it is none of these, p < 1, or K is of the wrong size, not symmetric or not positive
        definite.

    Examples
    --------
    >>> as_norm(1, d=3).dual(torch.tensor([1.0, -5.0, 2.0]))
    5.0
    """
    if isinstance(norm, Norm):
        return norm
    if isinstance(norm, str):
        if norm in ("fourier", "nuclear"):
            return FourierNorm() if norm == "fourier" else NuclearNorm()
        raise ValueError(
            f"There is no norm named {norm!r}. Choose a number p >= 1, math.inf, a positive "
            f"definite matrix, 'fourier' or 'nuclear'."
        )
    try:
        given = as_array(norm)
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(
            f"norm cannot be read as a number or a matrix ({error}). Pass p >= 1, math.inf or a "
            f"positive definite matrix."
        ) from error
    if given.ndim:
        return _quadratic(given, d)
    p = math.nan if given.is_complex() else float(given)
    if given.dtype == torch.bool or not p >= 1:
        raise ValueError(
            f"norm = {norm}: the p-norm is a norm for 1 <= p <= inf only; below 1 the triangle "
            f"inequality fails and the separator of least norm is not a convex problem. Pass "
            f"p >= 1."
        )
    return PowerNorm(p)


def margin(problem: Classification, w: Any, norm: Any = 2) -> float:
    r"""Returns the margin :math:`\min_i y_i\langle x_i, w\rangle / \|w\|`.

    Parameters
    ----------
    problem : Classification
        X of shape (n, d), y of shape (n,); for "nuclear" y of shape (n, k).
    w : array, shape (d,) or (d, k)
        The weights; only their direction counts.
    norm : float, array of shape (d, d), "fourier" or "nuclear"
        As for ``as_norm``. For "nuclear" the minimum is over all n k margins
        :math:`y_{ij}\langle x_i, w_j\rangle`.

    Returns
    -------
    float
        Positive exactly when w separates.

    Raises
    ------
    TypeError
        If the problem is not a Classification.
    ValueError
        If w is zero, not finite, or of the wrong shape.

    Notes
    -----
    Source: M24, the margin of Theorem 4, and Theorem 3 for the Euclidean norm.

    Examples
    --------
    >>> margin(Classification([[3.0, 4.0], [-6.0, 0.0]], [1, -1]), [1.0, 0.0])
    3.0
    """
    check_labels(problem, norm)
    weights = as_real(w, "w").to(problem.X)
    shape = (problem.d, *problem.y.shape[1:])
    if weights.shape != shape:
        raise ValueError(
            f"w has shape {tuple(weights.shape)}, but these data need {shape}: one weight for "
            f"each feature{' and output' * (len(shape) - 1)}."
        )
    unit, size = _unit(weights)
    if not size:
        raise ValueError(
            "w = 0 has no direction, so no margin. Descent leaves zero in one step: measure after."
        )
    return float((problem.y * (problem.X @ unit)).min()) / as_norm(norm, problem.d).value(unit)


def check_labels(problem: Classification, norm: Any) -> None:
    """Raises unless the problem has labels, of the shape that the norm of the weights needs."""
    if not isinstance(problem, Classification):
        raise TypeError(
            f"A margin is a statement about labels, and this is a {type(problem).__name__}. "
            f"Build a Classification(X, y) with y in {{-1, +1}}."
        )
    matrix = isinstance(norm, NuclearNorm) or (isinstance(norm, str) and norm == "nuclear")
    if problem.y.ndim != 1 + matrix:
        raise ValueError(
            f"y has shape {tuple(problem.y.shape)}, and "
            + (
                "the nuclear norm is one of matrices: it needs y of shape (n, k). For a single "
                "output pass y[:, None], or norm=2, which is the same."
                if matrix
                else "this norm is one of vectors: it needs y of shape (n,). Take one column of y "
                "at a time, or norm='nuclear' for all of them."
            )
        )
