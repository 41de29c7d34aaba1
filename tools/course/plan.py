"""What a sandbox is made of: its limits, what it sees of the machine, and the plan for `jail`."""

from __future__ import annotations

import os
import sys
import sysconfig
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from course.processes import threads_of

HERE = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Limits:
    """What a submission may use. Bytes, seconds, counts.

    `start` and `question` are seconds of processor time, of all processes together; `patience` says
    how many seconds may pass on the clock for each of them. `cpu` is the kernel's own limit for one
    process, should the watch come too late.
    """

    start: float = 60.0
    question: float = 20.0
    patience: float = 15.0
    cpu: int = 120
    address_space: int = 3 * 2**30
    memory: int = 2 * 2**30
    file: int = 16 * 2**20
    disk: int = 32 * 2**20
    files: int = 256
    processes: int = 128


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


def plan(limits: Limits, walls: str, folder: str, ask: int, tell: int) -> dict[str, Any]:
    """What `jail` is told, for JSON. `ask` and `tell` are the inside's ends of the two pipes."""
    me = os.geteuid()
    # Older kernels count all processes of a user against the limit, not those inside only.
    # As root the inside has a user id of its own.
    running = 0 if me == 0 else threads_of(me)
    return {
        "isolation": walls,
        "root": folder,
        "home": "/tmp" if walls == "namespaces" else folder,
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
            "RAYON_NUM_THREADS": "1",
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
