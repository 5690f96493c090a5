"""What hostile media could make a decoder do, for tests: there only where TUTTI_SANDBOX_TEST=1.

`with_faults` adds functions that misbehave, and makes files that begin with `sandbox-test:NAME`
do so in place of being decoded: a fault that goes through the whole build.
"""

import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from typing import Any

from pipelines.sandboxed import Answer, Function

MARK = b"sandbox-test:"

_served: list[str] = []  # what this process has been asked for


def with_faults(functions: dict[str, Function]) -> dict[str, Function]:
    """The same functions, which misbehave where a file asks for it, and the faults by their names."""
    return {name: _faulty(function) for name, function in functions.items()} | {
        name: _named(fault) for name, fault in FAULTS.items()
    }


def _faulty(function: Function) -> Function:
    def call(arguments: dict[str, Any], blobs: list[bytes]) -> Answer:
        if blobs and blobs[0].startswith(MARK):
            FAULTS[blobs[0].removeprefix(MARK).split()[0].decode()]()
        return function(arguments, blobs)

    return call


def _named(fault: Callable[[], Any]) -> Function:
    def call(arguments: dict[str, Any], blobs: list[bytes]) -> Answer:
        found = fault()
        _served.append(fault.__name__)
        return {"found": found}, [*blobs] if found is None else []

    return call


def _crash() -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


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


def _open_file() -> str:
    return _refusal(lambda: open("/etc/passwd").close())


def _connect() -> str:
    return _refusal(lambda: socket.socket().close())


def _refusal(attempt: Callable[[], None]) -> str:
    try:
        attempt()
    except OSError as error:
        return type(error).__name__ + f" {error.errno}"
    return "allowed"


def _modules() -> list[str]:
    return sorted(sys.modules)


def _pid() -> int:
    return os.getpid()


FAULTS: dict[str, Callable[[], Any]] = {
    "crash": _crash, "hang": _hang, "spin": _spin, "leak": _leak, "exit": _exit, "lie": _lie, "babble": _babble,
    "flood": _flood, "raise": _raise, "open": _open_file, "connect": _connect,
    "crash if used": _crash_if_used, "modules": _modules, "pid": _pid, "echo": lambda: None,
}  # fmt: skip
