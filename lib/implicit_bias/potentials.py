r"""Potentials: convex functions whose gradient is the mirror, and their Bregman divergences.

A potential :math:`\phi` maps a point w to its mirror image :math:`z = \nabla\phi(w)`, one to one,
and measures how far w is from v by :math:`D_\phi(w, v) = \phi(w) - \phi(v) - \langle\nabla\phi(v),
w - v\rangle \ge 0`. Three points satisfy :math:`D(w,v) = D(w,u) + D(u,v) + \langle\nabla\phi(u) -
\nabla\phi(v), w - u\rangle`.

===============  ==================================  ==============================  ============
name             value                               mirror                          inverse
===============  ==================================  ==============================  ============
SquaredNorm      :math:`\|w\|^2/2`                   :math:`w`                       :math:`z`
Entropy          :math:`\sum_j w_j\log w_j - w_j`    :math:`\log w_j`                :math:`e^{z_j}`
Quadratic(K)     :math:`w^\top K w/2`                :math:`Kw`                      :math:`K^{-1}z`
PNorm(p)         :math:`\sum_j |w_j|^p/p`            :math:`|w_j|^{p-1}\,` sign      with :math:`q`
===============  ==================================  ==============================  ============

Here 1/p + 1/q = 1. Divergences are never computed by their definition: it subtracts numbers of
order 1 to find one of order :math:`\|w - v\|^2`, and knows nothing once :math:`w - v` is 1e-8.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from implicit_bias.problems import as_array

__all__ = ["Entropy", "PNorm", "Potential", "Quadratic", "SquaredNorm"]


def _points(values: Any, name: str) -> Tensor:
    """Points as a float64 tensor of shape (..., d), every entry finite."""
    try:
        given = as_array(values)
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(
            f"{name} cannot be read as numbers ({error}). Pass a NumPy array, a torch tensor or "
            f"nested lists of equal length."
        ) from error
    if given.is_complex():
        raise TypeError(
            f"{name} is complex, and the potentials here are functions of real weights. Pass its "
            f"real part, or stack real and imaginary parts."
        )
    if given.ndim == 0 or 0 in given.shape:
        raise ValueError(
            f"{name} has shape {tuple(given.shape)}; a potential is a function of points of "
            f"shape (..., d) with d >= 1. Wrap a single number in a list."
        )
    given = given.to(torch.float64)
    if not bool(torch.isfinite(given).all()):
        raise ValueError(
            f"{name} has a NaN or infinite entry, and so would have everything computed from it. "
            f"Pass finite numbers."
        )
    return given


class Potential(ABC):
    """A convex function with its gradient, the gradient's inverse and its divergence.

    Points have shape (..., d), and so have mirror images; values and divergences have shape
    (...). Every method looks at its input first; ``check=False`` skips that, for tensors known
    to be float64 and in the domain (a loop of many steps).

    Examples
    --------
    >>> isinstance(Entropy(), Potential), Entropy().mirror([1.0]).item()
    (True, 0.0)
    """

    def check_point(self, w: Any, name: str = "w") -> Tensor:
        """Returns w as a float64 tensor, having made sure that the mirror is defined there.

        Raises
        ------
        TypeError, ValueError
            If it is not an array of finite real numbers of the right shape in the domain.
        """
        return _points(w, name)

    def _closed(self, w: Any, name: str = "w") -> Tensor:
        """w in the closed domain, where the value is defined."""
        return self.check_point(w, name)

    def value(self, w: Any) -> Tensor:
        """Returns the potential at w, shape (...)."""
        return self._value(self._closed(w))

    def mirror(self, w: Any, check: bool = True) -> Tensor:
        """Returns the gradient at w, shape (..., d)."""
        return self._mirror(self.check_point(w) if check else w)

    def inverse_mirror(self, z: Any, check: bool = True) -> Tensor:
        """Returns the point whose mirror image is z, shape (..., d).

        Raises
        ------
        OverflowError
            If that point is beyond the largest float (with ``check=False`` it is infinite).
        """
        if not check:
            return self._inverse_mirror(z)
        w = self._inverse_mirror(self._dual(z))
        if not bool(torch.isfinite(w).all()):
            raise OverflowError(
                f"The point with mirror image z is beyond the largest float (the largest |z| is "
                f"{float(as_array(z).abs().max()):g}). Take a smaller step, or scale the data."
            )
        return w

    def _dual(self, z: Any) -> Tensor:
        return _points(z, "z")

    def divergence(self, w: Any, v: Any, check: bool = True) -> Tensor:
        """Returns the Bregman divergence of w from v, shape (...), to full relative accuracy."""
        if not check:
            return self._divergence(w, v)
        w, v = self._closed(w), self.check_point(v, "v")
        if w.shape[-1] != v.shape[-1]:
            raise ValueError(
                f"w has {w.shape[-1]} coordinates and v has {v.shape[-1]}; a divergence compares "
                f"points of one space. Pass points of equal last dimension."
            )
        return self._divergence(w, v)

    def hessian(self, w: Any) -> Tensor:
        """Returns the Hessian at w, shape (..., d, d)."""
        return torch.diag_embed(self._curvature(self.check_point(w)))

    def inverse_hessian(self, w: Any) -> Tensor:
        """Returns the inverse of the Hessian at w, shape (..., d, d)."""
        return torch.diag_embed(1 / self._curvature(self.check_point(w)))

    def precondition(self, w: Tensor, M: Tensor) -> Tensor:
        """Returns the inverse Hessian at w, shape (d,), times M of shape (d, k); unchecked."""
        return M / self._curvature(w)[:, None]

    @abstractmethod
    def _value(self, w: Tensor) -> Tensor: ...

    @abstractmethod
    def _mirror(self, w: Tensor) -> Tensor: ...

    @abstractmethod
    def _inverse_mirror(self, z: Tensor) -> Tensor: ...

    @abstractmethod
    def _divergence(self, w: Tensor, v: Tensor) -> Tensor: ...

    @abstractmethod
    def _curvature(self, w: Tensor) -> Tensor:
        """The diagonal of the Hessian of a separable potential."""


@dataclass(frozen=True)
class SquaredNorm(Potential):
    r"""The potential :math:`\|w\|^2/2`: mirror descent is gradient descent.

    Examples
    --------
    >>> SquaredNorm().divergence([3.0, 4.0], [0.0, 0.0])
    tensor(12.5000, dtype=torch.float64)
    """

    def _value(self, w: Tensor) -> Tensor:
        return w.square().sum(-1) / 2

    def _mirror(self, w: Tensor) -> Tensor:
        return w.clone()

    def _inverse_mirror(self, z: Tensor) -> Tensor:
        return z.clone()

    def _divergence(self, w: Tensor, v: Tensor) -> Tensor:
        return (w - v).square().sum(-1) / 2

    def _curvature(self, w: Tensor) -> Tensor:
        return torch.ones_like(w)


@dataclass(frozen=True)
class Entropy(Potential):
    r"""The unnormalised negative entropy :math:`\sum_j w_j\log w_j - w_j` on positive points.

    Its divergence :math:`\sum_j w_j\log(w_j/v_j) - w_j + v_j` is the generalised Kullback-Leibler
    divergence; w may have zeros there, v may not.

    Notes
    -----
    Source: M24, the examples after Theorem 2. The slides call it strongly convex; its second
    derivative 1/w is bounded below on bounded sets only. Mirror image and divergence are exact
    to rounding from the smallest normal number, 2.2e-308, upwards.

    Examples
    --------
    >>> Entropy().inverse_mirror(Entropy().mirror([1.0, 1e-300]))
    tensor([ 1.0000e+00, 1.0000e-300], dtype=torch.float64)
    """

    def check_point(self, w: Any, name: str = "w") -> Tensor:
        """Returns w as a float64 tensor with positive entries.

        Raises
        ------
        TypeError, ValueError
            If it is not an array of finite positive numbers.
        """
        return self._refuse(_points(w, name), name, closed=False)

    def _closed(self, w: Any, name: str = "w") -> Tensor:
        return self._refuse(_points(w, name), name, closed=True)

    def _refuse(self, w: Tensor, name: str, closed: bool) -> Tensor:
        least = float(w.min())
        if least > 0 or (closed and least == 0):
            return w
        wanted, why = (
            ("non-negative", "w log w is not real below 0")
            if closed
            else ("positive", "its mirror image log w is finite only above 0")
        )
        raise ValueError(
            f"The entropy needs {wanted} points, and {name} has an entry {least:g}: {why}. "
            f"Pass {wanted} numbers; a start near zero may be as small as 1e-300."
        )

    def _value(self, w: Tensor) -> Tensor:
        return (torch.xlogy(w, w) - w).sum(-1)

    def _mirror(self, w: Tensor) -> Tensor:
        return w.log()

    def _inverse_mirror(self, z: Tensor) -> Tensor:
        return z.exp()

    def _divergence(self, w: Tensor, v: Tensor) -> Tensor:
        # With s = (w-v)/(w+v), log(w/v) = 2 atanh s, and w log(w/v) - w + v is
        # 2 w (atanh s - s) + (w-v) s: of the order of the answer, all of it.
        change = w - v
        # Both may have vanished in a long run; they are then as near as can be.
        s = change / (w + v).clamp(min=torch.finfo(w.dtype).tiny)
        square = s * s
        largest = float(square.max())
        if largest < 1e-7:  # most steps of a run are so short, and need two terms of the series
            return (change * s + (w * s) * square * (0.4 * square + 2 / 3)).sum(-1)
        series = s * square * (1 / 3 + square * (1 / 5 + square * (1 / 7 + square / 9)))
        if largest < 1e-4:
            return (2 * w * series + change * s).sum(-1)
        bent = torch.where(square < 1e-4, series, torch.atanh(s.clamp(-0.9, 0.9)) - s)
        near = 2 * w * bent + change * s
        far = torch.xlogy(w, w) - w * v.log() - change
        return torch.where(square < 0.5, near, far).sum(-1)

    def _curvature(self, w: Tensor) -> Tensor:
        return 1 / w

    def precondition(self, w: Tensor, M: Tensor) -> Tensor:
        """Returns diag(w) M, also where w is zero; unchecked."""
        return M * w[:, None]


@dataclass(frozen=True, eq=False)
class Quadratic(Potential):
    r"""The potential :math:`w^\top K w/2`: mirror descent preconditioned by :math:`K^{-1}`.

    Parameters
    ----------
    K : array, shape (d, d)
        Symmetric and positive definite.

    Raises
    ------
    TypeError, ValueError
        If K is not a square array of finite real numbers, symmetric and positive definite.

    Notes
    -----
    A K that is symmetric up to rounding (1e-12 of its largest entry) is taken for its symmetric
    part. An eigenvalue below d times the unit roundoff of the largest one counts as zero.

    Examples
    --------
    >>> Quadratic([[2.0, 0.0], [0.0, 8.0]]).inverse_mirror([2.0, 2.0])
    tensor([1.0000, 0.2500], dtype=torch.float64)
    """

    K: Tensor
    _root: Tensor = field(init=False, repr=False)

    def __post_init__(self) -> None:
        K = _points(self.K, "K")
        if K.ndim != 2 or K.shape[0] != K.shape[1]:
            raise ValueError(
                f"Quadratic needs a square matrix K of shape (d, d); got {tuple(K.shape)}. For a "
                f"diagonal K pass torch.diag(entries)."
            )
        skew = float((K - K.T).abs().max() / K.abs().max().clamp(min=torch.finfo(K.dtype).tiny))
        if skew > 1e-12:
            raise ValueError(
                f"K is not symmetric (relative difference {skew:.1e} to its transpose), so Kw is "
                f"not the gradient of w^T K w / 2. Pass (K + K.T) / 2."
            )
        K = (K + K.T) / 2
        values = torch.linalg.eigvalsh(K)
        least, largest = float(values[0]), float(values[-1])
        if not least > K.shape[0] * torch.finfo(K.dtype).eps * largest:
            raise ValueError(
                f"K is not positive definite (eigenvalues from {least:.3g} to {largest:.3g}), so "
                f"its mirror has no inverse. Add a multiple of the identity."
            )
        object.__setattr__(self, "K", K)
        object.__setattr__(self, "_root", torch.linalg.cholesky(K))

    def check_point(self, w: Any, name: str = "w") -> Tensor:
        """Returns w as a float64 tensor whose last dimension is that of K."""
        point = _points(w, name)
        if point.shape[-1] != self.K.shape[0]:
            raise ValueError(
                f"{name} has {point.shape[-1]} coordinates but K is {self.K.shape[0]} x "
                f"{self.K.shape[0]}. Pass points of shape (..., {self.K.shape[0]})."
            )
        return point

    def _dual(self, z: Any) -> Tensor:
        return self.check_point(z, "z")

    def _value(self, w: Tensor) -> Tensor:
        return (w * self._mirror(w)).sum(-1) / 2

    def _mirror(self, w: Tensor) -> Tensor:
        image: Tensor = w @ self.K.to(w.device)
        return image

    def _inverse_mirror(self, z: Tensor) -> Tensor:
        root = self._root.to(z.device)
        return torch.cholesky_solve(z.reshape(-1, z.shape[-1]).T, root).T.reshape(z.shape)

    def _divergence(self, w: Tensor, v: Tensor) -> Tensor:
        return self._value(w - v)

    def _curvature(self, w: Tensor) -> Tensor:
        raise NotImplementedError  # K is a matrix: hessian and precondition are its own

    def hessian(self, w: Any) -> Tensor:
        """Returns K for each of the points, shape (..., d, d)."""
        w = self.check_point(w)
        return self.K.to(w.device).expand(*w.shape, w.shape[-1]).clone()

    def inverse_hessian(self, w: Any) -> Tensor:
        """Returns the inverse of K for each of the points, shape (..., d, d)."""
        w = self.check_point(w)
        inverse = torch.cholesky_inverse(self._root.to(w.device))
        return inverse.expand(*w.shape, w.shape[-1]).clone()

    def precondition(self, w: Tensor, M: Tensor) -> Tensor:
        """Returns the inverse of K times M; unchecked."""
        return torch.cholesky_solve(M, self._root.to(M.device))


def _taylor_nodes(count: int) -> tuple[Tensor, Tensor]:
    """Gauss nodes on [0, 1], and weights that have the factor 1 - t of Taylor's remainder."""
    x, weights = np.polynomial.legendre.leggauss(count)
    t = torch.from_numpy((1 + x) / 2)
    return t, torch.from_numpy(weights) / 2 * (1 - t)


_NODES, _WEIGHTS = _taylor_nodes(12)


@dataclass(frozen=True)
class PNorm(Potential):
    r"""The separable potential :math:`\sum_j |w_j|^p/p`, for p > 1.

    This is the p-th power of the norm, over p, and not :math:`\|w\|_p^2/2`: its mirror acts on
    each coordinate alone, :math:`z_j = \mathrm{sign}(w_j)|w_j|^{p-1}`.

    Parameters
    ----------
    p : float
        Above 1; ``PNorm(2)`` is ``SquaredNorm()``.

    Raises
    ------
    TypeError, ValueError
        If p is not a finite number above 1.

    Notes
    -----
    The second derivative :math:`(p-1)|w_j|^{p-2}` at zero is infinite for p < 2 and zero for
    p > 2; ``hessian`` and ``inverse_hessian`` say so (``inf``).

    Examples
    --------
    >>> PNorm(3).mirror([2.0, -3.0])
    tensor([ 4., -9.], dtype=torch.float64)
    """

    p: float

    def __post_init__(self) -> None:
        if isinstance(self.p, bool) or not isinstance(self.p, (int, float)):
            raise TypeError(f"p = {self.p!r} is not a number. Pass p > 1, 1.5 say.")
        if not (math.isfinite(self.p) and self.p > 1):
            raise ValueError(
                f"p = {self.p} is not a finite number above 1; at p = 1 the mirror has no "
                f"inverse. Pass p > 1; near 1 the answers come near to those of the l1 norm."
            )

    def _value(self, w: Tensor) -> Tensor:
        return w.abs().pow(self.p).sum(-1) / self.p

    def _mirror(self, w: Tensor) -> Tensor:
        image: Tensor = w.sign() * w.abs().pow(self.p - 1)
        return image

    def _inverse_mirror(self, z: Tensor) -> Tensor:
        point: Tensor = z.sign() * z.abs().pow(1 / (self.p - 1))
        return point

    def _divergence(self, w: Tensor, v: Tensor) -> Tensor:
        p = self.p
        size = v.abs()
        # Near v: Taylor's remainder, an integral of positive numbers.
        safe = torch.where(size > 0, v, torch.ones_like(v))
        ratio = (w - v) / safe
        close = (size > 0) & (ratio.abs() <= 0.25)
        inner = torch.where(close, ratio, torch.zeros_like(ratio))
        nodes, weights = _NODES.to(w.device), _WEIGHTS.to(w.device)
        mean = torch.mv(
            (1 + inner[..., None] * nodes).pow(p - 2).reshape(-1, len(nodes)), weights
        ).reshape(inner.shape)
        near = (p - 1) * safe.abs().pow(p) * inner * inner * mean
        # Elsewhere the definition; across zero its three terms have one sign.
        slope = size.pow(p - 1)
        far = w.abs().pow(p) / p + size * slope * (1 - 1 / p) - v.sign() * slope * w
        return torch.where(close, near, far).sum(-1)

    def _curvature(self, w: Tensor) -> Tensor:
        return (self.p - 1) * w.abs().pow(self.p - 2)
