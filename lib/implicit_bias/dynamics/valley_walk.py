r"""Random walk of a network along its valley of zero square loss.

At a zero of :math:`L(\theta) = \frac12\lVert f(\theta) - y\rVert^2`, add noise
:math:`\sigma\xi` to all p parameters and follow the gradient flow back to zero. To first order it
takes away :math:`J^+J\xi` and leaves :math:`P\xi`, :math:`P = I - J^+J` of trace
:math:`N = p - \mathrm{rank}J`. With :math:`e` the map from a point to the end of its flow,

.. math:: E\,\lVert e(\theta + \sigma\xi)\rVert^2 - \lVert\theta\rVert^2
          = \sigma^2\big(N + \langle\theta, \Delta e(\theta)\rangle\big) + O(\sigma^4) .

The second term is the curvature of the valley and of the flow to it. Expanding the flow to second
order (at zero residual :math:`\nabla^3L[a, a] = 2\sum_i f_i''a\,\langle J_i, a\rangle +
J^\top f''[a, a]`, with :math:`E\,aa^\top = e^{-2Ht}`) and integrating over time,

.. math:: \langle\theta, \Delta e\rangle = -\sum_i \Big(\langle\theta, J^+_i\rangle
          \operatorname{tr}(P f_i'') + \langle P\theta, f_i'' J^+_i\rangle\Big),

:math:`J^+_i` the columns of :math:`J^+`: zero if f is linear in its parameters. Kicks in pairs
:math:`\pm\xi` cancel the noisy first order, and measure the sum.

The flow is followed by exponential steps :math:`\theta \leftarrow \theta -
J^\top K^{-1}(1 - e^{-hK})\,r`, :math:`K = JJ^\top`, exact where f is linear.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from implicit_bias.arrays import as_count, as_real
from implicit_bias.models.dense import DenseNetwork
from implicit_bias.models.pure import outputs_like

__all__ = ["ValleyWalk", "valley_gain", "valley_walk"]


@dataclass(frozen=True, eq=False)
class ValleyWalk:
    """Points on the valley after each kick, for independent walks from one point.

    Attributes
    ----------
    points : Tensor, shape (times + 1, repeats, p)
        After the flow back to zero loss; entry 0 is the start.
    squared_norm : Tensor, shape (times + 1, repeats)
    kicked_norm : Tensor, shape (times + 1, repeats)
        Squared norm just after the kick; NaN in entry 0.
    gain : Tensor, shape (times + 1, repeats)
        Growth of the squared norm that is expected of the kick after the flow, to first order:
        :math:`\\sigma^2 N`; NaN in entry 0.
    free : int
        N = p - rank J at the start.
    largest_loss : float
        The largest loss on the valley.

    Examples
    --------
    >>> walk = valley_walk(DenseNetwork((2, 1), bias=False), [1.0, 0.0], [[1.0, 0.0]], [1.0])
    >>> walk.free, walk.points.shape, walk.largest_loss < 1e-20
    (1, torch.Size([11, 50, 2]), True)
    """

    points: Tensor
    squared_norm: Tensor
    kicked_norm: Tensor
    gain: Tensor
    free: int
    largest_loss: float


def valley_gain(network: DenseNetwork, theta: Any, X: Any) -> tuple[int, float]:
    r"""Returns N, and the second-order gain of the squared norm by a kick over :math:`\sigma^2`.

    The gain is :math:`N + \langle\theta, \Delta e(\theta)\rangle`, after the flow back.

    Parameters
    ----------
    network : DenseNetwork
        Smooth: the ReLU has no second derivative to speak of.
    theta : array, shape (p,)
        A point of zero square loss, for whatever targets.
    X : array, shape (n, d)

    Raises
    ------
    ValueError
        If the Jacobian has not full row rank, or there would be more than 4e7 second derivatives.

    Notes
    -----
    Source: P18, section 4.1, which has N for every network. That holds for models that are linear
    in their parameters: see E-P18-curved-valley.

    Examples
    --------
    >>> valley_gain(DenseNetwork((3, 1), bias=False), [1.0, 2.0, 3.0], [[1.0, 0.0, 0.0]])
    (2, 2.0)
    """
    t, X = as_real(theta, "theta").detach(), as_real(X, "X")

    def outputs(v: Tensor) -> Tensor:
        return network(v, X).reshape(-1)

    J = torch.func.jacrev(outputs)(t)
    n, p = J.shape
    _check_rank(J)
    if n * p * p > 4e7:
        raise ValueError(
            f"{n} outputs and {p} parameters have {n * p * p:.2g} second derivatives. Take a "
            f"smaller network, or measure with antithetic valley_walk."
        )
    second = torch.func.jacrev(torch.func.jacrev(outputs))(t)  # (n, p, p)
    plus = torch.linalg.pinv(J)
    P = torch.eye(p, dtype=t.dtype, device=t.device) - plus @ J
    across = (t @ plus) @ torch.einsum("ijk,jk->i", second, P)
    along = torch.einsum("j,ijk,ki->", P @ t, second, plus)
    return p - n, float(p - n - across - along)


def _check_rank(J: Tensor) -> None:
    n, p = J.shape
    s = torch.linalg.svdvals(J)
    if n > p or not float(s[-1]) > 1e-6 * float(s[0]):
        raise ValueError(
            f"The Jacobian ({n} outputs, {p} parameters) has not full row rank here: the flow "
            f"would have modes that do not decay. Take more parameters or fewer examples."
        )


def valley_walk(
    network: DenseNetwork,
    start: Any,
    X: Any,
    y: Any,
    noise: Literal["relative", "fixed"] = "fixed",
    size: float = 0.02,
    times: int = 10,
    repeats: int = 50,
    seed: int = 0,
    antithetic: bool = False,
    substeps: int = 2,
) -> ValleyWalk:
    r"""Returns walks of repeated noise, each followed by the gradient flow to zero square loss.

    Parameters
    ----------
    network : DenseNetwork
    start : array, shape (p,)
        Where the loss is zero, for example from ``reach_zero``.
    X, y : arrays, shapes (n, d) and (n,) or (n, outputs)
    noise : str
        Standard deviation ``size`` times the root mean square of the parameters: at the start
        ("fixed"), or of each walk as it is ("relative").
    size : float
        Positive, and small: the theory is that of small kicks.
    times, repeats, seed : int
        Kicks, independent walks, seed of the noise (drawn on the CPU).
    antithetic : bool
        Walks in pairs, the second with the opposite of the noise of the first; repeats is even.
    substeps : int
        Steps of the integrator for each doubling of the time.

    Returns
    -------
    ValleyWalk

    Raises
    ------
    ArithmeticError
        If a walk does not come back to the valley: the kicks are too large.
    TypeError, ValueError
        If the loss is not zero at the start, the Jacobian has not full row rank there, or an
        argument is out of range.

    Notes
    -----
    Source: P18, section 4.1, predictions, with E-P18-random-walk. For the ReLU a kick that
    crosses a kink leaves the theory.

    Examples
    --------
    >>> walk = valley_walk(DenseNetwork((2, 1), bias=False), [1.0, 0.0], [[1.0, 0.0]], [1.0])
    >>> bool((walk.points[..., 0] - 1).abs().max() < 1e-9)  # what the data see is restored
    True
    """
    theta = as_real(start, "start").detach()
    X, y = as_real(X, "X"), as_real(y, "y")
    if noise not in ("relative", "fixed"):
        raise ValueError(f"noise = {noise!r}; pass 'relative' or 'fixed'.")
    if not (isinstance(size, (int, float)) and 0 < size < math.inf):
        raise ValueError(f"size = {size!r} must be a positive number; kicks should be small.")
    times, repeats = as_count(times, "times"), as_count(repeats, "repeats")
    substeps = as_count(substeps, "substeps")
    if antithetic and repeats % 2:
        raise ValueError(f"repeats = {repeats} is odd, and antithetic walks come in pairs.")

    def residual(t: Tensor) -> Tensor:
        r: Tensor = (outputs_like(network(t, X), y) - y).reshape(-1)
        return r

    def both(t: Tensor) -> tuple[Tensor, Tensor]:
        r = residual(t)
        return r, r

    local = torch.func.vmap(torch.func.jacrev(both, has_aux=True))
    J, r = (part[0] for part in local(theta[None]))
    n, p = J.shape
    floor = 1e-22 * max(float(y.square().sum()), 1.0)  # of the loss
    if not 0.5 * float(r.square().sum()) <= 1e-16 * max(float(y.square().sum()), 1.0):
        raise ValueError(
            f"The loss is {0.5 * float(r.square().sum()):.3g} at the start, which is not on the "
            f"valley. Pass the end of reach_zero(network, X, y)."
        )
    _check_rank(J)
    rng = np.random.default_rng([as_count(seed, "seed", least=0), 7])
    walks = theta.expand(repeats, -1).clone()
    first = size * float(theta.square().mean().sqrt())
    nan = torch.full((repeats,), math.nan, dtype=torch.float64, device=theta.device)
    points, kicked, gains, worst = [walks], [nan], [nan], 0.0
    for _ in range(times):
        if noise == "fixed":
            sigma = torch.full((repeats, 1), first, dtype=torch.float64, device=theta.device)
        else:
            sigma = size * walks.square().mean(1, keepdim=True).sqrt()
        draws = torch.from_numpy(rng.standard_normal((repeats // (1 + antithetic), p)))
        draws = torch.stack([draws, -draws], 1).reshape(repeats, p) if antithetic else draws
        walks = walks + sigma * draws.to(theta.device)
        kicked.append(walks.square().sum(1))
        gains.append(sigma[:, 0].square() * (p - n))
        walks, loss = _return(local, walks, floor, substeps)
        worst = max(worst, loss)
        points.append(walks)
    path = torch.stack(points)
    return ValleyWalk(
        path, path.square().sum(2), torch.stack(kicked), torch.stack(gains), p - n, worst
    )


def _return(local: Any, walks: Tensor, floor: float, substeps: int) -> tuple[Tensor, float]:
    """The ends of the gradient flows from there, and the largest loss."""
    t, h = 0.0, 0.0
    for k in range(60 * substeps):
        J, r = local(walks)
        loss = float(0.5 * r.square().sum(1).max())
        if loss <= floor:
            return walks, loss
        if not math.isfinite(loss):
            break
        values, vectors = torch.linalg.eigh(J @ J.transpose(1, 2))
        if k == 0:
            h = 0.25 / (substeps * float(values.max()))
        values = values.clamp(min=torch.finfo(values.dtype).eps * float(values.max()))
        weight = -torch.expm1(-h * values) / values
        r = (vectors.transpose(1, 2) @ r[:, :, None])[..., 0]
        u = (vectors @ (weight * r)[:, :, None])[..., 0]
        walks = walks - (J.transpose(1, 2) @ u[:, :, None])[..., 0]
        t += h
        h = max(h, t * (2 ** (1 / substeps) - 1))
    raise ArithmeticError(
        "A walk did not come back to zero loss after a kick: it was kicked out of the valley's "
        "reach. Take a smaller size."
    )
