"""Power laws: the slope of a line through points on log-log paper, with its uncertainty."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from implicit_bias.arrays import as_count, as_real

__all__ = ["Slope", "loglog_slope"]


@dataclass(frozen=True)
class Slope:
    """A fitted power law, y = exp(intercept) * x ** slope.

    Attributes
    ----------
    slope, intercept : float
    interval : tuple of float
        Confidence interval of the slope.
    level : float
        Its confidence.
    method : str
        How the interval was found: "t" or "bootstrap".

    Examples
    --------
    >>> fit = loglog_slope([1, 2, 4], [[8.0, 8.0], [4.0, 4.0], [2.0, 2.0]])
    >>> round(fit.slope, 12), fit.level, fit.method
    (-1.0, 0.95, 'bootstrap')
    """

    slope: float
    intercept: float
    interval: tuple[float, float]
    level: float
    method: str


def loglog_slope(
    x: Any, y: Any, level: float = 0.95, bootstrap: int = 2000, seed: int = 0
) -> Slope:
    """Returns the least-squares slope of log y against log x, with a confidence interval.

    Parameters
    ----------
    x : array, shape (k,)
        Positive, at least three different values.
    y : array, shape (k,) or (k, repeats)
        Positive. With repeats the line goes through the logarithms of their means, and the
        interval is a percentile bootstrap over the repeats; without, Student's t interval.
    level : float
        Confidence of the interval.
    bootstrap, seed : int
        Number of resamples (100 or more), seed.

    Raises
    ------
    ValueError
        If shapes disagree, there are fewer than three points or two repeats, or a value is not
        positive.

    Examples
    --------
    >>> fit = loglog_slope([1, 10, 100, 1000], [2, 20, 200, 2000])
    >>> round(fit.slope, 12), fit.method
    (1.0, 't')
    """
    a = as_real(x, "x", finite=False).cpu().numpy()
    b = as_real(y, "y", finite=False).cpu().numpy()
    if a.ndim != 1 or b.ndim not in (1, 2) or b.shape[0] != a.size or np.unique(a).size < 3:
        raise ValueError(
            f"loglog_slope needs x (k,) with at least three different values and y (k,) or "
            f"(k, repeats); got {a.shape} and {b.shape}. Two points fit any power law."
        )
    if not (np.isfinite(a) & (a > 0)).all() or not (np.isfinite(b) & (b > 0)).all():
        raise ValueError(
            "A power law has positive values only, and some x or y is zero, negative or not "
            "finite. Drop points that have reached rounding level, and say so."
        )
    if not 0 < level < 1:
        raise ValueError(f"level = {level} is not a confidence between 0 and 1; 0.95 is usual.")
    if b.ndim == 1:
        from scipy.special import stdtrit  # slow to import: only when it is used

        slope, intercept = np.polyfit(np.log(a), np.log(b), 1)
        rest = np.log(b) - slope * np.log(a) - intercept
        spread = ((np.log(a) - np.log(a).mean()) ** 2).sum()
        freedom = a.size - 2
        half = stdtrit(freedom, (1 + level) / 2) * np.sqrt((rest**2).sum() / freedom / spread)
        interval = (float(slope - half), float(slope + half))
        return Slope(float(slope), float(intercept), interval, level, "t")
    bootstrap = as_count(bootstrap, "bootstrap", least=100)
    if b.shape[1] < 2:
        raise ValueError(
            "With one repeat a bootstrap draws the same repeat every time, and its interval would "
            "have no width. Pass y of shape (k,) for Student's t interval."
        )
    rng = np.random.default_rng(seed)
    slope, intercept = np.polyfit(np.log(a), np.log(b.mean(1)), 1)
    # Each repeat keeps its own row through all x: repeats may share a seed across x.
    picks = rng.integers(b.shape[1], size=(bootstrap, b.shape[1]))
    means = np.log(b[:, picks].mean(2))
    slopes = np.polyfit(np.log(a), means, 1)[0]
    low, high = np.quantile(slopes, [(1 - level) / 2, (1 + level) / 2])
    return Slope(float(slope), float(intercept), (float(low), float(high)), level, "bootstrap")
