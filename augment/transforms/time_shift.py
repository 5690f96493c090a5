"""The signal earlier or later."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Generator
from torch.nn import functional

from tutti.augment.batch import Batch
from tutti.augment.draw import check_range, uniform
from tutti.augment.levels import row_slices
from tutti.augment.transform import Parameters, Transform


@dataclass(frozen=True)
class TimeShift(Transform):
    """Shift by a share of the length; what leaves at one end returns at the other, or is lost."""

    min_share: float = -0.5  # of the length; negative: earlier. Lumen 2023's code
    max_share: float = 0.5
    fill: Literal["roll", "zeros"] = "roll"  # Lumen 2023's code: torch-audiomentations' default, rollover

    def __post_init__(self) -> None:
        check_range("share", self.min_share, self.max_share, -1, 1)

    def draw(self, batch: Batch, generator: Generator) -> Parameters:
        """Draw share (B,), of the length."""
        return {"share": uniform(len(batch), self.min_share, self.max_share, generator)}

    def apply(self, batch: Batch, parameters: Parameters) -> Batch:
        """Shift the waveforms by whole samples."""
        length = batch.signal.shape[1]
        shift_B = (parameters["share"] * length).round().long()
        if self.fill == "roll":
            twice_BN = torch.cat([batch.signal, batch.signal], dim=1)
            return batch.with_signal(row_slices(twice_BN, -shift_B % length, length))
        padded_BN = functional.pad(batch.signal, (length, length))
        return batch.with_signal(row_slices(padded_BN, length - shift_B, length))
