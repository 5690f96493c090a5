"""Files that are either whole or not there: write beside the target, sync, rename."""

import contextlib
import os
import shutil
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import IO

OWNER = socket.gethostname().replace(".", "-")  # temporary files of other machines are not ours to judge


@contextlib.contextmanager
def atomic_file(path: Path, *, durable: bool = True, via: Path | None = None) -> Iterator[IO[bytes]]:
    """A binary stream whose content appears at `path` at once when the block ends without error.

    Args:
        path: the target; its folder is created.
        durable: survive a power cut (fsync). Derived files that a digest guards can do without.
        via: folder of the temporary file, on the same file system; default: the target's.
    """
    temporary = (via or path.parent) / f".{path.name}.{OWNER}.{os.getpid()}-{threading.get_ident()}.tmp"
    try:
        with _create(temporary) as stream:
            yield stream
            if durable:
                stream.flush()
                os.fsync(stream.fileno())
        _rename(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


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


def sweep(folder: Path) -> None:
    """Remove the temporary files of processes of this machine that are no more."""
    for leftover in folder.glob(f".*.{OWNER}.*.tmp"):
        try:
            os.kill(int(leftover.name.rsplit(".", 2)[1].partition("-")[0]), 0)
        except ProcessLookupError:
            leftover.unlink(missing_ok=True)
        except PermissionError:
            continue  # alive, and somebody else's
