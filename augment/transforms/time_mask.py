"""A pause: an interval of the signal is silenced."""

from dataclasses import dataclass

import torch
from torch import Generator

from tutti.augment.batch import Batch
from tutti.augment.draw import check_range, uniform
from tutti.augment.transform import Parameters, Transform


@dataclass(frozen=True)
class TimeMask(Transform):
    """Zeros in one random interval, as when musicians pause (Lumen 2023)."""

    min_share: float = 0.0  # of the length
    max_share: float = 0.3  # Lumen 2023's code

    def __post_init__(self) -> None:
        check_range("share", self.min_share, self.max_share, 0, 1)

    def draw(self, batch: Batch, generator: Generator) -> Parameters:
        """Draw share (B,) of the length to silence; place (B,) in [0, 1), from its earliest to its latest start."""
        return {
            "share": uniform(len(batch), self.min_share, self.max_share, generator),
            "place": uniform(len(batch), 0, 1, generator),
        }

    def apply(self, batch: Batch, parameters: Parameters) -> Batch:
        """Silence a part of each waveform; elsewhere not a bit differs."""
        length = batch.signal.shape[1]
        size_B1 = (parameters["share"] * length).round().int()[:, None]
        first_B1 = (parameters["place"][:, None] * (length - size_B1 + 1)).int()
        steps_T = torch.arange(length, device=batch.device, dtype=torch.int32)
        masked_BT = (steps_T >= first_B1) & (steps_T < first_B1 + size_B1)
        return batch.with_signal(batch.signal.masked_fill(masked_BT, 0.0))
