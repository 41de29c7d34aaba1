r"""Linear predictors with structure: :math:`\beta = P(w)`, where P is homogeneous of degree L.

All the networks below compute :math:`\langle x, \beta\rangle`. What differs is the map from their
parameters to :math:`\beta`:

==============  ==========================================================================
kind            predictor
==============  ==========================================================================
full            the product of L matrices, :math:`\beta = W_1 W_2 \cdots W_L`
convolutional   the circular convolution :math:`\beta = w_1 * w_2 * \cdots * w_L`
diagonal        the entrywise product :math:`\beta = w_1 \odot w_2 \odot \cdots \odot w_L`
==============  ==========================================================================

The convolutional net is that of G18's eq. (3): :math:`h_l[k] = \sum_j w_l[j]\,h_{l-1}[(k + j)
\bmod D]` for l < L, and the output :math:`\langle w_L, h_{L-1}\rangle`.
"""

from __future__ import annotations

import itertools
import math
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from implicit_bias.arrays import as_array, as_count
from implicit_bias.models.kernels import Convolution, Diagonal, Full
from implicit_bias.models.parameterisation import Parameterisation

__all__ = ["LinearNetwork", "image_sides"]


def image_sides(shape: Any, d: int, axes: tuple[int, ...] = (2,)) -> tuple[int, ...]:
    """Returns the sides of an image with d pixels as ints, one for each axis.

    Parameters
    ----------
    shape : tuple of ints
    d : int
        How many pixels there must be.
    axes : tuple of ints
        The numbers of axes that have a meaning.

    Raises
    ------
    TypeError, ValueError
        If it is not a tuple of so many positive integers whose product is d.

    Examples
    --------
    >>> image_sides((2, 3), 6)
    (2, 3)
    """
    if isinstance(shape, str) or not hasattr(shape, "__iter__"):
        raise TypeError(
            f"shape = {shape!r} is not a tuple of the two sides of an image. Pass shape=(h, w) "
            f"with h w = {d}, or leave it out for signals."
        )
    sides = tuple(as_count(s, "shape") for s in shape)
    if len(sides) not in axes or math.prod(sides) != d:
        raise ValueError(
            f"shape = {sides} must be the two sides of an image with d = {d} features. Pass the "
            f"two sides of the image, (h, w) with h w = {d}, or leave it out for signals."
        )
    return sides


class LinearNetwork(Parameterisation):
    r"""A linear network of depth L: full, convolutional or diagonal.

    Parameters
    ----------
    kind : str
        "full", "convolutional" or "diagonal".
    d : int
        Number of features.
    depth : int
        L, the number of layers, at least 1.
    width : int, optional
        The hidden width of "full" (default d); the width K of the L - 1 filters of
        "convolutional" (default full, K = d; with a two-dimensional ``shape`` a filter is
        K by K). The output layer always has d weights.
    outputs : int
        k, the number of outputs of "full"; the others have one.
    shape : tuple of two ints, optional
        For "convolutional": the features are an image (h, w), row by row, and convolutions are
        circular in both axes.

    Attributes
    ----------
    size : int
        The number of parameters P.
    output_shape : tuple
        (d,), or (d, k) with several outputs.

    Raises
    ------
    TypeError, ValueError
        If an argument is out of range or has no meaning for this kind.

    Notes
    -----
    Source: G18, eqs. (1) to (3) and section 5. Where the paper's closed form of the convolutional
    map disagrees with its network, this is the network: :math:`\beta` is the circular convolution
    of all layers.

    Examples
    --------
    >>> network = LinearNetwork("convolutional", 3, depth=2)
    >>> network.predictor([[1.0, 2.0, 3.0], [0.0, 1.0, 0.0]]).round(decimals=10)
    tensor([3., 1., 2.], dtype=torch.float64)
    >>> LinearNetwork("full", 4, depth=3, width=2).size
    14
    """

    size: int
    output_shape: tuple[int, ...]

    def __init__(
        self,
        kind: Literal["full", "convolutional", "diagonal"],
        d: int,
        depth: int,
        width: int | None = None,
        outputs: int = 1,
        shape: tuple[int, int] | None = None,
    ):
        if kind not in ("full", "convolutional", "diagonal"):
            raise ValueError(
                f"There is no network of kind {kind!r}. Choose 'full', 'convolutional' or "
                f"'diagonal'; for a map of your own use Parameterisation."
            )
        self.kind: str = kind
        self.d, self.depth = as_count(d, "d"), as_count(depth, "depth")
        self.degree, self.homogeneous = self.depth, True
        self.outputs = as_count(outputs, "outputs")
        if self.outputs > 1 and kind != "full":
            raise ValueError(
                f"outputs = {outputs}: a {kind} network here has one output, for its last layer "
                f"is a vector. Use kind='full'."
            )
        if width is not None and kind == "diagonal":
            raise ValueError(
                "A diagonal network has as many hidden units as features, so width has no "
                "meaning for it. Leave it out."
            )
        self.width = self.d if width is None else as_count(width, "width")
        self.shape = self._image(shape)
        self.output_shape = (self.d,) if self.outputs == 1 else (self.d, self.outputs)
        if kind == "diagonal":
            self.kernel = Diagonal(self.d, self.depth)
            self.size = self.d * self.depth
        elif kind == "full":
            hidden = (self.width,) * (self.depth - 1)
            full = Full((self.d, *hidden, self.outputs))
            self.kernel, self.size = full, int(full.ends[-1])
        else:
            taps = self._taps(width)
            self.kernel = Convolution(self.shape, taps, self.depth)
            self.size = taps.size * (self.depth - 1) + self.d

    def _image(self, shape: tuple[int, int] | None) -> tuple[int, ...]:
        if shape is None:
            return (self.d,)
        if self.kind != "convolutional":
            raise ValueError(
                f"shape = {shape}: two sides of an image have a meaning for convolutions only, not "
                f"for a {self.kind} network. Leave it out."
            )
        return image_sides(shape, self.d)

    def _taps(self, width: int | None) -> NDArray[np.intp]:
        """Positions of the weights of a filter in the flattened signal."""
        if width is None:
            return np.arange(self.d)
        if self.width > min(self.shape):
            raise ValueError(
                f"width = {width} exceeds the signal, of shape {self.shape}: a circular filter "
                f"that wraps around itself has redundant weights. Pass at most "
                f"{min(self.shape)}, or None for full width."
            )
        axes = [np.arange(self.width)] * len(self.shape)
        grid = np.meshgrid(*axes, indexing="ij")
        return np.ravel_multi_index(tuple(g.reshape(-1) for g in grid), self.shape)

    def __repr__(self) -> str:
        return f"LinearNetwork({self.kind!r}, d={self.d}, depth={self.depth}, size={self.size})"

    def _layout(self) -> str:
        first = "x".join(str(s) for s in self._shapes()[0])
        return (
            f"this {self.kind} network of depth {self.depth} has {self.size} parameters (the "
            f"first layer {first}). Pass a flat vector, or an array of shape (L, d) where all "
            f"layers have d weights"
        )

    def _shapes(self) -> list[tuple[int, ...]]:
        """The shapes of the layers."""
        if self.kind == "full":
            hidden = (self.width,) * (self.depth - 1)
            widths = (self.d, *hidden, self.outputs)
            return list(itertools.pairwise(widths))
        if self.kind == "diagonal" or self.depth == 1:
            return [(self.d,) for _ in range(self.depth)]
        filters = ((self.size - self.d) // (self.depth - 1),)
        return [*([filters] * (self.depth - 1)), (self.d,)]

    def flat(self, w: Any, name: str = "w") -> NDArray[np.float64]:
        """Returns the parameters as a NumPy vector of shape (P,), checked.

        Parameters
        ----------
        w : array
            Flat; or of shape (L, d), one row a layer, where all layers have d weights; or the one
            matrix of a network of one layer. Any other array of P numbers is refused: read row by
            row, the layers as columns would be another network.
        name : str
            What the caller knows it as.

        Raises
        ------
        TypeError, ValueError
            If they are not finite real numbers, or not of such a shape.

        Examples
        --------
        >>> LinearNetwork("diagonal", 2, 2).flat([[1, 2], [3, 4]])
        array([1., 2., 3., 4.])
        """
        vector = super().flat(w, name)
        shape, layers = tuple(as_array(w).shape), self._shapes()
        allowed = [layers[0]] if len(layers) == 1 else []
        if all(math.prod(layer) == self.d for layer in layers):
            allowed.append((self.depth, self.d))
        if len(shape) > 1 and shape not in allowed:
            raise ValueError(
                f"{name} has shape {shape}, {vector.size} numbers, but {self._layout()}."
            )
        return vector

    def split(self, w: Any) -> list[Tensor]:
        """Returns the layers, of shapes (d, width), ... or (d,) or (K,), for any w of P numbers.

        Examples
        --------
        >>> [tuple(v.shape) for v in LinearNetwork("full", 5, 2, width=3).split(torch.ones(18))]
        [(5, 3), (3, 1)]
        """
        vector = torch.from_numpy(self.flat(w)).to(self._device(w))
        shapes = self._shapes()
        parts = vector.split([math.prod(s) for s in shapes])
        return [part.reshape(s) for part, s in zip(parts, shapes, strict=True)]
