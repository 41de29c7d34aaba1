"""Distances between two answers to one question."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from implicit_bias.arrays import as_real

__all__ = ["angle", "outside_span", "relative_error"]


def _pair(a: Any, b: Any, name: str) -> tuple[Tensor, Tensor]:
    u = as_real(a, f"The first argument of {name}")
    v = as_real(b, f"The second argument of {name}").to(u.device)
    if u.shape != v.shape:
        raise ValueError(
            f"{name} compares arrays of one shape; got {tuple(u.shape)} and {tuple(v.shape)}, "
            f"which would broadcast to a number without meaning."
        )
    if u.numel() == 0:
        raise ValueError(f"{name} was given empty arrays, which have no distance between them.")
    return u, v


def _largest(u: Tensor) -> float:
    """A power of two near the largest entry: divided by it (exactly) no square overflows."""
    return 2.0 ** math.frexp(float(u.abs().max()))[1]


def relative_error(a: Any, b: Any) -> float:
    r"""Returns :math:`\|a-b\|/\|b\|` in the Euclidean norm; the norm of a when b is zero.

    Parameters
    ----------
    a, b : array, same shape
        b is the reference.

    Raises
    ------
    TypeError, ValueError
        If shapes differ, or an entry is not a finite real number.

    Examples
    --------
    >>> relative_error([3.0, 0.0], [2.0, 0.0])
    0.5
    """
    u, v = _pair(a, b, "relative_error")
    scale = max(_largest(v), _largest(u)) if bool(v.any()) else 1.0
    difference = u / scale - v / scale
    size = float((v / scale).norm())
    # The difference is scaled for itself: it may be tiny where the reference is not.
    own = _largest(difference)
    return float((difference / own).norm()) * own / (size if size else 1.0)


def angle(u: Any, v: Any) -> float:
    r"""Returns the angle between two vectors in radians, accurate for tiny angles.

    The arc cosine of a normalised inner product loses every angle below 1e-8; Kahan's
    :math:`2\,\mathrm{atan2}(\|a-b\|, \|a+b\|)` of the unit vectors loses none.

    Parameters
    ----------
    u, v : array, shape (d,)

    Raises
    ------
    TypeError, ValueError
        If a vector is zero or not finite, or shapes differ.

    Notes
    -----
    Source: W. Kahan, "How futile are mindless assessments of roundoff", section 12.

    Examples
    --------
    >>> f"{angle([1.0, 0.0], [1.0, 1e-12]):.6g}"
    '1e-12'
    """
    a, b = _pair(u, v, "angle")
    if not bool(a.any()) or not bool(b.any()):
        raise ValueError("The zero vector has no direction, so it makes no angle with anything.")
    a, b = a / _largest(a), b / _largest(b)
    a, b = a / a.norm(), b / b.norm()
    return float(2 * torch.atan2((a - b).norm(), (a + b).norm()))


def outside_span(points: Any, basis: Any) -> float:
    r"""Returns the largest relative size of the points' part outside the span of ``basis``.

    Parameters
    ----------
    points : array, shape (..., d)
        Zero points are inside every span and count as 0.
    basis : array, shape (d, r)
        Orthonormal columns.

    Raises
    ------
    TypeError, ValueError
        If shapes do not fit, the columns are not orthonormal to 1e-8, or an entry is not a finite
        real number.

    Examples
    --------
    >>> outside_span([[1.0, 0.0], [3.0, 4.0]], [[1.0], [0.0]])
    0.8
    """
    w = as_real(points, "points")
    V = as_real(basis, "basis").to(w.device)
    if V.ndim != 2 or w.ndim < 1 or w.shape[-1] != V.shape[0] or 0 in (w.numel(), V.numel()):
        raise ValueError(
            f"outside_span needs points (..., d) and a basis (d, r); got {tuple(w.shape)} and "
            f"{tuple(V.shape)}. A basis holds its vectors as columns; transpose rows."
        )
    gram = V.T @ V - torch.eye(V.shape[1]).to(w)
    if not float(gram.abs().max()) < 1e-8:
        raise ValueError(
            "basis needs orthonormal columns, or the projection onto its span is wrong. Pass "
            "torch.linalg.qr(basis).Q."
        )
    w = w.reshape(-1, w.shape[-1])
    w = w / w.abs().amax(dim=1, keepdim=True).clamp(min=torch.finfo(w.dtype).tiny)
    rest = w - (w @ V) @ V.T
    sizes = w.norm(dim=1)
    ratios = rest.norm(dim=1) / torch.where(sizes > 0, sizes, torch.ones_like(sizes))
    return float(ratios.max())
