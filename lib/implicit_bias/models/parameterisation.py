r"""A map of the reader's own from parameters to a linear predictor, differentiated by torch.

What the theory needs of a map is that it is homogeneous, :math:`P(cw) = c^L P(w)` for c > 0: then
the direction of w alone decides that of the predictor, and growing along a direction is growing
the margin.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from implicit_bias.arrays import as_array, as_count, as_real
from implicit_bias.models.kernels import Kernel

__all__ = ["Parameterisation", "as_number", "to_margin_one"]

Array = NDArray[np.float64]


def as_number(value: Any, name: str) -> float:
    """Returns the value as a float, if it is one number.

    Raises
    ------
    TypeError
        If it is not a real number.

    Examples
    --------
    >>> as_number(2, "scale")
    2.0
    """
    if isinstance(value, (str, bytes)):
        value = None
    try:
        return float(value)
    except (TypeError, ValueError, RuntimeError):
        raise TypeError(
            f"{name} is not a single real number, so it cannot be compared with one. Pass a float."
        ) from None


def to_margin_one(kernel: Kernel, Z: Array, w: Array) -> float:
    """Returns the factor c > 0 at which the least margin of c w is 1, for any map.

    Where there are several it is the least, for the problem asks for a small norm.

    Raises
    ------
    ValueError
        If there is none.

    Examples
    --------
    >>> from implicit_bias.models.kernels import Diagonal
    >>> round(to_margin_one(Diagonal(1, 2), np.array([[4.0]]), np.array([3.0, 3.0])), 10)
    0.1666666667
    """
    from scipy.optimize import brentq

    norm = float(np.linalg.norm(w))

    def excess(log_size: float) -> float:
        with np.errstate(over="ignore", invalid="ignore"):
            return float((Z @ kernel.value(w * (math.exp(log_size) / norm))).min()) - 1

    logs = np.linspace(-35, 35, 701)
    values = np.array([excess(log_size) for log_size in logs]) if norm > 0 else np.array([-1.0])
    ups = np.flatnonzero((values[:-1] < 0) & (values[1:] >= 0))
    if ups.size == 0:
        raise ValueError(
            f"parameter_certificate: no multiple of w has a least margin of 1 (along the ray the "
            f"least margin is at most {np.nanmax(values) + 1:.3g} at norms from 1e-15 to 1e15), so "
            f"w does not separate the data, and stationary means nothing there. Follow the flow "
            f"further, or check the labels."
        )
    log_size = brentq(excess, logs[ups[0]], logs[ups[0] + 1], xtol=1e-15, rtol=1e-14)
    return math.exp(float(log_size)) / norm


class _Traced:
    """The kernel of a torch function: derivatives by torch.func."""

    def __init__(self, function: Callable[[Tensor], Tensor]):
        self.function = function

    def value(self, w: Array) -> Array:
        beta: Array = self.function(torch.from_numpy(w)).reshape(-1).detach().numpy()
        return beta

    def trace(self, w: Array) -> tuple[Array, Callable[[Array], Array]]:
        found = torch.func.vjp(lambda v: self.function(v).reshape(-1), torch.from_numpy(w))
        beta, back = found[0], found[1]

        def pull(g: Array) -> Array:
            pulled: Array = back(torch.from_numpy(g))[0].detach().numpy()
            return pulled

        return beta.detach().numpy(), pull

    def jacobian(self, w: Array) -> Array:
        flat = torch.func.jacrev(lambda v: self.function(v).reshape(-1))
        J: Array = flat(torch.from_numpy(w)).detach().numpy()
        return J

    def hessian(self, w: Array, g: Array) -> Array:
        weights = torch.from_numpy(g)
        # Reverse over reverse: forward mode compiles, with warnings, on its first use.
        gradient = torch.func.grad(lambda v: weights @ self.function(v).reshape(-1))
        H: Array = torch.func.jacrev(gradient)(torch.from_numpy(w)).detach().numpy()
        return H


class Parameterisation:
    r"""A map of your own from parameters to a linear predictor, homogeneous: P(cw) = c^L P(w).

    Parameters
    ----------
    map : callable
        A torch function from a float64 vector of shape (P,) to a predictor of shape (d,) or
        (d, k). Only differentiable torch operations, twice differentiable where it is used.
    degree : int
        L, its degree of homogeneity, at least 1.
    size : int, optional
        The number of parameters P. Without it, it is taken from the first w that is passed.
    homogeneous : bool
        Pass False for a map that is not homogeneous (a control: the theory does not hold for
        it); ``degree`` is then only its highest power.

    Raises
    ------
    TypeError
        If the map is not callable or returns something other than a tensor.
    ValueError
        If the degree is less than 1, or a random point shows that the map is not homogeneous of
        this degree, or that torch does not find its derivatives.

    Notes
    -----
    Source: G18, Definition 1 and Theorem 4. When the size becomes known, three things are checked
    at one random point: homogeneity; Euler's identity :math:`J(w)w = L\,P(w)` with torch's J; and,
    also without homogeneity, torch's derivative in a random direction against a difference
    quotient. A ``detach()`` in the map passes the first and fails the others.

    Examples
    --------
    >>> squares = Parameterisation(lambda w: w**2, degree=2)
    >>> squares.predictor([1.0, 3.0])
    tensor([1., 9.], dtype=torch.float64)
    >>> squares.jacobian([1.0, 3.0])
    tensor([[2., 0.],
            [0., 6.]], dtype=torch.float64)
    """

    kernel: Kernel

    def __init__(
        self,
        map: Callable[[Tensor], Tensor],
        degree: int,
        size: int | None = None,
        *,
        homogeneous: bool = True,
    ):
        if not callable(map):
            raise TypeError(
                f"map is a {type(map).__name__}; it must be a torch function from a vector of "
                f"parameters to the predictor, such as lambda w: w**2."
            )
        self.degree = as_count(degree, "degree")
        self.homogeneous = bool(homogeneous)
        self.kernel = _Traced(map)
        self.output_shape: tuple[int, ...] | None = None
        self.size: int | None = None
        self._map = map
        if size is not None:
            self._learn(as_count(size, "size"))

    def _learn(self, size: int) -> None:
        """Takes the size as known, and checks the map at a random point of it."""
        w = torch.from_numpy(np.random.default_rng(0).standard_normal(size))
        w = w / math.sqrt(size)
        beta = self._map(w)
        if not isinstance(beta, Tensor) or beta.dtype != torch.float64 or beta.ndim not in (1, 2):
            what = (
                f"a {beta.dtype} tensor of shape {tuple(beta.shape)}"
                if isinstance(beta, Tensor)
                else f"a {type(beta).__name__}"
            )
            raise TypeError(
                f"The map returned {what} for {size} parameters; the predictor must be a float64 "
                f"tensor of shape (d,) or (d, k), made of w by torch operations."
            )
        if self.homogeneous:
            for factor in (0.5, 1.5):
                gap = float((self._map(factor * w) - factor**self.degree * beta).norm())
                if not gap <= 1e-9 * factor**self.degree * float(beta.norm()):
                    raise ValueError(
                        f"The map is not homogeneous of degree {self.degree}: at a random w, "
                        f"P({factor} w) is off {factor}^{self.degree} P(w) by {gap:.2g}, and the "
                        f"limit directions of the theory exist for homogeneous maps only. Correct "
                        f"the degree, or pass homogeneous=False for a control."
                    )
        self._compare(w.numpy(), beta.detach().reshape(-1).numpy())
        self.size, self.output_shape = size, tuple(beta.shape)

    def _compare(self, w: Array, beta: Array) -> None:
        """Whether torch's derivatives at w are those of the map."""
        cut = "A detach(), no_grad(), item() or a conversion to NumPy cuts them, and the flow would"
        cut += " follow another map. Write the map in differentiable torch operations."
        rng = np.random.default_rng(1)
        g, u = rng.standard_normal(beta.size), rng.standard_normal(w.size)
        u = u / float(np.linalg.norm(u))
        try:
            slope = self.kernel.trace(w)[1](g)
        except Exception as error:
            raise ValueError(f"torch cannot differentiate the map ({error}). {cut}") from error
        size = float(np.linalg.norm(slope) + np.linalg.norm(g) * np.linalg.norm(beta))
        if not math.isfinite(size) and not self.homogeneous:
            return  # outside of its domain
        if self.homogeneous:
            gap = abs(float(slope @ w) - self.degree * float(g @ beta))
            if not gap <= 1e-9 * self.degree * size:
                raise ValueError(
                    f"The derivatives that torch finds are not those of the map: for a map that "
                    f"is homogeneous of degree {self.degree}, J(w) w = {self.degree} P(w), and at "
                    f"a random w that is off by {gap / size:.2g} of its size. {cut}"
                )
        h = 1e-5
        ahead, back = (self.kernel.value(w + step * u) for step in (h, -h))
        gap = abs(float(g @ (ahead - back)) / (2 * h) - float(slope @ u))
        # A difference quotient has errors of h^2 = 1e-10 and 1e-16 / h = 1e-11.
        if not gap <= 1e-6 * size:
            raise ValueError(
                f"The derivatives that torch finds are not those of the map: at a random w they "
                f"differ from a difference quotient by {gap / size:.2g} of their size. {cut}"
            )

    def flat(self, w: Any, name: str = "w") -> Array:
        """Returns the parameters as a NumPy vector of shape (P,), checked.

        Raises
        ------
        TypeError, ValueError
            If they are not real numbers, not finite, or of the wrong number.
        """
        vector = as_real(w, name).reshape(-1)
        if self.size is None:
            self._learn(int(vector.numel()))
        if vector.numel() != self.size:
            raise ValueError(
                f"{name} has shape {tuple(as_array(w).shape)}, {vector.numel()} numbers, but "
                f"{self._layout()}."
            )
        entries: Array = vector.cpu().numpy()
        return entries

    def _layout(self) -> str:
        return f"the map has {self.size} parameters. Pass a vector of that length"

    def _device(self, w: Any) -> torch.device:
        return w.device if isinstance(w, Tensor) else torch.device("cpu")

    def predictor(self, w: Any) -> Tensor:
        """Returns beta = P(w), shape (d,), or (d, k) for several outputs.

        Parameters
        ----------
        w : array, shape (P,)
        """
        beta = torch.from_numpy(self.kernel.value(self.flat(w)).copy())
        return beta.reshape(self.output_shape or (-1,)).to(self._device(w))

    def jacobian(self, w: Any) -> Tensor:
        """Returns the Jacobian of the flattened predictor, shape (outputs, P)."""
        return torch.from_numpy(self.kernel.jacobian(self.flat(w)).copy()).to(self._device(w))

    def hessian(self, w: Any, g: Any) -> Tensor:
        """Returns the Hessian of <g, P(w)> in w, shape (P, P).

        Parameters
        ----------
        w : array, shape (P,)
        g : array, of the shape of the predictor
        """
        at = self.flat(w)
        weights = as_real(g, "g").reshape(-1).cpu().numpy()
        outputs = math.prod(self.output_shape or ())
        if weights.size != outputs:
            raise ValueError(
                f"g has {weights.size} entries, but the predictor has {outputs}, and <g, P(w)> "
                f"needs one for each."
            )
        return torch.from_numpy(self.kernel.hessian(at, weights).copy()).to(self._device(w))

    def sample(self, seed: int, scale: float = 1.0) -> Tensor:
        """Returns a random start, shape (P,): independent normal entries of that deviation."""
        if self.size is None:
            raise ValueError(
                "The number of parameters of this map is not known yet, so there is nothing to "
                "draw. Pass size= when you build the Parameterisation."
            )
        seed, scale = as_count(seed, "seed", 0), as_number(scale, "scale")
        if not (math.isfinite(scale) and scale > 0):
            raise ValueError(
                f"scale = {scale} is not a positive number; at w = 0 the gradient vanishes and no "
                f"flow starts. 0.1 to 1 is a good range."
            )
        return torch.from_numpy(scale * np.random.default_rng(seed).standard_normal(self.size))
