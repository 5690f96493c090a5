"""Building blocks of the synthesizer: oscillators, decaying partials, noise, slow curves.

A `Signal` is mono float64 (num_samples,) at `SAMPLE_RATE`; a curve has the same shape and holds a
slowly varying quantity. Everything is float64, so that rounding to 16 bit hides the last-bit
differences between processors. All randomness comes from the generator that is handed in.
"""

import hashlib
import json
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.signal import lfilter

SAMPLE_RATE = 44_100
Signal: TypeAlias = NDArray[np.float64]

_TABLE_SIZE = 8192  # nearest-sample lookup: the 40th harmonic's error stays 40 dB below it
_CONTROL_HOP = 100  # curves are drawn at 441 points a second
_BLOCK = 256  # samples per block of decaying partials
_STACK = 8  # blocks per matrix product: too small for BLAS to split it over threads, which would only wait


def rng_for(seed: int, *names: str | int) -> np.random.Generator:
    """Make the generator of one named item: independent of order, process and every other item."""
    digest = hashlib.sha256(json.dumps([seed, *names]).encode()).digest()
    return np.random.default_rng(int.from_bytes(digest, "big"))


def midi_to_hz(midi: float) -> float:
    """Convert a MIDI number to Hz: equal temperament, A4 (69) = 440 Hz."""
    return float(440.0 * 2 ** ((midi - 69) / 12))


def db_to_gain(level_db: float) -> float:
    """Convert a level in dB to an amplitude factor."""
    return float(10 ** (level_db / 20))


def control_times_s(num_samples: int) -> Signal:
    """List the times in seconds of the points of a control curve that covers a signal."""
    return np.arange(num_samples // _CONTROL_HOP + 2, dtype=np.float64) * (_CONTROL_HOP / SAMPLE_RATE)


def upsample(control: Signal, num_samples: int) -> Signal:
    """Interpolate a control curve linearly to (num_samples,)."""
    ramp = np.arange(_CONTROL_HOP) / _CONTROL_HOP
    steps = np.diff(control)[:, np.newaxis] * ramp
    return (control[:-1, np.newaxis] + steps).ravel()[:num_samples]


def wander(rng: np.random.Generator, times_s: Signal, rate_hz: float) -> Signal:
    """Draw a smooth random curve around 0 with standard deviation about 1; new value at `rate_hz`."""
    knots = rng.standard_normal(int(times_s[-1] * rate_hz) + 3)
    position = times_s * rate_hz
    index = position.astype(np.int64)
    blend = 0.5 - 0.5 * np.cos(np.pi * (position - index))
    return knots[index] * (1 - blend) + knots[index + 1] * blend


def attack_curve(times_s: Signal, attack_s: float) -> Signal:
    """Rise from 0 to 1 within `attack_s` (raised cosine), then stay at 1; at control rate."""
    return 0.5 - 0.5 * np.cos(np.pi * np.clip(times_s / max(attack_s, 1e-3), 0, 1))


def harmonic_numbers(frequency_hz: float, most: int = 150) -> Signal:
    """List 1.0, 2.0, ...: the harmonics of a tone below 19 kHz, at most `most`."""
    return np.arange(1, max(1, min(most, int(19_000 / frequency_hz))) + 1, dtype=np.float64)


def wavetable(amplitudes: Signal, phases: Signal) -> Signal:
    """Synthesize one period with the given harmonics (amplitudes[0] is the fundamental), RMS 1."""
    spectrum = np.zeros(_TABLE_SIZE // 2 + 1, np.complex128)
    spectrum[1 : len(amplitudes) + 1] = amplitudes * np.exp(1j * phases[: len(amplitudes)])
    table = np.fft.irfft(spectrum, _TABLE_SIZE)
    return np.asarray(table / np.sqrt(np.mean(table**2)))


def oscillate(frequency_hz: Signal, table: Signal, bright: Signal | None = None, blend: Signal | None = None) -> Signal:
    """Read a wavetable at a varying frequency, crossfaded to `bright` where the curve `blend` rises to 1."""
    cycles = np.cumsum(frequency_hz) * (_TABLE_SIZE / SAMPLE_RATE)
    index = cycles.astype(np.int64) & (_TABLE_SIZE - 1)
    tone = table[index]
    if bright is not None and blend is not None:
        tone += blend * (bright[index] - tone)
    return np.asarray(tone)


def decaying_partials(
    frequencies_hz: Signal, amplitudes: Signal, decays_s: Signal, phases: Signal, num_samples: int
) -> Signal:
    """Sum exponentially decaying sines; `decays_s` is the time to fall by 60 dB.

    z^(256 m + j) = z^(256 m) z^j, so the sum over partials is one matrix product (blocks x partials
    times partials x 256) instead of a sine per sample and partial.
    """
    audible = amplitudes > 1e-4 * np.max(amplitudes)
    frequencies_hz, amplitudes = frequencies_hz[audible], amplitudes[audible]
    decays_s, phases = decays_s[audible], phases[audible]
    log_z = -np.log(1000) / (decays_s * SAMPLE_RATE) + 2j * np.pi * frequencies_hz / SAMPLE_RATE
    start = amplitudes * np.exp(1j * (phases - np.pi / 2))
    num_stacks = -(-num_samples // (_BLOCK * _STACK))
    blocks = np.exp(np.outer(np.arange(num_stacks * _STACK) * _BLOCK, log_z)) * start
    blocks = blocks.reshape(num_stacks, _STACK, len(log_z))
    within = np.exp(np.outer(log_z, np.arange(_BLOCK)))
    real, imaginary = (np.ascontiguousarray(part) for part in (within.real, within.imag))
    summed = np.ascontiguousarray(blocks.real) @ real - np.ascontiguousarray(blocks.imag) @ imaginary
    return np.asarray(summed.ravel()[:num_samples])


def noise_band(rng: np.random.Generator, num_samples: int, low_hz: float, high_hz: float) -> Signal:
    """Draw noise between two gentle (6 dB per octave) slopes, RMS 1."""
    low, high = (np.exp(-2 * np.pi * frequency / SAMPLE_RATE) for frequency in (low_hz, high_hz))
    # Uniform samples cost a third of Gaussian ones and sound the same once filtered.
    band = lfilter([1, -1], [1, -low - high, low * high], rng.random(num_samples) - 0.5)
    rms = float(np.sqrt(np.mean(band**2)))
    return np.asarray(band / rms if rms > 0 else band)


def resonance_gain(frequencies_hz: Signal, resonances: tuple[tuple[float, float, float], ...]) -> Signal:
    """Compute the amplitude factors of a body: bumps of (centre in Hz, height in dB, width in octaves)."""
    level_db = np.zeros_like(frequencies_hz)
    for centre_hz, height_db, width_octaves in resonances:
        level_db += height_db * np.exp(-0.5 * (np.log2(frequencies_hz / centre_hz) / width_octaves) ** 2)
    return np.asarray(10 ** (level_db / 20))


def formant_gain(frequencies_hz: Signal, formants: tuple[tuple[float, float, float], ...]) -> Signal:
    """Compute the amplitude factors of a vocal tract: resonances of (centre in Hz, amplitude, bandwidth in Hz)."""
    gain = np.full_like(frequencies_hz, 1e-3)
    for centre_hz, amplitude, bandwidth_hz in formants:
        gain += amplitude / np.sqrt(1 + (2 * (frequencies_hz - centre_hz) / bandwidth_hz) ** 2)
    return gain


def fade_edges(signal: Signal, fade_in_s: float, fade_out_s: float) -> Signal:
    """Apply linear ramps to both ends of a signal."""
    shaped = signal.copy()
    rise = min(len(signal), round(fade_in_s * SAMPLE_RATE))
    fall = min(len(signal), round(fade_out_s * SAMPLE_RATE))
    if rise:
        shaped[:rise] *= np.arange(rise) / rise
    if fall:
        shaped[len(signal) - fall :] *= np.arange(fall, 0, -1) / fall
    return shaped


def with_peak(signal: Signal, peak: float) -> Signal:
    """Scale so that the largest magnitude is `peak`; silence stays silence."""
    largest = float(np.max(np.abs(signal), initial=0.0))
    return signal * (peak / largest) if largest > 0 else signal
