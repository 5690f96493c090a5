"""An equalizer's middle band: more or less around one frequency."""

from dataclasses import dataclass

from torch import Generator

from tutti.augment.batch import Batch
from tutti.augment.biquad import filtered, peaking
from tutti.augment.draw import check_range, log_uniform, uniform
from tutti.augment.transform import Parameters, Transform
from tutti.datasets.record import Decibels


@dataclass(frozen=True)
class Peaking(Transform):
    """Raise or lower a bell around one frequency, as an equalizer's middle band."""

    min_frequency_hz: float = 50.0  # the musical-mixtures paper leaves the ranges open; audiomentations' default
    max_frequency_hz: float = 7_500.0
    min_gain_db: Decibels = -12.0  # a mixing desk's range; audiomentations' 24 dB is beyond music
    max_gain_db: Decibels = 12.0
    min_q: float = 0.5
    max_q: float = 5.0

    def __post_init__(self) -> None:
        check_range("frequency_hz", self.min_frequency_hz, self.max_frequency_hz, 1)
        check_range("gain_db", self.min_gain_db, self.max_gain_db)
        check_range("q", self.min_q, self.max_q, 0.05)

    def draw(self, batch: Batch, generator: Generator) -> Parameters:
        """Draw frequency_hz, gain_db and q, all (B,)."""
        return {
            "frequency_hz": log_uniform(len(batch), self.min_frequency_hz, self.max_frequency_hz, generator),
            "gain_db": uniform(len(batch), self.min_gain_db, self.max_gain_db, generator),
            "q": log_uniform(len(batch), self.min_q, self.max_q, generator),
        }

    def apply(self, batch: Batch, parameters: Parameters) -> Batch:
        """Filter the waveforms."""
        settings = parameters["frequency_hz"], parameters["q"], parameters["gain_db"]
        return batch.with_signal(filtered(batch.signal, peaking(*settings, batch.sample_rate)))
