"""Stage 2, prepare: decode, slice, mono, 16 kHz, loudness; the result is a FLAC in the cache.

    decode -> excerpt -> mono mean -> soxr HQ -> BS.1770 loudness -> gain under a true-peak guard
    -> 16 bit -> FLAC

The gain is lowered, never the peaks clipped: where the guard holds it back, training applies
the rest in float from `loudness_lufs`.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import PurePosixPath
from typing import Any, Literal
from urllib.parse import urlsplit

from datasets import audio
from datasets.archive import open_archive
from datasets.errors import IntegrityError
from datasets.manifest import digest_of
from datasets.record import Clip, Decibels, Lufs, Media, Recording, Rejected, StoredAudio
from pipelines.cache import Cache

CODE_VERSION = 1  # raise it when this stage or datasets/audio.py computes something else


@dataclass(frozen=True)
class PrepareConfig:
    """What the stored audio sounds like."""

    sample_rate: int = 16_000  # Hz; AST, NSynth pre-training and Lumen all work at 16 kHz
    target_lufs: Lufs = -12.0  # NSynth pre-training paper
    max_true_peak_dbtp: Decibels = -1.0  # EBU R 128
    max_gain_db: Decibels = 40.0  # a 16-bit source 40 dB below target has some 9 bits left
    silence_amplitude: float = 0.001  # of full scale; Lumen 2023, "Obvious outliers"
    audio_format: Literal["flac", "wav"] = "flac"

    def __post_init__(self) -> None:
        """Refuse a rate that no audio has."""
        if not 1_000 <= self.sample_rate <= 192_000:
            raise ValueError(f"sample_rate {self.sample_rate} Hz is outside 1000 to 192000")


def prepare(recording: Recording, *, config: PrepareConfig, cache: Cache) -> Iterator[Clip | Rejected]:
    """Clips of one recording with their stored audio; it is decoded once, and only if need be."""
    media = recording.media
    keys = {clip.id: _result_key(media, clip, config) for clip in recording.clips}
    results: dict[str, Any] = {clip.id: cache.result("prepare", keys[clip.id]) for clip in recording.clips}
    missing = [clip for clip in recording.clips if not _is_usable(results[clip.id], cache)]
    if missing:
        for clip, result in _prepare_missing(media, missing, config, cache):
            cache.remember("prepare", keys[clip.id], result)
            results[clip.id] = result
    for clip in recording.clips:
        yield _row(clip, results[clip.id])


def _result_key(media: Media, clip: Clip, config: PrepareConfig) -> str:
    return digest_of([CODE_VERSION, asdict(config), media.sha256, media.member, clip.start_s, clip.end_s])


def _is_usable(result: Any | None, cache: Cache) -> bool:
    return result is not None and ("audio" not in result or cache.has_blob(result["audio"]["blob"]))


def _row(clip: Clip, result: dict[str, Any]) -> Clip | Rejected:
    if "audio" not in result:
        return Rejected(clip, stage="prepare", reason=result["reason"], detail=result["detail"])
    stored = StoredAudio(**result["audio"])
    end_s = clip.start_s + stored.native_num_samples / stored.native_sample_rate
    return replace(clip, audio=stored, end_s=clip.end_s if clip.end_s is not None else round(end_s, 6))


def _prepare_missing(
    media: Media, clips: list[Clip], config: PrepareConfig, cache: Cache
) -> Iterator[tuple[Clip, dict[str, Any]]]:
    try:
        data = read_media(media, cache)
        decoded = audio.decode(data, media.member or media.url)
    except audio.DecodeError as error:
        for clip in clips:
            yield clip, {"reason": "undecodable", "detail": str(error)}
        return
    source_sha256 = hashlib.sha256(data).hexdigest() if media.member else media.sha256 or ""
    for clip in clips:
        waveform = audio.excerpt(decoded, clip.start_s, clip.end_s)
        if waveform.shape[1] == 0:
            ends = f"the recording ends at {decoded.duration_s:.3f} s, before the clip starts at {clip.start_s:.3f} s"
            yield clip, {"reason": "truncated", "detail": ends}
            continue
        stored, samples = store_audio(waveform, decoded, config)
        blob = cache.put_blob(samples)
        yield clip, {"audio": stored | {"blob": blob, "source_sha256": source_sha256}}


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
        raise audio.DecodeError(str(error)) from error


def store_audio(
    waveform: audio.Waveform, decoded: audio.Decoded, config: PrepareConfig
) -> tuple[dict[str, Any], bytes]:
    """Facts of `StoredAudio` (but for `blob` and `source_sha256`) and the encoded file.

    Args:
        waveform: the excerpt, float32 (num_channels, num_samples) at the native rate.
        decoded: the file it was cut from.
        config: see `PrepareConfig`.
    """
    native = audio.to_mono(waveform)
    mono = audio.resample(native, decoded.sample_rate, config.sample_rate)
    loudness = audio.measure_loudness(mono, config.sample_rate)
    peak = audio.true_peak_dbtp(mono, config.sample_rate)
    gain_db = gain_for(loudness, peak, config)
    samples = audio.to_int16(audio.apply_gain(mono, gain_db))
    facts = {
        "pcm_sha256": audio.pcm_sha256(samples),
        "native_sha256": audio.pcm_sha256(audio.to_int16(native)),
        "sample_rate": config.sample_rate,
        "num_samples": samples.size,
        "native_sample_rate": decoded.sample_rate,
        "native_num_samples": native.size,
        "num_channels": waveform.shape[0],
        "codec": decoded.codec,
        "decoder": decoded.decoder,
        "silence_share": round(audio.silence_share(native, config.silence_amplitude), 6),
        "loudness_lufs": None if loudness is None else round(loudness + gain_db, 3),
        "gain_db": gain_db,
        "true_peak_dbtp": None if peak is None else round(peak + gain_db, 3),
        "complete": decoded.complete,
    }
    return facts, audio.encode(samples, config.sample_rate, config.audio_format)


def gain_for(loudness: Lufs | None, true_peak: Decibels | None, config: PrepareConfig) -> Decibels:
    """Gain towards the configured loudness, under the configured guards."""
    return audio.loudness_gain_db(
        loudness,
        true_peak,
        target_lufs=config.target_lufs,
        max_true_peak_dbtp=config.max_true_peak_dbtp,
        max_gain_db=config.max_gain_db,
    )
