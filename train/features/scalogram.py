"""Scalogram: magnitude of the waveform under Gaussian-modulated sines of many scales (Lumen 2023).

Shapes: B clips, T samples, F frames, W samples of a wavelet, S scales.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tutti.train.features.spectrum import centered_frames


@dataclass(frozen=True)
class ScalogramConfig:
    """Wavelets and stride.

    Lumen 2023's code asks for 2 to 390 Hz and, with a time axis that ignores the sample rate, gets
    11 to 2,150 Hz; here the range is said in Hz and covers what a wavelet of that length resolves.
    """

    sample_rate: int = 16_000  # Hz
    num_scales: int = 128  # Lumen 2023
    length: int = 2048  # samples of a wavelet; Lumen 2023 [code]
    hop_length: int = 512  # Lumen 2023 [code]
    min_frequency_hz: float = 30.0  # the wavelet's ends have then fallen to 4 % of its middle
    max_frequency_hz: float = 5_600.0  # higher ones would answer to their mirror image at 8 kHz, too
    bandwidth: float = 0.5  # of the center frequency, between the points at -6 dB; Lumen 2023 [code]
    quadrature: bool = False  # True: magnitude of a sine and a cosine wavelet: no ripple; False: Lumen 2023
    trainable: bool = True  # the wavelets are weights; False: buffers in effect

    def __post_init__(self) -> None:
        if min(self.sample_rate, self.num_scales, self.length, self.hop_length) < 1 or self.bandwidth <= 0:
            raise ValueError(f"sizes must be at least 1 and bandwidth above 0, got {self}")
        if not 0 < self.min_frequency_hz < self.max_frequency_hz <= self.sample_rate / 2:
            raise ValueError(
                f"expected 0 < min_frequency_hz < max_frequency_hz <= {self.sample_rate / 2:g} Hz, "
                f"got {self.min_frequency_hz:g} and {self.max_frequency_hz:g}"
            )


def center_frequencies_hz(config: ScalogramConfig) -> Tensor:
    """Compute center frequencies (S,) float64, equally spaced in octaves, rising."""
    low, high = math.log(config.min_frequency_hz), math.log(config.max_frequency_hz)
    return torch.linspace(low, high, config.num_scales, dtype=torch.float64).exp()


def wavelets(config: ScalogramConfig) -> Tensor:
    """Compute wavelets (W, S), or (W, 2 S) with quadrature: cosines, then sines, under a Gaussian; float64.

    Scaled so that a full-scale sine of a wavelet's frequency has magnitude 1 (its crest, without quadrature).
    """
    frequency_S = center_frequencies_hz(config)
    time_W1 = ((torch.arange(config.length, dtype=torch.float64) - config.length // 2) / config.sample_rate)[:, None]
    # The Fourier transform of exp(-a t^2) is exp(-(pi f)^2 / a): half at a distance of f bandwidth / 2.
    decay_S = (math.pi * frequency_S * config.bandwidth / 2).square() / math.log(2)
    envelope_WS = torch.exp(-decay_S * time_W1.square())
    envelope_WS = envelope_WS / (envelope_WS.sum(dim=0) / 2)
    phase_WS = 2 * math.pi * frequency_S * time_W1
    if config.quadrature:
        return torch.cat([envelope_WS * phase_WS.cos(), envelope_WS * phase_WS.sin()], dim=1)
    return envelope_WS * phase_WS.cos()


class Scalogram(nn.Module):
    """Waveforms (B, T) to magnitudes (B, F, S), low frequencies first; frame f is centered on sample f * hop."""

    def __init__(self, config: ScalogramConfig | None = None) -> None:
        super().__init__()
        self.config = config or ScalogramConfig()
        self.weight = nn.Parameter(wavelets(self.config).float(), requires_grad=self.config.trainable)

    def forward(self, waveform_BT: Tensor) -> Tensor:
        """Compute magnitudes, 1 for a full-scale sine at the center of a scale."""
        config = self.config
        with torch.autocast(waveform_BT.device.type, enabled=False):
            product = centered_frames(waveform_BT.float(), config.length, config.hop_length) @ self.weight
        if not config.quadrature:
            return product.abs()
        cosine_BFS, sine_BFS = product.chunk(2, dim=-1)
        # The root has no finite gradient at 0: 1e-12 is -120 dB.
        return (cosine_BFS.square() + sine_BFS.square() + 1e-12).sqrt()
