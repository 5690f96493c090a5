"""Kinds of guitars: clips labelled just `guitar` get `acoustic_guitar`, `electric_guitar`, both, or stay unknown.

    splitter, report = fit(clips, acoustic=3, electric=4, config=config, seed=0)   clips whose labels name the kind
    verdict = label(splitter, group, embedding, config)          row by row: "acoustic", "electric", "both", None

After Lumen 2023 (requirement L6): logistic regression on embeddings. What differs: the probability is calibrated
(Platt 1999: a sigmoid fitted to out-of-fold logits, songs kept together), and between two thresholds we abstain:
the clip stays unknown. "both" takes evidence of its own: a clip that is undecided between the kinds while two
detectors, each of one kind against what is no guitar, hear their kind as clearly as in the middle true clip and
more clearly than in nine of ten clips of the other kind. A vague guitar does not pass that.
Mode "hard" is Lumen's text: the likelier kind, always; the paper's code has an SVM and keeps a confidence of .7 or
more, which is `low=.3, high=.7` in mode "calibrated".

Another processor gives embeddings and models other last bits, some 1e-6 of a number. So probabilities are rounded to a
hundredth, and detectors' scores likewise, before they decide and before they are published; what sits closer than that
to the edge of a hundredth, one clip in some thousands, is all that could differ.
"""

from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from tutti.datasets.record import ABSENT, PRESENT, Label
from tutti.pipelines.curation.crossfit import CrossFit, FitConfig, Floats, Table, cross_fit, sigmoid

ACOUSTIC, ELECTRIC = "acoustic_guitar", "electric_guitar"
Kind = Literal["acoustic", "electric", "both"]
DECIMALS = 2  # of probabilities and of detectors' scores, rounded before they decide
CODE_VERSION = 1  # raise it where the same clips and settings come to other labels: it is in their origin


@dataclass(frozen=True)
class GuitarConfig:
    """Thresholds at which a guitar gets a kind."""

    mode: Literal["calibrated", "hard"] = "calibrated"
    # Calibrated probability of electric, at or below: acoustic; at or above `high`: electric. At .35 held-out clips and
    # those of another corpus were right in nine of ten or more, two built-in embedders; at .4 in 77 %.
    low: float = 0.35
    high: float = 0.65
    allow_both: bool = True
    both_quantile: float = 0.5  # of the true clips' detector scores, which both detectors must reach
    both_margin: float = 0.9  # quantile of the other kind's detector scores, likewise
    min_songs: int = 4  # per kind; with fewer there is nothing to calibrate on
    min_accuracy: float = 0.6  # balanced, out-of-fold, of the clips that get a kind; chance is .5
    fit: FitConfig = field(default_factory=FitConfig)

    def __post_init__(self) -> None:
        """Refuse thresholds that cross."""
        if not 0 <= self.low <= self.high <= 1:
            raise ValueError(f"pseudo_label: low={self.low} and high={self.high}: 0 <= low <= high <= 1")


@dataclass(frozen=True, eq=False)
class GuitarSplitter:
    """Plain arrays: it travels to any worker."""

    kinds: CrossFit  # one logit: electric against acoustic
    slope: float  # Platt: p(electric) = sigmoid(slope * logit + offset)
    offset: float
    acoustic: CrossFit | None  # one logit: acoustic guitar against what is no guitar; None: too few others
    electric: CrossFit | None
    acoustic_bar: float  # logit to reach for "both"
    electric_bar: float


@dataclass(frozen=True)
class GuitarVerdict:
    """Verdict on one clip; `kind` None: unknown."""

    kind: Kind | None
    electric: float  # calibrated probability that it is electric rather than acoustic


def fit(
    table: Table, *, acoustic: int, electric: int, config: GuitarConfig, seed: int
) -> tuple[GuitarSplitter | None, dict[str, Any]]:
    """Fit on clips whose kind is known.

    Args:
        table: clips of one instrument each, all instruments (the others teach the detectors). Any order.
        acoustic: column of the presence matrix.
        electric: likewise.
        config: see there.
        seed: of the folds.

    Returns:
        The splitter, and a report for the manifest: song-grouped cross-validated accuracy, coverage, confusion. No
        splitter where songs are too few or the kinds cannot be told apart: `skipped` in the report says so.
    """
    table = table.sorted()
    present = table.presence[:, [acoustic, electric]] == PRESENT
    guitars = table.take(np.flatnonzero(present.sum(axis=1) == 1))
    labels = (guitars.presence[:, electric] == PRESENT).astype(np.int64)
    songs = [len({g for g, k in zip(guitars.groups, labels, strict=True) if k == kind}) for kind in (0, 1)]
    if min(songs) < config.min_songs:
        return None, {
            "songs": songs,
            "skipped": f"{songs[0]} songs with acoustic and {songs[1]} with electric guitar, {config.min_songs} of "
            "each are needed: add IRMAS to the sources",
        }
    kinds = cross_fit(guitars, labels, num_classes=2, config=config.fit, seed=seed, balanced=True)
    slope, offset = platt(kinds.logits(guitars)[:, 0], labels)
    acoustic_fit, acoustic_bar = _detector(table, acoustic, electric, config, seed)
    electric_fit, electric_bar = _detector(table, electric, acoustic, config, seed)
    splitter = GuitarSplitter(kinds, slope, offset, acoustic_fit, electric_fit, acoustic_bar, electric_bar)
    report = _report(splitter, guitars, labels, config) | {"songs": songs}
    if report["accuracy"] is not None and report["balanced_accuracy"] < config.min_accuracy:
        return None, report | {
            "skipped": f"acoustic and electric guitars are told apart with a balanced accuracy of "
            f"{report['balanced_accuracy']:.2f}, {config.min_accuracy:.2f} is needed: use another --embedder"
        }
    return splitter, report


def label(splitter: GuitarSplitter, group: str, embedding: NDArray[np.float32], config: GuitarConfig) -> GuitarVerdict:
    """Decide the kind of one clip's guitar by its embedding (D,) and the models that were not fitted on its group."""
    row = Table(("",), (group,), embedding[None], np.zeros((1, 0), np.int8))
    logit = float(splitter.kinds.logits(row)[0, 0])
    electric = round(float(sigmoid(np.array(splitter.slope * logit + splitter.offset))), DECIMALS)
    if config.mode == "hard":
        return GuitarVerdict("electric" if electric > 0.5 else "acoustic", electric)
    if electric >= config.high or electric <= config.low:
        return GuitarVerdict("electric" if electric >= config.high else "acoustic", electric)
    return GuitarVerdict("both" if config.allow_both and _hears_both(splitter, row) else None, electric)


def labels_of(verdict: GuitarVerdict, origin: str, config: GuitarConfig) -> dict[str, Label]:
    """Return the labels that a verdict adds to a clip; none where it abstains.

    One kind heard says nothing of the other, which may play too: it stays unknown, but is absent in mode "hard".
    """
    share = verdict.electric
    if verdict.kind is None:
        return {}
    if verdict.kind == "both":  # nothing was calibrated for two at once, so no confidence
        return {ACOUSTIC: Label(PRESENT, origin), ELECTRIC: Label(PRESENT, origin)}
    confidence = {ACOUSTIC: round(1 - share, DECIMALS), ELECTRIC: share}
    heard, other = (ELECTRIC, ACOUSTIC) if verdict.kind == "electric" else (ACOUSTIC, ELECTRIC)
    labels = {heard: Label(PRESENT, origin, confidence[heard])}
    return labels | {other: Label(ABSENT, origin, confidence[other])} if config.mode == "hard" else labels


def platt(logits: Floats, labels: NDArray[np.int64]) -> tuple[float, float]:
    """Fit slope and offset of the sigmoid that turns out-of-fold logits (N,) into probabilities of label 1.

    Each row counts so that both labels weigh the same. A slope below 0 would turn answers round: it becomes 0.
    """
    from sklearn.linear_model import LogisticRegression  # a second, which only one worker needs to spend

    spread = max(float(logits.std()), 1e-9)  # the penalty must not depend on the logits' scale
    # C = 1: a prior worth a few clips. Newton's steps end within the last bits, wherever they are computed.
    regression = LogisticRegression(C=1.0, class_weight="balanced", solver="newton-cholesky", tol=1e-10)
    with threadpool_limits(1):
        regression.fit((logits / spread)[:, None], labels)
    slope = float(regression.coef_[0, 0]) / spread
    return (slope, float(regression.intercept_[0])) if slope > 0 else (0.0, 0.0)


def _detector(table: Table, column: int, other: int, config: GuitarConfig, seed: int) -> tuple[CrossFit | None, float]:
    """Fit one kind against what is no guitar; with the other kind among the others, no clip could be both."""
    here, there = (table.presence[:, index] == PRESENT for index in (column, other))
    rest = table.take(np.flatnonzero(~there))
    labels = here[~there].astype(np.int64)
    if len({group for group, value in zip(rest.groups, labels, strict=True) if not value}) < 2 * config.min_songs:
        return None, 0.0
    one_deal = replace(config.fit, deals=1)  # a bar needs no more
    crossfit = cross_fit(rest, labels, num_classes=2, config=one_deal, seed=seed, balanced=True)
    scores = crossfit.logits(table)[:, 0].round(DECIMALS)
    middle = float(np.quantile(scores[here & ~there], config.both_quantile))
    return crossfit, round(max(middle, float(np.quantile(scores[there & ~here], config.both_margin))), DECIMALS)


def _hears_both(splitter: GuitarSplitter, row: Table) -> bool:
    if splitter.acoustic is None or splitter.electric is None:
        return False
    fits = splitter.acoustic, splitter.electric
    acoustic, electric = (round(float(fitted.logits(row)[0, 0]), DECIMALS) for fitted in fits)
    # A detector that would not find its own instrument in the middle true clip proves nothing.
    return acoustic >= max(0.0, splitter.acoustic_bar) and electric >= max(0.0, splitter.electric_bar)


def _report(
    splitter: GuitarSplitter, guitars: Table, labels: NDArray[np.int64], config: GuitarConfig
) -> dict[str, Any]:
    verdicts = [label(splitter, *row, config) for row in zip(guitars.groups, guitars.embeddings, strict=True)]
    names = ("acoustic", "electric")
    confusion = {name: {"acoustic": 0, "electric": 0, "both": 0, "unknown": 0} for name in names}
    for value, verdict in zip(labels, verdicts, strict=True):
        confusion[names[value]][verdict.kind or "unknown"] += 1
    recalls = []
    for name in names:
        decided = sum(count for kind, count in confusion[name].items() if kind != "unknown")
        recalls += [confusion[name][name] / decided] if decided else []
    decided = sum(verdict.kind is not None for verdict in verdicts)
    right = sum(confusion[name][name] for name in names)
    return {
        "clips": len(labels),
        "coverage": round(decided / len(labels), 4),
        "accuracy": round(right / decided, 4) if decided else None,
        "balanced_accuracy": round(float(np.mean(recalls)), 4) if recalls else None,
        "confusion": confusion,
        "low": config.low,
        "high": config.high,
        "mode": config.mode,
    }
