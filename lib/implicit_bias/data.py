"""Images with labels: real ones, and digits drawn from fonts.

All come as :class:`ImageData`. The digits of scikit-learn and the glyphs are there without a
network; MNIST and CIFAR are downloaded once, by checksum.
"""

from __future__ import annotations

from typing import Literal

from implicit_bias import archives, glyphs
from implicit_bias.archives import NotDownloaded
from implicit_bias.arrays import as_count
from implicit_bias.images import ImageData

__all__ = [
    "ImageData",
    "NotDownloaded",
    "load_cifar10",
    "load_cifar100",
    "load_digits",
    "load_mnist",
    "make_glyphs",
]

_DIGITS = tuple("0123456789")


def load_digits() -> ImageData:
    """Returns the 1,797 handwritten digits that come with scikit-learn, 8 x 8, grey.

    Pixels are multiples of 1/16. The set is small and easy: quick checks, not hard questions.

    Examples
    --------
    >>> load_digits()
    ImageData(1797 images, 1 x 8 x 8, 10 classes)
    """
    from sklearn.datasets import load_digits as bunch

    digits = bunch()
    return ImageData(digits.images[:, None] / 16, digits.target, _DIGITS)


def make_glyphs(n: int, seed: int = 0, size: int = 16, colour: bool = False) -> ImageData:
    """Returns n images of digits, drawn from fifteen fonts with warps, clutter and noise.

    Harder than handwritten digits of that size, and without end. The digit in the middle gives
    the label. Image i depends on the seed, the size and ``colour``, not on n: the first hundred of
    a thousand are the hundred. Shapes and labels do not depend on ``colour``.

    Parameters
    ----------
    n : int
        Number of images.
    seed : int
        Test sets have another seed, or are a part of ``.split(...)``.
    size : int
        Height and width in pixels, 8 to 64.
    colour : bool
        Three channels instead of one, ground and digit in different hues.

    Raises
    ------
    TypeError, ValueError
        If n or the seed is not a whole number, or the size is out of range.

    Notes
    -----
    Fonts are read from the files that Matplotlib carries. Another version of Matplotlib may draw
    an edge one grey level lighter.

    Examples
    --------
    >>> make_glyphs(100)
    ImageData(100 images, 1 x 16 x 16, 10 classes)
    """
    n, seed, size = as_count(n, "n"), as_count(seed, "seed", 0), as_count(size, "size", 8)
    if size > 64:
        raise ValueError(
            f"size = {size} is larger than the digits are drawn finely for. Pass 64 or less."
        )
    images, labels = glyphs.draw_glyphs(n, seed, size, bool(colour))
    return ImageData(images, labels, _DIGITS)


def _check_part(part: str) -> None:
    if part not in ("train", "test"):
        raise ValueError(f"part = {part!r} does not exist. Pass part='train' or part='test'.")


def load_mnist(part: Literal["train", "test"] = "train", progress: bool = True) -> ImageData:
    """Returns MNIST: handwritten digits, 28 x 28, grey, 60,000 to train and 10,000 to test.

    Parameters
    ----------
    part : str
        "train" or "test".
    progress : bool
        Whether a download shows a bar.

    Raises
    ------
    NotDownloaded
        If the files (12 MB) are not in the cache and cannot be had, or not as published.

    Notes
    -----
    Files are kept in the folder ``IMPLICIT_BIAS_DATA`` if that environment variable is set, else
    in the user's cache folder.

    Examples
    --------
    >>> load_mnist("test")  # doctest: +SKIP
    ImageData(10000 images, 1 x 28 x 28, 10 classes)
    """
    _check_part(part)
    images, labels = (
        archives.read_idx(archives.fetch(archives.MNIST[f"{part} {what}"], progress))
        for what in ("images", "labels")
    )
    return ImageData(images[:, None], labels, _DIGITS)


def load_cifar10(part: Literal["train", "test"] = "train", progress: bool = True) -> ImageData:
    """Returns CIFAR-10: photographs, 32 x 32, in colour, 50,000 to train and 10,000 to test.

    Parameters
    ----------
    part : str
        "train" or "test".
    progress : bool
        Whether a download shows a bar.

    Raises
    ------
    NotDownloaded
        If the archive (170 MB) is not in the cache and cannot be had, or not as published.

    Notes
    -----
    See :func:`load_mnist` for where the archive is kept. The training images take 614 MB.

    Examples
    --------
    >>> load_cifar10("test")  # doctest: +SKIP
    ImageData(10000 images, 3 x 32 x 32, 10 classes)
    """
    _check_part(part)
    batches = [f"data_batch_{i}" for i in range(1, 6)] if part == "train" else ["test_batch"]
    return ImageData(
        *archives.read_cifar(
            archives.fetch(archives.CIFAR10, progress),
            [f"cifar-10-batches-bin/{batch}.bin" for batch in batches],
            "cifar-10-batches-bin/batches.meta.txt",
            label_bytes=1,
        )
    )


def load_cifar100(part: Literal["train", "test"] = "train", progress: bool = True) -> ImageData:
    """Returns CIFAR-100: as CIFAR-10, with a hundred classes of 500 and 100 photographs.

    Parameters
    ----------
    part : str
        "train" or "test".
    progress : bool
        Whether a download shows a bar.

    Raises
    ------
    NotDownloaded
        If the archive (169 MB) is not in the cache and cannot be had, or not as published.

    Notes
    -----
    The fine labels; see :func:`load_mnist` for where the archive is kept.

    Examples
    --------
    >>> load_cifar100("test")  # doctest: +SKIP
    ImageData(10000 images, 3 x 32 x 32, 100 classes)
    """
    _check_part(part)
    return ImageData(
        *archives.read_cifar(
            archives.fetch(archives.CIFAR100, progress),
            [f"cifar-100-binary/{part}.bin"],
            "cifar-100-binary/fine_label_names.txt",
            label_bytes=2,
        )
    )
