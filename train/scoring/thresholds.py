"""Searches of the thresholds from which probability counts as present, exact or as the papers run them.

    found = choose_thresholds(ThresholdSearch(), presence, probability, split="validation")

Unknown labels enter no search. Shapes: N clips, C classes, K candidates.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from tutti.datasets.errors import UsageError
from tutti.train.scoring.metrics import (
    DEFAULT_THRESHOLD,
    Floats,
    Objective,
    Presence,
    Scores,
    best_threshold,
    best_thresholds_per_class,
    f1_at,
    has_both_kinds,
)

_Search: TypeAlias = Callable[[Presence, Scores, Objective], float]

LUMEN_COARSE, LUMEN_FINE, LUMEN_RADIUS = 1000, 100, 0.1  # Lumen 2023, "Finding optimal decision threshold"
NSYNTH_SWEEP: Floats = np.arange(41, dtype=np.float64) * 0.02  # the NSynth paper's code: 0 to 0.8 by 0.02


@dataclass(frozen=True)
class ThresholdSearch:
    """Method, scope and objective of a search."""

    # exact: every partition of the probabilities. lumen_grid: 1,000 even points in [0, 1], then 100
    # around the best. nsynth_sweep: 0 to 0.8 by 0.02. fixed: `threshold`.
    method: Literal["exact", "lumen_grid", "nsynth_sweep", "fixed"] = "exact"
    scope: Literal["global", "per_class"] = "global"
    objective: Objective = "mean_f1"
    threshold: float = DEFAULT_THRESHOLD  # fixed: the OpenMIC BiLSTM paper's and Lumen 2023's in training

    def __post_init__(self) -> None:
        if not 0 <= self.threshold <= 1:
            raise ValueError(f"threshold must lie in [0, 1], got {self.threshold}")


def choose_thresholds(
    search: ThresholdSearch, presence_NC: Presence, probability_NC: Scores, *, split: str
) -> tuple[float, ...]:
    """Choose one threshold per class.

    Args:
        search: how.
        presence_NC: labels of the split.
        probability_NC: predictions for it.
        split: its name.

    Raises:
        UsageError: a search on the test split: its figures would no longer be of unseen data.
    """
    num_classes = int(presence_NC.shape[1])
    if search.method == "fixed":
        return (search.threshold,) * num_classes
    if split == "test":
        raise UsageError("thresholds are never searched on the test split; search on validation, or method=fixed")
    if search.method == "exact":
        if search.scope == "per_class":
            return tuple(best_thresholds_per_class(presence_NC, probability_NC, search.objective))
        return (best_threshold(presence_NC, probability_NC, search.objective),) * num_classes
    find = lumen_grid if search.method == "lumen_grid" else nsynth_sweep
    if search.scope == "global":
        return (find(presence_NC, probability_NC, search.objective),) * num_classes
    return _per_class(find, presence_NC, probability_NC, search.objective)


def _per_class(find: _Search, presence_NC: Presence, probability_NC: Scores, objective: Objective) -> tuple[float, ...]:
    """Search per class; a class that lacks one kind of label takes the threshold of all classes together."""
    fallback = find(presence_NC, probability_NC, objective)
    columns = [(presence_NC[:, [c]], probability_NC[:, [c]]) for c in range(presence_NC.shape[1])]
    return tuple(find(*column, objective) if has_both_kinds(column[0]) else fallback for column in columns)


def best_of(
    candidates_K: Floats, presence_NC: Presence, probability_NC: Scores, objective: Objective = "mean_f1"
) -> float:
    """Find the candidate with the greatest F1, of equal ones the first; 0.5 where nothing is known to be present."""
    f1_K = f1_at(presence_NC, probability_NC, candidates_K, objective)
    return DEFAULT_THRESHOLD if f1_K is None else float(candidates_K[np.argmax(f1_K)])


def lumen_grid(presence_NC: Presence, probability_NC: Scores, objective: Objective = "mean_f1") -> float:
    """Search 1,000 even points in [0, 1], then 100 within 0.1 of the best; a coarse point stays if none is better."""
    coarse = best_of(np.linspace(0, 1, LUMEN_COARSE), presence_NC, probability_NC, objective)
    fine_K = np.linspace(max(0.0, coarse - LUMEN_RADIUS), min(1.0, coarse + LUMEN_RADIUS), LUMEN_FINE)
    return best_of(np.append(coarse, fine_K), presence_NC, probability_NC, objective)


def nsynth_sweep(presence_NC: Presence, probability_NC: Scores, objective: Objective = "mean_f1") -> float:
    """Find the best of 0 to 0.8 by 0.02."""
    return best_of(NSYNTH_SWEEP, presence_NC, probability_NC, objective)


def sweep_table(
    presence_NC: Presence, probability_NC: Scores, candidates_K: Floats = NSYNTH_SWEEP
) -> list[dict[str, float]]:
    """List threshold, micro and macro F1 of every candidate: a curve to plot; empty where nothing is known present."""
    micro_K = f1_at(presence_NC, probability_NC, candidates_K, "micro_f1")
    macro_K = f1_at(presence_NC, probability_NC, candidates_K, "macro_f1")
    if micro_K is None or macro_K is None:
        return []
    columns = zip(candidates_K.tolist(), micro_K.tolist(), macro_K.tolist(), strict=True)
    return [{"threshold": point, "micro_f1": micro, "macro_f1": macro} for point, micro, macro in columns]
