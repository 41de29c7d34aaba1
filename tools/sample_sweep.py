"""Train one network on more and more images, with natural and with random labels, to the end.

    python tools/sample_sweep.py                       # eleven minutes on one core
    python tools/sample_sweep.py --data cifar10        # downloads 170 MB; hours

Chapter 7 reads the files through ``implicit_bias.sample_sweep_series``. A killed run goes on from
its store. A test computes a row again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import series
import torch
from implicit_bias.dynamics.ensemble import train_ensemble
from implicit_bias.evidence.normalised import measure_network
from implicit_bias.images import ImageData
from implicit_bias.models.deep import FilterNetwork
from implicit_bias.models.deep_conv import ConvNetwork
from implicit_bias.sweep import run_sweep

SIZES = {
    "digits": (100, 200, 400, 800, 1400),
    "small-glyphs": (125, 250, 500, 1000, 2000, 4000, 8000),
    "cifar10": (500, 1000, 2000, 5000, 10000, 20000, 50000),
}
TESTED = {"digits": 397, "small-glyphs": 2000, "cifar10": 10000}
BATCH, RATE, MOMENTUM = 32, 0.02, 0.9
TARGET = 0.01
SEEN, LEAST = 200_000, 60  # images shown, and epochs, whichever is more
DRAWS, SEEDS = 2, 2
LABELS = ("natural", "random")

NETWORKS: dict[str, Callable[..., Any]] = {
    "digits": lambda *a, **k: FilterNetwork(*a, (16, 16), size=3, **k),
    "small-glyphs": lambda *a, **k: ConvNetwork(*a, (8, 16), bias="first", **k),
    "cifar10": lambda *a, **k: ConvNetwork(*a, (16, 16, 16, 16), bias="first", **k),
}


def the_data(data: str, n: int, draw: int) -> tuple[ImageData, ImageData]:
    return series.image_data(data, n, TESTED[data], draw)


def train_nets(data: str, n: int, draw: int, seed: int) -> dict[str, Any]:
    """Networks on the same images, half of them with random labels."""
    began = time.perf_counter()
    train, test = the_data(data, n, draw)
    nets = [(labels, s) for labels in LABELS for s in range(SEEDS)]
    shape, classes = train.images.shape[1:], len(train.classes)
    own = [10 * draw + s for _, s in nets]
    sets = [
        [d.with_random_labels(1.0, seed=k) if labels == "random" else d for d in (train, test)]
        for (labels, _), k in zip(nets, own, strict=True)
    ]
    path = train_ensemble(
        [NETWORKS[data](shape, classes, seed=k) for k in own],
        train.images,
        torch.stack([seen.labels for seen, _ in sets]),
        learning_rate=RATE,
        epochs=max(LEAST, SEEN // n),
        batch=BATCH,
        momentum=MOMENTUM,
        target=TARGET,
    )
    seconds = (time.perf_counter() - began) / len(nets)
    found: dict[str, list[Any]] = {}
    for j, ((labels, s), (seen, unseen)) in enumerate(zip(nets, sets, strict=True)):
        m = measure_network(path.models[j], seen, unseen, norms=("fro", "l1"), images=0)
        reached = (path.losses[:, j] <= TARGET).nonzero()
        row: dict[str, Any] = {"labels": labels, "n": n, "draw": draw, "seed": s}
        row |= {"stopped": path.stopped[j], "seconds": seconds}
        row["epochs"] = int(path.epochs[reached[0] if len(reached) else -1])
        for part, scores in (("train", m.train), ("test", m.test)):
            row |= {f"{part}_loss": scores.loss, f"{part}_error": scores.error}
            row |= {f"{part}_score": scores.score}
        row |= {f"rho_{name}": rho for name, rho in m.rho.items()}
        row |= {"path_norm": m.path_norm, "rms": m.rms}
        for name in ("fro", "l1", "rms"):
            row |= {
                f"{part}_deficit_{name}": float(deficit)
                for part, deficit in zip(("train", "test"), m.deficits[name], strict=True)
            }
        for name, value in row.items():
            found.setdefault(name, []).append(value)
    return {
        name: " ".join(values) if isinstance(values[0], str) else values
        for name, values in found.items()
    }


def rows(result: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The rows of one point of the sweep."""
    columns = [v.split() if isinstance(v, str) else v.tolist() for v in result.values()]
    for values in zip(*columns, strict=True):
        yield dict(zip(result, values, strict=True))


def header(data: str) -> Iterator[str]:
    """Comments: the settings, and what the columns are."""
    train, test = the_data(data, SIZES[data][0], 0)
    example = NETWORKS[data](train.images.shape[1:], len(train.classes))
    shapes = " ".join(str(tuple(layer.linear.weight.shape)) for layer in example.layers)
    yield "Made by tools/sample_sweep.py; do not edit."
    yield f"data: {data}, n images to train, {test.n} to test; another draw, other images"
    yield f"classes: {len(train.classes)}"
    yield f"network: weights of shapes {shapes}"
    yield f"parameters: {example.size}"
    yield (
        f"training: mean cross-entropy, batches of {BATCH}, step {RATE:g}, momentum "
        f"{MOMENTUM:g}, float32, to loss {TARGET:g}, or until {SEEN} images have been shown and "
        f"{LEAST} epochs are over"
    )
    yield (
        "columns: as in normalised_digits.csv; random labels are those of the test images too; "
        "seconds of a point of the sweep over its networks"
    )


def main() -> None:
    given = series.options(__doc__.splitlines()[0], list(SIZES))
    for data in given.data:
        sizes = SIZES[data][:3] if given.quick else SIZES[data]
        grid = {"data": [data], "n": sizes, "draw": range(1 if given.quick else DRAWS)}
        store = given.store / f"sample_sweep-{data}"
        found = run_sweep(train_nets, grid, store=store, jobs=1, progress=True)
        table = [row for result in found.results for row in rows(result)]
        seconds = sum(row["seconds"] for row in table)
        file = given.out / f"sample_sweep_{data.replace('-', '_')}.csv"
        series.write(file, [*header(data), series.made_with(seconds)], table)
        print(f"{data}: {len(table)} rows, {seconds:.0f} s, {file}", flush=True)


if __name__ == "__main__":
    main()
