r"""An initialisation for a curvature penalty of your own: breakpoints as dense as it is small.

The density :math:`1/(Z\varrho)` is integrated panel by panel, by Legendre series that are refined
until they hold it to rounding, and its distribution function is inverted by Newton's method, so
that breakpoints are drawn exactly.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from implicit_bias.arrays import as_real
from implicit_bias.models.initialisations import LARGEST, Initialisation

__all__ = ["CurvatureInit"]

Array = NDArray[np.float64]


def _panels(density: Callable[[Array], Array], edges: list[float]) -> tuple[Array, Array, Array]:
    """Edges (p + 1,), Legendre coefficients (25, p) of the cumulative mass inside each panel, and
    the mass to the left of each, with the total at the end (p + 1,)."""
    nodes, weights = np.polynomial.legendre.leggauss(24)
    basis = np.polynomial.legendre.legvander(nodes, 23) * weights[:, None]
    basis *= (2 * np.arange(24) + 1) / 2  # values at the nodes -> coefficients
    left, right = np.array(edges[:-1]), np.array(edges[1:])
    done: list[tuple[Array, Array, Array]] = []
    settled = 0.0
    for _ in range(54):
        half = (right - left) / 2
        values = density((left + right)[:, None] / 2 + half[:, None] * nodes)
        c = values @ basis * half[:, None]
        total = settled + 2 * float(c[:, 0].sum())
        fine = np.abs(c[:, -3:]).max(1) <= 1e-14 * total
        settled += 2 * float(c[fine, 0].sum())
        done.append((left[fine], right[fine], c[fine]))
        left, right = left[~fine], right[~fine]
        if not left.size:
            break
        middle = (left + right) / 2
        left, right = np.append(left, middle), np.append(middle, right)
    else:
        raise ValueError(
            f"1/penalty has no integral that can be computed near x = {float(left[0]):.6g}: the "
            f"penalty comes too close to zero there, jumps too often, or is noise, and breakpoints "
            f"cannot have a density in proportion to 1/penalty. Bound it away from zero; name "
            f"places where it jumps in kinks."
        )
    first, last, c = (np.concatenate(parts) for parts in zip(*done, strict=True))
    order = first.argsort()
    cumulative = np.polynomial.legendre.legint(c[order], lbnd=-1, axis=1).T
    mass = np.concatenate([[0.0], np.cumsum(2 * c[order, 0])])
    return np.append(first[order], last.max()), cumulative, mass


def _quantile(u: Array, edges: Array, cumulative: Array, mass: Array) -> Array:
    """The points to the left of which lie the masses u, by Newton's method inside a bracket."""
    slopes = np.polynomial.legendre.legder(cumulative)
    panel = np.clip(np.searchsorted(mass, u, side="right") - 1, 0, edges.size - 2)
    goal, c, s = u - mass[panel], cumulative[:, panel], slopes[:, panel]
    low, high = -np.ones_like(u), np.ones_like(u)
    t = np.zeros_like(u)
    for _ in range(60):
        value = np.polynomial.legendre.legval(t, c, tensor=False) - goal
        low, high = np.where(value < 0, t, low), np.where(value < 0, high, t)
        slope = np.polynomial.legendre.legval(t, s, tensor=False)
        new = t - value / np.where(slope > 0, slope, np.inf)
        new = np.where((new >= low) & (new <= high), new, (low + high) / 2)
        step, t = float(np.abs(new - t).max()), new
        if step <= 1e-8:  # Newton's next one would be its square
            break
    left, right = edges[panel], edges[panel + 1]
    return np.clip((left + right) / 2 + (right - left) / 2 * t, left, right)


@dataclass(frozen=True, eq=False)
class CurvatureInit(Initialisation):
    r"""The initialisation for a curvature penalty of your own: zeta in proportion to 1/penalty.

    Breakpoints C are drawn from :math:`p_C = 1/(Z\varrho)`, weights W are :math:`\pm1` with equal
    probability, independent of C, and biases are :math:`B=-WC`. Then :math:`\zeta_k = p_C
    \,\mathbb{E}W^{2k} = 1/(Z\varrho)` for every k, on the interval; outside it is zero.

    Parameters
    ----------
    penalty : callable
        :math:`\varrho`, from an array of points to their penalties; NumPy or torch. Positive and
        finite on the interval.
    interval : tuple of two floats
        Where breakpoints may be: finite, and wide enough to hold the data.
    kinks : tuple of float
        Where the penalty jumps or has a kink, if it does; it makes everything faster.

    Attributes
    ----------
    Z : float
        The integral of :math:`1/\varrho` over the interval; the penalty is :math:`Z\varrho`.

    Raises
    ------
    TypeError, ValueError
        If the interval is unbounded or empty, or the penalty is not positive and finite on it, or
        1/penalty is not integrable.

    Notes
    -----
    Source: M24, Proposition 7, which asks for an integrable 1/penalty on the whole line and a
    second moment of W. Two hypotheses are missing there. The error falls like :math:`n^{-1/2}`
    only if W has a *fourth* moment (the variance of the empirical measure); and B must be
    sub-Gaussian, as in Theorem 5: with :math:`\varrho=1+x^2` on the line B is Cauchy, the largest
    of n biases is of order n, and no step of order 1/n is stable. A bounded interval with
    :math:`|W|=1` has both, so nothing else is offered.

    Examples
    --------
    >>> import math
    >>> init = CurvatureInit(lambda x: 1 + x**2, (-1.0, 1.0))
    >>> init.Z * 2 / math.pi, init.zeta([0.0, 1.0, 2.0]) * init.Z
    (1.0, tensor([1.0000, 0.5000, 0.0000], dtype=torch.float64))
    """

    penalty: Callable[[Any], Any]
    interval: tuple[float, float]
    kinks: tuple[float, ...] = ()
    support: tuple[float, float] = field(init=False)
    Z: float = field(init=False)
    _table: tuple[Array, Array, Array] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if not callable(self.penalty):
            raise TypeError(
                f"penalty is a {type(self.penalty).__name__}, not a function of x. Pass, say, "
                f"lambda x: 1 + 10 * x**2."
            )
        ends = as_real(self.interval, "interval", finite=False).reshape(-1).tolist()
        if len(ends) != 2 or not ends[0] < ends[1]:  # NaN included
            raise ValueError(
                f"interval = {self.interval} must be two numbers (low, high) with low < high: "
                f"where breakpoints may be."
            )
        if not max(abs(e) for e in ends) <= LARGEST:
            raise ValueError(
                f"interval = {tuple(ends)} is unbounded. Breakpoints C with a density like "
                f"1/penalty can then be so large that B = -WC is not sub-Gaussian (1 + x^2 makes "
                f"it Cauchy) and no step is stable; values of the penalty cannot rule that out. "
                f"Pass a bounded interval that holds the data."
            )
        kinks = tuple(sorted(float(x) for x in self.kinks if ends[0] < x < ends[1]))
        self._density(np.array(ends))
        table = _panels(self._density, [ends[0], *kinks, ends[1]])
        for name, value in (
            ("kinks", kinks),
            ("support", tuple(ends)),
            ("_table", table),
            ("Z", float(table[2][-1])),
        ):
            object.__setattr__(self, name, value)

    def _density(self, x: Array) -> Array:
        """1/penalty, without the factor 1/Z, at points of the interval."""
        try:
            values = self.penalty(x)
        except TypeError:  # a function of tensors
            values = self.penalty(torch.from_numpy(x))
        rho = as_real(values, "penalty(x)", finite=False).cpu().numpy()
        if rho.shape not in ((), x.shape):
            raise ValueError(
                f"penalty returns shape {rho.shape} for points of shape {x.shape}; it must give "
                f"one number for each. Write it with array operations, such as x**2."
            )
        rho = np.broadcast_to(rho, x.shape)
        good = (rho >= 1e-150) & (rho <= 1e150)
        if not good.all():
            where = tuple(np.argwhere(~good)[0])
            raise ValueError(
                f"penalty({x[where]:.6g}) = {rho[where]:.6g}: a penalty must be positive and "
                f"finite (1e-150 to 1e150) on the whole interval {tuple(self.interval)}, or "
                f"1/penalty is no density of breakpoints. Shorten the interval, or bound the "
                f"penalty."
            )
        return 1 / rho

    def _zeta(self, x: Tensor, degree: int) -> Tensor:
        points = x.cpu().numpy()
        inside = (points >= self.support[0]) & (points <= self.support[1])
        zeta = np.zeros_like(points)
        if inside.any():
            zeta[inside] = self._density(points[inside]) / self.Z
        return torch.from_numpy(zeta).to(x.device)

    def _draw(self, rng: np.random.Generator, n: int, d: int) -> tuple[Array, Array]:
        if d != 1:
            raise ValueError(
                f"d = {d}: a curvature penalty is a function on the line, so this initialisation "
                f"has one input. Use BinaryUniformInit or GaussianInit for more."
            )
        w = 2.0 * rng.integers(0, 2, n).astype(np.float64) - 1
        u = self.Z * rng.random(n)
        parts = [_quantile(part, *self._table) for part in np.array_split(u, -(-n // 50_000))]
        return w[:, None], -w * np.concatenate(parts)
