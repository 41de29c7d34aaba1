"""Timing for the benchmarks: rivals in turn, so that a busy machine slows them alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping


def seconds(call: Callable[[], object]) -> float:
    """How long one call takes."""
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin


def interleaved(
    rivals: Mapping[str, Callable[[], object]], rounds: int = 7, burst: int = 6
) -> dict[str, list[float]]:
    """The seconds of each rival's calls: they take turns, a burst of calls at a time.

    The pause lets the threads of the rival before fall asleep (those of a linear algebra library
    spin for milliseconds after their work is done, at the expense of the next), and the first call
    of a burst, which wakes one's own, is not counted.
    """
    times: dict[str, list[float]] = {name: [] for name in rivals}
    for _ in range(rounds):
        for name, call in rivals.items():
            time.sleep(0.04)
            call()
            times[name] += [seconds(call) for _ in range(burst)]
    return times


def ratio(ours: list[float], theirs: list[float]) -> float:
    """Our fastest call over theirs: what slows a call down is other work on the machine."""
    return min(ours) / min(theirs)


def table(header: list[str], rows: list[list[str]]) -> str:
    """Rows of text, in columns."""
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]
    lines = [
        "  ".join(c.rjust(w) for c, w in zip(row, widths, strict=True)) for row in [header, *rows]
    ]
    return "\n".join(lines)
