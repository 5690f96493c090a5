"""Checks of a version of a dataset, by the levels of the command."""

import errno
import itertools
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from tutti.datasets.bounded import regular_status
from tutti.datasets.errors import IntegrityError
from tutti.datasets.manifest import Manifest, file_sha256
from tutti.datasets.manifest_types import FileEntry
from tutti.pipelines.verify.findings import MANIFEST, Finding, PublishedManifest, check_manifest_json
from tutti.pipelines.verify.rows import check_clip_rows
from tutti.pipelines.verify.shards import check_shards

MAX_STRAYS = 100  # files that are named though nobody lists them


LEVELS = ("manifest", "shards", "clips", "sources")


# Made from the manifest and the shards: no strays, and checked only where the manifest's `files` lists them.
DERIVED = ("README.md", "croissant.json", "report/")


def verify(manifest: Manifest, level: str = "shards") -> list[Finding]:
    """Check a dataset version; return what is wrong, sorted by path and line.

    Args:
        manifest: of the version; a published one without shards is checked as level "manifest".
        level: "manifest", "shards" or "clips"; see the command's help.
    """
    found = check_manifest_json(manifest)
    if any(finding.kind == "corrupt" for finding in found):
        return found  # nothing can be held against a manifest that is wrong itself
    return sorted({*found, *_checks(manifest, level)})


def _checks(manifest: Manifest, level: str) -> Iterator[Finding]:
    buckets = {bucket["path"]: bucket["sha256"] for bucket in manifest.content["clips"]}
    shards = {info.path: info.sha256 for info in manifest.shards()}
    others = {file["path"]: file for file in manifest.content.get("files", [])}
    listed = {digest: path for path, digest in {**buckets, **shards}.items()}
    alone = level == "manifest" or isinstance(manifest, PublishedManifest)
    rows = check_clip_rows(manifest, listed, for_shards=not alone)
    yield from rows.findings
    if alone:
        return
    yield from check_shards(manifest, rows, listed, decode=level == "clips")
    yield from _check_others(manifest, others)
    known = {MANIFEST, *buckets, *shards, *others}
    strays = (path for path in _files_below(manifest.folder) if path not in known and not path.startswith(DERIVED))
    shown = list(itertools.islice(strays, MAX_STRAYS + 1))
    yield from (Finding(path, 0, "stray", "the manifest does not list it") for path in shown[:MAX_STRAYS])
    if len(shown) > MAX_STRAYS:
        yield Finding(shown[-1], 0, "stray", "and perhaps more: only so many are named")


def _files_below(folder: Path) -> Iterator[str]:
    """Yield all but folders below a folder, by relative path; links are not followed, however deep folders lie."""
    left = [folder]
    while left:
        here = left.pop()
        try:
            entries = sorted(os.scandir(here), key=lambda entry: entry.name)
        except OSError as error:
            if error.errno != errno.ENAMETOOLONG:
                raise
            yield here.relative_to(folder).as_posix()  # deeper than any path reaches
            continue
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                left.append(Path(entry.path))
            else:
                yield Path(entry.path).relative_to(folder).as_posix()


def _check_others(manifest: Manifest, listed: Mapping[str, FileEntry]) -> Iterator[Finding]:
    for path, file in listed.items():
        try:
            place = manifest.path(path)
            if regular_status(place).st_size != file["num_bytes"] or file_sha256(place) != file["sha256"]:
                yield Finding(path, 0, "corrupt", "its sha256 is not the manifest's")
        except FileNotFoundError:
            yield Finding(path, 0, "missing")
        except IntegrityError as error:
            yield Finding(path, 0, "corrupt", str(error))
