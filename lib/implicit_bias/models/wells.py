r"""Two minima whose flatness is known: potentials on which Langevin noise can be judged.

In coordinates :math:`(x, y)`, :math:`y \in \mathbb{R}^{D-1}`, the two wells lie at
:math:`x = -1` (left) and :math:`x = 1` (right), both at y = 0:

.. math:: U(x, y) = h\,(x^2 - 1)^2 + \tau\,s(x) + \big(1 - s(x)\big)\,g_\ell(y) + s(x)\,g_r(y),

where :math:`g(y) = \tfrac12\sum_i k_i y_i^2` or, degenerate, :math:`\tfrac14 k|y|^4`, and s is a
step from 0 to 1, twice differentiable and constant outside :math:`|x| < \tfrac12`. So U is a sum
of a function of x and one of y near either minimum, the depths are 0 and :math:`\tau` exactly,
and for every x the integral over y is known.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from implicit_bias.arrays import as_count, as_real

__all__ = ["TwoWells"]

_HALF = 0.5  # the stiffness changes where |x| is smaller


def _smooth(t: Tensor) -> Tensor:
    t = t.clamp(0, 1)
    return t * t * t * (10 - 15 * t + 6 * t * t)


def _smooth_slope(t: Tensor) -> Tensor:
    t = t.clamp(0, 1)
    return 30 * (t * (1 - t)).square()


def _stiffness(value: Any, name: str, m: int | None, power: int) -> tuple[float, ...]:
    k = as_real(value, name)
    if k.ndim > 1 or not bool((k > 0).all()):
        raise ValueError(
            f"{name} = {value!r} must be one positive stiffness, or one for each direction of y: "
            f"without it the well is not a minimum."
        )
    if k.ndim and power == 4:
        raise ValueError(
            f"{name} is degenerate, k|y|^4 / 4, and has one k; {k.numel()} were given. Pass a "
            f"number, or power 2."
        )
    if k.ndim and m is not None and k.numel() != m:
        raise ValueError(
            f"{name} has {k.numel()} stiffnesses, and y has dimension - 1 = {m} directions. Pass "
            f"one for each, or a number for all."
        )
    return tuple(k.reshape(-1).tolist())


@dataclass(frozen=True)
class TwoWells:
    r"""A potential with two minima, at :math:`x = \mp 1`, of known depth, stiffness and degeneracy.

    Attributes
    ----------
    left, right : float or tuple of float
        Stiffness k of the wells: of all directions of y, or of each. The x direction has
        curvature :math:`8h` in both.
    dimension : int
        D; by default 2, or one more than the number of stiffnesses given.
    powers : tuple of int
        Of :math:`|y|` in the left and the right well: 2, or 4 for a degenerate minimum, whose
        Hessian has D - 1 zeros.
    height : float
        h, the barrier between wells of equal depth.
    tilt : float
        Depth of the right minimum less that of the left; positive: the left one is deeper.

    Raises
    ------
    TypeError, ValueError
        If a stiffness or the height is not positive, or numbers of directions disagree.

    Examples
    --------
    >>> wells = TwoWells(4.0, 1.0, dimension=3)
    >>> wells(torch.tensor([[-1.0, 1.0, 0.0], [1.0, 1.0, 0.0]]))
    tensor([2.0000, 0.5000])
    >>> wells.region(torch.tensor([[-0.3, 0.0, 0.0], [0.2, 5.0, 0.0]]))
    tensor([0, 1])
    """

    left: Any
    right: Any
    dimension: int | None = None
    powers: tuple[int, int] = (2, 2)
    height: float = 1.0
    tilt: float = 0.0

    def __post_init__(self) -> None:
        if tuple(self.powers) not in ((2, 2), (2, 4), (4, 2), (4, 4)):
            raise ValueError(
                f"powers = {self.powers!r} must be two of 2 (a quadratic well) and 4 (a "
                f"degenerate one): the integrals of others are not provided."
            )
        m = None if self.dimension is None else as_count(self.dimension, "dimension") - 1
        given = {}
        for name, power in zip(("left", "right"), self.powers, strict=True):
            value = getattr(self, name)
            given[name] = _stiffness(value, name, m, power)
            listed = as_real(value, name).ndim > 0
            if listed and m is None:
                m = len(given[name])
            if listed and len(given[name]) != m:
                raise ValueError(
                    f"left and right have stiffnesses for different numbers of directions: "
                    f"{len(given['left'])} and {len(given['right'])}."
                )
        if not as_real(self.height, "height") > 0:
            raise ValueError(f"height = {self.height} must be positive, or there is one well only.")
        m = 1 if m is None else m
        object.__setattr__(self, "dimension", m + 1)
        object.__setattr__(self, "powers", tuple(self.powers))
        object.__setattr__(self, "height", float(as_real(self.height, "height")))
        object.__setattr__(self, "tilt", float(as_real(self.tilt, "tilt")))
        for name, k in given.items():
            object.__setattr__(self, name, k[0] if len(k) == 1 else k)

    @property
    def minima(self) -> Tensor:
        """Where the two minima are, shape (2, D); the left one comes first."""
        points = torch.zeros(2, int(self.dimension or 1), dtype=torch.float64)
        points[0, 0], points[1, 0] = -1, 1
        return points

    def stiffness(self, well: int, like: Tensor | None = None) -> Tensor:
        """Returns the D - 1 stiffnesses of the left (0) or right (1) well."""
        k = torch.as_tensor(self.right if well else self.left, dtype=torch.float64)
        k = k if like is None else k.to(like)
        return k.reshape(-1).expand(int(self.dimension or 1) - 1)

    def line(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Returns U(x, 0) and its derivative."""
        t = (x + _HALF) / (2 * _HALF)
        value = self.height * (x * x - 1).square() + self.tilt * _smooth(t)
        return value, 4 * self.height * x * (x * x - 1) + self.tilt * _smooth_slope(t) / (2 * _HALF)

    def share(self, x: Tensor) -> Tensor:
        """Returns s(x), the share of the right well's stiffness."""
        return _smooth((x + _HALF) / (2 * _HALF))

    def _bowl(self, well: int, y: Tensor) -> tuple[Tensor, Tensor]:
        """g(y), and the factor c of its gradient c y, which broadcasts to the shape of y."""
        given = self.right if well else self.left
        if isinstance(given, tuple):
            k = self.stiffness(well, y)
            return (y * y) @ k / 2, k
        square = (y * y).sum(-1)
        if self.powers[well] == 4:
            return given / 4 * square.square(), (given * square)[..., None]
        return given / 2 * square, torch.full_like(square[..., None], given)

    def __call__(self, points: Tensor) -> Tensor:
        """Returns U at points of shape (..., D), differentiable by torch."""
        x, y = self._split(points)
        s = self.share(x)
        value = self.line(x)[0] + (1 - s) * self._bowl(0, y)[0]
        return value + s * self._bowl(1, y)[0]

    def value(self, points: Tensor) -> Tensor:
        """Returns U at points of shape (..., D); the same as calling it."""
        return self(points)

    def gradient(self, points: Tensor) -> Tensor:
        """Returns the gradient at points of shape (..., D), by formula: faster than autograd."""
        x, y = self._split(points)
        t = (x + _HALF) / (2 * _HALF)
        s, ds = _smooth(t), _smooth_slope(t) / (2 * _HALF)
        (left, dleft), (right, dright) = self._bowl(0, y), self._bowl(1, y)
        across = self.line(x)[1] + ds * (right - left)
        slope = torch.empty_like(points)
        slope[..., 0] = across
        slope[..., 1:] = (dleft + s[..., None] * (dright - dleft)) * y
        return slope

    def region(self, points: Tensor) -> Tensor:
        """Returns 0 where a point is on the left (x < 0), 1 where it is on the right."""
        return (points[..., 0] >= 0).long()

    def noise(self, left: float, right: float) -> Callable[[Tensor], Tensor]:
        r"""Returns the variance of a noise that is stronger in one well, for ``langevin``.

        It multiplies the noise of x only: ``left`` where :math:`x \le -3/4`, ``right`` where
        :math:`x \ge 3/4`, 1 where :math:`|x| \le 1/2`, smooth between. The stationary law is
        known (:func:`gibbs_shares` with ``noise=(left, right)``).

        Examples
        --------
        >>> TwoWells(1.0, 1.0).noise(4.0, 0.5)(torch.tensor([[-1.0, 0.0], [0.0, 1.0]]))
        tensor([[4., 1.],
                [1., 1.]])
        """
        ends = tuple(float(as_real(v, "noise")) for v in (left, right))
        if min(ends) <= 0:
            raise ValueError(
                f"noise = {ends} must be positive: where it vanishes the chain never leaves, and "
                f"there is no one stationary law."
            )

        def variance(points: Tensor) -> Tensor:
            rest = torch.ones_like(points[..., 1:])
            return torch.cat([noise_across(points[..., :1], *ends), rest], -1)

        return variance

    def _split(self, points: Tensor) -> tuple[Tensor, Tensor]:
        if points.ndim < 1 or points.shape[-1] != self.dimension:
            raise ValueError(
                f"points has shape {tuple(points.shape)}; the last axis must hold the "
                f"{self.dimension} coordinates (x, y)."
            )
        return points[..., 0], points[..., 1:]

    def log_volume(self, x: Tensor, temperature: float) -> Tensor:
        r"""Returns :math:`\log\int e^{-((1-s)g_\ell + s g_r)/T}\,dy` for each x, any shape."""
        m = int(self.dimension or 1) - 1
        s = self.share(x)
        if m == 0:
            return torch.zeros_like(s)
        if self.powers == (2, 2):
            k = torch.lerp(self.stiffness(0), self.stiffness(1), s[..., None])
            return 0.5 * torch.log(2 * math.pi * temperature / k).sum(-1)
        sphere = math.log(2) + m / 2 * math.log(math.pi) - math.lgamma(m / 2)
        parts = [
            ((1 - s) * float(self.left), self.powers[0]),
            (s * float(self.right), self.powers[1]),
        ]
        a = sum((k for k, p in parts if p == 2), torch.zeros_like(s)) / (2 * temperature)
        b = sum((k for k, p in parts if p == 4), torch.zeros_like(s)) / (4 * temperature)
        # The integral over r = e^u of exp(m u - a e^(2u) - b e^(4u)): log-concave and analytic in
        # u, so that the trapezoidal rule converges faster than any power.
        top = m / (a + (a * a + 4 * m * b).sqrt())  # r^2 at the peak
        width = 1 / (4 * a * top + 16 * b * top * top).sqrt()
        low, high = 12 * width + 45 / m, 12 * width  # to the left it falls like e^(m u) only
        step = (low + high) / 800
        u = step[..., None] * torch.arange(801, dtype=torch.float64) - low[..., None]
        r2 = top[..., None] * torch.exp(2 * u)
        power = m * (0.5 * torch.log(top)[..., None] + u) - a[..., None] * r2 - b[..., None] * r2**2
        return sphere + torch.logsumexp(power, -1) + torch.log(step)


def noise_across(x: Tensor, left: float, right: float) -> Tensor:
    """Returns the variance of the noise of x: 1 where |x| <= 1/2, left or right beyond 3/4.

    Examples
    --------
    >>> noise_across(torch.tensor([-2.0, 0.1, 1.0]), 4.0, 0.5)
    tensor([4.0000, 1.0000, 0.5000])
    """
    s = _smooth(4 * (x.abs() - _HALF))
    end = torch.where(x < 0, torch.full_like(x, left), torch.full_like(x, right))
    return 1 + s * (end - 1)
