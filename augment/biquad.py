"""Second-order filters of Robert Bristow-Johnson's Audio EQ Cookbook, one per example.

Coefficients are (B, 5): b0, b1, b2, a1, a2, normalized to a0 = 1. Frequencies in Hz, gains in dB.
"""

import math

import torch
from torch import Tensor

from tutti.augment.linear_filter import biquad, linear_filter

BUTTERWORTH_Q = math.sqrt(0.5)  # the flattest pass band
MAX_FREQUENCY_SHARE = 0.49  # of the sample rate: at one half a filter degenerates


def filtered(waveform_BT: Tensor, coefficients_B5: Tensor) -> Tensor:
    """Filter each waveform by its own filter, from rest."""
    return linear_filter(waveform_BT, biquad(coefficients_B5))


def _angle(frequency_hz: Tensor, q: Tensor, sample_rate: int) -> tuple[Tensor, Tensor]:
    """Compute the cosine of the angular frequency, and the cookbook's alpha."""
    omega = 2 * math.pi * (frequency_hz / sample_rate).clamp(max=MAX_FREQUENCY_SHARE)
    return omega.cos(), omega.sin() / (2 * q)


def _normalized(b0: Tensor, b1: Tensor, b2: Tensor, a0: Tensor, a1: Tensor, a2: Tensor) -> Tensor:
    return torch.stack([b0 / a0, b1 / a0, b2 / a0, a1 / a0, a2 / a0], dim=1)


def high_pass(frequency_hz: Tensor, q: Tensor, sample_rate: int) -> Tensor:
    """Design a high-pass: 12 dB per octave below the frequency, -3 dB there with Butterworth's Q."""
    cosine, alpha = _angle(frequency_hz, q, sample_rate)
    half = (1 + cosine) / 2
    return _normalized(half, -2 * half, half, 1 + alpha, -2 * cosine, 1 - alpha)


def low_pass(frequency_hz: Tensor, q: Tensor, sample_rate: int) -> Tensor:
    """Design a low-pass: 12 dB per octave above the frequency, -3 dB there with Butterworth's Q."""
    cosine, alpha = _angle(frequency_hz, q, sample_rate)
    half = (1 - cosine) / 2
    return _normalized(half, 2 * half, half, 1 + alpha, -2 * cosine, 1 - alpha)


def peaking(frequency_hz: Tensor, q: Tensor, gain_db: Tensor, sample_rate: int) -> Tensor:
    """Design a peaking filter: the gain at the frequency, 0 dB far from it."""
    cosine, alpha = _angle(frequency_hz, q, sample_rate)
    amplitude = 10 ** (gain_db / 40)
    up, down = alpha * amplitude, alpha / amplitude
    return _normalized(1 + up, -2 * cosine, 1 - up, 1 + down, -2 * cosine, 1 - down)


def low_shelf(frequency_hz: Tensor, q: Tensor, gain_db: Tensor, sample_rate: int) -> Tensor:
    """Design a low shelf: the gain far below the frequency, half of it in dB there, 0 dB far above."""
    return _shelf(frequency_hz, q, gain_db, sample_rate, sign=-1)


def high_shelf(frequency_hz: Tensor, q: Tensor, gain_db: Tensor, sample_rate: int) -> Tensor:
    """Design a high shelf: the gain far above the frequency, half of it in dB there, 0 dB far below."""
    return _shelf(frequency_hz, q, gain_db, sample_rate, sign=1)


def _shelf(frequency_hz: Tensor, q: Tensor, gain_db: Tensor, sample_rate: int, sign: int) -> Tensor:
    """Design a shelf: the cookbook's two differ in the sign of the cosine and of the odd coefficients."""
    cosine, alpha = _angle(frequency_hz, q, sample_rate)
    amplitude = 10 ** (gain_db / 40)
    cosine = sign * cosine
    up, down, slope = amplitude + 1, amplitude - 1, 2 * amplitude.sqrt() * alpha
    return _normalized(
        amplitude * (up + down * cosine + slope),
        -2 * sign * amplitude * (down + up * cosine),
        amplitude * (up + down * cosine - slope),
        up - down * cosine + slope,
        2 * sign * (down - up * cosine),
        up - down * cosine - slope,
    )
