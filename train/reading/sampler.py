"""Clips of rare instruments drawn more often: the weighted sampler of Lumen 2023.

    weights = clip_weights(split.presence)               the paper's median; rule="max" as its code
    clips = weighted_draws(weights, len(weights), seed=0, epoch=3)

Shapes: N clips, C classes, K draws.
"""

from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from tutti.datasets.errors import UsageError
from tutti.datasets.record import PRESENT

WeightRule: TypeAlias = Literal["median", "max"]

_DRAWS = 3  # random stream of an epoch; 0 to 2 are train.reading.order's


def class_weights(presence_NC: NDArray[np.int8]) -> NDArray[np.float64]:
    """Compute weights (C,): all tracks / tracks with the class (Lumen 2023); 0 for a class without tracks.

    Its code takes 1 / tracks with the class: the same draws, for only ratios matter.
    """
    counts_C = (presence_NC == PRESENT).sum(axis=0)
    weights: NDArray[np.float64] = np.divide(
        len(presence_NC), counts_C, out=np.zeros(len(counts_C)), where=counts_C > 0
    )
    return weights


def clip_weights(presence_NC: NDArray[np.int8], rule: WeightRule = "median") -> NDArray[np.float64]:
    """Compute the weight (N,) with which each clip is drawn.

    A clip of one class has that class's weight; one of several has their median (Lumen 2023) or the
    greatest of them (its code). Absent and unknown count alike: what is not known to be there adds
    nothing. A clip with no class present has 1, the weight of a class that every track has: the paper
    has no such clips.
    """
    if rule not in ("median", "max"):
        raise ValueError(f"unknown rule {rule!r}; it is 'median' or 'max'")
    present_NC = presence_NC == PRESENT
    has_any_N = present_NC.any(axis=1)
    weights_N = np.ones(len(presence_NC))
    weights_NC = np.where(present_NC, class_weights(presence_NC), np.nan)[has_any_N]
    if len(weights_NC):
        weights_N[has_any_N] = np.nanmedian(weights_NC, axis=1) if rule == "median" else np.nanmax(weights_NC, axis=1)
    return weights_N


def weighted_draws(weights_N: NDArray[np.float64], num_draws: int, *, seed: int, epoch: int) -> NDArray[np.int64]:
    """Draw indices (K,) with replacement, in random order: a function of (seed, epoch) alone.

    Raises:
        UsageError: no weight is positive, or one is negative or not finite.
    """
    if not np.isfinite(weights_N).all() or (weights_N < 0).any() or not (weights_N > 0).any():
        raise UsageError("clip weights must be finite, not negative and not all 0; see clip_weights")
    draws = np.random.default_rng([seed, epoch, _DRAWS]).choice(
        len(weights_N), size=num_draws, p=weights_N / weights_N.sum()
    )
    return draws.astype(np.int64)
