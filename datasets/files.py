"""Files that are either whole or not there: write beside the target, sync, rename.

What is being written has a name of its own and is held by a lock, so `sweep` can tell what a living process
writes from what a dead one left, whatever their numbers: two containers have the same ones.

Tests end a process in the midst of this: `TUTTI_CRASH_AT=<point>:<pattern>` kills it when a file whose
path fits the pattern reaches the point (written, synced, renamed), `TUTTI_FAIL_AT` lets the disk be full there.
"""

import contextlib
import errno
import fnmatch
import hashlib
import os
import re
import secrets
import shutil
import signal
import socket
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from tutti.datasets.copies import boot_id, fresh_status
from tutti.datasets.environment import default_cache_folder as default_cache_folder  # asked for here ever since
from tutti.datasets.errors import StorageError
from tutti.datasets.locks import is_at, take, try_lock
from tutti.datasets.os_errors import remedy, words

# What a link or a folder of a user's may lead to: nothing, itself, a file, or what may not be read.
UNREACHABLE = (errno.ENOENT, errno.ELOOP, errno.ENOTDIR, errno.EACCES, errno.EPERM, errno.ENAMETOOLONG)
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
LEFT_BEHIND_S = 86_400.0  # what another machine has not touched for a day, nobody writes any more
_TEMPORARY = re.compile(r"\..*\.([0-9a-f]{8})\.[0-9a-f]{16}\.tmp", re.DOTALL)  # group: of which machine
_NAME_CHARACTERS = 40  # of the target's name: with any characters less than the 255 bytes that a name may have


def machine_tag() -> str:
    """Compute eight hex digits that all processes of a running kernel share, in whatever container, and no others."""
    return hashlib.sha256((boot_id() or socket.gethostname()).encode()).hexdigest()[:8]


def temporary_path(folder: Path, name: str) -> Path:
    """Make up a unique name in a folder, in the form that `sweep` recognizes."""
    return folder / f".{name[:_NAME_CHARACTERS]}.{machine_tag()}.{secrets.token_hex(8)}.tmp"


@contextlib.contextmanager
def atomic_file(path: Path, *, durable: bool = True, via: Path | None = None) -> Iterator[IO[bytes]]:
    """Open a binary stream whose content appears at `path` at once when the block ends without error.

    Args:
        path: the target; its folder is created.
        durable: survive a power cut (fsync). Derived files that a digest guards can do without.
        via: folder of the temporary file, on the same file system; default: the target's.

    Raises:
        StorageError: the disk is full; the message names the file and the bytes.
    """
    with temporary_file(via or path.parent, path.name, what=str(path)) as (temporary, stream):
        yield stream
        finish(temporary, stream, path, durable=durable)


@contextlib.contextmanager
def temporary_file(folder: Path, name: str, *, what: str) -> Iterator[tuple[Path, IO[bytes]]]:
    """Create a temporary file; unless `finish` has renamed it, it is removed when the block ends.

    Args:
        folder: where it lies; created if need be.
        name: of what it will be, for people.
        what: it will be, in messages.

    Raises:
        StorageError: the disk is full; the message says what for, and the bytes.
    """
    path, descriptor = _create(folder, name)
    try:
        # The lock belongs to both descriptors: it lasts until the file has its name, and closing tells of a full disk
        # before that.
        stream = os.fdopen(os.dup(descriptor), "wb")
        try:
            yield path, stream
        finally:
            with contextlib.suppress(OSError):  # what is not finished by now, nobody wants
                stream.close()
    except OSError as error:
        if (full := _disk_full(error, path, what)) is not None:
            raise full from error
        raise
    finally:
        path.unlink(missing_ok=True)
        os.close(descriptor)


def finish(temporary: Path, stream: IO[bytes], path: Path, *, durable: bool) -> None:
    """Rename a whole temporary file to its final name, in place of what had it.

    Args:
        temporary: the file, from `temporary_file`.
        stream: into it; closed.
        path: its name; on the same file system, the folder is created if need be.
        durable: survive a power cut (fsync).
    """
    crash_point("written", path)
    if durable:
        stream.flush()
        os.fsync(stream.fileno())
    stream.close()
    crash_point("synced", path)
    _rename(temporary, path)
    crash_point("renamed", path)


def _disk_full(error: OSError, temporary: Path, what: str) -> StorageError | None:
    if error.errno not in FULL:
        return None
    written = temporary.stat().st_size if temporary.exists() else 0
    free = shutil.disk_usage(temporary.parent).free
    return StorageError(
        f"{what}: {words(error)}; it needs more than {written:,} bytes, the disk has {free:,} free: "
        f"{remedy(error, temporary)}, then run the same command again, it goes on where it was"
    )


def crash_point(name: str, path: Path) -> None:
    """End the process or fill the disk here, in tests; see the head of this file."""
    for variable in ("TUTTI_CRASH_AT", "TUTTI_FAIL_AT"):
        point, _, pattern = os.environ.get(variable, "").partition(":")
        if point != name or not fnmatch.fnmatch(str(path), pattern):
            continue
        if variable == "TUTTI_CRASH_AT":
            os.kill(os.getpid(), signal.SIGKILL)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))


def _create(folder: Path, name: str) -> tuple[Path, int]:
    """Create and lock a temporary file for a target of this name; return its path and descriptor."""
    while True:
        path = temporary_path(folder, name)
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        except FileNotFoundError:  # its folder; making it first would cost a system call for every file
            folder.mkdir(parents=True, exist_ok=True)
            continue
        if _hold(descriptor, path):
            return path, descriptor
        os.close(descriptor)


def _hold(descriptor: int, path: Path) -> bool:
    """Lock what was just made; False where a sweep came first and removed it."""
    with contextlib.suppress(OSError):  # a file system without locks: there `sweep` goes by age
        take(descriptor, path)  # a sweep may look at it
    return is_at(descriptor, path)


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


def open_plain(path: Path) -> int:
    """Open a regular file to read, links followed, and return its descriptor.

    Raises:
        OSError: it cannot be opened; EINVAL: it is a folder, a pipe, a device or a socket.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # a pipe would let us wait for ever
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "no file, but a folder, a pipe or a device", str(path))
    return descriptor


def is_folder_entry(entry: os.DirEntry[str]) -> bool:
    """Whether an entry of a folder is a folder, links followed; a link to nowhere or in a circle is none."""
    try:
        return entry.is_dir()
    except OSError as error:
        if error.errno not in UNREACHABLE:
            raise
        return False


def is_file_entry(entry: os.DirEntry[str]) -> bool:
    """Whether an entry of a folder is a regular file, links followed; a link to nowhere or in a circle is none."""
    try:
        return entry.is_file()
    except OSError as error:
        if error.errno not in UNREACHABLE:
            raise
        return False


def read_plain(path: Path, most_bytes: int) -> bytes:
    """Read a file, or the first `most_bytes` + 1 bytes of a longer one.

    Raises:
        OSError: see `open_plain`.
    """
    descriptor = open_plain(path)
    try:
        wanted = min(os.fstat(descriptor).st_size, most_bytes) + 1
        content = os.read(descriptor, wanted)
        if len(content) < wanted - 1:  # one read gives 2 GiB at most
            with os.fdopen(os.dup(descriptor), "rb") as stream:
                content += stream.read(wanted - len(content))
        return content
    finally:
        os.close(descriptor)


def remove(path: Path) -> None:
    """Remove a file, a link, or a folder with all that is in it; nothing where there is none."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


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
    """Make a folder to fill, which appears at `path` when the block ends without error; the first one wins."""
    with temporary_folder(path.parent, path.name) as temporary:
        yield temporary
        try:
            temporary.rename(path)
        except OSError:
            if not path.is_dir():  # otherwise another process was first, and its folder is as good
                raise


@contextlib.contextmanager
def temporary_folder(parent: Path, name: str = "folder") -> Iterator[Path]:
    """Make an empty folder for the length of the block; `sweep` removes those of killed processes."""
    while True:
        folder = temporary_path(parent, name)
        folder.mkdir(parents=True)
        try:
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:  # a sweep came first
            continue
        if _hold(descriptor, folder):
            break
        os.close(descriptor)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(descriptor)


def sweep(folder: Path) -> None:
    """Remove the temporary files and folders that processes left which are no more.

    What a living process holds by its lock stays. A lock tells the truth among all processes of one kernel; what
    another machine made (or an older version of this code, without a lock) goes when it was not touched for a day.
    """
    for leftover in sorted(folder.glob(".*.tmp")):
        # Suppressed: it is gone meanwhile, or not ours to remove.
        with contextlib.suppress(OSError), _unlocked(leftover) as is_free:
            if is_free is not False and ((is_free and _is_of_this_machine(leftover)) or _is_left_behind(leftover)):
                remove(leftover)


def _is_of_this_machine(path: Path) -> bool:
    made_by = _TEMPORARY.fullmatch(path.name)
    return made_by is not None and made_by[1] == machine_tag()


def _is_left_behind(path: Path) -> bool:
    return clock_of(path.parent) - _youngest_s(path) >= LEFT_BEHIND_S


@contextlib.contextmanager
def _unlocked(path: Path) -> Iterator[bool | None]:
    """Lock a file or folder for the block; yields whether that worked, None where it cannot be known."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        raise
    except OSError:
        yield None
        return
    try:
        free: bool | None = None
        with contextlib.suppress(OSError):
            free = try_lock(descriptor, shared=True)
        yield free
    finally:
        os.close(descriptor)


def clock_of(folder: Path) -> float:
    """Read the clock that stamps the files of a folder, in seconds; a file server may have its own."""
    folder.mkdir(parents=True, exist_ok=True)
    return fresh_status(folder).st_mtime


def _youngest_s(path: Path) -> float:
    """Find the last time of writing of a file, or of anything in a folder, in seconds."""
    found = [path.lstat().st_mtime]
    if path.is_dir() and not path.is_symlink():
        found += [below.lstat().st_mtime for below in path.rglob("*")]
    return max(found)
