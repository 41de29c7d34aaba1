"""250,000 steps of gradient descent against the closed form of the same iterates.

The setting is P18's Figure 4: nine points, degree 30, step 0.2 on a loss divided by n; here with
Chebyshev nodes and Legendre polynomials. The figure repeats it 30 times.
"""

from __future__ import annotations

import math
import statistics

import torch
from implicit_bias import (
    Regression,
    chebyshev_nodes,
    exact_descent,
    gradient_descent,
    polynomial_features,
)
from timing import seconds, table

STEPS, EVERY, STEP = 250_000, 10_000, 0.2 / 9


def main() -> bool:
    """Prints the comparison; returns whether the targets are met."""
    torch.set_num_threads(1)
    x = chebyshev_nodes(9)
    problem = Regression(polynomial_features(x, 30, "legendre"), torch.sin(8 * math.pi * x))
    recorded = range(0, STEPS + 1, EVERY)
    paths = {}

    def iterate() -> None:
        paths["loop"] = gradient_descent(problem, step=STEP, steps=STEPS, tol=0, every=EVERY)

    def plain() -> None:
        """The iteration and nothing else: no look at losses or convergence."""
        X, y, XT = problem.X, problem.y, problem.X.T.contiguous()
        w = torch.zeros(problem.d, dtype=torch.float64)
        for _ in range(STEPS):
            w = w - STEP * (XT @ (X @ w - y))
        paths["plain"] = w

    def closed() -> None:
        paths["closed"] = exact_descent(problem, recorded, STEP)

    closed()
    loop, bare = seconds(iterate), seconds(plain)
    fast = statistics.median(seconds(closed) for _ in range(51))
    exact = paths["closed"].points
    both = [
        float(((paths["loop"].points - exact).norm(dim=1)[1:] / exact.norm(dim=1)[1:]).max()),
        float((paths["plain"] - exact[-1]).norm() / exact[-1].norm()),
    ]
    rows = [
        ["gradient_descent", f"{loop:.2f} s", f"{loop / fast:,.0f} x", f"{both[0]:.1e}"],
        ["plain torch loop", f"{bare:.2f} s", f"{bare / fast:,.0f} x", f"{both[1]:.1e}"],
        ["exact_descent", f"{fast * 1e3:.2f} ms", "1 x", ""],
        ["target", "", ">= 1,000 x", "<= 1e-10"],
    ]
    print(table([f"{STEPS:,} steps", "time", "of the closed form's", "difference"], rows))
    return min(loop, bare) >= 1000 * fast and max(both) <= 1e-10


if __name__ == "__main__":
    main()
