"""Mean and deviation of features over the training split. Shapes: T frames (or clips), M features."""

from dataclasses import dataclass

import torch
from torch import Tensor

from datasets.record import Decibels

MIN_STD_DB: Decibels = 1.0  # a band that hardly moves (a lowpass in the data) must not become noise


@dataclass(frozen=True)
class Standardization:
    """Mean and standard deviation of every mel band over the training split, in the features' own unit (dB)."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def tensors(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """Mean and std (M,) on a device."""
        return torch.tensor(self.mean, device=device), torch.tensor(self.std, device=device)


def standardization(features_TM: Tensor, block: int = 1 << 16, min_std: float = MIN_STD_DB) -> Standardization:
    """Statistics of frames (T, M), exact in float64 whatever the storage type.

    Args:
        features_TM: rows of all clips.
        block: rows that are converted at once.
        min_std: least deviation, in the features' unit; the default suits decibels only.

    Raises:
        ValueError: no frames.
    """
    if len(features_TM) == 0:
        raise ValueError("no frames to take statistics of")
    total = torch.zeros(features_TM.shape[1], dtype=torch.float64)
    squares = torch.zeros_like(total)
    blocks = torch.split(features_TM, block)
    for rows in blocks:
        total += rows.double().sum(dim=0).cpu()
    mean = total / len(features_TM)
    for rows in blocks:
        squares += (rows.double().cpu() - mean).square().sum(dim=0)
    std = (squares / len(features_TM)).sqrt().clamp(min=min_std)
    return Standardization(tuple(mean.tolist()), tuple(std.tolist()))
