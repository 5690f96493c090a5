"""Confine the decoder's process for good, before it reads the first untrusted byte.

Three confinements, each tested alone (`tests/pipelines/decoding/test_confinement.py`):

1. seccomp (x86_64, aarch64): of the kernel's calls only those below are left, all others answer EPERM. They read and
   write what is open, and that is one socket; take and give back memory; wait; and end. None opens, connects, starts,
   signals or looks into anything, none makes a descriptor, none changes a limit.
2. Landlock (Linux 5.13 or newer, any processor): no file is opened or executed, and, as far as the kernel knows how
   to, no TCP connection or abstract socket is made and no other process signalled.
3. Resource limits: no descriptors, processes, threads, file contents, core. They do not bind root.

Not bubblewrap: its namespaces hide files, networks and processes, of which no call is left that could reach them, and
between us and the decoder would stand another process.
"""

import contextlib
import ctypes
import os
import platform
import resource
import struct
import sys
import threading
from collections.abc import Callable, Collection

PR_SET_NAME, PR_SET_NO_NEW_PRIVS = 15, 38  # <sys/prctl.h>
PROCESS_NAME = b"tutti-decoder"

# <linux/seccomp.h>, <linux/audit.h>, <linux/filter.h>
SECCOMP_SET_MODE_FILTER = 1
FILTER_TSYNC, FILTER_SPEC_ALLOW = 1, 4  # all threads; no slower memory on processors that mitigate Spectre
RETURN_ALLOW, RETURN_ERRNO_EPERM = 0x7FFF0000, 0x00050000 | 1
LOAD, JUMP_IF_EQUAL, RETURN = 0x20, 0x15, 0x06
NUMBER_AT, ARCHITECTURE_AT = 0, 4  # of the call, within struct seccomp_data

# What is left, by machine: its AUDIT_ARCH, the number of seccomp itself, and the column below. Calls by another
# convention of the same processor (i386, x32) have another architecture or other numbers: they are refused.
MACHINES = {"x86_64": (0xC000003E, 317, 0), "aarch64": (0xC00000B7, 277, 1)}
CALLS: dict[str, tuple[int, int | None]] = {
    "read": (0, 63), "write": (1, 64), "recvfrom": (45, 207), "sendto": (44, 206), "futex": (202, 98),
    "mmap": (9, 222), "munmap": (11, 215), "mremap": (25, 216), "mprotect": (10, 226), "madvise": (28, 233),
    "brk": (12, 214), "lseek": (8, 62), "fstat": (5, 80), "close": (3, 57), "poll": (7, None), "ppoll": (271, 73),
    "clock_gettime": (228, 113), "clock_getres": (229, 114), "clock_nanosleep": (230, 115), "nanosleep": (35, 101),
    "gettimeofday": (96, 169), "getrandom": (318, 278), "getpid": (39, 172), "getppid": (110, 173),
    "gettid": (186, 178), "getrusage": (98, 165), "times": (100, 153), "sched_yield": (24, 124),
    "sched_getaffinity": (204, 123), "uname": (63, 160), "rt_sigreturn": (15, 139), "restart_syscall": (219, 128),
    "exit": (60, 93), "exit_group": (231, 94),
}  # fmt: skip

# <linux/landlock.h>; the same numbers on all processors.
LANDLOCK_CREATE_RULESET, LANDLOCK_RESTRICT_SELF, LANDLOCK_VERSION = 444, 446, 1
# By version of the kernel's interface: how many rights on files, on the network, of scope there are.
_RIGHTS = {1: (13, 0, 0), 2: (14, 0, 0), 3: (15, 0, 0), 4: (15, 2, 0), 5: (16, 2, 0), 6: (16, 2, 2)}


def confine(memory_bytes: int, watch: Callable[[], None], without: Collection[str] = ()) -> list[str]:
    """Renounce for good what no decoder needs; standard input stays, every other descriptor is closed.

    Args:
        memory_bytes: limit of address space.
        watch: runs in the one other thread; waits for the parent's end.
        without: confinements to leave out, so that each can be tested alone.

    Returns:
        Which of "landlock" and "seccomp" are in force, besides the resource limits.
    """
    confinements = []
    if "landlock" not in without and _landlock():
        confinements.append("landlock")
    threading.Thread(target=watch, daemon=True).start()  # under Landlock too, which binds the threads of its maker
    _limit(memory_bytes)
    if "seccomp" not in without and _seccomp():
        confinements.append("seccomp")
    return confinements


def name_process() -> None:
    """Set the name that `ps` shows."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_NAME, PROCESS_NAME, 0, 0, 0)


def _limit(memory_bytes: int) -> None:
    os.closerange(1, _most_descriptors())
    for kind, most in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NPROC, 0),  # neither processes nor threads
        (resource.RLIMIT_NOFILE, 1),  # standard input is the socket
        (resource.RLIMIT_AS, memory_bytes),
    ):
        hard = resource.getrlimit(kind)[1]
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        with contextlib.suppress(ValueError):  # a system that cannot limit address space
            resource.setrlimit(kind, (most, most))


def _most_descriptors() -> int:
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    return 1 << 20 if most == resource.RLIM_INFINITY else most


def _seccomp() -> bool:
    """Refuse all threads every call but those of CALLS; return whether the kernel does so."""
    machine = MACHINES.get(platform.machine())
    if machine is None or sys.platform != "linux" or ctypes.sizeof(ctypes.c_void_p) != 8 or not _no_new_privileges():
        return False
    architecture, seccomp, column = machine
    numbers = [number for call in CALLS.values() if (number := call[column]) is not None]
    program = filter_program(architecture, numbers)
    content = ctypes.create_string_buffer(program, len(program))
    filters = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(content)))
    flags = (FILTER_TSYNC | FILTER_SPEC_ALLOW, FILTER_TSYNC)  # the second for Linux before 4.17
    return any(_syscall(seccomp, SECCOMP_SET_MODE_FILTER, flag, ctypes.addressof(filters)) == 0 for flag in flags)


def filter_program(architecture: int, numbers: Collection[int]) -> bytes:
    """Assemble a BPF program: EPERM for every call but those of one architecture with these numbers."""
    refuse = len(numbers) + 1  # instructions from behind the first jump to the last but one
    steps = [(LOAD, 0, 0, ARCHITECTURE_AT), (JUMP_IF_EQUAL, 0, refuse, architecture), (LOAD, 0, 0, NUMBER_AT)]
    steps += [(JUMP_IF_EQUAL, len(numbers) - place, 0, number) for place, number in enumerate(numbers)]
    steps += [(RETURN, 0, 0, RETURN_ERRNO_EPERM), (RETURN, 0, 0, RETURN_ALLOW)]
    return b"".join(struct.pack("HBBI", *step) for step in steps)


def _landlock() -> bool:
    """Forbid this thread and those to come all files and connections; return whether the kernel does so."""
    if sys.platform != "linux":
        return False
    version = _syscall(LANDLOCK_CREATE_RULESET, 0, 0, LANDLOCK_VERSION)
    if version < 1 or not _no_new_privileges():
        return False
    handled = _RIGHTS[min(version, max(_RIGHTS))]
    rights = struct.pack("3Q", *((1 << count) - 1 for count in handled))
    rights = rights[: 8 if version < 4 else 16 if version < 6 else 24]  # what this version of the interface knows
    buffer = ctypes.create_string_buffer(rights, len(rights))
    ruleset = _syscall(LANDLOCK_CREATE_RULESET, ctypes.addressof(buffer), len(rights), 0)
    if ruleset < 0:
        return False
    try:
        return _syscall(LANDLOCK_RESTRICT_SELF, ruleset, 0) == 0  # no rule: nothing is allowed
    finally:
        os.close(ruleset)


def _no_new_privileges() -> bool:
    """Set PR_SET_NO_NEW_PRIVS, without which only root may confine itself; return whether it is set."""
    return int(ctypes.CDLL(None).prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)) == 0


def _syscall(number: int, *arguments: int) -> int:
    call = ctypes.CDLL(None).syscall
    call.restype = ctypes.c_long
    return int(call(ctypes.c_long(number), *(ctypes.c_long(argument) for argument in arguments)))
