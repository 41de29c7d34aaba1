r"""Down to a loss of zero: Levenberg-Marquardt on the residuals of a network.

With residuals r and their Jacobian :math:`J = U\,\mathrm{diag}(s)\,V^\top`, the step

.. math:: \delta = -V\,\mathrm{diag}\!\Big(\frac{s}{s^2 + \mu}\Big)\,U^\top r
          = \operatorname{argmin}_\delta \|r + J\delta\|^2 + \mu\|\delta\|^2

lies in the row space of J, whatever the number of parameters. As :math:`\mu \to 0` it is the
shortest Gauss-Newton step, which converges quadratically to a zero where J has full row rank.
Gradient descent would take millions of steps to the same 24 digits, and end elsewhere.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from implicit_bias.arrays import as_count, as_real
from implicit_bias.models.pure import as_pure, jacobian, outputs_like
from implicit_bias.records import Path

__all__ = ["reach_zero"]

_EPS = 2.0**-52
_LEAST = 1e-300  # damping: from zero it could not grow


def reach_zero(
    model: Any,
    parameters: Any,
    X: Any,
    y: Any,
    target: float = 1e-24,
    steps: int = 500,
) -> Path:
    r"""Returns the path of Levenberg-Marquardt from these parameters to a loss of zero.

    Parameters
    ----------
    model : torch.nn.Module, or callable (parameters, inputs) -> outputs
        Differentiable by torch.func.
    parameters : array, or dict, list or tuple of tensors
        Where to begin; None for those of a module. Read as float64.
    X : array, shape (n, ...)
    y : array, shape (n,) or (n, d')
    target : float
        Stop when half the sum of squared residuals is at most this.
    steps : int
        Budget of trial steps.

    Returns
    -------
    Path
        ``points`` (k, p) are the parameters as one vector, at the start and after each accepted
        step, ``times`` the numbers of trial steps until then. ``stopped`` says how it ended:
        "converged" (target reached); "rounding" (the residuals are rounding of the outputs, and
        the target is smaller); "stationary" (nothing in the range of the Jacobian is left of the
        residuals, for singular values above 1e-10 of the largest, or the gradient vanishes: a
        minimum, a saddle or a plateau with a positive loss); "stalled" (a gradient, but no step
        however short that helps: a kink); "budget".

    Raises
    ------
    TypeError, ValueError
        If shapes disagree, an argument is out of range, the first loss overflows, or the model is
        not finite or not differentiable where the path comes.

    Notes
    -----
    Source: Levenberg (1944), Marquardt (1963), with the damping rule of Nielsen (1999). P18's
    Lemma 1 speaks of minima at which the loss is exactly zero; this is how they are reached. The
    end is not where gradient descent from the same start would be.

    A singular value decomposition of the Jacobian, (n d', p), at each accepted step.

    Examples
    --------
    >>> from implicit_bias.models.dense import DenseNetwork
    >>> network = DenseNetwork((1, 8, 1), "tanh")
    >>> path = reach_zero(network, network.initial(seed=0), [[-1.0], [0.0], [1.0]], [1, -1, 1])
    >>> path.stopped, bool(path.losses[-1] <= 1e-24)
    ('converged', True)
    """
    budget = as_count(steps, "steps")
    if not 0 <= target < float("inf"):
        raise ValueError(
            f"target = {target} must be a loss: zero (until rounding) or a positive number."
        )
    function, flat = as_pure(model, parameters)
    theta = flat.vector.to(torch.float64)
    inputs, targets = as_real(X, "X").to(theta.device), as_real(y, "y").to(theta.device)

    def residuals(vector: Tensor) -> Tensor:
        return outputs_like(function(vector, inputs), targets).reshape(-1) - targets.reshape(-1)

    r, J = jacobian(residuals, theta)
    scale = float(targets.abs().max())
    loss = _loss(r)
    if not math.isfinite(loss):
        raise ValueError(
            f"The residuals reach {float(r.abs().max()):.3g} at these parameters, and the sum of "
            f"their squares overflows. Scale the targets and the outputs down, or begin nearer."
        )
    times, points, losses = [0], [theta], [loss]
    U, s, Vt = torch.linalg.svd(J, full_matrices=False)
    highest = float(s[0])
    mu, growth, last = max(1e-3 * highest**2, _LEAST), 2.0, 0.0
    stopped = "converged" if loss <= target else "budget"
    done = 0
    while stopped == "budget" and done < budget:
        along = U.T @ r
        top = float(s[0])
        reachable = s > 1e-10 * top
        # What a Gauss-Newton step could remove, as a share of the residuals.
        share = float(along[reachable].norm()) / float(r.norm()) if top > 0 else 0.0
        # Outputs as large as this carry rounding errors as large as that.
        size = max(scale, float((r + targets.reshape(-1)).abs().max()))
        noise = float(r.abs().max()) <= 64 * _EPS * size
        # Where J itself vanishes the share says nothing, but the gradient does: small beside what
        # it was, and for steps as long as the parameters or the last one. The first alone would
        # stop every descent from a height, where J was huge; the second one from a plateau.
        slope = float((s * along).norm()) / float(r.norm())
        reach = float(theta.norm()) + last
        vanished = slope <= 1e-10 * highest and slope * reach <= 1e-10 * float(r.norm())
        if share <= 1e-8 or vanished:
            stopped = "rounding" if noise else "stationary"
            break
        accepted = exhausted = False
        while done < budget:
            done += 1
            damped = s / (s.square() + mu)
            delta = -(Vt.T @ (damped * along))
            trial = theta + delta
            value = residuals(trial).detach()
            new = _loss(value)
            # The model's decrease, term by term, 1 - keep^2 = s damped (1 + keep): differences of
            # losses, or of these, would cancel.
            keep = mu / (s.square() + mu)
            predicted = 0.5 * float((along.square() * s * damped * (1 + keep)).sum())
            # Where the new loss overflows this is -inf or NaN, and the step is refused.
            ratio = (loss - new) / predicted if predicted > 0 else -1.0
            if ratio > 1e-4:
                accepted = True
                shrink = max(0.1, 1 - (2 * min(ratio, 1.0) - 1) ** 3)
                mu = max(mu * shrink, (1e-14 * top) ** 2, _LEAST)
                growth = 2.0
                break
            mu, growth = mu * growth, growth * 2
            # From zero every step counts, until mu has overflowed: some fifty doublings.
            if float(delta.norm()) <= _EPS * float(theta.norm()):
                exhausted = True
                break
        if not accepted:
            if not exhausted:
                break
            # Losses cannot show a smaller gradient than this: their digits have run out.
            farthest = max(float(point.norm()) for point in points)
            flat_here = (
                share <= 1e-5
                or slope <= 1e-6 * highest
                or slope * farthest <= _EPS * float(r.norm())
            )
            stopped = "rounding" if noise else "stationary" if flat_here else "stalled"
            break
        theta, last = trial.detach(), float(delta.norm())
        r, J = jacobian(residuals, theta)
        U, s, Vt = torch.linalg.svd(J, full_matrices=False)
        highest = max(highest, float(s[0]))
        loss = _loss(r)
        times.append(done)
        points.append(theta)
        losses.append(loss)
        if loss <= target:
            stopped = "converged"
    return Path(
        torch.tensor(times).to(theta),
        torch.stack(points),
        torch.tensor(losses, dtype=torch.float64, device=theta.device),
        stopped,
        steps=done,
    )


def _loss(r: Tensor) -> float:
    return 0.5 * float(r.square().sum())
