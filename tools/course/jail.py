"""Take everything away that a submission does not need, then become its interpreter.

    python -I -S jail.py '{"binds": [...], ...}'      (started by `sandbox`, never by hand)

Linux namespaces, without root where the kernel lets users make them: an empty file system into
which the interpreter, its packages and the system's libraries are mounted read-only; a network
without interfaces; a table of processes of its own, so that all die when the first does; no
privileges, and none to be had; hard limits on memory, CPU, files, file sizes and processes; and the
system calls of `syscalls` refused. As root the program becomes a user id that owns nothing instead.

Bubblewrap would do the first half. It is not on most machines and needs root to come there, and it
knows neither limits nor which system calls to refuse.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import json
import os
import re
import resource
import signal
import stat
import sys
from pathlib import Path
from typing import Any

if __package__:
    from course import syscalls
else:  # started as a script, with -I, by `sandbox`
    sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
    import syscalls

_libc = ctypes.CDLL(None, use_errno=True)
_SYS_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}
_SYS_CAPSET = {"x86_64": 126, "aarch64": 91}

NEWNS, NEWUTS, NEWIPC = 0x20000, 0x4000000, 0x8000000
NEWUSER, NEWPID, NEWNET = 0x10000000, 0x20000000, 0x40000000
RDONLY, NOSUID, NODEV, NOEXEC, REMOUNT, BIND, REC, PRIVATE = 1, 2, 4, 8, 32, 4096, 16384, 1 << 18
DETACH = 2
PDEATHSIG, DUMPABLE, CAPBSET_DROP, NO_NEW_PRIVS = 1, 4, 24, 38
INSIDE = 1000  # the user id as the submission sees it
REFUSED = 97  # exit status when the kernel does not let us build the walls


def _call(name: str, *arguments: Any) -> None:
    if getattr(_libc, name)(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}{arguments}: {os.strerror(number)}")


def _system_call(table: dict[str, int], *arguments: Any) -> None:
    _call("syscall", ctypes.c_long(table[os.uname().machine]), *arguments)


def mount(source: str, target: str, kind: str | None, flags: int, options: str = "") -> None:
    """The system call mount(2)."""
    _call(
        "mount",
        source.encode(),
        target.encode(),
        kind.encode() if kind else None,
        ctypes.c_ulong(flags),
        options.encode() or None,
    )


def _mount_points(below: str) -> list[str]:
    """Where something is mounted at or under a path (blanks are written as octal there)."""
    found = []
    for line in Path("/proc/self/mountinfo").read_bytes().splitlines():
        octal = line.split()[4]
        raw = re.sub(rb"\\([0-7]{3})", lambda code: bytes([int(code[1], 8)]), octal)
        point = os.fsdecode(raw)
        if point == below or point.startswith(below + "/"):
            found.append(point)
    return found


def _freeze(point: str, more: int = 0) -> None:
    """Make one mount read-only. Flags that it has must be repeated, or the kernel refuses."""
    has = os.statvfs(point).f_flag
    kept = sum(flag for flag in (NOSUID, NODEV, NOEXEC, 1024, 2048) if has & flag)
    mount("none", point, None, REMOUNT | BIND | RDONLY | NOSUID | kept | more)


def build(plan: dict[str, Any]) -> None:
    """Make the file system of the submission under plan["root"], and change into it."""
    root = plan["root"]
    mount("none", "/", None, REC | PRIVATE)
    mount("tmpfs", root, "tmpfs", NOSUID | NODEV, "size=1m,mode=755")
    for name in ("/dev/shm", "/tmp"):  # first: the repository itself may lie under /tmp
        os.makedirs(root + name)
        options = f"size={plan['disk']},nr_inodes=4096,mode=1777"
        mount("tmpfs", root + name, "tmpfs", NOSUID | NODEV | NOEXEC, options)
    for source in plan["binds"]:
        target = root + source
        if os.path.islink(source):
            os.makedirs(os.path.dirname(target), exist_ok=True)
            if not os.path.lexists(target):
                os.symlink(os.readlink(source), target)
            continue
        if os.path.isdir(source):
            os.makedirs(target, exist_ok=True)
        else:
            os.makedirs(os.path.dirname(target), exist_ok=True)
            Path(target).touch()
        mount(source, target, None, BIND | REC)
        for point in _mount_points(target):
            _freeze(point)
        if not os.statvfs(target).f_flag & os.ST_RDONLY:
            raise OSError(errno.EROFS, f"{source} could not be made read-only")
    for name in ("null", "zero", "random", "urandom"):
        Path(f"{root}/dev/{name}").touch()
        mount(f"/dev/{name}", f"{root}/dev/{name}", None, BIND)
    os.mkdir(root + "/proc")


def enter(root: str) -> None:
    """Make the new file system the only one. What was there before cannot be reached again."""
    os.chdir(root)
    _system_call(_SYS_PIVOT_ROOT, b".", b".")
    _call("umount2", b".", DETACH)
    os.chdir("/")


def own_users(uid: int, gid: int) -> None:
    """Map this user into the user namespace just made, in which no other can be made."""
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"{INSIDE} {uid} 1")
    Path("/proc/self/gid_map").write_text(f"{INSIDE} {gid} 1")
    Path("/proc/sys/user/max_user_namespaces").write_text("0")  # of this one only


def become(uid: int) -> None:
    """Root turns into a user that owns nothing."""
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)
    _call("prctl", DUMPABLE, 1, 0, 0, 0)  # or /proc/self belongs to root
    try:
        _call("unshare", NEWUSER)
        own_users(uid, uid)
    except OSError:
        return  # where the kernel has no user namespaces, there is nothing to shut


def give_up_privileges() -> None:
    """No capabilities, now or after any exec."""
    for capability in range(64):
        if _libc.prctl(CAPBSET_DROP, capability, 0, 0, 0) != 0:
            break
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)  # version 3, this process
    _system_call(_SYS_CAPSET, header, (ctypes.c_uint32 * 6)())
    _call("prctl", NO_NEW_PRIVS, 1, 0, 0, 0)


def limit(limits: dict[str, int]) -> None:
    """Hard limits, by their names in `resource` without RLIMIT_."""
    for name, value in limits.items():
        resource.setrlimit(getattr(resource, f"RLIMIT_{name}"), (value, value))


def start(plan: dict[str, Any], seccomp: ctypes.CDLL | None = None) -> None:
    """Become the interpreter of the submission: descriptors 3 and 4 are all it has."""
    # To numbers that nobody has: with a fixed one the first could fall on the second.
    ask, tell = (fcntl.fcntl(plan[end], fcntl.F_DUPFD, 10) for end in ("ask", "tell"))
    nothing = os.open("/dev/null", os.O_RDWR)
    for descriptor in (0, 1):  # errors of the start go to `sandbox`; `worker` closes them later
        os.dup2(nothing, descriptor)
    os.dup2(ask, 3, inheritable=True)
    os.dup2(tell, 4, inheritable=True)
    os.closerange(5, 4096)
    os.setsid()
    os.chdir(plan["home"])
    os.nice(5)  # whoever watches must get a turn
    limit(plan["limits"])
    if seccomp is not None:
        syscalls.shut(seccomp)
    os.execve(plan["command"][0], plan["command"], plan["environment"])


def main() -> int:
    plan = json.loads(sys.argv[1])
    _libc.prctl(PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if plan["isolation"] == "process":
        start(plan)
    uid, gid = os.geteuid(), os.getegid()
    try:
        seccomp = syscalls.load()  # while it can be seen
        spaces = NEWNS | NEWPID | NEWNET | NEWIPC | NEWUTS
        _call("unshare", spaces if uid == 0 else spaces | NEWUSER)
        if uid != 0:
            own_users(uid, gid)
        build(plan)
    except OSError as error:
        print(error, file=sys.stderr)
        return REFUSED
    child = os.fork()
    if child:
        for end in ("ask", "tell"):
            os.close(plan[end])
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    try:
        proc = plan["root"] + "/proc"
        try:
            mount("proc", proc, "proc", NOSUID | NODEV | NOEXEC)
        except PermissionError:
            os.chmod(proc, stat.S_IRUSR)  # inside some containers there is none to be had
        enter(plan["root"])
        mount("none", "/", None, REMOUNT | BIND | RDONLY | NOSUID | NODEV)
        if uid == 0:
            become(plan["uid"])
        give_up_privileges()
        _libc.prctl(PDEATHSIG, signal.SIGKILL, 0, 0, 0)  # a change of user id has cleared it
        start(plan, seccomp)
    except OSError as error:
        print(error, file=sys.stderr)
    return REFUSED


if __name__ == "__main__":
    code = main()
    os._exit(code if 0 <= code < 256 else 1)
