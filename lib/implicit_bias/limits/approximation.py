r"""The best polynomial in the supremum norm, by Remez's exchange.

Over polynomials Q of degree at most n, with :math:`\varphi(x) = \sqrt{1 - x^2}`,

.. math:: E = \min_Q \max_{|x| \le 1} \varphi(x)^k\,|f(x) - Q(x)| .

Chebyshev: Q is best if and only if its weighted error takes the values :math:`\pm E` with
alternating signs at n + 2 points. De la Vallee-Poussin: if the error of *any* polynomial
alternates at n + 2 points, E is at least the smallest of its sizes there. The two enclose E, and
are recomputed here from the polynomial that is returned.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from implicit_bias.arrays import as_count, as_real
from implicit_bias.models.activations import PolynomialActivation

__all__ = ["BestApproximation", "best_approximation", "largest_error"]

_Array = NDArray[Any]
_Function = Callable[[Tensor], Tensor]
_Error = Callable[[_Array], _Array]


@dataclass(frozen=True, eq=False)
class BestApproximation:
    r"""A best polynomial approximation on [-1, 1], with the proof that it is best.

    Attributes
    ----------
    polynomial : PolynomialActivation
        Q.
    error : float
        The largest weighted error of Q: an upper bound of E.
    lower : float
        De la Vallee-Poussin's lower bound of E, from ``points``; 0 where the error is rounding.
    points : Tensor, shape (degree + 2,)
        Where the error alternates.
    weight : int
        k, the power of :math:`\varphi`.
    iterations : int
        Exchanges made.

    Examples
    --------
    >>> best = best_approximation(lambda x: x**3, 2)
    >>> round(best.error, 12), round(best.lower, 12)  # Chebyshev: 2^(1 - n)
    (0.25, 0.25)
    """

    polynomial: PolynomialActivation
    error: float
    lower: float
    points: Tensor
    weight: int
    iterations: int


def _values(function: _Function, x: _Array) -> _Array:
    found = as_real(function(torch.from_numpy(np.ascontiguousarray(x))), "function on [-1, 1]")
    if tuple(found.shape) != x.shape:
        raise ValueError(
            f"function took {x.size} numbers and gave shape {tuple(found.shape)}; it must act on "
            f"each number by itself."
        )
    return found.cpu().numpy()


def _phi(x: _Array, weight: int) -> _Array:
    found: _Array = np.sqrt((1 - x) * (1 + x)) ** weight
    return found


def _weight(weight: Any) -> int:
    k = as_count(weight, "weight", least=0)
    if k > 4:
        raise ValueError(f"weight = {k} is a power of sqrt(1 - x^2) from 0 (none) to 4.")
    return k


def _kinks(function: Any) -> _Array:
    kinks = np.atleast_1d(as_real(getattr(function, "breakpoints", [0.0]), "breakpoints").numpy())
    return np.asarray(kinks[(kinks > -1) & (kinks < 1)], dtype=np.float64)


def _points(theta: _Array, weight: int) -> _Array:
    """x = -cos(theta); with a weight, which is 0 at the ends, the numbers next to them."""
    end = 1 - 2.0**-53 if weight else 1.0
    found: _Array = np.clip(-np.cos(theta), -end, end)
    return found


def _apart(theta: _Array, others: _Array) -> _Array:
    """Without the angles next to others, in order: of two points that coincide but for rounding,
    which has the larger error does not say on which side of them it rises."""
    if not len(others):
        return theta
    i = np.searchsorted(others, theta) % len(others)
    gap = np.minimum(np.abs(theta - others[i]), np.abs(theta - others[i - 1]))
    kept: _Array = theta[gap > 3e-8]
    return kept


def _grid(degree: int, kinks: _Array) -> tuple[_Array, _Array]:
    """The kinks, and points 24 times as dense as the extrema, graded to kinks and ends: angles."""
    bends = np.unique(np.arccos(-kinks))
    near = np.r_[0, bends, np.pi][:, None] + np.array(
        [s * 10.0**-e for e in range(2, 8) for s in (-1, 1)]
    )
    near = near[(near > 0) & (near < np.pi)]
    grid = np.unique(np.r_[near, _apart(np.linspace(0, np.pi, 24 * (degree + 2) + 1), near)])
    return bends, np.union1d(_apart(grid, bends), bends)


def _refine(
    size: _Error, a: _Array, t: _Array, b: _Array, top: _Array, rounds: int
) -> tuple[_Array, _Array]:
    """The places in the brackets a <= t <= b, all at once, where the size, top at t, is largest."""
    a, t, b, top, inside = a[:, None], t[:, None], b[:, None], top[:, None], np.arange(1, 10) / 10
    for _ in range(rounds):
        step, tried = (b - a) / 10, a + (b - a) * inside
        t, top = _best_of(t, top, tried, size(tried))
        a, b = np.maximum(a, t - step), np.minimum(b, t + step)
    # The vertex of the parabola through the three: exact to rounding where the error is smooth.
    left, right = (t - a) * (top - size(b)), (b - t) * (top - size(a))
    bent = left + right > 0
    shift = ((b - t) * right - (t - a) * left) / np.where(bent, 2 * (left + right), 1.0)
    tried = np.clip(t + np.where(bent, shift, 0.0), a, b)
    t, top = _best_of(t, top, tried, size(tried))
    return t[:, 0], top[:, 0]


def _best_of(t: _Array, top: _Array, tried: _Array, found: _Array) -> tuple[_Array, _Array]:
    t, top = np.hstack([t, tried]), np.hstack([top, found])
    at = np.argmax(top, axis=1)[:, None]
    return np.take_along_axis(t, at, 1), np.take_along_axis(top, at, 1)


def _extrema(
    error: _Error, grid: _Array, reference: _Array, signs: _Array, rounds: int
) -> tuple[_Array, _Array, _Array, float]:
    """The largest error in each run of one sign, in order: angles, sizes and signs. At the
    reference the error has ``signs``, even where it is zero; last, its smallest size there."""
    theta = np.r_[_apart(grid, reference), reference]
    e = error(theta)
    free = len(theta) - len(reference)
    sign = np.r_[np.sign(e[:free]), signs]
    size = np.maximum(sign * e, 0.0)
    least = float(size[free:].min(initial=np.inf))
    order = np.argsort(theta)
    order = order[sign[order] != 0]
    theta, sign, size = theta[order], sign[order], size[order]
    if not len(theta):
        return theta, size, sign, 0.0
    first = np.flatnonzero(np.r_[True, sign[1:] != sign[:-1]])
    runs = zip(first, np.r_[first[1:], len(sign)], strict=True)
    peak = np.array([i + int(np.argmax(size[i:j])) for i, j in runs], dtype=np.intp)
    if not len(reference):  # the largest alone is wanted
        peak = peak[size[peak] >= size.max() / 2]
    a, b = theta[np.maximum(peak - 1, 0)], theta[np.minimum(peak + 1, len(theta) - 1)]
    s = sign[peak]

    def signed(t: _Array) -> _Array:
        found: _Array = s[:, None] * error(t.ravel()).reshape(t.shape)
        return found

    places, top = _refine(signed, a, theta[peak], b, size[peak], rounds)
    return places, top, s, least


def _exchange(
    t: _Array, size: _Array, sign: _Array, least: float, count: int
) -> tuple[_Array, _Array]:
    """Of the extrema, ``count`` that alternate, none below ``least``, with the largest: the level
    of the next reference, a mean of their sizes with positive weights, is then above ``least``."""
    high = size >= least
    t, size, sign = t[high], size[high], sign[high]
    runs = np.split(np.arange(len(t)), np.flatnonzero(sign[1:] != sign[:-1]) + 1)
    best = np.array([run[np.argmax(size[run])] for run in runs], dtype=np.intp)
    t, size = t[best], size[best]
    while len(t) > count:
        if len(t) == count + 1:
            drop = [0] if size[0] < size[-1] else [len(t) - 1]
        else:
            pairs = np.maximum(size[:-1], size[1:])
            i = int(np.argmin(pairs))
            drop = [0, len(t) - 1] if max(size[0], size[-1]) < pairs[i] else [i, i + 1]
        t, size = np.delete(t, drop), np.delete(size, drop)
    return t, size


def best_approximation(
    function: _Function, degree: int, weight: int = 0, tol: float = 1e-10
) -> BestApproximation:
    r"""Returns the polynomial nearest to a function on [-1, 1] in the (weighted) supremum norm.

    Parameters
    ----------
    function : callable
        f, from a tensor (float64) to one of its shape: continuous on [-1, 1], and smooth but for
        its ``breakpoints``, if it has that attribute, or a kink at 0.
    degree : int
        n, at most; up to 300.
    weight : int
        k, the power of :math:`\varphi = \sqrt{1 - x^2}` by which the error is weighed: 0 is the
        usual best approximation, 1 what Corollary 2 of P18 needs for derivatives.
    tol : float
        The bounds ``lower`` and ``error`` differ by this at most, relative to ``error``, or by
        rounding.

    Returns
    -------
    BestApproximation

    Raises
    ------
    TypeError, ValueError
        If an argument is out of range, or the function is not finite on [-1, 1].
    ArithmeticError
        If the bounds stay apart by more than 1e-4 of the error: a function with kinks or
        oscillations finer than the grid.

    Notes
    -----
    Source: Remez (1934), all points exchanged at once; the function :math:`E_n(f)` of P18, section
    6.4.1, is of degree *below* n: ``best_approximation(f, n - 1).error``. The largest error is
    looked for on 24 points for each extremum, and more at kinks and ends, and refined there. The
    next points alternate, keep the largest error and none below the present level, which therefore
    rises with every exchange, from zero too; at kinks that were not announced to about 1e-6.

    Examples
    --------
    >>> best = best_approximation(torch.abs, 2)
    >>> best.polynomial(torch.tensor([0.0, 1.0])), round(best.error, 12)  # x^2 + 1/8
    (tensor([0.1250, 1.1250]), 0.125)
    """
    n, k = as_count(degree, "degree", least=0), _weight(weight)
    if n > 300:
        raise ValueError(f"degree = {n} is above 300, the largest that was tested. Take less.")
    if not 0 < tol < 1:
        raise ValueError(f"tol = {tol} must be between 0 and 1, such as 1e-10.")
    bends, grid = _grid(n, _kinks(function))
    x = _points(grid, k)
    scale = max(float(np.abs(_phi(x, k) * _values(function, x)).max()), 1e-300)
    floor = 4e-15 * scale * (1 + n / 20)

    i = np.arange(n + 2)
    theta = i * np.pi / (n + 1) if k == 0 else (i + 0.5) * np.pi / (n + 2)
    found: tuple[float, float, _Array, _Array] | None = None
    level, stalled = -1.0, 0
    for iteration in range(1, 101):  # noqa: B007
        if len(bends):
            bend = bends[np.abs(theta[:, None] - bends).argmin(axis=1)]
            theta = np.where(np.abs(theta - bend) > 3e-8, theta, bend)
        x, signs = _points(theta, k), (-1.0) ** i
        w, V = _phi(x, k), np.polynomial.chebyshev.chebvander(x, n)
        solution = np.linalg.solve(np.c_[w[:, None] * V, signs], w * _values(function, x))
        c = solution[:-1]

        def error(t: _Array, c: _Array = c) -> _Array:
            at = _points(t, k)
            return _phi(at, k) * (_values(function, at) - np.polynomial.chebyshev.chebval(at, c))

        # A level of zero has no sign: the error vanishes there, as for an even function at
        # symmetric points, and either sign is right.
        signs = signs if solution[-1] >= 0 else -signs
        places, sizes, sides, least = _extrema(error, grid, theta, signs, 5)
        top = float(sizes.max())
        chosen, sizes = _exchange(places, sizes, sides, least, n + 2)
        lower = float(sizes.min())
        if found is None or top - lower < found[0] - found[1]:
            found = top, lower, c, chosen
        # The level rises with every exchange, until rounding is all that is left.
        stalled = 0 if least > level * (1 + 1e-13) else stalled + 1
        level = max(level, least)
        if top <= floor or top - lower <= max(tol * top, floor) or stalled == 3:
            break
        theta = chosen
    assert found is not None
    polynomial = PolynomialActivation(torch.from_numpy(found[2]))
    # Both bounds from what is returned, not taken from the iteration.
    top, x = largest_error(function, polynomial, k), _points(found[3], k)
    size = _phi(x, k) * (_values(function, x) - _values(polynomial, x))
    alternates = bool((np.sign(size[1:]) * np.sign(size[:-1]) < 0).all())
    lower = float(np.abs(size).min()) if alternates and top > floor else 0.0
    if top - lower > max(1e-4 * top, 100 * floor):
        raise ArithmeticError(
            f"After {iteration} exchanges the best error is known to lie between {lower:g} and "
            f"{top:g} only. If the function has kinks, give it an attribute breakpoints; if it is "
            f"not continuous, there is no best polynomial to be found this way."
        )
    return BestApproximation(polynomial, top, lower, torch.from_numpy(x), k, iteration)


def largest_error(function: _Function, polynomial: _Function, weight: int = 0) -> float:
    r"""Returns the largest weighted difference of two functions on [-1, 1].

    Parameters
    ----------
    function, polynomial : callable
        The second of at most the degree of its attribute ``degree``, if it has one, else 100: this
        decides how finely the extrema are looked for.
    weight : int
        Power of :math:`\sqrt{1 - x^2}`.

    Raises
    ------
    TypeError, ValueError
        If the weight is out of range, or a value is not finite.

    Examples
    --------
    >>> largest_error(torch.sin, lambda x: x)
    0.1585290151921...
    """
    k, degree = _weight(weight), int(getattr(polynomial, "degree", 100))

    def error(t: _Array) -> _Array:
        x = _points(t, k)
        found: _Array = _phi(x, k) * (_values(function, x) - _values(polynomial, x))
        return found

    _, grid = _grid(max(degree, 40), np.union1d(_kinks(function), _kinks(polynomial)))
    none = np.empty(0)
    # To the last digit at kinks that were not announced, too.
    return float(np.abs(_extrema(error, grid, none, none, 12)[1]).max(initial=0.0))
