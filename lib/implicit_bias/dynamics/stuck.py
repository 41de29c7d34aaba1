"""Why a network's flow does not get to its limit: each failure said as what it is."""

from __future__ import annotations

import math
from typing import NoReturn

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from implicit_bias.dynamics.basin import Basin, Track
from implicit_bias.dynamics.sphere import Point
from implicit_bias.problems import Classification
from implicit_bias.records import NotSeparable

__all__ = ["Stuck", "check_separable", "explain_basin", "explain_sphere"]

Array = NDArray[np.float64]


class Stuck(RuntimeError):
    """The flow of a network did not get to where its limit is decided; the message says why.

    Attributes
    ----------
    point : Tensor, shape (P,)
        Where it is.
    log_loss : float
        Logarithm of the loss there.

    Examples
    --------
    >>> from implicit_bias.models.linear import LinearNetwork
    >>> problem = Classification([[1.0]], [1])
    >>> from implicit_bias.dynamics.network import network_flow
    >>> network_flow(problem, LinearNetwork("diagonal", 1, 3), [0.0, 0.0, 1.0])
    Traceback (most recent call last):
        ...
    implicit_bias.dynamics.stuck.Stuck: The flow rests at a saddle: ...
    """

    def __init__(self, message: str, point: Tensor, log_loss: float):
        super().__init__(message)
        self.point = point
        self.log_loss = log_loss


def check_separable(Z: Array, problem: Classification) -> None:
    """Raises NotSeparable if a convex combination of the rows of Z is zero."""
    from scipy.optimize import nnls

    # Least squares for the combination, with its sum as one more equation.
    target = np.append(np.zeros(Z.shape[1]), 1.0)
    rows = Z / float(np.linalg.norm(Z, axis=1).max())
    alpha, _ = nnls(np.vstack([rows.T, np.ones(len(rows))]), target, maxiter=30 * len(rows))
    alpha = alpha / alpha.sum()
    if float(np.linalg.norm(alpha @ rows)) <= 1e-12:
        certificate = torch.from_numpy(alpha).reshape(problem.y.shape).to(problem.X.device)
        raise NotSeparable(
            "The data are not linearly separable: a convex combination of the examples y_i x_i, "
            "the certificate, is zero, so no linear predictor, whatever its parameters, has a "
            "positive margin on all of them. Remove contradicting examples, or add features.",
            certificate,
        )


def explain_basin(basin: Basin, problem: Classification, track: Track, why: str) -> NoReturn:
    """Raises what keeps the flow from separating separable data."""
    w = track.w[-1]
    beta, pull = basin.kernel.trace(w)
    m = basin.Z @ beta
    p, _ = basin.tail.weights(m)
    rows = basin.Z / basin.size
    force, slope = float(np.linalg.norm(p @ rows)), float(np.linalg.norm(pull(p @ rows)))
    log_loss = track.log_loss[-1]
    state = (
        f"after {len(track.w) - 1} steps log loss = {log_loss:.4g}, log |w| = "
        f"{math.log(float(np.linalg.norm(w))):.4g}, and {int((m <= 0).sum())} of {m.size} margins "
        f"are not positive"
    )
    if why == "rest":
        message = (
            f"The flow rests at a saddle: {state}. The loss pulls at the predictor (with "
            f"{force:.2g} of the longest example) but the gradient in the parameters is "
            f"{slope:.2g}: too many layers vanish in the same places. Start elsewhere, at "
            f"network.sample(seed, scale)."
        )
    elif why == "range":
        message = (
            f"The flow cannot be followed: {state}, and no step is short enough. Rescale the "
            f"features to a largest entry of 1, or start at a norm near 1."
        )
    else:
        message = (
            f"The flow has not separated the data: {state}. It may dwell near a saddle (the "
            f"gradient in the parameters is {slope:.2g}, the pull at the predictor {force:.2g}), "
            f"the margin may be very thin, or no parameters of this network may separate. Start "
            f"elsewhere, with a larger scale, or raise steps."
        )
    point = torch.from_numpy(w.copy()).to(problem.X.device)
    raise Stuck(message, point, log_loss)


def explain_sphere(at: Point, problem: Classification) -> NoReturn:
    """Raises where the implicit steps stopped."""
    raise Stuck(
        f"The implicit steps stop at kappa = {at.kappa:.3g}, log |w| = {at.log_norm:.4g}: none is "
        f"short enough for Newton's method. The margin may be too thin for floats, or two limits "
        f"nearly coincide. Try another start, or a later hand_off.",
        torch.from_numpy(at.x.copy()).to(problem.X.device),
        at.kappa * at.c,
    )
