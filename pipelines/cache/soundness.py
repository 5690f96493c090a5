"""Checks of the cache's files against the digests in their names; damaged ones go to the quarantine.

A file is hashed before its first use in a process, and looked at only (size, time of change) from then on.
"""

import contextlib
import errno
import hashlib
import logging
import os
from dataclasses import dataclass
from pathlib import Path

from tutti.datasets.bounded import CHUNK_BYTES
from tutti.datasets.errors import StorageError
from tutti.datasets.files import open_plain, remove
from tutti.datasets.heartbeat import beat
from tutti.datasets.manifest import digest_of, stream_sha256

# What the system says of a file that is there and of no use: another one is to be made in its place.
DAMAGE = (
    errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.EINVAL, errno.ENXIO,
    errno.EACCES, errno.EPERM, errno.EIO, errno.ESTALE,
)  # fmt: skip
UNREADABLE = "unreadable"  # in place of the digest of a file that is none, or that nobody can read

_log = logging.getLogger(__name__)
# Files that this process has hashed: (path, size, modification time in ns). Never kept longer: the
# time says that nobody wrote to the file, but a bad disk changes it all the same.
_verified: set[tuple[str, int, int]] = set()
_rechecked: set[tuple[str, int, int]] = set()  # the same, hashed once more after a member could not be read


@dataclass(frozen=True)
class Blob:
    """A file of the cache."""

    sha256: str
    md5: str
    num_bytes: int


def hash_file(path: Path) -> Blob:
    """Compute digests and size of a file, read in blocks."""
    digest_sha256, digest_md5, num_bytes = hashlib.sha256(), hashlib.md5(usedforsecurity=False), 0
    with os.fdopen(open_plain(path), "rb") as stream:
        while chunk := stream.read(CHUNK_BYTES):
            beat()
            digest_sha256.update(chunk)
            digest_md5.update(chunk)
            num_bytes += len(chunk)
    return Blob(digest_sha256.hexdigest(), digest_md5.hexdigest(), num_bytes)


def settled_sha256(path: Path) -> str:
    """Hash a file (sha256) until it was not replaced meanwhile: another process may have healed it."""
    while True:
        identity = _identity(path)
        with os.fdopen(open_plain(path), "rb") as stream:
            found = stream_sha256(stream)
        if _identity(path) == identity:
            return found


def mismatch(blob: Blob, sha256: str | None, md5: str | None) -> str | None:
    """Describe what differs from the known digests; None if nothing does."""
    for kind, expected, found in (("sha256", sha256, blob.sha256), ("md5", md5, blob.md5)):
        if expected is not None and expected != found:
            return f"{kind} is {found}, expected {expected}"
    return None


def quarantine(root: Path, path: Path, *, label: str, found: str) -> Path:
    """Move a file aside for inspection, and remove what was put aside under this label before.

    Args:
        root: of the cache.
        path: the file, in the cache; or whatever lies in its place.
        label: what it should have been.
        found: sha256 of what it is, or a word for it.

    Raises:
        FileNotFoundError: it is not there.
        StorageError: the system does not let us.
    """
    stem = digest_of(label)[:32]
    target = root / "quarantine" / f"{stem}.{found[:16]}"
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            path.replace(target)
        except FileNotFoundError:
            raise
        except OSError:  # another file system, or something else has that name
            remove(target)
            remove(path)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise StorageError(
            f"{path}: is damaged and cannot be put aside ({error.strerror}); ask whose file it is to remove it, or "
            "choose another --cache-dir"
        ) from error
    with contextlib.suppress(OSError):  # somebody else's
        os.utime(target, follow_symlinks=False)  # the grace of `gc` counts from now
    for older in target.parent.glob(f"{stem}.*"):
        if older != target:
            with contextlib.suppress(OSError):
                remove(older)
    return target


def put_aside(root: Path, path: Path, *, label: str, found: str) -> None:
    """Move a damaged file into the quarantine, unless another process did, and log it."""
    with contextlib.suppress(FileNotFoundError):
        _verified.discard(_identity(path))
    with contextlib.suppress(FileNotFoundError):
        kept = quarantine(root, path, label=label, found=found)
        _log.warning("cache: %s was damaged (sha256 %s), kept as %s; making it again", label, found, kept)


def is_sound(root: Path, path: Path, sha256: str, label: str) -> bool:
    """Whether a file is there and has this digest; a damaged one is put into the quarantine."""
    try:
        if _identity(path) in _verified:
            return True
        found = settled_sha256(path)
        if found == sha256:
            trust(path)
            return True
    except FileNotFoundError:  # also: another process has just put it aside
        return False
    except OSError as error:
        if error.errno not in DAMAGE:
            raise
        found = UNREADABLE
    put_aside(root, path, label=label, found=found)
    return False


def is_sound_still(root: Path, path: Path, sha256: str, label: str) -> bool:
    """Whether a file is sound, hashed once more in this process: it may have rotted since."""
    with contextlib.suppress(FileNotFoundError):
        if (identity := _identity(path)) in _rechecked:
            return True
        _verified.discard(identity)
        _rechecked.add(identity)
    return is_sound(root, path, sha256, label)


def trust(path: Path) -> None:
    """Note that this process has hashed a file and found it sound."""
    with contextlib.suppress(FileNotFoundError):
        _verified.add(_identity(path))


def _identity(path: Path) -> tuple[str, int, int]:
    status = path.stat()
    return str(path), status.st_size, status.st_mtime_ns
