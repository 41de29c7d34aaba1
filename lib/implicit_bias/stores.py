"""A folder of results, each of which is there with all its content, or not at all.

A file is written under another name and then renamed, which no kill can cut in two. It holds
NumPy's arrays in a zip, the first of which says, as JSON, of which point they are the result;
nothing is pickled.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import uuid
import zipfile
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from implicit_bias.arrays import as_array
from implicit_bias.fingerprints import fingerprint

__all__ = ["Point", "canonical", "file_of", "open_store", "pack", "read", "tidy", "write"]

Point = dict[str, Any]


def canonical(point: Point) -> str:
    """Returns a point as a text that no other point has.

    Examples
    --------
    >>> canonical({"b": 1.0, "a": 1})
    '{"a": 1, "b": 1.0}'
    """
    return json.dumps(point, sort_keys=True)


def file_of(folder: Path, point: Point) -> Path:
    """Returns where the result of a point is kept.

    Examples
    --------
    >>> file_of(Path("results"), {"a": 1}).name
    'point-f9d86028c6e0d64e225186f96acb6933.npz'
    """
    return folder / f"point-{hashlib.sha256(canonical(point).encode()).hexdigest()[:32]}.npz"


def open_store(folder: Path, function: Any, seed: int) -> None:
    """Makes the store, or sees that it is one of the same function and seed.

    Raises
    ------
    ValueError
        If it is one of another function or seed, or damaged.
    """
    parts = fingerprint(function)
    folder.mkdir(parents=True, exist_ok=True)
    book = folder / "sweep.json"
    if not book.exists():
        # Another sweep may begin here now: its results come after its book.
        if any(folder.glob("point-*.npz")) and not book.exists():
            raise ValueError(
                f"{folder} holds results, but sweep.json, which says of what function, is gone. "
                f"Pass another folder, or delete this one to compute them anew."
            )
        write(book, json.dumps({"seed": seed, "function": parts}, indent=1).encode(), anew=True)
    try:
        then = json.loads(book.read_text(encoding="utf-8"))
        old = then["function"]
        changed = sorted(k for k in {*old, *parts} if old.get(k) != parts.get(k))
        old_seed = then["seed"]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{book} is damaged ({error!r}). Pass another folder.") from error
    if changed or old_seed != seed:
        what = f"changed since: {', '.join(changed)}" if changed else f"of seed {old_seed}"
        raise ValueError(
            f"{folder} holds results of another function or seed ({what}); beside new ones they "
            f"would be taken for the same. Pass another folder, or delete this one to compute all "
            f"points anew."
        )


def pack(point: Point, value: Any) -> bytes:
    """Returns the content of the file for what a function returned at the point.

    Raises
    ------
    TypeError
        If it is not made of what can be stored.

    Examples
    --------
    >>> pack({"a": 1}, 2.5)[:2]
    b'PK'
    """
    result = dict(value) if isinstance(value, Mapping) else {"value": value}
    arrays: list[Any] = []
    plain: dict[str, Any] = {}
    for key, entry in result.items():
        if isinstance(entry, np.generic) and not isinstance(entry, (np.datetime64, np.timedelta64)):
            entry = entry.item()  # of times an integer, without the unit
        if isinstance(key, str) and (entry is None or isinstance(entry, (bool, int, float, str))):
            plain[key] = entry
            continue
        try:
            if not isinstance(key, str):
                raise TypeError("its name is not a string")
            if not isinstance(entry, (Tensor, np.ndarray, list, tuple)):
                raise TypeError("it is not a real number, a string or an array")
            if isinstance(entry, np.ma.MaskedArray):
                raise TypeError("what is masked would come back as if it were not")
            arrays.append(as_array(entry).cpu().resolve_conj().resolve_neg().numpy())
        except (TypeError, ValueError, RuntimeError) as error:
            raise TypeError(
                f"At the point {point} the function returned {key!r}, a {type(entry).__name__}, "
                f"which cannot be stored ({error}). Return a dict, from strings to numbers, "
                f"strings, None and arrays."
            ) from error
        plain[key] = [len(arrays)]
    head = json.dumps({"point": point, "result": plain}).encode()
    buffer = io.BytesIO()
    np.savez(buffer, np.frombuffer(head, np.uint8), *arrays)
    return buffer.getvalue()


def read(file: Path, point: Point) -> dict[str, Any]:
    """Returns the result in the file, arrays as tensors.

    Raises
    ------
    ValueError
        If it is not the file that was written for this point.
    """
    try:
        with np.load(io.BytesIO(file.read_bytes()), allow_pickle=False) as held:
            head = json.loads(held["arr_0"].tobytes())
            if canonical(head["point"]) != canonical(point):
                raise ValueError(f"it holds the point {head['point']}")
            return {
                key: as_array(held[f"arr_{entry[0]}"]) if isinstance(entry, list) else entry
                for key, entry in head["result"].items()
            }
    except (
        *(ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile),
        RuntimeError,  # a zip file of another kind, or encrypted, by a bit that was turned over
    ) as error:
        raise ValueError(
            f"{file} is not what was written there for {point} ({error}). Delete it, and the "
            f"point is computed anew."
        ) from error


def write(file: Path, content: bytes, anew: bool = False) -> None:
    """Either the file is there with all its content, or it is not there.

    With ``anew`` a file that is there stays as it is.
    """
    half = file.with_name(f"{file.stem}.{uuid.uuid4().hex}.tmp")
    try:
        with half.open("xb") as out:
            out.write(content)
            out.flush()
            os.fsync(out.fileno())
        if anew:
            try:
                os.link(half, file)  # which no two processes can both do
            except FileExistsError:
                pass
            except OSError:  # a file system without links
                half.replace(file)
            half.unlink(missing_ok=True)
            return
        try:
            half.replace(file)
        except FileNotFoundError:  # another sweep over this store was first, and has tidied up
            if not file.exists():
                raise
    except BaseException:
        with contextlib.suppress(OSError):
            half.unlink()
        raise


def tidy(folder: Path, files: Collection[Path]) -> int:
    """Deletes what was half written for these files, which are whole, by processes that are gone.

    Returns the number of results of other points.
    """
    whole = {file.stem for file in files}
    for half in folder.glob("point-*.*.tmp"):  # once: a folder of thousands is slow to list
        if half.name.split(".")[0] in whole:
            with contextlib.suppress(OSError):  # gone by now, or not ours to delete
                half.unlink()
    return len(set(folder.glob("point-*.npz")) - set(files))
