"""Several clips one after the other."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Generator

from tutti.augment.batch import Batch
from tutti.augment.draw import check_range, integers
from tutti.augment.mixing import anybody, targets_with
from tutti.augment.transform import Domain, Parameters, Transform


@dataclass(frozen=True)
class ConcatN(Transform):
    """An example and random clips of the pool joined in time; labels by OR.

    Lumen 2023 makes the 10 s that AST wants of three-second clips; the OpenMIC BiLSTM paper joins
    feature sequences. The result has always `num` parts: where an example draws fewer, they repeat.
    """

    num: int = 3  # parts; with three-second clips nearest to AST's 10 s. Both papers leave it open
    min_num: int | None = None  # different parts of an example: from min_num to num; None: always num

    domain: ClassVar[Domain] = "any"
    keeps_length: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_range("num", self.num if self.min_num is None else self.min_num, self.num, 1)

    def draw(self, batch: Batch, generator: Generator) -> Parameters:
        """Draw partners (B, num - 1) in the pool, and count (B,): different parts, the example itself the first."""
        least = self.num if self.min_num is None else self.min_num
        count_B = integers(len(batch), least, self.num, generator)
        partners_BK = anybody(batch, self.num - 1, generator)
        unused_BK = torch.arange(1, self.num) >= count_B[:, None]
        return {"partners": partners_BK.masked_fill(unused_BK, -1), "count": count_B}

    def apply(self, batch: Batch, parameters: Parameters) -> Batch:
        """Join signals to `num` times the length, and their labels."""
        partners_BK, count_B = parameters["partners"], parameters["count"]
        parts = [batch.signal]
        row_B = torch.arange(len(batch), device=batch.device)
        shape = (-1, *[1] * (batch.signal.ndim - 1))
        for k in range(1, self.num):
            which_B = k % count_B  # 0: the example itself
            clip_B = partners_BK[row_B, (which_B - 1).clamp(min=0)].clamp(min=0)
            other = batch.source.signal.index_select(0, clip_B)
            parts.append(torch.where((which_B == 0).view(shape), batch.signal, other))
        return Batch(torch.cat(parts, dim=1), targets_with(batch, partners_BK), batch.sample_rate, batch.pool)
