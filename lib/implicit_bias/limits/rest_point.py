r"""Where the gradient flow of a smooth loss comes to rest: Newton's method with trust regions.

Each step minimises the quadratic model of the loss with its exact Hessian over a ball, so that
directions of negative curvature lead away from saddles; near the end the plain step

.. math:: w \leftarrow w - H^+\nabla L(w), \qquad H = \nabla^2 L(w),

takes the gradient down to rounding. Where H is singular at the end, :math:`H^+` moves nothing
along its null space: the point is one of a family, or a minimum of higher order.

Weight decay is part of the loss: :math:`L + \tfrac\gamma2\|w\|^2` adds :math:`\gamma` to each
eigenvalue at a given point. P18 writes :math:`\gamma\|W\|^2`, without the half: its
:math:`\gamma` is half of that in this book.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from implicit_bias.arrays import as_count, as_real
from implicit_bias.records import Limit

__all__ = ["rest_point"]

_LARGEST = 2000  # parameters: a dense Hessian is factorised in every step
_ZERO = 1e-10  # eigenvalues below this share of the largest count as zero

Loss = Callable[[Tensor], Tensor]


def rest_point(loss: Loss, start: Any, tol: float = 1e-12, steps: int = 1000) -> Limit:
    r"""Returns the local minimiser of a loss that Newton's method reaches from a start.

    Parameters
    ----------
    loss : callable
        From a vector (p,) to a tensor with one number; twice differentiable by torch.func. With
        weight decay: ``lambda w: fit(w) + decay / 2 * w.square().sum()``.
    start : array, shape (p,)
        p up to 2,000.
    tol : float
        The residual to be reached.
    steps : int
        Budget of trust-region steps.

    Returns
    -------
    Limit
        ``x``; ``objective`` is the loss; ``residual`` the size of the gradient over the largest
        eigenvalue of the Hessian times the larger of ``|x|`` and ``|x - start|``; ``rank`` the
        number of eigenvalues above 1e-10 of the largest, here or at the start. ``status`` is
        "isolated" where that is p, so that the Hessian is definite, and "degenerate" where it is
        less: then x may be one of a family of minima, and the second order alone does not show
        that it is one.
        ``dual`` is empty.

    Raises
    ------
    ArithmeticError
        If the end is a saddle (a negative eigenvalue), or the residual is not reached.
    TypeError, ValueError
        If the start is no vector, the loss is not one finite number with a finite gradient and
        Hessian there, or an argument is out of range.

    Notes
    -----
    Source: P18, section 4.2. SciPy's ``trust-exact`` (Conn, Gould and Toint 2000, algorithm
    7.3.4), then Newton's method. From far away the minimiser need not be the one that the
    gradient flow reaches; from the end of a flow it is. At a kink (ReLU) there is no Newton step.

    Examples
    --------
    >>> found = rest_point(lambda w: (w[0]**2 - 1)**2 + w[1]**2, [0.3, 1.0])
    >>> [round(value, 9) for value in found.x.tolist()], found.status
    ([1.0, 0.0], 'isolated')
    >>> rest_point(lambda w: (w[0] * w[1] - 1)**2, [2.0, 1.0]).status
    'degenerate'
    """
    w0 = as_real(start, "start")
    if w0.ndim != 1 or not 0 < w0.numel() <= _LARGEST:
        raise ValueError(
            f"start has shape {tuple(w0.shape)}; the loss is a function of one vector (p,) of at "
            f"most {_LARGEST} parameters, whose Hessian is factorised. Flatten them, or take a "
            f"smaller model."
        )
    if not 0 < tol < 1:
        raise ValueError(f"tol = {tol} is not between 0 and 1; 1e-12 is near rounding.")
    surface, budget = _Surface(loss, w0.device), as_count(steps, "steps")
    surface.check(w0.cpu().numpy())
    from scipy.optimize import minimize

    begin = w0.cpu().numpy()
    steep = float(np.abs(np.linalg.eigvalsh(surface.hessian(begin))).max())
    x, done, message = begin.copy(), 0, ""
    # The radius starts at a share of the point's own size: one of 1 may be far too long.
    size = float(np.linalg.norm(x))
    for share in (1e-4, 1e-7, 1e-10):
        slope = float(np.linalg.norm(surface.gradient(x)))
        if done < budget and slope > 0:
            radius = 0.1 * size if size > 0 else 1.0
            options = {
                "gtol": share * slope,
                "maxiter": budget - done,
                "initial_trust_radius": radius,
                "max_trust_radius": 1e3 * max(radius, 1.0),
            }
            # Trial points may overflow; their loss counts as infinite, and they are refused.
            with np.errstate(all="ignore"):
                run = minimize(
                    surface.loss,
                    x,
                    method="trust-exact",
                    jac=surface.gradient,
                    hess=surface.hessian,
                    options=options,
                )
            x, done, message = run.x, done + run.nit, str(run.message)
        x = _polish(surface, x, begin)
        g, values = surface.gradient(x), np.linalg.eigvalsh(surface.hessian(x))
        top = float(np.abs(values).max())
        residual = _residual(g, top, x, begin)
        if residual <= tol and values[0] >= -_ZERO * top:
            break
    if values[0] < -_ZERO * top and residual <= max(tol, 1e-6):
        raise ArithmeticError(
            f"The end is a saddle: the gradient is {np.linalg.norm(g):.2g}, and the Hessian has "
            f"the eigenvalue {values[0]:.3g} (the largest is {values[-1]:.3g}). A start with a "
            f"symmetry keeps it: move the start a little, at random."
        )
    if residual > tol:
        raise ArithmeticError(
            f"The gradient is still {np.linalg.norm(g):.2g}, a residual of {residual:.2g} against "
            f"tol = {tol:g}, after {done} steps ({message or 'no step helps'}). If the loss only "
            f"falls, there is no rest point; else begin nearer, scale the parameters, or allow a "
            f"larger tol or more steps."
        )
    # Against the start as well: where all of the Hessian vanishes, the largest one says nothing.
    rank = int((values > _ZERO * max(top, steep)).sum())
    point = torch.from_numpy(np.array(x)).to(w0.device)
    return Limit(
        x=point,
        dual=torch.zeros(0, dtype=torch.float64, device=w0.device),
        objective=surface.loss(x),
        residual=residual,
        solver="trust-exact, then Newton",
        status="isolated" if rank == x.size else "degenerate",
        rank=rank,
    )


def _residual(gradient: Any, top: float, x: Any, begin: Any) -> float:
    slope = float(np.linalg.norm(gradient))
    if slope == 0:
        return 0.0
    reach = max(float(np.linalg.norm(x)), float(np.linalg.norm(x - begin)))
    return slope / (top * reach) if top * reach > 0 else math.inf


def _polish(surface: _Surface, x: Any, begin: Any) -> Any:
    """Plain Newton steps for as long as the gradient falls; none where a curvature is negative."""
    g = surface.gradient(x)
    for _ in range(100):
        values, V = np.linalg.eigh(surface.hessian(x))
        top = float(np.abs(values).max())
        # Along a valley the curvature is off zero by as much as the gradient is, of either sign.
        unsure = 10 * _residual(g, top, x, begin)
        if top == 0 or values[0] < -max(_ZERO, unsure) * top:
            break
        for floor in (x.size * 2.0**-52, unsure):
            kept = values > floor * top
            trial = x - V[:, kept] @ ((V[:, kept].T @ g) / values[kept])
            ahead = surface.gradient(trial)
            # At the level of rounding the gradient wanders: a fall by a tenth is a fall.
            better = bool(np.abs(ahead).max() < 0.9 * np.abs(g).max())
            if better and math.isfinite(surface.loss(trial)):
                break
        else:
            break
        x, g = trial, ahead
    return x


class _Surface:
    """The loss with its derivatives, from NumPy to NumPy."""

    def __init__(self, loss: Loss, device: Any):
        if not callable(loss):
            raise TypeError(
                f"The loss is a {type(loss).__name__}, which cannot be called. Pass a function "
                f"from a vector of parameters to one number."
            )
        self._function, self._device = loss, device
        self._slope = torch.func.grad(self._value)
        self._bend = torch.func.jacrev(self._slope)

    def _value(self, theta: Tensor) -> Tensor:
        result = self._function(theta)
        if not isinstance(result, Tensor) or result.numel() != 1:
            shape = tuple(result.shape) if isinstance(result, Tensor) else type(result).__name__
            raise ValueError(
                f"The loss is {shape}, not a tensor with one number: a minimum is of one number. "
                f"Sum over the examples."
            )
        return result.reshape(())

    def _at(self, x: Any) -> Tensor:
        return torch.from_numpy(np.array(x, dtype=np.float64)).to(self._device)

    def check(self, x: Any) -> None:
        first = self.loss(x)
        numbers = np.abs(first), np.abs(self.gradient(x)), np.abs(self._curvature(x))
        # Their squares are needed.
        if not all(bool((part <= 1e150).all()) for part in numbers):
            raise ValueError(
                f"The loss is {first:g} at the start; it, its gradient or its Hessian is not "
                f"finite, or above 1e150: no step can be computed. Start elsewhere, or scale the "
                f"data down."
            )

    def loss(self, x: Any) -> float:
        with torch.no_grad():
            found = float(self._value(self._at(x)))
        return math.inf if math.isnan(found) else found

    def gradient(self, x: Any) -> Any:
        return self._slope(self._at(x)).numpy(force=True)

    def _curvature(self, x: Any) -> Any:
        return self._bend(self._at(x)).numpy(force=True)

    def hessian(self, x: Any) -> Any:
        H = self._curvature(x)
        # Asked for at trial points too: one that overflows is refused for its loss.
        return (H + H.T) / 2 if np.isfinite(H).all() else np.zeros_like(H)
