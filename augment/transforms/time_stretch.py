"""Faster or slower at the same pitch."""

from dataclasses import dataclass

from torch import Generator

from tutti.augment.batch import Batch
from tutti.augment.draw import check_range, log_uniform
from tutti.augment.transform import Parameters, Transform
from tutti.augment.vocoder import stretched


@dataclass(frozen=True)
class TimeStretch(Transform):
    """Another tempo, by a phase vocoder; a clip that becomes too short starts over (Lumen 2023's fill)."""

    min_rate: float = 0.8  # slower; Lumen 2023
    max_rate: float = 1.25  # faster

    def __post_init__(self) -> None:
        check_range("rate", self.min_rate, self.max_rate, 0.1, 10)

    def draw(self, batch: Batch, generator: Generator) -> Parameters:
        """Draw rate (B,): as often faster as slower."""
        return {"rate": log_uniform(len(batch), self.min_rate, self.max_rate, generator)}

    def apply(self, batch: Batch, parameters: Parameters) -> Batch:
        """Stretch the waveforms, as long as before."""
        length, rate_B = batch.signal.shape[1], parameters["rate"]
        return batch.with_signal(stretched(batch.signal, rate_B, length, batch.sample_rate, self.max_rate))
