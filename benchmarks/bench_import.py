"""What ``import implicit_bias`` costs beyond torch, in fresh processes."""

from __future__ import annotations

import statistics
import subprocess
import sys

from timing import table

CODE = """
import time, torch
begin = time.perf_counter()
import {module}
print(time.perf_counter() - begin)
"""
TARGET, ROUNDS = 0.3, 7


def fresh(module: str) -> float:
    """Seconds to import a module in a new process that has torch already."""
    code = CODE.format(module=module)
    return float(
        subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout
    )


def main() -> bool:
    """Prints the times; returns whether the target is met."""
    modules = ["implicit_bias", "implicit_bias.plotting", "scipy.stats", "matplotlib.pyplot"]
    times = {m: statistics.median(fresh(m) for _ in range(ROUNDS)) for m in modules[:1]}
    times |= {m: statistics.median(fresh(m) for _ in range(3)) for m in modules[1:]}
    rows = [[module, f"{value:.3f} s"] for module, value in times.items()]
    rows.append(["target for implicit_bias", f"<= {TARGET} s"])
    print(table(["import, after torch", "median"], rows))
    return times["implicit_bias"] <= TARGET


if __name__ == "__main__":
    main()
