r"""From the start to where the limit is decided: an explicit integrator in an arc of its own.

The gradient flow :math:`\dot w = J(w)^\top Z^\top g` with :math:`g = -\ell'` of a network that is
homogeneous of degree L is followed in :math:`d\sigma = |w|^{L-2}G\,dt`, G the sum of the slopes:

.. math:: \frac{dw}{d\sigma} = \frac{J(w)^\top Z^\top p}{|w|^{L-2}}, \qquad p = g/G.

The right side is of the size of w, however small the loss and however small the start. Below the
temperature at which the margins separate, stationary directions repel each other's basins, and a
method of low order chooses a wrong one: so this part is done by DOP853, of order eight.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from implicit_bias.losses import Tail
from implicit_bias.models.kernels import Kernel

__all__ = ["Basin", "Track", "log_length"]

Array = NDArray[np.float64]
# Twelve nodes of Gauss on each of the pieces [0, 1e-4], ..., [1 - 1e-4, 1]: over a step the rate
# may change by a factor e^100, and then the integral is that of one end.
_GRADED = np.append(0.0, np.geomspace(1e-4, 0.5, 14))
_ENDS = np.append(_GRADED, 1 - _GRADED[-2::-1])
_GAUSS = np.polynomial.legendre.leggauss(12)
_NODES = (_ENDS[:-1, None] + np.diff(_ENDS)[:, None] * (1 + _GAUSS[0]) / 2).reshape(-1)
_WEIGHTS = (np.diff(_ENDS)[:, None] * _GAUSS[1] / 2).reshape(-1)
# The logistic loss is an exponential, to the last digit, of margins beyond this.
_EXPONENTIAL = 37.0


def log_length(w: Array) -> float:
    """log |w|, of entries whose squares may leave the range of floats."""
    top = float(np.abs(w).max())
    return math.log(top) + math.log(float(np.linalg.norm(w / top))) if top else -math.inf


@dataclass
class Track:
    """Where the flow was: one entry for each step."""

    w: list[Array] = field(default_factory=list)
    log_time: list[float] = field(default_factory=list)
    log_loss: list[float] = field(default_factory=list)


class Basin:
    """The flow of a network of this kernel and degree, on signed examples Z."""

    def __init__(self, kernel: Kernel, degree: int, Z: Array, tail: Tail):
        self.kernel, self.degree, self.Z, self.tail = kernel, degree, Z, tail
        self.size = float(np.linalg.norm(Z, axis=1).max())

    def velocity(self, _: float, w: Array) -> Array:
        """dw / dsigma."""
        beta, pull = self.kernel.trace(w)
        p, _ = self.tail.weights(self.Z @ beta)
        return pull(p @ self.Z) * float(np.linalg.norm(w)) ** (2 - self.degree)

    def look(self, w: Array, v: Array) -> tuple[float, float, float, float]:
        """The least margin, log loss, f = log(|w|^(L-2) G) with dt = e^-f dsigma, df/dsigma."""
        beta, pull = self.kernel.trace(w)
        m = self.Z @ beta
        p, log_rate = self.tail.weights(m)
        square = float(w @ w)
        f = log_rate + (self.degree - 2) / 2 * math.log(square)
        slope = -float(pull((p * self.tail.decay(m)) @ self.Z) @ v)
        logs = self.tail.log_value(m)
        top = float(logs.max())
        log_loss = top + math.log(float(np.exp(logs - top).sum()))
        return float(m.min()), log_loss, f, slope + (self.degree - 2) * float(w @ v) / square

    def heat(self, w: Array) -> float:
        """kappa, the inverse temperature of the softmax: max |z| |w|^L."""
        return math.exp(min(700.0, math.log(self.size) + self.degree * log_length(w)))

    def lukewarm(self) -> float:
        """The |w| at which kappa is 100, low enough for explicit steps to be long."""
        return float((100 / self.size) ** (1 / self.degree))

    def decided(self, w: Array, least: float, hand_off: float) -> bool:
        """Whether all margins are positive and kappa is large enough."""
        needed = 0.0 if self.tail.name == "exponential" else _EXPONENTIAL
        return least > needed and self.heat(w) >= hand_off

    def follow(
        self, start: Array, hand_off: float, log_norm: float | None, rtol: float, budget: int
    ) -> tuple[Track, str]:
        """The steps to the hand-off, or to log |w| = log_norm; and why it ended.

        That is "decided", "reached", "rest" (the velocity vanishes), "budget" or "range" (no step
        is short enough, or the parameters leave the range of floats).
        """
        from scipy.integrate import DOP853

        v = self.velocity(0.0, start)
        least, log_loss, f, slope = self.look(start, v)
        track = Track([start], [-math.inf], [log_loss])
        if self.at_rest(start, v):
            return track, "rest"
        scale = float(np.linalg.norm(start)) / math.sqrt(start.size)
        solver = DOP853(
            self.velocity, 0.0, start, math.inf, rtol=rtol, atol=0.1 * rtol * min(scale, 1.0)
        )
        for _ in range(budget):
            if log_norm is None and self.decided(solver.y, least, hand_off):
                return track, "decided"
            if self.at_rest(solver.y, solver.f):
                return track, "rest"
            solver.step()
            if solver.status == "failed" or not np.isfinite(solver.y).all():
                return track, "range"
            w, v, h = solver.y.copy(), solver.f, solver.t - solver.t_old
            ended = log_norm is not None and math.log(float(np.linalg.norm(w))) >= log_norm
            if ended:
                w, h = self.land(solver, float(log_norm or 0.0))
                v = self.velocity(0.0, w)
            before = (f, slope)
            least, log_loss, f, slope = self.look(w, v)
            passed = _log_time(*before, f, slope, h)
            track.w.append(w)
            track.log_time.append(float(np.logaddexp(track.log_time[-1], passed)))
            track.log_loss.append(log_loss)
            if ended:
                return track, "reached"
        return track, "budget"

    def at_rest(self, w: Array, v: Array) -> bool:
        """Whether w would not move by 1e-9 of itself in the time in which it could double."""
        # Beside |w|, and the largest velocity that examples of this size can give: zero margins
        # at w = 0 are not at rest, they only have far to go.
        return float(np.linalg.norm(v)) <= 1e-9 * self.size * float(np.linalg.norm(w))

    def land(self, solver: object, log_norm: float) -> tuple[Array, float]:
        """The point of the last step at which log |w| has this value, and the arc to it."""
        from scipy.optimize import brentq

        between = solver.dense_output()  # type: ignore[attr-defined]
        old, new = solver.t_old, solver.t  # type: ignore[attr-defined]

        def miss(s: float) -> float:
            return math.log(float(np.linalg.norm(between(s)))) - log_norm

        s = new if miss(old) >= 0 else brentq(miss, old, new, xtol=1e-14 * new)
        return between(s), s - old


def _log_time(f: float, slope: float, new: float, new_slope: float, h: float) -> float:
    """log of the integral of e^-f over a step of length h, f Hermite's cubic."""
    u = _NODES
    rise = (new - f) * (3 - 2 * u) * u**2
    curve = f + rise + h * (slope * u * (1 - u) ** 2 - new_slope * (1 - u) * u**2)
    top = float((-curve).max())
    return top + math.log(h * float(_WEIGHTS @ np.exp(-curve - top)))
