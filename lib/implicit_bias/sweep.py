"""A function at every point of a grid, each result kept as soon as it is there.

A sweep of hours that is killed at any moment goes on from where it was. A result is written
to a file of another name first, which is then renamed: a file of its own name is whole. What a
result is made of does not depend on when, in which process or after what it was computed: the
point has a seed of its own, drawn from the sweep's seed and the point's values alone, and one
thread.
"""

from __future__ import annotations

import contextlib
import hashlib
import inspect
import itertools
import os
import random
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from implicit_bias.arrays import as_count, as_real
from implicit_bias.stores import Point, canonical, file_of, open_store, pack, read, tidy, write
from implicit_bias.threads import single_threaded

__all__ = ["Sweep", "run_sweep"]

_TURN = threading.RLock()  # the generators and the number of threads belong to the process


@dataclass(frozen=True, eq=False, repr=False)
class Sweep:
    """The results of a function at the points of a grid.

    Attributes
    ----------
    points : tuple of dict
        The arguments of the function, the last name of the grid varying fastest.
    results : tuple of dict
        What it returned for each. Arrays are tensors on the CPU, of their own type.
    shape : tuple of int
        How many values each name of the grid has; (n,) for a list of points.
    computed : int
        How many of the results were computed now; the others were in the store.
    others : int
        How many results the store holds beside these: of points that are not in this grid.

    Examples
    --------
    >>> import tempfile
    >>> def power(x, k, seed):
    ...     return {"y": x**k}
    >>> with tempfile.TemporaryDirectory() as store:
    ...     sweep = run_sweep(power, {"x": [2, 3, 4], "k": [1, 2]}, store=store)
    >>> sweep
    Sweep(6 points, 6 of them computed now)
    >>> sweep.column("y")
    tensor([[ 2.,  4.],
            [ 3.,  9.],
            [ 4., 16.]], dtype=torch.float64)
    """

    points: tuple[Point, ...]
    results: tuple[dict[str, Any], ...]
    shape: tuple[int, ...]
    computed: int
    others: int

    def __repr__(self) -> str:
        return f"Sweep({len(self.points)} points, {self.computed} of them computed now)"

    def column(self, name: str) -> Tensor:
        """Returns one of the numbers or arrays of the results, in the shape of the grid.

        Parameters
        ----------
        name : str
            A key of the results, or else a name of the grid.

        Returns
        -------
        Tensor
            float64, of shape ``shape``, followed by the array's own shape.

        Raises
        ------
        KeyError
            If a result has nothing of that name.
        TypeError, ValueError
            If it is not numbers, or arrays of different shapes.
        """
        rows = [point | result for point, result in zip(self.points, self.results, strict=True)]
        if not all(name in row for row in rows):
            known = sorted(set[str]().union(*rows))
            raise KeyError(f"There is no {name!r} in every result. They have {known}.")
        values = [as_real(row[name], name, finite=False) for row in rows]
        if len({v.shape for v in values}) > 1:
            raise ValueError(
                f"{name} has different shapes, {tuple(values[0].shape)} and others: no one array "
                f"holds them. Take them one by one from sweep.results."
            )
        return torch.stack(values).reshape(*self.shape, *values[0].shape)


def run_sweep(
    function: Callable[..., Any],
    grid: Mapping[str, Sequence[Any]] | Sequence[Mapping[str, Any]],
    *,
    store: str | os.PathLike[str],
    seed: int = 0,
    jobs: int | None = None,
    progress: bool = False,
) -> Sweep:
    """Returns what the function gives at every point of the grid; what is stored is not redone.

    The function is called as ``function(**point, seed=s)``. Each result is stored when it comes,
    so a sweep that was killed, at any moment, goes on when the same call is made again, and ends
    with the same results.

    Parameters
    ----------
    function : callable
        Written with ``def`` in a file or a notebook. It returns a dict of numbers, strings, None
        and arrays, or one of these, kept as ``{"value": ...}``.
    grid : dict of sequences, or sequence of dicts
        The values of each argument, of which all combinations are taken; or the points. Values
        are numbers, strings, booleans, None, or tuples of them.
    store : path
        A folder, made if it is not there. One for each function and seed. The grid may change:
        what is there of it is used, and what is not is computed.
    seed : int
        With the values of a point it determines the seed that the function is called with, and
        with which torch, NumPy and ``random`` begin there. Points have different seeds,
        but for chance (of a thousand points two share one in one sweep of ten thousand); for equal
        draws at several points, put a number for the start into the grid and draw from that.
    jobs : int, optional
        Processes; -1 for as many as there are cores. The default is one, or what a surrounding
        ``joblib.parallel_config`` says.
    progress : bool
        Whether to show a progress bar (needs tqdm).

    Raises
    ------
    TypeError
        If the function cannot be called like that, or a value cannot be stored.
    PermissionError
        If points are missing and the store cannot be written to.
    ValueError
        If the grid is empty or holds a point twice; if the store holds results of a function that
        has been changed since, or of another seed; or if one of its files is damaged.

    Notes
    -----
    A change in the function is noticed, and in what it uses of its own module or notebook; not in
    what it imports. A process that begins during the sweep reads the function's file anew: leave
    the file alone until the end. An error in the function ends the sweep and names the point;
    results that were there by then are stored. A point computes on one thread.

    On a Dask cluster (``pip install distributed``), workers with one thread each::

        client = distributed.Client(cluster)
        with joblib.parallel_config(backend="dask"):
            run_sweep(function, grid, store="results")

    Only the process that calls writes to the store. A point whose worker dies is given to another.

    Examples
    --------
    >>> import tempfile
    >>> def square(x, seed):
    ...     return x * x
    >>> with tempfile.TemporaryDirectory() as store:
    ...     first = run_sweep(square, {"x": [1, 2]}, store=store)
    ...     again = run_sweep(square, {"x": [1, 2, 3]}, store=store)
    >>> again.computed, again.column("value")
    (1, tensor([1., 4., 9.], dtype=torch.float64))
    """
    seed = as_count(seed, "seed", least=0)
    points, shape = _points(grid)
    for point in points:
        _check_call(function, point)
    folder = Path(store)
    files = {file_of(folder, point): point for point in points}
    if len(files) < len(points):
        names = [canonical(point) for point in points]
        twice = next(p for i, p in enumerate(points) if names[i] in names[:i])
        raise ValueError(
            f"The grid holds the point {twice} twice; its result would be the same. Take it out, "
            f"or number the repetitions with an argument of their own."
        )
    open_store(folder, function, seed)
    missing = {file: point for file, point in files.items() if not file.exists()}
    if missing and not os.access(folder, os.W_OK):
        raise PermissionError(
            f"{folder} lacks {len(missing)} of the points and cannot be written to, so what is "
            f"computed would be lost. Copy the folder to where you may write, and pass the copy."
        )
    with _progress(progress, len(files), len(files) - len(missing)) as tick:
        for file, content in _compute_all(function, missing, seed, jobs):
            write(file, content)
            tick()
    results = tuple(read(file, point) for file, point in files.items())
    others = tidy(folder, files)
    return Sweep(tuple(points), results, shape, len(missing), others)


def _plain(value: Any, name: str) -> Any:
    """A value of the grid, as one that is written and read without loss."""
    if isinstance(value, np.generic) or (
        isinstance(value, (np.ndarray, Tensor)) and not value.ndim
    ):
        value = value.item()
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (tuple, list)):
        return tuple(_plain(v, name) for v in value)
    raise TypeError(
        f"{name} takes the value {value!r}, of type {type(value).__name__}, by which a stored "
        f"result could not be found again. Pass numbers, strings, booleans, None or tuples of "
        f"them, such as the name of a thing, and make the thing in the function."
    )


def _points(grid: Any) -> tuple[list[Point], tuple[int, ...]]:
    if isinstance(grid, Mapping):
        for name, values in grid.items():
            # A set has another order in the next process, and sweep.column with it.
            unordered = isinstance(values, (str, bytes, Mapping, Set))
            single = not hasattr(values, "__len__") or getattr(values, "ndim", 1) == 0
            if unordered or single:
                raise TypeError(
                    f"The grid has {name} = {values!r}, which is not a sequence of values. Pass a "
                    f"list; one value is a list of one."
                )
        shape = tuple(len(values) for values in grid.values())
        given = [dict(zip(grid, v, strict=True)) for v in itertools.product(*grid.values())]
    elif isinstance(grid, Sequence) and all(isinstance(point, Mapping) for point in grid):
        given, shape = [dict(point) for point in grid], (len(grid),)
    else:
        raise TypeError(
            f"The grid is a {type(grid).__name__}. Pass a dict with a list of values for each "
            f"argument, or a list of dicts, one for each point."
        )
    if not given or not shape:
        raise ValueError(
            "The grid has no points, so nothing would be computed. Give each argument at least "
            "one value."
        )
    return [{str(k): _plain(v, str(k)) for k, v in point.items()} for point in given], shape


def _check_call(function: Any, point: Point) -> None:
    if "seed" in point:
        raise ValueError(
            "The grid has a seed, but the function is given one already, of its own for each "
            "point. Call the grid's another name, such as start."
        )
    if not callable(function):
        raise TypeError(f"function is a {type(function).__name__}, which cannot be called.")
    try:
        inspect.signature(function).bind(**point, seed=0)
    except TypeError as error:
        raise TypeError(
            f"The function cannot be called with {', '.join(point)} and seed ({error}). It takes "
            f"the names of the grid, and seed, as arguments."
        ) from error


def _compute_all(
    function: Any, missing: Mapping[Path, Point], seed: int, jobs: int | None
) -> Iterator[tuple[Path, bytes]]:
    """Files and their contents, in the order in which they are done."""
    if not missing:
        return
    import joblib  # type: ignore[import-untyped]

    # One by one, as they come: a batch of points would come, and be lost, together.
    parallel = joblib.Parallel(n_jobs=jobs, batch_size=1, return_as="generator_unordered")
    tasks = (
        joblib.delayed(_compute)(function, point, seed, str(file))
        for file, point in missing.items()
    )
    with contextlib.closing(parallel(tasks)) as done:
        for name, content in done:
            yield Path(name), content


def _compute(function: Any, point: Point, seed: int, name: str) -> tuple[str, bytes]:
    digest = hashlib.sha256(f"{seed} {canonical(point)}".encode()).digest()
    own = int.from_bytes(digest[:4], "little")
    with _TURN, _alone(own):
        try:
            value = single_threaded(function)(**point, seed=own)
        except Exception as error:
            error.add_note(f"This was at the point {point} of the sweep, with seed={own}.")
            raise
    return name, pack(point, value)


@contextlib.contextmanager
def _alone(seed: int) -> Iterator[None]:
    """Generators that begin with the seed, and one thread; afterwards all is as it was."""
    threads, state = torch.get_num_threads(), random.getstate()
    old = np.random.get_state()  # noqa: NPY002
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        np.random.seed(seed)  # noqa: NPY002 - for functions that draw from it
        random.seed(seed)
        torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.set_num_threads(threads)
            random.setstate(state)
            np.random.set_state(old)  # noqa: NPY002


@contextlib.contextmanager
def _progress(wanted: bool, total: int, done: int) -> Iterator[Callable[[], Any]]:
    if not wanted:
        yield lambda: None
        return
    try:
        from tqdm.auto import tqdm  # type: ignore[import-untyped]
    except ImportError as error:
        raise ImportError(
            "progress=True shows its bar with tqdm, which is not installed. Run pip install tqdm, "
            "or leave progress out."
        ) from error
    with tqdm(total=total, initial=done, unit="point") as bar:
        yield bar.update
