"""Train convolutional networks with polynomials in place of the ReLU, and write where they explode.

    python tools/polynomial_networks.py  # about sixteen minutes on a busy core

Chapter 6 reads the file through ``implicit_bias.polynomial_series``, since a page that is built
in a minute cannot wait for it. A test computes rows again.
"""

from __future__ import annotations

import argparse
import copy
import math
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import torch
from implicit_bias.data import load_digits, make_glyphs
from implicit_bias.dynamics.classifier import train_classifier
from implicit_bias.evidence.stamp import versions
from implicit_bias.images import ImageData
from implicit_bias.models.activations import fit_polynomial
from implicit_bias.models.deep_conv import ConvNetwork
from torch import Tensor, nn

FILE = Path(__file__).resolve().parent.parent / "lib/implicit_bias/evidence/polynomial_networks.csv"

WIDTHS = (8, 16, 32)
DEGREES = (1, 2, 4, 10)
WEIGHT = "chebyshev"
CLIP = 1.0
SEEDS = 3
MOMENTUM = 0.9
IMAGES = {"digits": (1000, 797), "glyphs": (1000, 1000)}
STEPS = {"digits": 200, "glyphs": 200}
STEP = {"digits": 0.1, "glyphs": 0.05}
# data, batch normalisation, norm at which gradients are clipped (0: not), radii
SERIES = (
    ("digits", True, CLIP, (10.0, 3.0, 1.0)),
    ("digits", False, CLIP, (10.0, 3.0, 1.0)),
    ("digits", False, 0.0, (10.0,)),
    ("glyphs", True, CLIP, (10.0,)),
)
MEASURED = ("train_loss", "train_error", "test_loss", "test_error")
REACHED = ("start_reach", "start_beyond", "reach", "beyond", "test_reach", "test_beyond")
COLUMNS = (
    *("data", "batch_norm", "clip", "degree", "radius", "seed", "stopped", "steps"),
    *(*MEASURED, *REACHED, "seconds"),
)


@cache
def parts(data: str, seed: int) -> tuple[ImageData, ...]:
    """Training and test images."""
    images = load_digits() if data == "digits" else make_glyphs(sum(IMAGES["glyphs"]))
    return images.split(IMAGES[data], seed=seed)


def reach(network: ConvNetwork, images: Tensor) -> tuple[float, float]:
    """The largest size of what enters an activation over the radius (10 for the ReLU), and the
    share beyond the radius."""
    radius = getattr(network.activation, "radius", 10.0)
    with torch.no_grad():
        entering = network.preactivations(images)[:-1]
    z = torch.cat([part.flatten() for part in entering]).abs() / radius
    largest = float(z.max())
    # An overflow, or the NaN that follows it, is beyond any radius.
    return largest if math.isfinite(largest) else math.inf, float((~(z <= 1)).double().mean())


def row(
    data: str, batch_norm: bool, clip: float, degree: int, radius: float, seed: int
) -> dict[str, Any]:
    """One training; degree 0 stands for the ReLU."""
    train, test = parts(data, seed)
    activation: Any = torch.relu if not degree else fit_polynomial(degree, radius, WEIGHT)
    network = ConvNetwork(
        train.images.shape[1:],
        len(train.classes),
        WIDTHS,
        activation=activation,
        batch_norm=batch_norm,
        seed=seed,
    )
    began = time.perf_counter()
    start = reach(copy.deepcopy(network).train(), train.images)
    run = train_classifier(
        network,
        train,
        steps=STEPS[data],
        step=STEP[data],
        momentum=MOMENTUM,
        clip=clip or None,
    )
    measured = []
    for part in (train, test):
        with torch.no_grad():
            logits = run.network(part.images).double()
        loss = float(nn.functional.cross_entropy(logits, part.labels))
        measured += [
            loss if math.isfinite(loss) else math.inf,
            float((logits.argmax(1) != part.labels).double().mean()),
        ]
    ends = [value for part in (train, test) for value in reach(run.network, part.images)]
    found = (data, batch_norm, clip, degree, radius, seed, run.stopped, run.steps, *measured)
    return dict(zip(COLUMNS, (*found, *start, *ends, time.perf_counter() - began), strict=True))


def settings() -> Iterator[tuple[str, bool, float, int, float, int]]:
    """The arguments of every row."""
    for data, batch_norm, clip, radii in SERIES:
        cases = [(0, 0.0)] + [(degree, radius) for radius in radii for degree in DEGREES]
        for degree, radius in cases:
            for seed in range(SEEDS):
                yield data, batch_norm, clip, degree, radius, seed


def header() -> Iterator[str]:
    """Comments: the settings, and what the rows were made with."""
    yield "Made by tools/polynomial_networks.py; do not edit."
    for data, (n_train, n_test) in IMAGES.items():
        yield (
            f"{data}: {n_train} images to train, {n_test} to test, split by the seed; "
            f"{STEPS[data]} steps of {STEP[data]:g}, momentum {MOMENTUM:g}, full batch, mean "
            f"cross-entropy"
        )
    yield (
        f"network: {len(WIDTHS)} convolutions of stride 2 with {', '.join(map(str, WIDTHS))} "
        f"channels, a dense layer, float32, drawn by the seed; biases where there is no batch "
        f"normalisation"
    )
    yield (
        f"activations: the ReLU (degree 0, radius 0), or its least-squares polynomial on "
        f"[-radius, radius] with {WEIGHT} weight; gradients clipped to norm clip, 0 for not"
    )
    yield (
        "columns: start_reach is the largest size of what enters an activation over the radius "
        "(over 10 for the ReLU) before the first step, start_beyond the share of it that is "
        "larger than the radius; reach and beyond the same at the end on the training images, "
        "test_ on the test images; of runs that diverged, just before"
    )
    yield "versions: " + ", ".join(f"{name} {version}" for name, version in versions().items())


def main() -> None:
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    torch.set_num_threads(1)
    lines = [f"# {line}" for line in header()] + [",".join(COLUMNS)]
    for case in settings():
        cells = (f"{v:.6g}" if isinstance(v, float) else str(v) for v in row(*case).values())
        lines.append(",".join(cells))
        print(lines[-1], flush=True)
    FILE.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
