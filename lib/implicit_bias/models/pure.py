"""A network as a function of one vector: what Jacobians and Hessians need.

A module, or a function of a dictionary of tensors, is rewritten as f(theta, inputs) with all its
parameters in the vector theta, in their own precision.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from implicit_bias.arrays import as_array, as_real

__all__ = ["Flat", "along", "as_pure", "backward", "flatten", "jacobian", "outputs_like"]

_CHUNK = 64_000_000  # numbers in a block of rows: 512 MB


@dataclass(frozen=True, eq=False)
class Flat:
    """Parameters as one vector, and the way back.

    Attributes
    ----------
    vector : Tensor, shape (p,)
        float32 if all the parameters are, else float64.
    rebuild : callable
        From such a vector to parameters of the shapes given.

    Examples
    --------
    >>> flat = flatten({"w": torch.ones(2, 2), "b": torch.zeros(2)})
    >>> flat.vector.shape, flat.rebuild(flat.vector)["w"].shape
    (torch.Size([6]), torch.Size([2, 2]))
    """

    vector: Tensor
    rebuild: Callable[[Tensor], Any]


def _joined(parts: dict[str, Any]) -> tuple[Tensor, Callable[[Tensor], list[Tensor]]]:
    """One vector of the parts, which have names for the messages, and the way back."""
    if len({t.device for t in parts.values() if isinstance(t, Tensor)}) > 1:
        raise ValueError(
            "The parameters are on different devices, and one vector lives on one. Move them "
            "with .to(...)."
        )
    checked = {name: as_real(part, name) for name, part in parts.items()}
    if not any(t.numel() for t in checked.values()):
        raise ValueError("There are no parameters: nothing can be differentiated. Pass some.")
    given = [as_array(part) for part in parts.values()]
    single = all(t.dtype == torch.float32 for t in given)
    precision = torch.float32 if single else torch.float64
    shapes, sizes = [t.shape for t in given], [t.numel() for t in given]

    def split(vector: Tensor) -> list[Tensor]:
        pieces = vector.split(sizes)
        return [piece.reshape(shape) for piece, shape in zip(pieces, shapes, strict=True)]

    return torch.cat([t.reshape(-1).to(precision) for t in checked.values()]), split


def flatten(parameters: Any) -> Flat:
    """Returns the parameters as one vector, with the way back.

    Parameters
    ----------
    parameters : array, or dict, list or tuple of tensors
        float32 stays float32 when all are; anything else becomes float64.

    Raises
    ------
    TypeError, ValueError
        If there are none, one is not a finite real number, or they are on different devices.

    Examples
    --------
    >>> flatten([[1.0, 2.0]]).vector
    tensor([1., 2.], dtype=torch.float64)
    """
    if isinstance(parameters, dict):
        names = list(parameters)
        vector, split = _joined({f"parameter {name!r}": parameters[name] for name in names})
        return Flat(vector, lambda theta: dict(zip(names, split(theta), strict=True)))
    if isinstance(parameters, (list, tuple)) and any(isinstance(t, Tensor) for t in parameters):
        # A named tuple takes its entries one by one.
        kind = getattr(parameters, "_make", type(parameters))
        vector, split = _joined({f"parameter {i}": t for i, t in enumerate(parameters)})
        return Flat(vector, lambda theta: kind(split(theta)))
    vector, split = _joined({"parameters": parameters})
    return Flat(vector, lambda theta: split(theta)[0])


def as_pure(model: Any, parameters: Any = None) -> tuple[Callable[[Tensor, Tensor], Tensor], Flat]:
    """Returns the model as a function f(theta, inputs) of a vector, and its parameters as one.

    Parameters
    ----------
    model : torch.nn.Module, or callable (parameters, inputs) -> outputs
    parameters : array, or dict, list or tuple of tensors, optional
        Those of the callable. A module has its own, which is the default for it; else a dictionary
        of some of them by name (the others stay as they are), or all of them as one vector, as
        the points of a path have them.

    Raises
    ------
    TypeError, ValueError
        If the model cannot be called, its parameters are missing or not finite real numbers or
        not those of the module, or it is a module that draws random numbers or changes itself
        when it is called, as dropout and batch normalisation do in training mode.

    Examples
    --------
    >>> function, flat = as_pure(torch.nn.Linear(3, 2))
    >>> function(flat.vector, torch.ones(5, 3)).shape
    torch.Size([5, 2])
    """
    if isinstance(model, torch.nn.Module):
        module, flat = model, _of_module(model, parameters)
        given = flat.rebuild(flat.vector)
        state = (*module.named_parameters(), *module.named_buffers())
        rest = {name: t.detach() for name, t in state if name not in given}

        def function(theta: Tensor, inputs: Tensor) -> Tensor:
            fixed = {n: t.to(theta.dtype) if t.is_floating_point() else t for n, t in rest.items()}
            both = fixed | flat.rebuild(theta)
            outputs: Tensor = torch.func.functional_call(module, both, (inputs,))
            return outputs

        return function, flat
    if not callable(model):
        raise TypeError(
            f"The model is a {type(model).__name__}, which cannot be called. Pass a "
            f"torch.nn.Module, or a function of (parameters, inputs)."
        )
    if parameters is None:
        raise TypeError(
            "A model that is a function of (parameters, inputs) has no parameters of its own. "
            "Pass them as parameters=..."
        )
    flat = flatten(parameters)
    return lambda theta, inputs: model(flat.rebuild(theta), inputs), flat


def _of_module(module: torch.nn.Module, parameters: Any) -> Flat:
    for name, part in module.named_modules():
        drops = isinstance(part, torch.nn.modules.dropout._DropoutNd) and part.p > 0
        norm = isinstance(part, torch.nn.modules.batchnorm._NormBase)
        if part.training and (drops or (norm and part.track_running_stats)):
            raise ValueError(
                f"{name or 'The module'} is a {type(part).__name__} in training mode: its outputs "
                f"are random, or each call changes it, so that it is no function of its "
                f"parameters. Call .eval() on the module first."
            )
    own = dict(module.named_parameters())
    if parameters is None:
        return flatten(own)
    if not isinstance(parameters, dict):
        vector, mine = flatten(parameters).vector, flatten(own)
        if vector.shape != mine.vector.shape or as_array(parameters).ndim != 1:
            raise ValueError(
                f"The parameters are not those of this module, which has {mine.vector.numel()} of "
                f"them. Pass a vector of so many, or a dictionary of tensors by name."
            )
        return Flat(vector, mine.rebuild)
    flat = flatten(parameters)
    shapes = {name: tuple(t.shape) for name, t in own.items()}
    for name, t in flat.rebuild(flat.vector).items():
        if shapes.get(name) != tuple(t.shape):
            raise ValueError(
                f"The module has no parameter {name!r} of shape {tuple(t.shape)}. It has {shapes}."
            )
    return flat


def backward(
    function: Callable[[Tensor], Tensor], at: Tensor
) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    """Returns the value of a function there, and what multiplies a vector by its transposed slope.

    Of the second, which is linear, the same again multiplies by the slope itself: no forward mode
    of differentiation is needed, whose first use makes torch warn of its own code.

    Examples
    --------
    >>> backward(lambda t: t**3, torch.tensor([2.0]))[1](torch.tensor([1.0]))
    tensor([12.])
    """
    value, pull = torch.func.vjp(function, at)[:2]
    return value, lambda u: pull(u)[0]


def along(function: Callable[[Tensor], Tensor], at: Tensor, v: Tensor) -> Tensor:
    """Returns the derivative of a function along v; itself differentiable.

    Examples
    --------
    >>> along(lambda t: t**2, torch.tensor([1.0, 3.0]), torch.tensor([0.0, 1.0]))
    tensor([0., 6.])
    """
    value, pull = backward(function, at)
    return backward(pull, torch.zeros_like(value))[1](v)


def _rows(product: Callable[[Tensor], Tensor], m: int, p: int, like: Tensor) -> Tensor:
    """The matrix (m, p) of which ``product`` gives combinations of rows."""
    eye = torch.eye(m, dtype=like.dtype, device=like.device)
    many = torch.func.vmap(product)
    return torch.cat([many(part) for part in eye.split(max(1, _CHUNK // max(m, p)))])


def jacobian(outputs: Callable[[Tensor], Tensor], theta: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the outputs at theta as a vector (m,), and their Jacobian (m, p).

    A backward pass for each output, or two for each parameter where these are fewer.

    Raises
    ------
    ValueError
        If there are no outputs, or one is not finite.

    Examples
    --------
    >>> jacobian(lambda t: t**2, torch.tensor([1.0, 3.0]))[1]
    tensor([[2., 0.],
            [0., 6.]])
    """

    def flat(t: Tensor) -> Tensor:
        return outputs(t).reshape(-1)

    p = theta.numel()
    value, pull = backward(flat, theta)
    m = value.numel()
    if not m or not bool(torch.isfinite(value).all()):
        raise ValueError(
            f"The model's outputs are {'empty' if not m else 'not all finite'} at these "
            f"parameters, so they have no Jacobian. Check the inputs, and whether training "
            f"diverged."
        )
    if m <= p:
        J = _rows(pull, m, p, value)
    else:
        push = backward(pull, torch.zeros_like(value))[1]
        J = _rows(push, p, m, theta).T.contiguous()
    if not bool(torch.isfinite(J).all()):
        raise ValueError(
            "The Jacobian has a NaN or infinite entry: the model is not differentiable here, or "
            "overflows. Move the parameters a little, or scale the inputs."
        )
    return value.detach(), J.detach()


def outputs_like(value: Tensor, y: Tensor) -> Tensor:
    """Returns the outputs in the shape of the targets, if they are the same outputs.

    Raises
    ------
    ValueError
        If a broadcast would have to decide what belongs to what.

    Examples
    --------
    >>> outputs_like(torch.ones(3, 1), torch.zeros(3)).shape
    torch.Size([3])
    """
    if value.shape == y.shape:
        return value
    if (*y.shape, 1) == tuple(value.shape):
        return value.reshape(y.shape)
    raise ValueError(
        f"The model's outputs have shape {tuple(value.shape)} and y has shape {tuple(y.shape)}: "
        f"they would broadcast to residuals without meaning. Pass y of the outputs' shape."
    )
