r"""Least curvature, weighted: the interpolant at which wide univariate ReLU networks end.

For data :math:`(x_i, y_i)` and a density :math:`\zeta \ge 0` the spline minimises

.. math:: \int \frac{h^{(k+1)}(x)^2}{\zeta(x)}\,dx \quad\text{subject to}\quad h(x_i) = y_i,

or :math:`\sum_i (h(x_i) - y_i)^2 + s \int (h^{(k+1)})^2/\zeta` with smoothing s > 0. Where
:math:`\zeta = 0` the derivative must vanish: h is a polynomial of degree k there, and the data
there act all the same. The minimiser has :math:`h^{(k+1)} = \zeta q` with q a spline of degree k on
the knots that is zero outside them; for k = 1 a broken line. Constant :math:`\zeta` makes h the
natural spline of degree 2k+1 (cubic for k = 1).

The other norm, :math:`\int |h''|`, is what weight decay on all layers leaves of an infinitely wide
network; there the broken line through the data is a minimiser.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from implicit_bias.arrays import as_count, as_real
from implicit_bias.curves import Curve
from implicit_bias.knots import as_degree, sort_data
from implicit_bias.measures import Breakpoints
from implicit_bias.spline_system import spline_system

__all__ = ["Spline", "curvature_spline", "linear_spline"]


@dataclass(frozen=True, eq=False)
class Spline:
    r"""A function of one number that minimises an energy of its derivative; call it.

    Attributes
    ----------
    knots : Tensor, shape (M,)
        The abscissae of the data, increasing.
    values : Tensor, shape (M,)
        The function at the knots: the data, unless smoothed.
    dual : Tensor, shape (M - k - 1,)
        Coefficients of q in the B-splines of degree k on the knots; for k = 1 its values at the
        inner knots. Where breakpoints are so few that q is free somewhere, it is zero there.
    multipliers : Tensor, shape (M,)
        Half the derivative of the least energy by the values at the knots, in their order: Qq.
        With smoothing, the misfit y - h(x) divided by s.
    energy : float
        :math:`\int (h^{(k+1)})^2/\zeta = \int q^2\zeta`.
    objective : float
        Sum of squared misfits plus smoothing times energy; the energy itself when interpolating.
    residual : float
        Largest relative violation of the conditions that make it the minimiser, seen on the
        function as it is evaluated: jumps of its value and k derivatives at the knots, and with
        smoothing what :math:`s\,q(t)` differs by from the sum of the misfits
        :math:`y_i - h(x_i)`, each times :math:`[x_i - t]_+^k/k!`.
    degree : int
        k.
    smoothing : float
    solver : str
    status : str
        "interpolates" or "smooths".

    Examples
    --------
    >>> spline = curvature_spline([0.0, 1.0, 2.0], [0.0, 1.0, 0.0], lambda x: 1.0)
    >>> spline([0.5, 1.0]), round(spline.energy, 10)
    (tensor([0.6875, 1.0000], dtype=torch.float64), 6.0)
    >>> spline.derivative(2)([0.5, 1.0, 3.0])
    tensor([-1.5000, -3.0000,  0.0000], dtype=torch.float64)
    """

    knots: Tensor
    values: Tensor
    dual: Tensor
    multipliers: Tensor
    energy: float
    objective: float
    residual: float
    degree: int
    smoothing: float
    solver: str
    status: str
    _curve: Curve

    def __call__(self, points: Any) -> Tensor:
        """Returns h at the points, of their shape, on their device; a polynomial outside."""
        return self.derivative(0)(points)

    def derivative(self, order: int) -> Callable[[Any], Tensor]:
        """Returns the derivative of that order as a function of points.

        Orders 0 to k+1; up to k only, where the measure consists of point masses: there the next
        derivative is no function. Where a derivative jumps it is the one to the right.

        Raises
        ------
        TypeError, ValueError
            If the order is no integer, or out of range.
        """
        order = as_count(order, "order", least=0)
        self._curve.check_order(order)

        def derived(points: Any) -> Tensor:
            at = as_real(points, "points")
            return torch.from_numpy(self._curve(at.cpu().numpy(), order)).to(at.device)

        return derived

    def q(self, points: Any) -> Tensor:
        r"""Returns :math:`q = h^{(k+1)}/\zeta` at the points; zero outside the knots."""
        at = as_real(points, "points")
        curve = self._curve
        found = curve.system.q_at(curve.q, at.cpu().numpy().ravel()).reshape(at.shape)
        return torch.from_numpy(found).to(at.device)


def curvature_spline(x: Any, y: Any, zeta: Any, smoothing: float = 0.0, degree: int = 1) -> Spline:
    r"""Returns the interpolant of least weighted curvature, :math:`\int (h'')^2/\zeta`.

    Parameters
    ----------
    x, y : array, shape (M,)
        Data, x all different, in any order; M >= degree + 1. For a network that starts at
        :math:`f_0` pass :math:`y - f_0(x)` and add :math:`f_0` to the result.
    zeta : callable, initialisation, ``Density`` or ``Breakpoints``
        How cheap a bend at x is. ``Breakpoints`` make it the spline of a finite network, whose
        bends are at given places.
    smoothing : float
        s >= 0; 0 interpolates, a positive one minimises the sum of squares plus s times energy.
        A network trained for time t on the sum of squares is near the spline with s = 1/(2t).
    degree : int
        k = 1, 2 or 3: the energy is of the derivative of order k+1, and polynomials of degree k
        are free. For the activation :math:`[z]_+^k/k!`.

    Returns
    -------
    Spline

    Raises
    ------
    TooFewBreakpoints
        If no function of finite energy interpolates; ``gap`` says between which knots.
    TypeError, ValueError
        If an argument is not as said above.

    Notes
    -----
    Source: M24, Theorem 5 (k = 1), Theorem 9 (other k), and the theorem on trajectories
    (smoothing). Deviation: M24 asks for a minimum over functions on the support of zeta only; the
    data outside it act too, for h is straight there. Costs O(n + M).

    Errors measured in 60-digit arithmetic, relative to the largest value: at most 5e-14 with
    k = 1 (up to 200 random knots) and 3e-12 with k = 3 (up to 40), interpolating or smoothing.
    Clusters of knots cost digits: 4e-13 and 4e-9 with triples of knots 1e-5 apart.

    Examples
    --------
    >>> spline = curvature_spline([0.0, 1.0, 2.0], [0.0, 1.0, 0.0], lambda x: 1.0, smoothing=1e9)
    >>> spline([5.0]).round(decimals=6)  # the least-squares line
    tensor([0.3333], dtype=torch.float64)
    """
    strength = _as_smoothing(smoothing)
    degree = as_degree(degree)
    knots, values, _ = sort_data(x, y, degree)
    system = spline_system(knots, zeta, degree)
    fitted, q = system.solve(values, strength)
    return _spline(system.curve(fitted, q), values, strength, as_real(x, "x").device)


def linear_spline(x: Any, y: Any) -> Spline:
    r"""Returns the broken line through the data: an interpolant of least :math:`\int |h''|`.

    Parameters
    ----------
    x, y : array, shape (M,)
        Data, x all different, in any order; M >= 2.

    Returns
    -------
    Spline
        ``energy`` is the total variation of the slope. ``dual`` holds q at the inner knots, the
        sign of each bend: the broken line q between them never exceeds 1 in size, so every
        interpolant g has :math:`\int |g''| \ge \int q g'' = \sum_j q_j d_j`, with the
        differences of slopes :math:`d_j` of the data. Here that is attained, which proves
        optimality.

    Raises
    ------
    TypeError, ValueError
        If x and y are not as said above.

    Notes
    -----
    Source: M24, related work on infinite-width networks with weight decay. The minimiser is not
    unique: between bends of one sign any convex (or concave) function does as well.

    Examples
    --------
    >>> spline = linear_spline([0.0, 1.0, 2.0], [0.0, 1.0, 0.0])
    >>> spline([0.5]), spline.energy
    (tensor([0.5000], dtype=torch.float64), 2.0)
    """
    knots, values, _ = sort_data(x, y, 1)
    bends = spline_system(knots, lambda t: 1.0).differences(values)
    # With mass |d_j| at knot j the least energy is the sum of |d_j|, and q its sign.
    inner, masses = torch.from_numpy(knots[1:-1]), torch.from_numpy(np.abs(bends))
    system = spline_system(knots, Breakpoints(inner, masses))
    return _spline(system.curve(values, np.sign(bends)), values, 0.0, as_real(x, "x").device)


def _as_smoothing(smoothing: Any) -> float:
    strength = float(smoothing)
    if not (strength == 0 or 1e-100 <= strength <= 1e100):
        raise ValueError(
            f"smoothing = {smoothing}: it is the price of energy in units of squared misfit, 0 "
            f"(interpolate) or a number from 1e-100 to 1e100. For the limit of large ones fit a "
            f"polynomial."
        )
    return strength


def _spline(curve: Curve, data: Any, smoothing: float, device: torch.device) -> Spline:
    system, q, fitted = curve.system, curve.q, curve.values
    energy = system.energy(q)
    _, rest = system.polynomial(data)
    size = max(curve.size(), float(np.abs(rest).max()))
    violation = curve.jump()
    # Beside data that are a polynomial there is only rounding, which is relative to the data.
    scale = size if size > 1e-12 * float(np.abs(data).max()) else float(np.abs(data).max())
    residual = violation / scale if scale else 0.0
    misfit = data - fitted
    if smoothing and scale:
        total = max(scale, float(np.abs(rest).sum()))
        residual = max(residual, _stationarity(curve, misfit, smoothing) / total)

    def tensor(array: Any) -> Tensor:
        return torch.from_numpy(np.array(array)).to(device)

    return Spline(
        knots=tensor(system.knots),
        values=tensor(fitted),
        dual=tensor(q),
        multipliers=tensor(misfit / smoothing if smoothing else system.adjoint(q)),
        energy=energy,
        objective=float(misfit @ misfit) + smoothing * energy if smoothing else energy,
        residual=residual,
        degree=system.degree,
        smoothing=smoothing,
        solver="banded LU of differences" if smoothing else "banded Cholesky",
        status="smooths" if smoothing else "interpolates",
        _curve=curve,
    )


def _stationarity(curve: Curve, misfit: Any, smoothing: float) -> float:
    r"""The largest violation of s q(t) = sum_i e_i (x_i - t)_+^k / k!, in units of a misfit.

    It says that no unit with its bend at t would gain by another weight: what the loss gains to
    first order is what the energy costs.
    """
    k, x = curve.system.degree, curve.system.knots
    reach = x[-1] - x[0]
    places = np.unique(np.linspace(0, x.size - 1, 64).astype(int))
    t = np.concatenate([x[places], (x[places][1:] + x[places][:-1]) / 2])
    powers = (np.maximum(x - t[:, None], 0.0) / reach) ** k
    price = smoothing * math.factorial(k) / reach**k * curve.system.q_at(curve.q, t)
    return float(np.abs(price - powers @ misfit).max())
