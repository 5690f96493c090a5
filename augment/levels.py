"""How strong a waveform is, and waveforms by the piece. Shapes: B examples, T samples, N samples of a long row."""

import functools
import math

import numpy as np
import scipy.fft
import torch
from torch import Tensor

_ROWS_AT_ONCE = 8  # three-second clips: their intermediate results fit a CPU's cache together

SILENT = 1e-7  # amplitude, -140 dB: below 24-bit quantization; what is weaker counts as silence


def rms(waveform_BT: Tensor) -> Tensor:
    """Root mean square (B, 1)."""
    norm_B1: Tensor = torch.linalg.vector_norm(waveform_BT, dim=1, keepdim=True)
    return norm_B1 / math.sqrt(waveform_BT.shape[1])


def peak(waveform_BT: Tensor) -> Tensor:
    """Greatest magnitude (B, 1)."""
    # No copy of the waveform: fresh memory costs a CPU more than a second pass.
    return torch.maximum(waveform_BT.amax(dim=1, keepdim=True), -waveform_BT.amin(dim=1, keepdim=True))


def ratio_from_db(gain_db_B: Tensor) -> Tensor:
    """Amplitude ratios (B, 1), float32."""
    return (10 ** (gain_db_B.double() / 20)).float()[:, None]


def add_at_snr(waveform_BT: Tensor, noise_BT: Tensor, snr_db_B: Tensor) -> Tensor:
    """Signal plus noise, `snr_db` below it in RMS; silence gets none. The sum takes the place of the noise."""
    scale_B1 = rms(waveform_BT) / rms(noise_BT).clamp(min=SILENT) / ratio_from_db(snr_db_B)
    return noise_BT.mul_(scale_B1).add_(waveform_BT)


def slices(samples_N: Tensor, first_B: Tensor, length: int) -> Tensor:
    """(B, length): the samples from `first` on; copies, by far cheaper than an index per sample."""
    return samples_N.unfold(0, length, 1).index_select(0, first_B)


def row_slices(rows_BN: Tensor, first_B: Tensor, length: int) -> Tensor:
    """(B, length): of every row the samples from its own `first` on."""
    starts_B = torch.arange(len(rows_BN), device=rows_BN.device) * rows_BN.shape[1]
    return slices(rows_BN.reshape(-1), starts_B + first_B, length)


def row_blocks(rows: Tensor) -> list[slice]:
    """Which rows to work on together: on a CPU a few, whose intermediate results stay in its cache; else all."""
    step = _ROWS_AT_ONCE if rows.device.type == "cpu" else max(1, len(rows))
    return [slice(first, first + step) for first in range(0, len(rows), step)]


def fast_length(num_samples: int) -> int:
    """The next length that an FFT likes: no prime factor above 5."""
    return int(scipy.fft.next_fast_len(num_samples, real=True))


TABLE_SIZE = 1 << 20  # starting points of random slices


@functools.lru_cache(maxsize=8)
def uniform_table(length: int, device: torch.device) -> Tensor:
    """Fixed random numbers in [0, 1), to be sliced at a drawn point: (TABLE_SIZE + length,).

    The same on every device, and a slice costs a copy: a batch of random numbers drawn on the CPU
    would cost more than most transforms and have to be moved.
    """
    numbers = np.random.default_rng(0).random(TABLE_SIZE + length, dtype=np.float32)
    return torch.from_numpy(numbers).to(device)


@functools.lru_cache(maxsize=8)
def spectrum_table(length: int, device: torch.device) -> Tensor:
    """Fixed complex Gaussian numbers, the spectrum of white noise: (TABLE_SIZE + length,).

    Slices at different points give different noise also where they overlap: the spectrum is moved,
    not the waveform.
    """
    parts = np.random.default_rng(1).standard_normal((TABLE_SIZE + length, 2), dtype=np.float32)
    return torch.view_as_complex(torch.from_numpy(parts)).to(device)
