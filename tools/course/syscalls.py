"""System calls that a submission has no use for, shut by libseccomp.

Namespaces take the machine out of sight, limits bound what a process may use. What is left is the
kernel itself: calls that keep memory where no limit counts it (shared memory, memory files, socket
buffers), that reach into other processes or the keyring, and large parts of the kernel in which
holes are found most often. None of them has a place in an exercise.
"""

from __future__ import annotations

import ctypes
import errno
import os

ALLOW, ERRNO = 0x7FFF0000, 0x00050000
MASKED_EQ = 7
UNKNOWN = -1

SHUT = {
    errno.EAFNOSUPPORT: "socket socketpair",
    errno.ENOSYS: "clone3",  # its flags cannot be looked at: the C library then falls back to clone
    errno.EPERM: """
        memfd_create memfd_secret shmget shmat shmctl msgget semget mq_open
        io_uring_setup io_uring_enter io_uring_register userfaultfd vmsplice
        ptrace process_vm_readv process_vm_writev process_madvise pidfd_getfd kcmp
        keyctl add_key request_key bpf perf_event_open personality syslog
        unshare setns mount umount2 pivot_root chroot mount_setattr
        fsopen fsmount fsconfig fspick open_tree move_mount
        open_by_handle_at name_to_handle_at fanotify_init
        init_module finit_module delete_module kexec_load kexec_file_load reboot
        swapon swapoff acct quotactl clock_settime settimeofday adjtimex clock_adjtime
    """,
}
# Flags of clone that make a namespace.
NEW = (0x20000, 0x2000000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000)


class _Comparison(ctypes.Structure):
    _fields_ = (
        ("argument", ctypes.c_uint),
        ("operator", ctypes.c_int),
        ("mask", ctypes.c_uint64),
        ("value", ctypes.c_uint64),
    )


def load() -> ctypes.CDLL:
    """Returns the library, or raises `OSError` that says how to get it."""
    try:
        library = ctypes.CDLL("libseccomp.so.2", use_errno=True)
    except OSError:
        raise OSError(
            errno.ENOENT, "libseccomp is missing (Debian, Ubuntu: apt install libseccomp2)"
        ) from None
    library.seccomp_init.restype = ctypes.c_void_p
    return library


def shut(library: ctypes.CDLL) -> None:
    """Refuse the calls above in this process and all that it starts, for good."""
    rules = ctypes.c_void_p(library.seccomp_init(ctypes.c_uint32(ALLOW)))

    def refuse(number: int, name: str, *comparisons: _Comparison) -> None:
        call = library.seccomp_syscall_resolve_name(name.encode())
        array = (_Comparison * len(comparisons))(*comparisons)
        action = ctypes.c_uint32(ERRNO | number)
        code = UNKNOWN
        if call != UNKNOWN:
            code = library.seccomp_rule_add_array(rules, action, call, len(comparisons), array)
        if code != 0:
            raise OSError(-code, f"libseccomp cannot shut {name}: {os.strerror(-code)}")

    for number, names in SHUT.items():
        for name in names.split():
            refuse(number, name)
    for flag in NEW:
        refuse(errno.EPERM, "clone", _Comparison(0, MASKED_EQ, flag, flag))
    if (code := library.seccomp_load(rules)) != 0:
        raise OSError(-code, f"seccomp_load: {os.strerror(-code)}")
