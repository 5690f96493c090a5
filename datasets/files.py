"""Files that are either whole or not there: write beside the target, sync, rename.

Tests end a process in the midst of this: `TUTTI_CRASH_AT=<point>:<pattern>` kills it when a file whose
path fits the pattern reaches the point (written, synced, renamed), `TUTTI_FAIL_AT` lets the disk be full there.
"""

import contextlib
import errno
import fcntl
import fnmatch
import os
import shutil
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from datasets.errors import StorageError
from datasets.heartbeat import beat, holding, waiting
from datasets.os_errors import remedy, words

LOCK_POLL_S = 0.1
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
OWNER = socket.gethostname().replace(".", "-")  # temporary files of other machines are not ours to judge


def default_cache_folder() -> Path:
    """`$TUTTI_CACHE_DIR`, else the XDG cache folder."""
    if folder := os.environ.get("TUTTI_CACHE_DIR"):
        return Path(folder)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tutti"


@contextlib.contextmanager
def atomic_file(path: Path, *, durable: bool = True, via: Path | None = None) -> Iterator[IO[bytes]]:
    """A binary stream whose content appears at `path` at once when the block ends without error.

    Args:
        path: the target; its folder is created.
        durable: survive a power cut (fsync). Derived files that a digest guards can do without.
        via: folder of the temporary file, on the same file system; default: the target's.

    Raises:
        StorageError: the disk is full; the message names the file and the bytes.
    """
    temporary = (via or path.parent) / f".{path.name}.{OWNER}.{os.getpid()}-{threading.get_ident()}.tmp"
    try:
        with _create(temporary) as stream:
            yield stream
            crash_point("written", path)
            if durable:
                stream.flush()
                os.fsync(stream.fileno())
        crash_point("synced", path)
        _rename(temporary, path)
    except BaseException as error:
        full = _disk_full(error, temporary, path)
        temporary.unlink(missing_ok=True)
        if full is not None:
            raise full from error
        raise
    crash_point("renamed", path)


def _disk_full(error: BaseException, temporary: Path, path: Path) -> StorageError | None:
    if not isinstance(error, OSError) or error.errno not in FULL:
        return None
    written = temporary.stat().st_size if temporary.exists() else 0
    free = shutil.disk_usage(temporary.parent).free
    return StorageError(
        f"{path}: {words(error)}; it needs more than {written:,} bytes, the disk has {free:,} free: "
        f"{remedy(error, path)}, then run the same command again, it goes on where it was"
    )


def crash_point(name: str, path: Path) -> None:
    """Where tests end the process or fill the disk; see the head of this file."""
    for variable in ("TUTTI_CRASH_AT", "TUTTI_FAIL_AT"):
        point, _, pattern = os.environ.get(variable, "").partition(":")
        if point != name or not fnmatch.fnmatch(str(path), pattern):
            continue
        if variable == "TUTTI_CRASH_AT":
            os.kill(os.getpid(), signal.SIGKILL)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))


def _create(path: Path) -> IO[bytes]:
    try:
        return path.open("wb")
    except FileNotFoundError:  # its folder; making it first would cost a system call for every file
        path.parent.mkdir(parents=True, exist_ok=True)
        return path.open("wb")


def _rename(temporary: Path, path: Path) -> None:
    try:
        temporary.replace(path)
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.replace(path)


def write_file(path: Path, content: bytes, *, durable: bool = True, via: Path | None = None) -> None:
    """Write a whole file atomically."""
    with atomic_file(path, durable=durable, via=via) as stream:
        stream.write(content)


@contextlib.contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Hold the lock named by a file, over threads and processes; it ends with its holder, however that ends."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+b") as lock:
        take_lock(lock.fileno(), path)
        with holding(lock.fileno()):
            yield


def take_lock(descriptor: int, path: Path, *, shared: bool = False) -> None:
    """Wait for the lock on an open file. While its holder gets on, the waiting counts as progress (`heartbeat`).

    An exclusive lock writes its holder's name into the file.

    Raises:
        OSError: the file system has no locks.
    """
    kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    while not _try_lock(descriptor, kind):
        _wait_for_holder(descriptor, path)
    if not shared:
        with contextlib.suppress(OSError):  # a full disk: the lock holds all the same
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"pid {os.getpid()} on {socket.gethostname()}\n".encode(), 0)


def _wait_for_holder(descriptor: int, path: Path) -> None:
    """Sleep for a moment; for as long as a holder does nothing, it is the same wait."""
    holder = os.pread(descriptor, 200, 0).decode(errors="replace").strip() or "another process"
    before_ns = os.fstat(descriptor).st_mtime_ns
    with waiting(f"the lock {path}, held by {holder}"):
        time.sleep(LOCK_POLL_S)
    if os.fstat(descriptor).st_mtime_ns != before_ns:
        beat()


def _try_lock(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def sync_folder(folder: Path) -> None:
    """Make all files below a folder survive a power cut."""
    for path in sorted(folder.rglob("*")):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextlib.contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """A folder to fill that appears at `path` when the block ends without error; the first one wins."""
    temporary = path.with_name(f".{path.name}.{OWNER}.{os.getpid()}-{threading.get_ident()}.tmp")
    temporary.mkdir(parents=True)
    try:
        yield temporary
        try:
            temporary.rename(path)
        except OSError:
            if not path.is_dir():  # otherwise another process was first, and its folder is as good
                raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextlib.contextmanager
def temporary_folder(parent: Path) -> Iterator[Path]:
    """An empty folder for the length of the block; `sweep` finds those of killed processes."""
    folder = parent / f".folder.{OWNER}.{os.getpid()}-{threading.get_ident()}.tmp"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def sweep(folder: Path) -> None:
    """Remove the temporary files and folders of processes of this machine that are no more."""
    for leftover in folder.glob(f".*.{OWNER}.*.tmp"):
        try:
            os.kill(int(leftover.name.rsplit(".", 2)[1].partition("-")[0]), 0)
        except ProcessLookupError:
            if leftover.is_dir():
                shutil.rmtree(leftover, ignore_errors=True)
            else:
                leftover.unlink(missing_ok=True)
        except PermissionError:
            continue  # alive, and somebody else's
