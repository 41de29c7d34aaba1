"""Inside the sandbox: run the cells of a submission and call its functions.

Nothing here is trusted, and nothing here knows a test or an answer. The process imports what the
release copy imports, once; then it forks for each question, so that questions cannot spoil one
another. Requests come on descriptor 3, replies go on 4; a submission that writes to them itself
only changes its own values, which are judged outside.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from typing import Any

import wire

ASK, TELL = 3, 4
PR_SET_DUMPABLE = 4
_SHOWN = 300


def told(error: BaseException) -> str:
    """An exception in one line, as a report can show it."""
    try:
        text = f"{type(error).__name__}: {error}"
    except BaseException:  # a submission may raise what cannot even be printed
        text = "an exception that cannot be shown"
    return text[:_SHOWN]


def run(sources: list[str], names: dict[str, Any]) -> str | None:
    """Execute cells one after another; what went wrong, or None."""
    for source in sources:
        try:
            exec(compile(source, "<your cell>", "exec"), names)
        except BaseException as error:  # SystemExit and KeyboardInterrupt too
            return told(error)
    return None


def answer(request: dict[str, Any], names: dict[str, Any]) -> None:
    """Serve one question, in a process of its own."""
    problem = run(request["cells"], names)
    function = names.get(request["function"])
    if problem is None and not callable(function):
        problem = f"after your cells ran there is no function {request['function']}"
    wire.send(TELL, {"ran": problem is None, "error": problem})
    while True:
        call = wire.receive(ASK)
        if "end" in call:
            return
        try:
            reply = {"value": wire.encode(function(*wire.decode(call["call"])))}
        except BaseException as error:
            reply = {"error": told(error)}
        try:
            wire.send(TELL, reply)
        except wire.WireError as error:
            wire.send(TELL, {"error": told(error)})


def main() -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)
    names: dict[str, Any] = {"__name__": "__main__"}
    problem = run(wire.receive(ASK)["setup"], names)
    os.dup2(1, 2)  # what a submission prints goes nowhere, and errors of the start have been said
    reachable(False)
    wire.send(TELL, {"ready": problem is None, "error": problem})
    while True:
        request = wire.receive(ASK)
        if "stop" in request:
            return
        child = os.fork()
        if child == 0:
            status = 1
            try:
                reachable(True)
                answer(request, names)
                status = 0
            finally:
                os._exit(status)
        os.waitpid(child, 0)
        if os.getpid() == 1:  # the first process of the sandbox: nothing is left running
            with_nobody_left()
        wire.send(TELL, {"done": True})


def reachable(yes: bool) -> None:
    """Whether others may look into this process, by /proc or as its debugger."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, int(yes), 0, 0, 0)


def with_nobody_left() -> None:
    try:
        os.kill(-1, signal.SIGKILL)
        while True:
            os.waitpid(-1, 0)
    except (ProcessLookupError, ChildProcessError):
        return


if __name__ == "__main__":
    sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
    main()
