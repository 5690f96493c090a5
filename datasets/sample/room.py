"""Mixing of single players to a recording: panorama, room, microphone, level, 16 bit."""

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.signal import butter, lfilter, oaconvolve, sosfilt

from tutti.datasets.sample.dsp import SAMPLE_RATE, Signal, db_to_gain

Stereo: TypeAlias = NDArray[np.float64]  # (num_samples, 2)
Pcm: TypeAlias = NDArray[np.int16]  # (num_samples, 2), 44.1 kHz

# Reverberation time and level of the reverberation against the direct sound: booth to church.
_ROOMS = ((0.08, -30.0), (0.3, -20.0), (0.5, -17.0), (0.9, -14.0), (1.5, -13.0))
_LONGEST_TAIL_S = 0.5

_CABINET = butter(2, 4500, fs=SAMPLE_RATE, output="sos")  # a guitar loudspeaker has no tweeter


def impulse_response(rng: np.random.Generator) -> Stereo:
    """Draw a room and the sound of the recording made in it: direct sound, decaying noise, tone colour."""
    decay_s, level_db = _ROOMS[int(rng.integers(len(_ROOMS)))]
    length = int(min(decay_s, _LONGEST_TAIL_S) * SAMPLE_RATE)
    times_s = np.arange(length) / SAMPLE_RATE
    tail = rng.standard_normal((length, 2)) * 10 ** (-3 * times_s / decay_s)[:, np.newaxis]
    tail[: int(rng.uniform(0.004, 0.02) * SAMPLE_RATE)] = 0  # before the first reflection
    damping = np.exp(-2 * np.pi * rng.uniform(2500, 7000) / SAMPLE_RATE)  # walls swallow the top
    tail = lfilter([1 - damping], [1, -damping], tail, axis=0)
    energy = np.sqrt(np.sum(tail**2, axis=0))
    response = tail / energy * db_to_gain(level_db + rng.uniform(-4, 4))
    response[0] += 1
    return _coloured(response, rng)


def _coloured(response: Stereo, rng: np.random.Generator) -> Stereo:
    """Color by microphone, equalizer and medium: tilt, low cut, high cut, one broad bump."""
    size = len(response) + 512
    frequencies = np.maximum(np.fft.rfftfreq(size, 1 / SAMPLE_RATE), 20)
    octaves = np.clip(np.log2(frequencies / 1000), -4, 4)
    level_db = rng.normal(0, 0.4) * octaves
    level_db += rng.normal(0, 1.5) * np.exp(-0.5 * ((octaves - rng.uniform(-3, 3)) / 0.7) ** 2)
    gain = 10 ** (level_db / 20)
    gain /= np.sqrt(1 + (rng.uniform(30, 140) / frequencies) ** 4)
    gain /= np.sqrt(1 + (frequencies / rng.uniform(8000, 19_000)) ** 8)
    # Minimum delay matters more than phase here: the filter is made causal by a short shift.
    shift = np.exp(-2j * np.pi * frequencies / SAMPLE_RATE * 32)
    spectrum = np.fft.rfft(response, size, axis=0) * (gain * shift)[:, np.newaxis]
    return np.asarray(np.fft.irfft(spectrum, size, axis=0))


def amplified(signal: Signal, drive_db: float) -> Signal:
    """Simulate a guitar amplifier: soft clipping of the whole part, chords included, then the cabinet."""
    rms = float(np.sqrt(np.mean(signal**2)))
    if rms == 0:
        return signal
    hot = signal * (db_to_gain(drive_db) / rms)
    clipped = np.tanh(hot + 0.2) - np.tanh(0.2)  # asymmetric: even harmonics as well
    return np.asarray(sosfilt(_CABINET, clipped))


def chorused(signal: Signal, rng: np.random.Generator) -> Signal:
    """Add a signal to itself with a delay that sways between 12 and 20 ms."""
    times_s = np.arange(len(signal)) / SAMPLE_RATE
    delay_s = 0.016 + 0.004 * np.sin(2 * np.pi * rng.uniform(0.5, 1.2) * times_s)
    source = np.clip(np.arange(len(signal)) - (delay_s * SAMPLE_RATE).astype(np.int64), 0, None)
    return 0.7 * signal + 0.6 * signal[source]


def mixed(tracks: Sequence[tuple[Signal, float]], response: Stereo) -> Stereo:
    """Mix players (signal, pan in [-1, 1]) in a room; all signals of one length."""
    dry = np.zeros((2, len(tracks[0][0])))
    for signal, pan in tracks:
        angle = (pan + 1) * np.pi / 4  # constant power
        dry[0] += signal * np.cos(angle)
        dry[1] += signal * np.sin(angle)
    # Single precision halves the time; its error stays 40 dB below the last of 16 bits.
    wet = oaconvolve(dry.astype(np.float32), response.T.astype(np.float32), axes=1)
    return np.asarray(wet[:, : dry.shape[1]].T, dtype=np.float64)


def to_pcm(stereo: Stereo, peak_db: float) -> Pcm:
    """Convert to 16 bits with the largest magnitude at `peak_db` below full scale."""
    peak = float(np.max(np.abs(stereo), initial=1e-12))
    scaled = stereo * (db_to_gain(peak_db) * 32767 / peak)
    return np.clip(np.rint(scaled), -32768, 32767).astype(np.int16)
