r"""Many networks of one architecture, trained at the same time.

A small network leaves a processor idle: most of a step is the overhead of calls. With the
parameters of m networks stacked, :math:`\Theta = (\theta_1, \dots, \theta_m)`, one call computes
all their outputs (``torch.func``), and since the losses do not share parameters, one backward pass
of :math:`\sum_j L_j(\theta_j)` gives all their gradients. Each network takes the steps of
stochastic gradient descent with momentum,

.. math:: v_j \leftarrow \mu v_j + \nabla L_j^B(\theta_j), \qquad
   \theta_j \leftarrow \theta_j - \eta_j v_j ,

that it would take alone, up to rounding, with :math:`L_j^B` the mean loss of a mini-batch B.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from implicit_bias.arrays import as_array, as_count, as_real
from implicit_bias.dynamics.stacking import Stack, as_inputs

__all__ = ["EnsemblePath", "ensemble_outputs", "train_ensemble"]


@dataclass(frozen=True, eq=False)
class EnsemblePath:
    """The record of the training of an ensemble.

    Attributes
    ----------
    models : tuple of Module
        The trained networks, in evaluation mode; those that were passed are as they were.
    epochs : Tensor of int, shape (k,)
        When the losses were measured, from 0 to the last.
    losses : Tensor, shape (k, m)
        Mean training losses, float64, of the networks in evaluation mode. Of a network that has
        ended, what they were then; of one that diverged, inf.
    errors : Tensor, shape (k, m)
        Shares of the training examples that are not classified as labelled; nan for a loss of
        the caller's own, and of a network that diverged.
    stopped : tuple of str
        For each network "reached" (its loss the target), "budget" (out of epochs) or "diverged":
        its loss was not finite, and the model is that of the record before.

    Examples
    --------
    >>> x = torch.tensor([[1.0], [-1.0]])
    >>> path = train_ensemble([nn.Linear(1, 2)] * 2, x, [1, 0], learning_rate=1.0, epochs=50)
    >>> path.losses.shape, path.stopped, float(path.errors[-1].max())
    (torch.Size([51, 2]), ('budget', 'budget'), 0.0)
    """

    models: tuple[nn.Module, ...]
    epochs: Tensor
    losses: Tensor
    errors: Tensor
    stopped: tuple[str, ...]


def _batches(n: int, size: int, seeds: Sequence[int]) -> Iterator[list[Tensor]]:
    """For each epoch its batches of indices, of shape (seeds, size); the last may be smaller."""
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    while True:
        orders = torch.stack([torch.randperm(n, generator=g) for g in generators])
        yield list(orders.split(size, dim=1))


def _as_seeds(seed: Any, m: int) -> list[int]:
    if isinstance(seed, (list, tuple, range)):
        if len(seed) != m:
            raise ValueError(
                f"seed has {len(seed)} values for {m} networks. Pass one for each, or a single "
                f"one, with which all networks see the same mini-batches."
            )
        return [as_count(s, "an entry of seed", 0) for s in seed]
    return [as_count(seed, "seed", least=0)]


def _as_rates(learning_rate: Any, m: int) -> Tensor:
    rates = as_real(learning_rate, "learning_rate")
    if rates.shape not in ((), (m,)) or not bool((rates > 0).all()):
        raise ValueError(
            f"learning_rate must be positive, one number or one for each of the {m} networks; got "
            f"{rates.tolist()}."
        )
    return rates.expand(m).clone()


def _as_labels(labels: Any, n: int, m: int, device: torch.device) -> Tensor:
    given = as_array(labels)
    if tuple(given.shape[:2]) == (m, n) and given.ndim > 1:
        return given.to(device)
    if given.ndim and len(given) == n:
        return given.to(device).expand(m, *given.shape)
    raise ValueError(
        f"labels have shape {tuple(given.shape)}; pass ({n},), the same for all networks, or "
        f"({m}, {n}), a row for each of them."
    )


def _cross_entropy(outputs: Tensor, labels: Tensor) -> Tensor:
    return nn.functional.cross_entropy(outputs, labels)


def ensemble_outputs(models: Sequence[nn.Module], x: Any) -> Tensor:
    """Returns the outputs of all networks for the same inputs, in evaluation mode.

    Parameters
    ----------
    models : sequence of Module
        Of one architecture, on one device.
    x : array, shape (n, ...)

    Returns
    -------
    Tensor, shape (m, n, ...)

    Raises
    ------
    TypeError, ValueError
        If the networks are not built alike.

    Examples
    --------
    >>> ensemble_outputs([nn.Linear(2, 3), nn.Linear(2, 3)], torch.ones(5, 2)).shape
    torch.Size([2, 5, 3])
    """
    stack = Stack(models)
    return stack.evaluate(as_inputs(x, stack))


def train_ensemble(
    models: Sequence[nn.Module],
    x: Any,
    labels: Any,
    *,
    learning_rate: Any,
    epochs: int,
    batch: int | None = None,
    momentum: float = 0.0,
    decay: float = 0.0,
    seed: int | Sequence[int] = 0,
    loss: Callable[[Tensor, Tensor], Tensor] | None = None,
    target: float | None = None,
    every: int = 1,
) -> EnsemblePath:
    r"""Returns what stochastic gradient descent makes of each network, all of them at once.

    Parameters
    ----------
    models : sequence of Module
        Networks of one architecture, on one device: different starts, or scales of the start.
        They are not changed.
    x : array, shape (n, ...)
        The inputs, the same for all.
    labels : array of integers, shape (n,) or (m, n)
        The same for all networks, or a row for each of them.
    learning_rate : float, or array of shape (m,)
    epochs : int
        Passes over the data at most.
    batch : int, optional
        Size of the mini-batches; what is left at the end of an epoch is a smaller one. The
        default is all examples at once.
    momentum : float
        Between 0 and 1.
    decay : float
        :math:`\lambda` of the term :math:`\frac\lambda2|\theta|^2` added to the loss.
    seed : int, or sequence of m ints
        Of the order of the examples. With one, all networks see the same mini-batches; with one
        each, network j sees those that it would see alone with that seed.
    loss : callable, optional
        From outputs (b, ...) and labels (b, ...) of one network to a scalar, their mean loss. The
        default is the cross-entropy of the softmax.
    target : float, optional
        A network ends where its training loss, over all examples in evaluation mode, has come to
        this value, at the first record.
    every : int
        Epochs between two records.

    Returns
    -------
    EnsemblePath

    Raises
    ------
    TypeError, ValueError
        If the networks are not built alike, contain dropout, or an argument is out of range.

    Notes
    -----
    In training a network may change its buffers in place, as batch normalisation does; one that
    ``forward`` replaces stays as it was. Losses are means over examples, as in L19, so that a
    learning rate keeps its meaning when the batch changes. Where several networks would do the
    same sums in another order, theirs differ from those of a network alone by rounding, which
    training enlarges. Repeated calls give the same numbers on the same machine; on a GPU
    deterministic kernels are asked for, without TF32.
    What is saved is the overhead of calls: on one core, 24 networks of 8 and 16 filters of 3 x 3
    at every second pixel take a fifth of a loop's time on 8 x 8 images with batches of 16, and
    on 16 x 16 images a third to a quarter, or half with batches of 32; with 24 and 34 filters
    0.5 to 0.8 of it. With filters of 5 x 5 at every pixel, or all images at once, little or nothing
    is saved (``benchmarks/bench_ensemble.py``).

    Examples
    --------
    >>> x, labels = torch.tensor([[1.0, 0.0], [0.0, 1.0]]), [0, 1]
    >>> networks = [nn.Linear(2, 2) for _ in range(3)]
    >>> path = train_ensemble(networks, x, labels, learning_rate=1.0, epochs=999, target=0.1)
    >>> path.stopped, bool((path.losses[-1] <= 0.1).all())
    (('reached', 'reached', 'reached'), True)
    """
    stack, m = Stack(models), len(models)
    x = as_inputs(x, stack)
    n = len(x)
    targets = _as_labels(labels, n, m, x.device)
    rates = _as_rates(learning_rate, m).to(x)
    epochs, every = as_count(epochs, "epochs", least=0), as_count(every, "every")
    size = n if batch is None else min(as_count(batch, "batch"), n)
    seeds = _as_seeds(seed, m)
    if not 0 <= momentum < 1:
        raise ValueError(
            f"momentum = {momentum}: from 1 on nothing old is forgotten, and below 0 steps go "
            f"back and forth. Pass a number in [0, 1), such as 0.9."
        )
    if not (math.isfinite(decay) and decay >= 0):
        raise ValueError(f"decay = {decay} must not be negative; 0 is none.")
    if target is not None and not math.isfinite(target):
        raise ValueError(f"target = {target}, which no loss comes to. Pass a number, or None.")
    if loss is None:
        _check_classes(stack, x, targets)
        targets = targets.to(torch.int64)
    run = _Run(stack, x, targets, rates, momentum, decay, loss, target)
    with _deterministic():
        run.record(0)
        for epoch, batches in zip(range(1, epochs + 1), _batches(n, size, seeds), strict=False):
            if not run.active:
                break
            for indices in batches:
                run.step(indices)
            if epoch % every == 0 or epoch == epochs:
                run.record(epoch)
    return run.finish(models)


def _check_classes(stack: Stack, x: Tensor, targets: Tensor) -> None:
    if targets.is_floating_point() or targets.dtype == torch.bool or targets.is_complex():
        raise TypeError(
            f"labels are of type {targets.dtype}; for the cross-entropy a label is the number of "
            f"a class. Pass integers, or a loss of your own."
        )
    shape = tuple(stack.evaluate(x[:1]).shape[2:])
    low, high = int(targets.min()), int(targets.max())
    if len(shape) != 1 or targets.ndim != 2 or low < 0 or high >= shape[0]:
        raise ValueError(
            f"labels reach from {low} to {high}, with {tuple(targets.shape)} of them, and the "
            f"networks have outputs of shape {shape} for an example: one is needed for each class, "
            f"numbered from 0, and one label for each example."
        )


def _deterministic() -> Any:
    """Convolutions without TF32, which has ten bits, and without kernels chosen by a race."""
    return torch.backends.cudnn.flags(
        enabled=True, benchmark=False, deterministic=True, allow_tf32=False
    )


class _Run:
    """Training that is under way. Networks that have ended leave the stack."""

    def __init__(
        self,
        stack: Stack,
        x: Tensor,
        labels: Tensor,
        rates: Tensor,
        momentum: float,
        decay: float,
        loss: Callable[[Tensor, Tensor], Tensor] | None,
        target: float | None,
    ):
        self.stack, self.x, self.labels, self.rates = stack, x, labels, rates
        self.momentum, self.decay, self.target = momentum, decay, target
        self.mean_loss, self.classifies = loss or _cross_entropy, loss is None
        self.active = list(range(len(labels)))
        self.stopped = ["budget"] * len(labels)
        self.ends: list[dict[str, Tensor]] = [{} for _ in labels]
        self.velocity = {k: torch.zeros_like(v) for k, v in stack.parameters.items()}
        self.epochs: list[int] = []
        self.losses: list[list[float]] = []
        self.errors: list[list[float]] = []

    def step(self, indices: Tensor) -> None:
        stack = self.stack
        stack.skeleton.train()
        for p in stack.parameters.values():
            p.requires_grad_(True)
        own = indices if len(indices) == 1 else indices[self.active]
        own = own.to(self.x.device)
        if len(own) == 1:
            x, y = self.x[own[0]], self.labels[:, own[0]]
        else:
            x = self.x[own]
            y = torch.stack([row[i] for row, i in zip(self.labels, own, strict=True)])
        outputs = stack.outputs(x, own=len(own) > 1)
        total = torch.func.vmap(self.mean_loss)(outputs, y).sum()
        names = list(stack.parameters)
        slopes = torch.autograd.grad(total, [stack.parameters[k] for k in names], allow_unused=True)
        with torch.no_grad():
            for name, slope in zip(names, slopes, strict=True):
                p, v = stack.parameters[name].detach(), self.velocity[name]
                stack.parameters[name] = p
                if slope is None:  # nothing depends on it: torch's optimisers leave it alone
                    continue
                v.mul_(self.momentum).add_(slope)
                if self.decay:
                    v.add_(p, alpha=self.decay)
                p.sub_(self.rates.reshape(-1, *[1] * (p.ndim - 1)) * v)

    def record(self, epoch: int) -> None:
        """Measures the losses, and lets networks go that have ended."""
        outputs = self.stack.evaluate(self.x).double()
        with torch.no_grad():
            measured = torch.func.vmap(self.mean_loss)(outputs, self.labels)
        if measured.ndim != 1:
            raise ValueError(
                f"loss gives shape {tuple(measured.shape[1:])} for one network, and their sum "
                f"would be taken for a mean. Return one number, the mean over the examples."
            )
        losses = measured.tolist()
        wrong = torch.full((len(losses),), math.nan)
        if self.classifies:
            wrong = (outputs.argmax(-1) != self.labels).double().mean(1)
        before = self.losses[-1] if self.losses else [math.nan] * len(self.stopped)
        errors_before = self.errors[-1] if self.errors else before
        now, errors, left = list(before), list(errors_before), []
        for place, (j, value) in enumerate(zip(self.active, losses, strict=True)):
            now[j], errors[j] = value, float(wrong[place])
            if not math.isfinite(value):
                now[j], errors[j], self.stopped[j] = math.inf, math.nan, "diverged"
                if not self.ends[j]:  # from the start
                    self.ends[j] = self.stack.state(place)
                continue
            self.ends[j] = self.stack.state(place)
            if self.target is not None and value <= self.target:
                self.stopped[j] = "reached"
            else:
                left.append(place)
        self.epochs.append(epoch)
        self.losses.append(now)
        self.errors.append(errors)
        if len(left) < len(self.active):
            which = torch.tensor(left, dtype=torch.int64, device=self.x.device)
            self.active = [self.active[place] for place in left]
            self.stack.keep(which)
            self.velocity = {k: v[which] for k, v in self.velocity.items()}
            self.labels, self.rates = self.labels[which], self.rates[which]

    def finish(self, models: Sequence[nn.Module]) -> EnsemblePath:
        trained = []
        for model, state in zip(models, self.ends, strict=True):
            twin = copy.deepcopy(model).eval()
            twin.load_state_dict(state, strict=False)
            trained.append(twin)
        return EnsemblePath(
            tuple(trained),
            torch.tensor(self.epochs),
            torch.tensor(self.losses, dtype=torch.float64),
            torch.tensor(self.errors, dtype=torch.float64),
            tuple(self.stopped),
        )
