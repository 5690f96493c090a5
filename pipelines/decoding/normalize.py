"""The kernels of `prepare`: from the bytes of a file to the facts and the FLAC of each of its clips.

    decode -> excerpt -> mono mean -> soxr HQ -> BS.1770 loudness -> gain under a true-peak guard
    -> 16 bit -> FLAC

The gain is lowered, never the peaks clipped: where the guard holds it back, training applies
the rest in float from `loudness_lufs`. Runs in the decoder's process (`pipelines/decoding/child.py`).
"""

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np

from tutti.datasets import audio
from tutti.datasets.decoder import Span, Stream, decode_spans, each_span
from tutti.datasets.record import Alignment, Decibels, Lufs, Note
from tutti.datasets.sketch import sketch
from tutti.pipelines.decoding.activity import active_spans
from tutti.pipelines.decoding.align import AlignConfig, delay
from tutti.pipelines.decoding.config import ActivityConfig, PrepareConfig
from tutti.pipelines.decoding.whiteness import flatness

Take: TypeAlias = Callable[[int, dict[str, Any], bytes], object]  # place of a span, its facts, its encoded audio


def prepare_spans(
    data: bytes, name: str, spans: Sequence[Span], config: PrepareConfig, take: Take, *, stems: bool = False
) -> Stream:
    """Decode a file once; `take` gets each span when it is done, but for those past the end or too long.

    The activity of `stems` is measured, and how white they are.

    Raises:
        DecodeError: see `each_span`.
    """

    def store(place: int, waveform: audio.Waveform, so_far: Stream) -> None:
        if 0 < waveform.shape[1] <= config.max_clip_s * so_far.sample_rate:
            take(place, *store_audio(waveform, so_far, config, stem=stems))

    return each_span(data, name, _bounded(spans, config), store)


def _bounded(spans: Sequence[Span], config: PrepareConfig) -> list[Span]:
    """Shorten spans to a second more than a clip may have: that shows what is too long, and takes no more memory."""
    latest = [start_s + config.max_clip_s + 1 for start_s, _ in spans]
    return [
        (span[0], until_s if span[1] is None else min(span[1], until_s))
        for span, until_s in zip(spans, latest, strict=True)
    ]


def measure_alignment(data: bytes, name: str, notes: Sequence[Note], config: PrepareConfig) -> Alignment | None:
    """Measure the alignment of a file with its score; None where the beginning is silent.

    Raises:
        DecodeError: see `decode_spans`.
    """
    search = AlignConfig()
    stream, (beginning,) = decode_spans(data, name, [(0.0, search.measured_s + search.highest_delay_s)])
    mono = audio.mix_down(beginning, config.downmix)
    if np.abs(mono).max(initial=0.0) < config.silence_amplitude:
        return None
    return delay(audio.resample(mono, stream.sample_rate, config.sample_rate), config.sample_rate, notes, search)


def prepare_aligned(
    data: bytes, name: str, spans: Sequence[Span], config: PrepareConfig, alignment: Alignment, take: Take
) -> Stream:
    """Prepare spans given in the time of the score; what the file lacks at its beginning is silence."""
    moved = [(start + alignment.delay_s, None if end is None else end + alignment.delay_s) for start, end in spans]

    def store(place: int, waveform: audio.Waveform, so_far: Stream) -> None:
        missing = max(0, -round(moved[place][0] * so_far.sample_rate))
        if 0 < missing + waveform.shape[1] <= config.max_clip_s * so_far.sample_rate:
            take(place, *store_audio(np.pad(waveform, ((0, 0), (missing, 0))), so_far, config))

    return each_span(data, name, _bounded(moved, config), store)


def store_audio(
    waveform: audio.Waveform, origin: Stream | audio.Decoded, config: PrepareConfig, *, stem: bool = False
) -> tuple[dict[str, Any], bytes]:
    """Normalize and encode an excerpt: facts of `StoredAudio` (but those of the whole file), and the file.

    Args:
        waveform: the excerpt, float32 (num_channels, num_samples) at the native rate.
        origin: the file it was cut from.
        config: see `PrepareConfig`.
        stem: whether to measure when it sounds, and whether as noise.
    """
    native = audio.mix_down(waveform, config.downmix)
    mono = audio.resample(native, origin.sample_rate, config.sample_rate)
    loudness = audio.measure_loudness(mono, config.sample_rate)
    peak = audio.true_peak_dbtp(mono, config.sample_rate)
    gain_db = gain_for(loudness, peak, config)
    samples = audio.to_int16(audio.apply_gain(mono, gain_db))
    heard = audio.to_int16(native)  # as upstream has it: what a lower rate takes away may be the loudest of a cymbal
    active = active_spans(heard, origin.sample_rate, config.silence_amplitude, ActivityConfig()) if stem else None
    facts = {
        "pcm_sha256": audio.pcm_sha256(samples),
        "native_sha256": audio.pcm_sha256(heard),
        "sample_rate": config.sample_rate,
        "num_samples": samples.size,
        "native_sample_rate": origin.sample_rate,
        "native_num_samples": native.size,
        "num_channels": waveform.shape[0],
        "codec": origin.codec,
        "decoder": origin.decoder,
        "silence_share": round(audio.silence_share(native, config.silence_amplitude), 6),
        "stored_silence_share": round(audio.silence_share(samples, 32_768 * config.silence_amplitude), 6),
        "cancelled_db": audio.measure_cancelled(waveform, native) if config.downmix == "mean" else None,
        "spike_db": audio.measure_spike(mono, config.sample_rate),
        "mean_amplitude": round(float(np.abs(native).mean(dtype=np.float64)), 9),
        "loudness_lufs": None if loudness is None else round(loudness + gain_db, 3),
        "gain_db": gain_db,
        "true_peak_dbtp": None if peak is None else round(peak + gain_db, 3),
        "sketch": sketch(samples, config.sample_rate),
        "clipped_share": round(audio.clipped_share(waveform), 6),
        "active": active,
        "complete": origin.complete,
        "gap_s": origin.gap_s,
        "damaged_s": origin.damaged_s,
        "flatness": flatness(samples, config.sample_rate) if stem else None,
    }
    return facts, audio.encode(samples, config.sample_rate, config.audio_format)


def gain_for(loudness: Lufs | None, true_peak: Decibels | None, config: PrepareConfig) -> Decibels:
    """Compute the gain towards the configured loudness, under the configured guards."""
    return audio.loudness_gain_db(
        loudness,
        true_peak,
        target_lufs=config.target_lufs,
        max_true_peak_dbtp=config.max_true_peak_dbtp,
        max_gain_db=config.max_gain_db,
    )
