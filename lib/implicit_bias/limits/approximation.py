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


def _extrema(
    error: Callable[[_Array], _Array], degree: int, kinks: _Array, also: _Array
) -> tuple[_Array, _Array]:
    """The largest size of the error in each run of one sign, in order: places and values."""
    theta = np.linspace(0, np.pi, 24 * (degree + 2) + 1)
    # Close to kinks the error turns faster than elsewhere.
    near = kinks[:, None] + np.array([s * 10.0**-e for e in range(2, 8) for s in (-1, 1)])
    # Points that coincide but for rounding would hide on which side of them the error rises.
    grid = np.unique(np.clip(np.r_[kinks, near.ravel()], -1, 1))
    for more in (also, -np.cos(theta)):
        apart = np.abs(more[:, None] - grid).min(axis=1, initial=2.0) > 1e-7
        grid = np.unique(np.r_[grid, more[apart]])
    e = error(grid)
    grid, e = grid[e != 0], e[e != 0]
    if not len(e):
        return grid, e
    size = np.abs(e)
    first = np.flatnonzero(np.r_[True, np.sign(e[1:]) != np.sign(e[:-1])][: len(e)])
    runs = zip(first, np.r_[first[1:], len(e)], strict=True)
    peak = np.array([i + int(np.argmax(size[i:j])) for i, j in runs], dtype=np.intp)
    a, b = grid[np.maximum(peak - 1, 0)], grid[np.minimum(peak + 1, len(grid) - 1)]
    sign, gold = np.sign(e[peak]), (np.sqrt(5) - 1) / 2
    for _ in range(44):  # golden section in every bracket at once
        c, d = b - gold * (b - a), a + gold * (b - a)
        left = sign * error(c) > sign * error(d)
        a, b = np.where(left, a, c), np.where(left, d, b)
    middle = (a + b) / 2
    refined = error(middle)
    better = sign * refined > size[peak]
    x, v = np.where(better, middle, grid[peak]), np.where(better, refined, e[peak])
    return x, v


def _shorten(x: _Array, v: _Array, count: int) -> tuple[_Array, _Array]:
    """Drops the smallest extrema so that the signs still alternate and the largest stays."""
    while len(x) > count:
        size = np.abs(v)
        if len(x) == count + 1:
            drop = [0] if size[0] < size[-1] else [len(x) - 1]
        else:
            pairs = np.maximum(size[:-1], size[1:])
            i = int(np.argmin(pairs))
            ends = max(size[0], size[-1])
            drop = [0, len(x) - 1] if ends < pairs[i] else [i, i + 1]
        x, v = np.delete(x, drop), np.delete(v, drop)
    return x, v


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
        If the exchange does not settle: a function with more kinks than it says.

    Notes
    -----
    Source: Remez (1934), all points exchanged at once; the function :math:`E_n(f)` of P18, section
    6.4.1, is of degree *below* n: ``best_approximation(f, n - 1).error``. The largest error is
    looked for on 24 points for each extremum and refined by golden sections.

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
    kinks = _kinks(function)
    scale = max(float(np.abs(_values(function, np.linspace(-1, 1, 501))).max()), 1e-300)
    floor = 4e-15 * scale * (1 + n / 20)

    i = np.arange(n + 2)
    angle = i * np.pi / (n + 1) if k == 0 else (i + 0.5) * np.pi / (n + 2)
    x = -np.cos(angle)
    found: tuple[float, float, _Array, _Array] | None = None
    lopsided = False
    for iteration in range(1, 61):  # noqa: B007
        w, f = _phi(x, k), _values(function, x)
        signs = (-1.0) ** np.arange(n + 2)
        V = np.polynomial.chebyshev.chebvander(x, n)
        solution = np.linalg.solve(np.c_[w[:, None] * V, signs], w * f)
        c, level = solution[:-1], abs(float(solution[-1]))

        def error(t: _Array, c: _Array = c) -> _Array:
            return _phi(t, k) * (_values(function, t) - np.polynomial.chebyshev.chebval(t, c))

        places, values = _extrema(error, n, kinks, x)
        top = float(np.abs(values).max(initial=0.0))
        if top > floor and level < 1e-8 * top and not lopsided:
            # Symmetric points see no error of a function of the other symmetry: take others.
            x, lopsided = -np.cos(angle * (1 - 0.3 / (n + 2))), True
            continue
        chosen, sizes = places, values
        if len(places) >= n + 2:
            chosen, sizes = _shorten(places, values, n + 2)
        lower = float(np.abs(sizes).min()) if len(chosen) == n + 2 else 0.0
        if found is None or top - lower < found[0] - found[1]:
            found = top, lower, c, chosen if len(chosen) == n + 2 else x
        if top <= floor or top - lower <= max(tol * top, floor) or len(chosen) < n + 2:
            break
        x = chosen
    assert found is not None
    top, lower, c, x = found
    if top - lower > max(1e-4 * top, 100 * floor):
        raise ArithmeticError(
            f"After {iteration} exchanges the best error is known to lie between {lower:g} and "
            f"{top:g} only. If the function has kinks, give it an attribute breakpoints; if it is "
            f"not continuous, there is no best polynomial to be found this way."
        )
    polynomial = PolynomialActivation(torch.from_numpy(c))
    # Recomputed from what is returned, not taken from the iteration.
    size = _phi(x, k) * (_values(function, x) - _values(polynomial, x))
    alternates = bool((size[1:] * size[:-1] < 0).all())
    return BestApproximation(
        polynomial,
        largest_error(function, polynomial, k),
        float(np.abs(size).min()) if alternates and top > floor else 0.0,
        torch.from_numpy(x),
        k,
        iteration,
    )


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
        found: _Array = _phi(t, k) * (_values(function, t) - _values(polynomial, t))
        return found

    kinks = np.union1d(_kinks(function), _kinks(polynomial))
    return float(np.abs(_extrema(error, max(degree, 40), kinks, kinks)[1]).max(initial=0.0))
