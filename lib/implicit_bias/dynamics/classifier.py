r"""Convolutional networks trained on images by full-batch descent.

The loss is the **mean** cross-entropy of n images (1/n of the book's sums over examples: a step s
here is a step s/n on the sum), and heavy-ball descent goes down it,

.. math:: v \leftarrow \mu v + \nabla L(w),\qquad w \leftarrow w - s\,v .
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from implicit_bias.arrays import as_count
from implicit_bias.images import ImageData
from implicit_bias.models.deep_conv import ConvNetwork

__all__ = ["ClassifierRun", "train_classifier"]

_EXPLODED = 1e6  # a mean cross-entropy that no classifier comes back from


@dataclass(frozen=True, eq=False)
class ClassifierRun:
    """A network after training, and the training.

    Attributes
    ----------
    network : ConvNetwork
        A trained copy, in evaluation mode; where the run diverged, as it was just before.
    losses : Tensor, shape (steps + 1,), float64
        Mean cross-entropy of the training images before each step and at the end, in training
        mode. Of a run that diverged, the finite ones.
    errors : Tensor, shape (steps + 1,)
        Share of them that are classified wrongly.
    stopped : str
        "fitted" (all training images right), "budget" (out of steps) or "diverged" (a loss or a
        gradient that is not finite, or a loss above a million).
    steps : int

    Examples
    --------
    >>> data = ImageData(torch.tensor([0.0, 1.0]).reshape(2, 1, 1, 1), [0, 1], ["dark", "light"])
    >>> run = train_classifier(ConvNetwork((1, 1, 1), 2, (8,)), data, until="fitted")
    >>> run.stopped, float(run.errors[-1])
    ('fitted', 0.0)
    """

    network: ConvNetwork
    losses: Tensor
    errors: Tensor
    stopped: str
    steps: int


def positive(value: Any, name: str) -> float:
    if not (isinstance(value, (int, float)) and math.isfinite(value) and value > 0):
        raise ValueError(f"{name} = {value!r} must be a positive number.")
    return float(value)


def check_classifier(network: Any, *parts: Any) -> None:
    if not isinstance(network, ConvNetwork):
        raise TypeError(
            f"network is a {type(network).__name__}, not a ConvNetwork. Pass one, such as "
            f"ConvNetwork(data.images.shape[1:], len(data.classes))."
        )
    for part in parts:
        if not isinstance(part, ImageData):
            raise TypeError(
                f"data are of type {type(part).__name__}, not ImageData. Pass ImageData(images, "
                f"labels, classes), or what a loader such as load_digits() returns."
            )
        outputs = network.layers[-1].linear.out_features
        if len(part.classes) != outputs:
            raise ValueError(
                f"The network has {outputs} outputs and the data {len(part.classes)} classes. "
                f"Build it with classes=len(data.classes)."
            )


def _inputs(network: ConvNetwork, data: ImageData) -> Tensor:
    return data.images.to(next(network.parameters()).dtype)


def _wrong(logits: Tensor, labels: Tensor) -> float:
    return float((logits.argmax(1) != labels).double().mean())


def _entropy(logits: Tensor, labels: Tensor) -> float:
    # In float64: confident nets have losses below float32's rounding of 1.
    return float(nn.functional.cross_entropy(logits.double(), labels))


def measured(network: ConvNetwork, data: ImageData) -> tuple[Tensor, float, float]:
    with torch.no_grad():
        logits = network(_inputs(network, data))
    return logits, _entropy(logits, data.labels), _wrong(logits, data.labels)


def train_classifier(
    network: ConvNetwork,
    data: ImageData,
    steps: int = 2000,
    step: float = 0.1,
    momentum: float = 0.9,
    clip: float | None = None,
    until: Literal["steps", "fitted"] = "steps",
) -> ClassifierRun:
    r"""Returns a copy of the network after full-batch descent on the mean cross-entropy.

    Parameters
    ----------
    network : ConvNetwork
        Left as it is.
    data : ImageData
    steps : int
        Budget.
    step : float
        For the mean over the images: on the sum it would be step / n.
    momentum : float
        Of the heavy ball, in [0, 1).
    clip : float, optional
        Gradients of larger norm (all parameters together) are scaled down to it.
    until : str
        "steps": all of them; "fitted": until every training image is classified correctly.

    Returns
    -------
    ClassifierRun
        A run that diverges says so in ``stopped``: no error is raised.

    Raises
    ------
    TypeError, ValueError
        If network and data do not fit, or an argument is out of range.

    Notes
    -----
    Source: P18, Figures 3, 9 and 14 (descent on the cross-entropy; step size and momentum are not
    given there). Deterministic. Batch normalisation sees all images at once, and ends with their
    statistics as its own: in evaluation mode the network is the one that was trained.

    Examples
    --------
    >>> data = ImageData(torch.tensor([0.0, 1.0]).reshape(2, 1, 1, 1), [0, 1], ["dark", "light"])
    >>> run = train_classifier(ConvNetwork((1, 1, 1), 2, (8,)), data, steps=20)
    >>> run.stopped, run.losses.shape
    ('budget', torch.Size([21]))
    """
    check_classifier(network, data)
    if until not in ("steps", "fitted"):
        raise ValueError(f"until = {until!r}; pass 'steps' or 'fitted'.")
    step = positive(step, "step")
    if not 0 <= momentum < 1:
        raise ValueError(f"momentum = {momentum!r} must lie in [0, 1): 0 is plain descent.")
    if clip is not None:
        clip = positive(clip, "clip")
    return descend(network, data, as_count(steps, "steps"), step, momentum, clip, until == "fitted")


def descend(
    network: ConvNetwork,
    data: ImageData,
    steps: int,
    step: float,
    momentum: float,
    clip: float | None,
    stop: bool,
) -> ClassifierRun:
    twin = copy.deepcopy(network).train()
    x, labels = _inputs(twin, data), data.labels
    weights = list(twin.parameters())
    velocity = [torch.zeros_like(w) for w in weights]
    losses: list[float] = []
    errors: list[float] = []
    before, stopped = [w.detach().clone() for w in weights], "budget"
    for k in range(steps + 1):
        logits = twin(x)
        loss = nn.functional.cross_entropy(logits, labels)
        value = float(loss.detach())
        grads = torch.autograd.grad(loss, weights)
        size = float(torch.stack([g.double().norm() for g in grads]).norm())
        if not (value <= _EXPLODED and math.isfinite(size)):  # NaN fails too
            stopped = "diverged"
            with torch.no_grad():
                for w, old in zip(weights, before, strict=True):
                    w.copy_(old)
            break
        losses.append(value)
        errors.append(_wrong(logits.detach(), labels))
        if stop and errors[-1] == 0:
            stopped = "fitted"
            break
        if k == steps:
            break
        factor = 1.0 if clip is None or size <= clip else clip / size
        with torch.no_grad():
            for w, old, v, g in zip(weights, before, velocity, grads, strict=True):
                old.copy_(w)
                v.mul_(momentum).add_(g, alpha=factor)
                w.sub_(v, alpha=step)
    _own_statistics(twin, x)
    return ClassifierRun(
        twin.eval(),
        torch.tensor(losses, dtype=torch.float64),
        torch.tensor(errors, dtype=torch.float64),
        stopped,
        max(len(losses) - 1, 0),
    )


def _own_statistics(network: ConvNetwork, x: Tensor) -> None:
    """Give batch normalisation the statistics of x."""
    norms = [layer.norm for layer in network.layers if layer.norm is not None]
    kept = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 1.0
    if norms:
        with torch.no_grad():
            network(x)
    for norm, momentum in zip(norms, kept, strict=True):
        norm.momentum = momentum
