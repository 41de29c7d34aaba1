"""Start the process in which a submission runs, ask it, and end it in time.

    with Sandbox(limits) as box:
        box.start(setup)                               # the imports of the release copy
        box.ask("shortest", ["def shortest(...): ..."])
        value = box.call("shortest", (X, y, w0))
        box.close_question()

Whatever a submission does, a call returns a value or raises `Misbehaved` with one line for the
report, before its deadline. The walls are in `jail`; `isolation()` says which are to be had here.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import psutil

from course import wire
from course.jail import REFUSED

HERE = Path(__file__).resolve().parent
WEAK = (
    "no walls: the submission ran as an ordinary process, with limits on time and memory but free "
    "to read files and to use the network"
)
STRONG = "own file system (read-only), no network, own processes, no privileges, hard limits"


class Misbehaved(Exception):
    """The submission gave no value that can be judged. The text is for the student's report."""


class NoWalls(RuntimeError):
    """This machine lets us build no sandbox."""


@dataclass(frozen=True)
class Limits:
    """What a submission may use. Bytes, seconds, counts."""

    start: float = 60.0
    question: float = 20.0
    cpu: int = 120
    address_space: int = 3 * 2**30
    memory: int = 2 * 2**30
    file: int = 16 * 2**20
    disk: int = 32 * 2**20
    files: int = 256
    processes: int = 64


def visible() -> list[str]:
    """What the inside sees of the machine: the interpreter, its packages, the system's libraries.

    Not the repository: of it only the environment and the library are there, and neither holds an
    answer.
    """
    import implicit_bias

    library = Path(implicit_bias.__file__).resolve().parent
    paths = [
        *(Path(name) for name in ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")),
        Path("/etc/ld.so.cache"),
        Path(sys.base_prefix),
        Path(sys.prefix),
        library,
        HERE / "worker.py",
        HERE / "wire.py",
        *(Path(entry) for entry in sys.path if "site-packages" in entry),
    ]
    chosen: list[Path] = []
    for path in paths:
        inside = any(path == other or other in path.parents for other in chosen)
        if path.exists() and not inside:
            chosen.append(path)
    return [str(path) for path in chosen]


def _path_inside() -> str:
    import implicit_bias

    library = str(Path(implicit_bias.__file__).resolve().parent.parent)
    packages = [entry for entry in sys.path if "site-packages" in entry]
    return os.pathsep.join(dict.fromkeys([library, *packages, sysconfig.get_paths()["purelib"]]))


@cache
def isolation() -> str:
    """Which walls this machine lets us build: "namespaces", or "process" for none.

    Tried, not guessed: a sandbox is started and must answer.
    """
    if sys.platform != "linux":
        return "process"
    try:
        with Sandbox(Limits(start=20), walls="namespaces") as box:
            box.start([])
    except Misbehaved:
        return "process"
    return "namespaces"


class Sandbox:
    """One process for one submission; see the top of this file."""

    def __init__(self, limits: Limits = Limits(), walls: str = "namespaces") -> None:
        self.limits = limits
        self.walls = walls
        self.process: subprocess.Popen[bytes] | None = None
        self.deadline = 0.0
        self.reason = ""
        self.started = False
        self._stop = threading.Event()

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def plan(self, ask: int, tell: int) -> dict[str, Any]:
        limits = self.limits
        me = os.geteuid()
        # Older kernels count all processes of a user against the limit, not those inside only.
        # As root the inside has a user id of its own.
        running = 0 if me == 0 else sum(_threads(p, me) for p in psutil.process_iter())
        return {
            "isolation": self.walls,
            "root": self.folder.name,
            "home": "/tmp" if self.walls == "namespaces" else self.folder.name,
            "binds": visible(),
            "uid": 200_000 + os.getpid() % 10_000 * 50 + threading.get_native_id() % 50,
            "disk": limits.disk,
            "ask": ask,
            "tell": tell,
            "command": [sys.executable, "-s", str(HERE / "worker.py")],
            "environment": {
                "PATH": "/usr/bin:/bin",
                "HOME": "/tmp",
                "LANG": "C.UTF-8",
                "MPLBACKEND": "Agg",
                "MPLCONFIGDIR": "/tmp",
                "OMP_NUM_THREADS": "1",
                "OPENBLAS_NUM_THREADS": "1",
                "MKL_NUM_THREADS": "1",
                "PYTHONDONTWRITEBYTECODE": "1",
                "PYTHONPATH": _path_inside(),
            },
            "limits": {
                "CORE": 0,
                "CPU": limits.cpu,
                "AS": limits.address_space,
                "FSIZE": limits.file,
                "NOFILE": limits.files,
                "NPROC": limits.processes + running,
            },
        }

    def start(self, setup: list[str]) -> None:
        """Start the process and run the release copy's own cells in it."""
        self.folder = tempfile.TemporaryDirectory(prefix="course-")
        ask_out, self.asking = os.pipe()
        self.telling, tell_out = os.pipe()
        os.set_blocking(self.asking, False)
        plan = self.plan(ask_out, tell_out)
        command = [sys.executable, "-I", "-S", str(HERE / "jail.py"), json.dumps(plan)]
        self.errors = tempfile.TemporaryFile()  # noqa: SIM115
        self.process = subprocess.Popen(
            command,
            pass_fds=(ask_out, tell_out),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=self.errors,
            cwd="/",
            env={},
        )
        os.close(ask_out)
        os.close(tell_out)
        threading.Thread(target=self._watch, daemon=True).start()
        self.deadline = time.monotonic() + self.limits.start
        reply = self._exchange({"setup": setup})
        if not reply.get("ready"):
            self._fail(f"the sandbox could not import the exercises: {_line(reply.get('error'))}")
        self.started = True

    def ask(self, function: str, cells: list[str], seconds: float | None = None) -> None:
        """Open a question: run the student's cells. All its calls share one deadline."""
        self.deadline = time.monotonic() + (seconds or self.limits.question)
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

    def _exchange(self, message: dict[str, Any]) -> dict[str, Any]:
        if not self.alive:
            self._fail("your code ended the process in which it runs")
        try:
            wire.send(self.asking, message, self.deadline)
            reply = wire.receive(self.telling, self.deadline)
        except TimeoutError:
            self._fail("your code did not finish in the time allowed: does a loop never end?")
        except wire.WireError as error:
            self._fail(f"your code's reply {error}")
        except (EOFError, OSError):
            self._fail("your code ended the process in which it runs")
        if "done" in reply and "end" not in message:
            self._fail("your code ended the process in which it runs")
        return reply

    def _fail(self, text: str) -> None:
        if self.process is not None and not self.started:
            refused = _status(self.process) == REFUSED
            self.errors.seek(0)
            why = _line(self.errors.read()[-300:].decode(errors="replace"))
            text = f"the sandbox {'is refused by the system' if refused else 'died'}: {why}"
        text = self.reason or text
        self.kill()
        raise Misbehaved(text)

    def _watch(self) -> None:
        """Add up the memory of everything inside: limits of the kernel are for one process each."""
        assert self.process is not None
        while not self._stop.wait(0.1):
            used = 0
            for process in _family(self.process.pid):
                try:
                    used += process.memory_info().rss
                except psutil.Error:
                    continue
            if used > self.limits.memory:
                self.reason = "your code used more memory than is allowed, in all its processes"
                _end(self.process.pid)
                return

    def kill(self) -> None:
        """End everything inside, whatever it is doing. May be called twice."""
        self._stop.set()
        if self.process is None:
            return
        if self.process.poll() is None:
            _end(self.process.pid)
        self.process.wait()
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


def _family(pid: int) -> list[psutil.Process]:
    try:
        first = psutil.Process(pid)
        return [first, *first.children(recursive=True)]
    except psutil.Error:
        return []


def _end(pid: int) -> None:
    for process in _family(pid):
        try:
            process.kill()
        except psutil.Error:
            continue


def _threads(process: psutil.Process, user: int) -> int:
    try:
        return int(process.num_threads()) if process.uids().real == user else 0
    except psutil.Error:
        return 0


def _line(text: Any) -> str:
    """One printable line of bounded length, whatever the inside has sent."""
    shown = "".join(c if c.isprintable() else " " for c in str(text)[:300])
    return " ".join(shown.split()) or "nothing that could be read"
