"""Whole families of processes: what they use together, and how to end them."""

from __future__ import annotations

import psutil


def family(pid: int) -> list[psutil.Process]:
    """A process and all that descend from it, dead ones left out."""
    try:
        first = psutil.Process(pid)
        return [first, *first.children(recursive=True)]
    except psutil.Error:
        return []


def usage(pid: int) -> tuple[int, float]:
    """Bytes of memory and seconds of processor time of a family, children that ended included."""
    memory, seconds = 0, 0.0
    for process in family(pid):
        try:
            memory += process.memory_info().rss
            seconds += sum(process.cpu_times()[:4])  # user, system, and both of dead children
        except psutil.Error:
            continue
    return memory, seconds


def end(pid: int) -> None:
    """Kill a family."""
    for process in family(pid):
        try:
            process.kill()
        except psutil.Error:
            continue


def threads_of(user: int) -> int:
    """How many threads a user has on this machine."""
    return sum(_threads(process, user) for process in psutil.process_iter())


def _threads(process: psutil.Process, user: int) -> int:
    try:
        return int(process.num_threads()) if process.uids().real == user else 0
    except psutil.Error:
        return 0
