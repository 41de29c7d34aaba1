"""Published data files: fetched once, by checksum, and read as they are laid out.

A file counts only if its SHA-256 is the published one, so a download that was cut short, or a page
of an airport's Wi-Fi in its place, is refused. Nothing here is unpickled, and no archive is
unpacked: the binary editions of the CIFAR archives are bytes at fixed places, read where they are.
Every length is checked against what the file says of itself.
"""

from __future__ import annotations

import contextlib
import gzip
import math
import os
import struct
import tarfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from torch import Tensor

from implicit_bias.arrays import as_array

__all__ = ["CIFAR10", "CIFAR100", "MNIST", "Archive", "NotDownloaded", "fetch"]

_LARGEST = 2**28  # bytes of one array; the largest published one has 1.5e8


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


def fetch(archive: Archive, progress: bool = True) -> Path:
    """Returns where the archive lies on this machine, downloading it if it is not there yet.

    Parameters
    ----------
    archive : Archive
    progress : bool
        Whether a download shows a bar, if ``tqdm`` is there to draw it.

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
    bar = bool(progress) and find_spec("tqdm") is not None
    tried = []
    for url in archive.urls:
        try:
            path = pooch.retrieve(
                url,
                known_hash=f"sha256:{archive.sha256}",
                fname=archive.name,
                path=folder,
                downloader=pooch.HTTPDownloader(progressbar=bar, chunk_size=2**16, timeout=30),
            )
        except (OSError, ValueError) as error:  # no network; a file cut short or not the file
            tried.append(f"  {url}: {error}")
        else:
            return Path(path)
    raise NotDownloaded(
        f"{archive.name} is not in {folder}{found}, and could not be "
        f"downloaded:\n" + "\n".join(tried) + f"\nWith a network, try again: files that came "
        f"whole are kept, this one starts afresh. Without one, bring "
        f"the file from a machine that has it and put it into that folder (or set "
        f"IMPLICIT_BIAS_DATA to the folder where it is); its SHA-256 must be {archive.sha256}. "
        f"load_digits() and make_glyphs(n) need neither network nor files."
    )


def _not_published(path: Path, what: str) -> ValueError:
    return ValueError(
        f"{path.name} {what}. It is not the published file: delete {path}, and the next call "
        f"downloads it again."
    )


@contextlib.contextmanager
def _decompressing(path: Path) -> Iterator[None]:
    try:
        yield
    except (EOFError, zlib.error, gzip.BadGzipFile, tarfile.TarError) as error:
        raise _not_published(path, f"is damaged ({error})") from error


def read_idx(path: Path) -> Tensor:
    """Returns the array in a gzipped IDX file of bytes, MNIST's format.

    Raises
    ------
    ValueError
        If it is not such a file, or holds more or fewer bytes than its header says.
    """
    with _decompressing(path), gzip.open(path) as file:
        magic = file.read(4)
        if len(magic) < 4 or magic[:3] != b"\0\0\x08" or not magic[3]:
            raise _not_published(path, f"is not an IDX file of bytes: it begins with {magic!r}")
        lengths = file.read(4 * magic[3])
        if len(lengths) < 4 * magic[3]:
            raise _not_published(
                path,
                f"ends within its header: {magic[3]} lengths need {4 * magic[3]} bytes, and "
                f"{len(lengths)} are there",
            )
        shape = struct.unpack(f">{magic[3]}I", lengths)
        size = math.prod(shape)
        if size > _LARGEST:
            raise _not_published(path, f"says that it holds {size} bytes, which no such file does")
        raw = file.read(size)
        if len(raw) < size or file.read(1):
            holds = f"{len(raw)}" if len(raw) < size else f"more than {size}"
            raise _not_published(path, f"holds {holds} bytes of an array of shape {shape}")
    return as_array(np.frombuffer(raw, np.uint8).reshape(shape))


def _members(path: Path, names: Sequence[str]) -> dict[str, bytes]:
    """What these files of the archive hold; nothing is unpacked, and no link is followed."""
    found: dict[str, bytes] = {}
    with _decompressing(path), gzip.open(path) as raw, tarfile.open(fileobj=raw, mode="r:") as tar:
        for info in tar:  # in the order of the file: going back would decompress it again
            if info.name not in names:
                continue
            if info.name in found or not info.isreg() or info.issparse():
                kind = "twice" if info.name in found else "as something else than a plain file"
                raise _not_published(path, f"holds {info.name} {kind}")
            if info.size > _LARGEST:
                raise _not_published(path, f"holds {info.name} of {info.size} bytes")
            file = tar.extractfile(info)
            found[info.name] = b"" if file is None else file.read()
        while raw.read(2**16):  # to the end of the file, where gzip compares its own checksum
            pass
    missing = [name for name in names if name not in found]
    if missing:
        raise _not_published(path, f"does not hold {', '.join(missing)}")
    return found


def read_cifar(
    path: Path, parts: Sequence[str], names: str, label_bytes: int
) -> tuple[Tensor, Tensor, tuple[str, ...]]:
    """Returns images (n, 3, 32, 32), labels (n,) and class names from a binary CIFAR archive.

    A record is ``label_bytes`` labels, the finest last, then 3 planes of 32 rows of 32 bytes.

    Raises
    ------
    ValueError
        If it is not such an archive, a part of it is missing or has no whole number of records,
        or a label has no class.
    """
    found = _members(path, [*parts, names])
    record = label_bytes + 3 * 32 * 32
    for name in parts:
        if not found[name] or len(found[name]) % record:
            raise _not_published(
                path,
                f"holds {name} of {len(found[name])} bytes, no whole number of records of {record}",
            )
    try:
        classes = tuple(found[names].decode("ascii").split())
    except UnicodeDecodeError as error:
        raise _not_published(path, f"holds no names in {names} ({error})") from error
    raw = np.frombuffer(b"".join(found[name] for name in parts), np.uint8)
    records = as_array(raw.reshape(-1, record))
    labels = records[:, label_bytes - 1]
    highest = int(labels.max())
    if highest >= len(classes):
        raise _not_published(path, f"holds the label {highest}, and names {len(classes)} classes")
    return records[:, label_bytes:].reshape(-1, 3, 32, 32), labels, classes
