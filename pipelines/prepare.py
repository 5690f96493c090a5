"""Stage 2, prepare: decode, slice, mono, 16 kHz, loudness; the result is a FLAC in the cache.

What is done to the samples stands in `pipelines/normalize.py`; it runs in a child process
(`pipelines/sandbox.py`), because media come from strangers and decoders are C. Verified bytes go
there, facts and FLACs come back; a file that its decoder does not survive is `undecodable`.
A recording that comes with its score is laid against it first (`pipelines/align.py`): clips are cut
where their notes are heard, and audio of another piece is `misaligned`.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from datasets.archive import open_archive
from datasets.decode_error import DecodeError
from datasets.errors import IntegrityError
from datasets.manifest import digest_of
from datasets.record import Alignment, Clip, Media, Recording, Rejected, Seconds, StoredAudio
from datasets.shard import notes_digest
from pipelines import sandbox
from pipelines.cache import Cache
from pipelines.prepare_config import PrepareConfig as PrepareConfig

CODE_VERSION = 3  # raise it when prepare, normalize.py or datasets/audio.py computes something else
ALIGN_VERSION = 2  # the same for align.py


def prepare(recording: Recording, *, config: PrepareConfig, cache: Cache) -> Iterator[Clip | Rejected]:
    """Clips of one recording with their stored audio; it is decoded once, and only if need be."""
    media = recording.media
    settings = _settings(recording, config)
    keys = {clip.id: _result_key(media, clip, settings) for clip in recording.clips}
    results: dict[str, Any] = {clip.id: cache.result("prepare", keys[clip.id]) for clip in recording.clips}
    missing = [clip for clip in recording.clips if not _is_usable(results[clip.id], cache)]
    if missing:
        for clip, result, lasting in _prepare_missing(replace(recording, clips=tuple(missing)), config, cache):
            if lasting:
                cache.remember("prepare", keys[clip.id], result)
            results[clip.id] = result
    for clip in recording.clips:
        yield _row(clip, results[clip.id])


def _settings(recording: Recording, config: PrepareConfig) -> list[Any]:
    """What decides the result of every clip of a recording, apart from its file: also its score, where it has one."""
    settings = asdict(config)
    if recording.score:
        return [settings, ALIGN_VERSION, notes_digest(recording.score)]
    del settings["min_alignment"]  # asked for nowhere
    return [settings]


def _result_key(media: Media, clip: Clip, settings: list[Any]) -> str:
    span = [clip.start_s, clip.end_s, media.offset_s]
    return digest_of([CODE_VERSION, *settings, media.sha256, media.member, *span])


def _is_usable(result: Any | None, cache: Cache) -> bool:
    return result is not None and ("audio" not in result or cache.has_blob(result["audio"]["blob"]))


def _row(clip: Clip, result: dict[str, Any]) -> Clip | Rejected:
    if "audio" not in result:
        value = result.get("value")
        return Rejected(clip, stage="prepare", reason=result["reason"], value=value, detail=result["detail"])
    stored = StoredAudio(**result["audio"])
    end_s = clip.start_s + stored.native_num_samples / stored.native_sample_rate
    alignment = Alignment(**result["alignment"]) if "alignment" in result else None
    end_s = clip.end_s if clip.end_s is not None else round(end_s, 6)
    return replace(clip, audio=stored, end_s=end_s, alignment=alignment)


def _prepare_missing(
    recording: Recording, config: PrepareConfig, cache: Cache
) -> Iterator[tuple[Clip, dict[str, Any], bool]]:
    """Result of each clip, and whether it is a property of the file, which the next build need not find again."""
    media, clips = recording.media, recording.clips
    name = media.member or media.url
    arguments = {"name": name, "config": asdict(config), "spans": [span_in_file(media, clip) for clip in clips]}
    if recording.score:
        arguments["score"] = [[note.onset_s, note.offset_s, note.pitch, note.program] for note in recording.score]
    try:
        data = read_media(media, cache)
        answer, files = sandbox.call("prepare", arguments, [data])
    except DecodeError as error:
        lasting = error.lasting if isinstance(error, sandbox.SandboxError) else True
        for clip in clips:
            yield clip, {"reason": "undecodable", "detail": str(error)}, lasting
        return
    aligned = {"alignment": answer["alignment"]} if answer["alignment"] else {}
    if aligned and answer["alignment"]["score"] < config.min_alignment:
        score = answer["alignment"]["score"]
        detail = f"correlates by {score:.3f} with its score, less than {config.min_alignment}: another piece or tempo"
        for clip in clips:
            yield clip, {"reason": "misaligned", "value": score, "detail": detail}, True
        return
    source_sha256 = hashlib.sha256(data).hexdigest() if media.member else media.sha256 or ""
    flacs = iter(files)
    for clip, facts in zip(clips, answer["clips"], strict=True):
        if facts is None:
            end_s = media.offset_s + answer["duration_s"]
            ends = f"the recording ends at {end_s:.3f} s, before the clip starts at {clip.start_s:.3f} s"
            yield clip, {"reason": "truncated", "detail": ends}, True
            continue
        blob = cache.put_blob(next(flacs))
        yield clip, {"audio": facts | {"blob": blob, "source_sha256": source_sha256}, **aligned}, True


def span_in_file(media: Media, clip: Clip) -> tuple[Seconds, Seconds | None]:
    """Where in the file a clip begins and ends; the file may begin later than its recording."""
    end_s = None if clip.end_s is None else clip.end_s - media.offset_s
    return clip.start_s - media.offset_s, end_s


def read_media(media: Media, cache: Cache) -> bytes:
    """The upstream file of a recording, from the cache.

    Raises:
        DecodeError: an archive's member is damaged, as upstream made it.
        IntegrityError: the cache itself is damaged, which is no property of the recording.
    """
    if media.sha256 is None:
        raise ValueError(f"{media.url}: is not in the cache; fetch it first")
    if media.member is None:
        return cache.read_blob(media.sha256)
    label = PurePosixPath(urlsplit(media.url).path).name
    try:
        return open_archive(cache.archive_path(media.sha256), label).read(media.member)
    except IntegrityError as error:
        raise DecodeError(str(error)) from error
