"""Single points of the spectrogram are missing."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Generator

from tutti.augment.batch import Batch
from tutti.augment.draw import check_range, integers, uniform
from tutti.augment.levels import TABLE_SIZE, slices, uniform_table
from tutti.augment.spectrogram import filled
from tutti.augment.transform import Domain, Parameters, Transform


@dataclass(frozen=True)
class RandomPixelErasing(Transform):
    """Black out every point with a probability of its example's own."""

    min_share: float = 0.0
    max_share: float = 0.25  # Lumen 2023's code
    fill: float | None = None  # None: the example's own minimum, which is black

    domain: ClassVar[Domain] = "spectrogram"

    def __post_init__(self) -> None:
        check_range("share", self.min_share, self.max_share, 0, 1)

    def draw(self, batch: Batch, generator: Generator) -> Parameters:
        """Draw share (B,) of the points, and slice (B,), an index into the table of random numbers."""
        return {
            "share": uniform(len(batch), self.min_share, self.max_share, generator),
            "slice": integers(len(batch), 0, TABLE_SIZE - 1, generator),
        }

    def apply(self, batch: Batch, parameters: Parameters) -> Batch:
        """Fill points of the spectrograms; elsewhere not a bit differs."""
        num_points = batch.signal[0].numel() if len(batch) else 1
        numbers = slices(uniform_table(num_points, batch.device), parameters["slice"], num_points)
        erased = numbers < parameters["share"].float()[:, None]
        return batch.with_signal(filled(batch.signal, erased.view(batch.signal.shape), self.fill))
