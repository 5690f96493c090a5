"""Signs of life of this process: they tell a watch over a build what is slow from what stands still.

`beat()` belongs into loops that may take minutes (bytes of an archive, fits of a model), `pause()` takes the place of a
long `time.sleep`, `waiting()` goes around a wait for somebody else. Who holds a lock for long says so by `holding()`:
while this process gets on, the lock file's time moves, and whoever waits for it sees that.
"""

import contextlib
import os
import threading
import time
from collections.abc import Iterator

_beats = 0
_waits: dict[int, str] = {}  # thread -> what it waits for
_pauses: set[int] = set()  # threads that sleep for a time that they know
_held: dict[int, None] = {}  # descriptors of lock files


def beat() -> None:
    """Count a step. Costs 50 ns; two threads may lose one of two steps, which changes nothing."""
    global _beats
    _beats += 1


def beats() -> int:
    """Return how many steps this process has counted."""
    return _beats


@contextlib.contextmanager
def waiting(what: str) -> Iterator[None]:
    """Register what this thread waits for within the block; shown if the wait is long."""
    thread = threading.get_ident()
    _waits[thread] = what
    try:
        yield
    finally:
        _waits.pop(thread, None)


def wait_of(thread: int) -> str | None:
    """Return what a thread waits for, or None where it registered nothing."""
    return _waits.get(thread)


def pause(seconds: float, what: str = "the end of a pause") -> None:
    """Sleep; a pause is no standstill, however long it is."""
    thread = threading.get_ident()
    _pauses.add(thread)
    try:
        with waiting(what):
            time.sleep(seconds)
    finally:
        _pauses.discard(thread)


def is_pausing() -> bool:
    """Whether a thread of this process sleeps in `pause`."""
    return bool(_pauses)


@contextlib.contextmanager
def holding(descriptor: int) -> Iterator[None]:
    """Hold a lock file, whose time `show_holding` moves within the block."""
    _held[descriptor] = None
    try:
        yield
    finally:
        _held.pop(descriptor, None)


def show_holding() -> None:
    """Move the times of the lock files that this process holds. Call it only while the process gets on."""
    for descriptor in list(_held):
        with contextlib.suppress(OSError):  # closed meanwhile, or a file system that does not let us
            os.utime(descriptor)
