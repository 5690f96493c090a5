"""A memory of facts about files, valid while a file stays as it is: a large file is hashed once per copy.

    memory = Memory(folder)                  None: what this process knows, no more
    start = memory.start()                   before the file is looked at
    copy = copy_of(os.fstat(descriptor))
    if not memory.holds(copy, claim): ...look at it...; memory.note(copy, claim, start)

A copy is a file's device, inode, size and times, since this machine started: whoever writes to it changes its
`ctime`, and no program can set that back. A clock has ticks: a file that was changed in the tick in which it was
looked at is not remembered. An entry is a small file whose name is the digest of all that it says; one that is
somebody else's, or that others may write, is not believed. Without an entry the file is looked at again, no more.
"""

import functools
import hashlib
import os
import stat
import tempfile
import time
from dataclasses import astuple, dataclass
from pathlib import Path

from tutti.datasets.bounded import CHUNK_BYTES, open_regular
from tutti.datasets.errors import IntegrityError

_OTHER_CLOCK_NS = 3 * 10**9  # where the file system's own clock is not seen: its ticks are at most 2 s (FAT)
_TRIES = 3


@dataclass(frozen=True, slots=True)
class Copy:
    """A file as it is now."""

    device: int
    inode: int
    num_bytes: int
    mtime_ns: int
    ctime_ns: int


@dataclass(frozen=True, slots=True)
class Start:
    """The time at which a check of a file began."""

    device: int | None  # whose clock `clock_ns` is; None: none was seen
    clock_ns: int
    machine_ns: int


_known: set[tuple[Copy, str]] = set()


def copy_of(status: os.stat_result) -> Copy:
    """Identify the copy of a file that a status describes."""
    return Copy(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


@functools.cache
def boot_id() -> str:
    """Read the identifier of the running kernel, new at each boot; empty where there is none (no Linux)."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return ""


def fresh_status(folder: Path) -> os.stat_result:
    """Read the status of a temporary file made in a folder just now: later files there share its device and clock.

    Raises:
        OSError: none can be made.
    """
    with tempfile.TemporaryFile(dir=folder) as file:
        return os.fstat(file.fileno())


@dataclass(frozen=True, slots=True)
class Memory:
    """Claims about copies: of this process, and of a folder where one is given."""

    folder: Path | None = None

    def start(self) -> Start:
        """Take the time, by the clock of the folder's file system where it can be read."""
        device, clock_ns = None, 0
        if self.folder is not None:
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
                status = fresh_status(self.folder)
                device, clock_ns = status.st_dev, status.st_ctime_ns
            except OSError:  # read-only, or full: nothing will be kept there
                pass
        return Start(device, clock_ns, time.time_ns())

    def holds(self, copy: Copy, claim: str) -> bool:
        """Whether a claim was found true of this copy before."""
        if (copy, claim) in _known:
            return True
        if self.folder is None or not boot_id() or not _is_ours(self.folder / _name(copy, claim), _text(copy, claim)):
            return False
        _known.add((copy, claim))
        return True

    def note(self, copy: Copy, claim: str, start: Start) -> None:
        """Remember a claim about a copy that was looked at since `start`; no error where it cannot be kept."""
        clock_ns = start.clock_ns if start.device == copy.device else start.machine_ns - _OTHER_CLOCK_NS
        if max(copy.mtime_ns, copy.ctime_ns) >= clock_ns:  # a change in the same tick would not be seen
            return
        _known.add((copy, claim))
        if self.folder is None or not boot_id():
            return
        path = self.folder / _name(copy, claim)
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with open(descriptor, "wb") as stream:
                stream.write(_text(copy, claim))
            temporary.replace(path)
        except OSError:  # it costs another look
            pass


def _text(copy: Copy, claim: str) -> bytes:
    return (" ".join([boot_id(), *map(str, astuple(copy)), claim]) + "\n").encode()


def _name(copy: Copy, claim: str) -> str:
    return hashlib.sha256(_text(copy, claim)).hexdigest()


def _is_ours(path: Path, text: bytes) -> bool:
    """Whether this user wrote this text there, and no other user could have."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        status = os.fstat(descriptor)
        private = status.st_uid == os.geteuid() and not status.st_mode & 0o022
        return private and stat.S_ISREG(status.st_mode) and os.read(descriptor, len(text) + 1) == text
    except OSError:
        return False
    finally:
        os.close(descriptor)


def file_digest(path: Path, num_bytes: int) -> tuple[Copy, str]:
    """Hash a file of known size once (sha256) and identify the copy; never reads more than it should hold.

    Raises:
        FileNotFoundError: there is none.
        IntegrityError: it is no regular file, has another size, or changes all the time.
    """
    for _ in range(_TRIES):
        with open_regular(path) as stream:
            copy = copy_of(os.fstat(stream.fileno()))
            if copy.num_bytes != num_bytes:
                raise IntegrityError(
                    f"{path}: has {copy.num_bytes:,} bytes, the manifest says {num_bytes:,}; "
                    "run pipelines.verify --repair"
                )
            digest, left = hashlib.sha256(), num_bytes
            while left and (block := stream.read(min(left, CHUNK_BYTES))):
                digest.update(block)
                left -= len(block)
            if copy == copy_of(os.fstat(stream.fileno())) == copy_of(path.stat()):
                return copy, digest.hexdigest()
    raise IntegrityError(f"{path}: changes while it is read; run the same command again when nothing writes to it")
