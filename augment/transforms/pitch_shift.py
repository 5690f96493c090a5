"""Higher or lower at the same tempo."""

import math
from dataclasses import dataclass

from torch import Generator

from tutti.augment.batch import Batch
from tutti.augment.draw import check_range, uniform
from tutti.augment.transform import Parameters, Transform
from tutti.augment.vocoder import resampled, stretched


@dataclass(frozen=True)
class PitchShift(Transform):
    """Read faster or slower, then stretch back to the old tempo. Formants move along."""

    min_semitones: float = -2.0  # Lumen 2023's code
    max_semitones: float = 2.0

    def __post_init__(self) -> None:
        check_range("semitones", self.min_semitones, self.max_semitones, -36, 36)

    def draw(self, batch: Batch, generator: Generator) -> Parameters:
        """Draw semitones (B,), not rounded to whole ones."""
        return {"semitones": uniform(len(batch), self.min_semitones, self.max_semitones, generator)}

    def apply(self, batch: Batch, parameters: Parameters) -> Batch:
        """Transpose the waveforms, as long as before."""
        length = batch.signal.shape[1]
        ratio_B = 2 ** (parameters["semitones"].double() / 12)
        slowest = 2 ** (-self.min_semitones / 12)
        read_BN = resampled(batch.signal, ratio_B, math.ceil(length * slowest))
        return batch.with_signal(stretched(read_BN, 1 / ratio_B, length, batch.sample_rate, slowest))
