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
    implicit_bias.dynamics.stuck.Stuck: The flow rests at a saddle or a minimum ...
    """

    def __init__(self, message: str, point: Tensor, log_loss: float):
        super().__init__(message)
        self.point = point
        self.log_loss = log_loss


def check_separable(Z: Array, problem: Classification) -> None:
    """Raises NotSeparable if a convex combination of the rows of Z is zero."""
    from scipy.optimize import nnls

    # Of rows of length 1, or short examples would look like zeros beside long ones.
    largest = np.abs(Z).max(axis=1)
    zero = largest == 0
    rows = Z / np.where(zero, 1.0, largest)[:, None]
    lengths = np.where(zero, 1.0, np.linalg.norm(rows, axis=1))
    rows = rows / lengths[:, None]
    if zero.any():
        alpha = zero.astype(np.float64)
    else:
        # Least squares for the combination, with its sum as one more equation.
        target = np.append(np.zeros(Z.shape[1]), 1.0)
        alpha, _ = nnls(np.vstack([rows.T, np.ones(len(rows))]), target, maxiter=30 * len(rows))
    alpha = alpha / alpha.sum()
    if float(np.linalg.norm(alpha @ rows)) <= 1e-12:
        if not zero.any():
            alpha = alpha * (largest.min() / largest) / lengths
            alpha = alpha / alpha.sum()
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
    cooler = (
        f"Divide X by its largest entry and start at a norm near 1, or start at |w| of about "
        f"{basin.lukewarm():.2g}."
    )
    if why == "rest":
        message = (
            f"The flow rests at a saddle or a minimum of the loss: {state}. The loss pulls at the "
            f"predictor (with {force:.2g} of the longest example) but the gradient in the "
            f"parameters is {slope:.2g}: too many layers vanish in the same places, or the map has "
            f"no parameters that separate the data. Start elsewhere, at "
            f"network.sample(seed, scale); of a map of your own, see whether it can take all signs."
        )
    elif why == "range":
        message = f"The flow cannot be followed: {state}, and no step is short enough. {cooler}"
    elif float(m.min()) > 0:
        message = (
            f"The explicit steps ran out before the end: {state}. The data are separated, and "
            f"kappa is {basin.heat(w):.3g}, which each step advances by a few units. Pass a "
            f"smaller log_norm or hand_off, log_norm=None for the limit, or raise steps."
        )
    elif basin.heat(track.w[0]) > 1e4:
        message = (
            f"The flow has not separated the data: {state}. The start was too large for explicit "
            f"steps: kappa = max |z| |w|^L was {basin.heat(track.w[0]):.3g} there, and the steps "
            f"are as short as its inverse. {cooler}"
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
