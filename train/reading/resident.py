"""A split that fits in memory: int16 samples on one device, a batch is one gather (`train/clips.py`).

Hours of 16 kHz mono take 115 MB each; OpenMIC 6.4 GB. Shapes: S samples of all clips, N clips,
B windows, T samples of a window.
"""

import warnings

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tutti.train.reading.order import PCM_SCALE, Fill

_UPLOAD_SAMPLES = 1 << 26  # at once: 128 MiB of host memory, however large the split


def gather(
    samples: Tensor,
    offsets: Tensor,
    clips_B: Tensor,
    first_B: Tensor,
    length: int,
    *,
    fill: Fill = "repeat",
    scale_B: Tensor | None = None,
) -> Tensor:
    """Cut windows (B, T) float32 from clips that lie end to end; bit for bit the same on every device.

    Args:
        samples: (S,) int16.
        offsets: (N + 1,) int64, on the samples' device; clip n is samples[offsets[n]:offsets[n + 1]].
        clips_B: int64 indices of clips.
        first_B: int64, first sample of each window, within its clip.
        length: T.
        fill: what follows a clip's end: the clip from its start, as often as needed, or zeros.
        scale_B: float32 factors; by default 1.
    """
    factor_B = torch.full_like(clips_B, 1, dtype=torch.float32) if scale_B is None else scale_B.float()
    factor_B = factor_B * PCM_SCALE
    if samples.device.type == "cpu":
        return _copied(samples, offsets, clips_B, first_B, length, fill, factor_B)
    return _indexed(samples, offsets, clips_B, first_B, length, fill, factor_B)


def _indexed(
    samples: Tensor, offsets: Tensor, clips_B: Tensor, first_B: Tensor, length: int, fill: Fill, factor_B: Tensor
) -> Tensor:
    starts_B1 = offsets[clips_B][:, None]
    sizes_B1 = offsets[clips_B + 1][:, None] - starts_B1
    position_BT = first_B[:, None] + torch.arange(length, device=samples.device)
    window_BT = samples[starts_B1 + position_BT % sizes_B1].float() * factor_B[:, None]
    return window_BT if fill == "repeat" else window_BT * (position_BT < sizes_B1)


def _copied(
    samples: Tensor, offsets: Tensor, clips_B: Tensor, first_B: Tensor, length: int, fill: Fill, factor_B: Tensor
) -> Tensor:
    # A processor copies runs; an index per sample would be four times the samples' own bytes.
    pcm, batch_BT = samples.numpy(), torch.empty(len(clips_B), length)
    starts, stops = offsets[clips_B].tolist(), offsets[clips_B + 1].tolist()
    for row, start, stop, first, factor in zip(
        batch_BT.numpy(), starts, stops, first_B.tolist(), factor_B.numpy(), strict=True
    ):
        _fill_row(row, pcm[start:stop], first, fill, factor)
    return batch_BT


def _fill_row(row_T: NDArray[np.float32], clip: NDArray[np.int16], first: int, fill: Fill, factor: np.float32) -> None:
    """Write the window of one clip, from its sample `first` on, times a factor."""
    size, length = len(clip), len(row_T)
    done = max(0, min(size - first, length))
    row_T[:done] = clip[first : first + done]
    if fill == "zero":
        row_T[done:] = 0
    position = (first + done) % size
    while done < length and fill == "repeat":
        count = min(size - position, length - done)
        row_T[done : done + count] = clip[position : position + count]
        done, position = done + count, 0
    row_T *= factor  # after the copy: both run at the speed of memory, a product that converts does not


def on_device(samples: NDArray[np.int16], device: torch.device) -> Tensor:
    """Make one tensor of all samples: on the CPU the array's own memory, elsewhere a copy, made piece by piece."""
    with warnings.catch_warnings():
        # A memmap is read-only, to protect the hot copy; we never write to the tensor.
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        host = torch.from_numpy(samples)
    if device.type == "cpu":
        return host
    copy = torch.empty(host.shape, dtype=torch.int16, device=device)
    for first in range(0, len(host), _UPLOAD_SAMPLES):
        copy[first : first + _UPLOAD_SAMPLES] = host[first : first + _UPLOAD_SAMPLES]
    return copy


def linear(gain_db: NDArray[np.float32]) -> NDArray[np.float32]:
    """Convert gains from dB to factors (N,) float32."""
    factors: NDArray[np.float32] = (10 ** (gain_db.astype(np.float64) / 20)).astype(np.float32)
    return factors
