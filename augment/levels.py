"""Levels and slices of waveforms. Shapes: B examples, T samples, N samples of a long row."""

import functools
import math

import numpy as np
import scipy.fft
import torch
from torch import Tensor

_ROWS_AT_ONCE = 8  # three-second clips: their intermediate results fit a CPU's cache together

SILENT = 1e-7  # amplitude, -140 dB: below 24-bit quantization; what is weaker counts as silence


def rms(waveform_BT: Tensor) -> Tensor:
    """Compute the root mean square (B, 1)."""
    norm_B1: Tensor = torch.linalg.vector_norm(waveform_BT, dim=1, keepdim=True)
    return norm_B1 / math.sqrt(waveform_BT.shape[1])


def peak(waveform_BT: Tensor) -> Tensor:
    """Find the greatest magnitude (B, 1)."""
    # No copy of the waveform: fresh memory costs a CPU more than a second pass.
    return torch.maximum(waveform_BT.amax(dim=1, keepdim=True), -waveform_BT.amin(dim=1, keepdim=True))


def ratio_from_db(gain_db_B: Tensor) -> Tensor:
    """Convert gains in dB to amplitude ratios (B, 1), float32."""
    return (10 ** (gain_db_B.double() / 20)).float()[:, None]


def add_at_snr(waveform_BT: Tensor, noise_BT: Tensor, snr_db_B: Tensor) -> Tensor:
    """Add noise `snr_db` below the signal in RMS; silence gets none. The sum is written into `noise_BT`."""
    scale_B1 = rms(waveform_BT) / rms(noise_BT).clamp(min=SILENT) / ratio_from_db(snr_db_B)
    return noise_BT.mul_(scale_B1).add_(waveform_BT)


def slices(samples_N: Tensor, first_B: Tensor, length: int) -> Tensor:
    """Copy the samples from `first` on, (B, length): by far cheaper than an index per sample."""
    return samples_N.unfold(0, length, 1).index_select(0, first_B)


def row_slices(rows_BN: Tensor, first_B: Tensor, length: int) -> Tensor:
    """Copy from every row the samples from its own `first` on, (B, length)."""
    starts_B = torch.arange(len(rows_BN), device=rows_BN.device) * rows_BN.shape[1]
    return slices(rows_BN.reshape(-1), starts_B + first_B, length)


def row_blocks(rows: Tensor) -> list[slice]:
    """Divide rows into blocks to work on together: on a CPU a few, whose results stay in its cache; else all."""
    step = _ROWS_AT_ONCE if rows.device.type == "cpu" else max(1, len(rows))
    return [slice(first, first + step) for first in range(0, len(rows), step)]


def fast_length(num_samples: int) -> int:
    """Find the next length that an FFT computes fast: no prime factor above 5."""
    return int(scipy.fft.next_fast_len(num_samples, real=True))


TABLE_SIZE = 1 << 20  # starting points of random slices


@functools.lru_cache(maxsize=8)
def uniform_table(length: int, device: torch.device) -> Tensor:
    """Draw fixed random numbers in [0, 1), (TABLE_SIZE + length,), to be sliced at a drawn point.

    The same on every device, and a slice costs a copy: a batch of random numbers drawn on the CPU
    would cost more than most transforms and have to be moved.
    """
    numbers = np.random.default_rng(0).random(TABLE_SIZE + length, dtype=np.float32)
    return torch.from_numpy(numbers).to(device)


@functools.lru_cache(maxsize=8)
def spectrum_table(length: int, device: torch.device) -> Tensor:
    """Draw fixed complex Gaussian numbers (TABLE_SIZE + length,), the spectrum of white noise.

    Slices at different points give different noise also where they overlap: the spectrum is moved,
    not the waveform.
    """
    parts = np.random.default_rng(1).standard_normal((TABLE_SIZE + length, 2), dtype=np.float32)
    return torch.view_as_complex(torch.from_numpy(parts)).to(device)
