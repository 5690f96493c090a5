"""The content-addressed cache: verified blobs, and results of stages by what they depend on.

    blobs/<2>/<sha256>              immutable; renamed into place only when whole
    stages/<stage>/<2>/<key>.json   key = digest of code version, configuration and input digest
    incoming/                       what is not whole yet

Kill a build anywhere and run it again: what was finished is found here. Several builds, and
several machines on a shared file system, can use one cache: equal names hold equal bytes.
"""

import hashlib
import json
import os
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datasets.errors import IntegrityError
from datasets.files import atomic_file, write_file
from datasets.manifest import canonical_json, digest_of


def default_cache_folder() -> Path:
    """`$TUTTI_CACHE_DIR`, else the XDG cache folder."""
    if folder := os.environ.get("TUTTI_CACHE_DIR"):
        return Path(folder)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tutti"


@dataclass(frozen=True)
class Blob:
    """A file of the cache."""

    sha256: str
    md5: str
    num_bytes: int


@dataclass(frozen=True)
class Cache:
    """A folder of blobs and stage results; holds no state, so it can travel to any worker."""

    root: Path

    @property
    def incoming(self) -> Path:
        """Folder of everything that is not whole yet."""
        return self.root / "incoming"

    def blob_path(self, sha256: str) -> Path:
        """Where a blob lies, or would lie."""
        return self.root / "blobs" / sha256[:2] / sha256

    def has_blob(self, sha256: str) -> bool:
        """Whether a blob is there."""
        return self.blob_path(sha256).is_file()

    def read_blob(self, sha256: str) -> bytes:
        """A blob's content.

        Raises:
            IntegrityError: the content does not have the digest that its name promises; the blob
                is removed, so that the next run makes it again.
        """
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

    def receive(self, chunks: Iterable[bytes], *, label: str, sha256: str | None, md5: str | None) -> Blob:
        """Store a download: verified against the digests that are known, then renamed into place.

        Raises:
            IntegrityError: a digest differs; nothing is stored.
        """
        received = self.incoming / f"{digest_of(label)[:32]}.{os.getpid()}-{threading.get_ident()}"
        digest_sha256, digest_md5 = hashlib.sha256(), hashlib.md5(usedforsecurity=False)
        num_bytes = 0
        with atomic_file(received) as stream:
            for chunk in chunks:
                stream.write(chunk)
                digest_sha256.update(chunk)
                digest_md5.update(chunk)
                num_bytes += len(chunk)
            blob = Blob(digest_sha256.hexdigest(), digest_md5.hexdigest(), num_bytes)
            for kind, expected, found in (("sha256", sha256, blob.sha256), ("md5", md5, blob.md5)):
                if expected is not None and expected != found:
                    raise IntegrityError(
                        f"{label}: {kind} is {found}, expected {expected}; "
                        "the file was damaged or replaced: fetch it again, or correct the checksum"
                    )
        target = self.blob_path(blob.sha256)
        target.parent.mkdir(parents=True, exist_ok=True)
        received.replace(target)
        return blob

    def plain_tar_path(self, sha256: str) -> Path:
        """Where the plain tar of a gzipped tar lies: random access needs it."""
        return self.root / "stages" / "gunzip" / f"{sha256}.tar"

    def archive_path(self, sha256: str) -> Path:
        """The file to open for an archive blob."""
        plain = self.plain_tar_path(sha256)
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
