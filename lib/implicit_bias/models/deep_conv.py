r"""Small convolutional networks, layer by layer.

.. math:: f(x) = W_K\,s(\cdots s(W_2 * s(W_1 * x + b_1) + b_2)\cdots) + b_K ,

convolutions of stride 2, then dense layers, with an activation s after each layer but the last; on
request batch normalisation between a convolution and s. With the ReLU, and without batch
normalisation and biases, f is homogeneous in every layer: :math:`W_k \to \rho W_k` with
:math:`\rho > 0` makes :math:`\rho f`.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from implicit_bias.arrays import as_count

__all__ = ["ConvNetwork", "Layer"]


def _check_activation(activation: Any) -> None:
    if not callable(activation):
        raise TypeError(
            f"activation = {activation!r} cannot be applied to a tensor. Pass a function, such as "
            f"torch.relu or torch.tanh."
        )


class Layer(nn.Module):
    """A linear map, and batch normalisation if there is one; the activation is the network's.

    Attributes
    ----------
    linear : Conv2d or Linear
    norm : BatchNorm2d or None

    Examples
    --------
    >>> layer = ConvNetwork((1, 8, 8), 10, widths=(4,)).layers[0]
    >>> layer.linear.weight.shape, layer.norm
    (torch.Size([4, 1, 3, 3]), None)
    """

    def __init__(self, linear: nn.Conv2d | nn.Linear, norm: nn.BatchNorm2d | None = None):
        super().__init__()
        self.linear = linear
        self.norm = norm

    def forward(self, x: Tensor) -> Tensor:
        """Returns the layer's pre-activation; a dense layer takes images as vectors."""
        z: Tensor = self.linear(x.flatten(1) if isinstance(self.linear, nn.Linear) else x)
        return z if self.norm is None else self.norm(z)


class ConvNetwork(nn.Module):
    r"""A network of 3 x 3 convolutions of stride 2 and dense layers.

    Parameters
    ----------
    shape : sequence of three ints
        Channels, height and width of an image: ``data.images.shape[1:]``.
    classes : int
        Number of outputs.
    widths : sequence of int
        Channels of the convolutions, at least one. Each halves height and width, rounding up.
    dense : sequence of int
        Widths of hidden dense layers between the convolutions and the outputs.
    activation : callable
        From tensors to tensors, entry by entry.
    batch_norm : bool
        Whether a batch normalisation follows each convolution. It would undo a bias: these
        convolutions have none, its own shift is there instead.
    bias : bool or "first"
        Whether layers have biases; "first": the first layer alone, which keeps the function
        homogeneous in the layers above, and in the first one's weights and bias together.
    scale : float
        Weights are drawn with standard deviation :math:`\text{scale}\sqrt{2/\text{fan-in}}`;
        biases start at zero.
    seed : int
        Of the weights.

    Attributes
    ----------
    layers : ModuleList of Layer
        In order; ``layers[k].linear.weight`` are the weights of layer k.
    activation : callable
    shape : tuple of ints
    size : int
        Number of parameters.

    Raises
    ------
    TypeError, ValueError
        If a width is not a positive integer, or an argument is none of those above.

    Notes
    -----
    Source: P18 and L19, experiments: convolutions of stride 2 without pooling. Parameters are in
    float32; ``network.double()`` changes that.

    Examples
    --------
    >>> network = ConvNetwork((1, 16, 16), 10, widths=(4, 8), bias=False)
    >>> network(torch.zeros(5, 1, 16, 16)).shape, network.size
    (torch.Size([5, 10]), 1604)
    >>> [tuple(layer.linear.weight.shape) for layer in network.layers]
    [(4, 1, 3, 3), (8, 4, 3, 3), (10, 128)]
    """

    def __init__(
        self,
        shape: Sequence[int],
        classes: int,
        widths: Sequence[int] = (24, 48),
        *,
        dense: Sequence[int] = (),
        activation: Callable[[Tensor], Tensor] = torch.relu,
        batch_norm: bool = False,
        bias: bool | Literal["first"] = True,
        scale: float = 1.0,
        seed: int = 0,
    ):
        super().__init__()
        if len(shape) != 3:
            raise ValueError(
                f"shape = {tuple(shape)} is not that of an image. Pass (channels, height, width), "
                f"such as data.images.shape[1:]."
            )
        if not len(widths):
            raise ValueError(
                "widths is empty: a convolutional network needs a convolution. Pass the channels "
                "of each, such as widths=(24, 48)."
            )
        _check_activation(activation)
        if not (isinstance(bias, bool) or bias == "first"):
            raise ValueError(f"bias = {bias!r}; pass True, False or 'first'.")
        if not (math.isfinite(scale) and scale > 0):
            raise ValueError(
                f"scale = {scale!r} must be positive: with all weights at zero, or not finite, "
                f"nothing would be learned."
            )
        self.shape = tuple(as_count(s, "an entry of shape") for s in shape)
        self.activation = activation
        self.layers: Any = nn.ModuleList()
        channels = [as_count(w, "an entry of widths") for w in widths]
        outputs = [as_count(w, "an entry of dense") for w in dense] + [as_count(classes, "classes")]
        seed = as_count(seed, "seed", least=0)
        with torch.random.fork_rng(devices=[]):  # torch's own draws, all of them replaced
            self._build(channels, outputs, bias, batch_norm)
        self._draw(scale, seed)

    def _build(
        self, channels: list[int], outputs: list[int], bias: bool | str, batch_norm: bool
    ) -> None:
        inputs, height, width = self.shape
        for k, c in enumerate(channels):
            own = (bias is True or (bias == "first" and k == 0)) and not batch_norm
            conv = nn.Conv2d(inputs, c, 3, stride=2, padding=1, bias=own)
            self.layers.append(Layer(conv, nn.BatchNorm2d(c) if batch_norm else None))
            inputs, height, width = c, -(-height // 2), -(-width // 2)
        inputs *= height * width
        for units in outputs:
            self.layers.append(Layer(nn.Linear(inputs, units, bias=bias is True)))
            inputs = units

    def _draw(self, scale: float, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for layer in self.layers:
                weight = layer.linear.weight
                spread = scale * math.sqrt(2 / weight[0].numel())
                weight.copy_(spread * torch.randn(weight.shape, generator=generator))
                if layer.linear.bias is not None:
                    layer.linear.bias.zero_()

    @property
    def size(self) -> int:
        """Number of parameters."""
        return sum(p.numel() for p in self.parameters())

    def _passes(self, x: Tensor) -> Iterator[Tensor]:
        """The pre-activation of each layer in turn."""
        if x.ndim != 4 or tuple(x.shape[1:]) != self.shape:
            raise ValueError(
                f"x has shape {tuple(x.shape)}; this network sees images of shape "
                f"(n, {', '.join(map(str, self.shape))}). A single image is x[None]."
            )
        for k, layer in enumerate(self.layers):
            x = layer(self.activation(x) if k else x)
            yield x

    def forward(self, x: Tensor) -> Tensor:
        """Returns the outputs, shape (n, classes), for images x (n, channels, height, width)."""
        for z in self._passes(x):
            outputs = z
        return outputs

    def preactivations(self, x: Tensor) -> list[Tensor]:
        """Returns what each layer puts out before the activation; the last are the outputs."""
        return list(self._passes(x))

    def with_activation(self, activation: Callable[[Tensor], Tensor]) -> ConvNetwork:
        """Returns a copy with the same parameters and another activation.

        Raises
        ------
        TypeError
            If it cannot be called.
        """
        _check_activation(activation)
        twin = copy.deepcopy(self)
        del twin.activation  # a module would admit nothing but a module in its place
        twin.activation = activation
        return twin

    def without_batch_norm(self) -> ConvNetwork:
        """Returns a copy, equal in evaluation mode, whose weights and biases hold what batch
        normalisation did: :math:`W_k g/\\sqrt{v + \\epsilon}`, and a bias in every convolution.
        """
        twin = copy.deepcopy(self).eval()
        for layer in twin.layers:
            if layer.norm is not None:
                layer.linear = nn.utils.fuse_conv_bn_eval(layer.linear, layer.norm)
                layer.norm = None
        return twin
