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
import fcntl
import hashlib
import json
import logging
import os
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from datasets.errors import IntegrityError, TryLaterError
from datasets.files import OWNER, atomic_file, crash_point, write_file
from datasets.heartbeat import beat
from datasets.manifest import canonical_json, digest_of, file_sha256

CHUNK_BYTES = 1 << 20  # read at once: large enough that system calls cost nothing

_log = logging.getLogger(__name__)
# Files that this process has hashed: (path, size, modification time in ns). Never kept longer: the
# time says that nobody wrote to the file, but a bad disk changes it all the same.
_verified: set[tuple[str, int, int]] = set()


# Results that this process has found, by stage: what a build had to compute.
_remembered: Counter[str] = Counter()

_REFETCH = "the file was damaged or replaced: fetch it again, or correct the checksum"


def num_remembered(stage: str) -> int:
    """How many results of a stage this process has remembered so far."""
    return _remembered[stage]


@dataclass(frozen=True)
class Blob:
    """A file of the cache."""

    sha256: str
    md5: str
    num_bytes: int


def hash_file(path: Path) -> Blob:
    """Digests and size of a file, read in blocks."""
    digest_sha256, digest_md5, num_bytes = hashlib.sha256(), hashlib.md5(usedforsecurity=False), 0
    with path.open("rb") as stream:
        while chunk := stream.read(CHUNK_BYTES):
            beat()
            digest_sha256.update(chunk)
            digest_md5.update(chunk)
            num_bytes += len(chunk)
    return Blob(digest_sha256.hexdigest(), digest_md5.hexdigest(), num_bytes)


def settled_sha256(path: Path) -> str:
    """sha256 of a file that nobody replaced while it was read: another process may have healed it."""
    while True:
        identity = _identity(path)
        found = file_sha256(path)
        if _identity(path) == identity:
            return found


def mismatch(blob: Blob, sha256: str | None, md5: str | None) -> str | None:
    """What differs from the digests that are known, in words; None if nothing does."""
    for kind, expected, found in (("sha256", sha256, blob.sha256), ("md5", md5, blob.md5)):
        if expected is not None and expected != found:
            return f"{kind} is {found}, expected {expected}"
    return None


@dataclass(frozen=True)
class Cache:
    """A folder of blobs and stage results; holds no state, so it can travel to any worker."""

    root: Path

    @contextlib.contextmanager
    def in_use(self) -> Iterator[None]:
        """Hold while a build works with the cache: nothing is collected as garbage meanwhile."""
        with self._lock_file() as lock:
            with contextlib.suppress(OSError):  # a file system without locks: the grace of `gc` must do
                fcntl.flock(lock, fcntl.LOCK_SH)
            yield

    @contextlib.contextmanager
    def exclusive(self) -> Iterator[None]:
        """Hold while files that builds may want are removed.

        Raises:
            TryLaterError: a build uses the cache.
        """
        with self._lock_file() as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise TryLaterError(f"{self.root}: a build uses this cache; try again when it is done") from None
            yield

    def _lock_file(self) -> IO[bytes]:
        self.root.mkdir(parents=True, exist_ok=True)
        return (self.root / ".lock").open("ab")

    @property
    def incoming(self) -> Path:
        """Folder of everything that is not whole yet."""
        return self.root / "incoming"

    def blob_path(self, sha256: str) -> Path:
        """Where a blob lies, or would lie."""
        return self.root / "blobs" / sha256[:2] / sha256

    def blobs_beginning(self, digits: str) -> list[Path]:
        """Blobs whose digest begins with these digits: none, or all but surely one."""
        if len(digits) == 64:
            return [path for path in [self.blob_path(digits)] if path.is_file()]
        return sorted(self.blob_path(digits).parent.glob(f"{digits}*"))

    def has_blob(self, sha256: str) -> bool:
        """Whether a blob is there."""
        return self.blob_path(sha256).is_file()

    def read_blob(self, sha256: str) -> bytes:
        """A blob's content.

        Raises:
            IntegrityError: the content does not have the digest that its name promises; the blob
                is removed, so that the next run makes it again.
        """
        beat()
        path = self.blob_path(sha256)
        content = path.read_bytes()
        found = hashlib.sha256(content).hexdigest()
        if found != sha256:
            path.unlink(missing_ok=True)
            raise IntegrityError(f"cache: blob {sha256} was damaged (sha256 {found}); removed it, run the build again")
        return content

    def put_blob(self, content: bytes) -> str:
        """Store derived bytes; their digest guards them, so no sync."""
        sha256 = hashlib.sha256(content).hexdigest()
        if not self.has_blob(sha256):
            write_file(self.blob_path(sha256), content, durable=False, via=self.incoming)
        return sha256

    def verified_blob(self, sha256: str) -> Path | None:
        """The file of a blob that is what its name promises; None where it is missing or damaged.

        It is hashed before its first use in this process. A damaged one goes to the quarantine,
        so that the caller can make or fetch it again.
        """
        path = self.blob_path(sha256)
        return path if self._is_sound(path, sha256, f"blob {sha256}") else None

    def part_path(self, label: str) -> Path:
        """Where a download grows, over several attempts and processes, before `receive_file` takes it."""
        return self.incoming / f"{digest_of(label)[:32]}.part"

    def lock_path(self, label: str) -> Path:
        """What to lock while a thing of this label is fetched; never removed."""
        return self.root / "locks" / f"{digest_of(label)[:32]}.lock"

    def receive(self, chunks: Iterable[bytes], *, label: str, sha256: str | None, md5: str | None) -> Blob:
        """Store a stream: verified against the digests that are known, then renamed into place.

        Raises:
            IntegrityError: a digest differs; nothing is stored.
        """
        # Named as what `sweep` removes, should this process die between the two renames.
        name = f".{digest_of(label)[:32]}.{OWNER}.{os.getpid()}-{threading.get_ident()}.tmp"
        received = self.incoming / name
        digest_sha256, digest_md5 = hashlib.sha256(), hashlib.md5(usedforsecurity=False)
        num_bytes = 0
        with atomic_file(received) as stream:
            for chunk in chunks:
                stream.write(chunk)
                digest_sha256.update(chunk)
                digest_md5.update(chunk)
                num_bytes += len(chunk)
            blob = Blob(digest_sha256.hexdigest(), digest_md5.hexdigest(), num_bytes)
            if problem := mismatch(blob, sha256, md5):
                raise IntegrityError(f"{label}: {problem}; {_REFETCH}")
        self._place(received, blob)
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
        self._place(path, blob)
        return blob

    def _place(self, path: Path, blob: Blob) -> None:
        target = self.blob_path(blob.sha256)
        target.parent.mkdir(parents=True, exist_ok=True)
        path.replace(target)
        crash_point("renamed", target)
        with contextlib.suppress(FileNotFoundError):
            _verified.add(_identity(target))

    def quarantine(self, path: Path, *, label: str, found: str) -> Path:
        """Put a file aside to look at, and remove what was put aside under this label before.

        Args:
            path: the file, in the cache.
            label: what it should have been.
            found: sha256 of what it is.
        """
        stem = digest_of(label)[:32]
        target = self.root / "quarantine" / f"{stem}.{found[:16]}"
        target.parent.mkdir(parents=True, exist_ok=True)
        path.replace(target)
        os.utime(target)  # the grace of `gc` counts from now
        for older in target.parent.glob(f"{stem}.*"):
            if older != target:
                older.unlink(missing_ok=True)
        return target

    def _is_sound(self, path: Path, sha256: str, label: str) -> bool:
        """Whether a file is there and has this digest; a damaged one is put into the quarantine."""
        try:
            if _identity(path) in _verified:
                return True
            found = settled_sha256(path)
            if found == sha256:
                _verified.add(_identity(path))
                return True
            kept = self.quarantine(path, label=label, found=found)
        except FileNotFoundError:  # also: another process has just put it aside
            return False
        _log.warning("cache: %s was damaged (sha256 %s), kept as %s; making it again", label, found, kept)
        return False

    def derived_path(self, stage: str, sha256: str) -> Path:
        """Where a large file that a stage makes of a blob lies, or would lie."""
        return self.root / "stages" / stage / f"{sha256}.tar"

    def derived(self, stage: str, sha256: str, make: Callable[[IO[bytes]], object]) -> Path:
        """A large file made of the blob `sha256`, hashed before its first use; made again where damaged.

        Args:
            stage: that makes it: "gunzip" makes plain tars, for random access.
            sha256: of the blob.
            make: writes the file to the stream that it is given.
        """
        path = self.derived_path(stage, sha256)
        known = self.result(stage, sha256)
        expected = known.get("sha256") if isinstance(known, dict) else None
        if expected is not None and self._is_sound(path, expected, f"{stage} of {sha256}"):
            return path
        with atomic_file(path, via=self.incoming) as stream:
            make(stream)
        identity = _identity(path)
        self.remember(stage, sha256, {"sha256": file_sha256(path), "num_bytes": identity[1]})
        _verified.add(identity)
        return path

    def archive_path(self, sha256: str) -> Path:
        """The file to open for an archive blob."""
        plain = self.derived_path("gunzip", sha256)
        return plain if plain.is_file() else self.blob_path(sha256)

    def _result_path(self, stage: str, key: str) -> Path:
        return self.root / "stages" / stage / key[:2] / f"{key}.json"

    def result(self, stage: str, key: str) -> Any | None:
        """A remembered result, or None; one that cannot be read counts as absent."""
        try:
            return json.loads(self._result_path(stage, key).read_bytes())
        except (FileNotFoundError, ValueError):
            return None

    def remember(self, stage: str, key: str, result: Any) -> None:
        """Keep a result (JSON) under its key."""
        content = canonical_json(result).encode()
        write_file(self._result_path(stage, key), content, durable=False, via=self.incoming)
        _remembered[stage] += 1

    def forget(self, stage: str, key: str) -> bool:
        """Drop a remembered result; whether there was one."""
        try:
            self._result_path(stage, key).unlink()
        except FileNotFoundError:
            return False
        return True


def _identity(path: Path) -> tuple[str, int, int]:
    status = path.stat()
    return str(path), status.st_size, status.st_mtime_ns


if __name__ == "__main__":
    from pipelines.cache_command import main  # it imports this module under its own name

    sys.exit(main(sys.argv[1:]))
