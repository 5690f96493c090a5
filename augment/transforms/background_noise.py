"""Recorded noise behind the music: rain, laughter, car horns."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from tutti.augment.batch import Batch
from tutti.augment.draw import check_range, integers, uniform
from tutti.augment.levels import add_at_snr, slices
from tutti.augment.transform import Parameters, Transform
from tutti.datasets.errors import UsageError
from tutti.datasets.record import Decibels


@dataclass(frozen=True, eq=False)
class NoiseBank:
    """Noises end to end, on one device."""

    samples: Tensor  # (sum of lengths,) float32
    starts: Tensor  # (K,) int64: first sample of each noise, on the CPU
    lengths: Tensor  # (K,) int64, on the CPU; each at least `num_samples`
    num_samples: int  # the longest clip that it serves

    def to(self, device: torch.device) -> "NoiseBank":
        """Move the bank to another device."""
        return NoiseBank(self.samples.to(device), self.starts, self.lengths, self.num_samples)


def noise_bank(noises: Sequence[Tensor], num_samples: int) -> NoiseBank:
    """Build a bank for clips of up to `num_samples`; a shorter noise is repeated.

    Args:
        noises: float32 (samples,), mono, at the sample rate of the clips.
        num_samples: of the longest clip.

    Raises:
        UsageError: no noise at all, or one without samples.
    """
    if not noises or not all(noise.ndim == 1 and len(noise) for noise in noises):
        raise UsageError("background noise: expected at least one noise, each of shape (samples,) and not empty")
    long_enough = [noise.repeat(-(-num_samples // len(noise))).float() for noise in noises]
    lengths = torch.tensor([len(noise) for noise in long_enough])
    return NoiseBank(torch.cat(long_enough), lengths.cumsum(0) - lengths, lengths, num_samples)


@dataclass(frozen=True, eq=False)
class BackgroundNoise(Transform):
    """Add a random piece of a random noise of the bank."""

    bank: NoiseBank  # ESC-50 in Lumen 2023
    min_snr_db: Decibels = 3.0  # signal to noise; Lumen 2023's code
    max_snr_db: Decibels = 30.0

    def __post_init__(self) -> None:
        check_range("snr_db", self.min_snr_db, self.max_snr_db)

    def draw(self, batch: Batch, generator: Generator) -> Parameters:
        """Draw snr_db (B,) and first (B,), the sample of the bank at which the noise begins."""
        length = batch.signal.shape[1]
        if length > self.bank.num_samples:
            raise UsageError(
                f"background noise: the bank serves {self.bank.num_samples} samples, the clips have {length}"
            )
        noise_B = integers(len(batch), 0, len(self.bank.lengths) - 1, generator)
        room_B = self.bank.lengths[noise_B] - length + 1
        place_B = uniform(len(batch), 0, 1, generator)
        first_B = self.bank.starts[noise_B] + (place_B * room_B).long()
        return {"snr_db": uniform(len(batch), self.min_snr_db, self.max_snr_db, generator), "first": first_B}

    def apply(self, batch: Batch, parameters: Parameters) -> Batch:
        """Add noise to the waveforms; silence stays silent."""
        noise_BT = slices(self.bank.samples, parameters["first"], batch.signal.shape[1])
        return batch.with_signal(add_at_snr(batch.signal, noise_BT, parameters["snr_db"]))
