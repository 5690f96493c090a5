"""Label quality: how well a clip's labels agree with what other songs with these labels sound like.

    models = fit(sample, source="irmas", config=config, seed=0)       once per corpus or kind, on a bounded sample
    logits = score(models, table)                                      row by row, in parallel
    scores = assess(models, table, logits, config)                     all clips of a song together
    verdict = judge(scores, row, cutoff_of(models, config))            row by row

Confident learning (Northcutt et al. 2021) after Lumen 2023: out-of-fold probabilities of a logistic regression on
embeddings, k = 10. What differs, each by measurement with planted noise: folds are grouped by song (otherwise a
mislabelled song vouches for itself); a song's clips with the same label are judged mostly by their mean; and mode
"calibrated" measures a score in the spread that the *same class* shows over clips labelled otherwise. Its gap is
how much better the best other class does; the quality is 1 / (1 + e^gap). Dropped is what has too large a gap, but
never more than the share that the paper lost of its worst corpus.
Mode "fixed" is the paper's: the plain probability of the given label, clip by clip, against its published cutoffs.

Corpora with one instrument a clip get one softmax model; small ones can share it (give `fit` their clips in one
table), the paper has one per corpus. Others get one balanced model per class on its known labels: the gap of a label
is the log odds against it, and a clip has the quality of its worst label (spreads would make a class that is hard to
hear condemn clips). N clips, K classes that the corpus labels.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tutti.datasets.errors import YieldError
from tutti.datasets.record import ABSENT, PRESENT, UNKNOWN
from tutti.pipelines.curation.crossfit import CrossFit, FitConfig, Floats, Table, bounded, cross_fit, sigmoid, softmax

Kind = Literal["single", "multi"]
QUALITY_DECIMALS = 4  # of scores in rows: finer says nothing, and digits cost room in manifests
LUMEN_CUTOFFS = {"irmas": 0.11, "audioset": 0.13}  # Lumen 2023, text and figures


@dataclass(frozen=True)
class OutlierConfig:
    """Settings by which labels are judged."""

    mode: Literal["calibrated", "fixed"] = "calibrated"
    fit: FitConfig = field(default_factory=FitConfig)
    max_gap: float = 1.5  # single: least step of .25 to cost at most 5 % of right labels, noise planted in the sample
    max_gap_multi: float = 2.0  # likewise; several labels a clip, so several chances to be dropped
    max_share: float = 0.156  # of a corpus: what Lumen 2023 dropped at most (AudioSet); holds back a weak embedder
    song_weight: float = 0.75  # of the song's mean in a clip's score; 0: every clip alone
    fixed_cutoffs: Mapping[str, float] = field(default_factory=lambda: dict(LUMEN_CUTOFFS))
    other_fixed_cutoff: float = 0.11  # of corpora that the paper did not clean: its more careful one
    min_corpus_songs: int = 30  # with fewer, an accuracy is luck (standard error .09): not judged
    min_songs: int = 3  # per class: with fewer, a fold can be left with a single song to learn from
    min_lift: float = 1.5  # balanced out-of-fold accuracy over chance (single); a random model has 1.0
    min_accuracy: float = 0.53  # balanced, mean over classes (multi); a random model has .50

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        if not 0 <= self.song_weight <= 1 or min(self.max_gap, self.max_gap_multi) <= 0 or self.min_songs < 2:
            raise ValueError(f"{self}: song_weight lies in [0, 1], both max_gap above 0, min_songs at 2 or more")


@dataclass(frozen=True)
class Skipped:
    """A corpus that is too small to judge: its clips keep quality None."""

    source: str
    note: str


@dataclass(frozen=True, eq=False)
class FoldModels:
    """All that scoring a corpus needs: plain arrays, small."""

    source: str
    kind: Kind
    classes: tuple[int, ...]  # column of the presence matrix of each of the K classes
    fits: tuple[CrossFit, ...]  # one (single), or one per class (multi)
    center: Floats  # (K,): mean logit of the class over clips labelled otherwise; 0 (multi)
    spread: Floats  # (K,): its standard deviation; 1 (multi)
    accuracy: float  # balanced, out-of-fold, of the sample
    chance: float
    num_rows: int  # of the sample
    notes: tuple[str, ...] = ()  # classes left out, and why
    low_quality: float = 1.0  # below it lies the largest share of the sample that may go

    def report(self) -> dict[str, Any]:
        """Describe the models for the manifest."""
        return {
            "kind": self.kind,
            "classes": list(self.classes),
            "sample": self.num_rows,
            "accuracy": round(self.accuracy, 4),
            "chance": round(self.chance, 4),
            "notes": list(self.notes),
        }


@dataclass(frozen=True, eq=False)
class Scores:
    """Per clip: the quality of its worst label, that label, and what would fit better."""

    quality: Floats  # (N,) in [0, 1]; NaN: nothing to judge
    given: NDArray[np.int64]  # (N,) presence column of the worst label; -1: none
    suggested: NDArray[np.int64]  # (N,) column of a better class (single) or the same (multi: flip it); -1: none


@dataclass(frozen=True)
class Verdict:
    """Verdict on one clip. `quality` None: not judged, kept."""

    keep: bool
    quality: float | None
    given: int | None = None
    suggested: int | None = None


def kind_of(presence: NDArray[np.int8]) -> Kind:
    """Return `single` where every labelled clip has exactly one instrument present; presence (N, C)."""
    labelled = presence[(presence != UNKNOWN).any(axis=1)]
    return "single" if len(labelled) > 0 and ((labelled == PRESENT).sum(axis=1) == 1).all() else "multi"


def fit(
    sample: Table, *, source: str, config: OutlierConfig, seed: int, kind: Kind | None = None
) -> FoldModels | Skipped:
    """Fit the models of one corpus.

    Args:
        sample: its clips, or a sample of whole songs (`crossfit.sampled`); any order.
        source: for messages and the fixed cutoffs; "irmas+audioset" where corpora share the models.
        config: see there.
        seed: of the folds.
        kind: as `kind_of` says of the whole corpus; None: of the sample.

    Raises:
        YieldError: the models do little better than chance, so their word is worth nothing.
    """
    sample = bounded(sample, config.fit, seed)
    kind = kind or kind_of(sample.presence)
    if (songs := len(set(sample.groups))) < config.min_corpus_songs:
        return Skipped(source, f"{songs} songs; {config.min_corpus_songs} are needed")
    classes, notes = _usable_classes(sample, kind, config.min_songs)
    needed = 2 if kind == "single" else 1
    if len(classes) < needed:
        return Skipped(source, f"{len(classes)} classes with {config.min_songs} songs or more; {needed} are needed")
    fitting = _fit_single if kind == "single" else _fit_multi
    models = fitting(sample, classes, source, notes, config, seed)
    least = models.chance * config.min_lift if kind == "single" else config.min_accuracy
    if models.accuracy < least:
        raise YieldError(
            f"outliers: {source}: balanced out-of-fold accuracy {models.accuracy:.3f} on {models.num_rows} clips is "
            f"near chance ({models.chance:.3f}; at least {least:.3f} is needed), so label quality would be noise; "
            "use another --embedder, or leave the labels as given with --embedder none"
        )
    scores = assess(models, sample, score(models, sample), replace(config, mode="calibrated"))
    judged = scores.quality[np.isfinite(scores.quality)]
    return replace(
        models, low_quality=float(np.quantile(judged, config.max_share, method="lower")) if len(judged) else 0.0
    )


def _usable_classes(sample: Table, kind: Kind, min_songs: int) -> tuple[tuple[int, ...], tuple[str, ...]]:
    usable, notes = [], []
    values = (PRESENT,) if kind == "single" else (PRESENT, ABSENT)
    for column in range(sample.presence.shape[1]):
        songs = {value: len({g for g, p in zip(sample.groups, sample.presence[:, column], strict=True) if p == value})
                 for value in values}  # fmt: skip
        if min(songs.values()) >= min_songs:
            usable.append(column)
        elif songs[PRESENT] > 0:
            notes.append(f"class {column}: {min(songs.values())} songs, {min_songs} are needed")
    return tuple(usable), tuple(notes)


def _fit_single(
    sample: Table, classes: tuple[int, ...], source: str, notes: tuple[str, ...], config: OutlierConfig, seed: int
) -> FoldModels:
    labels = _single_labels(sample.presence, classes)
    rows = np.flatnonzero(labels >= 0)
    sample, labels = sample.take(rows), labels[rows]
    crossfit = cross_fit(sample, labels, num_classes=len(classes), config=config.fit, seed=seed)
    logits = _with_songs(_logits((crossfit,), "single", sample), sample, config.song_weight)
    center, spread = np.zeros(len(classes)), np.ones(len(classes))
    for k in range(len(classes)):
        center[k], spread[k] = _moments(logits[labels != k, k])
    probabilities = softmax(_logits((crossfit,), "single", sample))
    hits = [float((probabilities[labels == k].argmax(1) == k).mean()) for k in range(len(classes))]
    accuracy, chance = float(np.mean(hits)), 1 / len(classes)
    return FoldModels(source, "single", classes, (crossfit,), center, spread, accuracy, chance, len(rows), notes)


def _fit_multi(
    sample: Table, classes: tuple[int, ...], source: str, notes: tuple[str, ...], config: OutlierConfig, seed: int
) -> FoldModels:
    fits, accuracies = [], []
    center, spread = np.zeros(len(classes)), np.ones(len(classes))
    for column in classes:
        known = sample.take(np.flatnonzero(sample.presence[:, column] != UNKNOWN))
        labels = (known.presence[:, column] == PRESENT).astype(np.int64)
        crossfit = cross_fit(known, labels, num_classes=2, config=config.fit, seed=seed, balanced=True)
        logits = crossfit.logits(known)[:, 0]
        accuracies.append(float(np.mean([((logits > 0) == value)[labels == value].mean() for value in (0, 1)])))
        fits.append(crossfit)
    accuracy = float(np.mean(accuracies))
    return FoldModels(source, "multi", classes, tuple(fits), center, spread, accuracy, 0.5, len(sample.ids), notes)


def score(models: FoldModels, table: Table) -> Floats:
    """Compute out-of-fold logits (N, K) of any clips of the corpus; a row depends on its clip only, to the last bit.

    Rounded to 1e-6, so that another machine's last bits do not reach a manifest.
    """
    return _logits(models.fits, models.kind, table)


def _logits(fits: tuple[CrossFit, ...], kind: Kind, table: Table) -> Floats:
    logits: Floats
    if not table.ids:
        return np.zeros((0, len(fits) if kind == "multi" else max(2, len(fits[0].deals[0].models[0].bias))))
    if kind == "multi":
        logits = np.hstack([crossfit.logits(table) for crossfit in fits])
    elif (raw := fits[0].logits(table)).shape[1] == 1:  # two classes, one logit
        logits = np.hstack([-raw, raw])
    else:
        shares = np.clip(softmax(raw), 1e-6, 1 - 1e-6)  # one class against the rest: odds of at most a million
        logits = np.log(shares / (1 - shares))
    rounded: Floats = logits.round(6)
    return rounded


def assess(models: FoldModels, table: Table, logits: Floats, config: OutlierConfig) -> Scores:
    """Compute the quality of every clip.

    Args:
        models: of the corpus.
        table: whole songs: a clip's score takes in those of its song's clips that have the same label.
        logits: of `score`, in the order of the table.
        config: see there.
    """
    if models.kind == "single":
        return _assess_single(models, table, logits, config)
    return _assess_multi(models, table, logits, config)


def _assess_single(models: FoldModels, table: Table, logits: Floats, config: OutlierConfig) -> Scores:
    labels = _single_labels(table.presence, models.classes)
    rows = np.flatnonzero(labels >= 0)
    columns = np.array(models.classes, dtype=np.int64)
    scores = _nothing(len(labels))
    if len(rows) == 0:
        return scores
    own = labels[rows]
    if config.mode == "fixed":
        values = sigmoid(logits[rows])
        scores.quality[rows] = _self_confidence(own, values / values.sum(1, keepdims=True))
    else:
        smooth = _with_songs(logits, table, config.song_weight)[rows]
        values = (smooth - models.center) / models.spread
    best = _best_other(values, own)
    if config.mode == "calibrated":
        index = np.arange(len(rows))
        scores.quality[rows] = sigmoid(values[index, own] - values[index, best])
    scores.given[rows], scores.suggested[rows] = columns[own], columns[best]
    scores.quality[:] = np.round(scores.quality, QUALITY_DECIMALS)
    return scores


def _self_confidence(labels: NDArray[np.int64], probabilities: Floats) -> Floats:
    from cleanlab.rank import get_label_quality_scores  # a second, which only one worker needs to spend

    quality: Floats = get_label_quality_scores(labels, probabilities)
    return quality


def _assess_multi(models: FoldModels, table: Table, logits: Floats, config: OutlierConfig) -> Scores:
    scores = _nothing(len(table.ids))
    per_label = np.full((len(table.ids), len(models.classes)), np.inf)
    for k, column in enumerate(models.classes):
        rows = np.flatnonzero(table.presence[:, column] != UNKNOWN)
        if len(rows) == 0:
            continue
        labels = (table.presence[rows, column] == PRESENT).astype(np.int64)
        if config.mode == "fixed":
            share = sigmoid(logits[rows, k])
            per_label[rows, k] = _self_confidence(labels, np.column_stack([1 - share, share]))
        else:
            songs = tuple(table.songs[row] for row in rows)
            smooth = _song_mean(logits[rows, k], songs, labels, config.song_weight)
            per_label[rows, k] = sigmoid(np.where(labels == 1, smooth, -smooth))
    judged = np.flatnonzero(np.isfinite(per_label).any(axis=1))
    worst = per_label[judged].argmin(axis=1) if len(judged) else np.zeros(0, np.int64)
    columns = np.array(models.classes, dtype=np.int64)
    scores.quality[judged] = np.round(
        per_label[judged, worst], QUALITY_DECIMALS
    )  # min pooling: one wrong label spoils a clip
    scores.given[judged] = scores.suggested[judged] = columns[worst]
    return scores


def cutoff_of(models: FoldModels, config: OutlierConfig, source: str | None = None) -> float:
    """Return the quality below which a clip is dropped; `source` is its corpus, where several share the models."""
    if config.mode == "fixed":
        return config.fixed_cutoffs.get(source or models.source, config.other_fixed_cutoff)
    gap = config.max_gap if models.kind == "single" else config.max_gap_multi
    return min(float(sigmoid(np.array(-gap))), models.low_quality)


def judge(scores: Scores, row: int, cutoff: float) -> Verdict:
    """Keep or drop one clip; a dropped one says which label is doubted and which class fits better."""
    quality = float(scores.quality[row])
    if np.isnan(quality):
        return Verdict(keep=True, quality=None)
    given, suggested = int(scores.given[row]), int(scores.suggested[row])
    return Verdict(keep=quality >= cutoff, quality=quality, given=given, suggested=suggested)


def _single_labels(presence: NDArray[np.int8], classes: tuple[int, ...]) -> NDArray[np.int64]:
    present = presence[:, list(classes)] == PRESENT
    alone = ((presence == PRESENT).sum(axis=1) == 1) & present.any(axis=1)
    return np.where(alone, present.argmax(axis=1), -1).astype(np.int64)


def _best_other(values: Floats, own: NDArray[np.int64]) -> NDArray[np.int64]:
    others = values.copy()
    others[np.arange(len(own)), own] = -np.inf
    return np.asarray(others.argmax(axis=1), dtype=np.int64)


def _with_songs(logits: Floats, table: Table, weight: float) -> Floats:
    # Same song, same labels: a clip whose song-mates are labelled otherwise stands alone.
    keys = [row.tobytes() for row in (table.presence == PRESENT)]
    return _blend(logits, list(zip(table.songs, keys, strict=True)), weight)


def _song_mean(logits: Floats, songs: tuple[str, ...], labels: NDArray[np.int64], weight: float) -> Floats:
    return _blend(logits[:, None], list(zip(songs, labels.tolist(), strict=True)), weight)[:, 0]


def _blend(logits: Floats, keys: list[Any], weight: float) -> Floats:
    members: dict[Any, list[int]] = {}
    for row, key in enumerate(keys):
        members.setdefault(key, []).append(row)
    result = logits.copy()
    for rows in members.values():
        # Sorted: a sum of floats depends on its order, rows come in any.
        mean = np.sort(logits[rows], axis=0).mean(axis=0)
        result[rows] = (1 - weight) * logits[rows] + weight * mean
    return result


def _moments(values: Floats) -> tuple[float, float]:
    ordered = np.sort(values)
    return float(ordered.mean()), max(float(ordered.std()), 1e-3)  # 1e-3: a class that nothing resembles


def _nothing(num_rows: int) -> Scores:
    return Scores(np.full(num_rows, np.nan), np.full(num_rows, -1, np.int64), np.full(num_rows, -1, np.int64))
