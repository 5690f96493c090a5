"""The kernels of `prepare`: from the bytes of a file to the facts and the FLAC of each of its clips.

    decode -> excerpt -> mono mean -> soxr HQ -> BS.1770 loudness -> gain under a true-peak guard
    -> 16 bit -> FLAC

The gain is lowered, never the peaks clipped: where the guard holds it back, training applies
the rest in float from `loudness_lufs`. Runs in the decoder's process (`pipelines/sandboxed.py`).
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from datasets import audio
from datasets.decoder import Span, Stream, decode_spans
from datasets.record import Alignment, Decibels, Lufs, Note
from datasets.sketch import sketch
from pipelines.align import AlignConfig, delay
from pipelines.prepare_config import PrepareConfig


def prepare_spans(
    data: bytes, name: str, spans: Sequence[Span], config: PrepareConfig
) -> tuple[Stream, list[tuple[dict[str, Any], bytes] | None]]:
    """Decode a file once; facts and encoded audio of each span, None for one that lies past the end.

    Raises:
        DecodeError: see `decode_spans`.
    """
    stream, waveforms = decode_spans(data, name, spans)
    stored = [store_audio(waveform, stream, config) if waveform.shape[1] else None for waveform in waveforms]
    return stream, stored


def measure_alignment(data: bytes, name: str, notes: Sequence[Note], config: PrepareConfig) -> Alignment | None:
    """How a file lies against its score; None where there is nothing to hear.

    Raises:
        DecodeError: see `decode_spans`.
    """
    search = AlignConfig()
    stream, (beginning,) = decode_spans(data, name, [(0.0, search.measured_s + search.highest_delay_s)])
    mono = audio.to_mono(beginning)
    if np.abs(mono).max(initial=0.0) < config.silence_amplitude:
        return None
    return delay(audio.resample(mono, stream.sample_rate, config.sample_rate), config.sample_rate, notes, search)


def prepare_aligned(
    data: bytes, name: str, spans: Sequence[Span], config: PrepareConfig, alignment: Alignment
) -> tuple[Stream, list[tuple[dict[str, Any], bytes] | None]]:
    """The same with spans in the time of the score; what the file lacks at its beginning is silence."""
    moved = [(start + alignment.delay_s, None if end is None else end + alignment.delay_s) for start, end in spans]
    stream, waveforms = decode_spans(data, name, moved)
    missing = [max(0, -round(start_s * stream.sample_rate)) for start_s, _ in moved]
    whole = [np.pad(waveform, ((0, 0), (size, 0))) for waveform, size in zip(waveforms, missing, strict=True)]
    return stream, [store_audio(waveform, stream, config) if waveform.shape[1] else None for waveform in whole]


def store_audio(
    waveform: audio.Waveform, origin: Stream | audio.Decoded, config: PrepareConfig
) -> tuple[dict[str, Any], bytes]:
    """Facts of `StoredAudio` (but for `blob` and `source_sha256`) and the encoded file.

    Args:
        waveform: the excerpt, float32 (num_channels, num_samples) at the native rate.
        origin: the file it was cut from.
        config: see `PrepareConfig`.
    """
    native = audio.to_mono(waveform)
    mono = audio.resample(native, origin.sample_rate, config.sample_rate)
    loudness = audio.measure_loudness(mono, config.sample_rate)
    peak = audio.true_peak_dbtp(mono, config.sample_rate)
    gain_db = gain_for(loudness, peak, config)
    samples = audio.to_int16(audio.apply_gain(mono, gain_db))
    facts = {
        "pcm_sha256": audio.pcm_sha256(samples),
        "native_sha256": audio.pcm_sha256(audio.to_int16(native)),
        "sample_rate": config.sample_rate,
        "num_samples": samples.size,
        "native_sample_rate": origin.sample_rate,
        "native_num_samples": native.size,
        "num_channels": waveform.shape[0],
        "codec": origin.codec,
        "decoder": origin.decoder,
        "silence_share": round(audio.silence_share(native, config.silence_amplitude), 6),
        "mean_amplitude": round(float(np.abs(native).mean(dtype=np.float64)), 9),
        "loudness_lufs": None if loudness is None else round(loudness + gain_db, 3),
        "gain_db": gain_db,
        "true_peak_dbtp": None if peak is None else round(peak + gain_db, 3),
        "complete": origin.complete,
        "sketch": sketch(samples, config.sample_rate),
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
