r"""The bridge problem in few dimensions, by trying every support.

For p = 2/L < 1 the problem

.. math:: \min\ \|\widehat\beta\|_p \quad\text{subject to}\quad \langle z_i, \beta\rangle \ge 1

is not convex, and what makes it hard is which coefficients vanish. There are few supports in few
dimensions (a real signal has equal moduli at a frequency and its negative), and on each of them
:math:`\widehat\beta_k = u_k|u_k|^{L-1}` turns it into a smooth one,

.. math:: \min\ |u|^2 \quad\text{subject to}\quad \sum_k \mathrm{Re}(\overline{\widehat z_{ik}}\,
          u_k)\,|u_k|^{L-1} \ge 1,

solved by sequential quadratic programming from several separators. With the phases fixed the
penalty is concave in the moduli, so the least is at a vertex: a support of more frequencies than
examples need not be tried.
"""

from __future__ import annotations

from itertools import combinations, pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from implicit_bias.arrays import as_count
from implicit_bias.certificates import bridge_certificate
from implicit_bias.limits.margin import max_margin
from implicit_bias.problems import Classification
from implicit_bias.records import Limit, NotSeparable
from implicit_bias.threads import single_threaded

__all__ = ["brute_force_bridge"]

Array = NDArray[np.float64]
_LARGEST = 8
_STARTS = 4  # separators of random quadratic norms, beside the Euclidean one


def _frame(d: int, basis: str) -> tuple[Array, list[list[int]]]:
    """An orthonormal basis as columns, and the columns that make up one coefficient.

    A frequency that is not its own negative has a cosine and a sine; their coefficients are the
    real and imaginary parts of the transform there, times the root of 2.
    """
    if basis == "identity":
        return np.eye(d), [[k] for k in range(d)]
    times = np.arange(d)
    columns: list[Array] = []
    groups: list[list[int]] = []
    for k in range(d // 2 + 1):
        wave = 2 * np.pi * k * times / d
        parts = [np.cos(wave)] if 2 * k % d == 0 else [np.cos(wave), -np.sin(wave)]
        groups.append(list(range(len(columns), len(columns) + len(parts))))
        columns += [part / np.linalg.norm(part) for part in parts]
    return np.column_stack(columns), groups


def _on_support(Z: Array, groups: list[list[int]], depth: int, starts: list[Array]) -> list[Array]:
    """Stationary coefficients on these columns (Z has no others), from the starts."""
    from scipy.optimize import minimize

    owner = np.empty(Z.shape[1], dtype=np.intp)
    for g, columns in enumerate(groups):
        owner[columns] = g
    pairs = np.array([len(columns) == 2 for columns in groups])
    # A pair stands for two coefficients, each of 1/sqrt 2 of its size.
    weights = np.where(pairs, 2.0 ** (1 - 1 / depth), 1.0)[owner]

    def moduli(u: Array) -> Array:
        """The modulus of its group, for each column."""
        return np.sqrt(np.bincount(owner, u**2, minlength=len(groups)))[owner]

    def coefficients(u: Array) -> Array:
        product: Array = u * moduli(u) ** (depth - 1)
        return product

    def slopes(u: Array) -> Array:
        r = moduli(u)
        D = np.diag(r ** (depth - 1))
        same = owner[:, None] == owner[None, :]
        outer = np.outer(u, u) * same * np.where(r > 0, r, 1) ** (depth - 3)
        jacobian: Array = Z @ (D + (depth - 1) * np.where(r > 0, outer, 0))
        return jacobian

    found = []
    for start in starts:
        r = np.where(moduli(start) > 0, moduli(start), 1)
        solved = minimize(
            lambda u: float(weights @ u**2),
            start * r ** (1 / depth - 1),
            jac=lambda u: 2 * weights * u,
            constraints={
                "type": "ineq",
                "fun": lambda u: Z @ coefficients(u) - 1,
                "jac": slopes,
            },
            method="SLSQP",
            options={"maxiter": 300, "ftol": 1e-15},
        )
        if np.isfinite(solved.x).all():
            found.append(coefficients(solved.x))
    return found


def _separators(Z: Array, rng: np.random.Generator) -> list[Array]:
    """The separators of least Euclidean norm and of some random norms; none if none exists."""
    data = Classification(torch.from_numpy(Z), torch.ones(len(Z)))
    norms: list[Any] = [2]
    norms += [np.diag(np.exp(2 * rng.standard_normal(Z.shape[1]))) for _ in range(_STARTS)]
    try:
        return [max_margin(data, norm).x.numpy() for norm in norms]
    except (NotSeparable, ValueError):  # not, or too thinly
        return []


@single_threaded
def brute_force_bridge(problem: Classification, depth: int, basis: str = "fourier") -> Limit:
    r"""Returns the separator of least bridge penalty, from every possible support.

    Parameters
    ----------
    problem : Classification
        Separable data, X of shape (n, d) with d <= 8, y of shape (n,).
    depth : int
        L, at least 2; the penalty is the quasi-norm of exponent 2/L.
    basis : str
        "fourier" (unitary transform; convolutional networks) or "identity" (diagonal ones).

    Returns
    -------
    Limit
        ``x`` (d,) with least margin 1; ``objective`` the quasi-norm
        :math:`\|\widehat x\|_{2/L}`; ``dual`` and ``residual`` those of ``bridge_certificate``.

    Raises
    ------
    NotSeparable
        If no w has all margins positive.
    TypeError, ValueError
        If the problem is not a small Classification of one output, or an argument is out of range.

    Notes
    -----
    Source: G18, problem (10). Every support is tried; on a support the problem may still have
    several stationary points, and of those only the ones are seen to which the starts lead.

    Examples
    --------
    >>> brute_force_bridge(Classification([[2.0, 1.0]], [1]), 3, "identity").x
    tensor([0.5000, 0.0000], dtype=torch.float64)
    """
    if not isinstance(problem, Classification):
        raise TypeError(
            f"brute_force_bridge needs a Classification; got a {type(problem).__name__}. Build "
            f"Classification(X, y) with y in {{-1, +1}}."
        )
    depth = as_count(depth, "depth", 2)
    if basis not in ("fourier", "identity"):
        raise ValueError(f"There is no basis {basis!r}. Choose 'fourier' or 'identity'.")
    if problem.d > _LARGEST:
        raise ValueError(
            f"d = {problem.d}: every support is tried, and their number doubles with each "
            f"coefficient. At most d = {_LARGEST}; for more, follow network_flow from many starts."
        )
    size = max_margin(problem).objective  # raises NotSeparable, with its certificate
    frame, groups = _frame(problem.d, basis)
    Z = problem.Z.cpu().numpy() @ frame * size
    rng = np.random.default_rng(0)
    p = 2 / depth
    best: tuple[float, Array] | None = None
    for count in range(1, min(len(groups), problem.n) + 1):
        for chosen in combinations(groups, count):
            columns = [k for group in chosen for k in group]
            ends = np.cumsum([0, *(len(group) for group in chosen)])
            local = [list(range(a, b)) for a, b in pairwise(ends)]
            rows = np.ascontiguousarray(Z[:, columns])
            for v in _on_support(rows, local, depth, _separators(rows, rng)):
                least = float((rows @ v).min())
                if not least > 1e-3:
                    continue
                beta = np.zeros(problem.d)
                beta[columns] = v / least
                # Two coefficients of size |v| / sqrt 2 for each pair.
                power = sum(
                    float(np.linalg.norm(beta[g])) ** p * (2 ** (1 - p / 2) if len(g) == 2 else 1)
                    for g in chosen
                )
                if best is None or power < best[0]:
                    best = (power, beta)
    if best is None:
        raise RuntimeError(
            "No support gave a solution, although the data are separable. The margin may be too "
            "thin for the solver."
        )
    x = torch.from_numpy(frame @ best[1] * size)
    x = x.to(problem.X)
    x = x / (problem.Z @ x).min()
    certificate = bridge_certificate(problem, x, depth, basis, zero=1e-6)
    return Limit(
        x=x,
        dual=certificate.multipliers,
        objective=best[0] ** (1 / p) * size,
        residual=certificate.residual,
        solver="SLSQP on every support",
        status="separates",
    )
