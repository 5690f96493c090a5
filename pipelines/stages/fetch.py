"""Fetch: the audio of recordings that lie in no archive -> verified blobs in the cache.

Asked in this order: the user's own files, then the mirror, or without one YouTube. What a mirror
lacks is `gone` at once. What YouTube does not give is `pending`, or `gone` once it said for good
that it never will: every attempt is a line of the availability ledger, and that decides.
"""

import time
from collections import defaultdict
from dataclasses import replace
from functools import partial
from pathlib import Path
from urllib.parse import unquote

from tutti.datasets.audio_files import AUDIO_SUFFIXES
from tutti.datasets.decode_error import DecodeError
from tutti.datasets.errors import IntegrityError, UsageError
from tutti.datasets.files import temporary_folder
from tutti.datasets.machine import MachineError
from tutti.datasets.manifest import digest_of, file_sha256
from tutti.datasets.record import Clip, Media, Recording, Rejected, Seconds
from tutti.pipelines.acquisition.budget import Breaker, Budget
from tutti.pipelines.acquisition.host_slots import one_writer
from tutti.pipelines.acquisition.http import NotFound, discard, fetch_file
from tutti.pipelines.acquisition.http_answers import check_allowed
from tutti.pipelines.acquisition.ledger import Attempt, Availability, Ledger, is_due
from tutti.pipelines.acquisition.origins import (
    Origins,
    http_rules,
    is_http,
    mirror_path,
    mirror_sums,
    mirror_url,
    video_id,
)
from tutti.pipelines.acquisition.own_audio import candidates, first_verified
from tutti.pipelines.acquisition.own_copy import known_length, measure_length, receive_own
from tutti.pipelines.acquisition.own_index import index_of
from tutti.pipelines.acquisition.reasons import Failure
from tutti.pipelines.acquisition.youtube import Downloaded, download_video
from tutti.pipelines.cache.store import Cache
from tutti.pipelines.decoding.sandbox import probe
from tutti.pipelines.render.media import is_rendered, render_recording

MAX_MISSING_S = 1.0  # a video's length is published in whole seconds
MAX_MISSING_SHARE = 0.01


def fetch(recording: Recording, *, origins: Origins, cache: Cache) -> list[Recording | Rejected]:
    """Fetch the media of one recording into the cache, unless it lies in an archive there.

    Raises:
        TryLaterError: the site has had enough of us; what was fetched stays.
        StorageError: the disk or the mirror failed.
    """
    media = recording.media
    if recording.parts:
        return _fetch_parts(recording, origins, cache)
    if media.sha256 is not None:
        return [recording]
    if is_rendered(media):
        made = render_recording(recording, dict(origins.local_roots).get("rendered"), cache)
        return [_acquired(made, made.media, "rendered")]
    if (local := fetch_local(media, origins, cache)) is not None:
        return [_acquired(recording, local, "own")]
    try:
        own, rest = _from_own_files(recording, origins, cache)
    except MachineError as error:
        return _unavailable(recording, "pending", error.reason)
    if rest is None:
        return own
    elsewhere = _from_youtube if origins.mirror is None else _from_mirror
    return [*own, *elsewhere(rest, origins, cache)]


def _fetch_parts(recording: Recording, origins: Origins, cache: Cache) -> list[Recording | Rejected]:
    """Fetch the stems of a mix that upstream lacks; it is added up from those that are to be had."""
    parts = []
    for part in recording.parts:
        for row in fetch(Recording(part, recording.clips), origins=origins, cache=cache):
            if isinstance(row, Recording):
                parts.append(row.media)
            elif row.status == "pending":
                return [row]
    return [_acquired(replace(recording, parts=tuple(parts)), recording.media, "sum")]


def fetch_local(media: Media, origins: Origins, cache: Cache) -> Media | None:
    """Copy a file that a source found in its own folder, `folder:<path>` or `medleydb/0:<path>`, into the cache.

    Of a member of a zip, the zip. None: the address is that of no such folder.

    Raises:
        OSError: it cannot be read.
    """
    scheme, _, path = media.url.partition(":")
    root = dict(origins.local_roots).get(scheme)
    if root is None:
        return None
    if "/" in scheme:  # of songs in numbered folders, whose names may be no Unicode
        path = unquote(path, errors="surrogateescape")
    return replace(media, sha256=receive_own(Path(root) / path, cache, label=media.url).sha256)


def _acquired(recording: Recording, media: Media, method: str) -> Recording:
    return replace(recording, media=media, clips=tuple(replace(clip, acquired=method) for clip in recording.clips))


# --- the user's own files


def _from_own_files(
    recording: Recording, origins: Origins, cache: Cache
) -> tuple[list[Recording | Rejected], Recording | None]:
    """Split a recording into those of files that are there, and what must be had elsewhere."""
    if not origins.own_roots:
        return [], recording
    index = index_of(origins.own_roots)
    found: dict[tuple[Path, Seconds], list[Clip]] = defaultdict(list)
    missing = []
    for clip in recording.clips:
        offered = candidates(index, video_id(recording.media), clip.start_s, clip.end_s)
        match, _ = first_verified(
            offered,
            clip.start_s,
            clip.end_s,
            partial(measure_length, cache=cache, probe=lambda data: probe(data).duration_s),
            known_length=lambda candidate: known_length(candidate.path, candidate.sha256, cache),
        )
        if match is None:
            missing.append(clip)
        else:
            found[match[0].path, match[1]].append(clip)
    own: list[Recording | Rejected] = []
    for (path, offset_s), clips in sorted(found.items()):
        blob = receive_own(path, cache, label=path.name)
        media = replace(recording.media, sha256=blob.sha256, offset_s=offset_s)
        own.append(_acquired(replace(recording, clips=tuple(clips)), media, "own"))
    return own, replace(recording, clips=tuple(missing)) if missing else None


# --- a mirror


def _from_mirror(recording: Recording, origins: Origins, cache: Cache) -> list[Recording | Rejected]:
    media = recording.media
    try:
        sha256 = _mirrored(media, origins, cache)
    except IntegrityError as error:
        return [Rejected(clip, stage="fetch", reason="checksum", detail=str(error)) for clip in recording.clips]
    if sha256 is None:
        detail = f"{mirror_path(media.url)}.*"
        return [
            Rejected(clip, stage="fetch", reason="not_in_mirror", detail=detail, status="gone")
            for clip in recording.clips
        ]
    return [_acquired(recording, replace(media, sha256=sha256), "mirror")]


def _mirrored(media: Media, origins: Origins, cache: Cache) -> str | None:
    """Return the digest of a video's blob, or None where the mirror has no such video."""
    mirror, sums = str(origins.mirror), mirror_sums(origins, cache)
    for path in (f"{mirror_path(media.url)}{suffix}" for suffix in AUDIO_SUFFIXES):
        expected = sums.get(path)
        if expected is not None and cache.has_blob(expected):
            return expected
        # Over http only the listing tells the extension; a folder can also be asked directly.
        if is_http(mirror) and expected is not None:
            try:
                return _over_http(mirror_url(mirror, path), media.url, expected, origins, cache)
            except NotFound:
                continue
        if not is_http(mirror) and (Path(mirror) / path).is_file():
            return receive_own(Path(mirror) / path, cache, label=media.url, sha256=expected).sha256
    return None


def _over_http(address: str, label: str, sha256: str, origins: Origins, cache: Cache) -> str:
    part = cache.part_path(address)
    with one_writer(part):
        if not cache.has_blob(sha256):  # another process may have been first
            fetch_file(address, part, rules=http_rules(cache, credentials=origins.credentials))
            cache.receive_file(part, label=label, sha256=sha256, md5=None)
            discard(part)
    return sha256


# --- YouTube


def _from_youtube(recording: Recording, origins: Origins, cache: Cache) -> list[Recording | Rejected]:
    key = f"youtube/{video_id(recording.media)}"
    ledger = Ledger(cache.root / "ledger" / "youtube")
    state = ledger.availability(key)
    if _is_usable(state, recording, cache):
        return [_from_ledger(recording, state)]
    if is_due(state, time.time(), origins.retry):
        try:
            check_allowed(recording.media.url)
        except UsageError:
            return _unavailable(recording, "pending", "offline")
        try:
            _attempt(key, recording, origins, cache, ledger)
        except MachineError as error:
            return _unavailable(recording, "pending", error.reason)
        state = ledger.availability(key)
        if _is_usable(state, recording, cache):
            return [_from_ledger(recording, state)]
    return _unavailable(recording, state.status, state.reason or "")


def _is_usable(state: Availability, recording: Recording, cache: Cache) -> bool:
    """Whether the file of the last success is still here and reaches over all clips."""
    if state.sha256 is None or not cache.has_blob(state.sha256):
        return False
    if state.method == "full":
        return True
    span, offset_s = _span(recording), state.offset_s or 0.0
    return span is not None and offset_s <= span[0] and span[1] <= offset_s + (state.duration_s or 0.0)


def _from_ledger(recording: Recording, state: Availability) -> Recording:
    media = replace(recording.media, sha256=state.sha256, offset_s=state.offset_s or 0.0)
    return _acquired(recording, media, state.method or "full")


def _unavailable(recording: Recording, status: str, reason: str) -> list[Recording | Rejected]:
    # The ledger has the site's words; here they would make a new version of every rewording.
    return [Rejected(clip, stage="fetch", reason=reason, status=status) for clip in recording.clips]


def _span(recording: Recording) -> tuple[Seconds, Seconds] | None:
    """Return the first start and the last end of the clips; None where a clip goes on to the end of the recording."""
    ends = [clip.end_s for clip in recording.clips if clip.end_s is not None]
    whole = len(ends) < len(recording.clips)
    return None if whole else (min(clip.start_s for clip in recording.clips), max(ends))


def _attempt(key: str, recording: Recording, origins: Origins, cache: Cache, ledger: Ledger) -> None:
    """Request a video once, within the budget; the outcome is in the ledger afterwards, the file in the cache."""
    access, folder = origins.access, cache.root / "budget"
    vantage = digest_of([access.proxy, access.cookies])[:16]
    breaker = Breaker(folder / "youtube.breaker.json", vantage=vantage)
    Budget(folder / "youtube.json", per_hour=origins.videos_per_hour).wait()
    breaker.enter()
    with temporary_folder(cache.incoming) as here:
        got = download_video(recording.media.url, here, access, _span(recording))
        try:
            outcome = got if isinstance(got, Failure) else _checked(key, got)
        except MachineError:  # says nothing of the video; that the site let us in counts all the same
            breaker.record(None, time.time())
            raise
        if isinstance(outcome, Attempt) and isinstance(got, Downloaded):
            ledger.record(outcome)  # first: a line without its file is asked for again, a file without its line is lost
            cache.receive_file(got.path, label=key, sha256=outcome.sha256, md5=None)
    if isinstance(outcome, Failure):
        ledger.record(Attempt(key, time.time(), "failed", outcome.reason, outcome.detail))
    breaker.record(outcome.reason if isinstance(outcome, Failure) else None, time.time())


def _checked(key: str, got: Downloaded) -> Attempt | Failure:
    """Check a file by decoding it from end to end: a site's success is no proof of sound.

    Raises:
        SandboxError: no decoder came to a word on it.
    """
    try:
        found = probe(got.path.read_bytes())
    except DecodeError as error:
        return Failure("no_formats", f"not decodable: {error}")
    wanted_s = (got.duration_s if got.method == "full" else None) or 0.0
    if found.duration_s < wanted_s - max(MAX_MISSING_S, MAX_MISSING_SHARE * wanted_s):
        return Failure("timeout", f"only {found.duration_s:.1f} s of {wanted_s:.1f} s arrived")
    return Attempt(
        key, time.time(), "fetched", sha256=file_sha256(got.path), num_bytes=got.path.stat().st_size,
        method=got.method, offset_s=got.offset_s, duration_s=found.duration_s,
    )  # fmt: skip
