r"""The gradient flow on separable data, followed to times beyond all counting.

On separable data :math:`\dot w = Z^\top g(Zw)` with :math:`g = -\ell'` never ends: w grows like
:math:`\log t` and g underflows. Two changes of variable tame it. The arc
:math:`ds = G\,dt`, with G the sum of the slopes, turns it into

.. math:: \frac{dw}{ds} = Z^\top p(Zw), \qquad p_i = g(m_i) / \sum_j g(m_j),

whose right side is a convex combination of the examples, whatever the size of the loss. And time
itself is carried as its logarithm, :math:`t = \int e^{-f}ds` with :math:`f = \log G`.

The flow contracts (for the exponential loss it is the gradient flow of a convex function, the
logarithm of the loss), and late on it is very stiff: p relaxes at once while w crawls along a
line. So each step is implicit, by the L-stable singly diagonal Runge-Kutta method of order four of
Hairer and Wanner with its embedded error estimate. A stage is one *proximal* problem,
:math:`x = b + h'Z^\top p(Zx)`, solved by Newton's method in the k = min(n, d) coordinates of the
row space. As the solution straightens out the steps grow geometrically, and a time of
:math:`\exp(10^8)` costs a few hundred.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from implicit_bias.arrays import as_real
from implicit_bias.losses import Tail, tail_named
from implicit_bias.problems import Classification, as_start
from implicit_bias.records import NotSeparable, Path
from implicit_bias.threads import single_threaded

__all__ = ["margin_flow"]

Array = NDArray[np.float64]

# Hairer & Wanner, Solving Ordinary Differential Equations II, table IV.6.5.
_GAMMA = 0.25
_STAGES = np.array(
    [
        [0.0, 0.0, 0.0, 0.0],
        [1 / 2, 0.0, 0.0, 0.0],
        [17 / 50, -1 / 25, 0.0, 0.0],
        [371 / 1360, -137 / 2720, 15 / 544, 0.0],
        [25 / 24, -49 / 48, 125 / 16, -85 / 12],
    ]
)
_ERROR = np.array([-3 / 16, -27 / 32, 25 / 32, 0.0, 1 / 4])
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(40)
_FLAT = 1e-13  # a pull this small, of examples of length 1, is rounding


@dataclass
class _State:
    """A point of the flow, in row-space coordinates."""

    c: Array
    m: Array  # margins
    pull: Array  # B^T p, the velocity in s
    log_rate: float  # f = log G
    slope: float  # df/ds
    log_time: float
    p: Array
    course: Array  # the same from the last stage: where margins are large, far more accurate


class _Flow:
    """dc/ds = B^T p(m0 + B c), with rows of B of length at most 1."""

    def __init__(self, B: Array, m0: Array, tail: Tail):
        self.B, self.m0, self.tail = B, m0, tail
        self.kept: tuple[float, Any] = (0.0, None)  # the last step length and its factors

    def state(self, c: Array, log_time: float, course: Array | None = None) -> _State:
        m = self.m0 + self.B @ c
        p, log_rate = self.tail.weights(m)
        pull = p @ self.B
        course = pull if course is None else course
        slope = -float((p * self.tail.decay(m)) @ (self.B @ course))
        return _State(c, m, pull, log_rate, slope, log_time, p, course)

    def factor(self, m: Array, p: Array, h: float) -> Any:
        """LU of I - h d(B^T p)/dc."""
        from scipy.linalg.lapack import dgetrf

        q = p * self.tail.decay(m)
        seen = q > 1e-18 * q.max()  # the rest do not reach the last digit
        B, q, p = self.B[seen], q[seen], p[seen]
        matrix = h * ((B.T * q) @ B - np.outer(p @ B, q @ B))
        matrix[np.diag_indices_from(matrix)] += 1.0
        lu, pivots, info = dgetrf(matrix, overwrite_a=True)
        return (lu, pivots) if info == 0 and np.isfinite(lu).all() else None

    def stage(
        self, b: Array, h: float, c: Array, factors: Any, tolerance: float
    ) -> tuple[Array, Any] | None:
        """The solution of c = b + h B^T p, and the last factors; None without one."""
        from scipy.linalg.lapack import dgetrs

        m = self.m0 + self.B @ c
        floor = 4e-16 * float(np.abs(m).max() + np.abs(c).max())
        before = math.inf
        for _ in range(12):
            p, _ = self.tail.weights(m)
            if factors is None:
                factors = self.factor(m, p, h)
                if factors is None:
                    return None
            move = dgetrs(*factors, b + h * (p @ self.B) - c)[0]
            step = self.B @ move
            size = float(np.abs(step).max())
            if not size < 1e3 * before:
                return None
            # Beyond a unit of margin the linear model of p means nothing.
            damp = min(1.0, 2.0 / size) if size else 1.0
            c, m = c + damp * move, m + damp * step
            if size <= max(tolerance, floor):
                return c, factors
            if size > 0.1 * before or damp < 1:
                factors = None
            before = size
        return None

    def step(self, at: _State, h: float, tolerance: float) -> tuple[_State, float] | None:
        """One step of length h and its estimated error; None if a stage has no solution."""
        from scipy.linalg.lapack import dgetrs

        # While the length stays the matrix hardly changes: it is renewed when Newton slows down.
        factors: Any = self.kept[1] if self.kept[0] == h else None
        slopes = np.empty((5, at.c.size))
        # A stage begins where the course leads. The pull will not do: an error of 1e-6 in the
        # margins is one of 1e-6 in p, and a step may be 1e12 long.
        slope, c = at.course, at.c
        for i in range(5):
            b = at.c + h * (_STAGES[i, :i] @ slopes[:i]) if i else at.c
            solved = self.stage(b, _GAMMA * h, b + _GAMMA * h * slope, factors, tolerance)
            if solved is None:
                return None
            c, factors = solved
            slope = slopes[i] = (c - b) / (_GAMMA * h)
        self.kept = (h, factors)
        error = dgetrs(*factors, h * (_ERROR @ slopes))[0]
        new = self.state(c, math.nan, slope)
        new.log_time = float(np.logaddexp(at.log_time, _log_time(at, new, h, h)))
        # An error in time is one along the course. Time depends on f between the ends.
        middle = (at.c + new.c) / 2 + h / 8 * (at.course - new.course)
        f = self.tail.weights(self.m0 + self.B @ middle)[1]
        share = min(0.0, math.log(h) - f - new.log_time)
        passed = math.exp(min(share + new.log_time + new.log_rate, 700.0))
        passed *= abs(f - float(_between(at, new, h, h / 2)))
        return new, float(np.linalg.norm(error) + passed * np.linalg.norm(new.course))


def _between(a: _State, b: _State, h: float, s: Any) -> Any:
    """f at arcs s within a step of length h from a to b, by Hermite's cubic."""
    u = s / h
    rise = (b.log_rate - a.log_rate) * (3 - 2 * u) * u**2
    return a.log_rate + rise + h * (a.slope * u * (1 - u) ** 2 - b.slope * (1 - u) * u**2)


def _log_time(a: _State, b: _State, h: float, part: float) -> float:
    """log of the integral of e^-f over the first ``part`` of a step of length h from a to b.

    Where f falls steeply only the end of the interval counts, and the nodes go there.
    """
    ends = _between(a, b, h, np.array([part, part * (1 - 1e-6)]))
    steep = abs(float(ends[1] - ends[0])) / (1e-6 * part)
    length = min(part, 40 / steep) if steep > 0 else part
    logs = -_between(a, b, h, part - length * (1 - _NODES) / 2)
    top = float(logs.max())
    return top + math.log(length / 2 * float(_WEIGHTS @ np.exp(logs - top)))


def _land(flow: _Flow, at: _State, ahead: _State, h: float, target: float, tol: float) -> _State:
    """The state at the logarithmic time ``target``, which lies between two states."""
    from scipy.optimize import brentq

    def passed(part: float) -> float:
        return float(np.logaddexp(at.log_time, _log_time(at, ahead, h, part))) - target

    low = h * 1e-12
    part = h if passed(h) <= 0 else low if passed(low) >= 0 else brentq(passed, low, h, xtol=low)
    new = ahead
    for _ in range(6):
        done = flow.step(at, part, tol)
        if done is None:
            part *= 0.999
            continue
        new = done[0]
        miss = target - new.log_time
        if abs(miss) <= 1e-9 * max(1.0, abs(target)):
            break
        # dx/ds = e^-f / t; a correction never goes back over the start.
        part = min(max(part + miss * math.exp(new.log_time + new.log_rate), part / 2), h)
    return new


def _follow(
    flow: _Flow, c: Array, targets: Array, rtol: float, certificate: Any
) -> tuple[list[Array], list[Array], int]:
    at = flow.state(c, -math.inf)
    h, steps = 1e-3, 0
    points, margins = [], []
    for target in targets:
        # A step so short would be lost in its landing: the tangent of the start is exact.
        early = at.log_time == -math.inf and target + at.log_rate < math.log(1e-12)
        while at.log_time < target and not early:
            if float(np.linalg.norm(at.pull)) <= _FLAT:
                certificate(at.p)
            reach = float(np.linalg.norm(at.c))
            # Once margins are large the residual w - w_hat log t is what counts: errors are then
            # absolute, in units of the distance that it takes to change log G.
            unit = max(float(np.linalg.norm(at.course)), _FLAT) / max(abs(at.slope), 1e-300)
            wanted = rtol * min(1 + reach, 100 * unit) + 1e-15 * reach
            done = flow.step(at, h, 0.01 * wanted)
            if done is None or not done[1] <= 4 * wanted or not math.isfinite(done[0].log_time):
                h /= 4
                if h < 1e-15 * max(1.0, reach):
                    raise ArithmeticError(
                        f"The flow cannot be followed beyond log t = {at.log_time:.6g}: no step "
                        f"is short enough. The examples nearly depend on each other beyond the "
                        f"precision of their numbers; remove near duplicates or rescale features."
                    )
                continue
            new, error = done
            steps += 1
            if new.log_time >= target:
                at = _land(flow, at, new, h, target, 0.01 * wanted)
                break
            at = new
            grow = min(6.0, max(0.3, 0.9 * (wanted / max(error, 1e-4 * wanted)) ** 0.25))
            h *= grow if not 1 <= grow < 1.2 else 1
        # What is left of the distance in time is covered along the tangent: ds = G dt.
        rest = (
            math.exp(target + at.log_rate)
            if early
            else math.expm1(target - at.log_time) * math.exp(at.log_time + at.log_rate)
        )
        points.append(at.c + rest * at.course)
        margins.append(at.m + rest * (flow.B @ at.course))
    return points, margins, steps


@single_threaded
def margin_flow(
    problem: Classification,
    log_times: Any,
    start: Any = None,
    loss: str = "exponential",
    rtol: float = 1e-8,
) -> Path:
    r"""Returns the gradient flow :math:`\dot w = -\nabla L(w)` at times whose logarithms are given.

    Parameters
    ----------
    problem : Classification
        Separable data, X of shape (n, d), y of shape (n,).
    log_times : array, shape (k,)
        Natural logarithms of the times, finite and increasing, up to 1e12; up to about 1000 for
        "inverse", on which w grows like a power of t.
    start : array, shape (d,), optional
        Default zero.
    loss : str
        "exponential", "logistic" or "inverse".
    rtol : float
        Error allowed in a step, relative to the distance from the start as long as margins are
        below 100, absolute (in units of :math:`1/\max_i\|x_i\|`) afterwards.

    Returns
    -------
    Path
        ``times`` are the ``log_times``; ``points`` (k, d); ``log_losses`` (k,) the logarithms of
        the losses, ``losses`` what is left of them in floating point; ``steps`` the number of
        implicit steps.

    Raises
    ------
    NotSeparable
        If the flow comes to rest before the last time, with a certificate.
    TypeError, ValueError
        If an argument is out of range.

    Notes
    -----
    Source: M24, Theorem 3, and P18, section 3.2, for the statement; the change of variables is
    that of Ji and Telgarsky's normalised loss. Rounding limits margins of size m to an accuracy
    of about 1e-16 m, and p to the same number relative.

    Examples
    --------
    >>> problem = Classification([[1.0, 0.0], [0.0, 1.0]], [1, 1])
    >>> path = margin_flow(problem, [0.0, 1e8])
    >>> path.x / path.x.norm()
    tensor([0.7071, 0.7071], dtype=torch.float64)
    """
    if not isinstance(problem, Classification):
        raise TypeError(
            f"margin_flow needs a Classification, whose loss has no minimum; got a "
            f"{type(problem).__name__}. For the square loss use gradient_flow."
        )
    tail = tail_named(loss)
    targets = as_real(log_times, "log_times").reshape(-1)
    increasing = bool((targets[1:] > targets[:-1]).all())
    if targets.numel() == 0 or not increasing or float(targets[-1]) > 1e12:
        raise ValueError(
            f"log_times must be increasing logarithms of times, none above 1e12 (there the margins "
            f"lose their last digits before the point); got {targets.tolist()[:6]}."
        )
    if not 1e-12 <= rtol <= 1e-2:
        raise ValueError(
            f"rtol = {rtol}: below 1e-12 rounding is all there is, and above 1e-2 a step may jump "
            f"over what it should follow. 1e-8 is the default."
        )
    w0 = as_start(problem, start)
    Z = problem.Z.cpu().numpy()
    origin = w0.cpu().numpy()
    size = float(np.linalg.norm(Z, axis=1).max())
    if size == 0:
        _not_separable(np.full(problem.n, 1 / problem.n), problem)
    last = float(targets[-1]) + 2 * math.log(size)
    if tail.name == "inverse" and last > 1000:
        raise ValueError(
            f"The last of log_times plus 2 log max |x_i| is {last:.6g}, above 1000: on the inverse "
            f"loss weights grow like the cube root of time, and their squares leave the range of "
            f"floats. Long before, at log t = 100, the direction stands still."
        )
    wide = problem.n < problem.d
    Q, B = np.linalg.qr(Z.T) if wide else (None, Z)
    B = np.ascontiguousarray((B.T if wide else B) / size)
    flow = _Flow(B, Z @ origin, tail)
    found, margins, steps = _follow(
        flow,
        np.zeros(B.shape[1]),
        targets.cpu().numpy() + 2 * math.log(size),
        rtol,
        lambda p: _not_separable(p, problem),
    )
    moved = np.stack(found) / size
    points = origin + (moved @ Q.T if Q is not None else moved)
    values = np.stack([tail.log_value(m) for m in margins])
    top = values.max(1, keepdims=True)
    log_losses = (top + np.log(np.exp(values - top).sum(1, keepdims=True)))[:, 0]
    device = problem.X.device
    kept = torch.from_numpy(log_losses).to(device)
    return Path(
        times=targets.to(device),
        points=torch.from_numpy(points).to(device),
        losses=kept.exp(),
        stopped="reached",
        steps=steps,
        log_losses=kept,
    )


def _not_separable(p: Array, problem: Classification) -> None:
    certificate = torch.from_numpy(p).to(problem.X.device)
    pull = float((problem.Z.T @ certificate).norm())
    raise NotSeparable(
        f"The flow comes to rest: a convex combination of the examples y_i x_i, the certificate, "
        f"has length {pull:.1g}, so no weights have a positive margin on all of them, and there is "
        f"no direction to converge to. Remove contradicting examples, or add features.",
        certificate,
    )
