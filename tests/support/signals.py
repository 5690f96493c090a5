"""Synthesized signals and files for tests: everything that a test hears is written here.

Waveforms are float32 (num_channels, num_samples) in [-1, 1].
"""

import io
import struct
from collections.abc import Mapping

import av
import numpy as np
import soundfile
from numpy.typing import NDArray

Waveform = NDArray[np.float32]


def sine(
    duration_s: float = 1.0,
    *,
    frequency_hz: float = 440.0,
    amplitude: float = 0.5,
    sample_rate: int = 44_100,
    num_channels: int = 1,
) -> Waveform:
    """A steady tone, equal in all channels."""
    time_s = np.arange(round(duration_s * sample_rate)) / sample_rate
    tone = amplitude * np.sin(2 * np.pi * frequency_hz * time_s)
    return np.tile(tone.astype(np.float32), (num_channels, 1))


def silence(duration_s: float = 1.0, *, sample_rate: int = 44_100, num_channels: int = 1) -> Waveform:
    """Digital silence."""
    return np.zeros((num_channels, round(duration_s * sample_rate)), np.float32)


def impulse(duration_s: float = 1.0, *, sample_rate: int = 44_100) -> Waveform:
    """One sample of 1 in the middle of silence."""
    samples = silence(duration_s, sample_rate=sample_rate)
    samples[:, samples.shape[1] // 2] = 1.0
    return samples


def noise(
    duration_s: float = 1.0, *, amplitude: float = 0.1, sample_rate: int = 44_100, num_channels: int = 1, seed: int = 0
) -> Waveform:
    """White Gaussian noise, independent per channel; `amplitude` is its standard deviation."""
    rng = np.random.default_rng(seed)
    samples = amplitude * rng.standard_normal((num_channels, round(duration_s * sample_rate)))
    return samples.clip(-1, 1).astype(np.float32)


def encoded(
    waveform: Waveform, *, sample_rate: int = 44_100, kind: str = "WAV", subtype: str | None = "PCM_16"
) -> bytes:
    """A complete audio file; `kind` and `subtype` as libsndfile names them ("OGG" / "VORBIS")."""
    stream = io.BytesIO()
    soundfile.write(stream, waveform.T, sample_rate, format=kind, subtype=subtype)
    return stream.getvalue()


def webm(waveform: Waveform, *, sample_rate: int = 48_000, tags: Mapping[str, str] | None = None) -> bytes:
    """WebM with Opus, as YouTube serves it; the same bytes every time."""
    return muxed(waveform, sample_rate, container="webm", codec="libopus", tags=tags or {})


def m4a(waveform: Waveform, *, sample_rate: int = 44_100) -> bytes:
    """MP4 with AAC, as YouTube serves it."""
    return muxed(waveform, sample_rate, container="ipod", codec="aac", tags={})


def muxed(waveform: Waveform, sample_rate: int, *, container: str, codec: str, tags: Mapping[str, str]) -> bytes:
    layout = {1: "mono", 2: "stereo"}[len(waveform)]
    target = io.BytesIO()
    with av.open(target, "w", format=container, options={"fflags": "+bitexact"}) as file:  # no random ids
        file.metadata.update(tags)
        stream = file.add_stream(codec, rate=sample_rate, layout=layout)
        stream.bit_rate = 128_000
        whole = av.AudioFrame.from_ndarray(np.ascontiguousarray(waveform), format="fltp", layout=layout)
        whole.sample_rate, whole.pts = sample_rate, 0
        resampler = av.AudioResampler(format=stream.codec_context.format, layout=layout, rate=sample_rate)
        for frame in [*resampler.resample(whole), *resampler.resample(None), None]:
            file.mux(stream.encode(frame))
    return target.getvalue()


def wav_header(
    *, num_channels: int = 1, sample_rate: int = 16_000, num_bytes: int = 3_200, riff_bytes: int | None = None
) -> bytes:
    """The 44 bytes before the samples of a 16-bit WAV, whatever they claim."""
    riff_bytes = num_bytes + 36 if riff_bytes is None else riff_bytes
    byte_rate, block = (sample_rate * num_channels * 2) % 2**32, (num_channels * 2) % 2**16
    chunk = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, num_channels, sample_rate, byte_rate, block, 16)
    return struct.pack("<4sI4s", b"RIFF", riff_bytes, b"WAVE") + chunk + struct.pack("<4sI", b"data", num_bytes)


def ogg_pages(data: bytes) -> list[bytes]:
    """The pages of an Ogg stream (RFC 3533): header, lacing table, body."""
    pages = []
    while data:
        num_segments = data[26]
        size = 27 + num_segments + sum(data[27 : 27 + num_segments])
        pages.append(data[:size])
        data = data[size:]
    return pages
