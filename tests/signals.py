"""Synthesized signals and files for tests: everything that a test hears is written here.

Waveforms are float32 (num_channels, num_samples) in [-1, 1].
"""

import io

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


def noise(
    duration_s: float = 1.0, *, amplitude: float = 0.1, sample_rate: int = 44_100, num_channels: int = 1, seed: int = 0
) -> Waveform:
    """White Gaussian noise, independent per channel; `amplitude` is its standard deviation."""
    rng = np.random.default_rng(seed)
    samples = amplitude * rng.standard_normal((num_channels, round(duration_s * sample_rate)))
    return samples.clip(-1, 1).astype(np.float32)


def encoded(waveform: Waveform, *, sample_rate: int = 44_100, kind: str = "WAV", subtype: str | None = "PCM_16") -> bytes:
    """A complete audio file; `kind` and `subtype` as libsndfile names them ("OGG" / "VORBIS")."""
    stream = io.BytesIO()
    soundfile.write(stream, waveform.T, sample_rate, format=kind, subtype=subtype)
    return stream.getvalue()
