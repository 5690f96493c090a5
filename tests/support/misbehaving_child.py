"""A decoder's process that misbehaves: tests put `COMMAND` in the place of `pipelines.decoding.process.CHILD`.

`with_faults` adds functions that misbehave, and makes files that begin with `sandbox-test:NAME`
do so in place of being decoded: a fault that goes through the whole build.
"""

import contextlib
import ctypes
import errno
import os
import resource
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from tutti.pipelines.decoding import child
from tutti.pipelines.decoding.frames import Answer, Function, Send

COMMAND = ("misbehaving_child",)  # a module, and confinements to leave out; Python must find it (PYTHONPATH)
MARK = b"sandbox-test:"

_served: list[str] = []  # faults that this process was called for


def with_faults(functions: dict[str, Function]) -> dict[str, Function]:
    """Make functions misbehave where a file asks for it, and add the faults by their names."""
    return (
        {name: _faulty(function) for name, function in functions.items()}
        | {name: _named(fault) for name, fault in FAULTS.items()}
        | {"attempt": _attempt, "parts": _parts}
    )


def _faulty(function: Function) -> Function:
    def call(arguments: dict[str, Any], blobs: list[bytes], send: Send) -> Answer:
        if blobs and blobs[0].startswith(MARK):
            FAULTS[blobs[0].removeprefix(MARK).split()[0].decode()]()
        return function(arguments, blobs, send)

    return call


def _named(fault: Callable[[], Any]) -> Function:
    def call(arguments: dict[str, Any], blobs: list[bytes], send: Send) -> Answer:
        found = fault()
        _served.append(fault.__name__)
        return {"found": found}, [*blobs] if found is None else []

    return call


def _crash() -> None:
    ctypes.string_at(0)


def _crash_if_used() -> str:
    if _served:
        _crash()
    return "fresh"


def _hang() -> None:
    time.sleep(3600)


def _spin() -> None:
    while True:
        pass


def _leak() -> None:
    leaked: list[bytearray] = []
    while len(leaked) < 20 * 1024:
        leaked.append(bytearray(b"x") * (1 << 20))  # 20 GiB, every page of it touched


def _exit() -> None:
    os._exit(0)


def _lie() -> None:
    os.write(0, b"\xff\xff\xff\xff" + b"x" * 100)  # a frame of 4 GiB
    time.sleep(3600)


def _babble() -> None:
    os.write(0, b"\x00\x00\x00\x05[[[[[")


def _flood() -> None:
    os.write(0, b'\x00\x00\x00\x29{"header": {}, "blobs": [99999999999999]}')
    while True:
        os.write(0, bytes(1 << 16))


def _raise() -> None:
    raise ZeroDivisionError("not foreseen")


def _modules() -> list[str]:
    return sorted(sys.modules)


def _variables() -> list[str]:
    return sorted(os.environ)


def _pid() -> int:
    return os.getpid()


FAULTS: dict[str, Callable[[], Any]] = {
    "crash": _crash, "hang": _hang, "spin": _spin, "leak": _leak, "exit": _exit, "lie": _lie, "babble": _babble,
    "flood": _flood, "raise": _raise, "crash if used": _crash_if_used, "modules": _modules, "variables": _variables,
    "pid": _pid, "echo": lambda: None,
}  # fmt: skip


def _parts(arguments: dict[str, Any], blobs: list[bytes], send: Send) -> Answer:
    """Send `count` parts of the same content."""
    for number in range(arguments["count"]):
        send({"number": number}, blobs)
    return {}, []


# --- what code in the decoder might try

_SYSCALLS = {  # x86_64, aarch64
    "ptrace": (101, 117), "process_vm_readv": (310, 270), "io_uring_setup": (425, 425), "clone3": (435, 435),
    "memfd_create": (319, 279), "bpf": (321, 280), "unshare": (272, 97), "openat2": (437, 437),
    "pidfd_open": (434, 434), "userfaultfd": (323, 282), "seccomp": (317, 277), "execveat": (322, 281),
}  # fmt: skip
PTRACE_ATTACH = 16


def _syscall(name: str, *arguments: Any) -> None:
    number = _SYSCALLS[name][os.uname().machine == "aarch64"]
    if ctypes.CDLL(None, use_errno=True).syscall(ctypes.c_long(number), *arguments) < 0:
        raise OSError(ctypes.get_errno(), name)


def _free_descriptors() -> None:
    """Close all descriptors but the socket, so that new ones have room."""
    for descriptor in range(1, 64):
        with contextlib.suppress(OSError):
            os.close(descriptor)


def _write(path: str) -> None:
    with open(path, "w") as stream:
        stream.write("stolen")


def _connect(kind: socket.AddressFamily, address: Any) -> None:
    with socket.socket(kind, socket.SOCK_STREAM) as client:
        client.connect(address)


def _thread() -> None:
    threading.Thread(target=_pid).start()


def _fork() -> None:
    if not (pid := os.fork()):
        os._exit(0)
    os.waitpid(pid, 0)


def _raise_limits() -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (4_096, 4_096))


def _other_convention() -> None:
    """Call open() by the convention of x32, which has the same architecture."""
    if ctypes.CDLL(None, use_errno=True).syscall(ctypes.c_long(0x40000000 | 2), b"/etc/passwd", 0) < 0:
        raise OSError(ctypes.get_errno(), "x32")


# Name -> what is tried with arguments of the test: `path` (a file to write), `port` and `unix` (servers), `pid`.
ATTEMPTS: dict[str, Callable[[Mapping[str, Any]], object]] = {
    "open to read": lambda given: open("/etc/passwd").close(),
    "open to write": lambda given: _write(given["path"]),
    "open itself anew": lambda given: open("/proc/self/fd/0", "rb").close(),
    "open by openat2": lambda given: _syscall("openat2", -100, b"/etc/passwd", bytes(24), 24),
    "list a folder": lambda given: os.listdir("/"),
    "look at a file": lambda given: os.stat("/etc/passwd"),
    "make a folder": lambda given: os.mkdir(given["path"]),
    "remove a file": lambda given: os.remove(given["path"]),
    "rename a file": lambda given: os.rename(given["path"], given["path"] + ".moved"),
    "change the mode": lambda given: os.chmod(given["path"], 0o777),
    "change the folder": lambda given: os.chdir("/"),
    "open a socket": lambda given: socket.socket().close(),
    "open a datagram socket": lambda given: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).close(),
    "open a socket pair": lambda given: socket.socketpair(),
    "connect to loopback": lambda given: _connect(socket.AF_INET, ("127.0.0.1", given["port"])),
    "connect to a unix socket": lambda given: _connect(socket.AF_UNIX, given["unix"]),
    "connect the open socket": lambda given: socket.socket(fileno=os.dup(0)).connect(given["unix"]),
    "duplicate the socket": lambda given: os.dup(0),
    "make a pipe": lambda given: os.pipe(),
    "make a file in memory": lambda given: _syscall("memfd_create", b"x", 0),
    "execute": lambda given: os.execv("/bin/true", ["true"]),
    "execute by descriptor": lambda given: _syscall("execveat", 0, b"/bin/true", None, None, 0),
    "fork": lambda given: _fork(),
    "start a thread": lambda given: _thread(),
    "clone": lambda given: _syscall("clone3", bytes(64), 64),
    "kill the parent": lambda given: os.kill(given["pid"], signal.SIGTERM),
    "kill all": lambda given: os.kill(-1, 0),
    "stop itself": lambda given: os.kill(os.getpid(), signal.SIGSTOP),
    "trace the parent": lambda given: _syscall("ptrace", PTRACE_ATTACH, given["pid"], 0, 0),
    "read the parent's memory": lambda given: _syscall("process_vm_readv", given["pid"], None, 0, None, 0, 0),
    "name the parent by descriptor": lambda given: _syscall("pidfd_open", given["pid"], 0),
    "ask io_uring": lambda given: _syscall("io_uring_setup", 1, bytes(120)),
    "load a program into the kernel": lambda given: _syscall("bpf", 0, bytes(64), 64),
    "enter a namespace": lambda given: _syscall("unshare", 0x10000000),
    "handle page faults": lambda given: _syscall("userfaultfd", 0),
    "filter anew": lambda given: _syscall("seccomp", 1, 0, None),
    "raise its limits": lambda given: _raise_limits(),
    "ignore the end of its time": lambda given: signal.signal(signal.SIGXCPU, signal.SIG_IGN),
    "open by another convention": lambda given: _other_convention(),
}


def _attempt(arguments: dict[str, Any], blobs: list[bytes], send: Send) -> Answer:
    """Try something; with `free`, after closing what is open and raising limits."""
    if arguments.get("free"):
        _free_descriptors()
        with contextlib.suppress(OSError, ValueError):
            _raise_limits()
    return {"found": attempted(arguments["what"], arguments)}, []


def attempted(what: str, given: Mapping[str, Any]) -> str:
    """Try something that the kernel should refuse; return "allowed" or the error's name."""
    try:
        ATTEMPTS[what](given)
    except (OSError, ValueError, RuntimeError) as error:
        number = getattr(error, "errno", None)
        return errno.errorcode.get(number, type(error).__name__) if number else f"{type(error).__name__}: {error}"
    return "allowed"


if __name__ == "__main__":
    child.main(int(sys.argv[-1]), decorate=with_faults, without=sys.argv[1:-1])
