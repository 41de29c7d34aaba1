r"""What a predictor costs: the least :math:`|w|^2` of a network's parameters with P(w) = beta.

The cost is the *implied penalty* of the network (G18, section 5):

=====================  ====================================================================
network                least :math:`|w|^2` with :math:`P(w) = \beta`
=====================  ====================================================================
full, one output       :math:`L\,\|\beta\|_2^{2/L}`
full, k outputs        :math:`L\sum_j\sigma_j(\beta)^{2/L}` (the nuclear norm, twice, at L = 2)
diagonal               :math:`L\,\|\beta\|_{2/L}^{2/L}`
convolutional          :math:`L\,D^{-(L-1)/L}\,\|\widehat\beta\|_{2/L}^{2/L}`, unitary transform
=====================  ====================================================================

In each case a *balanced* network attains it, in which the layers share the work equally:
:math:`|\widehat w_{l,k}|` is the same for all l, or all layers have the same singular values.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from implicit_bias.arrays import as_real
from implicit_bias.models.linear import LinearNetwork, image_sides

__all__ = ["balanced_parameters", "implied_penalty", "unitary_dft"]

Array = NDArray[np.float64]
_STARTS = 8  # of the search for narrow filters
# Of the largest modulus: a coefficient of 1e-17 has 2/L-th powers like 1e-3.
_NOISE = 64 * float(np.finfo(np.float64).eps)


def unitary_dft(beta: Any, shape: tuple[int, ...] | None = None) -> Tensor:
    r"""Returns the unitary discrete Fourier transform, of the same Euclidean norm as beta.

    .. math:: \widehat\beta_k = D^{-1/2} \sum_j \beta_j e^{-2\pi i jk/D}.

    For a convolutional network of depth L, :math:`\widehat\beta = D^{(L-1)/2}\,\widehat w_1 \odot
    \cdots \odot \widehat w_L`.

    Parameters
    ----------
    beta : array, shape (..., d)
        Signals, along the last axis.
    shape : tuple of two ints, optional
        Take the d entries for the pixels of images of this shape, and transform both axes.

    Returns
    -------
    Tensor, shape (..., d), complex128

    Raises
    ------
    TypeError, ValueError
        If beta is not a real array, or has not as many entries as the shape.

    Notes
    -----
    Source: G18, Lemma 3, where the power of D is missing.

    Examples
    --------
    >>> unitary_dft([1.0, 1.0, 1.0, 1.0]).real
    tensor([2., 0., 0., 0.], dtype=torch.float64)
    """
    signal = as_real(beta, "beta")
    if signal.ndim == 0 or 0 in signal.shape:
        raise ValueError(
            f"beta has shape {tuple(signal.shape)}, which holds no signal to transform. Pass a "
            f"vector."
        )
    if shape is None:
        spectrum: Tensor = torch.fft.fft(signal, norm="ortho")
        return spectrum
    shape = image_sides(shape, signal.shape[-1], axes=(1, 2))
    images = signal.reshape(*signal.shape[:-1], *shape)
    axes = tuple(range(-len(shape), 0))
    transformed: Tensor = torch.fft.fftn(images, dim=axes, norm="ortho")
    return transformed.reshape(signal.shape)


def _predictor(network: LinearNetwork, beta: Any) -> Array:
    if not isinstance(network, LinearNetwork):
        raise TypeError(
            f"network is a {type(network).__name__}; the cheapest parameters are known for a "
            f"LinearNetwork only."
        )
    target = as_real(beta, "beta")
    if tuple(target.shape) != network.output_shape:
        raise ValueError(
            f"beta has shape {tuple(target.shape)}, but the predictors of this network have shape "
            f"{network.output_shape}."
        )
    entries: Array = target.cpu().numpy()
    return entries


def _normalised(network: LinearNetwork, beta: Any) -> tuple[Array, int]:
    """beta / 2^(L k), of size about 1, and k: so 2^k times its parameters are those of beta."""
    target = _predictor(network, beta)
    top = float(np.abs(target).max())
    k = math.frexp(top)[1] // network.depth if top else 0
    scaled: Array = np.ldexp(target, -network.depth * k)
    return scaled, k


def _narrow(network: LinearNetwork) -> bool:
    """Whether filters are narrower than the signal."""
    return network.kind == "convolutional" and network.size < network.depth * network.d


def _without_noise(sizes: Array) -> Array:
    """The moduli without those that are rounding: their roots are not small."""
    cut = _NOISE * float(sizes.max(initial=0.0))
    return np.where(sizes > cut, sizes, 0.0)


def _singular(network: LinearNetwork, values: Array, shape: tuple[int, ...]) -> Array:
    """The singular values that the network can have, where beta has these."""
    rank = int((values > 1e-12 * values.max(initial=0.0)).sum())
    if network.depth > 1 and network.width < rank:
        raise ValueError(
            f"A hidden width of {network.width} makes predictors of at most that rank, and beta "
            f"of shape {shape} has rank {rank}. Take width >= {rank}."
        )
    kept = values if network.depth == 1 else values[: network.width]
    return _without_noise(kept)


def balanced_parameters(network: LinearNetwork, beta: Any) -> Tensor:
    r"""Returns parameters of least norm with P(w) = beta.

    Parameters
    ----------
    network : LinearNetwork
        Full, diagonal, or convolutional; with narrow filters only at depth 2, numerically (see
        ``implied_penalty``).
    beta : array, shape (d,), or (d, k) for k outputs

    Returns
    -------
    Tensor, shape (P,)

    Raises
    ------
    TypeError, ValueError
        If shapes disagree, a full network is narrower than the rank of beta (singular values above
        1e-12 of the largest), or filters are narrow and the depth is not 2.

    Notes
    -----
    Source: the constructions in the proofs of G18, Lemmas 5 to 7. Full: :math:`\beta = U\Sigma
    V^\top` has layers :math:`U\Sigma^{1/L}, \Sigma^{1/L}, \dots, \Sigma^{1/L}V^\top`. Diagonal:
    roots of :math:`|\beta|` with the signs in the last layer. Convolutional: roots of
    :math:`|\widehat\beta|` with the phases in the last layer. Singular values and moduli of
    :math:`\widehat\beta` below 1.4e-14 of the largest are rounding, of the transform or of beta
    itself; their roots would be large, and they count as zero.

    Examples
    --------
    >>> network = LinearNetwork("diagonal", 2, depth=2)
    >>> balanced_parameters(network, [4.0, -9.0])
    tensor([ 2.,  3.,  2., -3.], dtype=torch.float64)
    """
    target, power = _normalised(network, beta)
    L = network.depth
    if network.kind == "full":
        matrix = target.reshape(network.d, -1)
        if L == 1:
            layers = [matrix]
        else:
            U, S, Vh = np.linalg.svd(matrix, full_matrices=False)
            root = _singular(network, S, target.shape) ** (1 / L)
            r, h = root.size, network.width
            first, last = np.zeros((network.d, h)), np.zeros((h, network.outputs))
            first[:, :r], last[:r] = U[:, :r] * root, root[:, None] * Vh[:r]
            middle = np.zeros((h, h))
            middle[:r, :r] = np.diag(root)
            layers = [first, *([middle] * (L - 2)), last]
    elif network.kind == "diagonal":
        root = np.abs(target) ** (1 / L)
        layers = [*([root] * (L - 1)), root * np.sign(target)]
    elif _narrow(network):
        layers = list(_narrow_filters(network, target))
    else:
        axes = tuple(range(len(network.shape)))
        spectrum = np.fft.fftn(target.reshape(network.shape), axes=axes)
        size = _without_noise(np.abs(spectrum))
        root = size ** (1 / L)
        phase = np.where(size > 0, spectrum / np.where(size > 0, size, 1), 1)
        filters = np.fft.ifftn(root, axes=axes).real
        layers = [*([filters] * (L - 1)), np.fft.ifftn(root * phase, axes=axes).real]
    entries = np.concatenate([layer.reshape(-1) for layer in layers])
    w = torch.from_numpy(np.ldexp(entries, power))
    return w.to(beta.device) if isinstance(beta, Tensor) else w


def implied_penalty(network: LinearNetwork, beta: Any) -> float:
    r"""Returns the least :math:`|w|^2` of parameters w with P(w) = beta.

    Parameters
    ----------
    network : LinearNetwork
    beta : array, shape (d,), or (d, k) for k outputs

    Returns
    -------
    float

    Raises
    ------
    TypeError, ValueError
        As for ``balanced_parameters``; or if the penalty leaves the range of floats.

    Notes
    -----
    Source: G18, Lemmas 5 to 7; Lemma 7 with its factor :math:`D^{-(L-1)/L}`, which the paper lost
    with that of Lemma 3. For filters of width K < D at depth 2, which the paper leaves open, the
    penalty is :math:`2\min\,|w_1|\,|w_2|` over :math:`w_1 * w_2 = \beta`: in
    frequency, the least :math:`2\,|\widehat\beta/(\sqrt D\,\widehat w_1)|_2` over filters of norm
    1. It is :math:`2|\beta|_2` at K = 1 and falls with K to that of full width. It may be there
    before K = D: the squared moduli of a filter's transform are the samples of a trigonometric
    polynomial of degree K - 1 that is nowhere negative (Fejer and Riesz), and from K = D/2 + 1 on
    one through the :math:`|\widehat\beta_k|` exists for some :math:`\beta`; a constant
    :math:`\beta` costs :math:`2|\beta|_2/\sqrt K` to the end. In between it is searched for by
    L-BFGS from several starts, and the problem is not convex in the filter: the value is an upper
    bound, exact as far as the search found the least. Rounding in vanishing coefficients counts as
    zero, as in ``balanced_parameters``.

    Examples
    --------
    >>> implied_penalty(LinearNetwork("diagonal", 2, depth=2), [4.0, -9.0])
    26.0
    """
    target, power = _normalised(network, beta)
    L = network.depth
    if network.kind == "full":
        values = np.linalg.svd(target.reshape(network.d, -1), compute_uv=False).astype(np.float64)
        sizes = _singular(network, values, target.shape)
    elif network.kind == "diagonal":
        sizes = np.abs(target)
    elif not _narrow(network):
        spectrum = np.fft.fftn(target.reshape(network.shape), norm="ortho")
        sizes = _without_noise(np.abs(spectrum)) * network.d ** ((1 - L) / 2)
    if _narrow(network):
        penalty = float(balanced_parameters(network, target).square().sum())
    else:
        penalty = float(L * (sizes ** (2 / L)).sum())
    if math.frexp(penalty)[1] + 2 * power > 1023:
        raise ValueError(
            f"The least |w|^2 for a beta with entries like {np.abs(beta).max():.2g} leaves the "
            f"range of floats. Divide beta by c, and the penalty comes out divided by c^(2/{L})."
        )
    return math.ldexp(penalty, 2 * power)


def _narrow_filters(network: LinearNetwork, beta: Array) -> tuple[Array, Array]:
    """The filter and the output layer of least norms, at depth 2."""
    from scipy.optimize import minimize

    if network.depth != 2:
        raise ValueError(
            f"The cheapest parameters are known for filters of full width, and searched for at "
            f"depth 2; this network has depth {network.depth} and narrow filters. Take depth=2 "
            f"or width=None."
        )
    if not beta.any():
        return np.zeros(network.size - network.d), np.zeros(network.d)
    shape = network.shape
    taps = np.unravel_index(network.kernel.taps, shape)  # type: ignore[attr-defined]
    size = float(np.linalg.norm(beta))
    target = np.fft.fftn((beta / size).reshape(shape))

    def spectrum(filters: Array) -> NDArray[np.complex128]:
        padded = np.zeros(shape)
        padded[taps] = filters
        return np.fft.fftn(padded)

    def cost(v: Array) -> tuple[float, Array]:
        """log of |filter| |output layer|, and its gradient."""
        transform = spectrum(v)
        moduli = np.abs(transform) ** 2 + 1e-150
        terms = np.abs(target) ** 2 / moduli
        total = float(terms.sum())
        # d(1/|T|^2) = -2 Re(conj(T) dT) / |T|^4, pulled back through the transform.
        back = np.fft.ifftn(terms / moduli * transform).real * network.d
        gradient = -2 * back[taps]
        return 0.5 * math.log(total) + 0.5 * math.log(float(v @ v)), (
            0.5 * gradient / total + v / float(v @ v)
        )

    rng = np.random.default_rng(0)
    n = taps[0].size
    delta = np.zeros(n)
    delta[0] = 1.0
    starts = [delta, *(delta + 0.5 * rng.standard_normal(n) for _ in range(_STARTS))]
    found = [
        minimize(cost, v, jac=True, method="L-BFGS-B", options={"maxiter": 2000, "ftol": 1e-15})
        for v in starts
    ]
    best = min(found, key=lambda result: float(result.fun)).x
    best = best / float(np.linalg.norm(best))
    transform = spectrum(best)
    seen = target != 0
    quotient = np.where(seen, target / np.where(seen, transform, 1), 0)
    last = np.fft.ifftn(quotient).real.reshape(-1)
    share = math.sqrt(float(np.linalg.norm(last)))
    return best * share * math.sqrt(size), last / share * math.sqrt(size)
