"""Start the process in which a submission runs, ask it, and end it in time.

    with Sandbox(limits) as box:
        box.start(setup)                               # the imports of the release copy
        box.ask("shortest", ["def shortest(...): ..."])
        value = box.call((X, y, w0))
        box.close_question()

Whatever a submission does, a call returns a value or raises `Misbehaved` with one line for the
report. A question has so many seconds of the processor's time, whatever else the machine does; the
clock ends only what waits. The walls are in `jail`; `isolation()` says which are to be had here.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import tempfile
import threading
import time
from functools import cache
from typing import Any, ClassVar

from course import wire
from course.jail import REFUSED
from course.plan import HERE, Limits, plan
from course.processes import end, usage

WEAK = (
    "no walls: the submission ran as an ordinary process, with limits on time and memory but free "
    "to read files and to use the network"
)
STRONG = "own file system (read-only), no network, own processes, no privileges, hard limits"


class Misbehaved(Exception):
    """The submission gave no value that can be judged. The text is for the student's report."""


class NoWalls(RuntimeError):
    """This machine lets us build no sandbox."""


class Stopped(RuntimeError):
    """The grading was interrupted: nothing about the submission is known."""


@cache
def missing() -> str:
    """Why no sandbox can be built here, or nothing. Tried, not guessed: one must answer."""
    if sys.platform != "linux":
        return f"{sys.platform} has no namespaces"
    try:
        with Sandbox(Limits(start=20), walls="namespaces") as box:
            box.start([])
    except Misbehaved as error:
        return str(error)
    return ""


def isolation() -> str:
    """Which walls this machine lets us build: "namespaces", or "process" for none."""
    return "process" if missing() else "namespaces"


class Sandbox:
    """One process for one submission; see the top of this file."""

    stopped = threading.Event()  # set when the grading is interrupted: then none starts
    running: ClassVar[set[int]] = set()

    @classmethod
    def stop_all(cls) -> None:
        """End every sandbox of this process; those who wait for one get `Misbehaved`."""
        cls.stopped.set()
        for pid in list(cls.running):
            end(pid)

    def __init__(
        self,
        limits: Limits = Limits(),  # noqa: B008
        walls: str = "namespaces",
    ) -> None:
        self.limits = limits
        self.walls = walls
        self.process: subprocess.Popen[bytes] | None = None
        self.deadline = 0.0
        self.budget = math.inf  # of processor time, in all since the start
        self.seconds = 0.0
        self.reason = ""
        self.started = False
        self._stop = threading.Event()

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def start(self, setup: list[str]) -> None:
        """Start the process and run the release copy's own cells in it."""
        if self.stopped.is_set():
            raise Stopped
        self.folder = tempfile.TemporaryDirectory(prefix="course-")
        ask_out, self.asking = os.pipe()
        self.telling, tell_out = os.pipe()
        os.set_blocking(self.asking, False)
        told = plan(self.limits, self.walls, self.folder.name, ask_out, tell_out)
        command = [sys.executable, "-I", "-S", str(HERE / "jail.py"), json.dumps(told)]
        self.errors = tempfile.TemporaryFile()  # noqa: SIM115
        self.process = subprocess.Popen(
            command,
            pass_fds=(ask_out, tell_out),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=self.errors,
            cwd="/",
            env={},
            start_new_session=True,  # a Ctrl-C is for the grader, not for a submission
        )
        self.running.add(self.process.pid)
        os.close(ask_out)
        os.close(tell_out)
        self._allow(self.limits.start)
        threading.Thread(target=self._watch, args=(self.process.pid,), daemon=True).start()
        reply = self._exchange({"setup": setup})
        if not reply.get("ready"):
            self._fail(f"the sandbox could not import the exercises: {_line(reply.get('error'))}")
        self.started = True

    def ask(self, function: str, cells: list[str], seconds: float | None = None) -> None:
        """Open a question: run the student's cells. All its calls share these seconds."""
        self._allow(seconds or self.limits.question)
        reply = self._exchange({"function": function, "cells": cells})
        if reply.get("ran") is not True:
            error = _line(reply.get("error"))
            if "ran" in reply:
                self.close_question()
            raise Misbehaved(f"your cell does not run: {error}")

    def call(self, arguments: tuple[Any, ...]) -> Any:
        """The student's function at these arguments; `Misbehaved` if there is no value."""
        reply = self._exchange({"call": wire.encode(arguments)})
        if "value" not in reply:
            raise Misbehaved(f"your function raised {_line(reply.get('error'))}")
        try:
            return wire.decode(reply["value"])
        except (wire.WireError, RecursionError, TypeError, OverflowError) as error:
            raise Misbehaved(f"your function returned what cannot be used: {error}") from None

    def close_question(self) -> None:
        """End a question. A sandbox that does not come back in order is not used again."""
        try:
            if self._exchange({"end": True}) != {"done": True}:
                self.kill()
        except Misbehaved:
            self.kill()

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def _allow(self, seconds: float) -> None:
        """So much processor time from now on, and `patience` times that by the clock."""
        self.seconds = seconds
        spent = usage(self.process.pid)[1] if self.process else 0.0
        self.budget = spent + seconds
        self.deadline = time.monotonic() + seconds * self.limits.patience

    def _exchange(self, message: dict[str, Any]) -> dict[str, Any]:
        if not self.alive:
            self._fail("your code ended the process in which it runs")
        try:
            wire.send(self.asking, message, self.deadline)
            reply = wire.receive(self.telling, self.deadline)
        except TimeoutError:
            self._fail(
                f"your code did not answer within {self.seconds * self.limits.patience:g} seconds: "
                "does it wait for something?"
            )
        except wire.WireError as error:
            self._fail(f"your code's reply {error}")
        except (EOFError, OSError):
            self._fail("your code ended the process in which it runs")
        if "done" in reply and "end" not in message:
            self._fail("your code ended the process in which it runs")
        return reply

    def _fail(self, text: str) -> None:
        if self.process is not None and not self.started:
            status = _status(self.process)
            what = "is refused by the system" if status == REFUSED else f"died (status {status})"
            self.errors.seek(0)
            why = _line(self.errors.read()[-300:].decode(errors="replace"))
            text = f"the sandbox {what}: {why}"
        text = self.reason or text
        self.kill()
        if self.stopped.is_set():
            raise Stopped
        raise Misbehaved(text)

    def _watch(self, pid: int) -> None:
        """Add up what everything inside uses: limits of the kernel are for one process each."""
        while not self._stop.wait(0.1):
            memory, seconds = usage(pid)
            if memory > self.limits.memory:
                self.reason = "your code used more memory than is allowed, in all its processes"
            elif seconds > self.budget:
                self.reason = (
                    f"your code did not finish within {self.seconds:g} seconds of computing: "
                    "does a loop never end?"
                )
            else:
                continue
            end(pid)
            return

    def kill(self) -> None:
        """End everything inside, whatever it is doing. May be called twice."""
        self._stop.set()
        if self.process is None:
            return
        if self.process.poll() is None:
            end(self.process.pid)
        self.process.wait()
        self.running.discard(self.process.pid)
        for descriptor in (self.asking, self.telling):
            os.close(descriptor)
        self.errors.close()
        self.folder.cleanup()
        self.process = None


def _status(process: subprocess.Popen[bytes]) -> int | None:
    """How it ended, if it has: a moment after its pipes have closed."""
    try:
        return process.wait(1)
    except subprocess.TimeoutExpired:
        return None


def _line(text: Any) -> str:
    """One printable line of bounded length, whatever the inside has sent."""
    shown = "".join(c if c.isprintable() else " " for c in str(text)[:300])
    return " ".join(shown.split()) or "nothing that could be read"
