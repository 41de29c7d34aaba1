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

__all__ = ["Parameterisation"]

Array = NDArray[np.float64]


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
        this degree.

    Notes
    -----
    Source: G18, Definition 1 and Theorem 4. Homogeneity is checked at one random point when the
    size becomes known.

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
        self.size, self.output_shape = size, tuple(beta.shape)

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
        if not (math.isfinite(scale) and scale > 0):
            raise ValueError(
                f"scale = {scale} is not a positive number; at w = 0 the gradient vanishes and no "
                f"flow starts. 0.1 to 1 is a good range."
            )
        return torch.from_numpy(scale * np.random.default_rng(seed).standard_normal(self.size))
