"""Train wide ReLU networks as they are, all layers, and write how far from theory they end.

    python tools/full_training.py        # about thirteen minutes on one core

Chapter 5 reads the file through ``implicit_bias.full_training``, since a page
that is built in a minute cannot wait for it. A test computes one row again.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from implicit_bias import (
    GaussianInit,
    Initialisation,
    ShallowNetwork,
    UniformInit,
    curvature_spline,
    linearised_training,
    train,
)
from implicit_bias.evidence.stamp import versions
from torch import Tensor

FILE = Path(__file__).resolve().parent.parent / "lib/implicit_bias/evidence/full_training.csv"

X = (-1.5, -1.1, -0.6, -0.2, 0.25, 0.65, 1.1, 1.5)
Y = (0.4, -0.5, 0.1, 0.9, -0.3, 0.2, 1.0, 0.3)
STARTS: dict[str, Initialisation] = {
    "gaussian": GaussianInit(1.0, 1.0),
    "uniform": UniformInit(1.0, 1.5),
}
WIDTHS = (1600, 3200, 6400, 12800, 25600, 51200, 102400)
SEEDS = 20
RTOL = 1e-5
POINTS = 301
COLUMNS = ("start", "units", "seed", "error", "deviation", "tangent", "steps", "seconds")


def tangent_training(network: ShallowNetwork, x: Tensor, y: Tensor, points: Tensor) -> Tensor:
    """The end of training of the model that is linear in *all* parameters, the line free."""
    r = y - network(x)
    size = x.numel()
    line = torch.stack([torch.ones_like(x), x], 1)
    saddle = torch.zeros(size + 2, size + 2, dtype=torch.float64)
    saddle[:size, :size] = network.kernel(x, layers="all")
    saddle[:size, size:], saddle[size:, :size] = line, line.T
    found = torch.linalg.solve(saddle, torch.cat([r, r.new_zeros(2)]))
    change = network.kernel(points, x, layers="all") @ found[:size]
    return network(points) + change + found[size] + found[size + 1] * points


def row(start: str, units: int, seed: int) -> dict[str, object]:
    """One training: root mean square distances over the data range, steps, seconds."""
    x, y = (torch.tensor(t, dtype=torch.float64) for t in (X, Y))
    points = torch.linspace(X[0], X[-1], POINTS, dtype=torch.float64)
    init = STARTS[start]
    network = ShallowNetwork(*init.sample(units, seed), seed=seed)
    began = time.perf_counter()
    path = train(network, x, y, layers="all", method="exponential", rtol=RTOL)
    seconds = time.perf_counter() - began
    if path.stopped != "converged":
        raise RuntimeError(f"{start}, {units} units, seed {seed}: {path.stopped}")
    ends = {
        "error": network(points) + curvature_spline(x, y - network(x), init)(points),
        "deviation": linearised_training(network, x, y)(points),
        "tangent": tangent_training(network, x, y, points),
    }
    trained = path.network(points)
    distances = {name: float((trained - end).square().mean().sqrt()) for name, end in ends.items()}
    return {
        "start": start,
        "units": units,
        "seed": seed,
        **distances,
        "steps": path.steps,
        "seconds": seconds,
    }


def header() -> Iterator[str]:
    """Comments: the settings, and what the rows were made with."""
    yield "Made by tools/full_training.py; do not edit."
    yield f"x: {' '.join(map(str, X))}"
    yield f"y: {' '.join(map(str, Y))}"
    yield "starts: " + "; ".join(f"{name} = {init!r}" for name, init in STARTS.items())
    yield (
        f"training: all layers, exponential integrator, free skip connection, rtol = {RTOL:g}, to "
        f"the end"
    )
    yield (
        f"distances of the trained network, root mean square over {POINTS} points of the data "
        f"range: error from the spline, deviation from output-layer training, tangent from the "
        f"model linearised in all parameters"
    )
    yield "versions: " + ", ".join(f"{name} {version}" for name, version in versions().items())


def main() -> None:
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    torch.set_num_threads(1)
    lines = [f"# {line}" for line in header()] + [",".join(COLUMNS)]
    for start in STARTS:
        for units in WIDTHS:
            for seed in range(SEEDS):
                found = row(start, units, seed)
                cells = (
                    f"{value:.6g}" if isinstance(value, float) else str(value)
                    for value in found.values()
                )
                lines.append(",".join(cells))
            print(lines[-1], flush=True)
    FILE.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
