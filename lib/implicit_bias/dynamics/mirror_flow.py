r"""Mirror flow for the square loss :math:`L(w) = \tfrac12\|Xw - y\|^2`, and the flow of squares.

In the dual the flow is :math:`\dot\lambda = y - Xw` with :math:`w = (\nabla\phi)^{-1}(z_0 +
X^\top\lambda)`: the gradient flow of a convex function of :math:`\lambda`, stiff, with the
symmetric Jacobian :math:`-X(\nabla^2\phi)^{-1}X^\top`.
"""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
import torch
from torch import Tensor

from implicit_bias.arrays import as_real
from implicit_bias.dynamics.mirror import _begin, _Dual
from implicit_bias.potentials import Entropy, Potential
from implicit_bias.problems import Regression
from implicit_bias.records import Path

__all__ = ["mirror_flow", "square_flow"]

EPS = torch.finfo(torch.float64).eps


def _times(times: Any, X: Tensor) -> Tensor:
    given = [0.0, math.inf] if times is None else times
    t = as_real(given, "times", finite=False).to(X.device).reshape(-1)
    if t.numel() == 0 or not bool((t >= 0).all()) or not bool((t[1:] >= t[:-1]).all()):
        raise ValueError(
            "times must be non-negative and increasing: the flow is recorded as it passes. "
            f"Got {t.tolist()[:6]}."
        )
    return t


OVERSHOT = "a step overshot so far that weights overflow."


def _gave_up(why: str) -> RuntimeError:
    return RuntimeError(
        f"The integrator gave up: {why} Pass a larger rtol, or follow mirror_descent. A p-norm "
        f"with p far above 2 is hard where w changes sign: take p nearer to 2."
    )


class _Flow(_Dual):
    """The dual equation lambda' = y - X w(lambda), on NumPy vectors of length n."""

    rtol: float
    left: int = 0  # evaluations before it is given up

    def at(self, dual: Any) -> Tensor:
        return self.point(torch.from_numpy(np.ascontiguousarray(dual)).to(self.X.device))

    def slope(self, _: float, dual: Any) -> Any:
        # A trial may reach beyond the largest float; finite, it is refused for its error.
        w = self.at(dual).clamp(-1e150, 1e150)
        self.left -= 1
        if self.left < 0:
            raise _gave_up("it takes too many steps.")
        return (self.y - self.X @ w).cpu().numpy()

    def jacobian(self, _: float, dual: Any) -> Any:
        spread = self.potential.precondition(self.at(dual), self.columns)
        if not bool(torch.isfinite(spread).all()):
            # A p-norm with p > 2 has an infinite slope at zero: a large one serves the solver.
            finite = spread[torch.isfinite(spread)].abs()
            large = 1e8 * max(float(finite.max()) if finite.numel() else 1.0, 1.0)
            spread = torch.nan_to_num(spread, nan=0.0, posinf=large, neginf=-large)
        return -(self.X @ spread).cpu().numpy()

    def run(self, dual: Any, begin: float, times: Any) -> Any:
        """The states at these finite times, shape (k, n)."""
        from scipy.integrate import solve_ivp

        if times[-1] <= begin:
            return np.repeat(dual[None], len(times), 0)
        self.left = 100_000
        moments, which = np.unique(times, return_inverse=True)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what LSODA warns of, it also reports
            result = solve_ivp(
                self.slope,
                (begin, times[-1]),
                dual,
                "LSODA",
                moments,
                jac=self.jacobian,
                rtol=self.rtol,
                atol=0.01 * self.rtol * self.far,
            )
        if not result.success:
            raise _gave_up(result.message)
        if not np.isfinite(result.y).all():
            raise _gave_up(OVERSHOT)
        return result.y.T[which]

    def at_goal(self, dual: Any) -> tuple[float, float]:
        """The misfit, and the level below which it is rounding."""
        w = self.at(dual)
        return float((self.X @ w - self.y).norm()), self.rounding(w)

    def settle(self, dual: Any, h: float) -> Any:
        """Linearly implicit Euler steps that grow tenfold as long as the misfit falls."""
        size, rounding = self.at_goal(dual)
        self.left = 1000
        for _ in range(200):
            matrix = -self.jacobian(0.0, dual)
            top = abs(matrix).max()
            if size <= rounding / 8 or not 0 < top < math.inf or h * top < 1e-3:
                break
            matrix[np.diag_indices_from(matrix)] += max(1 / h, 1e-15 * top)
            trial = dual + np.linalg.solve(matrix, self.slope(0.0, dual))
            new, level = self.at_goal(trial)
            if new < size:
                stuck = size <= rounding and new > size / 2
                dual, size, rounding, h = trial, new, level, 10 * h
                if stuck:
                    break
            elif size <= rounding:
                break
            else:
                h /= 10
        return dual

    def end(self, dual: Any, begin: float) -> tuple[Any, str]:
        """The state at infinite time: integrate tenfold longer until the misfit can be solved."""
        t = max(begin, self.unit / 10)
        dual = self.run(dual, begin, [t])[0]
        idle = 0
        for _ in range(40):
            size, rounding = self.at_goal(dual)
            if size <= 1e-3 * self.goal:
                final = self.settle(dual, t)
                size, rounding = self.at_goal(final)
                if size <= max(1e-12 * self.goal, rounding):
                    return final, "converged"
            here = torch.from_numpy(dual).to(self.X.device)
            idle = idle + 1 if self.idle(here, 1e-9) else 0
            if idle == 2:
                return dual, "converged"
            try:
                dual = self.run(dual, t, [10 * t])[0]
            except RuntimeError:
                if size > 1e-3 * self.goal:
                    raise
                break  # the last of a slow approach: what is reached is said to be the budget's
            t *= 10
        return dual, "budget"


def mirror_flow(
    problem: Regression,
    potential: Potential,
    start: Any,
    times: Any = None,
    rtol: float = 1e-10,
) -> Path:
    r"""Returns the flow :math:`\frac{d}{dt}\nabla\phi(w) = -X^\top(Xw - y)` at the given times.

    Parameters
    ----------
    problem : Regression
        X of shape (n, d); square loss :math:`\tfrac12\|Xw - y\|^2`.
    potential : Potential
    start : array, shape (d,)
        In the domain of the potential.
    times : array, shape (k,), optional
        Non-negative and increasing; ``math.inf`` is allowed. Default: the start and the limit.
    rtol : float
        Relative tolerance of the integrator, between 1e-12 and 0.1.

    Returns
    -------
    Path
        ``points`` (k, d); ``stopped`` is "converged" when the limit was asked for and reached
        (:math:`\|Xw-y\| \le 10^{-12}\|y\|`, rounding, or a misfit that no longer changes),
        "budget" otherwise.

    Raises
    ------
    RuntimeError
        If the integrator cannot go on.
    TypeError, ValueError
        If the start is outside the domain, or an argument is out of range.

    Notes
    -----
    Source: M24, the limit of small steps of mirror descent. The dual equation is integrated by
    SciPy's LSODA with the exact Jacobian (relative errors of w up to about 100 rtol were seen
    on the way), and to infinite time in stretches that grow tenfold, ended by linearly implicit
    Euler steps whose length grows without bound. The integrator's errors stay in the row space:
    they bend the path and leave its end where it is. For a p-norm with p far above 2 the flow
    passes zeros of w at infinite speed, and the integrator may give up; p = 4 is in its reach.

    Examples
    --------
    >>> path = mirror_flow(Regression([[1.0, 1.0]], [3.0]), Entropy(), [0.2, 0.1])
    >>> path.points.round(decimals=8)
    tensor([[0.2000, 0.1000],
            [2.0000, 1.0000]], dtype=torch.float64)
    """
    w0 = _begin(problem, potential, start)
    t = _times(times, problem.X)
    if not 1e-12 <= rtol <= 0.1:
        raise ValueError(
            f"rtol = {rtol} is not between 1e-12 (rounding) and 0.1, where the integrator's error "
            f"estimates mean something. Pass 1e-10, say."
        )
    flow = _Flow(problem, potential, w0)
    flow.rtol = rtol
    finite = t[torch.isfinite(t)].tolist()
    duals = [np.zeros(problem.n)]
    if finite:
        duals = list(flow.run(duals[0], 0.0, finite))
    stopped = "budget"
    if len(finite) < len(t):
        last, stopped = flow.end(duals[-1], finite[-1] if finite else 0.0)
        duals = (duals if finite else []) + [last] * (len(t) - len(finite))
    points = torch.stack([flow.at(dual) for dual in duals])
    if not bool(torch.isfinite(points).all()):
        raise _gave_up(OVERSHOT)
    # A start that is asked for is the start itself, not its image's image.
    points[t == 0] = w0
    losses = (points @ problem.X.T - problem.y).square().sum(-1) / 2
    return Path(times=t, points=points, losses=losses, stopped=stopped)


def square_flow(
    problem: Regression,
    start: Any,
    factor: float = 4,
    times: Any = None,
    rtol: float = 1e-10,
) -> Path:
    r"""Returns the path of :math:`u = w \odot w` when w follows the gradient flow of L(u).

    From :math:`\dot w = -2w\odot X^\top(Xu - y)` comes :math:`\dot u = 2w\odot\dot w =
    -4\,u\odot X^\top(Xu - y)`: the mirror flow of the entropy, four times as fast.

    Parameters
    ----------
    problem : Regression
        X of shape (n, d).
    start : array, shape (d,)
        The positive start of u, not of w.
    factor : float
        4; another number is the same path at another speed, and not the flow of w.
    times : array, shape (k,), optional
        In the time of w; as for ``mirror_flow``.
    rtol : float
        As for ``mirror_flow``.

    Returns
    -------
    Path
        ``points`` (k, d) are u.

    Raises
    ------
    TypeError, ValueError
        If the start is not positive, or an argument is out of range.

    Notes
    -----
    Source: M24, reparametrisation by squares; the factor there is 2, because the derivative of
    :math:`w \odot w` is counted once. It enters twice: in the gradient, and in :math:`\dot u`.

    Examples
    --------
    >>> square_flow(Regression([[1.0, 1.0]], [3.0]), [0.2, 0.1]).x.round(decimals=8)
    tensor([2., 1.], dtype=torch.float64)
    """
    if not (math.isfinite(factor) and factor > 0):
        raise ValueError(
            f"factor = {factor} is not a positive number, and it is the speed of the flow. Pass "
            f"4, the true one, or 2, that of the slides."
        )
    t = _times(times, problem.X)
    path = mirror_flow(problem, Entropy(), start, factor * t, rtol)
    return Path(times=t, points=path.points, losses=path.losses, stopped=path.stopped)
