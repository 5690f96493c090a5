"""A split's figures, for metrics.json and for people."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from tutti.datasets.record import PRESENT, UNKNOWN
from tutti.train.scoring.baseline import best_constant
from tutti.train.scoring.metrics import (
    DEFAULT_THRESHOLD,
    Presence,
    Scores,
    average_precisions,
    confusion,
    likeliest,
    predict,
    predominant_accuracy,
    roc_aucs,
    summary,
    summary_of,
)
from tutti.train.scoring.thresholds import sweep_table

Report: TypeAlias = dict[str, Any]

_FIGURES = {
    "macro_f1": "macro F1",
    "micro_f1": "micro F1",
    "macro_f1_harmonic": "macro F1 (harmonic)",
    "map": "mAP",
    "lrap": "LRAP",
    "hamming_score": "Hamming score",
}
_ACCURACY = {"predominant_accuracy": "accuracy"}  # the figure that counts where each clip has one label


def evaluation_report(
    presence_NC: Presence,
    probability_NC: Scores,
    thresholds: Sequence[float],
    instruments: Sequence[str],
    loss: float | None = None,
    *,
    one_of_all: bool = False,
) -> Report:
    """Compute figures of the model, of the best constant predictor, and per class; None: nothing known.

    `model_at_half` takes threshold .5 for all classes (Lumen 2023, OpenMIC BiLSTM); `sweep` lists F1
    from 0 to .8 by .02, to compare with the NSynth paper, which reports the best of them on this
    very split. Predicting nothing has a Hamming score of about .9 on IRMAS: compare `constant`. Where
    `single_label` is true, accuracy is the first figure. With `one_of_all` a clip's likeliest class is
    what the model predicts, whatever the thresholds.
    """
    thresholds_C = np.asarray(thresholds, np.float64)
    predicted_NC = likeliest(probability_NC) if one_of_all else predict(probability_NC, thresholds_C)
    counts = confusion(presence_NC, predicted_NC)
    precisions, areas = average_precisions(presence_NC, probability_NC), roc_aucs(presence_NC, probability_NC)
    known = (presence_NC != UNKNOWN).sum(axis=0)
    per_class = {
        name: {
            "precision": float(counts.precision[index]) if counts.support[index] else None,
            "recall": float(counts.recall[index]) if counts.support[index] else None,
            "f1": float(counts.f1[index]) if counts.support[index] else None,
            "average_precision": precisions[index],
            "roc_auc": areas[index],
            "support": int(counts.support[index]),  # known present
            "known": int(known[index]),
            "threshold": float(thresholds_C[index]),
        }
        for index, name in enumerate(instruments)
    }
    report: Report = rounded(
        {
            "num_clips": len(presence_NC),
            "num_known_labels": int(known.sum()),
            "single_label": is_single_label(presence_NC),
            "model": summary_of(presence_NC, probability_NC, predicted_NC)
            | {"predominant_accuracy": predominant_accuracy(presence_NC, probability_NC), "loss": loss},
            "model_at_half": summary(presence_NC, probability_NC, np.full_like(thresholds_C, DEFAULT_THRESHOLD)),
            "sweep": sweep_table(presence_NC, probability_NC),
            "constant": best_constant(presence_NC, instruments),
            "per_class": per_class,
        }
    )
    return report


def is_single_label(presence_NC: Presence) -> bool:
    """Whether every clip has one present class and no unknown one, as recipes with cross_entropy see to it."""
    if not len(presence_NC) or (presence_NC == UNKNOWN).any():
        return False
    return bool(((presence_NC == PRESENT).sum(axis=1) == 1).all())


def _figures(report: Report) -> dict[str, str]:
    return (_ACCURACY if report["single_label"] else {}) | _FIGURES


def rounded(value: Any) -> Any:
    """Round floats to six decimals, at any depth: all that a few thousand clips can support."""
    if isinstance(value, float):
        return round(value, 6)
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items()}
    if isinstance(value, list):
        return [rounded(item) for item in value]
    return value


def headline(report: Report) -> dict[str, Any]:
    """Select the figures of a summary line: the model's beside the best constant predictor's."""
    return {who: {name: report[who][name] for name in _figures(report)} for who in ("model", "constant")}


def table(report: Report, title: str) -> str:
    """Format two tables in plain text: model against the best constant, and the classes."""
    lines = [f"{title}: {report['num_clips']} clips, {report['num_known_labels']} known labels", ""]
    lines.append(f"{'':24}{'model':>8}{'best constant':>16}")
    for name, words in _figures(report).items():
        lines.append(f"{words:24}{figure(report['model'][name]):>8}{figure(report['constant'][name]):>16}")
    lines += ["", f"{'':24}{'P':>8}{'R':>8}{'F1':>8}{'AP':>8}{'present':>9}{'known':>8}"]
    for name, row in report["per_class"].items():
        figures = "".join(f"{figure(row[key]):>8}" for key in ("precision", "recall", "f1", "average_precision"))
        lines.append(f"{name:24}{figures}{row['support']:>9}{row['known']:>8}")
    return "\n".join(lines + interval_lines(report, _FIGURES))


def interval_lines(report: Report, words: Mapping[str, str]) -> list[str]:
    """Format the intervals of some figures, if the report has any; figures are called by these words."""
    return [
        f"{words[name]:24}95 % of resampled songs: {interval['low']:.3f} to {interval['high']:.3f}"
        for name, interval in report.get("intervals", {}).items()
        if name in words and interval["low"] is not None
    ]


def figure(value: float | None) -> str:
    """Format a figure; a dash where nothing is known."""
    return "-" if value is None else f"{value:.3f}"
