r"""From the basin to the limit direction: implicit steps on the sphere, and Newton's last word.

With :math:`w = \rho\theta`, :math:`\kappa = \rho^L`, :math:`A = ZJ(\theta)` and :math:`q` the
softmax of the margins :math:`-\kappa ZP(\theta)`, the flow is

.. math:: \dot\theta = A^\top q - \mu\theta, \qquad \frac{d\log\rho}{d\tau} = \mu = \langle
          \theta, A^\top q\rangle.

An implicit step solves, for :math:`\theta, q, c, \mu`,

.. math:: \theta - b = h(A^\top q - \mu\theta), \quad \tfrac1\kappa\log q + ZP(\theta) + c = 0,
          \quad \textstyle\sum q = 1, \quad |\theta| = 1,

where b and h come from backward differences of order two, later from implicit Euler. The weights q
are unknowns of their own: at :math:`\kappa = 10^{10}` a softmax of computed margins has no correct
digit. Beyond that :math:`\kappa` is kept, for it bends the limit by :math:`1/\kappa` only, while
the radius goes on growing, without bound, until the direction stands still.

The limit is a multiple of a solution of :math:`w = \sum_i \alpha_i\nabla m_i(w)`, :math:`m_i = 1`
on the examples with positive multiplier, and ``polish`` finishes it by Newton's method.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from implicit_bias.models.kernels import Kernel
from implicit_bias.multipliers import least_curvature

__all__ = ["Point", "Sphere", "polish"]

Array = NDArray[np.float64]
_LEAST = 1e-300  # of a weight


@dataclass
class Point:
    """A direction on the way, its weights, and the radius as a logarithm."""

    x: Array
    q: Array
    c: float
    mu: float
    log_norm: float
    kappa: float


class Sphere:
    """The flow on the sphere, for signed examples Z of length at most 1."""

    def __init__(self, kernel: Kernel, degree: int, Z: Array, log_size: float, cap: float):
        self.kernel, self.degree, self.Z = kernel, degree, Z
        self.log_size, self.cap = log_size, cap

    def kappa(self, log_norm: float) -> float:
        """The inverse temperature at this radius, capped."""
        log_kappa = self.degree * log_norm + self.log_size
        return math.exp(log_kappa) if log_kappa < math.log(self.cap) else self.cap

    def begin(self, w: Array) -> Point:
        """The point of the flow that the parameters w are."""
        norm = float(np.linalg.norm(w))
        x = w / norm
        kappa = self.kappa(math.log(norm))
        m = self.Z @ self.kernel.value(x)
        low = float(m.min())
        q = np.exp(-kappa * (m - low))
        total = float(q.sum())
        q = np.maximum(q / total, _LEAST)
        mu = self.degree * float(q @ m)  # Euler's theorem
        return Point(x, q, math.log(total) / kappa - low, mu, math.log(norm), kappa)

    def step(self, base: Array, h: float, kappa: float, guess: Point) -> tuple[Point, int] | None:
        """The x = base + h (A^T q - mu x) of norm 1 near the guess, and the number of iterations.

        None if Newton's method fails. The radius of what comes back is that of the guess.
        """
        from scipy.linalg.lapack import dgesv

        P, n = guess.x.size, guess.q.size
        x, q, mu = guess.x, guess.q, guess.mu
        m = self.Z @ self.kernel.value(x)
        c = -float(q @ (np.log(q) / kappa + m))
        goal = 1e-8 if kappa < self.cap else 1e-11
        # Where the gradients of margins depend on each other, q is known as well as log q is.
        noise = 1e-15 * kappa
        before = math.inf
        for count in range(1, 16):
            A = self.Z @ self.kernel.jacobian(x)
            pull = A.T @ q
            # The first equation is divided by 1 + h mu, so that h may be anything.
            scale = 1 / (1 + h * mu)
            if not scale > 0:
                return None
            r1 = (x - base) * scale - h * scale * (pull - mu * x)
            r2 = np.log(q) / kappa + m + c
            # Rows of the weights' equation: times kappa q where that is small.
            s = np.minimum(1.0, kappa * q)
            M = np.zeros((P + n + 2, P + n + 2))
            M[:P, :P] = -h * scale * self.kernel.hessian(x, q @ self.Z)
            M[np.arange(P), np.arange(P)] += 1.0
            M[:P, P : P + n] = -h * scale * A.T
            M[:P, -1] = h * scale * x
            M[P : P + n, :P] = s[:, None] * A
            M[np.arange(P, P + n), np.arange(P, P + n)] = s / (kappa * q)
            M[P : P + n, -2] = s
            M[-2, P : P + n] = 1.0
            M[-1, :P] = x
            right = np.concatenate([-r1, -s * r2, [1 - q.sum(), (1 - x @ x) / 2]])
            _, _, move, info = dgesv(M, right, overwrite_a=True)
            if info != 0 or not np.isfinite(move).all():
                return None
            size = float(np.linalg.norm(move[:P]))
            damp = min(1.0, 0.1 / size) if size else 1.0
            x = x + damp * move[:P]
            change = damp * move[P : P + n] / q
            # The equation is one of log q: from above its Newton step is multiplicative.
            q = q * np.where(change < 0, np.exp(np.clip(change, -600.0, 0.0)), 1 + change)
            c, mu = c + damp * float(move[-2]), mu + damp * float(move[-1])
            m = self.Z @ self.kernel.value(x)
            # An example that was far away and is violated now enters with a weight at once.
            q = np.maximum(q, np.minimum(1e-6, np.exp(np.minimum(-kappa * (m + c), 0.0))))
            q = np.clip(q, _LEAST, 2.0)
            error = max(size, float(np.abs(damp * move[P : P + n]).max()) - noise)
            if damp == 1 and error <= goal:
                return self.landed(x, q, c, mu, guess, kappa), count
            if count > 6 and error > 0.5 * before:
                return None
            before = error
        return None

    def landed(self, x: Array, q: Array, c: float, mu: float, guess: Point, kappa: float) -> Point:
        """The point that the unknowns are."""
        return Point(x / float(np.linalg.norm(x)), q, c, mu, guess.log_norm, kappa)

    def approach(
        self, at: Point, growth: float, bend: float, budget: int
    ) -> tuple[list[Point], str]:
        """The points of the flow until kappa is capped, and "ended" or why not.

        In a step log kappa grows by at most ``growth``, and the direction deviates from a straight
        course by at most ``bend``.
        """
        return self.march(at, growth / self.degree, bend, budget, lambda p: p.kappa >= self.cap)

    def march(
        self,
        at: Point,
        longest: float,
        bend: float,
        budget: int,
        ended: Callable[[Point], bool],
    ) -> tuple[list[Point], str]:
        """Points of the flow, by backward differences of order two, h mu at most ``longest``."""
        points, lengths = [at], [1.0]
        h = 1e-3 / max(at.mu, float(np.linalg.norm(self.velocity(at))))
        for _ in range(budget):
            if ended(at):
                return points, "ended"
            h = min(h, longest / at.mu)
            if len(points) == 1:
                base, log_base, part, course = at.x, at.log_norm, h, at.x
            else:
                old, r = points[-2], h / lengths[-1]
                part = h * (1 + r) / (1 + 2 * r)
                share = r**2 / (1 + 2 * r)
                base = at.x + share * (at.x - old.x)
                log_base = at.log_norm + share * (at.log_norm - old.log_norm)
                course = at.x + r * (at.x - old.x)
            kappa = self.kappa(log_base + part * at.mu)
            x = course / float(np.linalg.norm(course))
            done = self.step(base, part, kappa, Point(x, at.q, at.c, at.mu, math.nan, kappa))
            error = math.inf
            if done is not None and done[0].mu > 0:
                error = float(np.linalg.norm(done[0].x - course))
            if error > 2 * bend or done is None:
                h *= 0.25 if error == math.inf else max(0.2, 0.8 * math.sqrt(bend / error))
                if h * at.mu < 1e-12:
                    return points, "stuck"
                continue
            at = done[0]
            at.log_norm = log_base + part * at.mu
            points.append(at)
            lengths.append(h)
            # Beyond a ratio of 1 + sqrt 2 these formulas are unstable.
            h *= min(2.0, 0.9 * math.sqrt(bend / max(error, 1e-12)))
        return points, "budget"

    def settle(self, at: Point, reach: float, budget: int) -> tuple[Point, str, int]:
        """The limit at capped kappa, "converged" or why not, and the number of steps.

        Implicit Euler with steps that grow until the direction stands still; none moves it by more
        than ``reach``.
        """
        h = 0.1 / at.mu
        for steps in range(budget):
            # Along a symmetry the equations determine the step to 1e-16 h mu only.
            h = min(h, 1e6 / at.mu)
            done = self.step(at.x, h, at.kappa, at)
            if done is None or not done[0].mu > 0:
                h /= 4
                if h * at.mu < 1e-12:
                    return at, "stuck", steps
                continue
            moved = float(np.linalg.norm(done[0].x - at.x))
            if moved > reach:
                h *= max(0.2, 0.8 * reach / moved)
                continue
            at = done[0]
            at.log_norm += math.log1p(h * at.mu)
            if h * at.mu > 1e3 and moved <= 1e-9:
                return at, "converged", steps
            h *= min(5.0, 0.8 * reach / max(moved, 1e-12))
        return at, "budget", budget

    def limit(self, at: Point, bend: float, reach: float, budget: int) -> tuple[Point, str, int]:
        """The point at which the flow at capped kappa comes to rest, why, and the number of steps.

        Long implicit steps come to rest at saddles too, from which the flow departs in the end: its
        distance grows like a power of the norm, but from next to nothing. So where the
        stationary point has a direction of negative curvature, the flow is followed past it, in
        steps that resolve this growth.
        """
        total = 0
        for _ in range(6):
            end, why, steps = self.settle(at, reach, budget)
            total += steps
            rate = -self.curvature(end) if why == "converged" else 0.0
            if rate <= 1e-6:
                return end, why, total
            nearest = [math.inf]

            def left(p: Point, saddle: Array = end.x, nearest: list[float] = nearest) -> bool:
                away = float(np.linalg.norm(p.x - saddle))
                nearest[0] = min(nearest[0], away)
                return away > max(0.01, 10 * nearest[0])

            # From rounding, 1e-17, to size 1 it takes 40 / rate, and as many steps times 5.
            points, why = self.march(at, 0.2 / rate, bend, 400, left)
            total += len(points) - 1
            if why != "ended":
                # Not even rounding leads away: the start was on the saddle's own manifold.
                return end, "converged", total
            at = points[-1]
        return end, "budget", total

    def curvature(self, at: Point) -> float:
        """The least curvature of (14) at a stationary point, where that of the norm is 1."""
        w, alpha = scaled(self.kernel, self.degree, self.Z, at)
        return least_curvature(self.kernel, self.Z, w, alpha)

    def velocity(self, at: Point) -> Array:
        """The derivative of the direction."""
        return self.kernel.trace(at.x)[1](at.q @ self.Z) - at.mu * at.x


def scaled(kernel: Kernel, degree: int, Z: Array, point: Point) -> tuple[Array, Array]:
    """The multiple of a direction whose least margin is 1, and multipliers like its weights."""
    w = point.x * float((Z @ kernel.value(point.x)).min()) ** (-1 / degree)
    # |w|^2 = L sum alpha.
    return w, point.q / float(point.q.sum()) * float(w @ w) / degree


def polish(
    kernel: Kernel, degree: int, Z: Array, point: Point, steps: int = 4
) -> tuple[Array, float] | None:
    """The solution of the equations of (14) next to the point, as a direction; and its distance.

    None where there is none: a multiplier or a margin comes out with the wrong sign.
    """
    from scipy.linalg import lstsq

    if not float((Z @ kernel.value(point.x)).min()) > 0:
        return None
    w, alpha = scaled(kernel, degree, Z, point)
    active = alpha > 1e-8 * float(alpha.max())
    rows, alpha = Z[active], alpha[active]
    P, n = w.size, alpha.size
    for k in range(steps):
        A = rows @ kernel.jacobian(w)
        M = np.zeros((P + n, P + n))
        M[:P, :P] = np.eye(P) - kernel.hessian(w, alpha @ rows)
        M[:P, P:] = -A.T
        M[P:, :P] = A
        right = -np.concatenate([w - A.T @ alpha, rows @ kernel.value(w) - 1])
        # Symmetries of the network make it singular: the least move is along none of them.
        # At first they hold as nearly as the point is stationary, and their moves would be noise.
        cut = 1e-10 if k else 1e-6
        move = lstsq(M, right, cond=cut, lapack_driver="gelsy", check_finite=False)[0]
        if not np.isfinite(move).all():
            return None
        w, alpha = w + move[:P], alpha + move[P:]
        if np.linalg.norm(move[:P]) <= 1e-14 * np.linalg.norm(w):
            break
    margins = Z @ kernel.value(w)
    if alpha.min() < -1e-9 * alpha.max() or margins.min() < 1 - 1e-9:
        return None
    x = w / float(np.linalg.norm(w))
    return x, float(np.linalg.norm(x - point.x))
