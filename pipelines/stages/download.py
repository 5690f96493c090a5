"""Download: the files that a source names -> verified blobs in the cache.

Asked in this order: the cache (hashed again before its first use in a run), the user's own folders,
then the mirror, or without one the publisher and the mirrors that the source lists. What nobody
published a checksum for is trusted on first use and must stay the same from then on.
"""

import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tutti.datasets.addresses import Credentials
from tutti.datasets.archive import gunzip
from tutti.datasets.errors import IntegrityError, StorageError, TryLaterError, UsageError
from tutti.datasets.locks import READ_ONLY, lock
from tutti.datasets.manifest import digest_of
from tutti.datasets.source import LocalFile, RemoteFile, inputs_of, remotes_of
from tutti.pipelines.acquisition.http import NotFound, discard, fetch_file
from tutti.pipelines.acquisition.origins import Origins, http_rules, is_http, mirror_path, mirror_sums, mirror_url
from tutti.pipelines.acquisition.own_audio import find_file
from tutti.pipelines.acquisition.own_copy import receive_own
from tutti.pipelines.cache import results
from tutti.pipelines.cache.soundness import DAMAGE, Blob, hash_file
from tutti.pipelines.cache.store import Cache
from tutti.pipelines.engine.progress import reporter
from tutti.pipelines.rows import SourceFiles

_SHA256 = re.compile(rb'"sha256":"([0-9a-f]{64})"')


@dataclass(frozen=True)
class ExpectedChecksums:
    """Checksums that are known of a file before it is fetched."""

    sha256: str | None
    md5: str | None
    verified_by: str


class MissingFileError(UsageError):
    """No origin has a file."""


def download(
    source: str, *, configs: Mapping[str, Any], origins: Origins, cache: Cache, progress: Path | None = None
) -> SourceFiles:
    """Fetch all remote files of a source into the cache.

    Args:
        source: its name.
        configs: of all sources.
        origins: where they may come from.
        cache: where they go.
        progress: folder of the build's tallies; takes the bytes fetched so far.

    Raises:
        UsageError: no origin has a file that is needed.
        IntegrityError: a checksum differs.
        StorageError: the network or the disk failed.
        TryLaterError: a server asks to come back later, or refuses us.
    """
    remotes = remotes_of(source, configs[source])
    files = (_download(source, remote, origins, cache, progress) for remote in remotes)
    return SourceFiles(source, tuple(file for file in files if file is not None), inputs_of(source, configs[source]))


def _download(
    source: str, remote: RemoteFile, origins: Origins, cache: Cache, progress: Path | None
) -> LocalFile | None:
    """Fetch one remote file; None where it is optional and no origin has it."""
    try:
        return download_file(source, remote, origins, cache, progress)
    except MissingFileError:
        if not remote.optional:
            raise
        return None


def download_file(
    source: str, remote: RemoteFile, origins: Origins, cache: Cache, progress: Path | None = None
) -> LocalFile:
    """Fetch one remote file; see `download`."""
    # Of two builds the second finds what the first fetched. Where nothing can be written, nothing is to be kept apart.
    with lock(cache.lock_path(remote.url), unless=READ_ONLY):
        blob, verified_by, resolved = _obtain(source, remote, origins, cache, progress)
        # Garbage collection keeps what a result names.
        cache.remember("download", digest_of(remote.url), {"url": remote.url, "sha256": blob.sha256})
    path = cache.blob_path(blob.sha256)
    if remote.url.endswith((".tgz", ".tar.gz")):
        path = cache.derived("gunzip", blob.sha256, partial(gunzip, path, label=remote.url))
    return LocalFile(source, remote, path, blob.sha256, blob.num_bytes, verified_by, resolved)


def _obtain(
    source: str, remote: RemoteFile, origins: Origins, cache: Cache, progress: Path | None
) -> tuple[Blob, str, str]:
    pins = pins_of(remote, origins, cache)
    if pins.sha256 is not None and (path := cache.verified_blob(pins.sha256)):
        return Blob(pins.sha256, pins.md5 or "", path.stat().st_size), pins.verified_by, ""
    if own := find_file(origins.own_roots, remote, pins.sha256):
        blob = _own(own.path, cache, label=str(own.path), sha256=own.sha256, md5=None)
        return blob, own.verified_by, ""
    if origins.mirror is None:
        blob, resolved = _from_upstream(source, remote, pins, cache, progress)
    else:
        blob, resolved = _from_mirror(source, remote, origins, pins, cache, progress), ""
    if pins.md5 is not None:
        cache.remember("download", f"md5-{pins.md5}", {"sha256": blob.sha256})
    return blob, pins.verified_by, resolved


def pins_of(remote: RemoteFile, origins: Origins, cache: Cache) -> ExpectedChecksums:
    """Collect the checksums that a file must have: the mirror's, else those in the source's code."""
    if listed := mirror_sums(origins, cache).get(mirror_path(remote.url)):
        return ExpectedChecksums(listed, None, "mirror")
    if remote.sha256 is not None:
        return ExpectedChecksums(remote.sha256, None, "sha256")
    if remote.md5 is not None:
        return ExpectedChecksums(known_by_md5(remote.url, remote.md5, cache), remote.md5, "md5")
    seen = None if _is_folder(origins.mirror) else seen_first(_address(remote, origins), cache)
    return ExpectedChecksums(seen, None, "first use")


def known_by_md5(url: str, md5: str, cache: Cache) -> str | None:
    """Find the sha256 of the blob that has a published md5, if it is here.

    Where that is not remembered any more, the blobs that were remembered for the file are hashed: what has the md5 is
    the file, whoever named it.
    """
    known = cache.result("download", f"md5-{md5}")
    if known is not None:
        return str(known["sha256"])
    for key in (f"md5-{md5}", digest_of(url)):
        with suppress(OSError):
            for sha256 in _SHA256.findall(cache.result_bytes("download", key) or b""):
                path = cache.verified_blob(sha256.decode())
                if path is not None and hash_file(path).md5 == md5:
                    cache.remember("download", f"md5-{md5}", {"sha256": sha256.decode()})
                    return str(sha256.decode())
    return None


def seen_first(url: str, cache: Cache) -> str | None:
    """Recall the checksum that a file had when it was first used; None: it was not used yet.

    Raises:
        IntegrityError: what was remembered is damaged: another file must not take its place unseen.
    """
    key = digest_of(url)
    try:
        content = cache.result_bytes("first_use", key)
        if content is None:
            return None
        try:
            return str(results.decode("first_use", key, content)["sha256"])
        except results.OlderResultError:  # if it is wrong, the file does not fit it
            return str(results.decode_older("first_use", content)["sha256"])
    except (OSError, results.DamagedResultError) as error:
        if isinstance(error, OSError) and error.errno not in DAMAGE:
            raise
        problem = error.strerror if isinstance(error, OSError) else error
        raise IntegrityError(
            f"{url}: the checksum remembered at its first use is damaged ({problem}), and nobody published one; look "
            f"at what is there now; to accept it: python -m pipelines.cache forget {url}"
        ) from error


def _address(remote: RemoteFile, origins: Origins) -> str:
    return remote.url if origins.mirror is None else mirror_url(origins.mirror, mirror_path(remote.url))


def _is_folder(mirror: str | None) -> bool:
    return mirror is not None and not is_http(mirror)


def _from_mirror(
    source: str, remote: RemoteFile, origins: Origins, pins: ExpectedChecksums, cache: Cache, progress: Path | None
) -> Blob:
    mirror, path = str(origins.mirror), mirror_path(remote.url)
    missing = (
        f"{source}: the mirror lacks {path}; put the file there (from {remote.url}), pass it with --data-from, "
        "or build without --mirror"
    )
    if not is_http(mirror):
        file = Path(mirror) / path
        if not file.is_file():
            raise MissingFileError(missing)
        return _own(file, cache, label=remote.url, sha256=pins.sha256, md5=pins.md5)
    try:
        return receive_url(mirror_url(mirror, path), pins, cache, progress, credentials=origins.credentials)
    except NotFound as error:
        raise MissingFileError(missing) from error


def _from_upstream(
    source: str, remote: RemoteFile, pins: ExpectedChecksums, cache: Cache, progress: Path | None
) -> tuple[Blob, str]:
    """Fetch from the publisher, else from the first listed mirror that works; the first failure is the one raised."""
    failures: list[Exception] = []
    for url in (remote.url, *remote.mirrors):
        try:
            blob = receive_url(url, pins, cache, progress, hosts=remote.redirect_hosts, label=remote.url)
            return blob, url if url != remote.url else ""
        except (NotFound, IntegrityError, StorageError, TryLaterError) as error:
            failures.append(error)
    first = next((failure for failure in failures if not isinstance(failure, NotFound)), None)
    if first is not None:
        raise first
    raise MissingFileError(
        f"{source}: {remote.url} does not exist any more; look for a copy and pass it with --data-from or --mirror"
    )


def receive_url(
    url: str,
    pins: ExpectedChecksums,
    cache: Cache,
    progress: Path | None,
    *,
    hosts: tuple[str, ...] = (),
    label: str | None = None,
    credentials: Credentials = Credentials(),  # noqa: B008 - frozen
) -> Blob:
    """Fetch a URL into the cache, resuming what an earlier attempt left.

    Raises:
        NotFound: the server has no such file.
        IntegrityError: the bytes are not what the pins say, or not what they were at their first use.
    """
    part = cache.part_path(url)
    fetch_file(url, part, rules=http_rules(cache, hosts, credentials), progress=_progress_callback(progress, url))
    on_first_use = pins.verified_by == "first use"
    blob = cache.receive_file(part, label=label or url, sha256=None if on_first_use else pins.sha256, md5=pins.md5)
    discard(part)
    if on_first_use:
        _pin_first_use(label or url, blob, pins, cache)
    return blob


def _pin_first_use(url: str, blob: Blob, pins: ExpectedChecksums, cache: Cache) -> None:
    if pins.sha256 is not None and pins.sha256 != blob.sha256:
        raise IntegrityError(
            f"{url}: has changed since its first use: sha256 was {pins.sha256}, is {blob.sha256}; nobody published a "
            f"checksum, so look at both; to accept the new one: python -m pipelines.cache forget {url}"
        )
    cache.remember("first_use", digest_of(url), {"url": url, "sha256": blob.sha256})


def _own(path: Path, cache: Cache, *, label: str, sha256: str | None, md5: str | None) -> Blob:
    """Copy a file of the user's own; its blob is hashed before it is used."""
    return receive_own(path, replace(cache, wary=True), label=label, sha256=sha256, md5=md5)


def _progress_callback(progress: Path | None, url: str) -> Callable[[int, int | None], None]:
    if progress is None:
        return lambda done, total: None
    return partial(reporter(progress).transfer, urlsplit(url).path.rpartition("/")[2])
