"""Log-mel spectrogram: the front end of the models, in plain torch, batched, on any device.

Shapes: B clips, T samples, N FFT bins, F frames, M mel bands.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from datasets.record import Decibels


@dataclass(frozen=True)
class LogMelConfig:
    """Sizes of the front end; the defaults are 32 ms windows every 16 ms."""

    sample_rate: int = 16_000  # Hz
    n_fft: int = 512
    hop_length: int = 256
    n_mels: int = 64
    min_frequency_hz: float = 30.0  # lower edge of the lowest band
    max_frequency_hz: float = 8_000.0  # upper edge of the highest band
    floor_db: Decibels = -80.0  # of a full-scale sine; quieter is all the same

    def __post_init__(self) -> None:
        if min(self.sample_rate, self.n_fft, self.hop_length, self.n_mels) < 1:
            raise ValueError(f"sizes must be at least 1, got {self}")
        if not 0 <= self.min_frequency_hz < self.max_frequency_hz <= self.sample_rate / 2:
            raise ValueError(
                f"expected 0 <= min_frequency_hz < max_frequency_hz <= {self.sample_rate / 2:g} Hz (half the "
                f"sample rate), got {self.min_frequency_hz:g} and {self.max_frequency_hz:g}"
            )

    def num_frames(self, num_samples: int) -> int:
        """Frames of a signal: one at every multiple of the hop that lies inside it."""
        return -(-num_samples // self.hop_length)


def hz_to_mel(frequency_hz: float) -> float:
    """HTK's mel scale (O'Shaughnessy 1987): 2595 log10(1 + f / 700)."""
    return 2595 * math.log10(1 + frequency_hz / 700)


def mel_to_hz(mel: NDArray[np.float64]) -> NDArray[np.float64]:
    """Inverse of `hz_to_mel`."""
    hertz: NDArray[np.float64] = 700 * (10 ** (mel / 2595) - 1)
    return hertz


def mel_edges_hz(config: LogMelConfig) -> NDArray[np.float64]:
    """M + 2 frequencies, equally spaced in mel: band m rises from [m], peaks at [m + 1], ends at [m + 2]."""
    low, high = hz_to_mel(config.min_frequency_hz), hz_to_mel(config.max_frequency_hz)
    return mel_to_hz(np.linspace(low, high, config.n_mels + 2))


def mel_filters(config: LogMelConfig) -> NDArray[np.float64]:
    """Triangular filters (N, M) with peak 1 (HTK's, not Slaney's unit area).

    Raises:
        ValueError: bands so narrow that one holds no FFT bin: it would be silent for ever.
    """
    bins_N1 = np.linspace(0, config.sample_rate / 2, config.n_fft // 2 + 1)[:, None]
    edges = mel_edges_hz(config)
    low, peak, high = edges[:-2], edges[1:-1], edges[2:]
    filters_NM = np.minimum((bins_N1 - low) / (peak - low), (high - bins_N1) / (high - peak)).clip(min=0)
    empty = np.flatnonzero(filters_NM.max(axis=0) == 0)
    if empty.size:
        raise ValueError(
            f"mel band {empty[0]} (peak {peak[empty[0]]:.0f} Hz) holds no FFT bin; "
            f"use fewer than n_mels={config.n_mels} or more than n_fft={config.n_fft}"
        )
    return filters_NM


class LogMel(nn.Module):
    """Waveforms to decibels per mel band; 0 dB is one FFT bin of a full-scale sine.

    Window and filters are buffers: they move with the module and are no weights.

    Raises:
        ValueError: a mel band holds no FFT bin.
    """

    window: Tensor
    filters: Tensor

    def __init__(self, config: LogMelConfig) -> None:
        super().__init__()
        self.config = config
        window = torch.hann_window(config.n_fft, dtype=torch.float64)
        # A sine of amplitude 1 on a bin has magnitude sum(window) / 2 there.
        self.register_buffer("window", (window / (window.sum() / 2)).float(), persistent=False)
        self.register_buffer("filters", torch.from_numpy(mel_filters(config)).float(), persistent=False)

    def forward(self, waveform_BT: Tensor) -> Tensor:
        """Float waveforms (B, T), T >= 1, to decibels (B, F, M), F = config.num_frames(T).

        Frame f is centered on sample f * hop_length; the signal continues with zeros on both sides.
        """
        config = self.config
        spectrum_BNF = torch.stft(
            waveform_BT,
            config.n_fft,
            config.hop_length,
            window=self.window,
            center=True,
            pad_mode="constant",
            return_complex=True,
        )[..., : config.num_frames(waveform_BT.shape[-1])]
        power_BNF = spectrum_BNF.real.square() + spectrum_BNF.imag.square()
        mel_BFM = power_BNF.transpose(1, 2) @ self.filters
        return 10 * torch.log10(mel_BFM.clamp(min=10 ** (config.floor_db / 10)))


@dataclass(frozen=True)
class Standardization:
    """Mean and standard deviation of every mel band over the training split, in dB."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def tensors(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """Mean and std (M,) on a device."""
        return torch.tensor(self.mean, device=device), torch.tensor(self.std, device=device)


MIN_STD_DB: Decibels = 1.0  # a band that hardly moves (a lowpass in the data) must not become noise


def standardization(logmel_TM: Tensor, block: int = 1 << 16) -> Standardization:
    """Statistics of frames (T, M), exact in float64 whatever the storage type.

    Raises:
        ValueError: no frames.
    """
    if len(logmel_TM) == 0:
        raise ValueError("no frames to take statistics of")
    total = torch.zeros(logmel_TM.shape[1], dtype=torch.float64)
    squares = torch.zeros_like(total)
    blocks = torch.split(logmel_TM, block)
    for rows in blocks:
        total += rows.double().sum(dim=0).cpu()
    mean = total / len(logmel_TM)
    for rows in blocks:
        squares += (rows.double().cpu() - mean).square().sum(dim=0)
    std = (squares / len(logmel_TM)).sqrt().clamp(min=MIN_STD_DB)
    return Standardization(tuple(mean.tolist()), tuple(std.tolist()))
