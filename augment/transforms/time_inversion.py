"""The signal played backwards."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Generator

from tutti.augment.batch import Batch
from tutti.augment.transform import Domain, Parameters, Transform


@dataclass(frozen=True)
class TimeInversion(Transform):
    """Reverse time, as Lumen 2023 describes it (its code inverts polarity: `PolarityInversion`)."""

    domain: ClassVar[Domain] = "any"

    def draw(self, batch: Batch, generator: Generator) -> Parameters:
        """Draw nothing."""
        return {}

    def apply(self, batch: Batch, parameters: Parameters) -> Batch:
        """Reverse the signals in time."""
        return batch.with_signal(batch.signal.flip(1))
