"""From upstream bytes to normalized 16 kHz PCM: decode, slice, mono, resample, loudness.

Waveforms are float32 (num_channels, num_samples) in [-1, 1]; `mono` means (num_samples,).
One pinned decoder per format: libsndfile for WAV, FLAC, MP3 and Ogg, PyAV for WebM and MP4.
Lossy files are decoded once in full and then cut: their seeks are not sample-exact.
"""

import functools
import hashlib
import io
import warnings
from dataclasses import dataclass

import av
import numpy as np
import pyloudnorm
import soundfile
import soxr
from numpy.typing import NDArray

from datasets.record import Decibels, Lufs, Seconds

Waveform = NDArray[np.float32]
Mono = NDArray[np.float32]

# Above any real recording; a header that claims more is damaged or hostile.
MAX_CHANNELS = 32
SAMPLE_RATES_HZ = (4_000, 768_000)

LOUDNESS_BLOCK_S = 0.4  # BS.1770-4: gating blocks of 400 ms
MIN_LOUDNESS_LUFS = -60.0  # below, a measurement is noise: no gain can be derived from it


class DecodeError(Exception):
    """The bytes are no audio that the pinned decoders read; the message says why."""


@dataclass(frozen=True)
class Decoded:
    """A whole upstream file."""

    waveform: Waveform
    sample_rate: int
    codec: str
    decoder: str
    complete: bool  # False: the container ends before its own end mark

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
    demuxer = _pyav_demuxer(data)
    decoded = _decode_soundfile(data, name) if demuxer is None else _decode_pyav(data, name, demuxer)
    low, high = SAMPLE_RATES_HZ
    if not low <= decoded.sample_rate <= high:
        raise DecodeError(f"{name}: sample rate {decoded.sample_rate} Hz is outside {low} to {high}")
    if decoded.waveform.shape[1] == 0:
        raise DecodeError(f"{name}: holds no samples")
    if not np.isfinite(decoded.waveform).all():
        raise DecodeError(f"{name}: holds samples that are not finite")
    return decoded


def _pyav_demuxer(data: bytes) -> str | None:
    if data[:4] == b"\x1a\x45\xdf\xa3":  # EBML: Matroska, WebM
        return "matroska"
    if data[4:8] == b"ftyp":  # ISO base media: MP4, M4A
        return "mp4"
    return None


def _decode_soundfile(data: bytes, name: str) -> Decoded:
    try:
        with soundfile.SoundFile(io.BytesIO(data)) as file:
            if file.channels > MAX_CHANNELS:
                raise DecodeError(f"{name}: claims {file.channels} channels")
            samples = file.read(dtype="float32", always_2d=True)
            codec = f"{file.format}/{file.subtype}"
            rate = int(file.samplerate)
    except soundfile.LibsndfileError as error:
        raise DecodeError(f"{name}: {error.error_string}") from error  # str(error) holds an address in memory
    except (soundfile.SoundFileError, MemoryError, ValueError) as error:
        raise DecodeError(f"{name}: {error}") from error
    return Decoded(samples.T, rate, codec, "libsndfile", _is_complete(data))


def _decode_pyav(data: bytes, name: str, demuxer: str) -> Decoded:
    try:
        with av.open(io.BytesIO(data), mode="r", format=demuxer, metadata_errors="replace") as container:
            if not container.streams.audio:
                raise DecodeError(f"{name}: holds no audio stream")
            stream = container.streams.audio[0]
            planar = av.AudioResampler(format="fltp")  # sample format only: same rate and layout
            frames = [out for frame in container.decode(stream) for out in planar.resample(frame)]
            if not frames or frames[0].layout.nb_channels > MAX_CHANNELS:
                raise DecodeError(f"{name}: holds no decodable audio")
            waveform = np.concatenate([frame.to_ndarray() for frame in frames], axis=1)
            # The decoder's rate, not the header's: HE-AAC declares half of it.
            return Decoded(waveform, frames[0].sample_rate, f"{demuxer}/{stream.codec_context.name}", "pyav", True)
    except (av.error.FFmpegError, ValueError, MemoryError) as error:
        raise DecodeError(f"{name}: {error}") from error


def _is_complete(data: bytes) -> bool:
    """Whether an Ogg stream or a RIFF file reaches its own end; libsndfile does not complain."""
    if data[:4] == b"OggS":
        page = data.rfind(b"OggS")
        header = data[page : page + 27]
        if len(header) < 27:
            return False
        num_segments = header[26]
        lacing = data[page + 27 : page + 27 + num_segments]
        end = page + 27 + num_segments + sum(lacing)
        return bool(header[5] & 0x04) and len(lacing) == num_segments and end <= len(data)  # RFC 3533: end of stream
    if data[:4] == b"RIFF":
        declared = int.from_bytes(data[4:8], "little")
        return declared in (0, 0xFFFFFFFF) or declared + 8 <= len(data) + 1  # 0 and -1: written as a stream
    return True


def excerpt(decoded: Decoded, start_s: Seconds, end_s: Seconds | None) -> Waveform:
    """Samples from round(start * rate) up to round(end * rate), or what there is of them."""
    start = round(start_s * decoded.sample_rate)
    end = None if end_s is None else round(end_s * decoded.sample_rate)
    return decoded.waveform[:, start:end]


def to_mono(waveform: Waveform) -> Mono:
    """Mean of the channels."""
    total: Mono = waveform[0]
    if len(waveform) == 1:
        return total
    total = total + waveform[1]  # np.mean is six times slower on interleaved memory
    for channel in waveform[2:]:
        total += channel
    total /= np.float32(len(waveform))
    return total


def resample(mono: Mono, sample_rate: int, target_rate: int) -> Mono:
    """Band-limited resampling: soxr HQ, aliases below -138 dB."""
    if sample_rate == target_rate:
        return mono
    resampled: Mono = soxr.resample(mono, sample_rate, target_rate, quality="HQ")
    return resampled


def silence_share(mono: Mono, amplitude: float) -> float:
    """Share of samples whose magnitude is below `amplitude`; 1.0 where there are none."""
    return float(np.mean(np.abs(mono) < amplitude)) if mono.size else 1.0


@functools.lru_cache(maxsize=64)
def _meter(sample_rate: int, block_s: float) -> pyloudnorm.Meter:
    return pyloudnorm.Meter(sample_rate, block_size=block_s)


def measure_loudness(mono: Mono, sample_rate: int) -> Lufs | None:
    """Integrated loudness, ITU-R BS.1770-4; None where it cannot be measured.

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
    """True peak after 4x oversampling (BS.1770-4 annex 2); None for digital silence."""
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
    """Gain that brings a signal to the target, lowered where its true peak would pass the limit.

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
    """16-bit PCM: full scale 1.0 = 32768, rounded to nearest even, no dither."""
    scaled = mono * np.float32(32768)
    np.rint(scaled, out=scaled)
    np.clip(scaled, -32768, 32767, out=scaled)
    return scaled.astype(np.int16)


def pcm_sha256(samples: NDArray[np.int16]) -> str:
    """Digest of 16-bit PCM, little-endian."""
    return hashlib.sha256(np.ascontiguousarray(samples, "<i2").tobytes()).hexdigest()


def encode(samples: NDArray[np.int16], sample_rate: int, audio_format: str) -> bytes:
    """A complete mono file: `flac` (16 bit, level 5) or `wav`."""
    stream = io.BytesIO()
    soundfile.write(stream, samples, sample_rate, format=audio_format.upper(), subtype="PCM_16")
    return stream.getvalue()
