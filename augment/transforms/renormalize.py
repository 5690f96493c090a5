"""Back to one loudness after the effects."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Generator

from tutti.augment.batch import Batch
from tutti.augment.levels import SILENT, rms
from tutti.augment.loudness import normalized
from tutti.augment.transform import Parameters, Transform
from tutti.datasets.record import Decibels, Lufs


@dataclass(frozen=True)
class Renormalize(Transform):
    """Scale to a loudness (BS.1770), or to an RMS level, which costs a tenth. Nothing is clipped."""

    target: Lufs = -12.0  # NSynth pre-training paper and Lumen 2023's code; by RMS: dB relative to full scale
    by: Literal["loudness", "rms"] = "loudness"
    max_gain_db: Decibels = 30.0  # as the build's: noise must not become the signal

    def draw(self, batch: Batch, generator: Generator) -> Parameters:
        """Draw nothing."""
        return {}

    def apply(self, batch: Batch, parameters: Parameters) -> Batch:
        """Scale the waveforms to the target; silence stays silent."""
        if self.by == "loudness":
            return batch.with_signal(normalized(batch.signal, batch.sample_rate, self.target, self.max_gain_db))
        scale_B1 = 10 ** (self.target / 20) / rms(batch.signal).clamp(min=SILENT)
        return batch.with_signal(batch.signal * torch.clamp(scale_B1, max=10 ** (self.max_gain_db / 20)))
