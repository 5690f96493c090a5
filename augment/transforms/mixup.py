"""A blend of two examples, and of their labels."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Generator

from tutti.augment.batch import Batch
from tutti.augment.draw import beta
from tutti.augment.labels import Targets, targets_convex
from tutti.augment.loudness import loudness_gain
from tutti.augment.mixing import anybody
from tutti.augment.transform import Domain, Parameters, Transform
from tutti.datasets.record import Decibels, Lufs


@dataclass(frozen=True)
class Mixup(Transform):
    """weight * example + (1 - weight) * partner, in signal and labels (Zhang 2018), whatever they hold."""

    alpha: float = 0.3  # weight ~ Beta(alpha, alpha); NSynth pre-training paper (0.4 in its scripts)
    # Both at one loudness first, as in the NSynth pre-training paper; None: as they are, for features
    # (OpenMIC BiLSTM, alpha 0.2).
    target_lufs: Lufs | None = -12.0
    max_gain_db: Decibels = 30.0  # as the build's

    domain: ClassVar[Domain] = "any"

    def __post_init__(self) -> None:
        if not self.alpha > 0:
            raise ValueError(f"alpha: expected above 0, got {self.alpha}")

    def draw(self, batch: Batch, generator: Generator) -> Parameters:
        """Draw partners (B, 1) in the pool, and the weight (B,) of the example itself."""
        return {"partners": anybody(batch, 1, generator), "weight": beta(len(batch), self.alpha, generator)}

    def apply(self, batch: Batch, parameters: Parameters) -> Batch:
        """Blend the examples; a label is known where it is known of all that is blended."""
        partner_B, weight_B = parameters["partners"][:, 0], parameters["weight"]
        shape = (-1, *[1] * (batch.signal.ndim - 1))
        own, other = weight_B.float().view(shape), (1 - weight_B).float().view(shape)
        theirs = batch.source.signal.index_select(0, partner_B)
        if self.target_lufs is not None:
            if batch.signal.ndim != 2:
                raise ValueError("mixup: spectrograms have no loudness to normalize; set target_lufs=None")
            own = own * loudness_gain(batch.signal, batch.sample_rate, self.target_lufs, self.max_gain_db)
            other = other * loudness_gain(theirs, batch.sample_rate, self.target_lufs, self.max_gain_db)
        pool = batch.source.targets
        partner = Targets(pool.target[partner_B], pool.mask[partner_B])
        targets = targets_convex(batch.targets, partner, weight_B)
        return Batch(torch.addcmul(batch.signal * own, theirs, other), targets, batch.sample_rate, batch.pool)
