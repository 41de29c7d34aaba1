"""Measurements on trained networks of chapter 7, stored beside the reader.

Networks divided by their norms (L19, figures 2 to 18), more images (figures 1 and 19), more
parameters (figure 3), and what happens during training (P18, figures 12, 14, 17 and 18).
"""

from __future__ import annotations

import importlib.resources
import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from implicit_bias.evidence.precomputed import stored_rows

__all__ = [
    "NetworkSeries",
    "normalised_series",
    "sample_sweep_series",
    "training_curve_series",
    "width_sweep_series",
]


@dataclass(frozen=True, eq=False, repr=False)
class NetworkSeries:
    """A table with a row for each trained network, or for each stop on its way.

    Attributes
    ----------
    made : str
        What made the file: settings, versions and the meaning of the columns, line by line.
    settings : dict of str
        The lines of ``made`` that are of the form "name: value".
    names : tuple of str
        The columns.

    Examples
    --------
    >>> normalised_series("digits").where(kind="start", stop="0.005")
    NetworkSeries(16 rows)
    """

    made: str
    settings: dict[str, str]
    names: tuple[str, ...]
    _rows: tuple[dict[str, str], ...]

    def __len__(self) -> int:
        return len(self._rows)

    def __repr__(self) -> str:
        return f"NetworkSeries({len(self)} rows)"

    @property
    def classes(self) -> int:
        """Number of classes of the images."""
        return int(self.settings["classes"])

    def where(self, **values: Any) -> NetworkSeries:
        """Returns the rows with these values.

        Parameters
        ----------
        values : str, bool, number, or a list of them
            Of the columns named; for a list one of its values.

        Raises
        ------
        KeyError
            If there is no such column.
        ValueError
            If there is no such row.

        Examples
        --------
        >>> normalised_series("digits").where(kind=["start", "pretrained"], stop="later")
        NetworkSeries(32 rows)
        """
        rows = self._rows
        for name, value in values.items():
            self._check(name)
            wanted = value if isinstance(value, (list, tuple)) else [value]
            rows = tuple(row for row in rows if any(_is(row[name], v) for v in wanted))
            if not rows:
                known = list(dict.fromkeys(row[name] for row in self._rows))
                raise ValueError(
                    f"No row has {name} = {value!r}"
                    f"{' and what else was asked for' if len(values) > 1 else ''}. The column has "
                    f"{', '.join(known[:12])}{', ...' if len(known) > 12 else ''}."
                )
        return NetworkSeries(self.made, self.settings, self.names, rows)

    def fitted(self) -> NetworkSeries:
        """Returns the rows without a training error."""
        return self.where(train_error=0)

    def words(self, name: str) -> tuple[str, ...]:
        """Returns a column as it stands in the file.

        Raises
        ------
        KeyError
            If there is no such column.
        """
        self._check(name)
        return tuple(row[name] for row in self._rows)

    def column(self, name: str) -> Tensor:
        """Returns a column of numbers, shape (rows,), or (rows, k) where each has k of them.

        Parameters
        ----------
        name : str
            One of ``names``; or "ratio", the mean score on test images over that on training
            images; or "train_loss_fro" and the like, log C less "train_deficit_fro".

        Raises
        ------
        KeyError
            If there is no such column.
        TypeError
            If it is not numbers.

        Examples
        --------
        >>> series = normalised_series("digits")
        >>> series.column("fro").shape, bool((series.column("train_loss_fro") < 2.31).all())
        (torch.Size([152, 3]), True)
        """
        if name == "ratio":
            return self.column("test_score") / self.column("train_score")
        part, _, divisor = name.partition("_loss_")
        if f"{part}_deficit_{divisor}" in self.names:
            return math.log(self.classes) - self.column(f"{part}_deficit_{divisor}")
        self._check(name)
        try:
            values = [[float(v) for v in row[name].split()] for row in self._rows]
        except ValueError as error:
            raise TypeError(f"{name} is not a column of numbers. Read it with .words().") from error
        found = torch.tensor(values, dtype=torch.float64)
        return found[:, 0] if found.shape[1] == 1 else found

    def _check(self, name: str) -> None:
        if name not in self.names:
            raise KeyError(f"There is no column {name!r} in this file. It has {list(self.names)}.")


def _is(cell: str, value: Any) -> bool:
    if isinstance(value, (str, bool)):
        return cell == str(value)
    try:
        return float(cell) == float(value)
    except ValueError:
        return False


def _read(kind: str, name: str, script: str) -> NetworkSeries:
    file = f"{kind}_{name.replace('-', '_')}.csv"
    folder = importlib.resources.files("implicit_bias.evidence")
    stored = sorted(
        f.name.removeprefix(f"{kind}_").removesuffix(".csv").replace("_", "-")
        for f in folder.iterdir()
        if f.name.startswith(f"{kind}_") and f.name.endswith(".csv")
    )
    if name not in stored:
        raise ValueError(
            f"There is no stored series of {name!r}; there are {', '.join(stored)}. Others are "
            f"made by tools/{script}.py --data NAME."
        )
    made, rows = stored_rows(file)
    settings = dict(line.split(": ", 1) for line in made if ": " in line)
    return NetworkSeries("\n".join(made), settings, tuple(rows[0]), tuple(rows))


def normalised_series(case: str) -> NetworkSeries:
    """Returns the stored networks of one data set and architecture, divided by their norms.

    ``tools/normalised_loss.py`` makes the file, and a test computes rows again.

    Parameters
    ----------
    case : str
        "digits", "glyphs", "colour", "batch-norm" or "residual".

    Raises
    ------
    ValueError
        If there is no such file.

    Examples
    --------
    >>> series = normalised_series("digits").where(stop="0.005", kind="start")
    >>> float(series.column("train_error").max())
    0.0
    """
    return _read("normalised", case, "normalised_loss")


def sample_sweep_series(data: str) -> NetworkSeries:
    """Returns the stored networks trained on more and more images, for chapter 7.

    ``tools/sample_sweep.py`` makes the file, and a test computes a row again.

    Parameters
    ----------
    data : str
        "digits" or "small-glyphs".

    Raises
    ------
    ValueError
        If there is no such file.

    Examples
    --------
    >>> sorted(set(sample_sweep_series("digits").column("n").tolist()))
    [100.0, 200.0, 400.0, 800.0, 1400.0]
    """
    return _read("sample_sweep", data, "sample_sweep")


def width_sweep_series(data: str) -> NetworkSeries:
    """Returns the stored networks of more and more parameters, for chapter 7.

    ``tools/width_sweep.py`` makes the file, and a test computes a row again.

    Parameters
    ----------
    data : str
        "digits" or "small-glyphs".

    Raises
    ------
    ValueError
        If there is no such file.

    Examples
    --------
    >>> width_sweep_series("digits").column("parameters").min()
    tensor(108., dtype=torch.float64)
    """
    return _read("width_sweep", data, "width_sweep")


def training_curve_series(data: str) -> NetworkSeries:
    """Returns the stored norms, losses and errors during training, for chapter 7.

    ``tools/training_curves.py`` makes the file, and a test computes rows again.

    Parameters
    ----------
    data : str
        "digits" or "small-glyphs".

    Raises
    ------
    ValueError
        If there is no such file.

    Examples
    --------
    >>> curve = training_curve_series("digits").where(loss="square", full=False, seed=0)
    >>> bool((curve.column("epoch").diff() > 0).all())
    True
    """
    return _read("training_curves", data, "training_curves")
