"""Many networks at once against a loop of torch's, one network after the other, on one thread.

What an ensemble saves is the overhead of calls, so the saving depends on how much there is to
compute in a call: on the number of filters and of images in a mini-batch. Losses must agree.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from implicit_bias import FilterNetwork, load_digits, train_ensemble
from timing import ratio, seconds, table
from torch import Tensor, nn

TARGET = 3.0  # times as fast as the loop, with mini-batches, for the networks of the first row
AGREE = 1e-12  # of losses in double precision; in single a kink may part two runs
M, IMAGES, EPOCHS, RATE, MOMENTUM = 24, 512, 3, 0.01, 0.9
# Filters of 3 x 3 at every second pixel, and of 5 x 5 at every one; images in a mini-batch.
STRIDED: dict[str, Any] = {"size": 3, "stride": 2, "padding": 1}
CASES = (
    *((STRIDED, (8, 16), batch) for batch in (16, 32, 128)),
    (STRIDED, (24, 34), 32),
    ({"size": 5, "padding": 2}, (8, 16), 32),
)


def loop(models: list[FilterNetwork], x: Tensor, labels: Tensor, batch: int) -> list[float]:
    """The final losses of networks that are trained one after the other."""
    losses = []
    for given in models:
        model = copy.deepcopy(given)
        optimiser = torch.optim.SGD(model.parameters(), RATE, momentum=MOMENTUM)
        order = torch.Generator().manual_seed(0)
        for _ in range(EPOCHS):
            for indices in torch.randperm(len(x), generator=order).split(batch):
                optimiser.zero_grad()
                nn.functional.cross_entropy(model(x[indices]), labels[indices]).backward()
                optimiser.step()
        with torch.no_grad():
            losses.append(float(nn.functional.cross_entropy(model(x).double(), labels)))
    return losses


def together(models: list[FilterNetwork], x: Tensor, labels: Tensor, batch: int) -> list[float]:
    """The same of networks that are trained at once."""
    how = {"learning_rate": RATE, "momentum": MOMENTUM, "batch": batch, "seed": 0}
    path = train_ensemble(models, x, labels, epochs=EPOCHS, every=EPOCHS, **how)
    return path.losses[-1].tolist()


def main() -> bool:
    """Prints seconds and agreement for each case; returns whether both targets are met."""
    torch.set_num_threads(1)
    data, _ = load_digits().split([IMAGES, 1], seed=0)
    x, labels = data.images, data.labels
    rows, ratios, worst = [], [], 0.0
    for kernel, filters, batch in CASES:
        models = [FilterNetwork((1, 8, 8), 10, filters, seed=seed, **kernel) for seed in range(M)]
        spent: dict[Any, list[float]] = {together: [], loop: []}
        for _ in range(2):  # in turn, so that a busy machine slows both alike
            for way, times in spent.items():
                times.append(seconds(lambda way=way, m=models, b=batch: way(m, x, labels, b)))
        exact = [copy.deepcopy(model).double() for model in models[:4]]
        both = (way(exact, x.double(), labels, batch) for way in spent)
        apart = max(abs(a / b - 1) for a, b in zip(*both, strict=True))
        worst = max(worst, apart)
        ratios.append(ratio(spent[loop], spent[together]))
        fastest = [f"{min(spent[way]):.2f} s" for way in (loop, together)]
        names = f"{' and '.join(map(str, filters))} of {kernel['size']} x {kernel['size']}"
        rows.append([names, str(batch), *fastest, f"{ratios[-1]:.1f}", f"{apart:.0e}"])
    header = [f"{M} networks: filters", "batch", "loop", "ensemble", "times as fast", "apart"]
    print(table(header, rows))
    return ratios[0] >= TARGET and worst <= AGREE


if __name__ == "__main__":
    main()
