"""Audio from upstream bytes to normalized 16 kHz PCM: decode, slice, mono, resample, loudness.

Waveforms are float32 (num_channels, num_samples) in [-1, 1]; `mono` means (num_samples,).
"""

import functools
import io
import math
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from tutti.datasets.audibility import Downmix
from tutti.datasets.decode_error import DecodeError as DecodeError
from tutti.datasets.decoder import Waveform as Waveform
from tutti.datasets.decoder import decode_spans, sample_range
from tutti.datasets.record import Decibels, Lufs, Seconds
from tutti.datasets.shard_audio import pcm_sha256 as pcm_sha256

Mono = NDArray[np.float32]

LOUDNESS_BLOCK_S = 0.4  # BS.1770-4: gating blocks of 400 ms
CLIPPED_PEAK = 0.1  # of full scale: below, 16-bit noise is flat by itself
FLAT = 2.0 / 32_768
SOME = 4096  # samples that show whether most have one value
MOST_DB = 99.9  # of cancellation and of spikes, where nothing is left at all
SPIKE_S, SPIKE_DB = 0.005, 30.0  # a drum stays within 30 dB of its peak for longer than 5 ms
SUSPECT = 2.0  # times weaker than unrelated channels: then cancellation is measured exactly
MIN_LOUDNESS_LUFS = -60.0  # below, a measurement is noise: no gain can be derived from it


@dataclass(frozen=True)
class Decoded:
    """A whole upstream file."""

    waveform: Waveform
    sample_rate: int
    codec: str
    decoder: str
    complete: bool  # False: the container ends before its own end mark
    gap_s: Seconds = 0.0  # of silence where the container has no sound
    damaged_s: Seconds = 0.0  # lost, or not decodable

    @property
    def duration_s(self) -> Seconds:
        """Decoded length."""
        return float(self.waveform.shape[1] / self.sample_rate)


def decode(data: bytes, name: str) -> Decoded:
    """Decode a complete file from memory.

    Args:
        data: the file; its format is told from its first bytes, never from its name.
        name: what errors call it.

    Raises:
        DecodeError: unknown format, damaged content, no samples, or samples that are not finite.
    """
    stream, (waveform,) = decode_spans(data, name, [(0.0, None)])
    facts = stream.sample_rate, stream.codec, stream.decoder, stream.complete, stream.gap_s, stream.damaged_s
    return Decoded(waveform, *facts)


def excerpt(decoded: Decoded, start_s: Seconds, end_s: Seconds | None) -> Waveform:
    """Cut samples from round(start * rate) up to round(end * rate), as far as there are any."""
    start, end = sample_range((start_s, end_s), decoded.sample_rate, decoded.waveform.shape[1])
    return decoded.waveform[:, start:end]


def to_mono(waveform: Waveform) -> Mono:
    """Average the channels."""
    total: Mono = waveform[0]
    if len(waveform) == 1:
        return total
    total = total + waveform[1]  # np.mean is six times slower on interleaved memory
    for channel in waveform[2:]:
        total += channel
    total /= np.float32(len(waveform))
    return total


def mix_down(waveform: Waveform, how: Downmix) -> Mono:
    """Mix (num_channels, num_samples) to one channel (num_samples,): the mean, the first, or the one of most power."""
    if how == "mean":
        return to_mono(waveform)
    powers = [0.0] if how == "first" else [round(_power(channel), 12) for channel in waveform]
    return np.ascontiguousarray(waveform[powers.index(max(powers))])  # of equal ones the first


def resample(mono: Mono, sample_rate: int, target_rate: int) -> Mono:
    """Resample band-limited: soxr HQ, aliases below -138 dB."""
    if sample_rate == target_rate:
        return mono
    resampled: Mono = soxr.resample(mono, sample_rate, target_rate, quality="HQ")
    return resampled


def silence_share(samples: Mono | NDArray[np.int16], amplitude: float) -> float:
    """Compute the share of samples within `amplitude` of zero, or of an offset that most have; 1.0 of none at all.

    Args:
        samples: (num_samples,), any number type.
        amplitude: in the samples' own unit.
    """
    if not samples.size:
        return 1.0
    near_zero = _share_between(samples, -amplitude, amplitude)
    some = samples[:: max(1, samples.size // SOME)]
    if np.mean(np.abs(some - np.median(some)) < 2 * amplitude) < 0.5:
        return near_zero
    offset = float(np.median(samples))  # a mean would follow a single spike
    if not offset:
        return near_zero
    return max(near_zero, _share_between(samples, offset - amplitude, offset + amplitude))


def _share_between(samples: Mono | NDArray[np.int16], low: float, high: float) -> float:
    return np.count_nonzero((samples > low) & (samples < high)) / samples.size


def measure_cancelled(waveform: Waveform, mono: Mono) -> Decibels | None:
    """Measure in dB how much weaker the mean of channels is than that of as many unrelated ones; offsets do not count.

    Args:
        waveform: (num_channels, num_samples), two channels or more.
        mono: (num_samples,), their mean.

    Returns:
        Equal channels have -10 log10(num_channels), inverted ones `MOST_DB`; None where they are far from cancelling.
    """
    if len(waveform) == 1 or not mono.size:
        return None
    rough = _rough_power(waveform.ravel(order="K"))  # as it lies in memory
    if rough <= SUSPECT * len(waveform) ** 2 * _rough_power(mono):
        return None
    apart, together = sum(_power(channel) for channel in waveform), len(waveform) ** 2 * _power(mono)
    if apart <= 0:
        return None  # silence
    return MOST_DB if together <= 0 else min(round(10 * math.log10(apart / together), 2), MOST_DB)


def measure_spike(mono: Mono, sample_rate: int) -> Decibels | None:
    """Measure in dB how far the peak is above what 5 ms of samples reach; None where that is less than 30 dB."""
    magnitudes, most = np.abs(mono), math.ceil(SPIKE_S * sample_rate)
    peak = float(magnitudes.max(initial=0.0))
    if peak == 0.0 or mono.size <= most or np.count_nonzero(magnitudes >= peak * 10 ** (-SPIKE_DB / 20)) >= most:
        return None
    level = float(np.partition(magnitudes, -most)[-most])
    return MOST_DB if level <= 0 else min(round(20 * math.log10(peak / level), 2), MOST_DB)


def _rough_power(samples: Mono) -> float:
    with np.errstate(over="ignore", invalid="ignore"):  # of float files: infinite is large enough
        return float(np.dot(samples, samples))


def _power(samples: Mono) -> float:
    """Compute the power without the offset, in float64."""
    precise = samples.astype(np.float64)
    return float(np.square(precise - precise.mean()).mean())


def clipped_share(waveform: Waveform) -> float:
    """Compute the share of samples on flat tops, or beyond full scale as lossy decoders leave them.

    A flat top has three or more equal samples (within 2 of 32768) in a row, within 1 dB of its channel's peak: of a
    sine below 60 Hz some are as flat. A square wave is nothing else. Channels that stay below -20 dBFS have none.
    """
    clipped = 0
    for channel in waveform:
        peak = float(np.abs(channel).max(initial=0.0))
        if peak < CLIPPED_PEAK:
            continue
        high = np.flatnonzero(np.abs(channel) >= 0.9 * peak)
        values = channel[high]
        equal = np.abs(np.diff(values)) <= FLAT
        flat = equal[1:] & equal[:-1] & (high[2:] - high[:-2] == 2)
        on_top = np.abs(values) > 1.0
        on_top[:-2] |= flat
        on_top[1:-1] |= flat
        on_top[2:] |= flat
        clipped += int(on_top.sum())
    return clipped / waveform.size if waveform.size else 0.0


@functools.lru_cache(maxsize=64)
def _meter(sample_rate: int, block_s: float) -> Any:
    import pyloudnorm  # with scipy.signal: half a second, which only decoders need to spend

    return pyloudnorm.Meter(sample_rate, block_size=block_s)


def measure_loudness(mono: Mono, sample_rate: int) -> Lufs | None:
    """Measure integrated loudness, ITU-R BS.1770-4; None where it cannot be measured.

    A signal shorter than one gating block is measured as one shorter block.
    """
    duration_s = mono.size / sample_rate
    if duration_s < 0.02:  # too few samples for the K-weighting filters to settle
        return None
    # One sample less: pyloudnorm compares size with block_s * rate, which rounding may push above it.
    block_s = LOUDNESS_BLOCK_S if duration_s >= LOUDNESS_BLOCK_S else (mono.size - 1) / sample_rate
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        loudness = float(_meter(sample_rate, block_s).integrated_loudness(mono))
    return loudness if np.isfinite(loudness) and loudness >= MIN_LOUDNESS_LUFS else None


def true_peak_dbtp(mono: Mono, sample_rate: int) -> Decibels | None:
    """Measure the true peak after 4x oversampling (BS.1770-4 annex 2); None for digital silence."""
    if not mono.size:
        return None
    oversampled = soxr.resample(mono, sample_rate, 4 * sample_rate, quality="LQ")
    peak = max(float(np.abs(oversampled).max(initial=0.0)), float(np.abs(mono).max()))
    return 20 * float(np.log10(peak)) if peak > 0 else None


def loudness_gain_db(
    loudness_lufs: Lufs | None,
    true_peak: Decibels | None,
    *,
    target_lufs: Lufs,
    max_true_peak_dbtp: Decibels,
    max_gain_db: Decibels,
) -> Decibels:
    """Compute the gain to the target loudness, lowered where the true peak would pass its limit.

    Rounded down to 0.01 dB, so that measurements which differ in their last bits (another CPU)
    give the same stored samples.
    """
    gain_db = 0.0 if loudness_lufs is None else min(target_lufs - loudness_lufs, max_gain_db)
    if true_peak is not None:
        gain_db = min(gain_db, max_true_peak_dbtp - true_peak)
    return float(np.floor(gain_db * 100 + 1e-6) / 100) + 0.0  # + 0.0: no negative zero


def apply_gain(mono: Mono, gain_db: Decibels) -> Mono:
    """Scale by a gain in decibels."""
    scaled: Mono = mono * np.float32(10 ** (gain_db / 20))
    return scaled


def to_int16(mono: Mono) -> NDArray[np.int16]:
    """Convert to 16-bit PCM: full scale 1.0 = 32768, rounded to nearest even, no dither."""
    scaled = mono * np.float32(32768)
    np.rint(scaled, out=scaled)
    np.clip(scaled, -32768, 32767, out=scaled)
    return scaled.astype(np.int16)


def encode(samples: NDArray[np.int16], sample_rate: int, audio_format: str) -> bytes:
    """Encode a complete mono file: `flac` (16 bit, level 5) or `wav`."""
    stream = io.BytesIO()
    soundfile.write(stream, samples, sample_rate, format=audio_format.upper(), subtype="PCM_16")
    return stream.getvalue()
