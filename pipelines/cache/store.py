"""The content-addressed cache: verified blobs, and results of stages by what they depend on.

    blobs/<2>/<sha256>              immutable; renamed into place only when whole
    stages/<stage>/<2>/<key>.json   key = digest of code version, configuration and input digest
    stages/gunzip/<sha256>.tar      derived files that are large: the plain tar of a gzipped tar
    incoming/                       what is not whole yet; downloads resume from here
    quarantine/                     what was whole but wrong, the last one of each, to look at
    locks/                          of downloads

Kill a build anywhere and run it again: what was finished is found here. Several builds, and
several machines on a shared file system, can use one cache: equal names hold equal bytes.

    python -m pipelines.cache {list,verify,gc,forget,availability} --help
"""

import contextlib
import functools
import hashlib
import logging
import os
import stat
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from tutti.datasets.errors import CacheDamageError, IntegrityError, TryLaterError
from tutti.datasets.files import (
    FULL,
    atomic_file,
    crash_point,
    finish,
    read_plain,
    remove,
    temporary_file,
    write_file,
)
from tutti.datasets.heartbeat import beat
from tutti.datasets.locks import READ_ONLY, UNLOCKABLE, LockedError, lock
from tutti.datasets.manifest import digest_of, file_sha256
from tutti.datasets.printable import in_unicode
from tutti.datasets.typed_json import Digest, predicate
from tutti.pipelines.cache import results
from tutti.pipelines.cache.soundness import (
    DAMAGE,
    UNREADABLE,
    Blob,
    hash_file,
    is_sound,
    is_sound_still,
    mismatch,
    put_aside,
    quarantine,
    trust,
)

MAX_READ_BYTES = 4 << 30  # of a blob, at once; a decoder has no more memory either
_log = logging.getLogger(__name__)
# Results that this process has found, by stage: what a build had to compute.
_remembered: Counter[str] = Counter()

_is_digest = predicate(Digest)
_GZIP = b"\x1f\x8b"
_REFETCH = "the file was damaged or replaced: fetch it again, or correct the checksum"


def num_remembered(stage: str) -> int:
    """Count the results of a stage that this process has remembered so far."""
    return _remembered[stage]


@dataclass(frozen=True)
class Cache:
    """A folder of blobs and stage results; holds no state, so it can travel to any worker."""

    root: Path
    wary: bool = False  # damage was met: every blob is hashed before it counts as there

    @contextlib.contextmanager
    def in_use(self) -> Iterator[None]:
        """Hold while a build works with the cache: nothing is collected as garbage meanwhile."""
        # Where there are no locks, or none can be made, the grace of `gc` must do.
        with lock(self.lock, shared=True, unless=(*READ_ONLY, *UNLOCKABLE, *FULL)):
            yield

    @contextlib.contextmanager
    def exclusive(self) -> Iterator[None]:
        """Hold while files that builds may want are removed.

        Raises:
            TryLaterError: a build uses the cache.
        """
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(lock(self.lock, wait_s=0, unless=READ_ONLY))
            except LockedError as error:
                raise TryLaterError(f"{self.root}: a build uses this cache; try again when it is done") from error
            yield

    @property
    def lock(self) -> Path:
        """The file whose lock builds share, and who removes files has for itself."""
        return self.root / ".lock"

    @property
    def incoming(self) -> Path:
        """Folder of everything that is not whole yet."""
        return self.root / "incoming"

    def blob_path(self, sha256: str) -> Path:
        """Name the path of a blob, which may not exist.

        Raises:
            IntegrityError: it is no sha256; a path made of it would lead anywhere.
        """
        if not _is_digest(sha256):
            raise IntegrityError(f"{sha256[:80]!r} is no sha256 (64 lowercase hex digits), so it names no blob")
        return self.root / "blobs" / sha256[:2] / sha256

    def blobs_beginning(self, digits: str) -> list[Path]:
        """Find blobs whose digest begins with these digits: none, or all but surely one."""
        if len(digits) == 64:
            return [path for path in [self.blob_path(digits)] if path.is_file()]
        if len(digits) < 16 or not _is_digest(digits.ljust(64, "0")):
            return []
        return sorted((self.root / "blobs" / digits[:2]).glob(f"{digits}*"))

    def has_blob(self, sha256: str) -> bool:
        """Whether a blob is there."""
        return self.verified_blob(sha256) is not None if self.wary else self.blob_path(sha256).is_file()

    def blob_bytes(self, sha256: str) -> int | None:
        """Read the size of a blob; None where it is not there."""
        path = self.blob_path(sha256)
        try:
            status = path.stat()
        except OSError as error:
            if error.errno not in DAMAGE:
                raise
            return None
        here = stat.S_ISREG(status.st_mode) and (not self.wary or self.verified_blob(sha256) is not None)
        return status.st_size if here else None

    def read_blob(self, sha256: str) -> bytes:
        """Read a blob's content and check its digest.

        Raises:
            CacheDamageError: it is not there, cannot be read, or does not have the digest that its name promises; it
                is put aside, so that it can be made again.
            IntegrityError: it is too large to be read at once.
        """
        beat()
        path = self.blob_path(sha256)
        try:
            content = read_plain(path, MAX_READ_BYTES)
            if len(content) > MAX_READ_BYTES:
                raise IntegrityError(f"cache: blob {sha256} has more than {MAX_READ_BYTES} bytes; leave its file out")
            found = hashlib.sha256(content).hexdigest()
        except OSError as error:
            if error.errno not in DAMAGE:
                raise
            found = UNREADABLE
        if found != sha256:
            self.put_aside(path, label=f"blob {sha256}", found=found)
            raise CacheDamageError(
                f"cache: blob {sha256} was damaged or gone ({found}); run the build again, it is made anew"
            )
        return content

    def put_blob(self, content: bytes) -> str:
        """Store derived bytes; their digest guards them, so no sync."""
        sha256 = hashlib.sha256(content).hexdigest()
        if not self.has_blob(sha256):
            self._write(self.blob_path(sha256), content)
        return sha256

    def verified_blob(self, sha256: str) -> Path | None:
        """Return the file of a sound blob; None where it is missing or damaged.

        It is hashed before its first use in this process. A damaged one goes to the quarantine,
        so that the caller can make or fetch it again.
        """
        path = self.blob_path(sha256)
        return path if is_sound(self.root, path, sha256, f"blob {sha256}") else None

    def part_path(self, label: str) -> Path:
        """Name the path where a download grows, over several attempts and processes, before `receive_file` takes it."""
        return self.incoming / f"{digest_of(label)[:32]}.part"

    def lock_path(self, label: str) -> Path:
        """Name the file to lock while a thing of this label is fetched; never removed."""
        return self.root / "locks" / f"{digest_of(label)[:32]}.lock"

    def receive(
        self, chunks: Iterable[bytes], *, label: str, sha256: str | None, md5: str | None, durable: bool = True
    ) -> Blob:
        """Store a stream: verified against the digests that are known, then renamed into place.

        Args:
            chunks: the content.
            label: what errors call it.
            sha256: what it must be; None: not known.
            md5: likewise.
            durable: survive a power cut (fsync); copies of what is here anyway can do without.

        Raises:
            IntegrityError: a digest differs; nothing is stored.
        """
        label = in_unicode(label)  # it may name a file
        digest_sha256, digest_md5 = hashlib.sha256(), hashlib.md5(usedforsecurity=False)
        num_bytes = 0
        with temporary_file(self.incoming, digest_of(label)[:32], what=label) as (temporary, stream):
            for chunk in chunks:
                stream.write(chunk)
                digest_sha256.update(chunk)
                digest_md5.update(chunk)
                num_bytes += len(chunk)
            blob = Blob(digest_sha256.hexdigest(), digest_md5.hexdigest(), num_bytes)
            if problem := mismatch(blob, sha256, md5):
                raise IntegrityError(f"{label}: {problem}; {_REFETCH}")
            target = self._make_way(self.blob_path(blob.sha256))
            finish(temporary, stream, target, durable=durable)
        trust(target)
        return blob

    def receive_file(self, path: Path, *, label: str, sha256: str | None, md5: str | None) -> Blob:
        """Take a finished file (of `part_path`, same file system): synced, hashed from disk, renamed into place.

        Raises:
            IntegrityError: a digest differs. The file lies in the quarantine, so the next run
                starts from its first byte.
            FileNotFoundError: another process took the file; look for the blob again.
        """
        with path.open("rb") as stream:
            os.fsync(stream.fileno())
        blob = hash_file(path)
        if problem := mismatch(blob, sha256, md5):
            kept = self.quarantine(path, label=label, found=blob.sha256)
            raise IntegrityError(f"{label}: {problem} (sha256 {blob.sha256}, kept as {kept}); {_REFETCH}")
        target = self._make_way(self.blob_path(blob.sha256))
        target.parent.mkdir(parents=True, exist_ok=True)
        path.replace(target)
        crash_point("renamed", target)
        trust(target)
        return blob

    def quarantine(self, path: Path, *, label: str, found: str) -> Path:
        """Move a file of the cache aside; see `soundness.quarantine`."""
        return quarantine(self.root, path, label=label, found=found)

    def put_aside(self, path: Path, *, label: str, found: str) -> None:
        """Move a damaged file into the quarantine, unless another process did, and log it."""
        put_aside(self.root, path, label=label, found=found)

    def _make_way(self, path: Path) -> Path:
        """Move aside what is no folder where the path's folder should be, and a folder where its file should be."""
        if path.parent.exists() and not path.parent.is_dir():
            self.put_aside(path.parent, label=f"folder {path.parent}", found=UNREADABLE)
        if path.is_dir() and not path.is_symlink():
            self.put_aside(path, label=f"file {path}", found=UNREADABLE)
        return path

    def _write(self, path: Path, content: bytes) -> None:
        try:
            write_file(path, content, durable=False, via=self.incoming)
        except (IsADirectoryError, NotADirectoryError, FileExistsError):
            write_file(self._make_way(path), content, durable=False, via=self.incoming)

    def derived_path(self, stage: str, sha256: str) -> Path:
        """Name the path of a large file that a stage makes of a blob; it may not exist."""
        return self.root / "stages" / stage / f"{sha256}.tar"

    def derived(self, stage: str, sha256: str, make: Callable[[IO[bytes]], object]) -> Path:
        """Return a large file made of the blob `sha256`, hashed before its first use; made again where damaged.

        Args:
            stage: that makes it: "gunzip" makes plain tars, for random access.
            sha256: of the blob.
            make: writes the file to the stream that it is given.
        """
        path = self.derived_path(stage, sha256)
        known = self.result(stage, sha256)
        if known is not None and is_sound(self.root, path, known["sha256"], f"{stage} of {sha256}"):
            return path
        with atomic_file(self._make_way(path), via=self.incoming) as stream:
            make(stream)
        self.remember(stage, sha256, {"sha256": file_sha256(path), "num_bytes": path.stat().st_size})
        trust(path)
        return path

    def archive_path(self, sha256: str) -> Path:
        """Choose the file to open for an archive blob: the plain tar that was made of it, if one was."""
        plain = self.derived_path("gunzip", sha256)
        return plain if plain.is_file() and self.result("gunzip", sha256) is not None else self.blob_path(sha256)

    def check_archive(self, sha256: str) -> None:
        """Distinguish damage of the cache from damage of upstream's archive, where a member cannot be read.

        Raises:
            CacheDamageError: the archive, or the plain tar that was made of it, is damaged or gone; it is put aside.
        """
        known = self.result("gunzip", sha256)
        files = [(self.blob_path(sha256), sha256, f"blob {sha256}")]
        if known is not None:
            files.append((self.derived_path("gunzip", sha256), known["sha256"], f"gunzip of {sha256}"))
        for path, expected, label in files:
            if not is_sound_still(self.root, path, expected, label):
                raise CacheDamageError(f"cache: {label} was damaged or gone; run the build again, it is made anew")
        if known is None and read_plain(self.blob_path(sha256), 2).startswith(_GZIP):
            raise CacheDamageError(f"cache: gunzip of {sha256} is gone; run the build again, it is made anew")

    def _result_path(self, stage: str, key: str) -> Path:
        return self.root / "stages" / stage / key[:2] / f"{key}.json"

    def result(self, stage: str, key: str) -> Any | None:
        """Recall a result, of the shape that its stage has (`results.py`); None where there is none.

        One that is damaged, or was written before results had digests, counts as absent.
        """
        path = self._result_path(stage, key)
        try:
            return results.decode(stage, key, read_plain(path, results.MAX_BYTES))
        except (FileNotFoundError, results.OlderResultError):
            return None
        except OSError as error:
            if error.errno not in DAMAGE:
                raise
            problem: object = error.strerror
        except results.DamagedResultError as error:
            problem = error
        _log.warning("cache: %s is damaged (%s); it is made again", path, problem)
        return None

    def result_bytes(self, stage: str, key: str) -> bytes | None:
        """Read a remembered result without any check; None where there is none.

        Raises:
            OSError: it cannot be read.
        """
        try:
            return read_plain(self._result_path(stage, key), results.MAX_BYTES)
        except FileNotFoundError:
            return None

    def remember(self, stage: str, key: str, result: Any) -> None:
        """Keep a result (JSON) under its key; in a cache that cannot be written it is found anew every time."""
        try:
            self._write(self._result_path(stage, key), results.encode(stage, key, result))
        except OSError as error:
            if error.errno not in READ_ONLY:
                raise
            _warn_read_only(self.root)
        _remembered[stage] += 1

    def forget(self, stage: str, key: str) -> bool:
        """Drop a remembered result; whether there was one."""
        path = self._result_path(stage, key)
        was_there = path.exists() or path.is_symlink()
        remove(path)
        return was_there


@functools.cache
def _warn_read_only(root: Path) -> None:
    _log.warning("cache: %s cannot be written by us; what is found is not remembered", root)
