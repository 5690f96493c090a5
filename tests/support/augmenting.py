"""Batches for the tests of augment: synthesized signals, known labels."""

from typing import Any

import signals
import torch

from tutti.augment.batch import Batch, batch_of
from tutti.augment.transform import Transform, load_transform
from tutti.augment.transforms.background_noise import NoiseBank, noise_bank

RATE = 16_000  # Hz
CLASSES = 5


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def noise_rows(count: int, duration_s: float = 0.5, amplitude: float = 0.1) -> torch.Tensor:
    """(count, T): independent white noise."""
    rows = [signals.noise(duration_s, amplitude=amplitude, sample_rate=RATE, seed=seed)[0] for seed in range(count)]
    return torch.stack([torch.from_numpy(row) for row in rows])


def single_instruments(count: int) -> torch.Tensor:
    """(count, CLASSES) int8: clip n holds instrument n mod CLASSES alone."""
    return torch.eye(CLASSES, dtype=torch.int8)[torch.arange(count) % CLASSES]


def waveforms(count: int = 8, duration_s: float = 0.5) -> Batch:
    """A batch of noises, each with one instrument and silent in its last third."""
    rows = noise_rows(count, duration_s)
    rows[:, rows.shape[1] * 2 // 3 :] = 0
    return batch_of(rows, single_instruments(count), sample_rate=RATE)


def spectrograms(count: int = 8, num_frames: int = 50, num_bins: int = 64) -> Batch:
    """A batch of log-mel-like noise in dB, each with one instrument."""
    logmel = -40 + 10 * torch.randn(count, num_frames, num_bins, generator=generator(5))
    return batch_of(logmel, single_instruments(count), sample_rate=RATE)


def silent(batch: Batch) -> Batch:
    """The same labels on digital silence."""
    return batch.with_signal(torch.zeros_like(batch.signal))


def bank(num_samples: int = RATE) -> NoiseBank:
    """Two recorded noises, one of them shorter than a clip."""
    return noise_bank([noise_rows(1, 2.0)[0], noise_rows(1, 0.3)[0]], num_samples)


def made(name: str, **settings: Any) -> Transform:
    """A transform by name, with its defaults."""
    kind: Any = load_transform(name)
    made: Transform = kind(bank(), **settings) if name == "background_noise" else kind(**settings)
    return made


def suited(transform: Transform) -> Batch:
    """A batch of the kind that a transform understands."""
    return spectrograms() if transform.domain == "spectrogram" else waveforms()
