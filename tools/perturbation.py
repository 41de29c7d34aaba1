"""Kick trained convolutional networks again and again, retrain them, and write what it does.

    python tools/perturbation.py         # about eighteen minutes on a busy core

Chapter 6 reads the file through ``implicit_bias.perturbation_series``, since a page that is built
in a minute cannot wait for it. A test computes the first rows of one run again.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from implicit_bias.data import load_digits
from implicit_bias.dynamics.classifier import train_classifier
from implicit_bias.dynamics.kicks import perturb_and_retrain
from implicit_bias.evidence.stamp import versions
from implicit_bias.evidence.temperature import best_temperature
from implicit_bias.limits.noise_law import noise_law
from implicit_bias.models.deep_conv import ConvNetwork

FILE = Path(__file__).resolve().parent.parent / "lib/implicit_bias/evidence/perturbation.csv"

IMAGES = (1000, 797)
WIDTHS = (16, 32, 64)
NOISES = ("fixed", "relative", "none")
SEEDS = 5
SIZE = 0.25
TIMES, STEPS, MORE = 20, 100, 2000
STEP, MOMENTUM = 0.1, 0.9
MEASURED = (
    "train_loss",
    "train_error",
    "test_loss",
    "test_error",
    "squared_norm",
    "kicked_loss",
    "kicked_error",
    "kicked_norm",
    "expected_gain",
    "needed",
)
ADDED = ("temperature", "tempered_loss", "law", "law_deviation")
COLUMNS = ("noise", "seed", "kick", *MEASURED, *ADDED, "seconds")


def rows(noise: str, seed: int, times: int = TIMES) -> list[dict[str, Any]]:
    """One network, trained and kicked ``times`` times: a row before the first kick and for each."""
    train, test = load_digits().split(IMAGES, seed=seed)
    network = ConvNetwork(train.images.shape[1:], len(train.classes), WIDTHS, seed=seed)
    began = time.perf_counter()
    first = train_classifier(
        network, train, steps=5000, step=STEP, momentum=MOMENTUM, until="fitted"
    )
    if first.stopped != "fitted":
        raise RuntimeError(f"seed {seed}: {first.stopped} before the first kick")
    kind: Any = "fixed" if noise == "none" else noise
    size = 0.0 if noise == "none" else SIZE
    found = perturb_and_retrain(
        first.network,
        train,
        test,
        kind,
        size,
        times=times,
        steps=STEPS,
        more=MORE,
        step=STEP,
        momentum=MOMENTUM,
        seed=seed,
    )
    if found.stopped != "done":
        raise RuntimeError(f"{noise}, seed {seed}: {found.stopped}")
    seconds = time.perf_counter() - began
    weights = [layer.linear.weight for layer in first.network.layers]
    law = noise_law(weights, kind, size, times)
    tempered = [best_temperature(logits, test.labels) for logits in found.logits]
    table = {name: getattr(found, name).tolist() for name in MEASURED}
    table["temperature"] = [t.value for t in tempered]
    table["tempered_loss"] = [t.loss for t in tempered]
    table["law"], table["law_deviation"] = law.mean.tolist(), law.deviation.tolist()
    return [
        {"noise": noise, "seed": seed, "kick": k}
        | {name: table[name][k] for name in (*MEASURED, *ADDED)}
        | {"seconds": seconds}
        for k in range(times + 1)
    ]


def header() -> Iterator[str]:
    """Comments: the settings, and what the rows were made with."""
    yield "Made by tools/perturbation.py; do not edit."
    yield f"data: digits, {IMAGES[0]} images to train, {IMAGES[1]} to test, split by the seed"
    yield (
        f"network: {len(WIDTHS)} convolutions of stride 2 with {', '.join(map(str, WIDTHS))} "
        f"channels, a dense layer, biases, ReLU, float32, drawn by the seed"
    )
    yield (
        f"training: mean cross-entropy, full batch, step {STEP:g}, momentum {MOMENTUM:g}, until "
        f"the training error is zero"
    )
    yield (
        f"kicks: {TIMES}, each of {SIZE:g} times the root mean square of a layer's weights, as "
        f"they are (relative) or before the first kick (fixed); after each {STEPS} steps, and up "
        f"to {MORE} more until the training error is zero"
    )
    yield (
        "columns: kicked_ is just after the kick, before retraining; expected_gain of the squared "
        "norm by the kick; needed steps to zero training error; tempered_loss the test loss at "
        "the best temperature; law the squared norm expected if retraining did nothing to it; "
        "seconds of the whole run"
    )
    yield f"size: {SIZE}"
    yield "versions: " + ", ".join(f"{name} {version}" for name, version in versions().items())


def main() -> None:
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    torch.set_num_threads(1)
    lines = [f"# {line}" for line in header()] + [",".join(COLUMNS)]
    for seed in range(SEEDS):
        for noise in NOISES:
            for found in rows(noise, seed):
                cells = (f"{v:.7g}" if isinstance(v, float) else str(v) for v in found.values())
                lines.append(",".join(cells))
            print(lines[-1], flush=True)
    FILE.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
