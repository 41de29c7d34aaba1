r"""The Hessian of a loss at a point, the rank of a model's Jacobian there, and how clear both are.

For half the sum of squares, :math:`\nabla^2 L = J^\top J + \sum_i r_i \nabla^2 f_i`. Where every
residual is zero the Hessian is :math:`J^\top J`: it has as many non-zero eigenvalues as J has
rank, and no negative ones. In floating point a zero is known by the **gap**: the smallest number
kept over the largest one called zero, where nothing counts as smaller than rounding, eps times the
largest number of all.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from implicit_bias.arrays import as_count, as_real
from implicit_bias.models.pure import as_pure, backward, flatten, jacobian

__all__ = ["Rank", "Spectrum", "hessian_spectrum", "jacobian_rank"]

_CHUNK = 64_000_000  # numbers in a block of the Hessian: 512 MB
_DENSE = 5000  # parameters up to which the whole Hessian is formed


@dataclass(frozen=True, eq=False)
class Spectrum:
    """Eigenvalues of a Hessian, all of them or the extreme ones.

    Attributes
    ----------
    values : Tensor, shape (m,), float64
        Increasing; m = p, or k of them.
    vectors : Tensor, shape (p, m)
        Their eigenvectors, as columns.
    size : int
        Number of parameters p.
    loss, gradient : float
        The loss at the point, and the norm of its gradient. Where the loss is not zero, nor are
        the eigenvalues that would be.
    zeros, negative : int or None
        How many eigenvalues are zero, and how many below zero; None unless all are known.
    gap : float
        Smallest size of the others over the largest of the zeros; nan unless all are known.
    residual : float
        Largest norm of :math:`Hv - \\lambda v` over the largest size of an eigenvalue, recomputed.

    Examples
    --------
    >>> found = hessian_spectrum(lambda w: (w[0] + w[1])**2, [1.0, -1.0])
    >>> found.zeros, found.negative, found.gap > 1e8
    (1, 0, True)
    """

    values: Tensor
    vectors: Tensor
    size: int
    loss: float
    gradient: float
    zeros: int | None
    negative: int | None
    gap: float
    residual: float

    @property
    def null_space(self) -> Tensor:
        """Orthonormal columns (p, zeros) that span the directions without curvature."""
        if self.zeros is None:
            raise ValueError(
                "Only the extreme eigenvalues were computed, so the null space is not known. "
                "Leave k out, or use jacobian_rank(...).null_space at a zero of the loss."
            )
        return self.vectors[:, self.values.abs().argsort()[: self.zeros]]


@dataclass(frozen=True, eq=False)
class Rank:
    """The numerical rank of a Jacobian.

    Attributes
    ----------
    rank : int
    gap : float
        Smallest singular value kept over the largest one dropped.
    singular_values : Tensor, decreasing
    jacobian : Tensor, shape (m, p)
        m outputs (examples times outputs of each), p parameters.

    Examples
    --------
    >>> found = jacobian_rank(lambda w, x: w[0] * w[1] * x, [1.0, 2.0, 3.0], [2.0, 1.0])
    >>> found.rank, found.null_space.shape
    (1, torch.Size([2, 1]))
    """

    rank: int
    gap: float
    singular_values: Tensor
    jacobian: Tensor

    @cached_property
    def null_space(self) -> Tensor:
        """Directions that move no output, to first order; orthonormal columns (p, p - rank)."""
        right = torch.linalg.svd(self.jacobian, full_matrices=True).Vh
        null: Tensor = right[self.rank :].T.contiguous()
        return null


def _split(sizes: Tensor, eps: float, rtol: float | None) -> tuple[int, float]:
    """How many of the decreasing sizes are not zero, and the gap."""
    top = float(sizes[0]) if sizes.numel() else 0.0
    if top == 0:
        return 0, math.inf
    sizes = sizes / top  # before anything underflows
    # Rounding level closes the list, so that "nothing is zero" is one of the choices.
    tail = torch.cat([sizes.clamp(min=eps), sizes.new_full((1,), eps)])
    ratios = tail[:-1] / tail[1:]
    kept = int(ratios.argmax()) + 1 if rtol is None else int((sizes > rtol).sum())
    return kept, float(ratios[kept - 1])


def _check_rtol(rtol: float | None) -> None:
    if rtol is not None and not 0 < rtol < 1:
        raise ValueError(
            f"rtol = {rtol} is not between 0 and 1. It is the fraction of the largest number "
            f"below which one is zero; None finds the largest gap."
        )


def _check_finite(H: Tensor) -> None:
    if not bool(torch.isfinite(H).all()):
        raise ValueError(
            "The Hessian has a NaN or infinite entry: the loss is not twice differentiable here, "
            "or overflows. Move the parameters a little, or scale the data."
        )


def hessian_spectrum(
    loss: Callable[[Any], Tensor],
    parameters: Any,
    k: int | None = None,
    which: Literal["both", "largest", "smallest"] = "both",
    rtol: float | None = None,
    seed: int = 0,
    tol: float = 1e-10,
    steps: int | None = None,
) -> Spectrum:
    r"""Returns the eigenvalues of the Hessian of a loss, exactly or the k extreme ones.

    Parameters
    ----------
    loss : callable
        From parameters, in the form in which they are given, to one number; differentiable twice
        by torch.func.
    parameters : array, or dict, list or tuple of tensors
        p numbers in all; float32 stays float32 if all are.
    k : int, optional
        Only so many eigenvalues, by Lanczos' method on Hessian-vector products: the Hessian is
        never formed. Default all p of them, for p up to 5,000.
    which : str
        With k: "largest" or "smallest" (most negative) ones, or "both", half from each end.
    rtol : float, optional
        An eigenvalue is zero when its size is below ``rtol`` times the largest; default: below
        the largest gap.
    seed : int
        Of Lanczos' first vector, and of its restarts.
    tol : float
        Relative accuracy of Lanczos' eigenvalues.
    steps : int, optional
        Budget of Lanczos' restarts; default 10 p.

    Returns
    -------
    Spectrum

    Raises
    ------
    ArithmeticError
        If Lanczos' method does not converge within its budget.
    TypeError, ValueError
        If the loss is not one finite number there, p is too large for a dense Hessian, or an
        argument is out of range.

    Notes
    -----
    Source: P18, Lemma 1 and Proposition 1. At a kink of the ReLU the Hessian is that of one side.
    Lanczos' method may miss copies of a multiple eigenvalue, and finds a cluster of zeros slowly:
    count zeros with all eigenvalues, or with ``jacobian_rank``.

    Examples
    --------
    >>> hessian_spectrum(lambda w: (w**2).sum() + w[0]**2, [0.0, 0.0, 0.0]).values
    tensor([2., 2., 4.], dtype=torch.float64)
    """
    _check_rtol(rtol)
    flat = flatten(parameters)
    theta = flat.vector
    p, eps = theta.numel(), torch.finfo(theta.dtype).eps

    def value(vector: Tensor) -> Tensor:
        result = loss(flat.rebuild(vector))
        if not isinstance(result, Tensor) or result.numel() != 1:
            shape = tuple(result.shape) if isinstance(result, Tensor) else type(result).__name__
            raise ValueError(
                f"The loss is {shape}, not a tensor with one number: a Hessian belongs to one "
                f"number. Sum over the examples."
            )
        return result.reshape(())

    here = float(value(theta).detach())
    gradient, pull = backward(torch.func.grad(value), theta)
    if not (math.isfinite(here) and bool(torch.isfinite(gradient).all())):
        raise ValueError(
            f"The loss is {here} at these parameters, or its gradient is not finite: there is no "
            f"Hessian to speak of. If they come from a run, the run diverged."
        )
    slope = float(gradient.detach().to(torch.float64).norm())
    if k is not None:
        found = _lanczos(pull, theta, as_count(k, "k"), which, seed, tol, steps)
        return Spectrum(found[0], found[1], p, here, slope, None, None, math.nan, found[2])
    if p > _DENSE:
        raise ValueError(
            f"All {p} eigenvalues need a {p} by {p} matrix. Pass k= for the extreme ones, which "
            f"needs Hessian-vector products only."
        )
    eye = torch.eye(p, dtype=theta.dtype, device=theta.device)
    blocks = [torch.func.vmap(pull)(part) for part in eye.split(max(1, _CHUNK // p))]
    H = torch.cat(blocks).detach().to(torch.float64)
    _check_finite(H)
    values, vectors = torch.linalg.eigh((H + H.T) / 2)
    sizes = values.abs().sort(descending=True).values
    kept, gap = _split(sizes, eps, rtol)
    top = float(sizes[0])
    smallest = float(sizes[kept - 1]) if kept else math.inf
    negative = int((values <= -smallest).sum())
    residual = 0.0
    if top:
        residual = float(((H / top) @ vectors - vectors * (values / top)).norm(dim=0).max())
    return Spectrum(values, vectors, p, here, slope, p - kept, negative, gap, residual)


def _lanczos(
    pull: Callable[[Tensor], Tensor],
    theta: Tensor,
    k: int,
    which: str,
    seed: int,
    tol: float,
    steps: int | None,
) -> tuple[Tensor, Tensor, float]:
    ends = {"both": "BE", "largest": "LA", "smallest": "SA"}
    if which not in ends:
        raise ValueError(f"which = {which!r} must be 'both', 'largest' or 'smallest'.")
    p = theta.numel()
    if k >= p or (which == "both" and k < 2):
        raise ValueError(
            f"k = {k} of {p} eigenvalues: Lanczos' method finds fewer than p, and 'both' ends "
            f"need two. Leave k out for all of them."
        )
    if not 0 <= tol < 1:
        raise ValueError(f"tol = {tol} is not a relative accuracy; 1e-10 is the default.")
    from scipy.sparse.linalg import ArpackError, ArpackNoConvergence, LinearOperator, eigsh

    def product(v: Any) -> Any:
        vector = torch.from_numpy(np.array(v, dtype=np.float64).reshape(-1)).to(theta)
        return pull(vector).detach().to("cpu", torch.float64).numpy()

    start = np.random.default_rng(as_count(seed, "seed", least=0)).standard_normal(p)
    operator = LinearOperator((p, p), matvec=product, dtype=np.float64)
    budget = None if steps is None else as_count(steps, "steps")
    first = torch.from_numpy(product(start))
    _check_finite(first)
    if not bool(first.any()):  # then H is zero, and ARPACK has nothing to begin with
        zeros = torch.zeros(k, dtype=torch.float64, device=theta.device)
        return zeros, torch.eye(p, k).to(zeros), 0.0
    options = {"which": ends[which], "v0": start, "tol": tol, "maxiter": budget}
    if "rng" in inspect.signature(eigsh).parameters:  # of restarts, where eigenvalues are multiple
        options["rng"] = np.random.default_rng([seed, 1])
    try:
        values, vectors = eigsh(operator, k, **options)
    except ArpackNoConvergence as error:
        raise ArithmeticError(
            f"Lanczos' method found {len(error.eigenvalues)} of {k} eigenvalues within its "
            f"budget: they crowd together at that end. Ask for fewer, a larger tol, or more steps."
        ) from error
    except ArpackError as error:
        raise ArithmeticError(
            f"Lanczos' method broke down ({error}). Leave k out for all eigenvalues, ask for fewer "
            f"or more of them, or take another seed."
        ) from error
    order = np.argsort(values)
    values, vectors = values[order], vectors[:, order]
    rest = [np.linalg.norm(product(v) - lam * v) for lam, v in zip(values, vectors.T, strict=True)]
    top = np.abs(values).max()
    on = theta.device
    residual = float(max(rest) / top) if top else 0.0
    return torch.from_numpy(values).to(on), torch.from_numpy(vectors.copy()).to(on), residual


def jacobian_rank(
    model: Any, inputs: Any, parameters: Any = None, rtol: float | None = None
) -> Rank:
    r"""Returns the rank of the Jacobian of a model's outputs in its parameters, with its gap.

    Parameters
    ----------
    model : torch.nn.Module, or callable (parameters, inputs) -> outputs
    inputs : array, shape (n, ...)
        Finite; brought to the parameters' precision.
    parameters : array, or dict, list or tuple of tensors, optional
        Those of the callable; default a module's own.
    rtol : float, optional
        A singular value is zero below ``rtol`` times the largest; default: below the largest gap.

    Returns
    -------
    Rank

    Raises
    ------
    TypeError, ValueError
        If the model has no parameters, or its outputs or their Jacobian are not finite.

    Notes
    -----
    Source: P18, Lemma 1 and Theorem 3. At a zero of the square loss the Hessian has rank this.
    The rank is at most the smaller of p and n d'.

    Examples
    --------
    >>> jacobian_rank(torch.nn.Linear(3, 2), torch.eye(3)).rank
    6
    """
    _check_rtol(rtol)
    function, flat = as_pure(model, parameters)
    x = as_real(inputs, "inputs").to(flat.vector)
    _, J = jacobian(lambda theta: function(theta, x), flat.vector)
    eps = torch.finfo(J.dtype).eps
    J = J.to(torch.float64)
    sizes = torch.linalg.svdvals(J)
    kept, gap = _split(sizes, eps, rtol)
    return Rank(kept, gap, sizes, J)
