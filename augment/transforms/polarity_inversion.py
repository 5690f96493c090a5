"""The waveform upside down."""

from dataclasses import dataclass

from torch import Generator

from tutti.augment.batch import Batch
from tutti.augment.transform import Parameters, Transform


@dataclass(frozen=True)
class PolarityInversion(Transform):
    """Change the sign. Inaudible; it is what Lumen 2023's code does where its text says time inversion."""

    def draw(self, batch: Batch, generator: Generator) -> Parameters:
        """Draw nothing."""
        return {}

    def apply(self, batch: Batch, parameters: Parameters) -> Batch:
        """Negate the waveforms."""
        return batch.with_signal(-batch.signal)
