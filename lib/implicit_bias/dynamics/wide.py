r"""Linearised training of wide networks: the flow on the output layer, in closed form.

With hidden weights that stand still, :math:`f = f_0 + \frac1{\sqrt n}\sum_i\delta v_i s_i + p` is
linear in its parameters. The flow of :math:`\tfrac12\sum_j(f(x_j)-y_j)^2` in :math:`\delta v`, from
zero, with p a polynomial of degree k that is optimal at all times (it is *free*: its learning rate
is infinite), ends nearest to where it began: :math:`|\delta v|` is least among all interpolants.
The multipliers :math:`\lambda` of the data are orthogonal to the polynomials,
:math:`\delta v_i = \frac1{\sqrt n}\sum_j\lambda_j s_i(x_j)`, and for one input this is

.. math:: \delta v_i = \frac{\operatorname{sign}(w_i)\,w_i^k}{\sqrt n}\,q(c_i), \qquad
          h^{(k+1)} = q\,\mathrm{d}\mu, \qquad \mu = \frac1n\sum_i|w_i|^{2k}\delta(c_i), \qquad
          c_i = -b_i/w_i,

for the change :math:`h = f - f_0` and a spline q of degree k on the data, zero outside them. So all
units are seen through one banded matrix of the size of the data: O(n + M), up to sorting. At a
finite time :math:`\tau` a mode of rate :math:`\kappa` is fitted to the fraction
:math:`1-e^{-\kappa\tau}`.

**The time.** :math:`\tau` is the time of the flow of *half* the sum of squares, in which v moves at
rate 1: for the sum itself :math:`\tau` is twice the time, and for M24's descent with step
:math:`\eta` on the sum of squares :math:`\tau = 2\eta n` times the number of steps. In several
dimensions, or with a skip connection that is not free, the same by dense algebra.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cached_property
from typing import Any, Literal, Protocol

import numpy as np
import torch
from torch import Tensor

from implicit_bias.arrays import as_count, as_real
from implicit_bias.knots import sort_data
from implicit_bias.models.shallow import ShallowNetwork, monomials, polynomial
from implicit_bias.spline_system import spline_system

__all__ = ["LinearisedNetwork", "Skip", "linearised_training", "polynomial_complement"]

Skip = Literal["free", "common", "none"]


def as_training(network: Any, x: Any, y: Any, skip: str, name: str) -> tuple[Tensor, Tensor]:
    """Returns x (M, d) and y (M,) on the network's device, if they can be trained on."""
    if not isinstance(network, ShallowNetwork):
        raise TypeError(
            f"{name} trains a ShallowNetwork, whose features it knows in closed form; got a "
            f"{type(network).__name__}. Build ShallowNetwork(w, b)."
        )
    if skip not in ("free", "common", "none"):
        raise ValueError(
            f"skip = {skip!r} must be 'free' (optimal at all times), 'common' (the learning rate "
            f"of all other parameters) or 'none'."
        )
    points, targets = network.points(x), as_real(y, "y").to(network.device)
    if not points.shape[0] or targets.shape != points.shape[:1]:
        raise ValueError(
            f"{name} needs at least one point and one target for each; got {points.shape[0]} "
            f"points and y of shape {tuple(targets.shape)}. Train several outputs one by one."
        )
    return points, targets


def polynomial_complement(x: Tensor, degree: int) -> Tensor:
    """Returns orthonormal columns (M, M - p): the data that no polynomial of this degree meets.

    Raises
    ------
    ValueError
        If the points do not determine a polynomial.

    Examples
    --------
    >>> polynomial_complement(torch.tensor([[0.0], [1.0], [2.0]]), 1).abs().round(decimals=4)
    tensor([[0.4082],
            [0.8165],
            [0.4082]])
    """
    # Any origin and unit gives the same space; these give well-conditioned columns.
    centred = x - x.mean(0)
    columns = monomials(centred / centred.abs().amax(0).clamp(min=1e-300), degree)
    terms = columns.shape[1]
    if x.shape[0] >= terms:
        singular = torch.linalg.svdvals(columns / columns.norm(dim=0).clamp(min=1e-300))
        if float(singular[-1]) > 1e-12 * float(singular[0]):
            complement: Tensor = torch.linalg.qr(columns, mode="complete")[0][:, terms:]
            return complement
    raise ValueError(
        f"{x.shape[0]} points do not determine a polynomial of degree {degree} in {x.shape[1]} "
        f"variables, which has {terms} coefficients and is free here: the limit is not unique. "
        f"Pass more points in general position, or skip='none'."
    )


def polynomial_fit(x: Tensor, values: Tensor, degree: int) -> Tensor:
    """Coefficients of the least-squares polynomial in the monomials; values (..., M)."""
    Q, R = torch.linalg.qr(monomials(x, degree))
    fit: Tensor = torch.linalg.solve_triangular(R, (values @ Q)[..., None], upper=True)
    return fit[..., 0]


class _State(Protocol):
    """The flow for some times at once: fitted changes (t, M) and what they follow from."""

    fitted: Tensor

    def rates(self) -> Tensor: ...
    def modes(self) -> Tensor: ...
    def weights(self) -> Tensor: ...
    def skip(self) -> Tensor: ...
    def change(self, points: Tensor, order: int) -> Tensor: ...


class _Banded:
    """One input, free skip connection: through the knots."""

    def __init__(self, network: ShallowNetwork, x: Tensor, r: Tensor, taus: list[float]):
        self.network, self.x = network, x
        knots, values, order = sort_data(x[:, 0], r, network.degree)
        self.order = torch.from_numpy(order)
        self.system = spline_system(knots, network.measure(), network.degree)
        found = [self._solve(values, tau) for tau in taus]
        self.q = [q for _, q in found]
        self.curves = [self.system.curve(h, q) for h, q in found]
        self.fitted = self._unsort(np.stack([h for h, _ in found]).T).T

    def _unsort(self, rows: np.ndarray[Any, np.dtype[np.float64]]) -> Tensor:
        """Rows in the order of the knots -> in the order of the data, on their device."""
        out = torch.from_numpy(np.empty_like(rows))
        out[self.order] = torch.from_numpy(rows)
        return out.to(self.x.device)

    def _solve(self, values: Any, tau: float) -> tuple[Any, Any]:
        if tau == math.inf:
            return self.system.solve(values)
        U, rates, W = self._modes
        c = U.T @ values
        gained = -np.expm1(-rates * tau)
        phi = np.full_like(rates, tau)
        np.divide(gained, rates, out=phi, where=gained > 0)
        # What is polynomial is fitted at once.
        return values - U @ (np.exp(-rates * tau) * c), W @ (phi * c)

    @cached_property
    def _modes(self) -> tuple[Any, Any, Any]:
        return self.system.modes()

    def rates(self) -> Tensor:
        return torch.from_numpy(self._modes[1]).to(self.x.device)

    def modes(self) -> Tensor:
        return self._unsort(self._modes[0])

    def weights(self) -> Tensor:
        network, knots = self.network, self.system.knots
        w, b = (t.cpu().numpy() for t in (network.w[:, 0], network.b))
        bends = w != 0
        c = np.full_like(w, np.inf)
        with np.errstate(over="ignore"):
            np.divide(-b, w, out=c, where=bends)
        inside = np.flatnonzero((c >= knots[0]) & (c <= knots[-1]))
        out = np.zeros((len(self.q), w.size))
        size = np.sign(w[inside]) * w[inside] ** network.degree / math.sqrt(network.n)
        for row, q in zip(out, self.q, strict=True):
            row[inside] = size * self.system.q_at(q, c[inside])
        return torch.from_numpy(out).to(self.x.device)

    def skip(self) -> Tensor:
        rest = self.fitted - self.network.combine(self.x, self.weights())
        return polynomial_fit(self.x, rest, self.network.degree)

    def change(self, points: Tensor, order: int) -> Tensor:
        at = points[:, 0].cpu().numpy()
        rows = np.stack([curve(at, order) for curve in self.curves])
        return torch.from_numpy(rows).to(self.x.device)


class _Dense:
    """Any number of inputs, any skip connection: singular values of the matrix of features."""

    def __init__(
        self, network: ShallowNetwork, x: Tensor, r: Tensor, taus: list[float], skip: Skip
    ):
        self.network, self.x, k = network, x, network.degree
        features = network.features(x)
        self.free = skip == "free"
        if skip == "common":
            features = torch.cat([features, monomials(x, k) / math.sqrt(network.n)], 1)
        Z = polynomial_complement(x, k) if self.free else torch.eye(x.shape[0]).to(x)
        U, s, Vh = torch.linalg.svd(Z.T @ features, full_matrices=False)
        # More directions of the data than units: what is left over has the rate zero.
        if s.numel() < Z.shape[1]:
            U = torch.cat([U, torch.linalg.qr(U, mode="complete")[0][:, s.numel() :]], 1)
        # Rounding of the features that was there before polynomials were taken out.
        floor = max(x.shape) * torch.finfo(s.dtype).eps * float(features.norm())
        s = torch.where(s > floor, s, 0.0)
        c = U.T @ (Z.T @ r)
        self._modes: Tensor = Z @ U
        self._rates: Tensor = torch.cat([s.square(), s.new_zeros(Z.shape[1] - s.numel())])
        never = self._rates == 0
        if math.inf in taus and float(c[never].norm()) > 1e-9 * float(r.norm()):
            raise ValueError(
                f"These {network.n} units cannot fit the data: of {c.numel()} directions that "
                f"they would have to fit, {int(never.sum())} do not depend on any output weight, "
                f"and the misfit there never shrinks. Use more units, remove examples that "
                f"contradict each other, or pass a finite tau."
            )
        t = torch.tensor(taus, dtype=s.dtype, device=s.device)[:, None]
        gained = torch.where(never, 0.0, -torch.expm1(-t * self._rates))
        size = s.numel()
        step = gained[:, :size] * c[:size] / torch.where(s > 0, s, 1.0)
        theta = step @ Vh
        self._weights: Tensor = theta[:, : network.n]
        self.fitted = r - torch.where(never, c, c * torch.exp(-t * self._rates)) @ self._modes.T
        self._skip: Tensor = network.skip.new_zeros(len(taus), network.skip.numel())
        if skip == "common":
            self._skip = theta[:, network.n :] / math.sqrt(network.n)
        if self.free:
            # The polynomial about the middle of the data, for the sake of digits.
            self.middle = x.mean(0)
            rest = self.fitted - network.combine(x, self._weights)
            self.centred = polynomial_fit(x - self.middle, rest, k)
            self._rest = rest

    def rates(self) -> Tensor:
        return self._rates

    def modes(self) -> Tensor:
        return self._modes

    def weights(self) -> Tensor:
        return self._weights

    def skip(self) -> Tensor:
        if self.free:
            return polynomial_fit(self.x, self._rest, self.network.degree)
        return self._skip

    def change(self, points: Tensor, order: int) -> Tensor:
        network = self.network
        out = network.combine(points, self._weights, order)
        if self.free:
            points, rows = points - self.middle, self.centred
        else:
            rows = self.skip()
        extra = [polynomial(row, points, network.degree, order) for row in rows]
        return out + torch.stack(extra)


class LinearisedNetwork:
    r"""A network whose output layer was trained, in closed form; call it with points.

    Built by ``linearised_training``. With one tau its answers have shape (m,); with several, one
    row a tau, (t, m).

    Attributes
    ----------
    initial : ShallowNetwork
        The network before training.
    tau : Tensor, shape () or (t,)
    residuals : Tensor, shape (M,) or (t, M)
        :math:`y_j - f(x_j)`.

    Examples
    --------
    >>> network = ShallowNetwork([1.0, 1.0, 1.0], [0.5, -0.5, -1.5], antisymmetric=True)
    >>> trained = linearised_training(network, [0.0, 1.0, 2.0], [0.0, 1.0, 0.0])
    >>> trained([0.0, 0.5, 1.0]).round(decimals=10)
    tensor([0., 1., 1.], dtype=torch.float64)
    """

    def __init__(self, network: ShallowNetwork, x: Tensor, y: Tensor, tau: Tensor, state: _State):
        self.initial, self.tau, self._state = network, tau, state
        self.residuals = self._shape(y - network(x) - state.fitted)

    def _shape(self, rows: Tensor) -> Tensor:
        return rows if self.tau.ndim else rows[0]

    def __repr__(self) -> str:
        return f"LinearisedNetwork({self.initial!r}, tau={self.tau.tolist()})"

    def __call__(self, points: Any) -> Tensor:
        """Returns the outputs at the points (m,) or (m, d)."""
        return self.derivative(0)(points)

    def change(self, points: Any, order: int = 0) -> Tensor:
        """Returns :math:`h = f - f_0` at the points, or a derivative of it (d = 1)."""
        as_count(order, "order", least=0)
        return self._shape(self._state.change(self.initial.points(points), order))

    def derivative(self, order: int = 1) -> Callable[[Any], Tensor]:
        """Returns the derivative of the trained network as a function of points (d = 1).

        Up to order k; beyond, only point masses are left.
        """
        self.initial.check_order(order)
        return lambda points: self.initial.derivative(points, order) + self.change(points, order)

    @cached_property
    def output_weights(self) -> Tensor:
        r"""The changes :math:`\delta v` of the output weights, shape (n,) or (t, n)."""
        return self._shape(self._state.weights())

    @cached_property
    def skip(self) -> Tensor:
        """The changes of the coefficients of the polynomial, shape (p,) or (t, p)."""
        return self._shape(self._state.skip())

    @cached_property
    def rates(self) -> Tensor:
        r"""The rates :math:`\kappa` at which modes of the misfit decay, in :math:`\tau`."""
        return self._state.rates()

    @cached_property
    def modes(self) -> Tensor:
        """The modes, orthonormal columns of shape (M, number of rates), in the data's order."""
        return self._state.modes()

    @property
    def filters(self) -> Tensor:
        r"""The fraction :math:`1-e^{-\kappa\tau}` of each mode that is fitted at ``tau``."""
        at = -self.rates * self.tau[..., None]
        return -torch.expm1(torch.where(self.rates > 0, at, 0.0))

    @property
    def network(self) -> ShallowNetwork:
        """The trained network; for one tau."""
        if self.tau.ndim:
            raise ValueError(
                f"There are {self.tau.numel()} networks, one for each tau. Add output_weights[i] "
                f"to v and skip[i] to skip, or train with one tau."
            )
        old = self.initial
        v, skip = old.v + self.output_weights, old.skip + self.skip
        return ShallowNetwork(old.w, old.b, old.activation, v, skip=skip)


def linearised_training(
    network: ShallowNetwork, x: Any, y: Any, tau: Any = math.inf, *, skip: Skip = "free"
) -> LinearisedNetwork:
    r"""Returns the network whose output layer followed the gradient flow for the time tau, exactly.

    Parameters
    ----------
    network : ShallowNetwork
        At initialisation; what it computes there is where training starts.
    x : array, shape (M,) for one input, else (M, d)
    y : array, shape (M,)
    tau : float or array, shape (t,)
        Time of the flow of half the sum of squares, from 0 to infinity; for the sum of squares
        without a half, twice the time.
    skip : str
        "free": the polynomial of degree k is optimal at all times. "common": it is trained, from
        zero, with the learning rate of the other parameters, which is 1/n in the time of v: it is
        trapped near where it began. "none": it stays where it is.

    Returns
    -------
    LinearisedNetwork
        Callable; with ``output_weights``, ``skip``, ``rates``, ``modes``, ``filters``.

    Raises
    ------
    TooFewBreakpoints
        If at infinite time the data are not fitted since breakpoints are missing where they bend.
    TypeError, ValueError
        If an argument is out of range, an abscissa repeats, or (in several dimensions) the units
        cannot fit the data.

    Notes
    -----
    Source: M24, Theorems 5, 8 and 9 and the trajectory after them; the skip connection must be
    free (errata): with one common rate the error has a floor that no width removes. One input with
    a free skip connection costs O(n + M) up to sorting at infinite time, and a dense decomposition
    of size M more at finite ones; everything else is dense, O(n M^2).

    Examples
    --------
    >>> network = ShallowNetwork([1.0, -1.0, 1.0], [0.0, 1.0, -2.0], antisymmetric=True)
    >>> x, y = [-1.0, 0.5, 1.5, 3.0], [0.0, 1.0, 1.0, 0.0]
    >>> linearised_training(network, x, y, [0.0, 1.0, math.inf])(x).round(decimals=4)
    tensor([[0.5000, 0.5000, 0.5000, 0.5000],
            [0.3509, 0.6491, 0.6491, 0.3509],
            [0.0000, 1.0000, 1.0000, 0.0000]], dtype=torch.float64)
    """
    points, targets = as_training(network, x, y, skip, "linearised_training")
    times = as_real(tau, "tau", finite=False).to(points.device)
    if times.ndim > 1 or not times.numel() or not bool((times >= 0).all()):
        raise ValueError(
            f"tau must be a time from 0 to infinity, or a list of them; got {times.tolist()}. The "
            f"flow starts at 0."
        )
    rest = targets - network(points)
    taus = times.reshape(-1).tolist()
    state: _State
    if network.d == 1 and skip == "free":
        state = _Banded(network, points, rest, taus)
    else:
        state = _Dense(network, points, rest, taus, skip)
    return LinearisedNetwork(network, points, targets, times, state)
