"""Fetch, of audio in tars that are too large to keep: recordings are gathered by tar, and each tar is read once.

Asked in this order: the cache, the user's own files (a tar, or what upstream's downloader unpacked: `DIR/NN/ID.mp3`),
then the mirror, or without one the publisher. Members become blobs. What a mirror lacks is `gone`; what a server did
not give, because it has no such tar, breaks off or sends one that ends early, is `pending`: the next build asks again.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from tutti.datasets.errors import IntegrityError, UsageError
from tutti.datasets.locks import READ_ONLY, lock
from tutti.datasets.record import Media, Published, Recording, Rejected
from tutti.pipelines.acquisition.http import ignore
from tutti.pipelines.acquisition.http_answers import check_allowed
from tutti.pipelines.acquisition.origins import Origins, is_http, mirror_path
from tutti.pipelines.acquisition.own_copy import receive_own
from tutti.pipelines.acquisition.tars import Found, Held, Lost, known_member, members_of, members_of_file
from tutti.pipelines.cache.store import Cache
from tutti.pipelines.engine.progress import reporter
from tutti.pipelines.rows import TarJob


def lies_in_tar(row: Recording | Rejected) -> bool:
    """Whether a row is a recording whose tar is to be streamed."""
    return isinstance(row, Recording) and row.media.published is not None


def lies_elsewhere(row: Recording | Rejected) -> bool:
    """Whether a row is anything else."""
    return not lies_in_tar(row)


def by_tar(recording: Any) -> tuple[str, Any]:
    """Pair the address of a recording's tar with the recording."""
    return recording.media.url, recording


def tar_job(keyed: tuple[str, Iterable[Recording]]) -> TarJob:
    """Make one job of all that is wanted of a tar."""
    url, recordings = keyed
    return TarJob(url, tuple(sorted(recordings, key=lambda recording: recording.clips[0].id)))


def num_fetched(_: TarJob, rows: list[Recording | Rejected]) -> int:
    """Count the clips that a job finishes."""
    return sum(1 if isinstance(row, Rejected) else len(row.clips) for row in rows)


def fetch_tar(
    job: TarJob, *, origins: Origins, cache: Cache, progress: Path | None = None
) -> list[Recording | Rejected]:
    """Fetch what is wanted of one tar into the cache; `progress` is the folder of the build's tallies.

    Raises:
        TryLaterError: the server has had enough of us; what was fetched stays.
        StorageError: the disk failed.
    """
    wanted = {_member(recording.media): _published(recording.media) for recording in job.recordings}
    found, methods = _from_own_files(job.url, wanted, origins, cache)
    method = "full" if origins.mirror is None else "mirror"
    missing = {member: published for member, published in wanted.items() if member not in methods}
    if missing:
        with lock(cache.lock_path(job.url), unless=READ_ONLY):  # of two builds the second finds what the first fetched
            known = _known(job.url, missing, cache)
            rest = {member: published for member, published in missing.items() if member not in known}
            found |= known | (_from_elsewhere(job, rest, origins, cache, progress) if rest else {})
    rows: list[Recording | Rejected] = []
    for recording in job.recordings:
        member = _member(recording.media)
        rows += _rows(recording, found[member], methods.get(member, method))
    return rows


def _rows(recording: Recording, found: Found, method: str) -> list[Recording | Rejected]:
    if isinstance(found, Lost):
        status = "pending" if found.passing else "rejected"
        if found.reason in ("not_in_mirror", "archive_cut") and not found.passing:
            status = "gone"
        return [
            Rejected(clip, stage="fetch", reason=found.reason, detail=found.detail, status=status)
            for clip in recording.clips
        ]
    media = recording.media
    clips = tuple(replace(clip, acquired=method) for clip in recording.clips)
    # From here on it is a file of its own, named by its place in the tar.
    return [replace(recording, media=Media(f"{media.url}/{media.member}", sha256=found.sha256), clips=clips)]


def _known(url: str, wanted: Mapping[str, Published], cache: Cache) -> dict[str, Found]:
    found = {member: known_member(url, member, published, cache) for member, published in wanted.items()}
    return {member: Held(sha256) for member, sha256 in found.items() if sha256 is not None}


def _from_elsewhere(
    job: TarJob, wanted: Mapping[str, Published], origins: Origins, cache: Cache, progress: Path | None
) -> dict[str, Found]:
    if origins.mirror is None or is_http(origins.mirror):
        try:
            check_allowed(origins.mirror or job.url)
        except UsageError as error:
            return dict.fromkeys(wanted, Lost("offline", str(error), passing=True))
    report = ignore if progress is None else partial(reporter(progress).transfer, job.id)
    return members_of(job.url, wanted, origins, cache, report)


def _from_own_files(
    url: str, wanted: Mapping[str, Published], origins: Origins, cache: Cache
) -> tuple[dict[str, Found], dict[str, str]]:
    """Find members among the user's files, and how they were had: only those that are there and sound."""
    found: dict[str, Found] = {}
    for root in map(Path, origins.own_roots):
        for member, published in wanted.items():
            path = root / member
            if member not in found and path.is_file():
                try:
                    blob = receive_own(path, cache, label=str(path), sha256=published.member_sha256)
                except IntegrityError:
                    continue  # elsewhere there may be a sound one
                found[member] = Held(blob.sha256)
        for path in (root / mirror_path(url), root / url.rpartition("/")[2]):
            missing = {member: published for member, published in wanted.items() if member not in found}
            if missing and path.is_file():
                known = _known(url, missing, cache)
                rest = {member: published for member, published in missing.items() if member not in known}
                read = members_of_file(path, url, rest, cache) if rest else {}
                found |= known | {member: one for member, one in read.items() if isinstance(one, Held)}
    return found, dict.fromkeys(found, "own")


def _member(media: Media) -> str:
    if media.member is None:
        raise ValueError(f"{media.url}: names no member of the tar")
    return media.member


def _published(media: Media) -> Published:
    return media.published or Published()
