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
from implicit_bias.models.parameterisation import Parameterisation
from implicit_bias.multipliers import (
    fit_multipliers,
    least_curvature,
    least_margin,
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
        Non-negative, for the point scaled to a least margin of 1.
    residual : float
        Scale-free; 0 proves stationarity, 1e-15 is rounding, of order 1 is no proof at all.
    support : Tensor of bool
        Of a predictor: its non-zero coefficients in the basis. Of parameters: the examples with a
        positive multiplier.
    scale : float
        The factor that takes the point to a least margin of 1.
    second_order : float
        Of parameters: the least eigenvalue of the Hessian of the Lagrangian
        :math:`\tfrac12|w|^2 - \sum\alpha_i(m_i - 1)` on the directions along which the margins
        with positive multipliers stand still, relative to that of the norm, which is 1. A
        local minimum has none below 0; symmetries of the network give zeros. nan for a predictor.

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
        Any positive multiple of the point; its predictor must separate the data.

    Returns
    -------
    Certificate
        ``residual`` is the norm of :math:`(w - \sum\alpha_i\nabla m_i)/|w|` together with that of
        :math:`L\alpha_i(m_i - 1)/|w|^2`; ``support`` are the examples with
        :math:`\alpha_i > 0`; ``second_order`` see ``Certificate``.

    Raises
    ------
    TypeError, ValueError
        If the problem is not a Classification, shapes disagree, or w does not separate.

    Notes
    -----
    Source: G18, eq. (14) and Theorem 4. For a map that is not homogeneous the scaling uses its
    highest degree, so that the least margin is not exactly 1: there the residual belongs to the
    theorem's claim, which then is false.

    Examples
    --------
    >>> from implicit_bias.models.linear import LinearNetwork
    >>> problem = Classification([[2.0, 0.0], [0.0, 1.0]], [1, 1])
    >>> network = LinearNetwork("diagonal", 2, depth=2)
    >>> certificate = parameter_certificate(problem, network, [0.5**0.5, 1.0, 0.5**0.5, 1.0])
    >>> certificate.multipliers.round(decimals=10), certificate.residual < 1e-15
    (tensor([0.5000, 1.0000], dtype=torch.float64), True)
    """
    v = network.flat(w)
    kernel = network.kernel
    beta = kernel.value(v)
    Z = signed_examples(problem, beta.size, "parameter_certificate")
    alpha, residual, scale = stationarity(kernel, Z, v, network.degree)
    v = v * scale
    kept = alpha > 1e-9 * alpha.sum()
    curvature = least_curvature(kernel, Z, v, alpha)
    shape = tuple(problem.y.shape)
    device = problem.X.device
    return Certificate(
        multipliers=torch.from_numpy(alpha).reshape(shape).to(device),
        residual=residual,
        support=torch.from_numpy(kept).reshape(shape).to(device),
        scale=scale,
        second_order=curvature,
    )


def _transform(rows: Array, basis: str, shape: tuple[int, ...]) -> NDArray[np.inexact]:
    """Coefficients of each row in the basis."""
    if basis == "identity":
        return rows
    axes = tuple(range(-len(shape), 0))
    images = rows.reshape(*rows.shape[:-1], *shape)
    return np.fft.fftn(images, axes=axes, norm="ortho").reshape(rows.shape)


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
    the multipliers. For L = 2 the problem is convex and the certificate is one of optimality.

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
    sizes = (problem.d,) if shape is None else tuple(as_count(s, "shape") for s in shape)
    if math.prod(sizes) != problem.d:
        raise ValueError(
            f"shape = {shape} has {math.prod(sizes)} pixels, but the data have d = {problem.d} "
            f"features. Pass the two sides of the image."
        )
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
        b = np.concatenate([goal, np.zeros_like(goal)])
        alpha, residual = fit_multipliers(A, b, margins / least - 1, total)
        extra = float(np.linalg.norm(moduli[~kept]) / np.linalg.norm(moduli))
        if depth == 2:
            excess = float(np.abs(alpha @ examples).max()) - 1
            extra = math.hypot(extra, max(0.0, excess))
    device = problem.X.device
    return Certificate(
        multipliers=torch.from_numpy(alpha).to(device),
        residual=math.hypot(residual, extra),
        support=torch.from_numpy(kept).to(device),
        scale=1 / least,
    )
