"""Wide networks: the limit of a million units, three ways to train, and SciPy's smoothing spline.

The first part runs in a process of its own, so that its peak of memory is its own. The second
trains the output layer of one network by real descent, by the exponential integrator and in closed
form, and all layers by the first two. The third solves one smoothing problem in 30 digits.
"""

from __future__ import annotations

import itertools
import resource
import subprocess
import sys
from typing import Any

import numpy as np
import torch
from implicit_bias import (
    GaussianInit,
    ShallowNetwork,
    curvature_spline,
    linearised_training,
    train,
)
from mpmath import mp
from scipy.interpolate import make_smoothing_spline
from timing import interleaved, seconds, table

MILLION = 10**6
SECONDS, MEGABYTES = 1.0, 500.0
WIDTH = 25_600
KNOTS = 1000
SMOOTHING = 0.1


def points(M: int, even: bool = True) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """M points on [-1, 1], evenly spaced or drawn by lot, with values of a sine."""
    lot = np.random.default_rng(0).uniform(-1, 1, M)
    x = np.linspace(-1, 1, M) if even else np.sort(lot)
    return x, np.sin(4 * x)


def megabytes() -> float:
    """The peak of this process's memory."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1024**2 if sys.platform == "darwin" else 1024)


def million() -> None:
    """Prints seconds and megabytes of the limit of a network of a million units."""
    x, y = points(8)
    at = np.linspace(-1, 1, 201)
    init = GaussianInit(1.0, 1.0)
    linearised_training(ShallowNetwork(*init.sample(100), antisymmetric=True), x, y)(at)
    w, b = init.sample(MILLION // 2)
    before = megabytes()
    network = ShallowNetwork(w, b, antisymmetric=True)
    spent = seconds(lambda: linearised_training(network, x, y)(at))
    print(spent, megabytes() - before)


def limit_of_a_million() -> bool:
    """Prints what a process of its own said; returns whether it keeps to the targets."""
    run = subprocess.run(
        [sys.executable, __file__, "million"], check=True, capture_output=True, text=True
    )
    spent, space = (float(word) for word in run.stdout.split())
    rows = [["measured", f"{spent:.2f} s", f"{space:.0f} MB"]]
    rows.append(["target", f"{SECONDS} s", f"{MEGABYTES:.0f} MB"])
    print(table(["10^6 units, 8 points", "time", "memory"], rows))
    return spent <= SECONDS and space <= MEGABYTES


def ways_to_train() -> None:
    """Prints seconds of descent, integrator and closed form, and how far apart their ends are."""
    x, y = points(20)
    at, tau = np.linspace(-1, 1, 201), 1e5
    w, b = GaussianInit(1.0, 1.0).sample(WIDTH // 2)
    network = ShallowNetwork(w, b, antisymmetric=True)
    answers, rows = {}, []
    calls = {
        ("output", "exact"): lambda: linearised_training(network, x, y, tau=tau),
        ("output", "exponential"): lambda: train(network, x, y, layers="output", tau=tau).network,
        ("output", "gd"): lambda: (
            train(network, x, y, layers="output", method="gd", tau=tau).network
        ),
        ("all", "exponential"): lambda: train(network, x, y, tau=tau).network,
        ("all", "gd"): lambda: train(network, x, y, method="gd", tau=tau).network,
    }
    for (layers, method), call in calls.items():
        spent = seconds(lambda key=(layers, method), call=call: answers.update({key: call()(at)}))
        against = ("output", "exact") if layers == "output" else ("all", "exponential")
        gap = float((answers[layers, method] - answers[against]).abs().max())
        rows.append([f"{layers}, {method}", f"{gap:.0e}" if gap else "", f"{spent:.2f} s"])
    moved = float((answers["all", "exponential"] - answers["output", "exact"]).abs().max())
    print(table([f"n = {WIDTH}, 20 points, tau = {tau:.0e}", "off", "seconds"], rows))
    print(f"all layers against the output layer alone: {moved:.0e}")


def in_thirty_digits(x: Any, y: Any, smoothing: float) -> list[Any]:
    """The smoothing spline at its knots, by a banded Cholesky factorisation in 30 digits."""
    mp.dps = 30
    x, y = [mp.mpf(float(v)) for v in x], [mp.mpf(float(v)) for v in y]
    h = [b - a for a, b in itertools.pairwise(x)]
    n = len(x) - 2
    columns = [(1 / h[j], -1 / h[j] - 1 / h[j + 1], 1 / h[j + 1]) for j in range(n)]
    bands = [[(h[j] + h[j + 1]) / 3 for j in range(n)], [h[j + 1] / 6 for j in range(n)], [0] * n]
    for gap in range(3):
        for j in range(n - gap):
            overlap = zip(columns[j][gap:], columns[j + gap], strict=False)
            bands[gap][j] += smoothing * sum(a * b for a, b in overlap)
    right = [sum(c * v for c, v in zip(columns[j], y[j : j + 3], strict=True)) for j in range(n)]
    d, one, two = [], [], []  # L D L^T with two bands below the diagonal
    for j in range(n):
        v = bands[0][j]
        v -= one[j - 1] ** 2 * d[j - 1] if j else 0
        v -= two[j - 2] ** 2 * d[j - 2] if j > 1 else 0
        d.append(v)
        one.append((bands[1][j] - (two[j - 1] * d[j - 1] * one[j - 1] if j else 0)) / v)
        two.append(bands[2][j] / v)
        right[j] -= (one[j - 1] * right[j - 1] if j else 0) + (
            two[j - 2] * right[j - 2] if j > 1 else 0
        )
    q = [r / v for r, v in zip(right, d, strict=True)]
    for j in reversed(range(n)):
        q[j] -= (one[j] * q[j + 1] if j + 1 < n else 0) + (two[j] * q[j + 2] if j + 2 < n else 0)
    values = list(y)
    for j in range(n):
        for k in range(3):
            values[j + k] -= smoothing * columns[j][k] * q[j]
    return values


def smoothing_splines() -> bool:
    """Prints seconds and errors of SciPy and of ours; returns whether ours has ten digits."""
    rows, ours = [], []
    for name, even in (("even", True), ("drawn", False)):
        x, y = points(KNOTS, even)
        truth = in_thirty_digits(x, y, SMOOTHING)
        rivals = {
            "curvature_spline": lambda x=x, y=y: curvature_spline(x, y, lambda t: 1.0, SMOOTHING)(
                x
            ),
            "scipy": lambda x=x, y=y: make_smoothing_spline(x, y, lam=SMOOTHING)(x),
        }
        times = interleaved(rivals, rounds=3, burst=3)
        for rival, call in rivals.items():
            pairs = zip(np.asarray(call()), truth, strict=True)
            off = max(float(abs(mp.mpf(float(v)) - t)) for v, t in pairs)
            rows.append([f"{rival}, {name}", f"{off:.0e}", f"{1000 * min(times[rival]):.1f} ms"])
            ours += [off] if rival == "curvature_spline" else []
    print(table([f"M = {KNOTS}, smoothing {SMOOTHING}", "off 30 digits", "time"], rows))
    return max(ours) <= 1e-10


def main() -> bool:
    """Prints all three; returns whether the targets are met."""
    torch.set_num_threads(1)
    small = limit_of_a_million()
    ways_to_train()
    return smoothing_splines() and small


if __name__ == "__main__":
    million() if sys.argv[1:] == ["million"] else main()
