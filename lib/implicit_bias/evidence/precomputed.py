"""Measurements that take too long for a page, stored beside the code that reads them."""

from __future__ import annotations

import csv
import importlib.resources
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["FullTraining", "full_training", "stored_rows"]


def stored_rows(name: str) -> tuple[list[str], list[dict[str, str]]]:
    """Returns the comments of a stored file, line by line, and its rows by their columns.

    Parameters
    ----------
    name : str
        Of a CSV file in this folder.

    Examples
    --------
    >>> stored_rows("full_training.csv")[1][0]["start"]
    'gaussian'
    """
    file = importlib.resources.files("implicit_bias.evidence").joinpath(name)
    lines = file.read_text(encoding="utf-8").splitlines()
    made = [line.removeprefix("# ") for line in lines if line.startswith("#")]
    return made, list(csv.DictReader(line for line in lines if not line.startswith("#")))


@dataclass(frozen=True, eq=False)
class FullTraining:
    """Wide ReLU networks on the line, trained in all layers to the end.

    Attributes
    ----------
    x, y : Tensor, shape (M,)
        The data.
    starts : tuple of str
        Names of the initialisations.
    widths : Tensor, shape (k,)
        Numbers of hidden units.
    seeds : Tensor, shape (s,)
        Seed of the hidden weights and of the output weights.
    made : str
        What made the file: settings and versions, line by line.

    Examples
    --------
    >>> full_training().starts
    ('gaussian', 'uniform')
    """

    x: Tensor
    y: Tensor
    starts: tuple[str, ...]
    widths: Tensor
    seeds: Tensor
    made: str
    _columns: dict[tuple[str, str], Tensor]

    def column(self, name: str, start: str) -> Tensor:
        """Returns one measurement for one initialisation, shape (k, s).

        Parameters
        ----------
        name : str
            Root mean square distances over the data range: "error" (from the spline),
            "deviation" (from training of the output layer alone), "tangent" (from the model that
            is linear in all parameters); or "steps", "seconds".
        start : str
            One of ``starts``.

        Raises
        ------
        KeyError
            If there is no such column or start.

        Examples
        --------
        >>> full_training().column("error", "gaussian").shape
        torch.Size([7, 20])
        """
        if (name, start) not in self._columns:
            names = sorted({known for known, _ in self._columns})
            raise KeyError(
                f"There is no column {name!r} of {start!r} in this file. Columns are {names}, "
                f"starts {list(self.starts)}."
            )
        return self._columns[name, start]


def full_training() -> FullTraining:
    """Returns the stored measurements of full training, for chapter 5.

    ``tools/full_training.py`` makes the file, and a test computes one of its rows again.

    Examples
    --------
    >>> full_training().widths
    tensor([  1600,   3200,   6400,  12800,  25600,  51200, 102400])
    """
    made, rows = stored_rows("full_training.csv")
    settings = dict(line.split(": ", 1) for line in made if ": " in line)
    starts = tuple(dict.fromkeys(row["start"] for row in rows))
    widths = sorted({int(row["units"]) for row in rows})
    seeds = sorted({int(row["seed"]) for row in rows})
    place = {(r["start"], int(r["units"]), int(r["seed"])): r for r in rows}
    names = [name for name in rows[0] if name not in ("start", "units", "seed")]
    columns = {
        (name, start): torch.tensor(
            [[float(place[start, m, seed][name]) for seed in seeds] for m in widths],
            dtype=torch.float64,
        )
        for name in names
        for start in starts
    }
    x, y = (
        torch.tensor([float(t) for t in settings[k].split()], dtype=torch.float64) for k in "xy"
    )
    return FullTraining(
        x, y, starts, torch.tensor(widths), torch.tensor(seeds), "\n".join(made), columns
    )
