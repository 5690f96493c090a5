"""Mean and deviation of features over the training split. Shapes: T frames (or clips), M features."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from tutti.datasets.record import Decibels

MIN_STD_DB: Decibels = 1.0  # a band that hardly moves (a lowpass in the data) must not become noise


@dataclass(frozen=True)
class Standardization:
    """Mean and standard deviation of every mel band over the training split, in the features' own unit (dB)."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def tensors(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """Copy mean and std (M,) to a device."""
        return torch.tensor(self.mean, device=device), torch.tensor(self.std, device=device)


def standardization(
    features_TM: Tensor | Iterable[Tensor], block: int = 1 << 16, min_std: float = MIN_STD_DB
) -> Standardization:
    """Compute mean and deviation of frames (T, M) in float64, whatever the storage type; in one pass.

    Args:
        features_TM: rows of all clips, in one tensor or clip by clip: how they are divided changes nothing.
        block: rows that are converted at once.
        min_std: least deviation, in the features' unit; the default suits decibels only.

    Raises:
        ValueError: no frames.
    """
    count = 0
    total = squares = torch.zeros((), dtype=torch.float64)
    parts = (features_TM,) if isinstance(features_TM, Tensor) else features_TM
    for rows in _blocks(parts, block):
        values = rows.double()
        total, squares = total + values.sum(dim=0).cpu(), squares + values.square().sum(dim=0).cpu()
        count += len(rows)
    if count == 0:
        raise ValueError("no frames to take statistics of")
    mean = total / count
    # In float64 the difference of squares keeps ten digits of decibels.
    std = (squares / count - mean.square()).clamp(min=0).sqrt().clamp(min=min_std)
    return Standardization(tuple(mean.tolist()), tuple(std.tolist()))


def _blocks(parts: Iterable[Tensor], size: int) -> Iterator[Tensor]:
    """Regroup rows into blocks of one size, the last one smaller."""
    waiting: list[Tensor] = []
    for part in parts:
        waiting.append(part)
        if sum(map(len, waiting)) >= size:
            *full, rest = torch.split(torch.cat(waiting), size)
            waiting = [rest] if len(rest) < size else []
            yield from full if waiting else (*full, rest)
    if waiting and len(rows := torch.cat(waiting)):
        yield rows
