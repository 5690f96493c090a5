"""Multi-label metrics over known labels only; numpy, exact.

Presence is int8: 1 present, 0 absent, -1 unknown. An unknown label enters no figure: not as a
false positive, not in a rank, not in a mean. A figure that nothing known supports is None.
Shapes: N clips, C classes, K candidate thresholds.
"""

from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from tutti.datasets.record import ABSENT, PRESENT, UNKNOWN

Presence: TypeAlias = NDArray[np.int8]
Scores: TypeAlias = NDArray[np.floating]
Floats: TypeAlias = NDArray[np.float64]
Counts: TypeAlias = NDArray[np.int64]
Objective: TypeAlias = Literal["micro_f1", "macro_f1", "mean_f1"]  # mean_f1: of the two others

DEFAULT_THRESHOLD = 0.5
_BLOCK = 4096  # clips that are ranked at once
_LABELS_AT_ONCE = 2**22  # thresholds x classes whose counts are held at once: 32 MiB of each kind


@dataclass(frozen=True)
class Confusion:
    """Counts per class (C,) over known labels."""

    true_positives: Counts
    false_positives: Counts
    false_negatives: Counts

    @property
    def support(self) -> Counts:
        """Known present labels."""
        return self.true_positives + self.false_negatives

    @property
    def precision(self) -> Floats:
        """TP / (TP + FP); 0 where nothing is predicted."""
        return _ratio(self.true_positives, self.true_positives + self.false_positives)

    @property
    def recall(self) -> Floats:
        """TP / (TP + FN); 0 where nothing is present."""
        return _ratio(self.true_positives, self.support)

    @property
    def f1(self) -> Floats:
        """2 TP / (2 TP + FP + FN); 0 where nothing is predicted or present."""
        errors = self.false_positives + self.false_negatives
        return _ratio(2 * self.true_positives, 2 * self.true_positives + errors)


def _ratio(numerator: NDArray[np.generic], denominator: NDArray[np.generic]) -> Floats:
    top, bottom = np.asarray(numerator, np.float64), np.asarray(denominator, np.float64)
    return np.divide(top, bottom, out=np.zeros_like(top), where=bottom > 0)


def _harmonic_mean(a: float, b: float) -> float:
    return 2 * a * b / (a + b) if a + b > 0 else 0.0


def confusion(presence_NC: Presence, predicted_NC: NDArray[np.bool_]) -> Confusion:
    """Compare predictions with what is known."""
    present, absent = presence_NC == PRESENT, presence_NC == ABSENT
    return Confusion(
        (present & predicted_NC).sum(axis=0),
        (absent & predicted_NC).sum(axis=0),
        (present & ~predicted_NC).sum(axis=0),
    )


def f_scores(counts: Confusion) -> dict[str, float | None]:
    """Compute micro and macro precision, recall, F1, and both macro F1 in use.

    `macro_f1` is the mean of the classes' F1 (scikit-learn's, and the NSynth paper's code);
    `macro_f1_harmonic` the harmonic mean of macro precision and macro recall (that paper's text).
    Macro means run over classes with a known present label: without one, recall has no meaning.
    """
    scored = counts.support > 0
    names = ("micro_precision", "micro_recall", "micro_f1", "macro_precision", "macro_recall", "macro_f1")
    if not scored.any():
        return dict.fromkeys((*names, "macro_f1_harmonic"))
    micro = Confusion(
        counts.true_positives.sum(keepdims=True),
        counts.false_positives.sum(keepdims=True),
        counts.false_negatives.sum(keepdims=True),
    )
    figures = [float(values[0]) for values in (micro.precision, micro.recall, micro.f1)]
    figures += [float(values[scored].mean()) for values in (counts.precision, counts.recall, counts.f1)]
    harmonic = _harmonic_mean(figures[3], figures[4])
    return {**dict(zip(names, figures, strict=True)), "macro_f1_harmonic": harmonic}


def average_precisions(presence_NC: Presence, scores_NC: Scores) -> list[float | None]:
    """Compute average precision per class: the step-wise sum of (R_n - R_n-1) P_n, ties taken together.

    None for a class without a known present or without a known absent label: every ranking of
    one kind is perfect.
    """
    return [_average_precision(presence, scores) for presence, scores in zip(presence_NC.T, scores_NC.T, strict=True)]


def _average_precision(presence_N: Presence, scores_N: Scores) -> float | None:
    known = presence_N != UNKNOWN
    relevant, scores = presence_N[known] == PRESENT, scores_N[known]
    if relevant.all() or not relevant.any():
        return None
    order = np.argsort(-scores, kind="stable")
    last_of_tie = np.append(np.diff(scores[order]) != 0, True)
    found = np.cumsum(relevant[order])[last_of_tie]
    ranks = np.flatnonzero(last_of_tie) + 1
    return float(np.sum(np.diff(found, prepend=0) / relevant.sum() * (found / ranks)))


def mean_average_precision(presence_NC: Presence, scores_NC: Scores) -> float | None:
    """Average over the classes that have an average precision."""
    return _mean([value for value in average_precisions(presence_NC, scores_NC) if value is not None])


def roc_aucs(presence_NC: Presence, scores_NC: Scores) -> list[float | None]:
    """Compute the area under the ROC curve per class: how often a present label outscores an absent one, ties half.

    None for a class without a known present or without a known absent label.
    """
    values: list[float | None] = []
    for presence_N, scores_N in zip(presence_NC.T, scores_NC.T, strict=True):
        present, known = presence_N == PRESENT, presence_N != UNKNOWN
        num_present, num_absent = int(present.sum()), int((presence_N == ABSENT).sum())
        if not num_present or not num_absent:
            values.append(None)
            continue
        rank_sum = rankdata(scores_N[known])[present[known]].sum()  # Mann, Whitney 1947
        values.append(float((rank_sum - num_present * (num_present + 1) / 2) / (num_present * num_absent)))
    return values


def mean_roc_auc(presence_NC: Presence, scores_NC: Scores) -> float | None:
    """Average over the classes that have an area under the ROC curve."""
    return _mean([value for value in roc_aucs(presence_NC, scores_NC) if value is not None])


def predominant_accuracy(presence_NC: Presence, scores_NC: Scores) -> float | None:
    """Compute the share of clips whose one known present class scores highest (NSynth paper: .726).

    Clips with another number of known present classes are left out. Classes that are unknown
    compete: one is predominant, so the others are not, whether they play or not. Of equal scores
    the first class counts.
    """
    single_N = (presence_NC == PRESENT).sum(axis=1) == 1
    right = np.argmax(scores_NC[single_N], axis=1) == np.argmax(presence_NC[single_N] == PRESENT, axis=1)
    return _mean(right.tolist())


def predominant_confusion(presence_NC: Presence, scores_NC: Scores) -> Counts:
    """Count the clips of `predominant_accuracy`, (C, C): the class that plays by the one that scores highest."""
    single_N = (presence_NC == PRESENT).sum(axis=1) == 1
    counts_CC = np.zeros((presence_NC.shape[1],) * 2, np.int64)
    plays_N, scores_N = (presence_NC[single_N] == PRESENT).argmax(axis=1), scores_NC[single_N].argmax(axis=1)
    np.add.at(counts_CC, (plays_N, scores_N), 1)
    return counts_CC


def example_f1(presence_NC: Presence, predicted_NC: NDArray[np.bool_]) -> Floats:
    """Compute F1 over the known labels of every clip that has one; 1 where nothing plays and nothing is predicted."""
    known_NC, present_NC = presence_NC != UNKNOWN, presence_NC == PRESENT
    counted_NC = predicted_NC & known_NC
    right_N = (present_NC & counted_NC).sum(axis=1)
    total_N = present_NC.sum(axis=1) + counted_NC.sum(axis=1)
    values_N = np.where(total_N > 0, 2 * right_N / np.maximum(total_N, 1), 1.0)
    f1: Floats = values_N[known_NC.any(axis=1)]
    return f1


def label_ranking_average_precision(presence_NC: Presence, scores_NC: Scores) -> float | None:
    """Compute LRAP (Tsoumakas et al. 2010) where every clip ranks its known labels only.

    For each known present label: the share of present ones among the known labels that score at
    least as high; mean per clip, then over clips. A clip without a known present or without a
    known absent label has no ranking to get wrong and is left out (scikit-learn counts it as 1).
    One sort per clip: (C, C) comparisons of 12,000 clips and 1,006 classes would be 12 GB.
    """
    present_NC, absent_NC = presence_NC == PRESENT, presence_NC == ABSENT
    ranked = np.flatnonzero(present_NC.any(axis=1) & absent_NC.any(axis=1))
    values: list[float] = []
    for start in range(0, len(ranked), _BLOCK):
        rows = ranked[start : start + _BLOCK]
        present, known, scores = present_NC[rows], present_NC[rows] | absent_NC[rows], scores_NC[rows]
        precision_NC = np.where(present, _ratio(_ranks(scores, present), _ranks(scores, known)), 0.0)
        values += (precision_NC.sum(axis=1) / present.sum(axis=1)).tolist()
    return _mean(values)


def _ranks(scores_NC: Scores, chosen_NC: NDArray[np.bool_]) -> Floats:
    """Count, for each chosen label, the chosen labels of its clip that score at least as high."""
    ranks_NC: Floats = rankdata(np.where(chosen_NC, -scores_NC, np.inf), method="max", axis=1)
    return ranks_NC


def hamming_score(presence_NC: Presence, predicted_NC: NDArray[np.bool_]) -> float | None:
    """Average over clips the share of known labels that are right.

    1 - Hamming loss. Predicting nothing scores high where few instruments play (.9 on IRMAS).
    """
    known_NC = presence_NC != UNKNOWN
    right_NC = known_NC & ((presence_NC == PRESENT) == predicted_NC)
    has_known = known_NC.any(axis=1)
    return _mean((right_NC[has_known].sum(axis=1) / known_NC[has_known].sum(axis=1)).tolist())


def _mean(values: list[float]) -> float | None:
    return float(np.mean(values)) if values else None


def predict(probability_NC: Scores, thresholds_C: Scores) -> NDArray[np.bool_]:
    """Predict present where the probability reaches the threshold of its class."""
    predicted: NDArray[np.bool_] = np.asarray(probability_NC, np.float64) >= np.asarray(thresholds_C, np.float64)
    return predicted


def likeliest(scores_NC: Scores) -> NDArray[np.bool_]:
    """Predict present the class that scores highest and no other; of equal scores the first."""
    predicted_NC = np.zeros(scores_NC.shape, bool)
    predicted_NC[np.arange(len(scores_NC)), np.argmax(scores_NC, axis=1)] = True
    return predicted_NC


def summary(presence_NC: Presence, probability_NC: Scores, thresholds_C: Scores) -> dict[str, float | None]:
    """Compute all figures of a set of clips."""
    return summary_of(presence_NC, probability_NC, predict(probability_NC, thresholds_C))


def summary_of(presence_NC: Presence, scores_NC: Scores, predicted_NC: NDArray[np.bool_]) -> dict[str, float | None]:
    """Compute all figures of scores and of predictions from them, by thresholds or otherwise (`likeliest`)."""
    return f_scores(confusion(presence_NC, predicted_NC)) | {
        "lrap": label_ranking_average_precision(presence_NC, scores_NC),
        "map": mean_average_precision(presence_NC, scores_NC),
        "roc_auc": mean_roc_auc(presence_NC, scores_NC),
        "hamming_score": hamming_score(presence_NC, predicted_NC),
    }


def f1_at(
    presence_NC: Presence, probability_NC: Scores, thresholds_K: Floats, objective: Objective = "mean_f1"
) -> Floats | None:
    """Compute F1 at each threshold (K,), the same one for all classes; None where nothing is known to be present."""
    if not (presence_NC == PRESENT).any():
        return None
    return _f1_at(presence_NC, np.asarray(probability_NC, np.float64), thresholds_K, objective)


def _f1_at(presence_NC: Presence, probability_NC: Floats, thresholds_K: Floats, objective: Objective) -> Floats:
    true_positives_KC = _at_least(probability_NC, presence_NC == PRESENT, thresholds_K)
    false_positives_KC = _at_least(probability_NC, presence_NC == ABSENT, thresholds_K)
    support_C = (presence_NC == PRESENT).sum(axis=0)
    # F1 = 2 TP / (predicted + present)
    predicted_KC = true_positives_KC + false_positives_KC
    micro_K: Floats = 2 * true_positives_KC.sum(axis=1) / (predicted_KC.sum(axis=1) + support_C.sum())
    scored = support_C > 0
    macro_K: Floats = (2 * true_positives_KC / np.maximum(predicted_KC + support_C, 1))[:, scored].mean(axis=1)
    return {"micro_f1": micro_K, "macro_f1": macro_K, "mean_f1": (micro_K + macro_K) / 2}[objective]


def best_threshold(presence_NC: Presence, probability_NC: Scores, objective: Objective = "mean_f1") -> float:
    """Find the one threshold for all classes with the greatest F1, by default the mean of micro and macro.

    Exact: every partition of the known probabilities is tried, by one sort per class and one of all:
    O(N C log(N C)) time, O(N C) memory. Between two probabilities the threshold is their midpoint;
    of equal ones the lowest wins. 0.5 where nothing is known to be present.
    """
    probability = np.asarray(probability_NC, np.float64)
    if not (presence_NC == PRESENT).any():
        return DEFAULT_THRESHOLD
    sweep = _sweep(presence_NC, probability)
    rough_K = {"micro_f1": sweep.micro, "macro_f1": sweep.macro, "mean_f1": (sweep.micro + sweep.macro) / 2}[objective]
    # A sum of n differences is off by at most n roundings: who comes that close is counted anew, exactly.
    error = 4 * np.finfo(np.float64).eps * (sweep.num_labels + presence_NC.shape[1])
    close_K = rough_K >= rough_K.max() - error
    same_micro_K = np.diff(sweep.micro) == 0 if objective != "macro_f1" else np.ones(len(rough_K) - 1, bool)
    close_K[1:] &= ~(sweep.is_idle[:-1] & same_micro_K)  # the same as the candidate below, which wins
    candidates_K = _between(sweep.values)[close_K]
    step = max(1, _LABELS_AT_ONCE // presence_NC.shape[1])
    blocks = [candidates_K[first : first + step] for first in range(0, len(candidates_K), step)]
    f1_K = np.concatenate([_f1_at(presence_NC, probability, block_K, objective) for block_K in blocks])
    return float(candidates_K[np.argmax(f1_K)])


@dataclass(frozen=True)
class _Sweep:
    """F1 where everything from a value on is predicted, for each distinct value (K,), ascending."""

    values: Floats
    micro: Floats  # exact
    macro: Floats  # but for rounding
    is_idle: NDArray[np.bool_]  # whether leaving out the labels of this very value changes no class's F1
    num_labels: int  # known


def _sweep(presence_NC: Presence, probability_NC: Floats) -> _Sweep:
    """Sweep down from the highest value: each label changes the F1 of its class, and so the mean."""
    support_C = (presence_NC == PRESENT).sum(axis=0)
    scores, hits, gains = [], [], []
    for presence_N, probability_N, support in zip(presence_NC.T, probability_NC.T, support_C.tolist(), strict=True):
        known = presence_N != UNKNOWN
        order = np.argsort(-probability_N[known], kind="stable")
        hit = presence_N[known][order] == PRESENT
        f1 = _ratio(2 * np.cumsum(hit), np.arange(1, len(hit) + 1) + support)
        scores.append(probability_N[known][order])
        hits.append(hit)
        gains.append(np.diff(f1, prepend=0.0))  # a class without a present label stays at 0
    score, hit, gain = np.concatenate(scores), np.concatenate(hits), np.concatenate(gains)
    order = np.argsort(-score, kind="stable")
    score, hit, gain = score[order], hit[order], gain[order]
    last = np.flatnonzero(np.append(np.diff(score) != 0, True))  # ties are taken together
    first = np.append(0, last[:-1] + 1)
    return _Sweep(
        score[last][::-1],
        (2 * np.cumsum(hit)[last] / (last + 1 + support_C.sum()))[::-1],
        (np.cumsum(gain)[last] / (support_C > 0).sum())[::-1],
        ~np.logical_or.reduceat(gain != 0, first)[::-1],
        len(score),
    )


def best_thresholds_per_class(
    presence_NC: Presence, probability_NC: Scores, objective: Objective = "mean_f1"
) -> list[float]:
    """Find the threshold with the greatest F1 for each class by itself.

    A class without a known present and a known absent label takes the global threshold.
    """
    fallback = best_threshold(presence_NC, probability_NC, objective)
    thresholds = []
    for column in range(presence_NC.shape[1]):
        presence_N1, probability_N1 = presence_NC[:, [column]], probability_NC[:, [column]]
        thresholds.append(best_threshold(presence_N1, probability_N1) if has_both_kinds(presence_N1) else fallback)
    return thresholds


def has_both_kinds(presence: Presence) -> bool:
    """Whether there is a known present and a known absent label."""
    return bool((presence == PRESENT).any() and (presence == ABSENT).any())


def _between(unique: Floats) -> Floats:
    """List the lowest value and the midpoints between neighbours: all partitions but the empty one."""
    middle = (unique[:-1] + unique[1:]) / 2
    middle = np.where(middle > unique[:-1], middle, unique[1:])  # neighbours without a number between them
    return np.append(unique[0], middle)


def _at_least(probability_NC: Floats, chosen_NC: NDArray[np.bool_], candidates_K: Floats) -> Counts:
    """Count the chosen labels of each class that reach each candidate: (K, C)."""
    columns = [
        chosen.sum() - np.searchsorted(np.sort(values[chosen]), candidates_K, side="left")
        for values, chosen in zip(probability_NC.T, chosen_NC.T, strict=True)
    ]
    return np.stack(columns, axis=1)
