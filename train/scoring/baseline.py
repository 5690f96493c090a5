"""The best constant predictor: what a model must beat to have learned anything.

It says the same of every clip. To be generous, it is chosen on the very labels that it is scored
on, anew for each figure. Shapes: N clips, C classes.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tutti.datasets.record import ABSENT, PRESENT, UNKNOWN
from tutti.train.scoring.metrics import (
    Floats,
    Presence,
    confusion,
    f_scores,
    hamming_score,
    label_ranking_average_precision,
    mean_average_precision,
)


def share_present(presence_NC: Presence) -> Floats:
    """Divide known present by known labels, per class; 0 where nothing is known."""
    known = (presence_NC != UNKNOWN).sum(axis=0)
    share: Floats = (presence_NC == PRESENT).sum(axis=0) / np.maximum(known, 1)
    return share


def best_micro_vector(presence_NC: Presence) -> NDArray[np.bool_]:
    """Find the constant prediction (C,) with the greatest micro F1.

    2 TP / (predicted + present) grows with a class exactly if its share of present labels exceeds
    half the F1 reached: the best set is a prefix of the classes by falling share.
    """
    share = share_present(presence_NC)
    order = np.argsort(-share, kind="stable")
    present = (presence_NC == PRESENT).sum(axis=0)[order]
    known = (presence_NC != UNKNOWN).sum(axis=0)[order]
    f1 = 2 * np.cumsum(present) / np.maximum(np.cumsum(known) + present.sum(), 1)
    vector = np.zeros(presence_NC.shape[1], bool)
    if f1.size and f1.max() > 0:
        vector[order[: int(np.argmax(f1)) + 1]] = True
    return vector


def best_macro_vector(presence_NC: Presence) -> NDArray[np.bool_]:
    """Find the constant prediction (C,) with the greatest macro F1, either definition: all that occurs."""
    occurs: NDArray[np.bool_] = (presence_NC == PRESENT).any(axis=0)
    return occurs


def best_hamming_vector(presence_NC: Presence) -> NDArray[np.bool_]:
    """Find the constant prediction (C,) with the greatest Hamming score: the weighted majority."""
    weight_N1 = 1 / np.maximum((presence_NC != UNKNOWN).sum(axis=1, keepdims=True), 1)
    votes = (weight_N1 * (presence_NC == PRESENT)).sum(axis=0) - (weight_N1 * (presence_NC == ABSENT)).sum(axis=0)
    majority: NDArray[np.bool_] = votes > 0
    return majority


def most_frequent_share(presence_NC: Presence) -> float | None:
    """Compute the greatest `metrics.predominant_accuracy` of a constant: it names the most frequent class."""
    present_NC = presence_NC == PRESENT
    counts_C = present_NC[present_NC.sum(axis=1) == 1].sum(axis=0)
    total = int(counts_C.sum())
    return float(counts_C.max()) / total if total else None


def best_constant(presence_NC: Presence, instruments: Sequence[str]) -> dict[str, Any]:
    """Compute `metrics.summary` and the accuracy, each the best that a constant reaches, and two vectors.

    Ranks are by falling share of present labels (for LRAP the natural order, not proved best).
    """
    ranking_NC = np.broadcast_to(share_present(presence_NC), presence_NC.shape)
    vectors = {"best_micro": best_micro_vector(presence_NC), "best_macro": best_macro_vector(presence_NC)}
    scores = {name: _f_scores(presence_NC, vector) for name, vector in vectors.items()}
    return {
        "micro_f1": scores["best_micro"]["micro_f1"],
        "macro_f1": scores["best_macro"]["macro_f1"],
        "macro_f1_harmonic": scores["best_macro"]["macro_f1_harmonic"],
        "lrap": label_ranking_average_precision(presence_NC, ranking_NC),
        "map": mean_average_precision(presence_NC, ranking_NC),
        "predominant_accuracy": most_frequent_share(presence_NC),
        "hamming_score": hamming_score(
            presence_NC, np.broadcast_to(best_hamming_vector(presence_NC), presence_NC.shape)
        ),
        **{
            name: {
                "present": [label for label, chosen in zip(instruments, vector, strict=True) if chosen],
                "micro_f1": scores[name]["micro_f1"],
                "macro_f1": scores[name]["macro_f1"],
            }
            for name, vector in vectors.items()
        },
    }


def _f_scores(presence_NC: Presence, vector_C: NDArray[np.bool_]) -> dict[str, float | None]:
    return f_scores(confusion(presence_NC, np.broadcast_to(vector_C, presence_NC.shape)))
