r"""A linear network of two layers, :math:`f(x) = W_2 W_1 x`: loss, gradient and Hessian.

With examples as rows of X (n, d) and Y (n, d'), :math:`W_1` (h, d), :math:`W_2` (d', h), residuals
:math:`E = X W_1^\top W_2^\top - Y` and decay :math:`\gamma`,

.. math:: L = \tfrac12\|E\|_F^2 + \tfrac\gamma2\big(\|W_1\|_F^2 + \|W_2\|_F^2\big), \quad
          \nabla_{W_1} L = W_2^\top E^\top X + \gamma W_1, \quad
          \nabla_{W_2} L = E^\top X W_1^\top + \gamma W_2 .

Without decay every step adds to the rows of :math:`W_1` combinations of the rows of X only.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from implicit_bias.arrays import as_real

__all__ = ["two_layer_gradient", "two_layer_hessian", "two_layer_loss"]


def read_layers(
    X: Any, Y: Any, W1: Any, W2: Any, name: str = "W2 W1 x"
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Returns X, Y and both layers as float64 matrices that fit one another.

    Parameters
    ----------
    X, Y, W1, W2 : array
        Shapes (n, d), (n, d') or (n,), (h, d) and (d', h).
    name : str
        What the network is called in a message.

    Raises
    ------
    TypeError, ValueError
        If shapes or devices disagree, or a number is not finite.

    Examples
    --------
    >>> [tuple(t.shape) for t in read_layers([[1.0, 2.0]], [3.0], [[1.0, 0.0]], [[1.0]])]
    [(1, 2), (1, 1), (1, 2), (1, 1)]
    """
    a, b = as_real(X, "X"), as_real(Y, "Y")
    b = b[:, None] if b.ndim == 1 else b
    u, v = as_real(W1, "W1"), as_real(W2, "W2")
    if (
        any(t.ndim != 2 or 0 in t.shape for t in (a, b, u, v))
        or a.shape[0] != b.shape[0]
        or u.shape[1] != a.shape[1]
        or v.shape != (b.shape[1], u.shape[0])
    ):
        raise ValueError(
            f"{name} needs X (n, d), Y (n, d'), W1 (h, d) and W2 (d', h); got "
            f"{tuple(a.shape)}, {tuple(b.shape)}, {tuple(u.shape)} and {tuple(v.shape)}. Examples "
            f"are rows."
        )
    if len({t.device for t in (a, b, u, v)}) > 1:
        raise ValueError("X, Y, W1 and W2 are on different devices. Move them with .to(...).")
    return a, b, u, v


def read_decay(decay: Any) -> float:
    """Returns the weight decay as a float.

    Raises
    ------
    TypeError, ValueError
        If it is not one number, or negative.

    Examples
    --------
    >>> read_decay(1)
    1.0
    """
    gamma = as_real(decay, "decay")
    if gamma.numel() != 1 or not float(gamma) >= 0:
        raise ValueError(
            f"decay = {decay} is not one number >= 0; with a negative one weights would explode."
        )
    return float(gamma)


def two_layer_loss(X: Any, Y: Any, W1: Any, W2: Any, decay: float = 0.0) -> float:
    """Returns half the sum of squares, plus the decay times half the squared weights.

    Parameters
    ----------
    X : array, shape (n, d)
    Y : array, shape (n, d'), or (n,) for d' = 1
    W1 : array, shape (h, d)
    W2 : array, shape (d', h)
    decay : float

    Raises
    ------
    TypeError, ValueError
        If shapes disagree, a number is not finite, or the decay is negative.

    Examples
    --------
    >>> two_layer_loss([[1.0]], [3.0], [[1.0]], [[1.0]], decay=1.0)
    3.0
    """
    (a, b, u, v), decay = read_layers(X, Y, W1, W2), read_decay(decay)
    return layers_loss(a, b, u, v, decay)


def layers_loss(X: Tensor, Y: Tensor, W1: Tensor, W2: Tensor, decay: float) -> float:
    weights = W1.square().sum() + W2.square().sum()
    return 0.5 * float((X @ W1.T @ W2.T - Y).square().sum() + decay * weights)


def layers_gradient(
    X: Tensor, Y: Tensor, W1: Tensor, W2: Tensor, decay: float
) -> tuple[Tensor, Tensor]:
    hidden = X @ W1.T
    E = hidden @ W2.T - Y
    return (E @ W2).T @ X + decay * W1, E.T @ hidden + decay * W2


def two_layer_gradient(
    X: Any, Y: Any, W1: Any, W2: Any, decay: float = 0.0
) -> tuple[Tensor, Tensor]:
    """Returns the gradients in W1 (h, d) and W2 (d', h), by the formulas.

    Parameters
    ----------
    X : array, shape (n, d)
    Y : array, shape (n, d'), or (n,) for d' = 1
    W1 : array, shape (h, d)
    W2 : array, shape (d', h)
    decay : float

    Raises
    ------
    TypeError, ValueError
        If shapes disagree, a number is not finite, or the decay is negative.

    Notes
    -----
    Source: P18 (13), with examples as rows.

    Examples
    --------
    >>> two_layer_gradient([[1.0]], [3.0], [[1.0]], [[2.0]])
    (tensor([[-2.]], dtype=torch.float64), tensor([[-1.]], dtype=torch.float64))
    """
    (a, b, u, v), decay = read_layers(X, Y, W1, W2), read_decay(decay)
    return layers_gradient(a, b, u, v, decay)


def two_layer_hessian(X: Any, Y: Any, W1: Any, W2: Any, decay: float = 0.0) -> Tensor:
    r"""Returns the Hessian (p, p) by its formula, in W1 row by row and then W2 row by row.

    Its blocks are :math:`W_2^\top W_2 \otimes X^\top X` in W1, :math:`I \otimes W_1 X^\top X
    W_1^\top` in W2, and :math:`(W_2^\top \otimes X^\top X W_1^\top)` plus the term of the
    residuals between them; :math:`\gamma I` is added.

    Parameters
    ----------
    X : array, shape (n, d)
    Y : array, shape (n, d'), or (n,) for d' = 1
    W1 : array, shape (h, d)
    W2 : array, shape (d', h)
    decay : float

    Raises
    ------
    TypeError, ValueError
        If shapes disagree, a number is not finite, or the decay is negative.

    Notes
    -----
    Source: P18 (14). The block of W2 is I tensor W1 X^T X W1^T here, which (14) lacks.

    Examples
    --------
    >>> two_layer_hessian([[1.0]], [3.0], [[1.0]], [[2.0]])
    tensor([[4., 1.],
            [1., 1.]], dtype=torch.float64)
    """
    (a, b, u, v), decay = read_layers(X, Y, W1, W2), read_decay(decay)
    h, d = u.shape
    k = v.shape[0]
    S, hidden = a.T @ a, a @ u.T
    G = (hidden @ v.T - b).T @ a  # (k, d): E^T X
    first = torch.kron(v.T @ v, S)
    second = torch.kron(torch.eye(k).to(S), hidden.T @ hidden)
    # d2 L / dW1[i, j] dW2[o, l] = W2[o, i] (X^T X W1^T)[j, l] + [i = l] (E^T X)[o, j]
    cross = torch.einsum("oi,jl->ijol", v, a.T @ hidden)
    cross = cross + torch.einsum("il,oj->ijol", torch.eye(h).to(S), G)
    cross = cross.reshape(h * d, k * h)
    H = torch.cat([torch.cat([first, cross], 1), torch.cat([cross.T, second], 1)])
    return H + decay * torch.eye(H.shape[0]).to(H)
