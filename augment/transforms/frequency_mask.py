"""A band of frequencies is missing."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Generator

from tutti.augment.batch import Batch
from tutti.augment.draw import check_range, integers, uniform
from tutti.augment.spectrogram import filled
from tutti.augment.transform import Domain, Parameters, Transform


@dataclass(frozen=True)
class FrequencyMask(Transform):
    """Black out a band of mel bins over the whole length (SpecAugment, Park 2019)."""

    min_bins: int = 0
    max_bins: int = 30  # Lumen 2023, of 128 mel bins
    fill: float | None = None  # None: the example's own minimum, which is black

    domain: ClassVar[Domain] = "spectrogram"

    def __post_init__(self) -> None:
        check_range("bins", self.min_bins, self.max_bins, 0)

    def draw(self, batch: Batch, generator: Generator) -> Parameters:
        """Draw bins (B,) and place (B,) in [0, 1), from the lowest to the highest band."""
        return {
            "bins": integers(len(batch), self.min_bins, self.max_bins, generator),
            "place": uniform(len(batch), 0, 1, generator),
        }

    def apply(self, batch: Batch, parameters: Parameters) -> Batch:
        """Mask bands of the spectrograms; elsewhere not a bit differs."""
        num_bins = batch.signal.shape[2]
        bins_B = parameters["bins"].clamp(max=num_bins)
        low_B = (parameters["place"] * (num_bins - bins_B + 1)).long()
        band_M = torch.arange(num_bins, device=batch.device)
        masked_BM = (band_M >= low_B[:, None]) & (band_M < (low_B + bins_B)[:, None])
        return batch.with_signal(filled(batch.signal, masked_BM[:, None], self.fill))
