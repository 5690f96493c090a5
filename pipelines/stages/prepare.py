"""Prepare: decode, slice, mono, 16 kHz, loudness; the result is a FLAC in the cache.

What is done to the samples stands in `pipelines/decoding/normalize.py`; it runs in a child process
(`pipelines/decoding/sandbox.py`), because media come from strangers and decoders are C. Verified bytes go
there, facts and FLACs come back, clip by clip. What the decoder says of the bytes is remembered:
`undecodable` is a property of a file. Where it came to no word (it was killed, crashed, lacked memory or
time) the clips are `pending`, and the next build tries again.
A recording that comes with its score is laid against it first (`pipelines/decoding/align.py`): clips are cut
where their notes are heard, and audio of another piece is `misaligned`.
"""

import hashlib
import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from tutti.datasets.archive import open_archive
from tutti.datasets.decode_error import DecodeError
from tutti.datasets.errors import IntegrityError
from tutti.datasets.machine import MachineError
from tutti.datasets.manifest import digest_of
from tutti.datasets.printable import in_unicode
from tutti.datasets.record import Alignment, Clip, Media, Recording, Rejected, Seconds, StoredAudio, Track
from tutti.datasets.shard import notes_digest
from tutti.pipelines.cache.store import Cache
from tutti.pipelines.decoding import sandbox
from tutti.pipelines.decoding.config import ActivityConfig
from tutti.pipelines.decoding.config import PrepareConfig as PrepareConfig
from tutti.pipelines.decoding.process import nonsense

CODE_VERSION = 5  # raise it when prepare, normalize.py or datasets/audio.py computes something else
SUM_VERSION = 1  # the same for mixing.py
ALIGN_VERSION = 2  # the same for align.py
WHITENESS_VERSION = 1  # the same for whiteness.py
LOSSLESS = ("alac", "flac", "float", "double", "ulaw", "alaw")  # codecs, but for pcm_16 and its like


def prepare(recording: Recording, *, config: PrepareConfig, cache: Cache) -> Iterator[Clip | Rejected]:
    """Prepare the audio of one recording's clips; it is decoded once, and only if need be."""
    if recording.parts:
        yield from _prepare_sum(recording, config, cache)
        return
    media = recording.media
    settings = _settings(recording, config)
    keys = {clip.id: _result_key(media, clip, settings, _is_stem(clip)) for clip in recording.clips}
    results: dict[str, Any] = {clip.id: cache.result("prepare", keys[clip.id]) for clip in recording.clips}
    missing = [clip for clip in recording.clips if not _is_usable(results[clip.id], cache)]
    if missing:
        for clip, result in _prepare_missing(replace(recording, clips=tuple(missing)), config, cache):
            if "status" not in result:
                cache.remember("prepare", keys[clip.id], result)
            results[clip.id] = result
    for clip in recording.clips:
        yield _row(clip, results[clip.id])


def _prepare_sum(recording: Recording, config: PrepareConfig, cache: Cache) -> Iterator[Clip | Rejected]:
    """Prepare a mix that upstream lacks: the sum of its stems, but for those that no decoder reads to their end.

    A stem may be a sum, too: of two sides. It is lost with either of them.
    """
    (clip,) = recording.clips
    of_parts = [[part.sha256, part.member] for part in recording.parts]
    active = [asdict(ActivityConfig())] if _is_stem(clip) else []
    key = digest_of([CODE_VERSION, *_settings(recording, config), SUM_VERSION, of_parts, *active])
    result: Any = cache.result("prepare", key)
    if not _is_usable(result, cache):
        stems, lost = [], None
        for part in recording.parts:  # as the stem's own recording: what that finds is remembered
            stem = replace(clip, track=Track("", "part"), start_s=0.0, end_s=None)
            for row in prepare(Recording(part, (stem,)), config=config, cache=cache):
                if isinstance(row, Rejected) and row.status == "pending":
                    yield replace(row, clip=clip)
                    return
                if isinstance(row, Clip) and row.audio is not None and row.audio.complete and not row.audio.damaged_s:
                    stems.append(row.audio)
                elif _is_stem(clip):
                    lost = _lost_side(part, row)
        if lost is not None:
            result = lost
        elif stems:
            from tutti.pipelines.decoding.mixing import sum_of_stems  # NumPy, which a build of nothing new never loads

            loaded = ((cache.read_blob(stem.blob), stem.gain_db) for stem in stems)
            facts, file = sum_of_stems(loaded, config, stem=_is_stem(clip))
            origin = {"blob": cache.put_blob(file), "complete": True}
            sources_sha256 = digest_of([stem.source_sha256 for stem in stems])
            result = {"audio": facts | origin | {"source_sha256": sources_sha256}}
        else:
            result = {"reason": "undecodable", "detail": "no stem of its song can be decoded"}
        cache.remember("prepare", key, result)
    yield _row(clip, result)


def _lost_side(part: Media, row: Clip | Rejected) -> dict[str, Any]:
    """Describe why a stem of two sides is lost with one of them."""
    name = PurePosixPath(part.member or part.url).name
    if isinstance(row, Rejected):
        return {"reason": row.reason, "detail": f"{name}: {row.detail}"}
    if row.audio is not None and row.audio.complete:
        return {"reason": "damaged", "detail": f"{name}: {row.audio.damaged_s:.3f} s of it are lost"}
    return {"reason": "truncated", "detail": f"{name}: ends before its own end mark"}


def _settings(recording: Recording, config: PrepareConfig) -> list[Any]:
    """Collect what decides the result of every clip, apart from its file: also its score, where it has one."""
    settings = asdict(config)
    if recording.score:
        return [settings, ALIGN_VERSION, notes_digest(recording.score)]
    del settings["min_alignment"]  # asked for nowhere
    return [settings]


def _is_stem(clip: Clip) -> bool:
    return clip.track is not None and clip.track.stem is not None


def _result_key(media: Media, clip: Clip, settings: list[Any], stem: bool) -> str:
    span = [clip.start_s, clip.end_s, media.offset_s]
    measured = [asdict(ActivityConfig()), WHITENESS_VERSION] if stem else []
    return digest_of([CODE_VERSION, *settings, media.sha256, media.member, *span, *measured])


def _is_usable(result: Any | None, cache: Cache) -> bool:
    return result is not None and ("audio" not in result or cache.has_blob(result["audio"]["blob"]))


def _row(clip: Clip, result: dict[str, Any]) -> Clip | Rejected:
    if "audio" not in result:
        fields = {name: result[name] for name in ("reason", "value", "detail", "status") if name in result}
        return Rejected(clip, stage="prepare", **fields)
    active = result["audio"].get("active")
    stored = StoredAudio(**result["audio"] | {"active": active and tuple(map(tuple, active))})
    end_s = clip.start_s + stored.native_num_samples / stored.native_sample_rate
    alignment = Alignment(**result["alignment"]) if "alignment" in result else None
    end_s = clip.end_s if clip.end_s is not None else round(end_s, 6)
    return replace(clip, audio=stored, end_s=end_s, alignment=alignment)


def _prepare_missing(
    recording: Recording, config: PrepareConfig, cache: Cache
) -> Iterator[tuple[Clip, dict[str, Any]]]:
    """Yield the result of each clip: a property of the file, unless it has a `status`."""
    media = recording.media
    for clip in recording.clips:
        if clip.end_s is not None and clip.end_s - clip.start_s > config.max_clip_s:  # known before it is decoded
            yield clip, _too_long(clip.end_s - clip.start_s, config)
    clips = tuple(c for c in recording.clips if c.end_s is None or c.end_s - c.start_s <= config.max_clip_s)
    if not clips:
        return
    recording = replace(recording, clips=clips)
    try:
        data = read_media(media, cache)
        heard = _hear(data, recording, config, cache)
    except DecodeError as error:
        for clip in clips:
            yield clip, {"reason": "undecodable", "detail": str(error)}
        return
    except MachineError as error:
        for clip in clips:
            yield clip, {"reason": error.reason, "detail": str(error), "status": "pending"}
        return
    aligned = {"alignment": asdict(heard.alignment)} if heard.alignment else {}
    if heard.alignment and heard.alignment.score < config.min_alignment:
        score = heard.alignment.score
        detail = f"correlates by {score:.3f} with its score, less than {config.min_alignment}: another piece or tempo"
        for clip in clips:
            yield clip, {"reason": "misaligned", "value": score, "detail": detail}
        return
    source_sha256 = hashlib.sha256(data).hexdigest() if media.member else media.sha256 or ""
    for place, clip in enumerate(clips):
        facts = heard.clips.get(place)
        if facts is None:
            end_s = media.offset_s + heard.duration_s
            if (lasts_s := min(end_s, clip.end_s or math.inf) - clip.start_s) > config.max_clip_s:
                yield clip, _too_long(lasts_s, config)
                continue
            ends = f"the recording ends at {end_s:.3f} s, before the clip starts at {clip.start_s:.3f} s"
            yield clip, {"reason": "truncated", "detail": ends}
            continue
        of_the_file: dict[str, Any] = {"source_sha256": source_sha256}
        if (rate := bit_rate(len(data), heard.duration_s, facts["codec"])) is not None:
            of_the_file["bit_rate"] = rate
        yield clip, {"audio": facts | of_the_file, **aligned}


def _too_long(lasts_s: Seconds, config: PrepareConfig) -> dict[str, Any]:
    most_s = config.max_clip_s
    remedy = f"name parts of it by start_s,end_s, or --set prepare.max_clip_s={math.ceil(lasts_s)} with memory for it"
    detail = f"lasts {lasts_s:.0f} s, a clip may have {most_s:.0f} s; {remedy}"
    return {"reason": "too_long", "value": round(lasts_s, 3), "detail": detail}


def bit_rate(num_bytes: int, duration_s: Seconds, codec: str) -> int | None:
    """Compute the bits per second of a file of a lossy codec; None of a lossless one."""
    name = codec.rpartition("/")[2].lower()
    if name.startswith("pcm_") or name in LOSSLESS or duration_s <= 0:
        return None
    return round(8 * num_bytes / duration_s)


@dataclass(frozen=True)
class _Heard:
    """The decoder's answer on a recording."""

    duration_s: Seconds
    alignment: Alignment | None
    clips: Mapping[int, dict[str, Any]]  # place of a clip that does not lie past the end -> its facts


def _hear(data: bytes, recording: Recording, config: PrepareConfig, cache: Cache) -> _Heard:
    """Decode a recording; the audio of its clips goes into the cache as it comes.

    Raises:
        DecodeError: it is no audio.
        SandboxError: no decoder came to a word on it.
    """
    media, clips = recording.media, recording.clips
    spans = [span_in_file(media, clip) for clip in clips]
    name = in_unicode(media.member or media.url)
    arguments: dict[str, Any] = {"name": name, "config": asdict(config), "spans": spans}
    if any(map(_is_stem, clips)):
        arguments["stems"] = True
    if recording.score:
        arguments["score"] = [[note.onset_s, note.offset_s, note.pitch, note.program] for note in recording.score]

    def keep(part: dict[str, Any], files: list[bytes]) -> tuple[int, dict[str, Any]]:
        place, facts = part.get("clip"), part.get("facts")
        if type(place) is not int or not 0 <= place < len(clips) or not isinstance(facts, dict) or len(files) != 1:
            raise nonsense("a clip")
        if len(files[0]) > _most_bytes(spans[place], config):
            raise nonsense("more audio than the clip has")
        sha256 = hashlib.sha256(files[0]).hexdigest()
        sandbox.typed(
            StoredAudio,
            facts | {"blob": sha256, "source_sha256": "", "bit_rate": None, "active": None},
        )
        return place, facts | {"blob": cache.put_blob(files[0])}

    answer, parts = sandbox.stream("prepare", arguments, [data], keep, most_parts=len(clips))
    alignment: Alignment | None = None
    match answer:
        case {"alignment": {"delay_s": float() as delay_s, "score": float() as score}, **rest}:
            alignment = Alignment(delay_s, score)
        case {"alignment": None, **rest}:
            pass
        case _:
            raise nonsense("an alignment")
    match rest:
        case {"duration_s": float() as duration_s, "complete": bool()}:
            return _Heard(duration_s, alignment, dict(parts))
        case {"duration_s": None, "complete": None} if alignment:
            return _Heard(0.0, alignment, {})
    raise nonsense("a recording")


def _most_bytes(span: tuple[Seconds, Seconds | None], config: PrepareConfig) -> float:
    """Bound the bytes of a clip's encoded audio: 16-bit samples, and a header."""
    start_s, end_s = span
    return math.inf if end_s is None else (max(0.0, end_s - start_s) + 1) * config.sample_rate * 2 * 1.05 + (1 << 16)


def span_in_file(media: Media, clip: Clip) -> tuple[Seconds, Seconds | None]:
    """Compute where in the file a clip begins and ends; the file may begin later than its recording."""
    end_s = None if clip.end_s is None else clip.end_s - media.offset_s
    return clip.start_s - media.offset_s, end_s


def read_media(media: Media, cache: Cache) -> bytes:
    """Read the upstream file of a recording from the cache.

    Raises:
        DecodeError: an archive's member is damaged, as upstream made it.
        CacheDamageError: the cache itself is damaged, which is no property of the recording.
    """
    if media.sha256 is None:
        raise ValueError(f"{media.url}: is not in the cache; fetch it first")
    if media.member is None:
        return cache.read_blob(media.sha256)
    label = PurePosixPath(urlsplit(media.url).path).name
    try:
        return open_archive(cache.archive_path(media.sha256), label).read(media.member)
    except (IntegrityError, OSError) as error:
        cache.check_archive(media.sha256)
        if isinstance(error, OSError):
            raise
        raise DecodeError(in_unicode(str(error))) from error
