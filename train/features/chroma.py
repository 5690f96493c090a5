"""Chromagram: a power spectrum x a bank of pitch-class filters (Lumen 2023; bank after Ellis 2007).

Shapes: B clips, T samples, F frames, N FFT bins, P pitch classes.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tutti.train.features.spectrum import PowerSpectrum

_A4_OCTAVE = 4.75  # A4 lies four octaves and nine semitones above C0


@dataclass(frozen=True)
class ChromaConfig:
    """Sizes of the chromagram; librosa's values but for the sample rate."""

    sample_rate: int = 16_000  # Hz
    n_fft: int = 2048  # bins 7.8 Hz apart: a semitone at 132 Hz
    hop_length: int = 512
    a4_hz: float = 440.0  # concert pitch
    center_octave: float = 5.75  # above C0: where the bank is loudest; librosa counts 5 from A0: 880 Hz
    octave_width: float = 2.0  # standard deviation of that weight

    def __post_init__(self) -> None:
        if min(self.sample_rate, self.n_fft, self.hop_length) < 1 or min(self.a4_hz, self.octave_width) <= 0:
            raise ValueError(f"sizes and widths must be above 0, got {self}")


def chroma_filters(config: ChromaConfig) -> NDArray[np.float64]:
    """Compute weights (N, 12), C first: a bump per pitch class, as wide as a bin or a semitone, in all octaves."""
    bins_hz = np.linspace(0, config.sample_rate / 2, config.n_fft // 2 + 1)
    bins_hz[0] = bins_hz[1] / 2**1.5  # no pitch at 0 Hz; far below all others, so next to no weight
    octave_N = np.log2(bins_hz / config.a4_hz) + _A4_OCTAVE
    semitone_N = 12 * octave_N
    width_N = np.maximum(np.diff(semitone_N, append=semitone_N[-1] + 1), 1)
    distance_NP = (semitone_N[:, None] - np.arange(12) + 6) % 12 - 6
    bumps_NP = np.exp(-0.5 * (2 * distance_NP / width_N[:, None]) ** 2)
    bumps_NP /= np.linalg.norm(bumps_NP, axis=1, keepdims=True)
    loudness_N = np.exp(-0.5 * ((octave_N - config.center_octave) / config.octave_width) ** 2)
    weights: NDArray[np.float64] = bumps_NP * loudness_N[:, None]
    return weights


class Chroma(nn.Module):
    """Waveforms (B, T) to the energy of each pitch class (B, F, 12), C first; the loudest of a frame is 1.

    A silent frame is 0 everywhere.
    """

    filters: Tensor

    def __init__(self, config: ChromaConfig | None = None) -> None:
        super().__init__()
        self.config = config or ChromaConfig()
        self.spectrum = PowerSpectrum(self.config.n_fft, self.config.hop_length, amplitude_of_sine=True)
        self.register_buffer("filters", torch.from_numpy(chroma_filters(self.config)).float(), persistent=False)

    def forward(self, waveform_BT: Tensor) -> Tensor:
        """Compute chroma in [0, 1], (B, F, 12)."""
        power_BFN = self.spectrum(waveform_BT)
        with torch.autocast(waveform_BT.device.type, enabled=False):
            energy_BFP = power_BFN @ self.filters
        # 1e-10: -100 dB of a full-scale sine; below it rounding would be blown up to 1.
        loudest_BF1 = energy_BFP.amax(dim=2, keepdim=True)
        return torch.where(loudest_BF1 > 1e-10, energy_BFP / loudest_BF1.clamp(min=1e-10), 0.0)
