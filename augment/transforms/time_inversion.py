"""The signal played backwards."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Generator

from augment.batch import Batch
from augment.transform import Domain, Parameters, Transform


@dataclass(frozen=True)
class TimeInversion(Transform):
    """Reverse time, as Lumen 2023 describes it (its code inverts polarity: `PolarityInversion`)."""

    domain: ClassVar[Domain] = "any"

    def draw(self, batch: Batch, generator: Generator) -> Parameters:
        """Nothing is random."""
        return {}

    def apply(self, batch: Batch, parameters: Parameters) -> Batch:
        """The signals reversed."""
        return batch.with_signal(batch.signal.flip(1))
