"""Train many networks on the same images, divide them by their norms, and write their losses.

    python tools/normalised_loss.py                    # three quarters of an hour on one core
    python tools/normalised_loss.py --data digits      # four minutes
    python tools/normalised_loss.py --data cifar10     # downloads 170 MB; hours

They differ in the scale of their start, in random labels that they were trained on first, or in
labels that stay wrong. Chapter 7 reads the files through ``implicit_bias.normalised_series``. A
killed run goes on from its store. A test computes rows again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import series
import torch
from implicit_bias.dynamics.ensemble import train_ensemble
from implicit_bias.evidence.normalised import Measurement, loss_deficit, measure_network
from implicit_bias.images import ImageData
from implicit_bias.models.deep import FilterNetwork
from implicit_bias.models.deep_conv import ConvNetwork
from implicit_bias.models.homogeneity import normalise, rescale_channels
from implicit_bias.models.residual import ResidualNetwork
from implicit_bias.sweep import run_sweep
from torch import nn

TARGETS = (0.05, 0.02, 0.005)
STOPS = (*(str(t) for t in TARGETS), "later")
LATER = 10  # epochs after the last target
MOMENTUM = 0.9
SCALES = (0.5, 0.7, 1.0, 1.25, 1.5, 2.0, 2.5, 3.0)
SHARES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0)
WRONG = (0.05, 0.1, 0.2, 0.4)
EPOCHS = {"start": (60, 60, 80), "pretrained": (40, 30, 40), "noisy": (100, 60, 60)}
IMAGES = 8
RESCALING = 0.5


@dataclass(frozen=True)
class Case:
    """Data, network and training."""

    data: str
    n: int
    m: int
    network: str
    batch: int
    rate: float
    repeats: int = 2
    kinds: tuple[str, ...] = ("start", "pretrained", "noisy")
    power: float = 1.5  # of the scale, by which the step is divided
    pretraining: int = 40  # epochs


CASES = {
    "digits": Case("digits", 1000, 797, "filters of 3 x 3", 32, 0.02),
    "glyphs": Case("glyphs", 4000, 2000, "filters of 5 x 5", 32, 0.02),
    "batch-norm": Case(
        "small-glyphs", 2000, 2000, "batch norm", 100, 0.05, power=0.0, pretraining=30
    ),
    "residual": Case("digits", 1000, 797, "residual", 50, 0.05, 4, ("start",), 0.0),
    "colour": Case("colour-glyphs", 2000, 2000, "strided", 32, 0.02),
    "cifar10": Case("cifar10", 50000, 10000, "as in L19", 100, 0.01),
}

NETWORKS: dict[str, Callable[..., Any]] = {
    "filters of 3 x 3": lambda *a, **k: FilterNetwork(*a, (16, 16), size=3, **k),
    "filters of 5 x 5": lambda *a, **k: FilterNetwork(
        *a, (12, 24), size=5, stride=3, padding=1, **k
    ),
    "batch norm": lambda *a, **k: ConvNetwork(*a, (8, 16, 16, 32), batch_norm=True, **k),
    "residual": lambda *a, **k: ResidualNetwork(*a, (8, 16), 1, **k),
    "strided": lambda *a, **k: ConvNetwork(*a, (8, 16), bias="first", **k),
    "as in L19": lambda *a, **k: FilterNetwork(*a, **k),
}


def design(case: str, kind: str, quick: bool) -> list[tuple[str, float, float, int]]:
    """The networks of one ensemble: what they are, the dose, the scale of the start, the seed."""
    repeats = 1 if quick else CASES[case].repeats
    scales, shares, wrong = (s[::3] if quick else s for s in (SCALES, SHARES, WRONG))
    if kind == "start":
        doses = [("start", s, s) for s in scales for _ in range(repeats)]
        first = 0
    elif kind == "pretrained":
        doses = [("pretrained", p, 1.0) for p in shares for _ in range(repeats)]
        first = 100
    else:
        doses = [("corrupted", p, 1.0) for p in wrong]
        doses += [("random", 1.0, s) for s in (1.0, 1.5)]
        first = 200
    return [(*dose, first + i) for i, dose in enumerate(doses)]


def the_data(case: str, quick: bool) -> tuple[ImageData, ImageData]:
    given = CASES[case]
    share = 4 if quick else 1
    return series.image_data(given.data, given.n // share, given.m // share)


def network(case: str, train: ImageData, scale: float, seed: int) -> Any:
    make = NETWORKS[CASES[case].network]
    return make(train.images.shape[1:], len(train.classes), scale=scale, seed=seed)


def labelled(data: ImageData, kind: str, dose: float, seed: int) -> ImageData:
    """The labels that a network of this kind is trained on, in the end."""
    wrong = {"corrupted": dose, "random": 1.0}.get(kind, 0.0)
    return data.with_random_labels(wrong, seed=seed) if wrong else data


def train_nets(
    case: str, kind: str, quick: bool, seed: int, only: int | None = None
) -> dict[str, Any]:
    """Trains an ensemble, or one network of it alone; its weights at each stop."""
    began = time.perf_counter()
    settings, (train, _) = CASES[case], the_data(case, quick)
    nets = design(case, kind, quick)
    nets = nets if only is None else [nets[only]]
    models: Any = [network(case, train, scale, own) for _, _, scale, own in nets]
    rates = [settings.rate / max(1.0, scale) ** settings.power for _, _, scale, _ in nets]
    epochs = np.zeros(len(nets), dtype=int)
    found: dict[str, Any] = {}

    def stage(labels: list[torch.Tensor], limit: int, order: int, target: float | None) -> Any:
        nonlocal models
        path = train_ensemble(
            models,
            train.images,
            torch.stack(labels),
            learning_rate=rates,
            epochs=limit,
            batch=settings.batch,
            momentum=MOMENTUM,
            seed=order,
            target=target,
        )
        models = path.models
        for j in range(len(nets)):
            reached = (path.losses[:, j] <= (target or -1)).nonzero()
            epochs[j] += int(path.epochs[reached[0]]) if len(reached) else int(path.epochs[-1])
        return path

    if kind == "pretrained":
        pre = [train.with_random_labels(dose, seed=own).labels for _, dose, _, own in nets]
        stage(pre, settings.pretraining, 0, None)
    labels = [labelled(train, what, dose, own).labels for what, dose, _, own in nets]
    limits = EPOCHS[kind]
    for k, stop in enumerate(STOPS if only is None else STOPS[:1]):
        target = TARGETS[k] if k < len(TARGETS) else None
        path = stage(labels, limits[k] if target else LATER, k + 1, target)
        for name in models[0].state_dict():
            stacked = torch.stack([model.state_dict()[name] for model in models])
            found[f"{stop}/{name}"] = stacked
        found[f"{stop}/epochs"] = epochs.copy()
        found[f"{stop}/stopped"] = " ".join(path.stopped)
        found[f"{stop}/seconds"] = time.perf_counter() - began
    return found


def measured(
    case: str, kind: str, quick: bool, found: Mapping[str, Any], only: int | None = None
) -> Iterator[tuple[dict[str, Any], nn.Module, Measurement]]:
    """The rows of an ensemble, without the controls."""
    train, test = the_data(case, quick)
    nets = list(enumerate(design(case, kind, quick)))
    nets = nets if only is None else [(0, nets[only][1])]
    for stop in STOPS if only is None else STOPS[:1]:
        state = {name.split("/")[1]: v for name, v in found.items() if name.split("/")[0] == stop}
        for j, (what, dose, scale, own) in nets:
            model = network(case, train, scale, own)
            model.load_state_dict({k: v[j] for k, v in state.items() if k in model.state_dict()})
            model.eval()
            m = measure_network(
                model,
                labelled(train, what, dose, own),
                test.with_random_labels(1.0, seed=own) if what == "random" else test,
                images=IMAGES,
            )
            row: dict[str, Any] = {"kind": what, "dose": dose, "scale": scale, "seed": own}
            row |= {"stop": stop, "stopped": state["stopped"].split()[j]}
            row |= {"epochs": int(state["epochs"][j]), "seconds": state["seconds"] / len(nets)}
            for part, scores in (("train", m.train), ("test", m.test)):
                row |= {f"{part}_{name}": getattr(scores, name) for name in ("loss", "error")}
                row |= {f"{part}_score": scores.score}
            row |= {"margin": m.train.margin, "low_margin": m.train.low_margin}
            row |= m.norms | {f"rho_{name}": rho for name, rho in m.rho.items()}
            row |= {"path_norm": m.path_norm, "rms": m.rms, "image_norms": m.image_norms}
            row |= {"naive_changed": m.naive_changed}
            for name, (seen, unseen) in m.deficits.items():
                row |= {f"train_deficit_{name}": _plain(seen)}
                row |= {f"test_deficit_{name}": _plain(unseen)}
            yield row, model, m


def _plain(deficit: torch.Tensor) -> Any:
    return deficit if deficit.ndim else float(deficit)


def with_controls(
    rows: list[dict[str, Any]],
    models: list[nn.Module],
    records: list[Measurement],
    case: str,
    quick: bool,
) -> None:
    """Adds three lines that say nothing of networks.

    Each network divided by the norms of another; the network of scale 1 with the smallest seed
    divided by the norms of each; and that network divided by its own, after its channels have
    been rescaled, which leaves its outputs as they are.
    """
    train, test = the_data(case, quick)
    for stop in STOPS:
        here = [i for i, row in enumerate(rows) if row["stop"] == stop]
        natural = [i for i in here if rows[i]["kind"] in ("start", "pretrained")]
        one = min((i for i in natural if rows[i]["scale"] == 1), key=lambda i: rows[i]["seed"])
        swap = dict(zip(natural, np.random.default_rng(0).permutation(natural), strict=True))
        for i in here:
            row = rows[i]
            others = {
                "permuted": (records[i], rows[swap.get(i, i)]["rho_fro"]),
                "one": (records[one], row["rho_fro"]),
                "rescaled": (
                    records[one],
                    normalise(rescale_channels(models[one], RESCALING, seed=row["seed"])).rho,
                ),
            }
            row["rho_rescaled"] = others["rescaled"][1]
            for name, (record, rho) in others.items():
                seen, unseen = (
                    (train, test)
                    if name != "permuted"
                    else (
                        labelled(train, row["kind"], row["dose"], row["seed"]),
                        test.with_random_labels(1.0, seed=row["seed"])
                        if row["kind"] == "random"
                        else test,
                    )
                )
                row[f"train_deficit_{name}"] = float(
                    loss_deficit(record.train_outputs, seen.labels, rho)
                )
                row[f"test_deficit_{name}"] = float(
                    loss_deficit(record.test_outputs, unseen.labels, rho)
                )


def header(case: str, quick: bool) -> Iterator[str]:
    """Comments: the settings, and what the columns are."""
    given, (train, test) = CASES[case], the_data(case, quick)
    example = network(case, train, 1.0, 0)
    yield "Made by tools/normalised_loss.py; do not edit."
    yield f"data: {given.data}, {train.n} images to train, {test.n} to test, always the same"
    yield f"classes: {len(train.classes)}"
    largest = float(train.images.double().square().sum((1, 2, 3)).max().sqrt())
    yield f"largest image norm: {largest:.9g}"
    shapes = [tuple(layer.linear.weight.shape) for layer in example.layers]
    yield f"network: {given.network}, weights of shapes {' '.join(map(str, shapes))}"
    yield f"parameters: {example.size}"
    step = f"step {given.rate:g}"
    if given.power:
        step += f" (over scale^{given.power:g} if the scale is above 1)"
    yield (
        f"training: mean cross-entropy, batches of {given.batch}, {step}, momentum {MOMENTUM:g} "
        f"from zero at each stage, float32"
    )
    yield (
        "kinds: start (dose: scale of the start), pretrained (share of labels drawn at random for "
        f"{given.pretraining} epochs of pretraining), corrupted (share drawn at random for good), "
        "random (all of them, of the test images too)"
    )
    yield (
        f"stops: training loss {', '.join(map(str, TARGETS))}, at the first epoch at or below it; "
        f"{LATER} epochs later; at most {EPOCHS['start']} epochs from one to the next, "
        f"{EPOCHS['noisy']} for corrupted and random"
    )
    yield (
        "columns: seconds of the ensemble up to there, over its networks; score the mean centred "
        "output of the label; margin the smallest of the training set, low_margin its 5 per cent "
        "quantile; fro, l1, spectral the norms of the layers, rho_ the factors of normalise; rms "
        "the root mean square of centred outputs on the training images; image_norms of the "
        "outputs on the first test images; deficit_ log C less the loss of the outputs divided by "
        "that, nan where it is zero; naive: layers divided by their own norms alone; permuted: by "
        "rho_fro of another network of the same stop; one: the network of scale 1, divided by "
        "rho_fro of this; "
        f"rescaled: that network, its channels rescaled with spread {RESCALING:g}, by rho_rescaled"
    )


def main() -> None:
    given = series.options(__doc__.splitlines()[0], list(CASES))
    for case in given.data:
        kinds = [k for k in CASES[case].kinds if k != "noisy" or not given.quick]
        grid = [{"case": case, "kind": kind, "quick": given.quick} for kind in kinds]
        store = given.store / f"normalised_loss-{case}"
        found = run_sweep(train_nets, grid, store=store, jobs=1, progress=True)
        rows, models, records = [], [], []
        for point, result in zip(found.points, found.results, strict=True):
            for row, model, record in measured(**point, found=result):
                rows.append(row)
                models.append(model)
                records.append(record)
        with_controls(rows, models, records, case, given.quick)
        seconds = sum(result[f"{STOPS[-1]}/seconds"] for result in found.results)
        file = given.out / f"normalised_{case.replace('-', '_')}.csv"
        series.write(file, [*header(case, given.quick), series.made_with(seconds)], rows)
        print(f"{case}: {len(rows)} rows, {seconds:.0f} s of training, {file}", flush=True)


if __name__ == "__main__":
    main()
