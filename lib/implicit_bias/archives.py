"""Published data files: fetched once, by checksum, and read as they are laid out.

A file counts only if its SHA-256 is the published one, so a download that was cut short, or a page
of an airport's Wi-Fi in its place, is refused. Nothing here is unpickled: the binary editions of
the CIFAR archives are bytes at fixed places.
"""

from __future__ import annotations

import gzip
import os
import struct
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import Tensor

from implicit_bias.arrays import as_array

__all__ = ["CIFAR10", "CIFAR100", "MNIST", "Archive", "NotDownloaded", "fetch"]


class NotDownloaded(OSError):
    """A data file is neither in the cache nor to be had; the message says what to do.

    Examples
    --------
    >>> issubclass(NotDownloaded, OSError)
    True
    """


@dataclass(frozen=True)
class Archive:
    """A published file.

    Attributes
    ----------
    name : str
        What it is called in the cache.
    urls : tuple of str
        Where it is, best first.
    sha256 : str
        Its checksum, in hexadecimal.

    Examples
    --------
    >>> MNIST["test labels"].name
    't10k-labels-idx1-ubyte.gz'
    """

    name: str
    urls: tuple[str, ...]
    sha256: str


def _mnist(name: str, sha256: str) -> Archive:
    hosts = (
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
    )
    return Archive(name, tuple(host + name for host in hosts), sha256)


MNIST = {
    "train images": _mnist(
        "train-images-idx3-ubyte.gz",
        "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
    ),
    "train labels": _mnist(
        "train-labels-idx1-ubyte.gz",
        "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
    ),
    "test images": _mnist(
        "t10k-images-idx3-ubyte.gz",
        "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
    ),
    "test labels": _mnist(
        "t10k-labels-idx1-ubyte.gz",
        "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
    ),
}
CIFAR10 = Archive(
    "cifar-10-binary.tar.gz",
    ("https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",),
    "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
)
CIFAR100 = Archive(
    "cifar-100-binary.tar.gz",
    ("https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz",),
    "58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec",
)


def _folder() -> Path:
    """Where files are kept: ``IMPLICIT_BIAS_DATA``, or else the user's cache folder."""
    import pooch

    named = os.environ.get("IMPLICIT_BIAS_DATA")
    return Path(named).expanduser() if named else Path(pooch.os_cache("implicit-bias"))


def fetch(archive: Archive) -> Path:
    """Returns where the archive lies on this machine, downloading it if it is not there yet.

    Parameters
    ----------
    archive : Archive

    Raises
    ------
    NotDownloaded
        If no address gave a file with the published checksum.

    Examples
    --------
    >>> nowhere = Archive("empty.gz", (), "0" * 64)
    >>> fetch(nowhere)
    Traceback (most recent call last):
    ...
    implicit_bias.archives.NotDownloaded: empty.gz is not in ...
    """
    import pooch

    folder = _folder()
    there = folder / archive.name
    wrong = ", which holds another file of that name (its checksum is wrong)"
    found = wrong if there.exists() else ""
    tried = []
    for url in archive.urls:
        try:
            path = pooch.retrieve(
                url,
                known_hash=f"sha256:{archive.sha256}",
                fname=archive.name,
                path=folder,
                downloader=pooch.HTTPDownloader(chunk_size=2**16, timeout=30),
            )
        except (OSError, ValueError) as error:  # no network; a file cut short or not the file
            tried.append(f"  {url}: {error}")
        else:
            return Path(path)
    raise NotDownloaded(
        f"{archive.name} is not in {folder}{found}, and could not be "
        f"downloaded:\n" + "\n".join(tried) + f"\nWith a network, try again. Without one, bring "
        f"the file from a machine that has it and put it into that folder (or set "
        f"IMPLICIT_BIAS_DATA to the folder where it is); its SHA-256 must be {archive.sha256}. "
        f"load_digits() and make_glyphs(n) need neither network nor files."
    )


def read_idx(path: Path) -> Tensor:
    """Returns the array in a gzipped IDX file of bytes, MNIST's format.

    Raises
    ------
    ValueError
        If it is not such a file, or holds more or fewer bytes than its header says.
    """
    with gzip.open(path) as file:
        raw = file.read()
    if raw[:3] != b"\0\0\x08":
        raise ValueError(f"{path.name} is not an IDX file of bytes: it begins with {raw[:3]!r}.")
    shape = struct.unpack_from(f">{raw[3]}I", raw, 4)
    return as_array(np.frombuffer(raw, np.uint8, offset=4 + 4 * raw[3]).reshape(shape))


def read_cifar(
    path: Path, parts: Sequence[str], names: str, label_bytes: int
) -> tuple[Tensor, Tensor, tuple[str, ...]]:
    """Returns images (n, 3, 32, 32), labels (n,) and class names from a binary CIFAR archive.

    A record is ``label_bytes`` labels, the finest last, then 3 planes of 32 rows of 32 bytes.
    """
    with tarfile.open(path) as tar:

        def member(name: str) -> bytes:
            file = tar.extractfile(name)
            assert file is not None, name
            return file.read()

        raw = b"".join(member(name) for name in parts)
        classes = tuple(member(names).decode().split())
    records = as_array(np.frombuffer(raw, np.uint8).reshape(-1, label_bytes + 3 * 32 * 32))
    return records[:, label_bytes:].reshape(-1, 3, 32, 32), records[:, label_bytes - 1], classes
