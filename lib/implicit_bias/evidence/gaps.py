"""Distances between two answers to one question."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from implicit_bias.problems import as_array

__all__ = ["angle", "outside_span", "relative_error"]


def _pair(a: Any, b: Any, name: str) -> tuple[Tensor, Tensor]:
    u = as_array(a).to(torch.float64)
    v = as_array(b).to(u)
    if u.shape != v.shape:
        raise ValueError(
            f"{name} compares arrays of one shape; got {tuple(u.shape)} and {tuple(v.shape)}, "
            f"which would broadcast to a number without meaning."
        )
    if not bool(torch.isfinite(u).all() & torch.isfinite(v).all()):
        raise ValueError(
            f"{name} was given a NaN or infinite entry: a run diverged before it was measured. "
            f"Look at the path's losses."
        )
    return u, v


def relative_error(a: Any, b: Any) -> float:
    r"""Returns :math:`\|a-b\|/\|b\|` in the Euclidean norm; the norm of a when b is zero.

    Parameters
    ----------
    a, b : array, same shape
        b is the reference.

    Raises
    ------
    ValueError
        If shapes differ or an entry is not finite.

    Examples
    --------
    >>> relative_error([3.0, 0.0], [2.0, 0.0])
    0.5
    """
    u, v = _pair(a, b, "relative_error")
    size = float(v.norm())
    return float((u - v).norm()) / (size if size else 1.0)


def angle(u: Any, v: Any) -> float:
    r"""Returns the angle between two vectors in radians, accurate for tiny angles.

    The arc cosine of a normalised inner product loses every angle below 1e-8; Kahan's
    :math:`2\,\mathrm{atan2}(\|a-b\|, \|a+b\|)` of the unit vectors loses none.

    Parameters
    ----------
    u, v : array, shape (d,)

    Raises
    ------
    ValueError
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
    if not float(a.norm()) or not float(b.norm()):
        raise ValueError("The zero vector has no direction, so it makes no angle with anything.")
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
    ValueError
        If the columns are not orthonormal to 1e-8, or an entry is not finite.

    Examples
    --------
    >>> outside_span([[1.0, 0.0], [3.0, 4.0]], [[1.0], [0.0]])
    0.8
    """
    w = as_array(points).to(torch.float64)
    V = as_array(basis).to(w)
    gram = V.T @ V - torch.eye(V.shape[1]).to(w)
    if not float(gram.abs().max()) < 1e-8:
        raise ValueError(
            "basis needs orthonormal columns, or the projection onto its span is wrong. Pass "
            "torch.linalg.qr(basis).Q."
        )
    if not bool(torch.isfinite(w).all()):
        raise ValueError("A point is NaN or infinite: the run diverged. Look at its losses.")
    w = w.reshape(-1, w.shape[-1])
    rest = w - (w @ V) @ V.T
    sizes = w.norm(dim=1)
    ratios = rest.norm(dim=1) / torch.where(sizes > 0, sizes, torch.ones_like(sizes))
    return float(ratios.max())
