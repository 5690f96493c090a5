"""Mel filter banks: triangles on the three scales in use. Numpy alone, for embedders run where there is no torch.

    mel_bank(n_fft=512, sample_rate=16_000, num_bands=64, low_hz=30, high_hz=8_000)      (257, 64)

htk      2595 log10(1 + f / 700) (O'Shaughnessy 1987); triangles are straight in Hz
slaney   linear below 1 kHz, logarithmic above (Auditory Toolbox, 1998); straight in Hz
kaldi    1127 ln(1 + f / 700), which is htk's but for rounding; straight in mel
"""

import math
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

MelScale: TypeAlias = Literal["htk", "slaney", "kaldi"]
Array: TypeAlias = NDArray[np.float64]

_SLANEY_LINEAR_HZ = 200 / 3  # of one mel
_SLANEY_BREAK_HZ, _SLANEY_BREAK_MEL = 1000.0, 15.0
_SLANEY_LOG_STEP = math.log(6.4) / 27  # 27 mels from 1 to 6.4 kHz


def hz_to_mel(frequency_hz: float, scale: MelScale = "htk") -> float:
    """Convert a frequency to mel."""
    if scale == "htk":
        return 2595 * math.log10(1 + frequency_hz / 700)
    if scale == "kaldi":
        return 1127 * math.log(1 + frequency_hz / 700)
    if frequency_hz < _SLANEY_BREAK_HZ:
        return frequency_hz / _SLANEY_LINEAR_HZ
    return _SLANEY_BREAK_MEL + math.log(frequency_hz / _SLANEY_BREAK_HZ) / _SLANEY_LOG_STEP


def mel_to_hz(mel: Array, scale: MelScale = "htk") -> Array:
    """Convert mel to frequencies: the inverse of `hz_to_mel`."""
    if scale == "slaney":
        above = _SLANEY_BREAK_HZ * np.exp(_SLANEY_LOG_STEP * (mel - _SLANEY_BREAK_MEL))
        return np.where(mel < _SLANEY_BREAK_MEL, mel * _SLANEY_LINEAR_HZ, above)
    hertz: Array = 700 * (10 ** (mel / 2595) - 1 if scale == "htk" else np.expm1(mel / 1127))
    return hertz


def mel_edges(num_bands: int, low_hz: float, high_hz: float, scale: MelScale = "htk") -> Array:
    """Compute M + 2 mels, equally far apart: band m rises from [m], peaks at [m + 1], ends at [m + 2]."""
    return np.linspace(hz_to_mel(low_hz, scale), hz_to_mel(high_hz, scale), num_bands + 2)


def mel_bank(
    *, n_fft: int, sample_rate: int, num_bands: int, low_hz: float, high_hz: float, scale: MelScale = "htk"
) -> Array:
    """Make triangular filters (n_fft // 2 + 1, num_bands) with peak 1.

    Args:
        n_fft: of the spectrum.
        sample_rate: of the signal, Hz.
        num_bands: number of filters.
        low_hz: lower edge of the lowest.
        high_hz: upper edge of the highest.
        scale: on which their edges lie equally far apart.
    """
    bins_hz = np.linspace(0, sample_rate / 2, n_fft // 2 + 1)
    edges = mel_edges(num_bands, low_hz, high_hz, scale)
    if scale == "kaldi":
        return triangles(np.array([hz_to_mel(hertz, scale) for hertz in bins_hz.tolist()]), edges)
    return triangles(bins_hz, mel_to_hz(edges, scale))


def triangles(points_N: Array, edges: Array) -> Array:
    """Make triangles (N, M) over points, in the unit of M + 2 edges; peak 1."""
    points_N1, low, peak, high = points_N[:, None], edges[:-2], edges[1:-1], edges[2:]
    return np.minimum((points_N1 - low) / (peak - low), (high - points_N1) / (high - peak)).clip(min=0)
