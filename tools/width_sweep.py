"""Train networks with more and more parameters on the same images, natural and random labels.

    python tools/width_sweep.py                        # thirteen minutes on one core
    python tools/width_sweep.py --data cifar10         # downloads 170 MB; hours

Chapter 7 reads the files through ``implicit_bias.width_sweep_series``. A killed run goes on from
its store. A test computes a row again.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import series
import torch
from implicit_bias.dynamics.ensemble import train_ensemble
from implicit_bias.evidence.normalised import measure_network
from implicit_bias.images import ImageData
from implicit_bias.models.deep_conv import ConvNetwork
from implicit_bias.sweep import run_sweep
from sample_sweep import rows

WIDTHS = {
    "digits": (1, 2, 3, 5, 8, 12, 20, 35, 73),
    "small-glyphs": (1, 2, 3, 4, 6, 9, 14, 22, 35, 60),
    "cifar10": (2, 4, 8, 16, 32, 64, 128, 256),
}
SHAPES = {"digits": (1, 2), "small-glyphs": (1, 1, 2), "cifar10": (1, 1, 2, 2)}
IMAGES = {"digits": (1000, 797), "small-glyphs": (1000, 2000), "cifar10": (10000, 10000)}
BATCH, RATE, MOMENTUM = 50, 0.02, 0.9
TARGET, EPOCHS = 0.002, 200
SEEDS = 3
LABELS = ("natural", "random")


def the_data(data: str) -> tuple[ImageData, ImageData]:
    return series.image_data(data, *IMAGES[data])


def network(data: str, train: ImageData, width: int, seed: int) -> ConvNetwork:
    channels = [factor * width for factor in SHAPES[data]]
    shape, classes = train.images.shape[1:], len(train.classes)
    return ConvNetwork(shape, classes, channels, bias="first", seed=seed)


def train_nets(data: str, width: int, seed: int) -> dict[str, Any]:
    """Networks of one width on the same images, half of them with random labels."""
    began = time.perf_counter()
    train, test = the_data(data)
    nets = [(labels, s) for labels in LABELS for s in range(SEEDS)]
    sets = [
        [d.with_random_labels(1.0, seed=s) if labels == "random" else d for d in (train, test)]
        for labels, s in nets
    ]
    path = train_ensemble(
        [network(data, train, width, s) for _, s in nets],
        train.images,
        torch.stack([seen.labels for seen, _ in sets]),
        learning_rate=RATE,
        epochs=EPOCHS,
        batch=BATCH,
        momentum=MOMENTUM,
        target=TARGET,
    )
    seconds = (time.perf_counter() - began) / len(nets)
    found: dict[str, list[Any]] = {}
    for j, ((labels, s), (seen, unseen)) in enumerate(zip(nets, sets, strict=True)):
        model: Any = path.models[j]
        m = measure_network(model, seen, unseen, norms=("fro", "l1"), images=0)
        reached = (path.losses[:, j] <= TARGET).nonzero()
        row: dict[str, Any] = {"labels": labels, "width": width, "parameters": model.size}
        row |= {"seed": s, "stopped": path.stopped[j], "seconds": seconds}
        row["epochs"] = int(path.epochs[reached[0] if len(reached) else -1])
        for part, scores in (("train", m.train), ("test", m.test)):
            row |= {f"{part}_loss": scores.loss, f"{part}_error": scores.error}
            row |= {f"{part}_score": scores.score}
        row |= {f"rho_{name}": rho for name, rho in m.rho.items()}
        row |= {"path_norm": m.path_norm, "rms": m.rms}
        row |= {
            f"{part}_deficit_fro": float(deficit)
            for part, deficit in zip(("train", "test"), m.deficits["fro"], strict=True)
        }
        for name, value in row.items():
            found.setdefault(name, []).append(value)
    return {
        name: " ".join(values) if isinstance(values[0], str) else values
        for name, values in found.items()
    }


def header(data: str) -> Iterator[str]:
    """Comments: the settings, and what the columns are."""
    train, test = the_data(data)
    channels = ", ".join("w" if factor == 1 else f"{factor}w" for factor in SHAPES[data])
    yield "Made by tools/width_sweep.py; do not edit."
    yield f"data: {data}, {train.n} images to train, {test.n} to test, always the same"
    yield f"classes: {len(train.classes)}"
    yield f"images: {train.n}"
    yield (
        f"network: convolutions of 3 x 3 and stride 2 with {channels} channels at width w, a "
        f"dense layer, a bias in the first layer alone"
    )
    yield (
        f"training: mean cross-entropy, batches of {BATCH}, step {RATE:g}, momentum "
        f"{MOMENTUM:g}, float32, to loss {TARGET:g} or for {EPOCHS} epochs"
    )
    yield (
        "columns: as in normalised_digits.csv; random labels are those of the test images too; "
        "seconds of a point of the sweep over its networks"
    )


def main() -> None:
    given = series.options(__doc__.splitlines()[0], list(WIDTHS))
    for data in given.data:
        widths = WIDTHS[data][:6:2] if given.quick else WIDTHS[data]
        grid = {"data": [data], "width": widths}
        store = given.store / f"width_sweep-{data}"
        found = run_sweep(train_nets, grid, store=store, jobs=1, progress=True)
        table = [row for result in found.results for row in rows(result)]
        seconds = sum(row["seconds"] for row in table)
        file = given.out / f"width_sweep_{data.replace('-', '_')}.csv"
        series.write(file, [*header(data), series.made_with(seconds)], table)
        print(f"{data}: {len(table)} rows, {seconds:.0f} s, {file}", flush=True)


if __name__ == "__main__":
    main()
