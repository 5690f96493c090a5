"""White, pink, brown, blue, violet noise, and what lies between."""

from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from tutti.augment.batch import Batch
from tutti.augment.draw import check_range, integers, uniform
from tutti.augment.levels import TABLE_SIZE, add_at_snr, fast_length, slices, spectrum_table
from tutti.augment.transform import Parameters, Transform
from tutti.datasets.record import Decibels

COLORS = {"white": 0.0, "pink": -1.0, "brown": -2.0, "blue": 1.0, "violet": 2.0}  # power ~ frequency^exponent
LOWEST_HZ = 20.0  # the ear's limit; brown noise would spend most of its power below


@dataclass(frozen=True)
class ColoredNoise(Transform):
    """Add Gaussian noise whose power density goes with a power of the frequency."""

    min_exponent: float = -2.0  # brown; 3 dB per octave and unit. Lumen 2023's code: torch-audiomentations' default
    max_exponent: float = 2.0  # violet
    min_snr_db: Decibels = 3.0  # signal to noise; Lumen 2023's code
    max_snr_db: Decibels = 25.0

    def __post_init__(self) -> None:
        check_range("exponent", self.min_exponent, self.max_exponent)
        check_range("snr_db", self.min_snr_db, self.max_snr_db)

    def draw(self, batch: Batch, generator: Generator) -> Parameters:
        """Draw exponent, snr_db and slice (an index into the table of spectra), all (B,)."""
        return {
            "exponent": uniform(len(batch), self.min_exponent, self.max_exponent, generator),
            "snr_db": uniform(len(batch), self.min_snr_db, self.max_snr_db, generator),
            "slice": integers(len(batch), 0, TABLE_SIZE - 1, generator),
        }

    def apply(self, batch: Batch, parameters: Parameters) -> Batch:
        """Add noise to the waveforms; silence stays silent."""
        noise_BT = colored_noise(
            parameters["exponent"], parameters["slice"], batch.signal.shape[1], batch.sample_rate, batch.device
        )
        return batch.with_signal(add_at_snr(batch.signal, noise_BT, parameters["snr_db"]))


def colored_noise(
    exponent_B: Tensor, slice_B: Tensor, num_samples: int, sample_rate: int, device: torch.device
) -> Tensor:
    """Make Gaussian noise (B, T) with power density ~ frequency^exponent above 20 Hz, none below; of any level."""
    length = fast_length(num_samples)
    num_bins = length // 2 + 1
    frequency_N = torch.arange(num_bins, device=device) * (sample_rate / length)
    octaves_N = (frequency_N.clamp(min=LOWEST_HZ) / LOWEST_HZ).log()
    magnitude_BN = (octaves_N * (exponent_B.float()[:, None] / 2)).exp_()
    magnitude_BN[:, frequency_N < LOWEST_HZ] = 0
    spectrum_BN = slices(spectrum_table(num_bins, device), slice_B, num_bins)
    noise_BT: Tensor = torch.fft.irfft(spectrum_BN.mul_(magnitude_BN), length)
    return noise_BT[:, :num_samples]
