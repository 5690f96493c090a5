"""Uncertainty of figures: bootstrap intervals over songs, mean and deviation over seeds.

    intervals = metric_intervals(presence, probability, thresholds, groups, np.random.default_rng(0))
    spread = over_seeds([metrics_of_seed_0, metrics_of_seed_1, metrics_of_seed_2])

Whole songs are drawn, not clips: clips of one song are no independent evidence.
Shapes: N clips, C classes, R resamples.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from tutti.train.scoring.metrics import Presence, Scores, summary

Indices: TypeAlias = NDArray[np.int64]
Figures: TypeAlias = Mapping[str, float | None]

NUM_RESAMPLES = 1000  # Efron, Tibshirani 1993: enough for the ends of a 95 % interval
LEVEL = 0.95


@dataclass(frozen=True)
class Interval:
    """A figure and where it would lie with other songs."""

    estimate: float | None  # on all clips
    low: float | None
    high: float | None
    num_resamples: int  # in which the figure exists; few: the interval says little


@dataclass(frozen=True)
class Spread:
    """A figure over several seeds."""

    mean: float
    deviation: float | None  # of the sample (n - 1); None for one seed
    count: int

    def __str__(self) -> str:
        return f"{self.mean:.3f}" if self.deviation is None else f"{self.mean:.3f} ± {self.deviation:.4f}"


def bootstrap(
    figures: Callable[[Indices], Figures],
    groups: Sequence[str],
    generator: np.random.Generator,
    *,
    num_resamples: int = NUM_RESAMPLES,
    level: float = LEVEL,
) -> dict[str, Interval]:
    """Compute percentile intervals (Efron 1979) of figures, all from the same resamples.

    Args:
        figures: of the clips with these indices; a clip of a song that is drawn twice stands there twice.
        groups: the song of each clip.
        generator: draws the songs.
        num_resamples: how often.
        level: share of the resamples that an interval covers.

    Raises:
        ValueError: no clips, or a level or number that makes no interval.
    """
    if not len(groups) or num_resamples < 1 or not 0 < level < 1:
        raise ValueError(f"needs clips, resamples and 0 < level < 1, got {len(groups)}, {num_resamples}, {level}")
    _, group_N = np.unique(np.asarray(groups), return_inverse=True)
    order = np.argsort(group_N, kind="stable")
    clips_of = np.split(order, np.flatnonzero(np.diff(group_N[order])) + 1)
    estimate = figures(np.arange(len(groups)))
    drawn: dict[str, list[float]] = {name: [] for name in estimate}
    for _ in range(num_resamples):
        songs = generator.integers(len(clips_of), size=len(clips_of))
        for name, value in figures(np.concatenate([clips_of[song] for song in songs])).items():
            if value is not None:
                drawn[name].append(value)
    return {name: _interval(estimate[name], values, level) for name, values in drawn.items()}


def _interval(estimate: float | None, values: Sequence[float], level: float) -> Interval:
    if not values:
        return Interval(estimate, None, None, 0)
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2]).tolist()
    return Interval(estimate, low, high, len(values))


def metric_intervals(
    presence_NC: Presence,
    probability_NC: Scores,
    thresholds_C: Scores,
    groups: Sequence[str],
    generator: np.random.Generator,
    *,
    num_resamples: int = NUM_RESAMPLES,
    level: float = LEVEL,
) -> dict[str, Interval]:
    """Compute intervals of all figures of `metrics.summary`, by song; the thresholds stay as they are."""
    return bootstrap(
        lambda clips: summary(presence_NC[clips], probability_NC[clips], thresholds_C),
        groups,
        generator,
        num_resamples=num_resamples,
        level=level,
    )


def over_seeds(runs: Sequence[Figures]) -> dict[str, Spread | None]:
    """Compute mean and deviation of each figure over runs that differ in the seed alone; None where a run lacks it.

    Raises:
        ValueError: no runs, or runs with different figures.
    """
    if not runs or any(set(run) != set(runs[0]) for run in runs):
        raise ValueError("needs at least one run, and the same figures of all; evaluate all on the same split")
    return {name: _spread([run[name] for run in runs]) for name in runs[0]}


def _spread(values: Sequence[float | None]) -> Spread | None:
    present = [value for value in values if value is not None]
    if len(present) < len(values):
        return None
    mean = math.fsum(present) / len(present)
    if len(present) == 1:
        return Spread(mean, None, 1)
    variance = math.fsum((value - mean) ** 2 for value in present) / (len(present) - 1)
    return Spread(mean, math.sqrt(variance), len(present))
