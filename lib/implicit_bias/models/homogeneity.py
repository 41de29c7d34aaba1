r"""One function, many sizes of the layers: the normal form, and others with the same outputs.

A layer is :math:`h_k = s(W_k h_{k-1} + b_k)` with :math:`s(cz) = c\,s(z)` for :math:`c > 0`. Take
any :math:`\rho_k > 0`, let :math:`c_k = \rho_1\cdots\rho_k` with :math:`c_0 = 1`, and

.. math:: \tilde W_k = W_k/\rho_k, \qquad \tilde b_k = b_k/c_k .

Then :math:`\tilde h_k = h_k/c_k`, by induction: :math:`\tilde W_k\tilde h_{k-1} + \tilde b_k =
W_kh_{k-1}/(\rho_kc_{k-1}) + b_k/c_k`, and s passes :math:`1/c_k` on. Hence the outputs satisfy
:math:`f = \rho\tilde f` with :math:`\rho = c_K`, for all norms alike: a bias is divided by the
norms of all layers up to its own. Divided by its own norm alone (``scaling="naive"``) it weighs
:math:`c_{k-1}` times too much, and :math:`\tilde f` is another function. Only in the first layer is
there no difference: its bias is a column of :math:`W_1`, for an input that is always 1, and
belongs into its norm.

Batch normalisation, in evaluation mode, is absorbed first: :math:`g(z - m)/\sqrt{v + \epsilon} +
\beta` scales the rows of the layer before it and gives that layer a bias.

A residual block :math:`h' = s(a\,Sh + W_2h_1 + b_2)`, :math:`h_1 = s(W_1h + b_1)`, counts as one
layer of size :math:`\rho = a + \rho_1\rho_2`, by the triangle inequality. With c for the layers
before it: :math:`\tilde W_1 = W_1/\rho_1`, :math:`\tilde b_1 = b_1/(c\rho_1)`,
:math:`\tilde W_2 = W_2\rho_1/\rho`, :math:`\tilde b_2 = b_2/(c\rho)` and
:math:`\tilde a = a/\rho`, so that the weights of its two ways add up to 1.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from implicit_bias.arrays import as_array, as_count
from implicit_bias.models.residual import ResidualBlock, ResidualNetwork
from implicit_bias.models.weights import (
    LINEAR,
    Order,
    as_orders,
    linears,
    prepared,
    size_of,
    units,
)

__all__ = ["Normalised", "normalise", "rescale_channels"]


@dataclass(frozen=True, eq=False)
class Normalised:
    r"""A network of layers of norm 1, and the factor that makes it the one given.

    Attributes
    ----------
    model : Module
        :math:`\tilde f` in float64, in evaluation mode, without batch normalisation; the record
        itself, called on images, gives its outputs.
    rho : float
        :math:`f = \rho\tilde f`.
    factors : tuple of float
        Whose product rho is: the norm of each layer, :math:`a + \rho_1\rho_2` for a block.
    order : str, float or pair
        The norm.

    Examples
    --------
    >>> from implicit_bias import ConvNetwork
    >>> record = normalise(ConvNetwork((1, 8, 8), 3, (4,), bias=False))
    >>> record(torch.ones(2, 1, 8, 8)).shape, len(record.factors)
    (torch.Size([2, 3]), 2)
    """

    model: Any
    rho: float
    factors: tuple[float, ...]
    order: Order

    def __call__(self, x: Any) -> Tensor:
        """Returns the outputs of the normalised network, float64, without a gradient."""
        parameter = next(self.model.parameters())
        with torch.no_grad():
            outputs: Tensor = self.model(as_array(x).to(parameter))
        return outputs


def _divide(linear: Any, weight: float, bias: float) -> None:
    linear.weight.div_(weight)
    if linear.bias is not None:
        linear.bias.div_(bias)


def _scale_along(parts: Sequence[Any], sizes: Iterator[float]) -> Iterator[float]:
    """Divides each layer by its norm, and biases by all up to theirs; yields the factors."""
    total = 1.0
    for part in parts:
        size = next(sizes)
        if isinstance(part, ResidualBlock):
            factor = abs(float(part.shortcut)) + size * next(sizes)
            _divide(part.first.linear, size, total * size)
            _divide(part.second.linear, factor / size, total * factor)
            part.shortcut.div_(factor)
        else:
            factor = size
            _divide(part, factor, total * factor)
        total *= factor
        if not 0 < total < math.inf:
            raise ValueError(
                "The product of the norms leaves float64 (below 1e-308 or above 1e308), and no "
                "factor could undo it. Check whether training diverged."
            )
        yield factor


def normalise(
    model: Any,
    order: Order = "fro",
    *,
    first_bias: bool = True,
    scaling: Literal["cumulative", "naive"] = "cumulative",
) -> Normalised:
    r"""Returns the network with layers of norm 1 that equals the given one up to a factor.

    Parameters
    ----------
    model : ConvNetwork, FilterNetwork, ResidualNetwork, or Sequential
        With positively homogeneous activations; it is left as it is. Batch normalisation is
        absorbed as it acts in evaluation mode.
    order, first_bias
        As for ``layer_norms``.
    scaling : str
        "cumulative" is exact. "naive" divides weights and bias of each layer by that layer's
        norm alone, and leaves shortcuts: with a bias above the first layer, or a shortcut, another
        function. It is here to be compared.

    Raises
    ------
    TypeError, ValueError
        If the model is not homogeneous or its layers are not known, a layer's weights are all
        zero or not finite, layers share weights, or the product of norms leaves float64.

    Notes
    -----
    Source: L19, eqs. (1) and (7), which leave out the biases that absorbing batch normalisation
    makes. Those count in no norm but the first layer's. Cross-entropies of the result belong in
    float64: with rho near 1e7 they differ from the logarithm of the number of classes by about
    1e-6. Deep networks in the l1 norm have rho above 1e38, whose outputs float32 could not hold.

    Examples
    --------
    >>> from implicit_bias import ConvNetwork
    >>> network, x = ConvNetwork((1, 8, 8), 3, (4,)).double(), torch.ones(2, 1, 8, 8).double()
    >>> record = normalise(network)
    >>> bool((record.rho * record(x) - network(x)).abs().max() < 1e-12)
    True
    >>> naive = normalise(network, scaling="naive")  # biases are still zero: no difference
    >>> bool((naive(x) - record(x)).abs().max() < 1e-12)
    True
    """
    if scaling not in ("cumulative", "naive"):
        raise ValueError(f"scaling = {scaling!r}; pass 'cumulative', which is exact, or 'naive'.")
    orders, twin = as_orders(order), prepared(model)
    layers = linears(twin)
    sizes = [size_of(linear, orders, first_bias and not k) for k, linear in enumerate(layers)]
    if 0.0 in sizes:
        raise ValueError(
            f"All weights of layer {sizes.index(0.0) + 1} are zero: it has no direction to keep. "
            f"Normalise a trained network."
        )
    with torch.no_grad():
        if scaling == "naive":
            for linear, size in zip(layers, sizes, strict=True):
                _divide(linear, size, size)
            factors = sizes
        else:
            factors = list(_scale_along(units(twin), iter(sizes)))
    return Normalised(twin, math.prod(factors), tuple(factors), order)


def _neighbours(twin: Any) -> Iterator[tuple[Any, Any, bool]]:
    """Layers of which the second sees the channels of the first alone, and whether as pixels."""
    if isinstance(twin, ResidualNetwork):
        yield from ((b.first.linear, b.second.linear, False) for b in twin.blocks)
    elif isinstance(twin, nn.Sequential):
        below, flat = None, False
        for part in twin:
            if isinstance(part, LINEAR):
                if below is not None:
                    yield below, part, flat
                below, flat = part, False
            flat |= isinstance(part, nn.Flatten) and (part.start_dim, part.end_dim) == (1, -1)
    else:
        yield from ((a, b, True) for a, b in itertools.pairwise(linears(twin)))


def rescale_channels(model: Any, spread: float = 1.0, seed: int = 0) -> Any:
    r"""Returns another network with the same outputs, for comparison: its norms mean nothing.

    What comes into each hidden channel is multiplied by a random :math:`c = e^{\text{spread}\cdot
    z}` with z normal, and what goes out of it by 1/c.

    Parameters
    ----------
    model : ConvNetwork, FilterNetwork, ResidualNetwork, or Sequential
        With activations that are positively homogeneous and act entry by entry. It is left as it
        is; the copy is in float64, in evaluation mode, without batch normalisation. In a residual
        network the channels inside blocks alone are rescaled.
    spread : float
        0 changes nothing.
    seed : int

    Raises
    ------
    TypeError, ValueError
        If the model is not homogeneous, its layers are not known, or two of them do not share
        channels.

    Examples
    --------
    >>> from implicit_bias import ConvNetwork
    >>> network, x = ConvNetwork((1, 8, 8), 3, (4,)).double(), torch.ones(2, 1, 8, 8).double()
    >>> other = rescale_channels(network)
    >>> bool((other(x) - network(x)).abs().max() < 1e-12), normalise(other).rho > 1.1
    (True, True)
    """
    if not 0 <= spread <= 30:  # its exponential is used at some six of it, and squared
        raise ValueError(
            f"spread = {spread!r} is no standard deviation of logarithms between 0 and 30, from "
            f"where on the weights would leave float64. Pass a number such as 1."
        )
    generator = torch.Generator().manual_seed(as_count(seed, "seed", least=0))
    twin = prepared(model)
    with torch.no_grad():
        for below, above, pixels in _neighbours(twin):
            n, m = below.weight.shape[0], above.weight.shape[1]
            flattens = isinstance(above, nn.Linear) and not isinstance(below, nn.Linear)
            if (m % n or not pixels) if flattens else m != n:
                raise ValueError(
                    f"A layer of {n} channels is followed by one that takes {m} inputs in another "
                    f"order, or in groups: which belongs to which is not known here. Put an "
                    f"nn.Flatten() between convolutions and linear layers."
                )
            noise = torch.randn(n, generator=generator, dtype=torch.float64)
            c = torch.exp(spread * noise).to(below.weight.device)
            below.weight.mul_(c.reshape(-1, *[1] * (below.weight.ndim - 1)))
            if below.bias is not None:
                below.bias.mul_(c)
            along = c.repeat_interleave(m // n).reshape(-1, *[1] * (above.weight.ndim - 2))
            above.weight.div_(along)
    return twin
