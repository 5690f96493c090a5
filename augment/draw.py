"""Random numbers of transforms: on the CPU, from a generator that the caller owns."""

import math

import numpy as np
import torch
from torch import Generator, Tensor


def generator_for(seed: int, epoch: int, index: int) -> Generator:
    """Make the generator of one batch: a function of the three alone, the same on every machine."""
    (state,) = np.random.SeedSequence([seed, epoch, index]).generate_state(1, np.uint64)
    return Generator().manual_seed(int(state >> np.uint64(1)))  # torch wants a signed number


def uniform(count: int, low: float, high: float, generator: Generator) -> Tensor:
    """Draw (count,) float64 evenly in [low, high)."""
    return low + (high - low) * torch.rand(count, generator=generator, dtype=torch.float64)


def log_uniform(count: int, low: float, high: float, generator: Generator) -> Tensor:
    """Draw (count,) float64 in [low, high), every octave equally likely."""
    return uniform(count, math.log(low), math.log(high), generator).exp()


def integers(count: int, low: int, high: int, generator: Generator) -> Tensor:
    """Draw (count,) int64 evenly in [low, high]."""
    return torch.randint(low, high + 1, (count,), generator=generator)


def beta(count: int, alpha: float, generator: Generator) -> Tensor:
    """Draw (count,) float64 from Beta(alpha, alpha)."""
    seed = int(torch.randint(2**62, (), generator=generator))  # torch's own Beta takes no generator
    return torch.from_numpy(np.random.default_rng(seed).beta(alpha, alpha, count))


def check_range(name: str, low: float, high: float, least: float = -math.inf, most: float = math.inf) -> None:
    """Refuse an empty range, or one that leaves its limits.

    Raises:
        ValueError: not least <= low <= high <= most; the message names the setting.
    """
    if not least <= low <= high <= most:
        raise ValueError(f"{name}: expected {least:g} <= min <= max <= {most:g}, got {low:g} and {high:g}")
