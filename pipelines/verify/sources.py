"""The upstream files in `verify --level sources`: what a rebuild needs, against the manifest's checksums.

Archives and label files are those of `sources.*.files`; recordings that lie in no archive (videos)
are named by the clips that were cut from them. Looked for in the cache, else in a mirror's folder.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tutti.datasets.manifest import Manifest, file_sha256, within
from tutti.pipelines.acquisition.origins import mirror_path
from tutti.pipelines.cache.soundness import settled_sha256
from tutti.pipelines.cache.store import Cache
from tutti.pipelines.verify.findings import Finding

IN_AN_ARCHIVE = (None, "archive")  # values of `acquired`


@dataclass(frozen=True, order=True)
class Upstream:
    """One file that the build read."""

    name: str  # "irmas/train", or "audioset/<recording>"
    sha256: str  # of a recording: its first digits
    url: str = ""  # empty: a recording, known by its digest alone


def upstream_files(manifest: Manifest) -> list[Upstream]:
    """List all files that the build read, each once, sorted by name."""
    files = {
        Upstream(f"{source}/{file['name']}", file["sha256"], file["url"])
        for source, entry in manifest.content["sources"].items()
        for file in entry["files"]
    }
    for row in manifest.clip_rows():
        if "audio" in row and row.get("acquired") not in IN_AN_ARCHIVE:
            files.add(Upstream(f"{row['source']}/{row['recording']}", row["audio"]["source_sha256"]))
    return sorted(files)


def check_sources(manifest: Manifest, cache: Cache, mirror: Path | None) -> Iterator[Finding]:
    """Hash every upstream file that is here; name what is damaged or nowhere. Nothing is moved."""
    for file in upstream_files(manifest):
        copies = list(cache.blobs_beginning(file.sha256))
        if mirror is not None and file.url:
            copies.append(within(mirror, mirror_path(file.url)))
        here = [copy for copy in copies if copy.is_file()]
        if not here:
            again = (
                f"fetch it again from {file.url}" if file.url else "the build fetches it again, if it is still there"
            )
            yield Finding(file.name, 0, "missing", f"neither in the cache nor in the mirror; {again}")
        for copy in here:
            found = settled_sha256(copy) if cache.root in copy.parents else file_sha256(copy)
            if not found.startswith(file.sha256):
                yield Finding(file.name, 0, "corrupt", f"{copy} has sha256 {found}, the manifest says {file.sha256}")
