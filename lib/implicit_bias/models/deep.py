r"""Convolutional networks with filters of any size: those of L19, parameter for parameter."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from implicit_bias.arrays import as_count
from implicit_bias.models.deep_conv import ConvNetwork, Layer

__all__ = ["FilterNetwork"]


class FilterNetwork(ConvNetwork):
    r"""A convolutional network whose filters have any size, stride and padding.

    Parameters
    ----------
    shape : sequence of three ints
        Channels, height and width of an image: ``data.images.shape[1:]``.
    classes : int
        Number of outputs.
    filters : sequence of int
        Number of filters of each convolution, at least one.
    size, stride, padding : int
        Of all convolutions; without padding a filter of this size takes ``size - 1`` pixels off
        height and width.
    dense, activation, batch_norm, scale, seed
        As for ``ConvNetwork``.
    bias : bool or "first"
        Whether layers have biases; "first", the default, is L19's: the first layer alone.
    spread : float, optional
        Standard deviation of all weights, whatever the fan-in, as L19 draws them; excludes
        ``scale``.

    Raises
    ------
    TypeError, ValueError
        If an argument is none of those above, or no pixel is left after a convolution.

    Notes
    -----
    Source: L19, appendices B and L. Their counts of parameters settle what they leave out. Three
    layers with 24 filters on CIFAR-10, or 34 on MNIST: stride 1, no padding, no bias in the last
    layer, as in the examples. The network of Appendix B is
    ``FilterNetwork(shape, 10, (64, 64), stride=2, padding=2, bias=False)`` with the layer of
    outputs that its description forgets; the five layers with batch normalisation are
    ``ConvNetwork(shape, 10, (32, 64, 64, 128), batch_norm=True)``, up to the number of
    parameters: no square image before the last layer gives the stated 188,810.

    Examples
    --------
    >>> FilterNetwork((3, 32, 32), 10).size
    154464
    >>> FilterNetwork((1, 28, 28), 10, (34, 34)).size
    165784
    """

    def __init__(
        self,
        shape: Sequence[int],
        classes: int,
        filters: Sequence[int] = (24, 24),
        *,
        size: int = 5,
        stride: int = 1,
        padding: int = 0,
        dense: Sequence[int] = (),
        activation: Callable[[Tensor], Tensor] = torch.relu,
        batch_norm: bool = False,
        bias: bool | Literal["first"] = "first",
        scale: float = 1.0,
        spread: float | None = None,
        seed: int = 0,
    ):
        if spread is not None and not (math.isfinite(spread) and spread > 0 and scale == 1):
            raise ValueError(
                f"spread = {spread!r} and scale = {scale!r}: the standard deviation of the weights "
                f"must be positive and finite, and is given by one of the two. Pass one."
            )
        self._geometry = (
            as_count(size, "size"),
            as_count(stride, "stride"),
            as_count(padding, "padding", least=0),
        )
        self._spread = spread
        super().__init__(
            shape,
            classes,
            filters,
            dense=dense,
            activation=activation,
            batch_norm=batch_norm,
            bias=bias,
            scale=scale,
            seed=seed,
        )

    def _build(
        self, channels: list[int], outputs: list[int], bias: bool | str, batch_norm: bool
    ) -> None:
        size, stride, padding = self._geometry
        inputs, *sides = self.shape
        for k, c in enumerate(channels):
            left = [(side + 2 * padding - size) // stride + 1 for side in sides]
            if min(left) < 1:
                raise ValueError(
                    f"Convolution {k + 1} sees images of {sides[0]} x {sides[1]}: too few pixels "
                    f"for filters of {size} x {size} with padding {padding}. Pass smaller filters, "
                    f"fewer layers, or padding={size // 2}."
                )
            own = (bias is True or (bias == "first" and k == 0)) and not batch_norm
            conv = nn.Conv2d(inputs, c, size, stride=stride, padding=padding, bias=own)
            self.layers.append(Layer(conv, nn.BatchNorm2d(c) if batch_norm else None))
            inputs, sides = c, left
        inputs *= sides[0] * sides[1]
        for units in outputs:
            self.layers.append(Layer(nn.Linear(inputs, units, bias=bias is True)))
            inputs = units

    def _draw(self, scale: float, seed: int) -> None:
        super()._draw(scale, seed)
        if self._spread is not None:
            with torch.no_grad():
                for layer in self.layers:
                    weight = layer.linear.weight
                    weight.mul_(self._spread / math.sqrt(2 / weight[0].numel()))
