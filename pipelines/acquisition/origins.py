"""Origins of bytes: a mirror, the user's own folders, or the network.

A mirror is a folder or an http(s) address that holds every URL at `ROOT/<host>/<path>`, scheme
and query dropped; `www.youtube.com/watch/<id>.<ext>` holds a video's whole audio. The SHA256SUMS
of a mirror replaces the pinned checksums, and the manifest says so. With a mirror nothing else is
ever asked, but for the user's own folders.
"""

import functools
import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import parse_qs, quote, urlsplit

from tutti.datasets.addresses import Credentials
from tutti.datasets.bounded import CHUNK_BYTES
from tutti.datasets.errors import IntegrityError
from tutti.datasets.files import read_plain
from tutti.datasets.heartbeat import beat
from tutti.datasets.record import Media
from tutti.pipelines.acquisition.http import HttpRules, get_small
from tutti.pipelines.acquisition.own_index import parse_sums, read_sums
from tutti.pipelines.acquisition.youtube import Access
from tutti.pipelines.cache.soundness import settled_sha256
from tutti.pipelines.cache.store import Cache

SUMS_BYTES = 64 << 20  # of a SHA256SUMS: half a million files
SUMS_S = 300.0  # for a SHA256SUMS, which has 64 MiB at most
VIDEOS_PER_HOUR = 240.0  # what YouTube tolerates from one address for days, with some room


@dataclass(frozen=True)
class Origins:
    """Places to take bytes from. Handed to workers; nothing of it enters a manifest."""

    mirror: str | None = None  # folder, or http(s) address without what opens it
    credentials: Credentials = field(default_factory=Credentials)  # for the mirror's server
    sums_sha256: str = ""  # of the mirror's SHA256SUMS when the build began; empty: it has none
    local_roots: tuple[tuple[str, str], ...] = ()  # source name -> folder that the source itself describes
    own_roots: tuple[str, ...] = ()  # folders of archives and videos that the user has already
    access: Access = field(default_factory=Access)  # to YouTube
    videos_per_hour: float = VIDEOS_PER_HOUR
    retry: frozenset[str] = frozenset()  # reasons for which a video is asked for again


def http_rules(
    cache: Cache,
    hosts: tuple[str, ...] = (),
    credentials: Credentials = Credentials(),  # noqa: B008 - frozen
) -> HttpRules:
    """Make the rules of a download: redirects stay on these hosts, connections are counted in the cache."""
    return HttpRules(hosts=hosts, slots=cache.root / "locks", credentials=credentials)


def video_id(media: Media) -> str:
    """Parse the id of a video; empty for anything else."""
    parts = urlsplit(media.url)
    return parse_qs(parts.query).get("v", [""])[0] if parts.path == "/watch" else ""


def mirror_path(url: str) -> str:
    """Convert a URL to its path in a mirror: `<host>/<path>`; a YouTube id counts as the last path part."""
    parts = urlsplit(url)
    video = video_id(Media(url))
    return f"{parts.netloc}{parts.path}" + (f"/{video}" if video else "")


def mirror_url(mirror: str, path: str) -> str:
    """Compose the address of a path of an http mirror."""
    return f"{mirror.rstrip('/')}/{quote(path)}"


def is_http(address: str) -> bool:
    """Whether a mirror is an address rather than a folder."""
    return address.startswith(("http://", "https://"))


def with_sums(origins: Origins, cache: Cache) -> Origins:
    """Add the present state of the mirror's SHA256SUMS to origins."""
    content = None if origins.mirror is None else _sums_file(origins.mirror, origins.credentials, cache)
    return Origins(**{**vars(origins), "sums_sha256": "" if content is None else hashlib.sha256(content).hexdigest()})


@functools.lru_cache(maxsize=4)
def mirror_sums(origins: Origins, cache: Cache) -> Mapping[str, str]:
    """Read the SHA256SUMS of a mirror: path -> digest; empty without a mirror or without the file.

    Raises:
        IntegrityError: the file changed since the build began, or a line is not `<64 hex digits>  <path>`.
    """
    if origins.mirror is None or not origins.sums_sha256:
        return {}
    content = _sums_file(origins.mirror, origins.credentials, cache)
    if content is None:
        return {}
    if hashlib.sha256(content).hexdigest() != origins.sums_sha256:
        raise IntegrityError(f"{origins.mirror}/SHA256SUMS: changed while the build ran; run it again")
    return parse_sums(content, f"{origins.mirror}/SHA256SUMS")


def _sums_file(mirror: str, credentials: Credentials, cache: Cache) -> bytes | None:
    if is_http(mirror):
        rules = replace(http_rules(cache, credentials=credentials), total_s=SUMS_S)
        return get_small(mirror_url(mirror, "SHA256SUMS"), rules=rules)
    return read_sums(Path(mirror))


def holds_its_sums(root: Path) -> bool:
    """Whether a mirror's folder holds exactly what its SHA256SUMS lists, unharmed; texts about it may lie beside."""
    try:
        listed = parse_sums(read_plain(root / "SHA256SUMS", SUMS_BYTES), "SHA256SUMS")
        here = {path.relative_to(root).as_posix() for path in root.rglob("*/*") if not path.is_dir()}
        return listed.keys() == here and all(settled_sha256(root / name) == listed[name] for name in sorted(here))
    except (OSError, IntegrityError):
        return False


def read_file(path: Path) -> Iterator[bytes]:
    """Read a file in pieces."""
    with path.open("rb") as stream:
        while chunk := stream.read(CHUNK_BYTES):
            beat()
            yield chunk
