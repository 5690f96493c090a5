"""The user's own files (`--data-from`, folders of mirrors) as blobs: each is read and copied once, until it changes.

How a file looked (size, inode, device, times) when it was hashed is remembered with its digest, by its path. While it
looks the same, and its blob is there, it is not read again; the blob is hashed when it is used. A file that had
changed just before it was read may have changed again without looking otherwise, so that is not remembered.
"""

import hashlib
import os
import time
from collections.abc import Callable
from pathlib import Path

from tutti.datasets.files import clock_of
from tutti.datasets.manifest import digest_of
from tutti.datasets.record import Seconds
from tutti.pipelines.acquisition.origins import read_file
from tutti.pipelines.cache.soundness import Blob, mismatch
from tutti.pipelines.cache.store import Cache

CODE_VERSION = 1  # raise it when decoders count other samples
STAGE = "own"
SETTLED_S = 2.0  # no file system's time stamps are coarser (FAT)


def receive_own(path: Path, cache: Cache, *, label: str, sha256: str | None = None, md5: str | None = None) -> Blob:
    """Copy a file of the user's own into the cache, unless an unchanged copy is there.

    Args:
        path: the file; links are followed.
        cache: takes the copy.
        label: what errors call it.
        sha256: what it must be; None: not known.
        md5: likewise.

    Raises:
        IntegrityError: a digest differs; nothing is stored.
        OSError: it cannot be read.
    """
    look, key = look_of(path), _key(path)
    known = _known(look, key, cache) if md5 is None else None
    if known is not None and mismatch(known, sha256, None) is None and cache.has_blob(known.sha256):
        return known
    now_s = min(clock_of(cache.incoming), time.time())  # before it is read
    # Its digest guards the copy, and the original is here: no sync.
    blob = cache.receive(read_file(path), label=label, sha256=sha256, md5=md5, durable=False)
    if look_of(path) == look and max(look[1], look[2]) < (now_s - SETTLED_S) * 1e9:
        cache.remember(STAGE, key, {"look": look, "sha256": blob.sha256, "num_bytes": blob.num_bytes})
    return blob


def look_of(path: Path) -> list[int]:
    """Read what changes with a file: size, times of content and inode in ns, inode, device; it is not opened."""
    status = os.stat(path)
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino, status.st_dev]


def _key(path: Path) -> str:
    return digest_of(os.fsencode(path.absolute()).hex())  # a name may be no UTF-8


def _known(look: list[int], key: str, cache: Cache) -> Blob | None:
    known = cache.result(STAGE, key)
    return Blob(known["sha256"], "", known["num_bytes"]) if known is not None and known["look"] == look else None


def measure_length(data: bytes, *, cache: Cache, probe: Callable[[bytes], Seconds]) -> Seconds:
    """Decode the length in seconds of a file's audio by `probe`, and remember it by the file's content."""
    duration_s = probe(data)
    cache.remember("own_length", _length_key(hashlib.sha256(data).hexdigest()), {"duration_s": duration_s})
    return duration_s


def known_length(path: Path, sha256: str | None, cache: Cache) -> Seconds | None:
    """Recall the length in seconds of a file that was received and measured before and has not changed.

    Args:
        path: the file.
        sha256: what it must be; None: not known.
        cache: what was received and measured.
    """
    try:
        known = _known(look_of(path), _key(path), cache)
    except OSError:
        return None
    if known is None or mismatch(known, sha256, None) is not None:
        return None
    length = cache.result("own_length", _length_key(known.sha256))
    return None if length is None else float(length["duration_s"])


def _length_key(sha256: str) -> str:
    return digest_of([CODE_VERSION, sha256])
