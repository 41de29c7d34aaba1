"""Ways to the limit direction of a convolutional network: how near each comes, in what time.

Two layers have one limit, which a convex programme knows, so there the angle to it is what counts.
Deeper networks have many; there the certificate's residual says how far a predictor is from being
stationary, and the angle is to the limit of the flow from the same start. The second table sends
the flow through every size that chapter 4 speaks of, from thirty starts each.
"""

from __future__ import annotations

import numpy as np
import torch
from implicit_bias import (
    Classification,
    LinearNetwork,
    angle,
    bridge_certificate,
    max_margin,
    network_flow,
    parameter_certificate,
)
from timing import seconds, table

STEPS = 50_000
STARTS = 30
DEPTHS = (2, 3, 4, 5)
TARGET = 1.0  # median seconds of the flow on one core


def signals(n: int, d: int) -> Classification:
    """Gaussian signals with labels drawn by lot."""
    rng = np.random.default_rng(100 * d + n)
    return Classification(rng.standard_normal((n, d)), np.sign(rng.standard_normal(n)))


def product(w: torch.Tensor, depth: int) -> torch.Tensor:
    """The predictor as a user would write it."""
    return torch.fft.ifft(torch.fft.fft(w.reshape(depth, -1)).prod(0)).real


def train(problem: Classification, start: torch.Tensor, depth: int, rule: str) -> torch.Tensor:
    """STEPS steps of torch on the logarithm of the loss, which has the direction of its gradient.

    Adam sees the logarithm as well: the loss itself underflows, and Adam, which divides by the size
    of past gradients, would see little difference before that.
    """
    w = start.clone().requires_grad_()
    if rule == "Adam":
        optimiser: torch.optim.Optimizer = torch.optim.Adam([w], lr=0.01)
    else:
        optimiser = torch.optim.SGD([w], lr=0.01)
    for _ in range(STEPS):
        optimiser.zero_grad()
        torch.logsumexp(-(problem.Z @ product(w, depth)), 0).backward()
        if rule != "Adam":
            w.grad /= w.grad.norm()
        optimiser.step()
    return product(w.detach(), depth)


def rivals() -> None:
    """Prints what torch reaches in STEPS steps, and the flow, from the same start."""
    problem = signals(10, 24)
    for depth in DEPTHS:
        network = LinearNetwork("convolutional", 24, depth)
        start = network.sample(seed=0, scale=0.3)
        reached = {}
        spent = {
            "network_flow": seconds(
                lambda start=start, network=network, reached=reached: reached.update(
                    {"network_flow": network_flow(problem, network, start).predictor}
                )
            )
        }
        for rule in ("normalised descent", "Adam"):
            spent[rule] = seconds(
                lambda start=start, depth=depth, rule=rule, reached=reached: reached.update(
                    {rule: train(problem, start, depth, rule)}
                )
            )
        two = depth == 2
        limit = max_margin(problem, "fourier").x if two else reached["network_flow"]
        rows = []
        for name, beta in reached.items():
            off = bridge_certificate(problem, beta, depth).residual
            turn = "" if limit is beta else f"{angle(beta, limit):.0e}"
            rows.append([name, turn, f"{off:.0e}", f"{spent[name]:.2f} s"])
        to = "angle to the programme" if two else "angle to the flow"
        print(table([f"{depth} layers, {STEPS:.0e} steps", to, "residual", "seconds"], rows))


def different(directions: list[torch.Tensor]) -> int:
    """How many directions there are, up to an angle of 1e-5."""
    kept: list[torch.Tensor] = []
    for beta in directions:
        if all(angle(beta, other) > 1e-5 for other in kept):
            kept.append(beta)
    return len(kept)


def starts(n: int, d: int, depth: int) -> tuple[list[str], list[float]]:
    """A row of the second table, and the seconds of its runs."""
    problem, network = signals(n, d), LinearNetwork("convolutional", d, depth)
    paths, times = [], []
    for seed in range(STARTS):
        start = network.sample(seed, scale=0.3)
        times.append(
            seconds(lambda start=start: paths.append(network_flow(problem, network, start)))
        )
    of_flow = [parameter_certificate(problem, network, path.x).residual for path in paths]
    of_flow += [bridge_certificate(problem, path.predictor, depth).residual for path in paths]
    # A path without a polished point counts as infinitely far: it would have failed the target.
    polished = [float("inf") for path in paths if path.polished is None]
    for path in paths:
        if path.polished is not None:
            polished.append(parameter_certificate(problem, network, path.polished).residual)
            polished.append(bridge_certificate(problem, path.polished_predictor, depth).residual)
    row = [
        f"d = {d}, n = {n}, {depth} layers",
        f"{max(of_flow):.0e}",
        f"{max(polished):.0e}",
        f"{max(path.moved for path in paths):.0e}",
        str(different([path.predictor for path in paths])),
        f"{np.median(times):.2f} s",
        f"{max(times):.2f} s",
    ]
    return row, times


def main() -> bool:
    """Prints both tables; returns whether the flow's median keeps to its target."""
    torch.set_num_threads(1)  # matrices this small gain nothing from more
    network_flow(signals(4, 8), LinearNetwork("convolutional", 8, 2), np.linspace(0.1, 1, 16))
    rivals()
    rows, times = [], []
    for d in (24, 50):
        for n in (10, 20):
            for depth in DEPTHS:
                row, spent = starts(n, d, depth)
                rows.append(row)
                times += spent
    head = [f"{STARTS} starts", "flow alone", "polished", "moved", "limits", "median", "worst"]
    print(table(head, rows))
    median = float(np.median(times))
    print(f"median {median:.2f} s (target {TARGET} s), worst {max(times):.2f} s")
    return median <= TARGET


if __name__ == "__main__":
    main()
