r"""Certificates of stationarity: multipliers, and how far they are from proving it.

Minimising a norm of the weights subject to margins of at least 1 is, for deep linear networks, not
a convex problem, and what descent reaches is a stationary point. Of a given point that is checked
by multipliers :math:`\alpha \ge 0`: in the parameters, G18's problem (14),

.. math:: w = \sum_i \alpha_i \nabla m_i(w), \qquad \alpha_i (m_i - 1) = 0,

with the margins :math:`m_i = y_i\langle x_i, P(w)\rangle`, of which the least is scaled to 1; and
in the predictor, eqs. (11) to (13), with p = 2/L and :math:`v = \sum_i \alpha_i \widehat z_i`,

.. math:: v_k = e^{i\phi_k} |\widehat\beta_k|^{p-1} \quad\text{where } \widehat\beta_k \ne 0,

and elsewhere :math:`|v_k| \le 1` for p = 1, no condition for p < 1. Both are one problem of
non-negative least squares: the stationarity equations, and one more equation
:math:`\alpha_i(m_i - 1) = 0` for each example in place of a decision which margins count as 1. What
cannot be solved is the residual.

Where active examples depend on each other, the multipliers of a point are not unique, and one
choice may satisfy the conditions :math:`|v_k| \le 1` that another fails: they hold if *any* does,
which linear programmes over all of them decide. Conditions of second order likewise.

The equations of the second are multiplied by :math:`|\widehat\beta_k|^{1-p/2}`. That makes them
the ones that a balanced network has in its parameters, and their right sides
:math:`|\widehat\beta_k|^{p/2}` finite.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from implicit_bias.arrays import as_count, as_real
from implicit_bias.models.linear import image_sides
from implicit_bias.models.parameterisation import Parameterisation, as_number, to_margin_one
from implicit_bias.multipliers import (
    best_curvature,
    fit_multipliers,
    freedom,
    least_margin,
    programme,
    signed_examples,
    stationarity,
)
from implicit_bias.problems import Classification

__all__ = ["Certificate", "bridge_certificate", "parameter_certificate"]

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Certificate:
    r"""Multipliers, and by how much they fail to prove that a point is stationary.

    Attributes
    ----------
    multipliers : Tensor, of the shape of y
        Non-negative, for the point scaled to a least margin of 1; one choice where there are many.
    residual : float
        Scale-free; 0 proves stationarity, 1e-15 is rounding, of order 1 is no proof at all.
    support : Tensor of bool
        Of a predictor: its non-zero coefficients in the basis. Of parameters: the examples with a
        positive multiplier.
    scale : float
        The factor that takes the point to a least margin of 1.
    second_order : float
        Of parameters that are stationary: the least eigenvalue of the Hessian of the Lagrangian
        :math:`\tfrac12|w|^2 - \sum\alpha_i(m_i - 1)`, relative to that of the norm, which is 1, on
        the directions along which the margins with positive multipliers stand still; where
        multipliers are not unique, for the best of them. inf without such directions, nan for a
        predictor. Above 0 it proves a strict local minimum; symmetries of the network give 0, and
        then it decides nothing. Below 0 it disproves one where the multipliers are unique and
        positive on all active margins; else not by itself: see ``saddle``.
    saddle : bool
        Whether a direction was found that proves parameters not to be a local minimum: one that
        the constraints permit, of curvature below -1e-6 for all multipliers. Where these are unique
        and positive on all active margins, just the sign of ``second_order``; otherwise False may
        also mean that none was found.

    Examples
    --------
    >>> Certificate(torch.ones(1), 0.0, torch.ones(1, dtype=torch.bool), 1.0).second_order
    nan
    """

    multipliers: Tensor
    residual: float
    support: Tensor
    scale: float
    second_order: float = math.nan
    saddle: bool = False


def parameter_certificate(
    problem: Classification, network: Parameterisation, w: Any
) -> Certificate:
    r"""Returns a certificate that w is a multiple of a stationary point of G18's problem (14).

    The problem is :math:`\min |w|^2` subject to :math:`y_i\langle x_i, P(w)\rangle \ge 1`.

    Parameters
    ----------
    problem : Classification
        X of shape (n, d), y of shape (n,), or (n, k) for a network of k outputs.
    network : LinearNetwork or Parameterisation
    w : array, shape (P,)
        Any positive multiple of the point; its predictor must separate the data. For a map that
        is not homogeneous: some multiple must have a least margin of 1.

    Returns
    -------
    Certificate
        ``residual`` is the norm of :math:`(w - \sum\alpha_i\nabla m_i)/|w|` together with that of
        :math:`L\alpha_i(m_i - 1)/|w|^2`; ``support`` are the examples with
        :math:`\alpha_i > 0`; ``second_order`` see ``Certificate``.

    Raises
    ------
    TypeError, ValueError
        If the problem is not a Classification, the network not a Parameterisation, shapes
        disagree, or no multiple of w separates.

    Notes
    -----
    Source: G18, eq. (14) and Theorem 4. For a map that is not homogeneous the factor to margin 1
    is found along the ray, the least where there are several, and everything is evaluated there:
    the answer does not depend on the length of w. That such a flow ends at a stationary point is
    then not a theorem.

    Examples
    --------
    >>> from implicit_bias.models.linear import LinearNetwork
    >>> problem = Classification([[2.0, 0.0], [0.0, 1.0]], [1, 1])
    >>> network = LinearNetwork("diagonal", 2, depth=2)
    >>> certificate = parameter_certificate(problem, network, [0.5**0.5, 1.0, 0.5**0.5, 1.0])
    >>> certificate.multipliers.round(decimals=10), certificate.residual < 1e-15
    (tensor([0.5000, 1.0000], dtype=torch.float64), True)
    """
    if not isinstance(network, Parameterisation):
        raise TypeError(
            f"network is a {type(network).__name__}; parameter_certificate needs the LinearNetwork "
            f"of the parameters, or a Parameterisation of your own map."
        )
    v = network.flat(w)
    kernel = network.kernel
    Z = signed_examples(problem, kernel.value(v).size, "parameter_certificate")
    scale = None if network.homogeneous else to_margin_one(kernel, Z, v)
    at = stationarity(kernel, Z, v, network.degree, scale)
    kept = at.alpha > 1e-9 * at.alpha.sum()
    curvature, saddle = best_curvature(kernel, Z, at)
    shape = tuple(problem.y.shape)
    device = problem.X.device
    return Certificate(
        multipliers=torch.from_numpy(at.alpha).reshape(shape).to(device),
        residual=at.residual,
        support=torch.from_numpy(kept).reshape(shape).to(device),
        scale=at.scale,
        second_order=curvature,
        saddle=saddle,
    )


def _transform(rows: Array, basis: str, shape: tuple[int, ...]) -> NDArray[np.inexact]:
    """Coefficients of each row in the basis."""
    if basis == "identity":
        return rows
    axes = tuple(range(-len(shape), 0))
    images = rows.reshape(*rows.shape[:-1], *shape)
    return np.fft.fftn(images, axes=axes, norm="ortho").reshape(rows.shape)


def _relieve(share: Array, N: Array, forces: NDArray[np.inexact]) -> Array:
    """The shares >= 0 in share + N c with the least max |v_k|, v = share @ forces, or below 1.

    By cutting planes: |v_k| is the largest Re(e^(-i theta) v_k), and angles are added as needed;
    for real forces 0 and pi are all.
    """
    r, d = N.shape[1], forces.shape[1]
    start, moves = share @ forces, N.T @ forces
    angles = [np.zeros(d), np.full(d, np.pi), np.angle(start)]
    everywhere = np.arange(d)
    turns = [(everywhere, angle) for angle in angles]
    best, least = share, float(np.abs(start).max())
    for _ in range(60):
        where = np.concatenate([k for k, _ in turns])
        phases = np.exp(-1j * np.concatenate([angle for _, angle in turns]))
        cuts = np.hstack([(moves[:, where] * phases).real.T, -np.ones((where.size, 1))])
        A = np.vstack([cuts, np.hstack([-N, np.zeros((share.size, 1))])])
        b = np.concatenate([-(start[where] * phases).real, share])
        found = programme(np.append(np.zeros(r), 1.0), A, b, [(None, None)] * r + [(1.0, None)])
        if found is None:
            break
        new = np.maximum(share + N @ found[:r], 0.0)
        v = new @ forces
        top = float(np.abs(v).max())
        if top < least:
            best, least = new, top
        missed = np.flatnonzero(np.abs(v) > found[-1] + 1e-11)
        if top <= found[-1] + 1e-11 or missed.size == 0:
            break
        turns.append((missed, np.angle(v[missed])))
    return best


def bridge_certificate(
    problem: Classification,
    beta: Any,
    depth: int,
    basis: str = "fourier",
    shape: tuple[int, int] | None = None,
    zero: float = 1e-8,
) -> Certificate:
    r"""Returns a certificate that beta is a multiple of a stationary point of G18's problem (10).

    The problem is :math:`\min \|\widehat\beta\|_p`, p = 2/L, subject to :math:`y_i\langle x_i,
    \beta\rangle \ge 1`, with :math:`\widehat\beta` the coefficients in the basis.

    Parameters
    ----------
    problem : Classification
        X of shape (n, d), y of shape (n,).
    beta : array, shape (d,)
        Any positive multiple of the point; it must separate the data.
    depth : int
        L, at least 2 (any L for "euclidean").
    basis : str
        "fourier" (convolutional networks; unitary transform), "identity" (diagonal networks), or
        "euclidean" (full networks: the penalty is :math:`\|\beta\|_2` at every depth).
    shape : tuple of two ints, optional
        With "fourier": the two-dimensional transform of images of this shape.
    zero : float
        Coefficients of at most ``zero`` times the largest are taken for zero. Below p = 1 that
        frees them of any condition, so their share of the norm of beta is part of the residual.

    Returns
    -------
    Certificate
        ``multipliers`` (n,) belong to the gradient of :math:`\|\widehat\beta\|_p^p/p`;
        ``support`` (d,); ``residual`` is the root of the sum of squares of: the weighted
        stationarity equations relative to :math:`\|\widehat\beta\|_p^{p/2}`, the complementarities
        :math:`\alpha_i(m_i - 1)` relative to :math:`\|\widehat\beta\|_p^p`, the part of beta that
        was taken for zero relative to beta, and, for p = 1, the largest excess of :math:`|v_k|`
        over 1.

    Raises
    ------
    TypeError, ValueError
        If the problem is not a Classification of one output, beta does not separate, or an
        argument is out of range.

    Notes
    -----
    Source: G18, eqs. (11) to (13). Deviation: the paper prints the factor p of the gradient of
    :math:`\|\cdot\|_p^p` in (13) and calls it that of the quasi-norm; positive factors belong to
    the multipliers. For L = 2 the problem is convex and the certificate is one of optimality; where
    multipliers are not unique, those with the least excess are taken.

    Examples
    --------
    >>> problem = Classification([[2.0, 1.0]], [1])
    >>> bridge_certificate(problem, [1.0, 0.0], depth=3, basis="identity").residual < 1e-15
    True
    >>> bridge_certificate(problem, [0.0, 1.0], depth=2, basis="identity").residual
    1.0
    """
    if basis not in ("fourier", "identity", "euclidean"):
        raise ValueError(
            f"There is no basis {basis!r}. Choose 'fourier' (convolutional), 'identity' (diagonal) "
            f"or 'euclidean' (full networks)."
        )
    depth = as_count(depth, "depth", 1 if basis == "euclidean" else 2)
    point = as_real(beta, "beta").reshape(-1).cpu().numpy()
    Z = signed_examples(problem, point.size, "bridge_certificate")
    if problem.y.ndim != 1:
        raise ValueError(
            f"bridge_certificate is about one output; y has shape {tuple(problem.y.shape)}. Take "
            f"one column of y, or parameter_certificate for networks with several outputs."
        )
    if shape is not None and basis != "fourier":
        raise ValueError(
            f"shape = {shape}: two sides of an image have a meaning for basis='fourier' only, and "
            f"the basis is {basis!r}. Leave it out."
        )
    sizes = (problem.d,) if shape is None else image_sides(shape, problem.d, axes=(1, 2))
    zero = as_number(zero, "zero")
    if not 0 <= zero < 1:
        raise ValueError(
            f"zero = {zero} is not a fraction of the largest coefficient; 1e-8 is the default."
        )
    margins = Z @ point
    least = least_margin(margins, "bridge_certificate", "predictor")
    coefficients = _transform(point / least, basis, sizes)
    if basis == "euclidean":
        size = float(np.linalg.norm(coefficients))
        alpha, residual = fit_multipliers(
            Z.T / size, point / least / size, margins / least - 1, size**2
        )
        kept, extra = np.ones(problem.d, dtype=bool), 0.0
    else:
        p = 2 / depth
        moduli = np.abs(coefficients)
        kept = moduli > zero * moduli.max()
        S, phases = moduli[kept], coefficients[kept] / moduli[kept]
        total = float((S**p).sum())
        examples = _transform(Z, basis, sizes)
        rows = examples[:, kept] * phases.conj() * S ** (1 - p / 2) / math.sqrt(total)
        goal = S ** (p / 2) / math.sqrt(total)
        A = np.vstack([rows.real.T, rows.imag.T])
        b, slack = np.concatenate([goal, np.zeros_like(goal)]), margins / least - 1
        alpha, residual = fit_multipliers(A, b, slack, total)
        extra = float(np.linalg.norm(moduli[~kept]) / np.linalg.norm(moduli))
        if depth == 2:
            excess = max(0.0, float(np.abs(alpha @ examples).max()) - 1)
            if excess > 1e-9:
                other = total * _relieve(
                    alpha / total, freedom(A, slack, total, residual), total * examples
                )
                # Judged like the first: whatever the programmes say, it must satisfy the equations.
                misfit = np.concatenate([A @ other - b, slack * other / total])
                new = float(np.linalg.norm(misfit))
                rest = max(0.0, float(np.abs(other @ examples).max()) - 1)
                if math.hypot(new, rest) < math.hypot(residual, excess):
                    alpha, residual, excess = other, new, rest
            extra = math.hypot(extra, excess)
    device = problem.X.device
    return Certificate(
        multipliers=torch.from_numpy(alpha).to(device),
        residual=math.hypot(residual, extra),
        support=torch.from_numpy(kept).to(device),
        scale=1 / least,
    )
