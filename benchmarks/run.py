"""Runs every benchmark and says which targets were met on this machine."""

from __future__ import annotations

import platform

import bench_descent
import bench_ensemble
import bench_import
import bench_landscape
import bench_margin
import bench_minimum_norm
import bench_network
import bench_wide
import torch
from timing import table

BENCHMARKS = {
    "descent against its closed form": bench_descent,
    "minimum_norm against lstsq": bench_minimum_norm,
    "ways to the hard-margin separator": bench_margin,
    "ways to the limit of a convolutional network": bench_network,
    "wide networks and splines": bench_wide,
    "zeros of a loss and Hessians": bench_landscape,
    "networks trained together": bench_ensemble,
    "import": bench_import,
}


def main() -> None:
    """Prints each comparison, then a summary."""
    threads = torch.get_num_threads()
    print(f"Python {platform.python_version()}, torch {torch.__version__}, {threads} threads")
    rows = []
    for name, module in BENCHMARKS.items():
        torch.set_num_threads(threads)
        print(f"\n{name}")
        rows.append([name, "met" if module.main() else "MISSED"])
    print("\n" + table(["benchmark", "targets"], rows))


if __name__ == "__main__":
    main()
