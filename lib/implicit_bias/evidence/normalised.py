r"""What is measured of one trained classifier: its loss after division by a size of its layers.

For outputs z, labels y and C classes let :math:`u_c = z_c - \bar z`. Divided by :math:`\rho`, the
mean cross-entropy is :math:`\log C` less the *deficit*

.. math:: d(\rho) = \frac m\rho - \frac1n\sum_i\log\Big(1 + \frac1C\sum_c
   \big(e^{u_{ic}/\rho} - 1\big)\Big), \qquad m = \frac1n\sum_i u_{iy_i} ,

whose second part is of second order in :math:`1/\rho`, since the :math:`u_c` add up to zero. It is
the deficit that is computed here, with ``expm1`` and ``log1p``: with :math:`\rho` near 1e15 the
loss itself would keep one digit of it. To first order :math:`d = m/\rho`, so that the deficits on
test and training images have the ratio :math:`r = m_{\text{test}}/m_{\text{train}}` whatever
:math:`\rho` is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from implicit_bias.arrays import as_array, as_real
from implicit_bias.images import ImageData
from implicit_bias.models.homogeneity import normalise
from implicit_bias.models.weights import Order, layer_norms, path_norm

__all__ = ["Measurement", "Scores", "class_margins", "loss_deficit", "measure_network", "scores"]


def _checked(outputs: Any, labels: Any) -> tuple[Tensor, Tensor]:
    z = as_real(outputs, "outputs").detach()
    if z.ndim != 2 or z.shape[0] < 1 or z.shape[1] < 2:
        raise ValueError(
            f"outputs have shape {tuple(z.shape)}; they need a row for each example and a column "
            f"for each of two classes or more."
        )
    y = as_array(labels)
    if y.is_floating_point() or y.is_complex() or y.dtype == torch.bool:
        raise TypeError(f"labels are of type {y.dtype}; a label is the number of a class.")
    y = y.to(z.device, torch.int64)
    if y.shape != (len(z),) or int(y.min()) < 0 or int(y.max()) >= z.shape[1]:
        raise ValueError(
            f"labels must be {len(z)} numbers from 0 to {z.shape[1] - 1}, one for each row of the "
            f"outputs; got shape {tuple(y.shape)}"
            + (f", from {int(y.min())} to {int(y.max())}." if y.numel() else ".")
        )
    return z, y


def loss_deficit(outputs: Any, labels: Any, divisor: Any = 1.0) -> Tensor:
    r"""Returns how far the cross-entropy of divided outputs lies below that of no answer.

    Parameters
    ----------
    outputs : array, shape (n, C)
    labels : array of integers, shape (n,)
    divisor : float, or array of any shape
        Positive, possibly infinite in effect: 1e300 is no trouble.

    Returns
    -------
    Tensor, shape of ``divisor``
        :math:`\log C - L(z/\rho)`, accurate to rounding relative to its first-order part.

    Raises
    ------
    TypeError, ValueError
        If shapes or labels do not fit, a number is not finite, or a divisor is not positive.

    Examples
    --------
    >>> float(loss_deficit([[2.0, 0.0]], [0], 1e20)), math.log(2) - math.log1p(math.exp(-2e-20))
    (1e-20, 0.0)
    """
    z, y = _checked(outputs, labels)
    rho = as_real(divisor, "divisor").to(z.device)
    if not bool((rho > 0).all()):
        raise ValueError(f"divisor = {rho.tolist()} must be positive: it is a size of layers.")
    u = z - z.mean(1, keepdim=True)
    m = u.gather(1, y[:, None]).mean()
    found = torch.zeros_like(rho).flatten()
    for k, r in enumerate(rho.flatten().tolist()):
        found[k] = _deficit(u, m, r)
    return found.reshape(rho.shape)


def _deficit(u: Tensor, m: Tensor, rho: float) -> Tensor:
    v = u / rho
    if float(v.abs().max()) > 1:  # no cancellation to fear, but overflow
        return math.log(u.shape[1]) - (torch.logsumexp(v, 1).mean() - m / rho)
    # The v of an image add up to zero but for rounding, which is left out here.
    return m / rho - torch.log1p((torch.expm1(v) - v).mean(1)).mean()


def class_margins(outputs: Any, labels: Any) -> Tensor:
    """Returns the output of the label less the largest other one, for each example, shape (n,).

    Parameters
    ----------
    outputs : array, shape (n, C)
    labels : array of integers, shape (n,)

    Raises
    ------
    TypeError, ValueError
        If shapes or labels do not fit, or an output is not finite.

    Examples
    --------
    >>> class_margins([[3.0, 1.0, 0.0], [0.0, 1.0, 5.0]], [0, 1])
    tensor([ 2., -4.], dtype=torch.float64)
    """
    z, y = _checked(outputs, labels)
    own = z.gather(1, y[:, None])[:, 0]
    return own - z.scatter(1, y[:, None], -math.inf).amax(1)


@dataclass(frozen=True)
class Scores:
    """What outputs say of labels.

    Attributes
    ----------
    loss : float
        Mean cross-entropy.
    error : float
        Share of the examples whose margin is not positive.
    score : float
        Mean centred output of the label, m.
    margin, low_margin : float
        The smallest class margin, and its 5 per cent quantile.

    Examples
    --------
    >>> found = scores([[3.0, 1.0], [0.0, 1.0]], [0, 1])
    >>> found.error, found.score, found.margin
    (0.0, 0.75, 1.0)
    """

    loss: float
    error: float
    score: float
    margin: float
    low_margin: float


def scores(outputs: Any, labels: Any) -> Scores:
    """Returns loss, error, mean centred score and margins of outputs.

    Parameters
    ----------
    outputs : array, shape (n, C)
    labels : array of integers, shape (n,)

    Raises
    ------
    TypeError, ValueError
        If shapes or labels do not fit, or an output is not finite.

    Examples
    --------
    >>> round(scores([[0.0, 0.0]], [1]).loss, 6)
    0.693147
    """
    z, y = _checked(outputs, labels)
    own = z.gather(1, y[:, None])
    # Relative to the label's output, whose loss may be far below its own rounding.
    others = (z - own).scatter(1, y[:, None], -math.inf)
    rest = torch.logsumexp(others, 1)
    margin = class_margins(z, y)
    return Scores(
        loss=float(torch.logaddexp(rest, torch.zeros_like(rest)).mean()),
        error=float((margin <= 0).double().mean()),
        score=float((own[:, 0] - z.mean(1)).mean()),
        margin=float(margin.min()),
        low_margin=float(torch.quantile(margin, 0.05)),
    )


@dataclass(frozen=True, eq=False)
class Measurement:
    r"""One trained network, its sizes, and its losses after division by them.

    Attributes
    ----------
    train, test : Scores
    train_outputs, test_outputs : Tensor, shape (n, C)
        float64.
    norms : dict of Tensor
        For each norm the norms of the layers.
    rho : dict of float
        For each norm the factor of ``normalise``.
    path_norm : float
        With exponent 2.
    rms : float
        Root mean square, over the training images, of the norm of the centred outputs.
    image_norms : Tensor
        Norms of the outputs on single images: the first of the test images.
    deficits : dict of pairs of Tensor
        :math:`\log C` less the normalised loss, on training and test images: for each norm, for
        "rms" and "images" (one for each image), and for "naive", where each layer's weights and
        biases are divided by its Frobenius norm alone. NaN for a divisor that is zero, as on an
        image at which no unit is switched on.
    naive_changed : float
        Share of the test images that naive scaling puts into another class.

    Examples
    --------
    >>> sorted(f for f in Measurement.__dataclass_fields__ if f.startswith("t"))
    ['test', 'test_outputs', 'train', 'train_outputs']
    """

    train: Scores
    test: Scores
    train_outputs: Tensor
    test_outputs: Tensor
    norms: dict[str, Tensor]
    rho: dict[str, float]
    path_norm: float
    rms: float
    image_norms: Tensor
    deficits: dict[str, tuple[Tensor, Tensor]]
    naive_changed: float

    @property
    def ratio(self) -> float:
        """Returns r, the mean centred score on test images over that on training images; NaN if
        the latter is zero.
        """
        return self.test.score / self.train.score if self.train.score else math.nan


def _outputs(model: Any, images: Tensor) -> Tensor:
    with torch.no_grad():
        return torch.cat([model(part) for part in images.split(500)])


def _where_defined(z: Tensor, y: Tensor, divisor: Any) -> Tensor:
    """The deficits, NaN where the divisor is zero."""
    by = torch.as_tensor(divisor, dtype=torch.float64)
    found = torch.full_like(by, math.nan)
    found[by > 0] = loss_deficit(z, y, by[by > 0])
    return found


def measure_network(
    model: Any,
    train: ImageData,
    test: ImageData,
    *,
    norms: Sequence[Order] = ("fro", "l1", "spectral"),
    images: int = 8,
) -> Measurement:
    """Returns the losses of a network before and after division by its sizes, in float64.

    Parameters
    ----------
    model : ConvNetwork, FilterNetwork or ResidualNetwork
        With positively homogeneous activations. It is left as it is.
    train, test : ImageData
        With the labels that the network was trained on, and those that it is tested on.
    norms : sequence of str, float or pair
        As for ``layer_norms``.
    images : int
        How many single images to divide by, the first of the test images; 0 for none.

    Raises
    ------
    TypeError, ValueError
        If the network cannot be normalised.

    Notes
    -----
    Source: L19, figures 2, 9, 11, 15 and 17.

    Examples
    --------
    >>> from implicit_bias.models.deep_conv import ConvNetwork
    >>> pictures = torch.rand(9, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    >>> data = ImageData(pictures, [0, 1, 2] * 3, ["a", "b", "c"])
    >>> found = measure_network(ConvNetwork((1, 4, 4), 3, (4,)), data, data, images=2)
    >>> found.ratio, sorted(found.deficits)
    (1.0, ['fro', 'images', 'l1', 'naive', 'rms', 'spectral'])
    """
    whole = normalise(model, "fro")
    seen, unseen = train.images.double(), test.images.double()
    z = tuple(whole.rho * _outputs(whole.model, x) for x in (seen, unseen))
    y = (train.labels, test.labels)
    rho = {str(order): normalise(model, order).rho for order in norms}
    centred = z[0] - z[0].mean(1, keepdim=True)
    rms = float(centred.square().sum(1).mean().sqrt())
    single = torch.linalg.vector_norm(z[1][:images], dim=1)
    divisors: dict[str, Any] = {**rho, "rms": rms, "images": single}
    deficits = {
        name: (_where_defined(z[0], y[0], by), _where_defined(z[1], y[1], by))
        for name, by in divisors.items()
    }
    naive = normalise(model, "fro", scaling="naive").model
    other = tuple(_outputs(naive, x) for x in (seen, unseen))
    deficits["naive"] = (loss_deficit(other[0], y[0]), loss_deficit(other[1], y[1]))
    return Measurement(
        train=scores(z[0], y[0]),
        test=scores(z[1], y[1]),
        train_outputs=z[0],
        test_outputs=z[1],
        norms={str(order): layer_norms(model, order) for order in norms},
        rho=rho,
        path_norm=path_norm(model),
        rms=rms,
        image_norms=single,
        deficits=deficits,
        naive_changed=float((other[1].argmax(1) != z[1].argmax(1)).double().mean()),
    )
