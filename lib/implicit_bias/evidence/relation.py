r"""Relations between two measurements of the same networks: a line, and ranks.

Ranks ask less than a line, and a third measurement can explain them: a and b may agree because
both follow g. With Spearman's correlations :math:`r` (those of the ranks) the partial correlation

.. math:: r_{ab\cdot g} = \frac{r_{ab} - r_{ag}r_{bg}}{\sqrt{(1 - r_{ag}^2)(1 - r_{bg}^2)}}

is the correlation of what straight lines in the ranks of g leave of the ranks of a and b. The same
formula in Kendall's :math:`\tau` is not zero for a and b that are independent given g: for normal
variables with correlation .9 to g it tends to .19, Spearman's to .01.

Intervals are percentile bootstraps over networks. In a resample a network and its copies make no
pair: :math:`\tau_b`, which leaves tied pairs out, sees to that.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from implicit_bias.arrays import as_count, as_real

__all__ = [
    "Line",
    "RankCorrelation",
    "kendall",
    "linear_relation",
    "partial_rank_correlation",
]

Matrix = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True)
class Line:
    """A line through points, y = slope * x + intercept.

    Attributes
    ----------
    slope, intercept : float
    r2 : float
        Share of the variance of y that the line explains.
    adjusted_r2 : float
        1 - (1 - r2) (n - 1) / (n - 2).
    rmse : float
        Root of the sum of squared residuals over n - 2.
    n : int
        Number of points.

    Examples
    --------
    >>> line = linear_relation([0.0, 1.0, 2.0], [1.0, 3.0, 5.0])
    >>> line(10.0)
    21.0
    """

    slope: float
    intercept: float
    r2: float
    adjusted_r2: float
    rmse: float
    n: int

    def __call__(self, x: float) -> float:
        """Returns the line's value at x."""
        return self.slope * x + self.intercept


@dataclass(frozen=True)
class RankCorrelation:
    """A rank correlation with its interval.

    Attributes
    ----------
    value : float
        Between -1 and 1.
    interval : tuple of float
        Percentile bootstrap over the networks.
    level : float
        Its confidence.
    method : str
        "kendall" or "spearman".
    undefined : int
        How many resamples had no correlation, one of their variables being constant or fixed by
        the given one; the interval is that of the others.

    Examples
    --------
    >>> found = kendall([1, 2, 3, 4], [1, 2, 4, 3])
    >>> round(found.tau, 4), found.method, found.level
    (0.6667, 'kendall', 0.95)
    """

    value: float
    interval: tuple[float, float]
    level: float
    method: str
    undefined: int

    @property
    def tau(self) -> float:
        """The value, if it is Kendall's."""
        if self.method != "kendall":
            raise AttributeError("This is Spearman's correlation, not a tau. Read .value.")
        return self.value


def _columns(names: str, *given: Any, least: int) -> list[Matrix]:
    """Vectors of one length, each with two different values or more."""
    vectors = [
        as_real(values, name).cpu().numpy()
        for name, values in zip(names.split(), given, strict=True)
    ]
    shapes = [v.shape for v in vectors]
    if any(v.ndim != 1 for v in vectors) or len(set(shapes)) > 1 or vectors[0].size < least:
        raise ValueError(
            f"{', '.join(names.split())} need one number per network, for {least} networks or "
            f"more; got shapes {', '.join(map(str, shapes))}."
        )
    for name, v in zip(names.split(), vectors, strict=True):
        if v.min() == v.max():
            raise ValueError(
                f"All entries of {name} are {v[0]}: what does not vary has no relation to "
                f"anything. Pass networks that differ."
            )
    return vectors


def linear_relation(train: Any, test: Any) -> Line:
    """Returns the least-squares line of the test losses on the training losses.

    Parameters
    ----------
    train, test : array, shape (n,)
        A number for each network, three or more, neither of them the same for all.

    Raises
    ------
    TypeError, ValueError
        If shapes differ, there are fewer than three networks, a value is not finite, or all
        values of one are equal.

    Notes
    -----
    Source: L19, figures 2, 9, 10, 15 and 16, with the same statistics. A share of explained
    variance near 1 says little where all points are pulled towards one point: compare the line at
    ``math.log(classes)`` with itself.

    Examples
    --------
    >>> line = linear_relation([0.0, 1.0, 2.0, 3.0], [0.0, 2.0, 2.0, 4.0])
    >>> f"{line.slope:.3f} {line.intercept:.3f} {line.r2:.3f} {line.rmse:.3f}"
    '1.200 0.200 0.900 0.632'
    """
    x, y = _columns("train test", train, test, least=3)
    from scipy.stats import linregress  # slow to import: only when it is used

    # Both moved and scaled to order 1: losses near log(10) may differ by 1e-9, or be 1e-200.
    origin, width = (float(v[0]) for v in (x, y)), (float(np.ptp(v)) for v in (x, y))
    (x0, y0), (dx, dy) = origin, width
    u, v = (x - x0) / dx, (y - y0) / dy
    fit = linregress(u, v)
    rest = ((v - fit.slope * u - fit.intercept) ** 2).sum()
    r2 = 1 - float(rest / ((v - v.mean()) ** 2).sum())
    slope = float(fit.slope) * (dy / dx)
    intercept = y0 + dy * float(fit.intercept) - slope * x0
    if not math.isfinite(slope) or not math.isfinite(intercept):
        raise ValueError(
            f"train varies by {dx:g} and test by {dy:g}: the line through them leaves float64. "
            f"Divide each by a number of its size."
        )
    return Line(
        slope=slope,
        intercept=intercept,
        r2=r2,
        adjusted_r2=1 - (1 - r2) * (x.size - 1) / (x.size - 2),
        rmse=dy * math.sqrt(rest / (x.size - 2)),
        n=x.size,
    )


def _ratio(top: Matrix, bottom: Matrix) -> Matrix:
    """The quotient, NaN where the bottom is zero."""
    result = np.full(top.shape, np.nan)
    np.divide(top, bottom, out=result, where=bottom > 0)
    return result


def _signs(v: Matrix) -> Matrix:
    """The matrix of 1 where v_i > v_j, -1 where less, 0 for ties."""
    signs: Matrix = (v[:, None] > v).astype(float) - (v[:, None] < v)
    return signs


def _taus(a: Matrix, b: Matrix, counts: Matrix) -> Matrix:
    """Kendall's tau-b of samples in which point i stands counts[:, i] times."""
    A, B = _signs(a), _signs(b)

    def total(S: Matrix) -> Matrix:
        sums: Matrix = ((counts @ S) * counts).sum(1)
        return sums

    return _ratio(total(A * B), np.sqrt(total(np.abs(A)) * total(np.abs(B))))


def _spearmans(a: Matrix, b: Matrix, counts: Matrix) -> Matrix:
    """Spearman's correlation of such samples: that of the ranks, the middle one for ties."""

    def centred(v: Matrix) -> Matrix:
        # Those below minus those above, over two: the rank less the mean rank, exact in float64.
        ranks: Matrix = counts @ _signs(v).T / 2
        return ranks

    A, B = centred(a), centred(b)
    size = np.sqrt((counts * A**2).sum(1) * (counts * B**2).sum(1))
    return _ratio((counts * A * B).sum(1), size)


def _resamples(n: int, repeats: int, seed: int) -> Matrix:
    """How often each of n networks is drawn."""
    rng = np.random.default_rng(seed)
    counts: Matrix = rng.multinomial(n, np.full(n, 1 / n), size=repeats).astype(float)
    return counts


def _interval(values: Matrix, level: float) -> tuple[tuple[float, float], int]:
    defined = values[~np.isnan(values)]
    if defined.size < 100:
        raise ValueError(
            f"Only {defined.size} of {values.size} resamples have a correlation, too few for an "
            f"interval: too many networks agree in a value. Pass more networks that differ."
        )
    low, high = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2])
    return (float(low), float(high)), int(values.size - defined.size)


def _options(repeats: int, seed: int, level: float) -> tuple[int, int]:
    if not 0 < level < 1:
        raise ValueError(f"level = {level} is not a confidence between 0 and 1; 0.95 is usual.")
    return as_count(repeats, "repeats", least=100), as_count(seed, "seed", least=0)


def kendall(
    a: Any, b: Any, repeats: int = 2000, seed: int = 0, level: float = 0.95
) -> RankCorrelation:
    r"""Returns Kendall's rank correlation, :math:`\tau_b` where there are ties, with an interval.

    Parameters
    ----------
    a, b : array, shape (n,)
        A number for each network, four or more.
    repeats, seed : int
        Number of bootstrap resamples of the networks (100 or more), their seed.
    level : float
        Confidence of the interval.

    Raises
    ------
    TypeError, ValueError
        If shapes differ, there are fewer than four networks, a value is not finite, or all
        values of one are equal.

    Notes
    -----
    Source: the measure of agreement for L19's figures 4, 9 and 14. Where all pairs agree every
    resample does, and the interval has no width: it then says nothing of what few networks leave
    open.

    Examples
    --------
    >>> error, loss = [0.1, 0.2, 0.2, 0.3, 0.4, 0.5], [2.1, 2.0, 2.2, 2.3, 2.2, 2.4]
    >>> found = kendall(error, loss)
    >>> round(found.tau, 3), [round(end, 1) for end in found.interval]
    (0.643, [0.1, 1.0])
    """
    x, y = _columns("a b", a, b, least=4)
    repeats, seed = _options(repeats, seed, level)
    value = float(_taus(x, y, np.ones((1, x.size)))[0])
    interval, undefined = _interval(_taus(x, y, _resamples(x.size, repeats, seed)), level)
    return RankCorrelation(value, interval, level, "kendall", undefined)


def _partial(a: Matrix, b: Matrix, g: Matrix, counts: Matrix, method: str) -> Matrix:
    pairs = _taus if method == "kendall" else _spearmans
    ab, ag, bg = pairs(a, b, counts), pairs(a, g, counts), pairs(b, g, counts)
    # Equal ranks give exactly 1, since sqrt(s s) = s in float64; others at most 1 - 1 / n^3.
    found = _ratio(ab - ag * bg, np.sqrt((1 - ag**2) * (1 - bg**2)))
    bounded: Matrix = np.clip(found, -1, 1)
    return bounded


def partial_rank_correlation(
    a: Any,
    b: Any,
    given: Any,
    repeats: int = 2000,
    seed: int = 0,
    level: float = 0.95,
    method: Literal["spearman", "kendall"] = "spearman",
) -> RankCorrelation:
    r"""Returns how the ranks of a and b agree beyond what the ranks of a third variable explain.

    Parameters
    ----------
    a, b, given : array, shape (n,)
        A number for each network, five or more.
    repeats, seed, level
        As for ``kendall``.
    method : str
        "spearman", or "kendall", which is not zero for a and b independent given the third.

    Raises
    ------
    TypeError, ValueError
        If shapes differ, there are fewer than five networks, a value is not finite, all values of
        one are equal, or ``given`` fixes the ranks of a or b entirely.

    Notes
    -----
    Source: the control for L19's figures 4 and 9, where test error, normalised loss and the
    product of norms are all related. Monotone dependence on ``given`` is taken out in full only as
    far as it is a straight line in the ranks.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> g = rng.normal(size=300)
    >>> a, b = g + 0.5 * rng.normal(size=(2, 300))
    >>> kendall(a, b).tau > 0.5  # both follow g,
    True
    >>> low, high = partial_rank_correlation(a, b, g).interval  # and share nothing else
    >>> low < 0 < high
    True
    """
    if method not in ("spearman", "kendall"):
        raise ValueError(f"method = {method!r}; pass 'spearman' or 'kendall'.")
    x, y, g = _columns("a b given", a, b, given, least=5)
    repeats, seed = _options(repeats, seed, level)
    value = float(_partial(x, y, g, np.ones((1, x.size)), method)[0])
    if math.isnan(value):
        raise ValueError(
            "given fixes the ranks of a or b entirely, so nothing is left that could agree. "
            "Report the plain correlations: the two cannot be told apart."
        )
    counts = _resamples(x.size, repeats, seed)
    interval, undefined = _interval(_partial(x, y, g, counts, method), level)
    return RankCorrelation(value, interval, level, method, undefined)
