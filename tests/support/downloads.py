"""One remote file and one video, and the mirrors that hold them."""

import hashlib
from pathlib import Path

from rows import clip

from tutti.datasets.record import Media, Recording, Rejected
from tutti.datasets.source import LocalFile, RemoteFile
from tutti.pipelines.acquisition.origins import Origins, with_sums
from tutti.pipelines.cache.store import Cache
from tutti.pipelines.stages.download import download_file
from tutti.pipelines.stages.fetch import fetch

URL = "https://zenodo.org/records/7/files/labels.csv"
PATH = "zenodo.org/records/7/files/labels.csv"
BODY = b"key,label\na,1\n"
SHA256 = hashlib.sha256(BODY).hexdigest()
MD5 = hashlib.md5(BODY).hexdigest()

VIDEO = Media("https://www.youtube.com/watch?v=-abc_DEF123")
VIDEO_STEM = "www.youtube.com/watch/-abc_DEF123"


def put(mirror: Path, path: str, content: bytes) -> None:
    """Put a file into a folder mirror."""
    (mirror / path).parent.mkdir(parents=True, exist_ok=True)
    (mirror / path).write_bytes(content)


def sums_of(sums: dict[str, str]) -> bytes:
    """A SHA256SUMS: path -> digest."""
    return "".join(f"{digest}  {path}\n" for path, digest in sums.items()).encode()


def remote(**pins: str) -> RemoteFile:
    """The remote file with these checksums pinned."""
    return RemoteFile("labels", URL, **pins)


def get(pinned: RemoteFile, mirror: Path | str, cache: Cache) -> LocalFile:
    """Download it from a mirror."""
    return download_file("irmas", pinned, with_sums(Origins(str(mirror)), cache), cache)


def fetched(mirror: Path | str | Origins, cache: Cache, media: Media = VIDEO) -> list[Recording | Rejected]:
    """Fetch the video with its two clips: one recording, or two rejected clips."""
    clips = (clip("audioset/-abc_DEF123@0", audio=None), clip("audioset/-abc_DEF123@9", audio=None))
    origins = mirror if isinstance(mirror, Origins) else with_sums(Origins(str(mirror)), cache)
    return fetch(Recording(media, clips), origins=origins, cache=cache)


def stored_files(cache: Cache) -> list[str]:
    """Names of what the cache holds: blobs, and anything that was left in the making."""
    return [path.name for name in ("blobs", "incoming") for path in (cache.root / name).rglob("*") if path.is_file()]
