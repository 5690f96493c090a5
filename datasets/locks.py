"""Locks over threads, processes and containers: a flock on a file, which ends with its holder, however that ends.

    with lock(path): ...                    waits for whoever holds it
    with lock(path, shared=True): ...       beside others who share it
    with lock(path, wait_s=0): ...          LockedError, which names the holder

While a holder gets on, waiting for it counts as progress (`heartbeat`).
"""

import contextlib
import errno
import fcntl
import math
import os
import socket
import stat
import time
from collections.abc import Collection, Iterator
from pathlib import Path

from tutti.datasets.heartbeat import beat, holding, waiting
from tutti.datasets.record import Seconds

POLL_S = 0.1  # where a lock is held for long; one that is held for a moment is had after a moment
_FIRST_POLL_S = 0.001
MAX_HOLDER = 4096  # bytes of a lock file that are read
READ_ONLY = (errno.EACCES, errno.EPERM, errno.EROFS)
UNLOCKABLE = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)  # file systems without locks


class LockedError(Exception):
    """Somebody else holds the lock.

    Attributes:
        holder: "pid 12 on host", as it says itself.
    """

    def __init__(self, holder: str) -> None:
        super().__init__(holder)
        self.holder = holder


@contextlib.contextmanager
def lock(
    path: Path,
    *,
    shared: bool = False,
    wait_s: Seconds = math.inf,
    owner: bool = True,
    vanishes: bool = False,
    unless: Collection[int] = (),
    flags: int = os.O_RDWR | os.O_CREAT,
) -> Iterator[int]:
    """Hold the lock of a file within the block; yields its descriptor.

    Args:
        path: of the file; where it is created, so is its folder.
        shared: beside others who share it.
        wait_s: at most, for whoever holds it.
        owner: an exclusive holder writes its name into the file; False: the file holds something else.
        vanishes: the file goes with its holder; whoever waits for it sees that, and makes a new one.
        unless: errors of the system with which nothing is held instead, and -1 yielded. If files that cannot be
            written are among them, one that is there is locked all the same.
        flags: of os.open.

    Raises:
        LockedError: somebody else still holds it after `wait_s`.
        OSError: it is no file, cannot be opened or created, or the file system has no locks.
    """
    try:
        descriptor = _taken(path, shared, wait_s, flags, names=owner, fall_back=errno.EACCES in unless)
    except OSError as error:
        if error.errno not in unless:
            raise
        yield -1
        return
    try:
        if shared or not owner:
            yield descriptor
            return
        with contextlib.suppress(OSError):  # a full disk, a file that cannot be written: it is held all the same
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"pid {os.getpid()} on {socket.gethostname()}\n".encode(), 0)
        with holding(descriptor):
            yield descriptor
    finally:
        # What it guarded is done: a lock that cannot be returned goes with the process.
        with contextlib.suppress(OSError):
            if vanishes:
                path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            release(descriptor)
        with contextlib.suppress(OSError):
            os.close(descriptor)


def try_lock(descriptor: int, *, shared: bool = False) -> bool:
    """Take the lock on an open file if it is free; return whether it was.

    Raises:
        OSError: the file system has no locks.
    """
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def take(descriptor: int, path: Path, *, shared: bool = False, wait_s: Seconds = math.inf, names: bool = False) -> None:
    """Wait for the lock of an open file.

    Args:
        descriptor: of the file.
        path: of it, for messages.
        shared: beside others who share it.
        wait_s: at most.
        names: holders write their names into the file.

    Raises:
        LockedError: somebody else still holds it.
        OSError: the file system has no locks.
    """
    until_s, poll_s = time.monotonic() + wait_s, _FIRST_POLL_S
    while not try_lock(descriptor, shared=shared):
        holder = (_name_in(descriptor) if names else "") or "another process"
        if time.monotonic() >= until_s:
            raise LockedError(holder)
        before_ns = os.fstat(descriptor).st_mtime_ns
        with waiting(f"the lock {path}, held by {holder}"):  # for as long as a holder does nothing, it is the same wait
            time.sleep(poll_s)
        poll_s = min(2 * poll_s, POLL_S)
        if os.fstat(descriptor).st_mtime_ns != before_ns:
            beat()


def release(descriptor: int) -> None:
    """Return the lock of an open file: closing does not, where a child was forked meanwhile and has the file too."""
    fcntl.flock(descriptor, fcntl.LOCK_UN)


def is_at(descriptor: int, path: Path) -> bool:
    """Whether an open file or folder still has its name."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False


def _taken(path: Path, shared: bool, wait_s: Seconds, flags: int, *, names: bool, fall_back: bool) -> int:
    while True:
        descriptor = _open(path, flags, fall_back=fall_back)
        try:
            take(descriptor, path, shared=shared, wait_s=wait_s, names=names)
            if is_at(descriptor, path):
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)  # of a file that its holder removed: a lock on it keeps nobody out


def _open(path: Path, flags: int, *, fall_back: bool) -> int:
    flags |= os.O_CLOEXEC | os.O_NONBLOCK  # a pipe would let us wait for ever
    try:
        if flags & os.O_CREAT:
            path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, flags, 0o666)
    except OSError as error:
        if not fall_back or error.errno not in READ_ONLY:
            raise
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError:
            raise error from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "is no file; remove it", str(path))
    return descriptor


def _name_in(descriptor: int) -> str:
    return os.pread(descriptor, MAX_HOLDER, 0).decode(errors="replace").strip()
