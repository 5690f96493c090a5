"""Stage 1, download: remote files and videos -> verified blobs in the cache.

A mirror is a folder or an http(s) address that holds every URL at `ROOT/<host>/<path>`, scheme
and query dropped; `www.youtube.com/watch/<id>.<ext>` holds a video's whole audio. The SHA256SUMS
of a mirror replaces the pinned checksums, and the manifest says so.
"""

import functools
import gzip
import hashlib
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, cast
from urllib.parse import parse_qs, quote, urlsplit

import requests

from datasets.errors import IntegrityError, StorageError, TryLaterError, UsageError
from datasets.files import atomic_file
from datasets.record import Media, Recording, Rejected
from datasets.source import LocalFile, RemoteFile, load_source
from pipelines.cache import Blob, Cache

USER_AGENT = "tutti/0.1 (music dataset builder; requests)"  # Zenodo answers default agents with 403
HEADERS = {"User-Agent": USER_AGENT, "Accept-Encoding": "identity"}  # a .tgz must arrive as it is
TIMEOUT_S = (10.0, 60.0)  # connect, read
ATTEMPTS = 4
CHUNK_BYTES = 1 << 20
VIDEO_EXTENSIONS = ("webm", "m4a", "opus", "ogg", "mp3", "flac", "wav", "mp4", "mka")


@dataclass(frozen=True)
class Origins:
    """Where bytes may come from."""

    mirror: str | None = None  # folder or http(s) address
    sums_sha256: str = ""  # of the mirror's SHA256SUMS when the build began; empty: it has none
    local_roots: tuple[tuple[str, str], ...] = ()  # source name -> folder of the user's own audio


@dataclass(frozen=True)
class SourceFiles:
    """A source whose remote files are all in the cache."""

    source: str
    files: tuple[LocalFile, ...]


def download(source: str, *, origins: Origins, cache: Cache) -> SourceFiles:
    """Bring all remote files of a source into the cache.

    Raises:
        UsageError: the mirror lacks a file.
        IntegrityError: a checksum differs.
        StorageError: the network or the disk failed.
    """
    remotes = load_source(source).REMOTES
    return SourceFiles(source, tuple(download_file(source, remote, origins, cache) for remote in remotes))


def download_file(source: str, remote: RemoteFile, origins: Origins, cache: Cache) -> LocalFile:
    """One remote file; found in the cache where a trusted sha256 says that it is the same."""
    listed = mirror_sums(origins).get(mirror_path(remote.url))
    expected, md5 = (listed, None) if listed else (remote.sha256, remote.md5)
    verified_by = "mirror" if listed else "sha256" if remote.sha256 else "md5" if remote.md5 else "first use"
    if expected is None and md5 is not None:
        known = cache.result("download", _pin_key(remote))
        expected = known["sha256"] if known else None
    if expected is not None and cache.has_blob(expected):
        size = cache.blob_path(expected).stat().st_size
        blob = Blob(expected, md5 or "", size)
    else:
        chunks = _open_url(remote.url, origins.mirror)
        if chunks is None:
            raise UsageError(_not_found(source, remote, origins))
        blob = cache.receive(chunks, label=remote.url, sha256=expected, md5=md5)
        if md5 is not None:
            cache.remember("download", _pin_key(remote), {"sha256": blob.sha256})
    if remote.url.endswith((".tgz", ".tar.gz")):
        _gunzip(cache, blob.sha256, remote.url)
    path = cache.archive_path(blob.sha256)
    return LocalFile(source, remote, path, blob.sha256, blob.num_bytes, verified_by)


def _not_found(source: str, remote: RemoteFile, origins: Origins) -> str:
    if origins.mirror is None:
        return f"{source}: {remote.url} does not exist any more; look for a copy and pass it with --mirror"
    path = mirror_path(remote.url)
    return f"{source}: the mirror lacks {path}; put the file there (from {remote.url}), or build without --mirror"


def _pin_key(remote: RemoteFile) -> str:
    return f"md5-{remote.md5}"


def _gunzip(cache: Cache, sha256: str, url: str) -> None:
    target = cache.plain_tar_path(sha256)
    if target.is_file():
        return
    try:
        with gzip.open(cache.blob_path(sha256)) as packed, atomic_file(target, via=cache.incoming) as plain:
            while chunk := packed.read(CHUNK_BYTES):
                plain.write(chunk)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise IntegrityError(f"{url}: not a readable .tgz ({error}); fetch it again") from error


def fetch(recording: Recording, *, origins: Origins, cache: Cache) -> Recording | list[Rejected]:
    """Bring the media of one recording into the cache, unless it lies in an archive there."""
    media = recording.media
    if media.sha256 is not None:
        return recording
    found = _open_media(media, origins, cache)
    if found is None:
        reason, detail = _absence(media, origins)
        return [
            Rejected(clip, stage="download", reason=reason, detail=detail, status="gone") for clip in recording.clips
        ]
    chunks, expected = found
    if expected is not None and cache.has_blob(expected):
        return replace(recording, media=replace(media, sha256=expected))
    try:
        blob = cache.receive(chunks, label=media.url, sha256=expected, md5=None)
    except IntegrityError as error:
        return [Rejected(clip, stage="download", reason="checksum", detail=str(error)) for clip in recording.clips]
    return replace(recording, media=replace(media, sha256=blob.sha256))


def _absence(media: Media, origins: Origins) -> tuple[str, str]:
    if origins.mirror is None:
        raise UsageError(f"{media.url}: fetching videos from the network is not built yet; pass --mirror ROOT")
    return "not_in_mirror", f"{mirror_path(media.url)}.*"


def _open_media(media: Media, origins: Origins, cache: Cache) -> tuple[Iterator[bytes], str | None] | None:
    scheme, _, rest = media.url.partition(":")
    roots = dict(origins.local_roots)
    if scheme in roots:
        return _read_file(Path(roots[scheme]) / rest), None
    if origins.mirror is None:
        return None
    stem = mirror_path(media.url)
    sums = mirror_sums(origins)
    for extension in VIDEO_EXTENSIONS:
        path = f"{stem}.{extension}"
        # Over http only the listing tells the extension; a folder can also be asked directly.
        if path not in sums and (is_http(origins.mirror) or not (Path(origins.mirror) / path).is_file()):
            continue
        expected = sums.get(path)
        if expected is not None and cache.has_blob(expected):
            return iter(()), expected
        chunks = _open_mirrored(origins.mirror, path)
        if chunks is not None:
            return chunks, expected
    return None


def mirror_path(url: str) -> str:
    """Where a mirror holds a URL: `<host>/<path>`; a YouTube id counts as the last path part."""
    parts = urlsplit(url)
    video = parse_qs(parts.query).get("v", [""])[0] if parts.path == "/watch" else ""
    return f"{parts.netloc}{parts.path}" + (f"/{video}" if video else "")


def origins_of(mirror: str | None, local_roots: tuple[tuple[str, str], ...] = ()) -> Origins:
    """Origins with the state of the mirror's SHA256SUMS as it is now."""
    sums = None if mirror is None else _sums_file(mirror)
    return Origins(mirror, "" if sums is None else hashlib.sha256(sums).hexdigest(), local_roots)


@functools.lru_cache(maxsize=4)
def mirror_sums(origins: Origins) -> dict[str, str]:
    """The SHA256SUMS of a mirror: path -> digest; empty without a mirror or without the file.

    Raises:
        IntegrityError: the file changed since the build began, or a line is not `<64 hex digits>  <path>`.
    """
    content = None if origins.mirror is None or not origins.sums_sha256 else _sums_file(origins.mirror)
    if content is None:
        return {}
    if hashlib.sha256(content).hexdigest() != origins.sums_sha256:
        raise IntegrityError(f"{origins.mirror}/SHA256SUMS: changed while the build ran; run it again")
    sums = {}
    for number, line in enumerate(content.decode("utf-8", errors="replace").splitlines(), start=1):
        digest, _, path = line.partition(" ")
        if len(digest) != 64 or not set(digest) <= set("0123456789abcdef") or not path.lstrip(" *"):
            raise IntegrityError(f"{origins.mirror}/SHA256SUMS:{number}: expected '<sha256>  <path>', got {line!r}")
        sums[path.lstrip(" *").removeprefix("./")] = digest
    return sums


def _sums_file(mirror: str) -> bytes | None:
    chunks = _open_mirrored(mirror, "SHA256SUMS")
    return None if chunks is None else b"".join(chunks)


def is_http(address: str) -> bool:
    """Whether a mirror is an address rather than a folder."""
    return address.startswith(("http://", "https://"))


def _open_url(url: str, mirror: str | None) -> Iterator[bytes] | None:
    return _get(url) if mirror is None else _open_mirrored(mirror, mirror_path(url))


def _open_mirrored(mirror: str, path: str) -> Iterator[bytes] | None:
    if is_http(mirror):
        return _get(f"{mirror.rstrip('/')}/{quote(path)}")
    file = Path(mirror) / path
    return _read_file(file) if file.is_file() else None


def _read_file(path: Path) -> Iterator[bytes]:
    with path.open("rb") as stream:
        while chunk := stream.read(CHUNK_BYTES):
            yield chunk


def _get(url: str) -> Iterator[bytes] | None:
    """Body of a GET, or None where the server says that there is no such thing (404, 410)."""
    for attempt in range(ATTEMPTS):
        if attempt:
            time.sleep(2**attempt)
        try:
            response = requests.get(url, stream=True, timeout=TIMEOUT_S, headers=HEADERS)
        except requests.RequestException as error:
            problem = str(error)
            continue
        if response.status_code in (404, 410):
            return None
        if response.status_code == 200:
            return _body(response, url)
        problem = f"HTTP status {response.status_code}"
        if response.status_code < 500 and response.status_code != 429:
            break
    if problem.endswith("429"):
        raise TryLaterError(f"{url}: {problem}, too many requests; try again later, or pass --mirror with a copy")
    raise StorageError(f"{url}: {problem}; try again later, or pass --mirror with a copy")


def _body(response: requests.Response, url: str) -> Iterator[bytes]:
    """Chunks of a response; urllib3 raises where the body is shorter than Content-Length."""
    raw = cast(IO[bytes], response.raw)
    raw.enforce_content_length = True  # type: ignore[attr-defined]
    try:
        yield from response.iter_content(CHUNK_BYTES)
    except requests.RequestException as error:
        raise StorageError(f"{url}: the connection broke ({error}); run the build again") from error
