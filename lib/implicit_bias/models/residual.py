r"""Residual networks without weights in their shortcuts.

A block adds its input to what two convolutions make of it,

.. math:: h' = s(a\,Sh + W_2 * s(W_1 * h + b_1) + b_2) ,

with :math:`a = 1` and S the identity, or subsampling with channels of zeros appended where the
block halves the image. It is not homogeneous in :math:`W_1, W_2` alone: the sum is not scaled
along. It is in :math:`(a, W_2, b_2)` together, which is why the weight a of the shortcut is part
of the block here.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from implicit_bias.arrays import as_count
from implicit_bias.models.deep_conv import Layer

__all__ = ["ResidualBlock", "ResidualNetwork"]


class ResidualBlock(nn.Module):
    """Two convolutions around which the input passes by.

    Attributes
    ----------
    first, second : Layer
        The convolutions, with batch normalisation if there is one.
    shortcut : Tensor, shape ()
        The weight a of what passes by; a buffer, 1 unless the network has been normalised.
    stride : int

    Examples
    --------
    >>> ResidualNetwork((1, 8, 8), 10, widths=(4,)).blocks[0].shortcut
    tensor(1.)
    """

    shortcut: Tensor

    def __init__(self, inputs: int, outputs: int, stride: int, batch_norm: bool, bias: bool):
        super().__init__()
        own = bias and not batch_norm
        norms = [nn.BatchNorm2d(outputs) if batch_norm else None for _ in range(2)]
        self.first = Layer(nn.Conv2d(inputs, outputs, 3, stride, 1, bias=own), norms[0])
        self.second = Layer(nn.Conv2d(outputs, outputs, 3, 1, 1, bias=own), norms[1])
        self.stride, self._new = stride, outputs - inputs
        self.register_buffer("shortcut", torch.tensor(1.0))

    def forward(self, h: Tensor, activation: Callable[[Tensor], Tensor]) -> Tensor:
        """Returns the sum of both ways, after the activation."""
        past = F.pad(h[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self._new))
        return activation(self.shortcut * past + self.second(activation(self.first(h))))


class ResidualNetwork(nn.Module):
    r"""A residual network: a convolution, blocks, the mean over pixels, a dense layer.

    Parameters
    ----------
    shape : sequence of three ints
        Channels, height and width of an image: ``data.images.shape[1:]``.
    classes : int
        Number of outputs.
    widths : sequence of int
        Channels of each stage, not decreasing; each stage but the first halves height and width,
        rounding up.
    blocks : int
        Blocks in each stage.
    activation : callable
        From tensors to tensors, entry by entry.
    batch_norm : bool
        Whether a batch normalisation follows each convolution, in place of its bias.
    bias : bool
        Whether layers have biases.
    scale : float
        Weights are drawn with standard deviation :math:`\text{scale}\sqrt{2/\text{fan-in}}`;
        biases start at zero.
    seed : int
        Of the weights.

    Attributes
    ----------
    stem : Layer
    blocks : ModuleList of ResidualBlock
    head : Layer
    activation : callable
    shape : tuple of ints
    size : int
        Number of parameters.

    Raises
    ------
    TypeError, ValueError
        If a width is not a positive integer or is less than the one before, or an argument is
        none of those above.

    Notes
    -----
    Source: L19, Appendix L.3, whose 56 layers are those of He et al. (2015): widths (16, 32, 64)
    and 9 blocks. Smaller ones here. Parameters are in float32; ``network.double()`` changes that.

    Examples
    --------
    >>> network = ResidualNetwork((1, 8, 8), 10, widths=(4, 8))
    >>> network(torch.zeros(5, 1, 8, 8)).shape, network.size
    (torch.Size([5, 10]), 1334)
    """

    def __init__(
        self,
        shape: Sequence[int],
        classes: int,
        widths: Sequence[int] = (16, 32, 64),
        blocks: int = 1,
        *,
        activation: Callable[[Tensor], Tensor] = torch.relu,
        batch_norm: bool = True,
        bias: bool = True,
        scale: float = 1.0,
        seed: int = 0,
    ):
        super().__init__()
        if len(shape) != 3:
            raise ValueError(
                f"shape = {tuple(shape)} is not that of an image. Pass (channels, height, width), "
                f"such as data.images.shape[1:]."
            )
        self.shape = tuple(as_count(s, "an entry of shape") for s in shape)
        channels = [as_count(w, "an entry of widths") for w in widths]
        if not channels or channels != sorted(channels):
            raise ValueError(
                f"widths = {tuple(widths)}: a shortcut has no weights and can append channels, "
                f"not drop any. Pass one or more widths that do not decrease, such as (16, 32)."
            )
        if not callable(activation):
            raise TypeError(
                f"activation = {activation!r} cannot be applied to a tensor. Pass a function, "
                f"such as torch.relu or torch.tanh."
            )
        if not isinstance(bias, bool):
            raise ValueError(f"bias = {bias!r}; pass True or False.")
        if not (math.isfinite(scale) and scale > 0):
            raise ValueError(
                f"scale = {scale!r} must be positive: with all weights at zero, or not finite, "
                f"nothing would be learned."
            )
        blocks, classes = as_count(blocks, "blocks"), as_count(classes, "classes")
        seed = as_count(seed, "seed", least=0)
        self.activation = activation
        with torch.random.fork_rng(devices=[]):  # torch's own draws, all of them replaced
            first, own = channels[0], bias and not batch_norm
            self.stem = Layer(
                nn.Conv2d(self.shape[0], first, 3, 1, 1, bias=own),
                nn.BatchNorm2d(first) if batch_norm else None,
            )
            self.blocks: Any = nn.ModuleList()
            before = first
            for stage, c in enumerate(channels):
                for b in range(blocks):
                    stride = 2 if stage and not b else 1
                    self.blocks.append(ResidualBlock(before, c, stride, batch_norm, bias))
                    before = c
            self.head = Layer(nn.Linear(before, classes, bias=bias))
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for layer in self.layers:
                weight: Tensor = layer.linear.weight
                spread = scale * math.sqrt(2 / weight[0].numel())
                weight.copy_(spread * torch.randn(weight.shape, generator=generator))
                if layer.linear.bias is not None:
                    layer.linear.bias.zero_()

    @property
    def layers(self) -> list[Layer]:
        """All layers with weights, in order."""
        inner = [layer for block in self.blocks for layer in (block.first, block.second)]
        return [self.stem, *inner, self.head]

    @property
    def size(self) -> int:
        """Number of parameters."""
        return sum(p.numel() for p in self.parameters())

    def features(self, x: Tensor) -> Tensor:
        """Returns what the last block puts out, shape (n, channels, height, width)."""
        if x.ndim != 4 or tuple(x.shape[1:]) != self.shape:
            raise ValueError(
                f"x has shape {tuple(x.shape)}; this network sees images of shape "
                f"(n, {', '.join(map(str, self.shape))}). A single image is x[None]."
            )
        h = self.activation(self.stem(x))
        for block in self.blocks:
            h = block(h, self.activation)
        return h

    def forward(self, x: Tensor) -> Tensor:
        """Returns the outputs, shape (n, classes), for images x (n, channels, height, width)."""
        outputs: Tensor = self.head(self.features(x).mean((2, 3)))
        return outputs

    def without_batch_norm(self) -> ResidualNetwork:
        """Returns a copy, equal in evaluation mode, whose weights and biases hold what batch
        normalisation did.
        """
        twin = copy.deepcopy(self).eval()
        for layer in twin.layers:
            if layer.norm is not None and isinstance(layer.linear, nn.Conv2d):
                layer.linear = nn.utils.fuse_conv_bn_eval(layer.linear, layer.norm)
                layer.norm = None
        return twin
