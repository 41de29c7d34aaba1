"""Networks of one architecture as one function: their parameters stacked, their outputs at once."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from implicit_bias.arrays import as_array, as_real

__all__ = ["Stack", "as_inputs", "check_models"]

_CHUNK = 2**20  # numbers in the inputs of one evaluation, all networks together


class Stack:
    """Networks as one function of stacked parameters and buffers.

    Examples
    --------
    >>> stack = Stack([nn.Linear(3, 2), nn.Linear(3, 2)])
    >>> stack.parameters["weight"].shape
    torch.Size([2, 2, 3])
    """

    def __init__(self, models: Sequence[nn.Module]):
        check_models(models)
        learns = {k for k, p in models[0].named_parameters() if p.requires_grad}
        twins = [copy.deepcopy(model).eval().requires_grad_(False) for model in models]
        parameters, buffers = torch.func.stack_module_state(twins)
        self.parameters: dict[str, Tensor] = {k: v for k, v in parameters.items() if k in learns}
        self.buffers: dict[str, Tensor] = buffers | {
            k: v for k, v in parameters.items() if k not in learns
        }
        self.skeleton = twins[0]  # of which only the structure is used, and the mode

    def outputs(self, x: Tensor, own: bool) -> Tensor:
        """The outputs (m, n, ...) for common inputs (n, ...), or each network's own (m, n, ...).

        In training mode the running means of batch normalisation move, in place.
        """

        def one(parameters: dict[str, Tensor], buffers: dict[str, Tensor], x: Tensor) -> Tensor:
            out: Tensor = torch.func.functional_call(self.skeleton, (parameters, buffers), (x,))
            return out

        many = torch.func.vmap(one, in_dims=(0, 0, 0 if own else None))
        out: Tensor = many(self.parameters, self.buffers, x)
        return out

    def evaluate(self, x: Tensor) -> Tensor:
        """The outputs in evaluation mode, a part of the examples at a time."""
        self.skeleton.eval()
        m = len(next(iter(self.parameters.values())))
        size = max(1, _CHUNK // max(1, m * math.prod(x.shape[1:])))
        with torch.no_grad():
            return torch.cat([self.outputs(part, own=False) for part in x.split(size)], dim=1)

    def keep(self, which: Tensor) -> None:
        """Lets the other networks go."""
        self.parameters = {k: v[which] for k, v in self.parameters.items()}
        self.buffers = {k: v[which] for k, v in self.buffers.items()}

    def state(self, j: int) -> dict[str, Tensor]:
        """A copy of the parameters and buffers of network j."""
        return {k: v[j].clone() for k, v in {**self.parameters, **self.buffers}.items()}


def check_models(models: Sequence[nn.Module]) -> None:
    """Refuses networks that are not one architecture, or not what they would be alone.

    Examples
    --------
    >>> check_models([nn.Linear(3, 2), nn.Linear(3, 2)])
    """
    if isinstance(models, nn.Module) or not all(isinstance(model, nn.Module) for model in models):
        raise TypeError("models is not a sequence of torch.nn.Module. Pass a list of networks.")
    if not models:
        raise ValueError("models is empty: there is nothing to train. Pass at least one network.")
    first = models[0]
    if not any(p.requires_grad for p in first.parameters()):
        raise ValueError("The networks have no parameters that learn: there is nothing to train.")
    places = {(p.device, p.dtype) for model in models for p in model.parameters()}
    if len(places) > 1:
        raise ValueError(
            f"The parameters are of {sorted(map(str, places))}: those of an ensemble are stacked, "
            f"so they live on one device in one precision. Move them with .to(...)."
        )
    for j, model in enumerate(models):
        what = _difference(first, model)
        if what:
            raise ValueError(
                f"Network {j} is not built like network 0 ({what}): an ensemble computes one "
                f"architecture with several sets of parameters. Train others one by one."
            )
    for module in first.modules():
        if isinstance(module, nn.modules.dropout._DropoutNd) and module.p > 0:
            raise ValueError(
                "The networks have dropout, whose draws would not be those of a network alone. "
                "Take it out; it is a regulariser of its own."
            )
        if isinstance(module, nn.modules.batchnorm._NormBase) and module.momentum is None:
            raise ValueError(
                "A batch normalisation with momentum=None averages over all steps, for which it "
                "reads its counter as a number; stacked, there are several. Pass a momentum."
            )
        if isinstance(module, nn.modules.batchnorm._NormBase) and module.running_mean is None:
            raise ValueError(
                "A batch normalisation keeps no running mean, so that the answer to one example "
                "depends on the others, and a loss on how they are divided for its evaluation. Use "
                "track_running_stats=True."
            )


def _are_equal(a: Any, b: Any) -> bool:
    if isinstance(a, Tensor) or isinstance(b, Tensor):
        return type(a) is type(b) and torch.equal(a, b)
    if isinstance(a, np.ndarray) or isinstance(b, np.ndarray):
        return np.array_equal(a, b)
    return bool(a == b)


def _difference(first: nn.Module, other: nn.Module) -> str:
    """The first difference that is none of numbers in parameters and buffers."""
    if repr(first) != repr(other):
        return "they print differently"
    kinds = (
        {k: (v.shape, getattr(v, "requires_grad", False)) for k, v in state.items()}
        for state in (model.state_dict(keep_vars=True) for model in (first, other))
    )
    if next(kinds) != next(kinds):
        return "parameters of other shapes, or that do not learn"
    for (name, a), b in zip(first.named_modules(), other.modules(), strict=True):
        if type(a) is not type(b):
            return f"{name or 'it'} is a {type(b).__name__}"
        for hooks in ("_forward_hooks", "_forward_pre_hooks"):
            kinds_of_hooks = [[type(h) for h in vars(module)[hooks].values()] for module in (a, b)]
            if kinds_of_hooks[0] != kinds_of_hooks[1]:
                return f"{name or 'it'} has other hooks"
        for key in sorted({*vars(a), *vars(b)}):
            # An activation, say, which is a function and no module, does not print.
            mine, its = vars(a).get(key), vars(b).get(key)
            if key.startswith("_") or key == "training" or mine is its:
                continue
            if not _are_equal(mine, its):
                return f"{key} = {its!r} instead of {mine!r}"
    return ""


def as_inputs(x: Any, stack: Stack) -> Tensor:
    """Returns the inputs in the networks' precision, on their device, if they are numbers."""
    given, like = as_array(x), next(iter(stack.parameters.values()))
    if given.dtype != like.dtype or not bool(torch.isfinite(given).all()):
        given = as_real(given, "x")
    if not given.ndim or not len(given):
        raise ValueError("x holds no examples. Pass inputs of shape (n, ...).")
    return given.to(like)
