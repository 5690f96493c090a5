"""The sound of a room."""

import functools
import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor

from tutti.augment.batch import Batch
from tutti.augment.draw import check_range, integers, uniform
from tutti.augment.levels import SILENT, fast_length, ratio_from_db, rms, row_blocks
from tutti.augment.transform import Parameters, Transform
from tutti.datasets.record import Decibels, Seconds

NUM_ROOMS = 64  # impulse responses: their spectra, 16 MB for three seconds, are computed once


@dataclass(frozen=True)
class Reverb(Transform):
    """Convolve with a room of exponentially decaying noise (Moorer 1979), and mix with the dry signal."""

    min_decay_s: Seconds = 0.1  # to -60 dB: a small furnished room
    max_decay_s: Seconds = 1.0  # a small hall; the NSynth pre-training paper leaves it open (freeverb, any room)
    min_wet_db: Decibels = -18.0  # level of the reverberation against the dry signal
    max_wet_db: Decibels = 0.0  # as loud

    def __post_init__(self) -> None:
        check_range("decay_s", self.min_decay_s, self.max_decay_s, 0.01)
        check_range("wet_db", self.min_wet_db, self.max_wet_db)

    def draw(self, batch: Batch, generator: Generator) -> Parameters:
        """Draw room (B,), from the driest to the most reverberant, and wet_db (B,)."""
        return {
            "room": integers(len(batch), 0, NUM_ROOMS - 1, generator),
            "wet_db": uniform(len(batch), self.min_wet_db, self.max_wet_db, generator),
        }

    def apply(self, batch: Batch, parameters: Parameters) -> Batch:
        """Convolve the waveforms with their rooms; the tail after the end is lost."""
        num_samples = batch.signal.shape[1]
        length = fast_length(num_samples + math.ceil(self.max_decay_s * batch.sample_rate))
        rooms_KN = room_spectra(self.min_decay_s, self.max_decay_s, length, batch.sample_rate, batch.device)
        spectrum_BN = torch.fft.rfft(batch.signal, length)
        for rows in row_blocks(spectrum_BN):
            spectrum_BN[rows] *= rooms_KN.index_select(0, parameters["room"][rows])
        wet_BT = torch.fft.irfft(spectrum_BN, length)[:, :num_samples]
        loudness_B1 = rms(batch.signal) / rms(wet_BT).clamp(min=SILENT)
        return batch.with_signal(torch.addcmul(batch.signal, wet_BT, ratio_from_db(parameters["wet_db"]) * loudness_B1))


def room_responses(min_decay_s: Seconds, max_decay_s: Seconds, sample_rate: int) -> NDArray[np.float64]:
    """Make impulse responses (NUM_ROOMS, samples) of unit energy; the logarithm of decay times grows evenly."""
    decay_s = np.geomspace(min_decay_s, max_decay_s, NUM_ROOMS)[:, None]
    time_s = np.arange(math.ceil(max_decay_s * sample_rate)) / sample_rate
    noise = np.random.default_rng(2).standard_normal((NUM_ROOMS, len(time_s)))
    responses: NDArray[np.float64] = noise * 10 ** (-3 * time_s / decay_s)  # -60 dB, a thousandth, at the decay time
    responses /= np.linalg.norm(responses, axis=1, keepdims=True)
    return responses


@functools.lru_cache(maxsize=4)
def room_spectra(
    min_decay_s: Seconds, max_decay_s: Seconds, length: int, sample_rate: int, device: torch.device
) -> Tensor:
    """Compute the spectra of the rooms, (NUM_ROOMS, length // 2 + 1) complex."""
    responses = torch.from_numpy(room_responses(min_decay_s, max_decay_s, sample_rate)).float()
    spectra_KN: Tensor = torch.fft.rfft(responses, length)
    return spectra_KN.to(device)
