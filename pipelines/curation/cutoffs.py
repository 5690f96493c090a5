"""Cutoffs of label quality: how many clips may go, where quality is the probability that a label is right.

    cutoffs = find_cutoffs(quality, members, config)

Then the sum of the qualities of what goes is the number of good clips that are expected to go with the bad ones. The
worst go first, for as long as that stays within a share of all and of each instrument's.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from tutti.pipelines.curation.crossfit import Floats

HUNDREDTHS = 100  # quality is rounded down to them: finer says nothing, and the last bits of embeddings would show


@dataclass(frozen=True)
class CutoffConfig:
    """Shares of clips that may go: chosen with noise of 0 to 40 % planted in Gaussian clouds and in the sample."""

    highest: float = 0.85  # clips of this quality or a better one stay
    max_lost: float = 0.015  # of the clips whose labels are right: the share expected to go
    max_lost_of_class: float = 0.05  # likewise of an instrument's; a single clip may go
    max_share_of_class: float = 0.5  # of an instrument's clips that may go, whatever is expected
    # Log likelihood by which "some labels are wrong" must beat "none is": clean clouds and recordings that are hard to
    # tell reach 3.3, recordings with 5 % of wrong labels 8.5 and more. With less, hardly anything goes.
    min_evidence: float = 3.5
    max_share_without: float = 0.025

    def __post_init__(self) -> None:
        """Refuse what is no share."""
        shares = (self.highest, self.max_lost, self.max_lost_of_class, self.max_share_of_class, self.max_share_without)
        if not all(0 <= share <= 1 for share in shares):
            raise ValueError(f"{self}: all but min_evidence lie in [0, 1]")


@dataclass(frozen=True)
class Cutoffs:
    """Qualities below which clips go."""

    cutoff: float
    lower: Mapping[int, float] = field(default_factory=dict)  # instrument -> that of its clips, where it is lower


NONE_GO = Cutoffs(0.0)


def in_hundredths(quality: Floats) -> Floats:
    """Round down to hundredths; 1, which last bits decide about, becomes .99. NaN stays."""
    result: Floats = np.floor(np.minimum(quality, 0.999) * HUNDREDTHS) / HUNDREDTHS
    return result


def find_cutoffs(
    quality: Floats, members: Mapping[int, NDArray[np.bool_]], evidence: float, config: CutoffConfig
) -> Cutoffs:
    """Find the highest cutoffs at which no more goes than may.

    Args:
        quality: of each clip (N,), in hundredths; NaN: not judged.
        members: instrument -> which clips have it (N,).
        evidence: that any label is wrong (`Calibration.evidence`).
        config: see there.
    """
    judged = np.isfinite(quality)
    max_share = 1.0 if evidence >= config.min_evidence else config.max_share_without
    cutoff = _highest(quality[judged], config.highest, config.max_lost * quality[judged].sum(), max_share)
    lower = {}
    for instrument, has in members.items():
        own = quality[judged & has]
        max_lost = max(1.0, config.max_lost_of_class * own.sum())
        found = _highest(own, cutoff, max_lost, config.max_share_of_class)
        if found < cutoff:
            lower[instrument] = found
    return Cutoffs(cutoff, lower)


def _highest(quality: Floats, highest: float, max_lost: float, max_share: float) -> float:
    """Find the highest cutoff below which lie at most `max_lost` good clips and `max_share` of all."""
    counts = np.bincount(np.rint(quality * HUNDREDTHS).astype(np.int64), minlength=HUNDREDTHS)
    steps = np.arange(HUNDREDTHS)
    below = np.concatenate([[0], np.cumsum(counts)])
    lost = np.concatenate([[0.0], np.cumsum(counts * steps) / HUNDREDTHS])
    fits = (lost <= max_lost) & (below <= max_share * len(quality)) & (np.arange(len(below)) <= highest * HUNDREDTHS)
    return float(np.flatnonzero(fits).max()) / HUNDREDTHS
