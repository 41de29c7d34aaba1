"""What is to be learned: validated data, and generators whose answer is known.

A problem holds the examples as rows, X of shape (n, d), and the targets y. Everything is kept in
float64 on the device of the input: implicit bias is a statement about limits, and a limit seen
through seven digits is a rumour. What the input's own precision was is remembered in
``precision``, because it decides which singular values are noise.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from implicit_bias.arrays import as_array, as_count, as_real

__all__ = [
    "Classification",
    "Planted",
    "Regression",
    "as_array",
    "as_regression",
    "as_start",
    "plant_regression",
]


# Products of two such numbers, and squares of their norms, are still inside float64's range.
_LARGEST = 1e75


def _as_matrix(X: Any, name: str = "X") -> tuple[Tensor, float]:
    """X as a float64 tensor of its own (detached), and the precision it came in."""
    # A copy: a problem is frozen, and must not change when the caller's array does.
    copy = as_real(X, name)
    dtype = as_array(X).dtype
    precision = torch.finfo(dtype if dtype.is_floating_point else torch.float64).eps
    size = float(copy.abs().max()) if copy.numel() else 0.0
    if size and not 1 / _LARGEST <= size <= _LARGEST:
        raise ValueError(
            f"{name} has its largest entry at {size:.2g}: squares of such numbers leave the range "
            f"of float64, and norms would come out as 0 or infinity. Rescale it, to a largest "
            f"entry of 1, say."
        )
    return copy, precision


def _check_shapes(X: Tensor, y: Tensor, name: str) -> None:
    if X.ndim != 2 or 0 in X.shape:
        raise ValueError(
            f"{name} needs X of shape (n, d), examples as rows and at least one of each; got "
            f"{tuple(X.shape)}. For a single feature use X[:, None]."
        )
    if y.ndim == 0 or y.shape[0] != X.shape[0]:
        raise ValueError(
            f"{name} needs one target for each of the {X.shape[0]} rows of X; y has shape "
            f"{tuple(y.shape)}. If X holds examples as columns, pass X.T."
        )
    if X.device != y.device:
        raise ValueError(
            f"X is on {X.device} and y on {y.device}; one problem lives on one device. "
            f"Move one of them with .to(...)."
        )


class _Examples:
    """What every problem has: examples as rows of X."""

    X: Tensor

    @property
    def n(self) -> int:
        """Number of examples."""
        return int(self.X.shape[0])

    @property
    def d(self) -> int:
        """Number of features."""
        return int(self.X.shape[1])


@dataclass(frozen=True, eq=False)
class Regression(_Examples):
    r"""A regression problem: find w with :math:`Xw = y`.

    Parameters
    ----------
    X : array, shape (n, d)
        Examples as rows; anything ``torch.as_tensor`` takes. Stored as float64 on its device.
    y : array, shape (n,)
        Targets.

    Attributes
    ----------
    noise : float
        Unit roundoff of the coarser of the two inputs; misfits of that size are rounding.
    precision : float
        Unit roundoff of X as it came (1.2e-7 for float32, 2.2e-16 for float64): singular values
        below ``max(n, d) * precision`` times the largest are noise.

    Raises
    ------
    TypeError
        If an input is not an array of real numbers.
    ValueError
        If shapes disagree, or an entry is NaN or infinite.

    Examples
    --------
    >>> problem = Regression([[1.0, 2.0, 2.0]], [9.0])
    >>> problem.n, problem.d
    (1, 3)
    """

    X: Tensor
    y: Tensor
    precision: float = field(init=False, default=0.0)
    noise: float = field(init=False, default=0.0)

    def __post_init__(self) -> None:
        X, eps_X = _as_matrix(self.X, "X")
        y, eps_y = _as_matrix(self.y, "y")
        _check_shapes(X, y, "Regression")
        if y.ndim != 1:
            raise ValueError(
                f"Regression needs y of shape (n,), one number per example; got {tuple(y.shape)}. "
                f"Solve several outputs one column at a time: y[:, j]."
            )
        object.__setattr__(self, "X", X)
        object.__setattr__(self, "y", y)
        object.__setattr__(self, "precision", eps_X)
        object.__setattr__(self, "noise", max(eps_X, eps_y))


@dataclass(frozen=True, eq=False)
class Classification(_Examples):
    r"""A classification problem: find w with :math:`y_i \langle x_i, w\rangle > 0` for all i.

    Parameters
    ----------
    X : array, shape (n, d)
        Examples as rows; stored as float64 on its device.
    y : array, shape (n,) or (n, k)
        Labels, each -1 or +1.

    Raises
    ------
    TypeError
        If an input is not an array of real numbers.
    ValueError
        If shapes disagree, an entry is NaN or infinite, or a label is neither -1 nor +1.

    Examples
    --------
    >>> problem = Classification([[1.0, 0.0], [0.0, 2.0]], [1, -1])
    >>> problem.Z
    tensor([[ 1.,  0.],
            [-0., -2.]], dtype=torch.float64)
    """

    X: Tensor
    y: Tensor
    precision: float = field(init=False, default=0.0)

    def __post_init__(self) -> None:
        X, precision = _as_matrix(self.X, "X")
        y, _ = _as_matrix(self.y, "y")
        _check_shapes(X, y, "Classification")
        if y.ndim > 2:
            raise ValueError(
                f"Classification needs y of shape (n,) or (n, k); got {tuple(y.shape)}. "
                f"Flatten the output dimensions into one."
            )
        if not bool((y.abs() == 1).all()):
            found = sorted({float(v) for v in y.flatten().tolist()})[:6]
            raise ValueError(
                f"Classification needs labels in {{-1, +1}}; found {found}. The margin "
                f"y <x, w> has no meaning otherwise. For labels in {{0, 1}} pass 2 * y - 1."
            )
        object.__setattr__(self, "X", X)
        object.__setattr__(self, "y", y)
        object.__setattr__(self, "precision", precision)

    @property
    def Z(self) -> Tensor:
        """The examples turned to the positive side, z_i = y_i x_i, shape (n, d); needs y (n,)."""
        if self.y.ndim != 1:
            raise ValueError(
                "Z = y * X is defined for one output; here y has shape "
                f"{tuple(self.y.shape)}. Take one column of y at a time."
            )
        return self.y[:, None] * self.X


def as_regression(problem: Any, name: str) -> Regression:
    """Returns the problem if it is a Regression: ``name`` solves nothing else.

    Raises
    ------
    TypeError
        If it is anything else.

    Examples
    --------
    >>> as_regression(Regression([[1.0]], [2.0]), "minimum_norm").n
    1
    """
    if not isinstance(problem, Regression):
        raise TypeError(
            f"{name} needs a Regression, for it is about the square loss; got a "
            f"{type(problem).__name__}. Build Regression(X, y); labels of -1 and +1 are targets "
            f"like any others."
        )
    return problem


def as_start(problem: Regression | Classification, start: Any = None) -> Tensor:
    """Returns the starting point as a float64 vector of shape (d,); zero when None.

    Raises
    ------
    TypeError
        If it is not an array of real numbers.
    ValueError
        If it has the wrong shape or is not finite.

    Examples
    --------
    >>> as_start(Regression([[1.0, 2.0]], [3.0]))
    tensor([0., 0.], dtype=torch.float64)
    """
    if start is None:
        return torch.zeros(problem.d, dtype=torch.float64, device=problem.X.device)
    w0 = as_real(start, "start").to(problem.X.device)
    if w0.shape != (problem.d,):
        raise ValueError(
            f"start has shape {tuple(w0.shape)} but the problem has d = {problem.d} features, "
            f"so the model cannot be evaluated there. Pass a vector of length {problem.d}."
        )
    return w0


@dataclass(frozen=True, eq=False)
class Planted:
    """A regression problem together with the answers that its construction gives for free.

    Attributes
    ----------
    problem : Regression
    minimum_norm : Tensor, shape (d,)
        The least-squares solution of least norm, known from the construction, never solved for.
    singular_values : Tensor, shape (r,)
        The non-zero singular values of X that were asked for.
    row_basis : Tensor, shape (d, r)
        Orthonormal columns that span the row space of X.
    residual : float
        Euclidean norm of y's part outside the range of X (0.0 for a consistent system).

    Examples
    --------
    >>> planted = plant_regression(4, 3, inconsistency=0.5)
    >>> planted.residual, planted.row_basis.shape
    (0.5, torch.Size([3, 3]))
    """

    problem: Regression
    minimum_norm: Tensor
    singular_values: Tensor
    row_basis: Tensor
    residual: float


def plant_regression(
    n: int,
    d: int,
    singular_values: Any = None,
    *,
    inconsistency: float = 0.0,
    norm: float = 1.0,
    seed: int = 0,
) -> Planted:
    r"""Returns a random regression problem whose minimum-norm solution is known.

    The matrix is built backwards, :math:`X = U\,\mathrm{diag}(s)\,V^\top` with U and V uniformly
    random orthonormal frames; the solution is a random vector in the span of V.

    Parameters
    ----------
    n, d : int
        Examples and features: wide (d > n), tall or square.
    singular_values : array, shape (r,), optional
        Positive, r <= min(n, d); fewer than min(n, d) make X rank-deficient. Default: min(n, d)
        values spaced evenly in logarithm from 1 down to 0.1.
    inconsistency : float
        Norm of a component of y orthogonal to the range of X; needs r < n when positive.
    norm : float
        Norm of the planted solution.
    seed : int
        Seed of NumPy's generator.

    Raises
    ------
    ValueError
        If the singular values are not positive, or too many, or if an inconsistency is asked of
        a matrix whose range is everything.

    Examples
    --------
    >>> planted = plant_regression(3, 5, [4.0, 2.0, 1.0])
    >>> torch.linalg.svdvals(planted.problem.X).round(decimals=10)
    tensor([4., 2., 1.], dtype=torch.float64)
    """
    n, d = as_count(n, "n"), as_count(d, "d")
    if not (np.isfinite(inconsistency) and np.isfinite(norm)):
        raise ValueError(
            f"inconsistency = {inconsistency}, norm = {norm}: a problem of infinite size has no "
            f"solution to plant. Pass finite numbers."
        )
    rank = min(n, d)
    s = np.geomspace(1.0, 0.1, rank) if singular_values is None else np.asarray(singular_values)
    s = np.atleast_1d(s).astype(np.float64)
    if s.ndim != 1 or not 1 <= s.size <= rank or not (np.isfinite(s) & (s > 0)).all():
        raise ValueError(
            f"singular_values must be between 1 and min(n, d) = {rank} positive numbers; got "
            f"{s.tolist()}. Leave zeros out: fewer values mean a lower rank."
        )
    if inconsistency and s.size >= n:
        raise ValueError(
            f"A matrix of rank {s.size} with n = {n} rows reaches every y, so no y can be "
            f"inconsistent. Ask for fewer singular values than n."
        )
    rng = np.random.default_rng(seed)
    U = np.linalg.qr(rng.standard_normal((n, min(n, s.size + 1))))[0]
    V = np.linalg.qr(rng.standard_normal((d, s.size)))[0]
    coefficients = rng.standard_normal(s.size)
    coefficients *= norm / np.linalg.norm(coefficients)
    y = U[:, : s.size] @ (s * coefficients)
    if inconsistency:
        y = y + inconsistency * U[:, s.size]
    X = (U[:, : s.size] * s) @ V.T
    return Planted(
        Regression(torch.from_numpy(X), torch.from_numpy(y)),
        torch.from_numpy(V @ coefficients),
        torch.from_numpy(s),
        torch.from_numpy(V),
        abs(float(inconsistency)),
    )
