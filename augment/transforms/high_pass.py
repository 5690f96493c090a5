"""A filter that takes the lows away."""

from dataclasses import dataclass

import torch
from torch import Generator

from tutti.augment.batch import Batch
from tutti.augment.biquad import BUTTERWORTH_Q, filtered, high_pass
from tutti.augment.draw import check_range, uniform
from tutti.augment.transform import Parameters, Transform


@dataclass(frozen=True)
class HighPass(Transform):
    """Second-order Butterworth high-pass, 12 dB per octave."""

    min_frequency_hz: float = 200.0  # of -3 dB; torchaudio-augmentations, which the NSynth pre-training paper uses
    max_frequency_hz: float = 1_200.0

    def __post_init__(self) -> None:
        check_range("frequency_hz", self.min_frequency_hz, self.max_frequency_hz, 1)

    def draw(self, batch: Batch, generator: Generator) -> Parameters:
        """Draw frequency_hz (B,)."""
        return {"frequency_hz": uniform(len(batch), self.min_frequency_hz, self.max_frequency_hz, generator)}

    def apply(self, batch: Batch, parameters: Parameters) -> Batch:
        """Filter the waveforms."""
        frequency_hz = parameters["frequency_hz"]
        q = torch.full_like(frequency_hz, BUTTERWORTH_Q)
        return batch.with_signal(filtered(batch.signal, high_pass(frequency_hz, q, batch.sample_rate)))
