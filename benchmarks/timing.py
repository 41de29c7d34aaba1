"""Timing for the benchmarks: rivals in turn, so that a busy machine slows them alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping


def seconds(call: Callable[[], object]) -> float:
    """How long one call takes."""
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin


def interleaved(
    rivals: Mapping[str, Callable[[], object]], rounds: int = 21
) -> dict[str, list[float]]:
    """The seconds of each rival in every round: they take turns, after one call unmeasured."""
    for call in rivals.values():
        call()
    times: dict[str, list[float]] = {name: [] for name in rivals}
    for round_ in range(rounds):
        order = list(rivals) if round_ % 2 == 0 else list(rivals)[::-1]
        for name in order:
            times[name].append(seconds(rivals[name]))
    return times


def ratio(ours: list[float], theirs: list[float]) -> float:
    """The median over rounds of our time over theirs."""
    return statistics.median(a / b for a, b in zip(ours, theirs, strict=True))


def table(header: list[str], rows: list[list[str]]) -> str:
    """Rows of text, in columns."""
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]
    lines = [
        "  ".join(c.rjust(w) for c, w in zip(row, widths, strict=True)) for row in [header, *rows]
    ]
    return "\n".join(lines)
