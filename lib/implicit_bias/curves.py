r"""Evaluation of splines whose highest derivative is a measure, in O(n + M), gap by gap.

In each gap between two knots the function is a polynomial of degree k plus
:math:`\int (x-t)_+^k/k!\;q\,d\mu` over that gap alone.
"""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from implicit_bias.measures import GAUSS, Density

if TYPE_CHECKING:
    from implicit_bias.spline_system import System

__all__ = ["Curve"]

Array = NDArray[np.float64]


class Curve:
    """A function with given values at the knots and (k+1)-th derivative q mu between them.

    Built by ``System.curve``. In every gap it is a polynomial, fixed by the values at k+1 knots
    nearby, plus the integral of q mu from the gap's left end: nothing is summed across gaps that
    are far away. Outside the knots it is a polynomial.

    Examples
    --------
    >>> from implicit_bias.spline_system import spline_system
    >>> system = spline_system([0.0, 1.0, 2.0], lambda x: 1.0)
    >>> curve = system.curve(*system.solve([0.0, 1.0, 0.0]))
    >>> curve([0.5, 1.0, 3.0]), curve([0.0, 3.0], 1)
    (array([ 0.6875,  1.    , -1.5   ]), array([ 1.5, -1.5]))
    """

    def __init__(self, system: System, values: Array, q: Array):
        self.system, self.q, self.values = system, q, values
        k, x = system.degree, system.knots
        fit, rest = system.polynomial(values)
        self._line, self._rest = np.linalg.lstsq(system._legendre(x), fit, rcond=None)[0], rest
        t, edges = system._nodes, system._edges
        density = system._density(system._basis, system._gap, q)
        mass = system._masses * density
        piece = np.clip(np.searchsorted(edges, t, side="right") - 1, 0, edges.size - 2)
        # What the masses of a piece add to the derivatives at its right end.
        added: Array = np.stack(
            [
                np.bincount(
                    piece,
                    mass * (edges[piece + 1] - t) ** i / math.factorial(i),
                    minlength=edges.size - 1,
                )
                for i in range(k, -1, -1)
            ],
            axis=-1,
        )
        self._widths = np.diff(edges)
        self._added = added
        first = np.searchsorted(edges, x[:-1])  # the piece at which gap j starts
        rank = np.arange(edges.size - 1) - np.repeat(
            first, np.diff(np.append(first, edges.size - 1))
        )
        inner = np.zeros_like(added)  # derivatives at the left end of pieces, zero at a gap's start
        for r in range(1, int(rank.max()) + 1):
            p = np.flatnonzero(rank == r)
            inner[p] = _taylor(inner[p - 1], self._widths[p - 1]) + added[p - 1]
        last = np.append(first[1:], edges.size - 1) - 1
        over = _taylor(inner[last], self._widths[last]) + added[last]  # over a whole gap
        start = self._starts(rest, over)
        gap = np.repeat(np.arange(x.size - 1), np.diff(np.append(first, edges.size - 1)))
        self._jets = _taylor(start[gap], edges[:-1] - x[gap]) + inner
        self.ends = _taylor(start, np.diff(x)) + over  # (M-1, k+1): derivatives at right ends
        self.starts = start
        if not isinstance(system.measure, Density):
            self._prefix = _prefixes(t, mass, piece, edges, k)

    def _starts(self, rest: Array, over: Array) -> Array:
        """The k+1 derivatives at the left end of every gap, shape (M-1, k+1)."""
        k, x = self.system.degree, self.system.knots
        gaps = np.arange(x.size - 1)
        # The integral of q mu from x_j, at the knots around.
        integral = {0: np.zeros(gaps.size)}
        jet = np.zeros((gaps.size, k + 1))
        for o in range(1, k + 1):
            g = np.minimum(gaps + o - 1, gaps.size - 1)
            jet = _taylor(jet, x[g + 1] - x[g]) + over[g]
            integral[o] = jet[:, 0]
        jet = np.zeros((gaps.size, k + 1))
        for o in range(1, k):
            g = np.maximum(gaps - o, 0)
            jet = _taylor(jet - over[g], x[g] - x[g + 1])
            integral[-o] = jet[:, 0]
        # The polynomial through what is left at k+1 knots around the gap: those among which
        # rounding of the values grows least on the way into the gap (Lebesgue's constant).
        powers = np.arange(k + 1)
        factorials = np.array([math.factorial(i) for i in powers])
        least, start = np.full(gaps.size, np.inf), np.zeros((gaps.size, k + 1))
        for shift in range(k):
            fits = np.flatnonzero((gaps >= shift) & (gaps - shift + k < x.size))
            rows = fits[:, None] - shift + powers
            unit = (x[rows[:, -1]] - x[rows[:, 0]])[:, None]
            vander = ((x[rows] - x[fits][:, None]) / unit)[:, :, None] ** powers
            into = np.linspace(0, 1, 9) * (x[fits + 1] - x[fits])[:, None] / unit
            lebesgue = (
                np.abs(into[:, :, None] ** powers @ np.linalg.inv(vander)).sum(axis=2).max(axis=1)
            )
            left = rest[rows] - np.stack([integral[i - shift][fits] for i in range(k + 1)], 1)
            taylor = np.linalg.solve(vander, left[:, :, None])[:, :, 0]
            found = taylor * factorials / unit**powers
            better = lebesgue < least[fits]
            least[fits[better]], start[fits[better]] = lebesgue[better], found[better]
        return start

    def check_order(self, order: int) -> None:
        """Raises ValueError if there is no derivative of that order."""
        k = self.system.degree
        if order == k + 1 and not isinstance(self.system.measure, Density):
            raise ValueError(
                f"The derivative of order {order} is a sum of point masses at the breakpoints, not "
                f"a function. Ask for an order up to {k}, or for the function q."
            )
        if not 0 <= order <= k + 1:
            raise ValueError(
                f"order = {order}: this function has derivatives of order 0 to {k + 1}; further "
                f"ones need derivatives of zeta. Difference the highest one where zeta is smooth."
            )

    def size(self) -> float:
        """The largest distance from the least-squares polynomial, at knots and halfway."""
        x = self.system.knots
        between = self._local((x[1:] + x[:-1]) / 2, 0)
        return float(max(np.abs(self._rest).max(), np.abs(between).max()))

    def jump(self) -> float:
        """The largest jump at a knot of the value or of a derivative of order i <= k, times the
        i-th power of the shorter gap beside it.

        It is zero for the exact q only: Q^T h = A q says that the pieces meet.
        """
        if not self.system.size:
            return 0.0
        gaps = np.diff(self.system.knots)
        near = np.minimum(gaps[1:], gaps[:-1])[:, None] ** np.arange(self.system.degree + 1)
        end = abs(float(self.ends[-1, 0] - self._rest[-1]))
        return max(end, float((np.abs(self.ends[:-1] - self.starts[1:]) * near).max()))

    def __call__(self, points: Array, order: int = 0) -> Array:
        """The derivative of that order (0 to k; k+1 too for a density) at the points."""
        system, k = self.system, self.system.degree
        x = np.asarray(points, dtype=np.float64)
        flat = x.ravel()
        self.check_order(order)
        if order == k + 1:
            assert isinstance(system.measure, Density)
            inside = (flat >= system.knots[0]) & (flat <= system.knots[-1])
            top = np.zeros(flat.size)
            top[inside] = system.measure._at(flat[inside]) * system.q_at(self.q, flat[inside])
            return top.reshape(x.shape)
        lo, hi = system.knots[0], system.knots[-1]
        derivative = np.polynomial.legendre.legder(self._line, order)
        half = (hi - lo) / 2
        u = (flat - (lo + hi) / 2) / half
        out: Array = np.polynomial.legendre.legval(u, derivative) / half**order
        for at in range(0, flat.size, 20_000):
            chunk = flat[at : at + 20_000]
            out[at : at + 20_000] += self._local(chunk, order)
        return out.reshape(x.shape)

    def _local(self, x: Array, order: int) -> Array:
        k, edges = self.system.degree, self.system._edges
        piece = np.clip(np.searchsorted(edges, x, side="right") - 1, 0, edges.size - 2)
        jets, from_ = self._jets[piece], edges[piece]
        right = x >= edges[-1]
        jets = np.where(right[:, None], self.ends[-1], jets)
        from_ = np.where(right, edges[-1], from_)
        out = _taylor(jets, x - from_)[:, order]
        inside = np.flatnonzero((x > edges[0]) & ~right)
        if inside.size:
            out[inside] += self._integral(x[inside], piece[inside], k - order)
        return out

    def _integral(self, x: Array, piece: NDArray[np.intp], power: int) -> Array:
        """The integral of (x-t)^power / power! q dmu from the piece's left end to x."""
        system, edges = self.system, self.system._edges
        if isinstance(system.measure, Density):
            u, w = GAUSS
            width = x - edges[piece]
            t = edges[piece][:, None] + width[:, None] * u
            f = system.measure._at(t.ravel()) * system.q_at(self.q, t.ravel())
            kernel = ((1 - u) ** power * w) / math.factorial(power)
            return (f.reshape(t.shape) @ kernel) * width ** (power + 1)
        count = np.searchsorted(system._nodes, x, side="right")
        some = count > np.searchsorted(system._nodes, edges[piece], side="left")
        out = np.zeros(x.size)
        if some.any():
            moments = self._prefix[: power + 1, count[some] - 1]
            z = (x - edges[piece])[some]
            out[some] = sum(
                z ** (power - i) / math.factorial(power - i) * (-1) ** i * moments[i]
                for i in range(power + 1)
            )
        return out


def _taylor(jet: Array, step: Any) -> Array:
    """The derivatives (..., k+1) of a polynomial, moved by ``step`` (...,)."""
    k = jet.shape[-1] - 1
    powers = [step**m / math.factorial(m) for m in range(k + 1)]
    moved = [sum(jet[..., i + m] * powers[m] for m in range(k - i + 1)) for i in range(k + 1)]
    return np.stack(moved, axis=-1)


def _prefixes(t: Array, mass: Array, gap: NDArray[np.intp], edges: Array, k: int) -> Array:
    """Running sums of mass (t - x_j)^i / i!, begun anew in every gap, shape (k+1, n)."""
    bounds = np.searchsorted(gap, np.arange(edges.size))
    offset = t - edges[gap]
    terms = np.stack([mass * offset**i / math.factorial(i) for i in range(k + 1)])
    for a, b in itertools.pairwise(bounds):
        np.cumsum(terms[:, a:b], axis=1, out=terms[:, a:b])
    return terms
