"""A change of level."""

from dataclasses import dataclass

from torch import Generator

from tutti.augment.batch import Batch
from tutti.augment.draw import check_range, uniform
from tutti.augment.levels import ratio_from_db
from tutti.augment.transform import Parameters, Transform
from tutti.datasets.record import Decibels


@dataclass(frozen=True)
class Gain(Transform):
    """Multiply by a gain, uniform in dB. May pass full scale: nothing is clipped."""

    min_gain_db: Decibels = -12.0  # the musical-mixtures paper leaves it open; audiomentations' default
    max_gain_db: Decibels = 12.0

    def __post_init__(self) -> None:
        check_range("gain_db", self.min_gain_db, self.max_gain_db)

    def draw(self, batch: Batch, generator: Generator) -> Parameters:
        """Draw gain_db (B,)."""
        return {"gain_db": uniform(len(batch), self.min_gain_db, self.max_gain_db, generator)}

    def apply(self, batch: Batch, parameters: Parameters) -> Batch:
        """Scale the waveforms."""
        return batch.with_signal(batch.signal * ratio_from_db(parameters["gain_db"]))
