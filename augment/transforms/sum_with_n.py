"""Several clips at once."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Generator

from tutti.augment.batch import Batch
from tutti.augment.mixing import other_instruments, summed
from tutti.augment.transform import Parameters, Transform


@dataclass(frozen=True)
class SumWithN(Transform):
    """Mean of an example and clips of other instruments, each at a peak of 1; labels by OR (Lumen 2023).

    Lumen 2023's text adds N clips to the example; its code takes N in total. Both say "sum with N".
    """

    num: int = 2  # 2 and 3 were best; 4 and 5 made the F1 worse
    counts: Literal["total", "added"] = "total"  # what num counts; total: what the published figures were run with

    def __post_init__(self) -> None:
        if not 0 <= self.num <= 16:
            raise ValueError(f"num: expected 0 to 16 clips, got {self.num}")

    def draw(self, batch: Batch, generator: Generator) -> Parameters:
        """Draw partners (B, K): indices into the pool; -1 where no further instrument is left."""
        added = self.num if self.counts == "added" else max(self.num - 1, 0)
        count_B = torch.full((len(batch),), added)
        own_BC, pool_PC = batch.presence.cpu(), batch.source.presence.cpu()
        return {"partners": other_instruments(own_BC, pool_PC, count_B, generator)}

    def apply(self, batch: Batch, parameters: Parameters) -> Batch:
        """Mix the clips and combine their labels."""
        return summed(batch, parameters["partners"])
