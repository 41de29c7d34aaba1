"""Zeros of a loss and Hessians: ways to 24 digits, and spectra by Lanczos' method.

The first part takes small networks to a loss of 1e-24 by Levenberg-Marquardt, by SciPy's
trust-region method and by torch's L-BFGS, which at the kinks of the ReLU gets there more often. The
second compares the extreme eigenvalues of a Hessian by Hessian-vector products with those of the
whole matrix, and finds them for a convolutional network of a hundred thousand parameters.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from implicit_bias import (
    ConvNetwork,
    DenseNetwork,
    hessian_spectrum,
    load_digits,
    reach_zero,
)
from scipy.optimize import least_squares
from timing import seconds, table
from torch import Tensor

TARGET = 1e-24
STARTS = 10
AGREE = 1e-8


def ways_to_zero(activation: str) -> bool:
    """Prints how often each way reaches the target, and its seconds; returns whether ours did."""
    network = DenseNetwork((3, 12, 1), activation)
    reached: dict[str, int] = {}
    spent: dict[str, float] = {}
    for seed in range(STARTS + 1):
        rng = np.random.default_rng([seed, 1])
        X, y = (torch.from_numpy(rng.standard_normal((network.size // 3, k))) for k in (3, 1))
        start = network.initial(seed, bias_scale=0.5)

        def residuals(theta: Tensor, X: Tensor = X, y: Tensor = y) -> Tensor:
            return (network(theta, X) - y).reshape(-1)

        ways = {
            "reach_zero": lambda start=start, X=X, y=y: reach_zero(network, start, X, y).losses[-1],
            "SciPy's least_squares": lambda start=start, of=residuals: by_scipy(of, start),
            "torch's L-BFGS": lambda start=start, of=residuals: by_lbfgs(of, start),
        }
        for name, way in ways.items():
            losses: list[float] = []
            time = seconds(lambda way=way, losses=losses: losses.append(float(way())))
            if seed:  # the first start is for warming up
                reached[name] = reached.get(name, 0) + (losses[-1] <= TARGET)
                spent[name] = spent.get(name, 0.0) + time
    rows = [[name, f"{reached[name]} of {STARTS}", f"{spent[name]:.1f} s"] for name in spent]
    print(table([f"{activation}, 61 parameters, 20 outputs", f"loss {TARGET:g}", "time"], rows))
    return reached["reach_zero"] == STARTS


def by_scipy(residuals: Callable[[Tensor], Tensor], start: Tensor) -> float:
    """The loss at which SciPy's trust-region method ends, with exact Jacobians."""
    slope = torch.func.jacrev(residuals)
    settings: dict[str, Any] = {"ftol": None, "xtol": 1e-15, "gtol": None, "max_nfev": 500}
    found = least_squares(
        lambda t: residuals(torch.from_numpy(t.copy())).numpy(),
        start.numpy(),
        lambda t: slope(torch.from_numpy(t.copy())).numpy(),
        **settings,
    )
    return float(found.cost)


def by_lbfgs(residuals: Callable[[Tensor], Tensor], start: Tensor) -> float:
    """The loss at which torch's L-BFGS ends, 3,000 iterations."""
    theta = start.clone().requires_grad_()
    optimiser = torch.optim.LBFGS(
        [theta],
        max_iter=3000,
        tolerance_grad=0.0,
        tolerance_change=0.0,
        line_search_fn="strong_wolfe",
    )

    def closure() -> Tensor:
        optimiser.zero_grad()
        loss = 0.5 * residuals(theta).square().sum()
        loss.backward()
        return loss

    optimiser.step(closure)
    return 0.5 * float(residuals(theta.detach()).square().sum())


def spectra() -> bool:
    """Prints times and agreement of Lanczos' method; returns whether it agrees."""
    digits = load_digits().split([200, 100])[0]
    images, rows, worst = digits.images.double(), [], 0.0
    for widths, dense in (((8, 8), (12,)), ((32, 128), (180,))):
        network = ConvNetwork((1, 8, 8), 10, widths, dense=dense, activation=torch.tanh).double()
        names = [name for name, _ in network.named_parameters()]
        weights = [p.detach() for p in network.parameters()]

        def loss(parameters: list[Tensor], network=network, names=names) -> Tensor:
            named = dict(zip(names, parameters, strict=True))
            outputs = torch.func.functional_call(network, named, (images,))
            return torch.nn.functional.cross_entropy(outputs, digits.labels, reduction="sum")

        found = {}
        spent = seconds(
            lambda loss=loss, weights=weights, found=found: found.update(
                few=hessian_spectrum(loss, weights, k=6, which="largest")
            )
        )
        few, whole = found["few"], "-"
        if network.size <= 5000:
            matrix = seconds(
                lambda loss=loss, weights=weights, found=found: found.update(
                    all=hessian_spectrum(loss, weights)
                )
            )
            gap = (found["all"].values[-6:] - few.values).abs().max() / few.values[-1]
            worst, whole = float(gap), f"{matrix:.1f} s, {float(gap):.0e} apart"
        row = [f"{network.size}", f"{spent:.1f} s", f"{few.residual:.0e}", whole]
        rows.append(row)
    print(table(["parameters", "six largest", "residual", "the whole matrix"], rows))
    return worst <= AGREE


def main() -> bool:
    """Prints both comparisons; returns whether their targets are met."""
    torch.set_num_threads(1)
    zero = ways_to_zero("tanh")  # smooth: all starts are to get there
    ways_to_zero("relu")
    return spectra() and zero


if __name__ == "__main__":
    main()
