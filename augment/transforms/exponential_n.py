"""Several clips at once, mostly few."""

import math
from dataclasses import dataclass

import torch
from torch import Generator

from tutti.augment.batch import Batch
from tutti.augment.mixing import other_instruments, summed
from tutti.augment.transform import Parameters, Transform


@dataclass(frozen=True)
class ExponentialN(Transform):
    """Mix like `SumWithN`, but the number of added instruments falls off exponentially (Lumen 2023)."""

    max_added: int = 5  # Lumen 2023: 0 to 5
    scale: float = 1.0  # each further instrument is 1 / e as likely; Lumen 2023 leaves it open

    def __post_init__(self) -> None:
        if not (0 <= self.max_added <= 16 and self.scale > 0):
            raise ValueError(f"expected 0 <= max_added <= 16 and scale > 0, got {self.max_added} and {self.scale}")

    def probabilities(self) -> torch.Tensor:
        """Compute the probabilities of 0, 1, ... max_added instruments: a truncated exponential."""
        weights = torch.tensor([math.exp(-added / self.scale) for added in range(self.max_added + 1)])
        return weights / weights.sum()

    def draw(self, batch: Batch, generator: Generator) -> Parameters:
        """Draw partners (B, max_added): indices into the pool; -1: none."""
        count_B = torch.multinomial(self.probabilities(), len(batch), replacement=True, generator=generator)
        own_BC, pool_PC = batch.presence.cpu(), batch.source.presence.cpu()
        partners_BK = other_instruments(own_BC, pool_PC, count_B, generator)
        return {"partners": torch.nn.functional.pad(partners_BK, (0, self.max_added - partners_BK.shape[1]), value=-1)}

    def apply(self, batch: Batch, parameters: Parameters) -> Batch:
        """Mix the clips and combine their labels."""
        return summed(batch, parameters["partners"])
