r"""Networks that are perturbed and trained again, many times.

A kick adds Gaussian noise to the weights of every layer, of standard deviation
:math:`\epsilon\,\mathrm{rms}(W_l)`: of the weights as they are (relative), or as they were before
the first kick (fixed).
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, fields
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from implicit_bias.arrays import as_count
from implicit_bias.dynamics.classifier import check_classifier, descend, measured, positive
from implicit_bias.images import ImageData
from implicit_bias.models.deep_conv import ConvNetwork

__all__ = ["Perturbed", "perturb_and_retrain"]


@dataclass(frozen=True, eq=False)
class Perturbed:
    """A network that was kicked and trained again, many times.

    Entry k of a column belongs to the time after k kicks and as many retrainings; the columns of
    the kicks themselves are NaN in entry 0.

    Attributes
    ----------
    network : ConvNetwork
        As it is at the end.
    train_loss, train_error, test_loss, test_error : Tensor, shape (times + 1,), float64
        Mean cross-entropy, and share of wrong answers.
    logits : Tensor, shape (times + 1, n_test, classes)
        Outputs for the test images, for ``best_temperature``.
    squared_norm : Tensor
        Of the weights of all layers, without biases.
    kicked_loss, kicked_error, kicked_norm : Tensor
        Training loss, training error and squared norm just after the kick.
    expected_gain : Tensor
        :math:`\\sum_l \\sigma_l^2 p_l`, what the kick adds to the squared norm on average.
    needed : Tensor
        Steps of retraining before all training images were right; NaN if they never were.
    stopped : str
        "done"; or "diverged", or "not fitted" (out of steps after ``steps`` and ``more``), after
        which the columns are NaN.

    Examples
    --------
    >>> data = ImageData(torch.tensor([0.0, 1.0]).reshape(2, 1, 1, 1), [0, 1], ["dark", "light"])
    >>> from implicit_bias.dynamics.classifier import train_classifier
    >>> run = train_classifier(ConvNetwork((1, 1, 1), 2, (8,)), data, until="fitted")
    >>> kicked = perturb_and_retrain(run.network, data, data, times=3, steps=10)
    >>> kicked.stopped, kicked.train_error
    ('done', tensor([0., 0., 0., 0.], dtype=torch.float64))
    """

    network: ConvNetwork
    train_loss: Tensor
    train_error: Tensor
    test_loss: Tensor
    test_error: Tensor
    logits: Tensor
    squared_norm: Tensor
    kicked_loss: Tensor
    kicked_error: Tensor
    kicked_norm: Tensor
    expected_gain: Tensor
    needed: Tensor
    stopped: str


def _sizes(network: ConvNetwork, size: float) -> list[float]:
    """Standard deviation of the noise in each layer."""
    return [
        size * float(layer.linear.weight.detach().double().square().mean().sqrt())
        for layer in network.layers
    ]


def _squared(network: ConvNetwork) -> float:
    return sum(
        float(layer.linear.weight.detach().double().square().sum()) for layer in network.layers
    )


def perturb_and_retrain(
    network: ConvNetwork,
    train: ImageData,
    test: ImageData,
    noise: Literal["relative", "fixed"] = "relative",
    size: float = 0.25,
    times: int = 20,
    steps: int = 100,
    more: int = 2000,
    step: float = 0.1,
    momentum: float = 0.9,
    seed: int = 0,
) -> Perturbed:
    r"""Returns what happens to a trained network that is kicked and retrained again and again.

    Parameters
    ----------
    network : ConvNetwork
        Trained, best until "fitted". Left as it is.
    train, test : ImageData
    noise : str
        Noise in layer l has standard deviation ``size`` times the root mean square of the layer's
        weights: as they are before each kick ("relative"), or before the first ("fixed"). The
        first kick is the same in both.
    size : float
        0 for no noise at all, the control.
    times : int
        Number of kicks.
    steps : int
        Of descent after each kick, with the velocity at zero.
    more : int
        Budget of further steps until the training error is zero.
    step, momentum : float
        As in ``train_classifier``.
    seed : int
        Of the noise, drawn on the CPU, from another stream than the weights of that seed.

    Returns
    -------
    Perturbed

    Raises
    ------
    TypeError, ValueError
        If network and data do not fit, or an argument is out of range.

    Notes
    -----
    Source: P18, Figure 3: a quarter of the standard deviation of the layer's weights (their root
    mean square here, for which the growth is exactly geometric; the two differ by the mean of the
    weights), every 100 epochs. Biases are not kicked.

    Examples
    --------
    >>> data = ImageData(torch.tensor([0.0, 1.0]).reshape(2, 1, 1, 1), [0, 1], ["dark", "light"])
    >>> from implicit_bias.dynamics.classifier import train_classifier
    >>> network = train_classifier(ConvNetwork((1, 1, 1), 2, (8,)), data).network
    >>> perturb_and_retrain(network, data, data, size=0, times=2).train_error[-1]
    tensor(0., dtype=torch.float64)
    """
    check_classifier(network, train, test)
    if noise not in ("relative", "fixed"):
        raise ValueError(f"noise = {noise!r}; pass 'relative' or 'fixed' (and size=0 for none).")
    if not (isinstance(size, (int, float)) and 0 <= size < math.inf):
        raise ValueError(f"size = {size!r} must be a number >= 0; 0 is no noise.")
    times, steps = as_count(times, "times"), as_count(steps, "steps")
    more, seed = as_count(more, "more", least=0), as_count(seed, "seed", least=0)
    step = positive(step, "step")
    if not 0 <= momentum < 1:
        raise ValueError(f"momentum = {momentum!r} must lie in [0, 1): 0 is plain descent.")
    # A stream of its own: that of ConvNetwork with the same seed would repeat the initial weights.
    rng = np.random.default_rng([seed, 6])
    twin = copy.deepcopy(network).eval()
    first = _sizes(twin, size)
    names = [f.name for f in fields(Perturbed) if f.name not in ("network", "logits", "stopped")]
    columns = {name: torch.full((times + 1,), math.nan, dtype=torch.float64) for name in names}
    logits = torch.full((times + 1, test.n, len(test.classes)), math.nan)
    stopped = "done"
    for k in range(times + 1):
        if k:
            sigmas = first if noise == "fixed" else _sizes(twin, size)
            gain = 0.0
            for layer, sigma in zip(twin.layers, sigmas, strict=True):
                w = layer.linear.weight
                draw = torch.from_numpy(rng.standard_normal(tuple(w.shape)))
                gain += sigma**2 * w.numel()
                with torch.no_grad():
                    w.add_(sigma * draw.to(w))
            columns["expected_gain"][k] = gain
            columns["kicked_norm"][k] = _squared(twin)
            _, columns["kicked_loss"][k], columns["kicked_error"][k] = measured(twin, train)
            run = descend(twin, train, steps, step, momentum, None, False)
            right = (run.errors == 0).nonzero()
            needed = float(right[0]) if len(right) else math.nan
            if run.stopped != "diverged" and float(run.errors[-1]) > 0 and more:
                run = descend(run.network, train, more, step, momentum, None, True)
                needed = float(steps + run.steps) if math.isnan(needed) else needed
            if run.stopped == "diverged" or float(run.errors[-1]) > 0:
                stopped = "diverged" if run.stopped == "diverged" else "not fitted"
                break
            columns["needed"][k] = needed
            twin = run.network
        logits[k], columns["test_loss"][k], columns["test_error"][k] = measured(twin, test)
        _, columns["train_loss"][k], columns["train_error"][k] = measured(twin, train)
        columns["squared_norm"][k] = _squared(twin)
    return Perturbed(network=twin, logits=logits, stopped=stopped, **columns)
