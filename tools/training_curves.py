"""Train networks far beyond zero training error, and write norms, losses and errors on the way.

    python tools/training_curves.py                    # about ten minutes on one core
    python tools/training_curves.py --data cifar10     # downloads 170 MB; hours

Cross-entropy beside the square loss, and descent on all images at once. Chapter 7 reads the files
through ``implicit_bias.training_curve_series``. A killed run goes on from its store. A test
computes rows again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import series
from implicit_bias.dynamics.ensemble import ensemble_outputs, train_ensemble
from implicit_bias.evidence.normalised import scores
from implicit_bias.images import ImageData
from implicit_bias.models.deep import FilterNetwork
from implicit_bias.models.deep_conv import ConvNetwork
from implicit_bias.models.homogeneity import normalise
from implicit_bias.models.weights import layer_norms
from implicit_bias.sweep import run_sweep
from torch import Tensor, nn

IMAGES = {"digits": (1000, 797), "small-glyphs": (2000, 2000), "cifar10": (2000, 10000)}
EPOCHS = (0, 1, 2, 3, 4, 6, 8, 11, 16, 23, 32, 45, 64, 91, 128, 181, 256)
FULL = (0, 1, 2, 4, 8, 16, 23, 32, 45, 64, 91, 128, 181, 256, 362, 512, 724, 1024)
BATCH = 32
SCALE = 0.5
RATES = {False: 0.02, True: 0.2}  # full batch
MOMENTUM = 0.9
SEEDS = 2

NETWORKS: dict[str, Callable[..., Any]] = {
    "digits": lambda *a, **k: FilterNetwork(*a, (16, 16), size=3, **k),
    "small-glyphs": lambda *a, **k: ConvNetwork(*a, (8, 16), bias="first", **k),
    "cifar10": lambda *a, **k: FilterNetwork(*a, **k),
}


def square(outputs: Tensor, labels: Tensor) -> Tensor:
    """Half the squared distance from the unit vector of the label, on average."""
    sought = nn.functional.one_hot(labels, outputs.shape[1]).to(outputs)
    return (outputs - sought).square().sum(1).mean() / 2


LOSSES: dict[str, Any] = {"cross-entropy": None, "square": square}


def the_data(data: str) -> tuple[ImageData, ImageData]:
    return series.image_data(data, *IMAGES[data])


def train_nets(data: str, loss: str, full: bool, seed: int, last: int = 10**9) -> dict[str, Any]:
    """Networks trained with one loss, measured at the epochs of the list, up to the last."""
    train, test = the_data(data)
    shape, classes = train.images.shape[1:], len(train.classes)
    models: Any = [NETWORKS[data](shape, classes, scale=SCALE, seed=s) for s in range(SEEDS)]
    found: dict[str, list[Any]] = {}
    began, before = time.perf_counter(), 0
    for epoch in (e for e in (FULL if full else EPOCHS) if e <= last):
        if epoch:
            path = train_ensemble(
                models,
                train.images,
                train.labels,
                learning_rate=RATES[full],
                epochs=epoch - before,
                batch=None if full else BATCH,
                momentum=MOMENTUM,
                seed=epoch,  # of the order of the images
                loss=LOSSES[loss],
                every=epoch - before,
            )
            if "diverged" in path.stopped:
                raise RuntimeError(f"{data}, {loss}, full batch {full}: diverged by {epoch}")
            models, before = path.models, epoch
        outputs = [ensemble_outputs(models, d.images).double() for d in (train, test)]
        for s, model in enumerate(models):
            row: dict[str, Any] = {"seed": s, "epoch": epoch}
            for part, d, z in zip(("train", "test"), (train, test), outputs, strict=True):
                m = scores(z[s], d.labels)
                row |= {
                    f"{part}_loss": m.loss if loss != "square" else float(square(z[s], d.labels))
                }
                row |= {f"{part}_cross_entropy": m.loss, f"{part}_error": m.error}
                row |= {f"{part}_score": m.score}
            row |= {"fro": layer_norms(model).tolist()}
            row |= {"spectral": layer_norms(model, "spectral").tolist()}
            row |= {"rho_fro": normalise(model).rho}
            row |= {"seconds": (time.perf_counter() - began) / SEEDS}
            for name, value in row.items():
                found.setdefault(name, []).append(value)
    return found


def rows(loss: str, full: bool, result: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The rows of one point of the sweep."""
    for values in zip(*(v.tolist() for v in result.values()), strict=True):
        yield {"loss": loss, "full": full} | dict(zip(result, values, strict=True))


def header(data: str) -> Iterator[str]:
    """Comments: the settings, and what the columns are."""
    train, test = the_data(data)
    example = NETWORKS[data](train.images.shape[1:], len(train.classes))
    shapes = " ".join(str(tuple(layer.linear.weight.shape)) for layer in example.layers)
    yield "Made by tools/training_curves.py; do not edit."
    yield f"data: {data}, {train.n} images to train, {test.n} to test, always the same"
    yield f"classes: {len(train.classes)}"
    yield f"network: weights of shapes {shapes}, a bias in the first layer alone, scale {SCALE:g}"
    yield f"parameters: {example.size}"
    yield (
        f"training: step {RATES[False]:g} with batches of {BATCH}, {RATES[True]:g} with all images "
        f"(full), momentum {MOMENTUM:g} from zero at each record, float32"
    )
    yield (
        "columns: loss the mean that is descended, for the square loss half the squared distance "
        "from the unit vector of the label; score the mean centred output of the label; fro, "
        "spectral the norms of the layers; rho_fro the factor of normalise; seconds up to there, "
        "over the networks of an ensemble"
    )


def main() -> None:
    given = series.options(__doc__.splitlines()[0], list(IMAGES))
    for data in given.data:
        grid = [
            {"data": data, "loss": loss, "full": full}
            for full in ((False, True) if data != "digits" and not given.quick else (False,))
            for loss in LOSSES
        ]
        if given.quick:
            grid = [point | {"last": 16} for point in grid]
        store = given.store / f"training_curves-{data}"
        found = run_sweep(train_nets, grid, store=store, jobs=1, progress=True)
        table = [
            row
            for point, result in zip(found.points, found.results, strict=True)
            for row in rows(point["loss"], point["full"], result)
        ]
        seconds = sum(SEEDS * float(result["seconds"].max()) for result in found.results)
        file = given.out / f"training_curves_{data.replace('-', '_')}.csv"
        series.write(file, [*header(data), series.made_with(seconds)], table)
        print(f"{data}: {len(table)} rows, {seconds:.0f} s, {file}", flush=True)


if __name__ == "__main__":
    main()
