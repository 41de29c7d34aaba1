r"""Which flat directions change the function, and which only rename its parameters.

At a zero of the loss on inputs X a direction v is flat when :math:`J_X v = 0`. It is **trivial**
when the function stays the same on *all* inputs, as it does along a symmetry: :math:`W_2 A^{-1}
\cdot A W_1` of a linear net, :math:`w \to c w, v \to v/c` of a ReLU. Then :math:`J_{X'} v = 0` on
fresh inputs X' too, so that with enough of those

.. math:: \dim\text{trivial} = p - \operatorname{rank} J_{X \cup X'}, \qquad
          \dim\text{non-trivial} = \operatorname{rank} J_{X \cup X'} - \operatorname{rank} J_X .

That is to first order, and right where the rank of J does not change nearby. Where it does (a net
at zero), see the second order, or follow the valley.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from implicit_bias.arrays import as_real
from implicit_bias.evidence.landscape import jacobian_rank
from implicit_bias.models.pure import along, as_pure, jacobian
from implicit_bias.records import Path

__all__ = ["Degeneracy", "degeneracy", "follow_valley", "function_change"]


@dataclass(frozen=True, eq=False)
class Degeneracy:
    """The flat directions at a point, sorted.

    Attributes
    ----------
    flat, trivial, nontrivial : int
        Dimensions; the first is the sum of the others.
    trivial_directions : Tensor, shape (p, trivial)
        Orthonormal: they move no output at all, to first order.
    nontrivial_directions : Tensor, shape (p, nontrivial)
        Orthonormal, and orthogonal to those: they move outputs at fresh inputs only.
    gap : float
        The smaller of the gaps of the two ranks.

    Examples
    --------
    >>> import torch
    >>> product = lambda w, x: w[0] * w[1] * x[:, 0] + w[2] * x[:, 1]
    >>> found = degeneracy(product, [1.0, 2.0, 3.0], [[1.0, 0.0]], torch.eye(2).repeat(2, 1))
    >>> found.flat, found.trivial, found.nontrivial
    (2, 1, 1)
    """

    flat: int
    trivial: int
    nontrivial: int
    trivial_directions: Tensor
    nontrivial_directions: Tensor
    gap: float


def degeneracy(
    model: Any, parameters: Any, inputs: Any, fresh: Any, rtol: float | None = None
) -> Degeneracy:
    r"""Returns how many flat directions there are, and how many of them change the function.

    Parameters
    ----------
    model : torch.nn.Module, or callable (parameters, inputs) -> outputs
    parameters : array, or dict, list or tuple of tensors
        A point where the loss on ``inputs`` is zero; None for a module's own.
    inputs : array, shape (n, ...)
        The training inputs.
    fresh : array, shape (n', ...)
        Other inputs, spread over where the function is to be known: with the training inputs at
        least as many outputs as there are parameters.
    rtol : float, optional
        As in ``jacobian_rank``.

    Raises
    ------
    ArithmeticError
        If the two ranks contradict each other: something was called zero in one that is not.
    TypeError, ValueError
        If there are too few fresh inputs, or the model is not finite.

    Notes
    -----
    Source: P18, section on degenerate minima: W2 W1 is degenerate by symmetry even where the data
    determine the function.

    Examples
    --------
    >>> product = lambda w, x: w[0] * w[1] * x
    >>> degeneracy(product, [1.0, 2.0], [1.0], [2.0, 3.0]).trivial
    1
    """
    function, flat = as_pure(model, parameters)
    p = flat.vector.numel()
    x = as_real(inputs, "inputs").to(flat.vector)
    far = as_real(fresh, "fresh").to(flat.vector)
    if x.shape[1:] != far.shape[1:]:
        raise ValueError(
            f"inputs has shape {tuple(x.shape)} and fresh {tuple(far.shape)}: they must be inputs "
            f"of one model, (n, ...) and (n', ...)."
        )
    here = jacobian_rank(function, x, flat.vector, rtol)
    everywhere = jacobian_rank(function, torch.cat([x, far]), flat.vector, rtol)
    if everywhere.jacobian.shape[0] < p:
        raise ValueError(
            f"{everywhere.jacobian.shape[0]} outputs cannot tell {p} parameters apart: directions "
            f"would look trivial because nobody looked. Pass more fresh inputs."
        )
    N, trivial = here.null_space, everywhere.null_space
    # What is left of the flat directions after the trivial ones are taken out.
    rest = N - trivial @ (trivial.T @ N)
    count = N.shape[1] - trivial.shape[1]
    U, cosines, _ = torch.linalg.svd(rest, full_matrices=False)
    gap = min(here.gap, everywhere.gap)
    # The trivial directions are flat ones: then this many cosines are 1, and the others 0.
    if count < 0 or int((cosines > 0.5).sum()) != count:
        raise ArithmeticError(
            f"{trivial.shape[1]} directions move no output, and {N.shape[1]} move none at the "
            f"training inputs, but the former are not among the latter: one of the two ranks is "
            f"wrong (gap {gap:.3g}). Give fresh inputs of the size of the training inputs, or rtol."
        )
    basis = U[:, :count]
    return Degeneracy(N.shape[1], trivial.shape[1], count, trivial, basis, gap)


def function_change(
    model: Any, parameters: Any, direction: Any, inputs: Any, rtol: float | None = None
) -> tuple[float, float]:
    r"""Returns how fast the outputs change along a direction v: to first and to second order.

    The first is the root mean square of :math:`J v`, for v of unit length. The second is that of
    the part of :math:`\tfrac12 f''[v, v]` outside the range of J, which no bending of the path
    can make up for: zero (to rounding) where :math:`Jv = 0` and some curve :math:`\theta + sv +
    O(s^2)` keeps the outputs up to :math:`O(s^3)`.

    Parameters
    ----------
    model : torch.nn.Module, or callable (parameters, inputs) -> outputs
    parameters : array, or dict, list or tuple of tensors
        None for a module's own.
    direction : array, shape (p,)
        Scaled to unit length.
    inputs : array, shape (n, ...)
        More outputs than the rank of J, or its range holds everything and the second is zero.
    rtol : float, optional
        As in ``jacobian_rank``.

    Raises
    ------
    TypeError, ValueError
        If the direction is zero or of the wrong length, or the model or one of its first two
        derivatives is not finite.

    Examples
    --------
    >>> product = lambda w, x: w[0] * w[1] * x
    >>> function_change(product, [0.0, 0.0], [0.0, 1.0], [2.0, 2.0])
    (0.0, 0.0)
    >>> first, second = function_change(product, [0.0, 0.0], [1.0, 1.0], [2.0, 2.0])
    >>> first, round(second, 9)
    (0.0, 1.0)
    """
    function, flat = as_pure(model, parameters)
    theta = flat.vector.to(torch.float64)
    v, x = _unit(direction, theta), as_real(inputs, "inputs").to(theta)

    def outputs(vector: Tensor) -> Tensor:
        return function(vector, x).reshape(-1)

    def slope(vector: Tensor) -> Tensor:
        return along(outputs, vector, v)

    first, bend = slope(theta).detach(), along(slope, theta, v).detach()
    found = jacobian_rank(lambda t, _: outputs(t), x, theta, rtol)
    if not bool(torch.isfinite(bend).all()):
        raise ValueError(
            "The second derivative along this direction is NaN or infinite: the model is not twice "
            "differentiable here, or overflows. Move the parameters a little, or scale the inputs."
        )
    U = torch.linalg.svd(found.jacobian, full_matrices=False).U[:, : found.rank]
    outside = bend - U @ (U.T @ bend)
    root = math.sqrt(first.numel())
    return float(first.norm()) / root, 0.5 * float(outside.norm()) / root


def follow_valley(
    model: Any,
    parameters: Any,
    direction: Any,
    inputs: Any,
    length: float = 1.0,
    step: float = 0.05,
    tol: float = 1e-12,
    rtol: float | None = None,
) -> Path:
    r"""Returns a path along which the outputs at the inputs stay as they are.

    A step along the direction, and Gauss-Newton's shortest way back to the outputs; the direction
    is carried on by projection on the null space of the Jacobian. A step that cannot get back, or
    only by more than a tenth of its length, is halved.

    Parameters
    ----------
    model : torch.nn.Module, or callable (parameters, inputs) -> outputs
    parameters : array, or dict, list or tuple of tensors
        None for a module's own.
    direction : array, shape (p,)
        A flat direction; sign and size do not matter, except that the path starts along it.
    inputs : array, shape (n, ...)
        Training inputs, for the valley of the loss; with fresh ones, for symmetries.
    length : float
        How far to go, measured along the steps.
    step : float
        The longest step.
    tol : float
        How near the outputs must come back, relative to their size (or 1).
    rtol : float, optional
        As in ``jacobian_rank``, for the rank at the start, which is kept along the way.

    Returns
    -------
    Path
        ``times`` (lengths), ``points`` (k, p), ``losses`` (half the sum of squares of what the
        outputs moved). ``stopped`` is "reached", or "obstructed" when steps of a millionth of
        the longest cannot get back, as at a singular point or a kink.

    Raises
    ------
    TypeError, ValueError
        If the direction is not flat to first order, an argument is out of range, or the model is
        not finite.

    Examples
    --------
    >>> product = lambda w, x: w[0] * w[1] * x
    >>> path = follow_valley(product, [1.0, 1.0], [1.0, -1.0], [1.0], length=2.0)
    >>> path.stopped, round(float(path.x.prod()), 9), bool(path.x[0] > 2)
    ('reached', 1.0, True)
    """
    for name, value in {"length": length, "step": step, "tol": tol}.items():
        if not 0 < value < math.inf:
            raise ValueError(f"{name} = {value} is not a positive number. Pass one.")
    function, flat = as_pure(model, parameters)
    theta = flat.vector.to(torch.float64)
    v, x = _unit(direction, theta), as_real(inputs, "inputs").to(theta)

    def outputs(vector: Tensor) -> Tensor:
        return function(vector, x)

    rank = jacobian_rank(lambda t, _: outputs(t), x, theta, rtol).rank
    goal, J = jacobian(outputs, theta)
    basis = _row_space(J, rank)
    slope, largest = float((J @ v).norm()), float(torch.linalg.matrix_norm(J, 2))
    if slope > 1e-6 * largest:
        raise ValueError(
            f"The outputs move at the rate {slope:g} along this direction (1e-6 times the largest "
            f"is {1e-6 * largest:g}), so it is not flat. Take one from .null_space."
        )
    allowed = tol * max(1.0, float(goal.abs().max()))
    done, h = 0.0, min(step, length)
    times, points, losses = [0.0], [theta], [0.0]
    stopped = "reached"
    while done < length * (1 - 1e-12):
        h = min(h, length - done)
        found = _back(outputs, theta + h * v, goal, rank, allowed)
        # A long way back has undone the step, cut a bend, or jumped to another valley.
        if found is None or float((found[0] - theta - h * v).norm()) > 0.1 * h:
            h /= 2
            if h < 1e-6 * min(step, length):
                stopped = "obstructed"
                break
            continue
        theta, moved, J = found
        basis = _row_space(J, rank)
        v = v - basis.T @ (basis @ v)
        v = v / v.norm()
        done += h
        times.append(done)
        points.append(theta)
        losses.append(0.5 * float(moved.square().sum()))
        h = min(2 * h, step)
    return Path(_numbers(times, theta), torch.stack(points), _numbers(losses, theta), stopped)


def _unit(direction: Any, theta: Tensor) -> Tensor:
    v = as_real(direction, "direction").to(theta)
    if v.shape != theta.shape or not bool(v.any()):
        raise ValueError(
            f"direction must be a vector of {theta.numel()} numbers, one a parameter, not all "
            f"zero; got shape {tuple(v.shape)}."
        )
    v = v / v.abs().max()
    unit: Tensor = v / v.norm()
    return unit


def _row_space(J: Tensor, rank: int) -> Tensor:
    rows: Tensor = torch.linalg.svd(J, full_matrices=False).Vh[:rank]
    return rows


def _back(
    outputs: Any, theta: Tensor, goal: Tensor, rank: int, allowed: float
) -> tuple[Tensor, Tensor, Tensor] | None:
    """Gauss-Newton's end, what the outputs still are off, and their Jacobian there."""
    before = math.inf
    for _ in range(12):
        try:
            value, J = jacobian(outputs, theta)
        except ValueError:
            return None  # left the domain: a shorter step
        moved = value - goal
        size = float(moved.abs().max())
        if size <= allowed:
            return theta, moved, J
        if not size < before:
            return None
        before = size
        U, s, Vt = torch.linalg.svd(J, full_matrices=False)
        if rank and float(s[rank - 1]) <= 1e-14 * float(s[0]):
            return None
        theta = theta - Vt[:rank].T @ ((U[:, :rank].T @ moved) / s[:rank])
    return None


def _numbers(values: list[float], like: Tensor) -> Tensor:
    return torch.tensor(values, dtype=like.dtype, device=like.device)
