"""Errors of the operating system, in words: the item, what happened, and a remedy that works."""

import errno
import os
from pathlib import Path

from tutti.datasets.errors import StorageError

_SPACE = "free space"
_PERMISSIONS = "check the permissions"
_DISK = "look at the disk and at what mounts it"
_NETWORK = "check the network"

_REMEDIES: dict[int, str] = {
    errno.ENOSPC: _SPACE,
    errno.EDQUOT: f"{_SPACE} or raise the quota",
    errno.EFBIG: f"{_SPACE} or raise `ulimit -f`, or choose a file system that takes such files",
    errno.EACCES: _PERMISSIONS,
    errno.EPERM: _PERMISSIONS,
    errno.EROFS: f"{_PERMISSIONS}: the file system is mounted read-only",
    errno.EMFILE: "raise `ulimit -n`",
    errno.ENFILE: "raise `ulimit -n`, or fs.file-max of the machine",
    errno.ENOMEM: "free memory",
    errno.EAGAIN: "end other processes or raise `ulimit -u`",
    errno.EXDEV: "put both on one file system",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.EILSEQ: "choose a name that the file system takes",
    errno.ELOOP: "remove the links that lead in a circle",
    errno.EMLINK: "choose another file system: this file has as many links as it may",
    errno.ENOENT: "check the path",
    errno.ENOTDIR: "name a folder: a part of the path is a file",
    errno.EISDIR: "name a file, or move the folder away",
    errno.EEXIST: "move it away",
    errno.ENOTEMPTY: "move away what is in the folder",
    errno.EBUSY: "wait until others have let go of it",
    errno.ETXTBSY: "wait until the program has ended",
    errno.ENOLCK: "choose a file system that has locks",
    errno.EOPNOTSUPP: "choose another file system",
    errno.ENOSYS: "choose another file system",
    errno.EINVAL: "choose another file system or name",
    errno.E2BIG: "name fewer files",
    errno.ENOEXEC: "install the program for this machine",
    errno.EIO: _DISK,
    errno.ESTALE: _DISK,
    errno.ENODEV: _DISK,
    errno.ENXIO: _DISK,
    errno.ENOTCONN: _DISK,
    errno.EUCLEAN: _DISK,
    errno.EBADMSG: _DISK,
    errno.EREMOTEIO: _DISK,
    errno.EHOSTDOWN: _NETWORK,
    errno.EHOSTUNREACH: _NETWORK,
    errno.ENETDOWN: _NETWORK,
    errno.ENETUNREACH: _NETWORK,
    errno.EADDRINUSE: "choose another port",
    errno.EADDRNOTAVAIL: _NETWORK,
}


def storage_error(error: OSError, item: str | Path | None = None, *, then: str = "then run it again") -> StorageError:
    """Make the error to raise for one of the operating system: `item: what happened; remedy, then run it again`.

    Args:
        error: as Python raised it.
        item: what it concerns; default: the file or files that the error names.
        then: what to do after the remedy.
    """
    place = _place(error) if item is None else str(item)
    return StorageError(f"{f'{place}: ' if place else ''}{words(error)}; {remedy(error, item)}, {then}")


def words(error: OSError) -> str:
    """Describe what happened, without number and path."""
    if out_of_inodes(error):
        return "no inodes left on device"
    return error.strerror or str(error) or type(error).__name__


def remedy(error: OSError, item: str | Path | None = None) -> str:
    """Describe what a user can do about it."""
    if _is_network(error):
        return _NETWORK
    if out_of_inodes(error, item):
        return "remove files or make room for more: the file system has bytes, but no inodes left"
    if error.errno is None and isinstance(error, PermissionError):
        return _PERMISSIONS
    return _REMEDIES.get(error.errno or 0, "look at the file and the disk")


def out_of_inodes(error: OSError, item: str | Path | None = None) -> bool:
    """Whether a disk is "full" of files rather than of bytes."""
    if error.errno != errno.ENOSPC:
        return False
    for named in (error.filename, error.filename2, item):
        if isinstance(named, int) or not named:
            continue
        path = Path(os.fsdecode(named)).absolute()
        for folder in (path, *path.parents):
            try:
                status = os.statvfs(folder)
            except OSError:  # not there: what holds it
                continue
            # Where inodes are not counted (btrfs), all of these are 0.
            return status.f_files > 0 and status.f_favail == 0 and status.f_bavail > 0
    return False


def _place(error: OSError) -> str:
    return " -> ".join(
        os.fsdecode(name) for name in (error.filename, error.filename2) if isinstance(name, str | bytes | os.PathLike)
    )


def _is_network(error: OSError) -> bool:
    # An SSLError's number is OpenSSL's; its type is told by its module, as importing ssl takes its time.
    return isinstance(error, ConnectionError | TimeoutError) or type(error).__module__ in ("ssl", "socket")
