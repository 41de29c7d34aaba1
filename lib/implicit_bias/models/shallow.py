r"""Networks with one hidden layer of n units, and the features that their training sees.

.. math:: f(x) = \frac1{\sqrt n}\sum_{i=1}^n v_i\,s_k(\langle w_i, x\rangle + b_i) + p(x),
          \qquad s_k(z) = [z]_+^k/k! ,

with k = 1 the ReLU and p a polynomial of degree k, the skip connection. The output weights
:math:`v_i` are of order 1: M24's output weights, of order :math:`n^{-1/2}`, are
:math:`v_i/\sqrt n`. A step :math:`\eta` on all of M24's parameters is then a step :math:`n\eta` on
v and a step :math:`\eta` on w, b and the coefficients of p: **in the time of v, everything else
moves at the rate 1/n.** The kernel of all parameters, in that time, is

.. math:: K(x, x') = \frac1n\sum_i s_k s_k' + \frac1{n^2}\sum_i v_i^2\,s_{k-1}s_{k-1}'
          (1 + \langle x, x'\rangle) + \frac1n\sum_p \varphi_p\varphi_p' ,

of which only the first sum survives in a wide network.
"""

from __future__ import annotations

import copy
import itertools
import math
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from implicit_bias.arrays import as_count, as_real
from implicit_bias.measures import Breakpoints

__all__ = ["ShallowNetwork", "monomials", "polynomial", "rectified_power"]

_DEGREES = {"relu": 1, "relu2": 2, "relu3": 3}
_CHUNK = 4_000_000  # numbers in a block of features: 32 MB


def rectified_power(z: Tensor, degree: int) -> Tensor:
    """Returns [z]_+^k / k!; for k = 0 the step function, with 0 at 0.

    Examples
    --------
    >>> rectified_power(torch.tensor([-1.0, 2.0]), 3)
    tensor([0.0000, 1.3333])
    """
    if degree == 0:
        return (z > 0).to(z)
    positive = z.clamp(min=0)
    return positive if degree == 1 else positive**degree / math.factorial(degree)


def monomials(x: Tensor, degree: int) -> Tensor:
    """Returns all monomials of total degree up to ``degree`` at x (m, d), one a column.

    Examples
    --------
    >>> monomials(torch.tensor([[2.0, 3.0]]), 2)
    tensor([[1., 2., 3., 4., 6., 9.]])
    """
    factors = (
        list(which)
        for total in range(degree + 1)
        for which in itertools.combinations_with_replacement(range(x.shape[1]), total)
    )
    return torch.stack([x[:, which].prod(1) for which in factors], 1)


class ShallowNetwork:
    r"""A network of n hidden units :math:`[\langle w_i,x\rangle+b_i]_+^k/k!` and one output.

    Parameters
    ----------
    w : array, shape (n,), or (n, d) for d inputs
        Weights of the hidden units.
    b : array, shape (n,)
        Their biases.
    activation : str
        "relu" (k = 1), "relu2" (k = 2) or "relu3" (k = 3).
    v : array, shape (n,), optional
        Output weights, of order 1: the output is scaled by :math:`1/\sqrt n`. Default: independent
        standard normal, drawn with ``seed``.
    skip : array, shape (p,), optional
        Coefficients of the polynomial p in the monomials of total degree 0, ..., k. Default zero.
    antisymmetric : bool
        Double the units: each of the given ones gets a twin with the same w and b, and -v. The
        function at initialisation is then zero, with n twice the number of units given, so that
        only n/2 are distinct.
    seed : int
        Of the output weights, when v is None.

    Attributes
    ----------
    w : Tensor, shape (n, d)
    b, v : Tensor, shape (n,)
    skip : Tensor, shape (p,)
    n, d, degree : int
        Units (twins included), inputs, and k.

    Raises
    ------
    TypeError, ValueError
        If shapes or devices disagree, a number is not finite, or the activation is unknown.

    Notes
    -----
    Source: M24, Theorems 5, 8 and 9, in the standard parametrisation, with the factor
    :math:`1/\sqrt n` outside.

    Examples
    --------
    >>> network = ShallowNetwork([1.0, -1.0], [0.0, 1.0], v=[1.0, 2.0])
    >>> network([0.5, 3.0]) * 2**0.5
    tensor([1.5000, 3.0000], dtype=torch.float64)
    >>> ShallowNetwork([1.0, -1.0], [0.0, 1.0], antisymmetric=True)([0.5, 3.0])
    tensor([0., 0.], dtype=torch.float64)
    """

    def __init__(
        self,
        w: Any,
        b: Any,
        activation: str = "relu",
        v: Any = None,
        *,
        skip: Any = None,
        antisymmetric: bool = False,
        seed: int = 0,
    ):
        if activation not in _DEGREES:
            raise ValueError(
                f"activation = {activation!r} is not known here. Choose 'relu', 'relu2' or "
                f"'relu3': [z]_+^k / k! for k = 1, 2, 3."
            )
        self.activation, self.degree = activation, _DEGREES[activation]
        w, b = as_real(w, "w"), as_real(b, "b")
        units = b.numel()
        if b.ndim != 1 or w.ndim not in (1, 2) or w.shape[0] != units or 0 in w.shape or not units:
            raise ValueError(
                f"ShallowNetwork needs w of shape (n,) or (n, d) and b of shape (n,), one bias a "
                f"unit and at least one unit; got {tuple(w.shape)} and {tuple(b.shape)}."
            )
        # Drawn on the CPU, so that every device gets the same numbers.
        # A stream of its own: with the stream of an initialisation's ``sample``, the same seed
        # would make the output weights equal to the hidden ones.
        stream = np.random.SeedSequence(as_count(seed, "seed", least=0), spawn_key=(1,))
        draws = np.random.default_rng(stream)
        v = torch.from_numpy(draws.standard_normal(units)).to(w) if v is None else as_real(v, "v")
        if v.shape != (units,):
            raise ValueError(
                f"v has shape {tuple(v.shape)}, but there are {units} units given and each needs "
                f"one output weight. Pass a vector of length {units}, or None to draw them."
            )
        w = w.reshape(units, -1)
        if antisymmetric:
            w, b, v = torch.cat([w, w]), torch.cat([b, b]), torch.cat([v, -v])
        self.w, self.b, self.v = w, b, v
        self.n, self.d = int(w.shape[0]), int(w.shape[1])
        terms = math.comb(self.degree + self.d, self.d)
        self.skip = w.new_zeros(terms) if skip is None else as_real(skip, "skip")
        if self.skip.shape != (terms,):
            raise ValueError(
                f"skip has shape {tuple(self.skip.shape)}, but a polynomial of degree "
                f"{self.degree} in {self.d} variables has {terms} coefficients. Pass so many."
            )
        if len({t.device for t in (self.w, self.b, self.v, self.skip)}) > 1:
            raise ValueError(
                "w, b, v and skip are on different devices; one network lives on one device. "
                "Move them with .to(...)."
            )
        # Twins cancel exactly, but a sum in floating point may not.
        self._vanishes = antisymmetric and not bool(self.skip.any())

    def __repr__(self) -> str:
        return f"ShallowNetwork(n={self.n}, d={self.d}, activation={self.activation!r})"

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        device: torch.device = self.w.device
        return device

    @property
    def parameters(self) -> Tensor:
        """The parameters w (row by row), b, v and the coefficients of p, as one vector."""
        return torch.cat([self.w.reshape(-1), self.b, self.v, self.skip])

    def to(self, device: Any) -> ShallowNetwork:
        """Returns the same network on another device."""
        moved = copy.copy(self)
        for name in ("w", "b", "v", "skip"):
            setattr(moved, name, getattr(self, name).to(device))
        return moved

    def with_parameters(self, theta: Any) -> ShallowNetwork:
        """Returns the network of the same shape whose parameters are theta, as one vector.

        Raises
        ------
        ValueError
            If there are too many or too few.

        Examples
        --------
        >>> network = ShallowNetwork([1.0], [0.0])
        >>> network.with_parameters([1.0, 0.0, 2.0, 0.0, 0.0])([3.0])
        tensor([6.], dtype=torch.float64)
        """
        vector = as_real(theta, "theta").to(self.device)
        sizes = [self.n * self.d, self.n, self.n, self.skip.numel()]
        if vector.shape != (sum(sizes),):
            raise ValueError(
                f"theta has shape {tuple(vector.shape)}, but this network has {sum(sizes)} "
                f"parameters: w, b, v and skip of {sizes} numbers. Pass one vector of them."
            )
        w, b, v, skip = vector.split(sizes)
        return ShallowNetwork(w.reshape(self.n, self.d), b, self.activation, v, skip=skip)

    def points(self, x: Any, name: str = "x") -> Tensor:
        """Returns the points as a float64 tensor (m, d) on the network's device.

        Raises
        ------
        TypeError, ValueError
            If they are no points of the input space.

        Examples
        --------
        >>> ShallowNetwork([1.0], [0.0]).points([1, 2]).shape
        torch.Size([2, 1])
        """
        points = as_real(x, name).to(self.device)
        if self.d == 1 and points.ndim == 1:
            points = points[:, None]
        if points.ndim != 2 or points.shape[1] != self.d:
            raise ValueError(
                f"{name} has shape {tuple(points.shape)}, and a network of d = {self.d} inputs is "
                f"evaluated at points of shape {'(m,)' if self.d == 1 else f'(m, {self.d})'}."
            )
        return points

    def features(self, x: Any, order: int = 0) -> Tensor:
        r"""Returns :math:`s_k(\langle w_i,x_j\rangle+b_i)/\sqrt n`, shape (m, n).

        These are the derivatives of the outputs in the output weights v.

        Parameters
        ----------
        x : array, shape (m,) when d = 1, else (m, d)
        order : int
            Of the derivative in x, for d = 1: :math:`w_i^j s_{k-j}/\sqrt n`, up to j = k.

        Raises
        ------
        TypeError, ValueError
            If x has the wrong shape, or the order is out of range.

        Examples
        --------
        >>> ShallowNetwork([2.0], [1.0]).features([1.0, -1.0])
        tensor([[3.], [0.]], dtype=torch.float64)
        """
        self.check_order(order)
        x = self.points(x)
        values = rectified_power(torch.addmm(self.b, x, self.w.T), self.degree - order)
        if order:
            values *= self.w[:, 0] ** order
        return values / math.sqrt(self.n)

    def check_order(self, order: int) -> None:
        """Raises a ValueError if the function has no derivative of this order."""
        if as_count(order, "order", least=0) > self.degree or (order and self.d > 1):
            raise ValueError(
                f"order = {order}: a unit with {self.d} inputs and k = {self.degree} has "
                f"derivatives up to order {self.degree if self.d == 1 else 0} here; beyond them "
                f"there are only point masses. See measure()."
            )

    def __call__(self, x: Any) -> Tensor:
        """Returns the outputs at x (m,) or (m, d), shape (m,)."""
        return self.derivative(x, 0)

    def derivative(self, x: Any, order: int = 1) -> Tensor:
        """Returns the derivative of the output in x, for d = 1, shape (m,).

        Examples
        --------
        >>> ShallowNetwork([2.0], [1.0], v=[3.0]).derivative([1.0, -1.0])
        tensor([6., 0.], dtype=torch.float64)
        """
        self.check_order(order)
        x = self.points(x)
        values = polynomial(self.skip, x, self.degree, order)
        return values if self._vanishes else values + self.combine(x, self.v, order)

    def combine(self, x: Any, v: Tensor, order: int = 0) -> Tensor:
        """Returns the features at x times output weights v (..., n), shape (..., m).

        Examples
        --------
        >>> ShallowNetwork([2.0], [1.0]).combine([1.0], torch.tensor([[3.0], [4.0]]).double())
        tensor([[ 9.],
                [12.]], dtype=torch.float64)
        """
        x = self.points(x)
        # Block by block of points: all features at once may be gigabytes.
        size = max(1, _CHUNK // self.n)
        parts = [v @ self.features(part, order).T for part in x.split(size)]
        return torch.cat(parts, -1)

    def kernel(
        self, x: Any, other: Any = None, layers: Literal["output", "all"] = "output"
    ) -> Tensor:
        """Returns the kernel of training without the skip connection, shape (m, m').

        Parameters
        ----------
        x, other : array, shape (m,) or (m, d)
            ``other`` is x when None.
        layers : str
            "output", or "all" with the hidden layer's part, which has the rate 1/n.

        Raises
        ------
        TypeError, ValueError
            If an argument is out of range.

        Examples
        --------
        >>> network = ShallowNetwork([1.0], [0.0], v=[1.0])
        >>> network.kernel([2.0]), network.kernel([2.0], layers="all")
        (tensor([[4.]], dtype=torch.float64), tensor([[9.]], dtype=torch.float64))
        """
        if layers not in ("output", "all"):
            raise ValueError(f"layers = {layers!r} must be 'output' or 'all'.")
        a = self.points(x)
        c = a if other is None else self.points(other, "other")
        total: Tensor = a.new_zeros(a.shape[0], c.shape[0])
        hidden = torch.zeros_like(total)
        # A million units at a hundred points would be a gigabyte: block by block of units.
        size = max(1, _CHUNK // max(1, a.shape[0], c.shape[0]))
        for i in range(0, self.n, size):
            w, b, v = (t[i : i + size] for t in (self.w, self.b, self.v))
            za, zc = torch.addmm(b, a, w.T), torch.addmm(b, c, w.T)
            total += rectified_power(za, self.degree) @ rectified_power(zc, self.degree).T
            if layers == "all":
                slopes = (rectified_power(z, self.degree - 1) * v for z in (za, zc))
                hidden += next(slopes) @ next(slopes).T
        return total.div_(self.n).addcmul_(hidden, 1 + a @ c.T, value=1 / self.n**2)

    def measure(self) -> Breakpoints:
        r"""Returns the empirical measure :math:`\frac1n\sum_i|w_i|^{2k}\delta(c_i)`, for d = 1.

        It is what the linearised training of these very units has in the place of
        :math:`\zeta_k(x)\,\mathrm{d}x`. Units that never bend, w = 0, have no weight in it.

        Raises
        ------
        ValueError
            If d > 1, where a unit bends along a hyperplane.

        Examples
        --------
        >>> ShallowNetwork([2.0, -1.0], [1.0, 1.0]).measure().weights
        tensor([2.0000, 0.5000], dtype=torch.float64)
        """
        if self.d > 1:
            raise ValueError(
                f"Units with d = {self.d} inputs bend along hyperplanes, not at points; only "
                f"d = 1 has a measure of breakpoints. Use kernel(x)."
            )
        w = self.w[:, 0]
        position = -self.b / w
        bends = torch.isfinite(position) & (w != 0)
        weights = w[bends].abs() ** (2 * self.degree) / self.n
        return Breakpoints(position[bends], weights)


def polynomial(skip: Tensor, x: Tensor, degree: int, order: int = 0) -> Tensor:
    """Returns the polynomial with these coefficients at x (m, d), or a derivative for d = 1.

    Examples
    --------
    >>> polynomial(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([[2.0]]), 2, order=1)
    tensor([14.])
    """
    if order == 0:
        return monomials(x, degree) @ skip
    factors = [math.perm(j, order) for j in range(order, degree + 1)]
    c = skip[order:] * skip.new_tensor(factors)
    return monomials(x, degree - order) @ c
