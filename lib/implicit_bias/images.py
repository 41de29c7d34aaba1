"""Labelled images: what the loaders return, checked, cut into parts, labelled at random.

Images are in float32 and in [0, 1]: networks on images are trained in single precision, and a loss
that needs more digits takes ``data.images.double()``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from implicit_bias.arrays import as_array, as_count

__all__ = ["ImageData"]


def _as_images(values: Any) -> Tensor:
    """A float32 copy in [0, 1]; a float64 detour would need gigabytes for CIFAR."""
    try:
        given = as_array(values)
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(
            f"images cannot be read as an array of numbers ({error}). Pass a NumPy array or a "
            f"torch tensor of shape (n, channels, height, width)."
        ) from error
    if given.ndim != 4 or 0 in given.shape:
        raise ValueError(
            f"images need the shape (n, channels, height, width), at least one of each; got "
            f"{tuple(given.shape)}. Grey images of shape (n, height, width) are images[:, None]; "
            f"with channels last, images.transpose(0, 3, 1, 2)."
        )
    if given.dtype == torch.uint8:
        return given.to(torch.float32).div_(255)
    if not given.is_floating_point():
        raise TypeError(
            f"images are of type {given.dtype}, and which number is white is anybody's guess. "
            f"Pass floats in [0, 1], or bytes (uint8), which are divided by 255."
        )
    low, high = (float(v) for v in given.aminmax())
    if not (low >= 0 and high <= 1):  # NaN fails too
        raise ValueError(
            f"images must lie in [0, 1]; they reach from {low:.6g} to {high:.6g}. Divide by the "
            f"value of white; remove or impute NaN; normalise for a network after loading."
        )
    return given.to(torch.float32, copy=True)


def _as_labels(values: Any, n: int, classes: tuple[str, ...], device: torch.device) -> Tensor:
    try:
        given = as_array(values)
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(
            f"labels cannot be read as an array of numbers ({error}). Pass one class number for "
            f"each image."
        ) from error
    if given.is_floating_point() or given.is_complex() or given.dtype == torch.bool:
        raise TypeError(
            f"labels are of type {given.dtype}; a label is the number of a class, an integer. "
            f"Pass labels.astype(int), if they are whole."
        )
    if given.shape != (n,):
        raise ValueError(
            f"labels need the shape ({n},), one for each image; got {tuple(given.shape)}. Of "
            f"one-hot rows take labels.argmax(1)."
        )
    if given.device != device:
        raise ValueError(
            f"images are on {device} and labels on {given.device}; data live on one device. Move "
            f"one of them with .to(...)."
        )
    labels = given.to(torch.int64, copy=True)
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= len(classes):
        raise ValueError(
            f"labels reach from {low} to {high}, but the {len(classes)} classes have the numbers "
            f"0 to {len(classes) - 1}. Number the labels from 0, or name all the classes."
        )
    return labels


@dataclass(frozen=True, eq=False, repr=False)
class ImageData:
    """Labelled images.

    Parameters
    ----------
    images : array, shape (n, channels, height, width)
        Floats in [0, 1], or bytes (uint8), which are divided by 255. Kept as float32, copied, on
        their device.
    labels : array of integers, shape (n,)
        For each image the number of its class, from 0. Kept as int64.
    classes : sequence of str
        The names of the classes, all of them.

    Raises
    ------
    TypeError, ValueError
        If shapes, types, ranges or devices are not as above.

    Examples
    --------
    >>> data = ImageData(np.zeros((4, 1, 2, 2)), [0, 1, 1, 0], ["zero", "one"])
    >>> data
    ImageData(4 images, 1 x 2 x 2, 2 classes)
    >>> [part.n for part in data.split([0.5, 0.25])]
    [2, 1]
    """

    images: Tensor
    labels: Tensor
    classes: tuple[str, ...]

    def __post_init__(self) -> None:
        classes = tuple(self.classes)
        if isinstance(self.classes, str) or not all(isinstance(c, str) for c in classes):
            raise TypeError(
                f"classes = {self.classes!r} is not a sequence of names. Pass one string for each "
                f"class, such as classes=['cat', 'dog']."
            )
        if not classes or len(set(classes)) < len(classes):
            raise ValueError(
                f"classes = {classes!r} must be different names, at least one: two classes of one "
                f"name could not be told apart in a table."
            )
        images = _as_images(self.images)
        labels = _as_labels(self.labels, len(images), classes, images.device)
        object.__setattr__(self, "images", images)
        object.__setattr__(self, "labels", labels)
        object.__setattr__(self, "classes", classes)

    def __repr__(self) -> str:
        size = " x ".join(str(s) for s in self.images.shape[1:])
        return f"ImageData({self.n} images, {size}, {len(self.classes)} classes)"

    @property
    def n(self) -> int:
        """Number of images."""
        return len(self.images)

    def to(self, device: Any) -> ImageData:
        """Returns the same data on another device."""
        return ImageData(self.images.to(device), self.labels.to(device), self.classes)

    def split(self, sizes: Sequence[float], seed: int = 0) -> tuple[ImageData, ...]:
        """Returns disjoint parts of the data in random order, one for each size.

        Parameters
        ----------
        sizes : sequence of int, or of float
            Numbers of images; or shares, between 0 and 1. Shares that sum to 1 use every image.
        seed : int
            Of the order. With the same seed, parts of growing size are nested, if what comes
            before them stays: split([1000, 50]) and split([1000, 100]) share their first part,
            a test set say, and the second of the one holds the second of the other.

        Raises
        ------
        TypeError, ValueError
            If the sizes are neither all whole numbers nor all shares, if a part would be empty,
            or if there are not so many images.
        """
        given = list(sizes)
        # A share of 1 is 1.0; a bool is neither.
        counts = [isinstance(s, (int, np.integer)) and not isinstance(s, bool) for s in given]
        shares = [isinstance(s, (float, np.floating)) for s in given]
        if not given or not (all(counts) or all(shares)):
            raise TypeError(
                f"sizes = {given!r} must be all numbers of images (int), or all shares of them "
                f"(float): 1 is one image and 1.0 is all. Pass [0.8, 0.2] or [1000, 200]."
            )
        ends = np.cumsum(given)
        if all(shares):
            if not (np.isfinite(ends).all() and ends[-1] <= 1 + 1e-9):
                raise ValueError(
                    f"the shares {given!r} sum to {ends[-1]:.6g}; parts are disjoint, so they can "
                    f"sum to 1 at most."
                )
            ends = np.round(self.n * ends)
        stops = [int(e) for e in ends]
        lengths = np.diff([0, *stops])
        if min(lengths) < 1 or stops[-1] > self.n:
            raise ValueError(
                f"sizes = {given!r} make parts of {lengths.tolist()} images, of the {self.n} "
                f"there are: each part needs one image or more, all together at most {self.n}."
            )
        order = np.random.default_rng(as_count(seed, "seed", least=0)).permutation(self.n)
        pieces = (
            torch.from_numpy(piece).to(self.labels.device)
            for piece in np.split(order, stops)[: len(given)]
        )
        return tuple(ImageData(self.images[p], self.labels[p], self.classes) for p in pieces)

    def with_random_labels(self, fraction: float = 1.0, seed: int = 0) -> ImageData:
        """Returns the same images, a share of the labels drawn anew.

        Exactly ``round(fraction * n)`` labels (halves up), of images chosen at random, are drawn
        uniformly from *all* classes: with C classes about one in C of them comes out as it was.
        Were the old class left out, labels would still tell something of the image: what it is
        not. With the same seed, the labels drawn for a smaller fraction are kept for a larger.
        The choice has nothing to do with the order in which ``split`` cuts, whatever the seeds.

        Parameters
        ----------
        fraction : float
            Between 0 and 1.
        seed : int

        Raises
        ------
        ValueError
            If the fraction is not between 0 and 1.

        Notes
        -----
        Source: the random labels of L19 and P18, figures 1; Zhang et al. (2017), where each label
        is drawn anew *with probability* ``fraction``, so that the number varies with the seed.
        """
        if not 0 <= float(fraction) <= 1:
            raise ValueError(
                f"fraction = {fraction!r} is a share of the labels and must lie between 0 and 1."
            )
        # A stream of its own: that of ``split`` with the same seed would put every drawn label into
        # its first part, and none into the test set behind it.
        rng = np.random.default_rng([as_count(seed, "seed", least=0), 5])
        chosen = rng.permutation(self.n)[: int(fraction * self.n + 0.5)]
        drawn = rng.integers(len(self.classes), size=self.n)
        labels = self.labels.cpu().numpy().copy()
        labels[chosen] = drawn[chosen]
        moved = torch.from_numpy(labels).to(self.labels.device)
        return ImageData(self.images, moved, self.classes)
