r"""Dense networks as pure functions of a parameter vector.

.. math:: f(\theta, x) = W_L\,s(W_{L-1}\cdots s(W_1 x + b_1)\cdots + b_{L-1}) + b_L ,

with :math:`\theta` the matrices (row by row) and biases in the order :math:`W_1, b_1, W_2, \dots`
"""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from implicit_bias.arrays import as_count, as_real
from implicit_bias.models.activations import Activation, activation_named

__all__ = ["DenseNetwork"]


class DenseNetwork:
    r"""A dense network of given widths, called with its parameters: ``network(theta, X)``.

    Parameters
    ----------
    widths : sequence of ints
        Inputs, hidden widths, outputs: (d, h_1, ..., d').
    activation : str or callable
        "relu", "tanh", "linear", "square", or a function of a tensor, such as a
        ``PolynomialActivation``. None after the last layer.
    bias : bool
        Whether layers have biases.

    Attributes
    ----------
    widths : tuple of ints
    size : int
        Number of parameters p.

    Raises
    ------
    TypeError, ValueError
        If there are fewer than two widths, one is not a positive integer, or the activation is
        unknown.

    Examples
    --------
    >>> network = DenseNetwork((1, 2, 1), bias=False)
    >>> network([1.0, -1.0, 1.0, 1.0], [[-3.0], [2.0]])
    tensor([[3.],
            [2.]], dtype=torch.float64)
    """

    def __init__(self, widths: Any, activation: str | Activation = "relu", bias: bool = True):
        if isinstance(widths, (str, int)) or not hasattr(widths, "__iter__"):
            raise TypeError(
                f"widths = {widths!r} is not a sequence of widths. Pass (inputs, hidden, ..., "
                f"outputs), such as (2, 10, 1)."
            )
        self.widths = tuple(as_count(w, "a width") for w in widths)
        if len(self.widths) < 2:
            raise ValueError(
                f"widths = {self.widths} has no layer in it: it needs at least the number of "
                f"inputs and of outputs. Pass (inputs, hidden, ..., outputs)."
            )
        self.activation, self.bias = activation, bool(bias)
        self._act = activation_named(activation)
        self._shapes: list[tuple[int, ...]] = []
        for before, after in itertools.pairwise(self.widths):
            self._shapes += [(after, before), (after,)] if self.bias else [(after, before)]
        self._sizes = [math.prod(shape) for shape in self._shapes]
        self.size = sum(self._sizes)

    def __repr__(self) -> str:
        bias = "" if self.bias else ", bias=False"
        return f"DenseNetwork({self.widths}, {self.activation!r}{bias})"

    def split(self, theta: Tensor) -> list[tuple[Tensor, Tensor | None]]:
        """Returns the layers as pairs (W, b), b None without biases.

        Raises
        ------
        ValueError
            If theta is not a vector of ``size`` numbers.

        Examples
        --------
        >>> [tuple(W.shape) for W, b in DenseNetwork((3, 5, 2)).split(torch.ones(32))]
        [(5, 3), (2, 5)]
        """
        if theta.shape != (self.size,):
            raise ValueError(
                f"theta has shape {tuple(theta.shape)}, but {self!r} has {self.size} parameters "
                f"in one vector. Pass such a vector, for example .initial(seed=0)."
            )
        parts = [
            part.reshape(shape)
            for part, shape in zip(theta.split(self._sizes), self._shapes, strict=True)
        ]
        if not self.bias:
            return [(W, None) for W in parts]
        return list(zip(parts[::2], parts[1::2], strict=True))

    def join(self, layers: Any) -> Tensor:
        """Returns the parameter vector of these layers, pairs (W, b), or W without biases.

        As ``split`` gives them, or arrays; float64, without gradients.

        Raises
        ------
        ValueError
            If their number or shapes do not fit.

        Examples
        --------
        >>> DenseNetwork((2, 1), bias=False).join([[[1.0, 2.0]]])
        tensor([1., 2.], dtype=torch.float64)
        """
        if self.bias:
            flat = [part for pair in layers for part in pair]
        else:  # (W, None) is what split gives
            bare = (list, tuple)
            flat = [
                p[0] if isinstance(p, bare) and len(p) == 2 and p[1] is None else p for p in layers
            ]
        parts = [as_real(part, "a layer") for part in flat]
        if [tuple(part.shape) for part in parts] != self._shapes:
            raise ValueError(
                f"The layers have shapes {[tuple(part.shape) for part in parts]}, but {self!r} "
                f"has {self._shapes}. A matrix has a row for each of its outputs."
            )
        return torch.cat([part.reshape(-1) for part in parts])

    def initial(
        self, seed: int = 0, scale: float = 1.0, bias_scale: float = 0.0, device: Any = None
    ) -> Tensor:
        r"""Returns random parameters, shape (p,), float64, the same on every device.

        Parameters
        ----------
        seed : int
            Draw data with another one: numbers from ``numpy.random.default_rng`` with the same
            seed are the weights', up to scale.
        scale : float
            Weights are normal with variance :math:`c\,\text{scale}^2/\text{fan-in}`, c = 2 for
            the ReLU (He), by name or as torch's function, and 1 otherwise.
        bias_scale : float
            Standard deviation of the biases.
        device : str or torch.device, optional

        Raises
        ------
        TypeError, ValueError
            If the seed is not an integer >= 0, or a scale is negative or not finite.

        Examples
        --------
        >>> DenseNetwork((2, 3, 1)).initial(seed=1).shape
        torch.Size([13])
        """
        sizes = {"scale": scale, "bias_scale": bias_scale}
        for name, value in sizes.items():
            if not float(as_real(value, name)) >= 0:
                raise ValueError(f"{name} = {value} is negative; it is a standard deviation.")
        rng = np.random.default_rng(as_count(seed, "seed", least=0))
        relu = (torch.relu, torch.nn.functional.relu)
        gain = math.sqrt(2) if any(self._act is one for one in relu) else 1.0
        draws = []
        for shape in self._shapes:
            std = gain * scale / math.sqrt(shape[1]) if len(shape) == 2 else bias_scale
            draws.append(std * rng.standard_normal(math.prod(shape)))
        return torch.from_numpy(np.concatenate(draws)).to(device)

    def hidden(self, theta: Any, X: Any) -> list[Tensor]:
        """Returns what enters the activation in each hidden layer, shapes (n, h_l)."""
        theta, x = self._read(theta, X)
        found = []
        for W, b in self.split(theta)[:-1]:
            z = x @ W.T if b is None else x @ W.T + b
            found.append(z)
            x = self._act(z)
        return found

    def __call__(self, theta: Any, X: Any) -> Tensor:
        """Returns the outputs, shape (n, d'), at theta (p,) and inputs X (n, d).

        Tensors are differentiated through. They keep their precision, the finer one where there
        are two; arrays and lists follow the tensor, or are float64.
        """
        theta, x = self._read(theta, X)
        layers = self.split(theta)
        for i, (W, b) in enumerate(layers):
            x = x @ W.T if b is None else x @ W.T + b
            x = self._act(x) if i < len(layers) - 1 else x
        return x

    def _read(self, theta: Any, X: Any) -> tuple[Tensor, Tensor]:
        # Tensors go through as they are: they may carry gradients.
        x = X if isinstance(X, Tensor) else as_real(X, "X")
        if not isinstance(theta, Tensor):
            theta = as_real(theta, "theta").to(x.device)
            theta = theta.to(x.dtype) if x.is_floating_point() else theta
        elif not isinstance(X, Tensor):
            x = x.to(theta)
        if theta.dtype != x.dtype:  # a matrix product would not do this by itself
            finer = torch.promote_types(theta.dtype, x.dtype)
            theta, x = theta.to(finer), x.to(finer)
        if x.ndim != 2 or x.shape[1] != self.widths[0]:
            raise ValueError(
                f"X has shape {tuple(x.shape)}, but this network has {self.widths[0]} inputs: it "
                f"needs X of shape (n, {self.widths[0]}), one example a row."
            )
        return theta, x
