r"""Measures that say where a network can bend: breakpoints with weights, or a density.

A network of n hidden units has the empirical measure
:math:`\frac1n\sum_i |w_i|^{2k}\delta_{c_i}` of its breakpoints :math:`c_i = -b_i/w_i`; in the limit
of many units it becomes a density :math:`\zeta(x)\,dx`.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from implicit_bias.arrays import as_real

__all__ = ["GAUSS", "Breakpoints", "Density", "as_measure", "pieces"]

Array = NDArray[np.float64]

# Abscissae and weights on [0, 1]; degree 47 exactly.
GAUSS = tuple(
    (array + shift) / 2
    for array, shift in zip(np.polynomial.legendre.leggauss(24), (1.0, 0.0), strict=True)
)
_PIECES = 100_000


@dataclass(frozen=True, eq=False)
class Breakpoints:
    r"""An empirical measure :math:`\sum_i m_i\,\delta_{c_i}`: the bends that a network can make.

    Parameters
    ----------
    positions : array, shape (n,)
        The points :math:`c_i`, in any order; kept sorted.
    weights : array, shape (n,)
        The masses :math:`m_i \ge 0`; for a network of n units ``abs(w) ** (2 * k) / n``.

    Raises
    ------
    TypeError, ValueError
        If they are not finite real vectors of one length, or a weight is negative.

    Examples
    --------
    >>> Breakpoints([1.0, -1.0], [0.5, 2.0]).weights
    tensor([2.0000, 0.5000], dtype=torch.float64)
    """

    positions: Tensor
    weights: Tensor

    def __post_init__(self) -> None:
        positions = as_real(self.positions, "positions")
        weights = as_real(self.weights, "weights").to(positions.device)
        if positions.ndim != 1 or positions.shape != weights.shape:
            raise ValueError(
                f"Breakpoints need one weight for each position, both of shape (n,); got positions "
                f"{tuple(positions.shape)} and weights {tuple(weights.shape)}."
            )
        if bool((weights < 0).any()):
            raise ValueError(
                f"weights has a negative entry ({float(weights.min()):.3g}): the energy would not "
                f"be convex and have no minimum. A unit's weight is |w|^(2k)/n."
            )
        order = torch.argsort(positions, stable=True)
        object.__setattr__(self, "positions", positions[order])
        object.__setattr__(self, "weights", weights[order])


@dataclass(frozen=True, eq=False)
class Density:
    r"""A continuous measure :math:`\zeta(x)\,dx`, with the places where it is not smooth.

    Parameters
    ----------
    function : callable
        Maps a float64 tensor of points to as many values :math:`\zeta \ge 0`, or to one number;
        written with torch or NumPy.
    kinks : sequence of float
        Where :math:`\zeta` or a derivative jumps. Quadrature is split there; kinks that are not
        named are searched for, a spike that is narrower than 1/24 of a gap may be missed.
    support : pair of float, optional
        :math:`\zeta` is taken as zero outside. Default: the whole line.

    Raises
    ------
    TypeError, ValueError
        If ``function`` cannot be called, a kink is not finite, or the support is not an interval.

    Examples
    --------
    >>> Density(lambda x: 2 - x, support=(-1, 1))([0.0, 5.0])
    tensor([2., 0.], dtype=torch.float64)
    """

    function: Callable[[Any], Any]
    kinks: tuple[float, ...] = ()
    support: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        if not callable(self.function):
            raise TypeError(
                f"A Density needs a function of x; got a {type(self.function).__name__}. For a "
                f"constant c pass lambda x: c."
            )
        kinks = tuple(as_real(self.kinks, "kinks").reshape(-1).tolist())
        object.__setattr__(self, "kinks", kinks)
        if self.support is not None:
            ends = as_real(self.support, "support", finite=False)
            if ends.shape != (2,) or not bool(ends[0] < ends[1]):
                raise ValueError(
                    f"support = {self.support!r} is not an interval (lo, hi) with lo < hi, so "
                    f"there is nothing to integrate over. Pass None for the whole line."
                )
            object.__setattr__(self, "support", tuple(ends.tolist()))

    def __call__(self, x: Any) -> Tensor:
        """Returns the density at x, float64, zero outside the support."""
        everywhere = as_real(x, "x")
        lo, hi = self.support or (-math.inf, math.inf)
        inside = (everywhere >= lo) & (everywhere <= hi)
        points = everywhere[inside]  # the function need not be defined elsewhere
        with warnings.catch_warnings():
            # A function written with NumPy works on tensors, but for a warning of its own.
            warnings.filterwarnings("ignore", "__array_wrap__", DeprecationWarning)
            found = self.function(points)
        values = as_real(found, "zeta(x)").to(points.device)
        if values.ndim == 0:
            values = values.expand(points.shape)
        if values.shape != points.shape:
            raise ValueError(
                f"zeta(x) has shape {tuple(values.shape)} for x of shape {tuple(points.shape)}: it "
                f"must map each point to one number."
            )
        if bool((values < 0).any()):
            where = float(points[values < 0][0])
            raise ValueError(
                f"zeta is negative at x = {where:.6g}: 1/zeta is a price per squared bend, and a "
                f"negative one has no minimum. Check the density."
            )
        result = torch.zeros_like(everywhere)
        result[inside] = values
        return result

    def _at(self, x: Array) -> Array:
        return np.asarray(self(torch.from_numpy(x)).cpu().numpy())


def as_measure(zeta: Any) -> Breakpoints | Density:
    """Returns the measure that ``zeta`` stands for.

    Parameters
    ----------
    zeta : Breakpoints, Density, callable, or an object with ``.zeta``
        An initialisation has ``.zeta(x)`` and may have ``.kinks`` and ``.support``.

    Raises
    ------
    TypeError
        If it is none of these.

    Examples
    --------
    >>> as_measure(lambda x: 1.0).support is None
    True
    """
    if isinstance(zeta, (Breakpoints, Density)):
        return zeta
    if callable(getattr(zeta, "zeta", None)):
        return Density(zeta.zeta, getattr(zeta, "kinks", ()), getattr(zeta, "support", None))
    if callable(zeta):
        return Density(zeta)
    raise TypeError(
        f"zeta is a {type(zeta).__name__}: it must say how cheap a bend at x is. Pass a function "
        f"of x (lambda x: 1.0 for a constant), an initialisation, or Breakpoints(positions, "
        f"weights)."
    )


def pieces(zeta: Density, knots: Array, k: int) -> tuple[Array, Array, Array]:
    """Edges of pieces on which Gauss resolves zeta times polynomials; all nodes and masses."""
    cuts = [knots]
    ends = zeta.kinks + (zeta.support or ())
    cuts.append(np.array([c for c in ends if knots[0] < c < knots[-1]]))
    edges = np.unique(np.concatenate(cuts))
    a, b = edges[:-1], edges[1:]
    done: list[tuple[Array, Array]] = []
    total = 0
    gap_mass: Any = None
    u, w = GAUSS
    powers = (2 * u[None] - 1) ** np.arange(2 * k + 1)[:, None] * w  # (2k+1, 24)

    def values(lo: Array, hi: Array) -> Array:
        return zeta._at((lo[:, None] + (hi - lo)[:, None] * u).ravel()).reshape(-1, u.size)

    coarse = values(a, b)
    halves_powers = [
        (((2 * u[None] - 1) + side) / 2) ** np.arange(2 * k + 1)[:, None] * w / 2
        for side in (-1, 1)
    ]
    for _ in range(60):
        middle = (a + b) / 2
        left, right = values(a, middle), values(middle, b)
        rough = (coarse @ powers.T) * (b - a)[:, None]
        fine = (left @ halves_powers[0].T + right @ halves_powers[1].T) * (b - a)[:, None]
        gap = np.searchsorted(knots, middle, side="right") - 1
        if gap_mass is None:
            gap_mass = np.bincount(gap, fine[:, 0], minlength=knots.size)
        error = np.abs(rough - fine).max(axis=1)
        good = (error <= 1e-13 * fine[:, 0]) | (error <= 1e-15 * gap_mass[gap])
        good |= ~((a < middle) & (middle < b))
        done.append((a[good], b[good]))
        total += int(good.sum())
        bad = ~good
        if not bad.any():
            break
        a, b = (np.concatenate([a[bad], middle[bad]]), np.concatenate([middle[bad], b[bad]]))
        coarse = np.concatenate([left[bad], right[bad]])
        if total + a.size > _PIECES:
            break
    else:
        bad = np.ones(a.size, dtype=bool)
    if bad.any():
        where = float(a[0])
        raise ValueError(
            f"zeta cannot be integrated near x = {where:.6g}: however finely it is cut, it does "
            f"not look smooth. Name its kinks, Density(zeta, kinks=...); compute it in float64; "
            f"and it must be bounded."
        )
    lo = np.concatenate([piece[0] for piece in done])
    hi = np.concatenate([piece[1] for piece in done])
    order = np.argsort(lo)
    lo, hi = lo[order], hi[order]
    t = (lo[:, None] + (hi - lo)[:, None] * u).ravel()
    m = ((hi - lo)[:, None] * w * values(lo, hi)).ravel()
    kept = m > 0
    return np.append(lo, hi[-1]), t[kept], m[kept]
