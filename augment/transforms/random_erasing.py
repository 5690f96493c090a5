"""A rectangle of the spectrogram is missing."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Generator

from tutti.augment.batch import Batch
from tutti.augment.draw import check_range, log_uniform, uniform
from tutti.augment.spectrogram import filled
from tutti.augment.transform import Domain, Parameters, Transform


@dataclass(frozen=True)
class RandomErasing(Transform):
    """Black out one rectangle (Zhong 2017)."""

    min_area: float = 0.02  # share of the spectrogram; Lumen 2023's code
    max_area: float = 0.2
    min_ratio: float = 1.0  # height in mel bins over width in frames; Lumen 2023's code
    max_ratio: float = 2.0
    fill: float | None = None  # None: the example's own minimum, which is black

    domain: ClassVar[Domain] = "spectrogram"

    def __post_init__(self) -> None:
        check_range("area", self.min_area, self.max_area, 0, 1)
        check_range("ratio", self.min_ratio, self.max_ratio, 0.01)

    def draw(self, batch: Batch, generator: Generator) -> Parameters:
        """Draw area, ratio, and frame_place, band_place in [0, 1), first to last position; all (B,)."""
        return {
            "area": uniform(len(batch), self.min_area, self.max_area, generator),
            "ratio": log_uniform(len(batch), self.min_ratio, self.max_ratio, generator),
            "frame_place": uniform(len(batch), 0, 1, generator),
            "band_place": uniform(len(batch), 0, 1, generator),
        }

    def apply(self, batch: Batch, parameters: Parameters) -> Batch:
        """Fill a rectangle of each spectrogram; a side that passes the edge is cut to it."""
        _, num_frames, num_bins = batch.signal.shape
        area_B, ratio_B = parameters["area"] * num_frames * num_bins, parameters["ratio"]
        height_B = (area_B * ratio_B).sqrt().round().clamp(max=num_bins).long()
        width_B = (area_B / ratio_B).sqrt().round().clamp(max=num_frames).long()
        low_B = (parameters["band_place"] * (num_bins - height_B + 1)).long()
        first_B = (parameters["frame_place"] * (num_frames - width_B + 1)).long()
        band_M, frame_F = (torch.arange(size, device=batch.device) for size in (num_bins, num_frames))
        in_band_BM = (band_M >= low_B[:, None]) & (band_M < (low_B + height_B)[:, None])
        in_time_BF = (frame_F >= first_B[:, None]) & (frame_F < (first_B + width_B)[:, None])
        return batch.with_signal(filled(batch.signal, in_time_BF[:, :, None] & in_band_BM[:, None], self.fill))
