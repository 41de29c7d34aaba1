r"""The layers of a network as matrices: their norms, and the norm over paths.

A ReLU network is a sum over paths from an input, or a bias, to an output: of the product of the
weights along the path, where the path is switched on. The path norm

.. math:: \Big(\sum_{\text{paths}}\prod_{w \in \text{path}}|w|^p\Big)^{1/p}

is the network with all weights replaced by :math:`|w|^p`, on an image of ones. Multiplying what
comes into a channel by c and what goes out of it by 1/c changes no path, though it changes the
norms of layers.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from implicit_bias.arrays import as_count, as_real
from implicit_bias.models.deep_conv import ConvNetwork
from implicit_bias.models.residual import ResidualBlock, ResidualNetwork

__all__ = ["layer_norms", "path_norm"]

Order = float | str | tuple[float, float]

LINEAR = (nn.Linear, nn.Conv1d, nn.Conv2d)
_BATCH_NORM = (nn.BatchNorm1d, nn.BatchNorm2d)
_POOLING = (
    *(nn.MaxPool1d, nn.MaxPool2d, nn.AvgPool1d, nn.AvgPool2d),
    *(nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d),
)
_HOMOGENEOUS = (
    *(nn.ReLU, nn.LeakyReLU, nn.Identity, nn.Flatten, nn.Dropout, nn.Dropout2d),
    *_POOLING,
)


def _is_homogeneous(activation: Callable[[Tensor], Tensor]) -> bool:
    """Whether s(cz) = c s(z), measured at both signs of sixteen orders of magnitude."""
    sizes = torch.logspace(-8, 8, 65, dtype=torch.float64)
    z = torch.cat([-sizes, sizes])[:, None]
    with torch.no_grad():
        once = activation(z.clone())
        return all(
            torch.allclose(activation(c * z), c * once, rtol=1e-12, atol=0)
            for c in (0.5, 3.0, 1e4, 1e-4)
        )


def _flat(model: nn.Sequential) -> Iterator[nn.Module]:
    for part in model:
        yield from _flat(part) if type(part) is nn.Sequential else (part,)


def _absorbed(model: nn.Sequential) -> nn.Sequential:
    """The same without batch normalisation, and without sequences in the sequence."""
    parts: list[nn.Module] = []
    for part in _flat(model):
        if not isinstance(part, _BATCH_NORM):
            parts.append(part)
        elif parts and isinstance(parts[-1], nn.Linear):
            parts[-1] = nn.utils.fuse_linear_bn_eval(parts[-1], part)
        elif parts and isinstance(parts[-1], (nn.Conv1d, nn.Conv2d)):
            parts[-1] = nn.utils.fuse_conv_bn_eval(parts[-1], part)
        else:
            raise ValueError(
                "A batch normalisation does not follow a linear layer or a convolution directly, "
                "so there are no weights that could absorb it. Put it before the activation."
            )
    return nn.Sequential(*parts)


def prepared(model: Any, homogeneous: bool = True) -> Any:
    """A float64 copy in evaluation mode, without batch normalisation, that can be rescaled."""
    if not isinstance(model, (ConvNetwork, ResidualNetwork, nn.Sequential)):
        raise TypeError(
            f"The layers of a {type(model).__name__} are not known here. Pass a ConvNetwork, a "
            f"FilterNetwork, a ResidualNetwork, or an nn.Sequential of layers."
        )
    if type(model).forward not in (
        c.forward for c in (ConvNetwork, ResidualNetwork, nn.Sequential)
    ):
        raise TypeError(
            f"{type(model).__name__} has its own forward, and what it does between the layers is "
            f"not known here. Write it as an nn.Sequential."
        )
    if any(
        isinstance(m, LINEAR) and not m._parameters.keys() >= {"weight", "bias"}
        for m in model.modules()
    ):
        raise ValueError(
            "A layer's weights are computed from others (weight normalisation, a mask), and "
            "dividing them would not last. Make them parameters, for example with "
            "torch.nn.utils.parametrize.remove_parametrizations."
        )
    names = [id(p) for _, p in model.named_parameters(remove_duplicate=False)]
    if len(set(names)) < len(names):
        raise ValueError(
            "Two layers share their weights: dividing one divides the other. Give each its own."
        )
    for name, p in model.named_parameters():
        as_real(p, f"parameter {name}")
    for name, b in model.named_buffers():
        as_real(b, f"buffer {name}")
    for name, m in model.named_modules():
        if isinstance(m, _BATCH_NORM) and m.running_mean is None:
            raise ValueError(
                f"The batch normalisation {name} keeps no running mean, so that the network's "
                f"answer to one image depends on the others: it is not a function of the image. "
                f"Use track_running_stats=True."
            )
    twin = copy.deepcopy(model).double().eval()
    twin = _absorbed(twin) if isinstance(twin, nn.Sequential) else twin.without_batch_norm()
    if isinstance(twin, nn.Sequential):
        for part in twin:
            # Exact types: a subclass may do something else.
            if type(part) not in (*LINEAR, *_HOMOGENEOUS) and (
                homogeneous or next(part.parameters(), None) is not None
            ):
                raise ValueError(
                    f"{type(part).__name__} is not known to be homogeneous, s(cz) = c s(z) for "
                    f"c > 0, and f is not a product of norms times a normalised f. Use ReLU, "
                    f"LeakyReLU, pooling, linear layers and convolutions."
                )
    elif homogeneous and not _is_homogeneous(twin.activation):
        raise ValueError(
            f"The activation {model.activation!r} is not homogeneous, s(cz) = c s(z) for c > 0, "
            f"and f is not a product of norms times a normalised f. Use torch.relu."
        )
    for name, p in twin.named_parameters():
        if not bool(torch.isfinite(p).all()):
            raise ValueError(
                f"A batch normalisation divides by a variance so small that {name}, which absorbs "
                f"it, leaves float64. Give it a larger eps."
            )
    if not linears(twin):
        raise ValueError("The model has no linear layer or convolution: nothing has a norm.")
    return twin


def units(twin: Any) -> list[Any]:
    """The linear maps and the residual blocks, in order."""
    if isinstance(twin, nn.Sequential):
        return [part for part in twin if isinstance(part, LINEAR)]
    if isinstance(twin, ResidualNetwork):
        return [twin.stem.linear, *twin.blocks, twin.head.linear]
    return [layer.linear for layer in twin.layers]


def linears(twin: Any) -> list[Any]:
    """The linear maps alone, those in blocks too."""
    return [
        linear
        for unit in units(twin)
        for linear in (
            (unit.first.linear, unit.second.linear) if isinstance(unit, ResidualBlock) else (unit,)
        )
    ]


def as_orders(order: Any) -> tuple[float, float] | Literal["spectral"]:
    """Exponents (within, across) units of a norm by entries, or "spectral"."""
    named = {"fro": (2.0, 2.0), "l1": (1.0, 1.0)}
    if order == "spectral" or (isinstance(order, str) and order in named):
        return named.get(order, "spectral")
    pair = order if isinstance(order, tuple) and len(order) == 2 else (order, order)
    try:
        within, across = (float(p) for p in pair)
    except (TypeError, ValueError):
        within = across = math.nan
    if isinstance(order, str) or not min(within, across) >= 1:
        raise ValueError(
            f"order = {order!r} is not a norm known here. Pass 'fro', 'spectral', 'l1', a number "
            f"p >= 1 (of all entries), or a pair such as (2, 1): the sum over a layer's units of "
            f"the 2-norm of what comes in."
        )
    return within, across


def size_of(linear: Any, order: tuple[float, float] | str, with_bias: bool) -> float:
    """The norm of a layer's weights as a matrix with a row for each unit."""
    matrix = linear.weight.detach().reshape(linear.weight.shape[0], -1)
    if with_bias and linear.bias is not None:
        matrix = torch.cat([matrix, linear.bias.detach()[:, None]], 1)
    largest = float(matrix.abs().max())
    if not largest:
        return 0.0
    unit = matrix / largest  # no square overflows or underflows
    if isinstance(order, str):
        return largest * float(torch.linalg.matrix_norm(unit, 2))
    within, across = order
    rows = torch.linalg.vector_norm(unit, within, dim=1)
    return largest * float(torch.linalg.vector_norm(rows, across))


def layer_norms(model: Any, order: Order = "fro", first_bias: bool = True) -> Tensor:
    r"""Returns the norm of each layer's weights, batch normalisation absorbed; shape (layers,).

    Parameters
    ----------
    model : ConvNetwork, FilterNetwork, ResidualNetwork, or Sequential
        Homogeneous or not.
    order : str, float or pair
        "fro"; "spectral", the largest singular value; "l1" or 1, the sum of absolute values; any
        p >= 1, the p-norm of all entries; (p, q), the q-norm over units of the p-norm of the
        weights that come in, such as (2, 1). A convolution's weights are taken as the matrix
        (filters, inputs times pixels of a filter), each number once, as L19 takes them.
    first_bias : bool
        Whether the first layer's bias, be it one that batch normalisation left there, is a column
        of its weights; others never count.

    Raises
    ------
    TypeError, ValueError
        If the model's layers or the norm are not known, or a parameter or what batch normalisation
        keeps is not finite.

    Notes
    -----
    Source: L19, section 1. The spectral norm of a convolution's weights is not that of the linear
    map on images, which is larger by up to the square root of the number of positions at which the
    filter sees one pixel. The (2, 1) norm is that of Bartlett, Foster and Telgarsky (2017),
    of the transpose.

    Examples
    --------
    >>> model = nn.Sequential(nn.Linear(2, 1), nn.ReLU(), nn.Linear(1, 1))
    >>> with torch.no_grad():
    ...     for p, v in zip(model.parameters(), ([[2.0, 1.0]], [2.0], [[5.0]], [7.0])):
    ...         _ = p.copy_(torch.tensor(v))
    >>> layer_norms(model), layer_norms(model, "l1", first_bias=False)
    (tensor([3., 5.], dtype=torch.float64), tensor([3., 5.], dtype=torch.float64))
    """
    orders = as_orders(order)
    layers = linears(prepared(model, homogeneous=False))
    sizes = [size_of(linear, orders, first_bias and not k) for k, linear in enumerate(layers)]
    return torch.tensor(sizes, dtype=torch.float64, device=layers[0].weight.device)


def _over_paths(twin: Any, ones: Tensor, p: float) -> float:
    """The sum over paths of products to the power p; for p = 0 the number of those not zero."""

    def raise_(w: Tensor) -> None:
        w.copy_(w.abs() ** p if p else w.abs().sign())

    with torch.no_grad():
        for w in twin.parameters():
            raise_(w)
        if isinstance(twin, ResidualNetwork):
            for block in twin.blocks:
                raise_(block.shortcut)
            # Each path goes through the mean over pixels: a weight of 1 in their number.
            pixels = math.prod(twin.features(ones).shape[2:])
            twin.head.linear.weight.mul_(pixels ** (1 - p))
        return float(twin(ones).sum())


def path_norm(model: Any, p: float = 2.0, shape: Sequence[int] | None = None) -> float:
    r"""Returns the norm over paths, a measure of size that no rescaling of channels changes.

    Parameters
    ----------
    model : ConvNetwork, FilterNetwork, ResidualNetwork, or Sequential
        With positively homogeneous activations, which count as 1. Batch normalisation is absorbed.
    p : float
        Exponent, at least 1.
    shape : sequence of int, optional
        Of one input; needed for a Sequential alone.

    Raises
    ------
    TypeError, ValueError
        If the model is not homogeneous or has a pooling layer, p is less than 1 or so large that
        powers leave float64, or the shape is missing.

    Notes
    -----
    Source: Neyshabur, Tomioka and Srebro (2015). Paths that begin at a bias are counted, and a
    shortcut is a weight as others are. It grows with f as f does: for ``record = normalise(f)``
    it is ``record.rho`` times that of ``record.model``.

    Examples
    --------
    >>> model = nn.Sequential(nn.Linear(2, 2, bias=False), nn.ReLU(), nn.Linear(2, 1, bias=False))
    >>> with torch.no_grad():
    ...     for p, v in zip(model.parameters(), ([[1.0, 2.0], [0.0, 3.0]], [[5.0, 1.0]])):
    ...         _ = p.copy_(torch.tensor(v))
    >>> path_norm(model, 1.0, shape=(2,))  # 1 * 5 + 2 * 5 + 3 * 1
    18.0
    """
    if not (isinstance(p, (int, float)) and 1 <= p < math.inf):
        raise ValueError(f"p = {p!r}: the path norm is a norm for numbers p >= 1. Pass 1 or 2.")
    twin = prepared(model)
    if isinstance(twin, nn.Sequential):
        if shape is None:
            raise ValueError("A Sequential does not say what it sees. Pass shape, of one input.")
        if any(isinstance(part, _POOLING) for part in twin):
            raise ValueError(
                "A pooling layer has no weights, or only implied ones, to take the power of. Pass "
                "a model without pooling."
            )
    else:
        shape, twin.activation = twin.shape, nn.Identity()
    ones = torch.ones(1, *(as_count(s, "an entry of shape") for s in shape))
    ones = ones.to(next(twin.parameters()))
    total = _over_paths(copy.deepcopy(twin), ones, p)
    # Powers may vanish that are not zero.
    lost = total < 1e-290 and _over_paths(twin, ones, 0) > 0
    if lost or not total < math.inf:
        raise ValueError(
            f"The sum over paths of products to the power {p} is {total}, outside float64. Pass a "
            f"smaller p, or the normalised model."
        )
    return float(total ** (1 / p))
