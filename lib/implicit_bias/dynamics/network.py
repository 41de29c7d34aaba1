r"""The gradient flow of a linear network on separable data, to its limit direction.

On data that it separates, a network's parameters run off to infinity, and only their direction
converges: to a stationary point that the start chooses. The way there has three parts, each with
its own difficulty.

1. *Which* limit is decided while the loss is still of order one, near saddles: an explicit
   integrator of order eight (``dynamics.basin``) until the inverse temperature
   :math:`\kappa = \max_i|z_i|\,|w|^L` is some hundreds and all margins are positive.
2. The limit itself lies at :math:`\kappa = \infty`, and the error falls like a power of
   :math:`\kappa`, itself about :math:`\log t`: implicit steps on the sphere (``dynamics.sphere``)
   follow the flow until :math:`\kappa` reaches a cap, and then go to rest with it kept there.
3. What is left, about :math:`10^{-10}`, is :math:`1/\kappa`: Newton's method on the stationarity
   equations of G18's (14) names the point to rounding. That would make the evidence circular, so
   the record holds the flow's own end, and the distance to the polished point beside it.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from implicit_bias.arrays import as_count
from implicit_bias.dynamics.basin import Basin, log_length
from implicit_bias.dynamics.sphere import Point, Sphere, polish
from implicit_bias.dynamics.stuck import check_separable, explain_basin, explain_sphere
from implicit_bias.losses import tail_named
from implicit_bias.models.parameterisation import Parameterisation, as_number
from implicit_bias.multipliers import signed_examples
from implicit_bias.problems import Classification
from implicit_bias.records import Path
from implicit_bias.threads import single_threaded

__all__ = ["NetworkPath", "network_flow"]

Array = NDArray[np.float64]
_CAP = 1e10  # of kappa |P(w/|w|)|: beyond it margins that differ have no correct difference
_BEND = 0.002  # how far a step may deviate from its course, until kappa is at the cap
_REACH = 0.05  # how far it may go from there
_FARTHEST = 1e-5  # how far a polish may go
_HOTTEST = 1e8  # of kappa, for a start
_RANGE = 600.0  # of the logarithms of products of L weights
_LARGEST = 3000  # parameters; a step on the sphere solves a system of this size


@dataclass(frozen=True, eq=False)
class NetworkPath(Path):
    r"""The record of a network's flow to its limit direction.

    Attributes
    ----------
    times : Tensor, shape (k,)
        Natural logarithms of the time, from -inf at the start; the last is inf when the flow was
        followed to its limit. Good to one or two hundredths near the hand-off, where the steps are
        longest, and far out to some tenths, of values that may be 1e9: they are quadratures over
        the steps, and the error of a time is that of a factor.
    points : Tensor, shape (k, P)
        Directions :math:`w/\|w\|`; the last, ``x``, is where the flow rests when the inverse
        temperature is kept at its cap: its own limit direction up to rounding at that cap, not
        polished, and not a point that the flow passes at a finite time.
    log_norms : Tensor, shape (k,)
        Natural logarithms of :math:`\|w\|`; inf at the limit.
    losses, log_losses : Tensor, shape (k,)
    kappas : Tensor, shape (k,)
        The inverse temperature :math:`\max|z_i|\,|w|^L`; at the limit the value at which it was
        kept, 1e10 over the norm of the predictor of a unit vector at the hand-off.
    residuals : Tensor, shape (k,)
        How far each point is from stationary for (14), with the flow's own softmax weights for
        multipliers (nothing is fitted); inf until the data are separated. An upper bound on the
        residual of ``parameter_certificate``.
    predictor : Tensor, shape (d,) or (d, k)
        The limit direction of the predictor, of Euclidean norm 1, from the flow's own end.
    polished : Tensor or None, shape (P,)
        The direction after Newton's method; None where it was refused or not asked for.
    moved : float
        Its distance from ``x``; nan where there is none.
    polished_predictor : Tensor or None
        Its predictor, of Euclidean norm 1.
    hand_off : int
        The index of the point from which implicit steps went on; k where they never did.

    Examples
    --------
    >>> from implicit_bias.models.linear import LinearNetwork
    >>> problem = Classification([[1.0, 0.2], [0.2, 1.0]], [1, 1])
    >>> path = network_flow(problem, LinearNetwork("diagonal", 2, 2), [1.0, 0.5, 1.0, 0.5])
    >>> path.predictor, path.moved < 1e-8
    (tensor([0.7071, 0.7071], dtype=torch.float64), True)
    """

    log_norms: Tensor = field(default_factory=lambda: torch.empty(0))
    kappas: Tensor = field(default_factory=lambda: torch.empty(0))
    residuals: Tensor = field(default_factory=lambda: torch.empty(0))
    predictor: Tensor = field(default_factory=lambda: torch.empty(0))
    polished: Tensor | None = None
    moved: float = math.nan
    polished_predictor: Tensor | None = None
    hand_off: int = 0


def _check(
    network: Parameterisation, rtol: float, hand_off: float, log_norm: float | None, w0: Array
) -> None:
    if not 1e-13 <= rtol <= 1e-3:
        raise ValueError(
            f"rtol = {rtol}: below 1e-13 rounding is all there is, and above 1e-3 the integrator "
            f"may leave the basin of the limit. 1e-8 is the default."
        )
    if not 1 <= hand_off <= 1e6:
        raise ValueError(
            f"hand_off = {hand_off} is not between 1 and 1e6: earlier the limit is not decided, "
            f"later the explicit integrator takes a step for every few units. 300 is the default."
        )
    if log_norm is not None and not math.isfinite(log_norm):
        raise ValueError(
            f"log_norm = {log_norm} is not a number at which the flow could end. Pass the "
            f"logarithm of a norm, or None for the limit direction."
        )
    size = log_length(w0)
    if log_norm is not None and size >= log_norm:
        raise ValueError(
            f"start has log |w| = {size:.4g} already, so the flow to log_norm = "
            f"{log_norm:.4g} has no length. Start closer to zero, or go further."
        )
    if log_norm is None and not network.homogeneous:
        raise ValueError(
            "The map is not homogeneous, so there is no flow of directions to follow to its "
            "limit. Pass log_norm, the logarithm of the norm at which to end."
        )
    if log_norm is None and w0.size > _LARGEST:
        raise ValueError(
            f"The network has {w0.size} parameters, and each implicit step solves a dense system "
            f"of that size; the limit is {_LARGEST}. Take a smaller width, or pass log_norm to "
            f"follow the flow without implicit steps."
        )
    if not w0.any():
        raise ValueError(
            "start = 0 is a saddle: the gradient of a product of layers vanishes there, and the "
            "flow never leaves it. Start at network.sample(seed, scale), scale 0.1 to 1."
            if network.degree > 1
            else "start = 0 has no direction. Start anywhere else; the limit is the same."
        )
    if abs(size) * max(network.degree, 2) > _RANGE:
        raise ValueError(
            f"start is so {'large' if size > 0 else 'close to zero'}, log |w| = {size:.4g}, that "
            f"products of {max(network.degree, 2)} of its entries leave the range of floats. Start "
            f"at a norm near 1."
        )


def _residual(basin: Basin, x: Array, q: Array) -> float:
    """How far the direction x is from stationary, with multipliers in proportion to q."""
    beta, pull = basin.kernel.trace(x)
    m = basin.Z @ beta
    least, degree = float(m.min()), basin.degree
    if not least > 0:
        return math.inf
    mu = degree * float(q @ m)
    away = float(np.linalg.norm(x - pull(q @ basin.Z) / mu))
    slack = degree * least / mu * q * (m / least - 1)
    return math.hypot(away, float(np.linalg.norm(slack)))


def _times(points: list[Point], log_time: float, log_size: float, degree: int) -> list[float]:
    """log t at these points of the sphere, of which the first is at ``log_time``."""
    times = [log_time]
    for a, b in itertools.pairwise(points):
        # dt = dtau / (|z| |w|^(L-2) loss) with log loss = kappa c, linear in tau in between, and
        # mu dtau = d log |w|.
        fall = a.kappa * a.c - b.kappa * b.c
        arc = 2 * (b.log_norm - a.log_norm) / (a.mu + b.mu)
        part = math.log(-math.expm1(-fall) / fall) if fall > 1e-8 else 0.0
        weight = -b.kappa * b.c - (degree - 2) * b.log_norm + part
        times.append(float(np.logaddexp(times[-1], math.log(arc) - log_size + weight)))
    return times


@single_threaded
def network_flow(
    problem: Classification,
    network: Parameterisation,
    start: Any,
    *,
    loss: str = "exponential",
    rtol: float = 1e-8,
    hand_off: float = 300.0,
    growth: float = 0.3,
    log_norm: float | None = None,
    steps: int = 5000,
) -> NetworkPath:
    r"""Returns the gradient flow of the loss in a network's parameters, to its limit direction.

    The flow is :math:`\dot w = -\nabla_w\sum_i\ell(y_i\langle x_i, P(w)\rangle)`.

    Parameters
    ----------
    problem : Classification
        X of shape (n, d), y of shape (n,), or (n, k) for a network of k outputs.
    network : LinearNetwork or Parameterisation
        The map P, homogeneous of degree L.
    start : array, shape (P,), or (L, d) where all layers have d weights
        Not zero. ``network.sample(seed, scale)`` with a scale of 0.1 to 1 is a good one.
    loss : str
        "exponential" or "logistic"; with the latter the hand-off waits until all margins exceed
        37, beyond which it is an exponential to the last digit.
    rtol : float
        Relative error of a step of the explicit integrator.
    hand_off : float
        The inverse temperature at which implicit steps take over, if all margins are positive.
    growth : float
        The largest growth of log kappa in an implicit step, until kappa is capped.
    log_norm : float, optional
        End where :math:`\log\|w\|` has this value, without implicit steps, instead of in the limit.
        The only way for a map that is not homogeneous.
    steps : int
        The budget of explicit steps.

    Returns
    -------
    NetworkPath
        ``stopped`` is "converged" (the direction stands still), "budget" (its implicit steps ran
        out while it was still turning) or "reached" (``log_norm``). ``x`` is a unit vector.

    Raises
    ------
    NotSeparable
        If no predictor separates the data, with a certificate; found before the flow begins.
    Stuck
        If the flow does not separate them: it rests at a saddle, or runs out of steps.
    TypeError, ValueError
        If an argument is out of range.

    Notes
    -----
    Source: G18, Theorems 1, 2, 2a and 4, which are about gradient descent; their limits are those
    of the flow. A flow that comes close to a saddle leaves it again, if only at norms like
    :math:`e^{100}`, and is followed past it; only on the saddle's own manifold (a symmetric start,
    a coefficient that is exactly zero) does it end there: see ``second_order`` of
    ``parameter_certificate``. Between two limits lies a boundary, and a start that is within the
    error of the integrators of it may come out on either side. Dense: a step costs :math:`O((P +
    n)^3)`. A polish that moves the direction by more than 1e-5, or that ends outside the
    constraints, is refused.

    Examples
    --------
    >>> from implicit_bias.models.linear import LinearNetwork
    >>> problem = Classification([[2.0, 1.0]], [1])
    >>> network = LinearNetwork("diagonal", 2, depth=3)
    >>> network_flow(problem, network, network.sample(0)).predictor.abs().round(decimals=10)
    tensor([1., 0.], dtype=torch.float64)
    """
    if not isinstance(network, Parameterisation):
        raise TypeError(
            f"network is a {type(network).__name__}; network_flow needs a LinearNetwork, or a "
            f"Parameterisation of your own map."
        )
    if loss not in ("exponential", "logistic"):
        raise ValueError(
            f"loss = {loss!r}: limit directions are those of losses with an exponential tail. "
            f"Choose 'exponential' or 'logistic'."
        )
    w0 = network.flat(start, "start")
    steps = as_count(steps, "steps")
    rtol, hand_off = as_number(rtol, "rtol"), as_number(hand_off, "hand_off")
    growth = as_number(growth, "growth")
    log_norm = None if log_norm is None else as_number(log_norm, "log_norm")
    _check(network, rtol, hand_off, log_norm, w0)
    if not (math.isfinite(growth) and growth > 0):
        raise ValueError(f"growth = {growth} is not a positive number; 0.3 is the default.")
    kernel, degree = network.kernel, network.degree
    Z = signed_examples(problem, kernel.value(w0).size, "network_flow")
    basin = Basin(kernel, degree, Z, tail_named(loss))
    if basin.size == 0:
        raise ValueError("All examples are zero, so all margins are. Check how X was made.")
    if log_norm is None and basin.heat(w0) > _HOTTEST:
        raise ValueError(
            f"start is so large that the inverse temperature max |z| |w|^L is {basin.heat(w0):.2g} "
            f"from the first: above {_HOTTEST:g} floats cannot tell the limits apart. Divide X by "
            f"its largest entry and start at a norm near 1, or start at |w| of about "
            f"{basin.lukewarm():.2g}."
        )
    check_separable(Z, problem)
    track, why = basin.follow(w0, hand_off, log_norm, rtol, steps)
    if why not in ("decided", "reached"):
        explain_basin(basin, problem, track, why)
    norms = [float(np.linalg.norm(w)) for w in track.w]
    points = [w / norm for w, norm in zip(track.w, norms, strict=True)]
    weights = [basin.tail.weights(Z @ kernel.value(w))[0] for w in track.w]
    times, log_losses = list(track.log_time), list(track.log_loss)
    log_norms = [math.log(norm) for norm in norms]
    log_size = math.log(basin.size)
    kappas = [math.exp(min(degree * g + log_size, 700.0)) for g in log_norms]
    first, explicit = len(points), len(points) - 1
    polished, moved, beta = None, math.nan, kernel.value(track.w[-1])
    if why == "decided":
        # Deep products of unit vectors are small; the temperature is relative to them.
        cap = _CAP / float(np.clip(np.linalg.norm(kernel.value(points[-1])), 1e-3, 1e3))
        sphere = Sphere(kernel, degree, Z / basin.size, log_size, cap)
        early, why = sphere.approach(sphere.begin(track.w[-1]), growth, _BEND, 2000)
        end = early.pop() if why == "ended" else early[-1]
        explicit += len(early)
        if why == "ended":
            # At and beyond the cap the points are not those of a time; only the last is kept.
            end, why, more = sphere.limit(end, _BEND, _REACH, 1000)
            explicit += more
        if why == "stuck":
            explain_sphere(end, problem)
        kept = [*early[1:], end]
        first -= 1
        points += [point.x for point in kept]
        weights += [point.q for point in kept]
        times += [*_times(early, times[-1], log_size, degree)[1:], math.inf]
        log_losses += [*(point.kappa * point.c for point in early[1:]), -math.inf]
        log_norms += [*(point.log_norm for point in early[1:]), math.inf]
        kappas += [point.kappa for point in kept]
        beta = kernel.value(end.x)
        better = polish(kernel, degree, Z / basin.size, end)
        if better is not None:
            polished, moved = better
            polished = polished if moved <= _FARTHEST else None
    residuals = [_residual(basin, x, q) for x, q in zip(points, weights, strict=True)]
    device = problem.X.device

    def tensor(values: Any) -> Tensor:
        return torch.from_numpy(np.array(values, dtype=np.float64)).to(device)

    def direction(beta: Array) -> Tensor:
        return tensor((beta / np.linalg.norm(beta)).reshape(network.output_shape or (-1,)))

    return NetworkPath(
        times=tensor(times),
        points=tensor(points),
        losses=tensor(log_losses).exp(),
        stopped=why,
        steps=explicit,
        log_losses=tensor(log_losses),
        log_norms=tensor(log_norms),
        kappas=tensor(kappas),
        residuals=tensor(residuals),
        predictor=direction(beta),
        polished=None if polished is None else tensor(polished),
        moved=moved,
        polished_predictor=None if polished is None else direction(kernel.value(polished)),
        hand_off=first,
    )
