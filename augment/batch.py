"""A batch of examples: what transforms take and answer.

Shapes: B examples, T samples, F frames, M mel bands, C classes; time is dimension 1 of both kinds of signal.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from tutti.augment.labels import Targets, presence_of, targets_of


@dataclass(frozen=True)
class Batch:
    """Signals and what is known about their labels; all tensors on one device."""

    signal: Tensor  # waveforms (B, T) or log-mel (B, F, M), float32
    targets: Targets  # (B, C)
    sample_rate: int  # Hz, of the waveform
    pool: "Batch | None" = None  # clips that mixing takes from; None: the batch itself

    def __len__(self) -> int:
        return len(self.signal)

    @property
    def device(self) -> torch.device:
        """The device of the tensors."""
        return self.signal.device

    @property
    def presence(self) -> Tensor:
        """The presence (B, C) int8: 1 present, 0 absent, -1 unknown."""
        return presence_of(self.targets)

    @property
    def source(self) -> "Batch":
        """The clips that mixing takes from."""
        return self if self.pool is None else self.pool

    def with_signal(self, signal: Tensor) -> "Batch":
        """Replace the signal, keep the labels."""
        return replace(self, signal=signal)

    def rows(self, index: Tensor) -> "Batch":
        """Select examples by int64 indices; the pool that they mix with stays whole."""
        index = index.to(self.device)
        targets = Targets(self.targets.target[index], self.targets.mask[index])
        return Batch(self.signal.index_select(0, index), targets, self.sample_rate, self.source)


def batch_of(signal: Tensor, presence_BC: Tensor, *, sample_rate: int, pool: Batch | None = None) -> Batch:
    """Make a batch from waveforms (B, T) or log-mel (B, F, M) and presence (B, C).

    Raises:
        ValueError: shapes that do not fit each other.
    """
    if signal.ndim not in (2, 3) or presence_BC.ndim != 2 or len(signal) != len(presence_BC):
        raise ValueError(
            f"expected a signal (B, T) or (B, F, M) and presence (B, C), "
            f"got {tuple(signal.shape)} and {tuple(presence_BC.shape)}"
        )
    targets = targets_of(presence_BC.to(signal.device))
    return Batch(signal, targets, sample_rate, pool)
