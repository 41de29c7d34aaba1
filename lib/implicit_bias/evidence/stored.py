"""Measurements on convolutional networks that take too long for a page, stored beside the reader.

Kicks and retraining (P18, Figure 3), and polynomials in place of the ReLU (Figure 9).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from implicit_bias.evidence.precomputed import stored_rows

__all__ = ["PerturbationSeries", "PolynomialSeries", "perturbation_series", "polynomial_series"]


@dataclass(frozen=True, eq=False)
class PerturbationSeries:
    """Trained networks that were kicked and trained again, many times.

    Attributes
    ----------
    noises : tuple of str
        "fixed", "relative", and "none", the control.
    seeds : Tensor, shape (s,)
        Seeds of network, split of the images and noise.
    kicks : Tensor, shape (k + 1,)
        0, 1, ..., k.
    size : float
        Standard deviation of the noise over the root mean square of a layer's weights.
    made : str
        What made the file: settings and versions, line by line.

    Examples
    --------
    >>> perturbation_series().noises
    ('fixed', 'relative', 'none')
    """

    noises: tuple[str, ...]
    seeds: Tensor
    kicks: Tensor
    size: float
    made: str
    _columns: dict[tuple[str, str], Tensor]

    def column(self, name: str, noise: str) -> Tensor:
        """Returns one measurement for one noise, shape (s, k + 1).

        Parameters
        ----------
        name : str
            After k kicks and retrainings: "train_loss", "train_error", "test_loss", "test_error"
            (losses: mean cross-entropy), "squared_norm", "temperature" (the best),
            "tempered_loss" (test loss there), "law" and "law_deviation" (the squared norm and its
            scatter, had retraining done nothing to it). Of the k-th kick, NaN before the first:
            "kicked_loss", "kicked_error" (of the training images) and "kicked_norm" just after
            it, "expected_gain" of the squared norm, "needed" steps to zero training error.
            Of the whole run: "seconds".
        noise : str
            One of ``noises``.

        Raises
        ------
        KeyError
            If there is no such column or noise.

        Examples
        --------
        >>> perturbation_series().column("squared_norm", "relative").shape
        torch.Size([5, 21])
        """
        if (name, noise) not in self._columns:
            names = sorted({known for known, _ in self._columns})
            raise KeyError(
                f"There is no column {name!r} of {noise!r} in this file. Columns are {names}, "
                f"noises {list(self.noises)}."
            )
        return self._columns[name, noise]


@dataclass(frozen=True, eq=False)
class PolynomialSeries:
    """Networks with polynomials in place of the ReLU.

    Attributes
    ----------
    seeds : Tensor, shape (s,)
        Seeds of the network and of the split of the images.
    cases : tuple of tuples
        What was trained: (data, batch_norm, clip, degree, radius), with degree and radius 0 for
        the ReLU, and clip 0 for gradients that are not clipped.
    made : str
        What made the file: settings and versions, line by line.

    Examples
    --------
    >>> polynomial_series().cases[0]
    ('digits', True, 1.0, 0, 0.0)
    """

    seeds: Tensor
    cases: tuple[tuple[str, bool, float, int, float], ...]
    made: str
    _rows: dict[tuple[Any, ...], list[dict[str, str]]]

    def column(
        self,
        name: str,
        degree: int,
        radius: float = 10.0,
        data: str = "digits",
        batch_norm: bool = True,
        clip: bool = True,
    ) -> Tensor:
        """Returns one measurement for each seed, shape (s,).

        Parameters
        ----------
        name : str
            "train_loss", "train_error", "test_loss", "test_error" (at the end, or just before a
            run diverged), "diverged" (1 if it did), "steps", "seconds"; and of what enters the
            activations, on training images before the first step: "start_reach" (its largest size
            over the radius, or over 10 for the ReLU) and "start_beyond" (the share beyond the
            radius); "reach" and "beyond" at the end; "test_reach", "test_beyond" on test images.
        degree : int
            0 for the ReLU, of which the radius does not matter.
        radius : float
        data : str
            "digits" or "glyphs".
        batch_norm, clip : bool

        Raises
        ------
        KeyError
            If there is no such measurement or case.

        Examples
        --------
        >>> polynomial_series().column("diverged", 10, radius=1.0)
        tensor([1., 1., 1.], dtype=torch.float64)
        """
        case = (data, bool(batch_norm), bool(clip), degree, float(radius) if degree else 0.0)
        if case not in self._rows:
            raise KeyError(
                f"There is no case {case} (data, batch_norm, clip, degree, radius) in this file. "
                f"Cases are in .cases."
            )
        rows = self._rows[case]
        if name == "diverged":
            values = [float(row["stopped"] == "diverged") for row in rows]
        elif name in rows[0] and name not in _WORDS:
            values = [float(row[name]) for row in rows]
        else:
            names = [known for known in rows[0] if known not in _WORDS]
            raise KeyError(f"There is no column {name!r}. Columns are {['diverged', *names]}.")
        return torch.tensor(values, dtype=torch.float64)


_WORDS = ("data", "batch_norm", "clip", "degree", "radius", "seed", "stopped")


def perturbation_series() -> PerturbationSeries:
    """Returns the stored measurements of kicks and retraining, for chapter 6.

    ``tools/perturbation.py`` makes the file, and a test computes some of its rows again.

    Examples
    --------
    >>> series = perturbation_series()
    >>> float(series.column("train_error", "relative").max())
    0.0
    """
    made, rows = stored_rows("perturbation.csv")
    settings = dict(line.split(": ", 1) for line in made if ": " in line)
    noises = tuple(dict.fromkeys(row["noise"] for row in rows))
    seeds = sorted({int(row["seed"]) for row in rows})
    kicks = sorted({int(row["kick"]) for row in rows})
    place = {(r["noise"], int(r["seed"]), int(r["kick"])): r for r in rows}
    names = [name for name in rows[0] if name not in ("noise", "seed", "kick")]
    columns = {
        (name, noise): torch.tensor(
            [[float(place[noise, seed, k][name]) for k in kicks] for seed in seeds],
            dtype=torch.float64,
        )
        for name in names
        for noise in noises
    }
    return PerturbationSeries(
        noises,
        torch.tensor(seeds),
        torch.tensor(kicks),
        float(settings["size"]),
        "\n".join(made),
        columns,
    )


def polynomial_series() -> PolynomialSeries:
    """Returns the stored measurements of polynomial networks, for chapter 6.

    ``tools/polynomial_networks.py`` makes the file, and a test computes some of its rows again.

    Examples
    --------
    >>> series = polynomial_series()
    >>> bool((series.column("train_error", 10) == 0).all())
    True
    """
    made, rows = stored_rows("polynomial_networks.csv")
    grouped: dict[tuple[Any, ...], list[dict[str, str]]] = {}
    cases: dict[tuple[str, bool, float, int, float], None] = {}
    for row in sorted(rows, key=lambda r: int(r["seed"])):
        norm, clip = row["batch_norm"] == "True", float(row["clip"])
        degree, radius = int(row["degree"]), float(row["radius"])
        cases[row["data"], norm, clip, degree, radius] = None
        grouped.setdefault((row["data"], norm, clip > 0, degree, radius), []).append(row)
    seeds = sorted({int(row["seed"]) for row in rows})
    return PolynomialSeries(torch.tensor(seeds), tuple(cases), "\n".join(made), grouped)
