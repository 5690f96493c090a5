"""Label quality: the probability that a clip's labels are right, as other songs with these labels sound.

    models = fit(sample, source="irmas", config=config, seed=0)       once per corpus or kind, on a bounded sample
    logits = score(models, table)                                      row by row, in parallel
    scores = assess(models, table, logits, config)                     all clips of a song together
    verdict = judge(scores, row, cutoff_of(models, config))            row by row

Confident learning (Northcutt et al. 2021) after Lumen 2023: out-of-fold probabilities of a logistic regression on
embeddings, k = 10, scored by cleanlab. Mode "fixed" is the paper's: the model's probability of the label, clip by
clip, against published cutoffs. What mode "calibrated" does beyond that, each because planted noise is found better
(benchmarks/curation.py): folds keep songs and copies together (otherwise a mislabelled song vouches for itself); a
song's clips with the same label are judged mostly by their mean; the models are fitted twice, the second time with
clips weighing as much as their label is likely to be right; `calibration.py` turns logits into the probability that a
label is right, given how many are wrong. The worst go, for as long as at most `max_lost` of the good ones are
expected to go with them. In both modes the quality is cleanlab's self-confidence in the clip's most doubtful label.

Corpora with one instrument a clip get one softmax model; small ones can share it (give `fit` their clips in one
table), the paper has one per corpus. Others get one model per class on its known labels; labels that are unknown are
left out. N clips, K classes that the corpus labels.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tutti.datasets.record import ABSENT, PRESENT, UNKNOWN
from tutti.pipelines.curation.calibration import UNCHANGED, Calibration, calibrate, posterior
from tutti.pipelines.curation.crossfit import CrossFit, FitConfig, Floats, Table, bounded, cross_fit, softmax
from tutti.pipelines.curation.cutoffs import NONE_GO, CutoffConfig, Cutoffs, find_cutoffs, in_hundredths

Kind = Literal["single", "multi"]
# Of cleanlab; on the same probabilities its others rank worse (AUROC .967; .964, .958), adjusted ones too (.942), and
# its own cutoffs lose 8 % of the good clips: benchmarks/results/curation.json, "methods".
METHOD = "self_confidence"
LUMEN_CUTOFFS = {"irmas": 0.11, "audioset": 0.13}  # Lumen 2023, text and figures
FIRST_FOLDS = 2  # of the first fit of a large sample, which only weighs clips
FIRST_TOLERANCE = 10  # of the first fit, against the second's


@dataclass(frozen=True)
class OutlierConfig:
    """Settings by which labels are judged."""

    mode: Literal["calibrated", "fixed"] = "calibrated"
    fit: FitConfig = field(default_factory=lambda: FitConfig(deals=2))
    cutoffs: CutoffConfig = field(default_factory=CutoffConfig)  # of mode "calibrated"
    song_weight: float = 0.75  # of the song's mean in a clip's score; 0: every clip alone
    fixed_cutoffs: Mapping[str, float] = field(default_factory=lambda: dict(LUMEN_CUTOFFS))
    other_fixed_cutoff: float = 0.11  # of corpora that the paper did not clean: its more careful one
    min_corpus_songs: int = 30  # with fewer, an AUROC is luck: not judged
    min_songs: int = 3  # per class: with fewer, a fold can be left with a single song to learn from
    min_auroc: float = 0.6  # out of fold, mean over classes: a random model has .5, whatever the balance of classes

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        if not 0 <= self.song_weight <= 1 or not 0 < self.min_auroc < 1 or self.min_songs < 2:
            raise ValueError(f"{self}: song_weight lies in [0, 1], min_auroc within, min_songs at 2 or more")
        for source, cutoff in {**self.fixed_cutoffs, "others": self.other_fixed_cutoff}.items():
            if not 0 <= cutoff <= 1:
                raise ValueError(f"outliers: fixed cutoff {cutoff} of {source}: a probability lies in [0, 1]")


@dataclass(frozen=True)
class Skipped:
    """A corpus that cannot be judged: its clips keep quality None."""

    source: str
    note: str


@dataclass(frozen=True, eq=False)
class FoldModels:
    """All that scoring a corpus needs: plain arrays, small."""

    source: str
    kind: Kind
    classes: tuple[int, ...]  # column of the presence matrix of each of the K classes
    fits: tuple[CrossFit, ...]  # one (single), or one per class (multi)
    accuracy: float  # balanced, out-of-fold, of the sample
    auroc: float  # likewise, mean over classes
    chance: float  # of the accuracy
    num_rows: int  # of the sample
    notes: tuple[str, ...] = ()  # classes left out, and why
    calibration: Calibration = UNCHANGED  # of mode "calibrated"
    cutoffs: Cutoffs = NONE_GO  # of mode "calibrated"

    def report(self) -> dict[str, Any]:
        """Describe the models for the manifest."""
        return {
            "kind": self.kind,
            "classes": list(self.classes),
            "sample": self.num_rows,
            "accuracy": round(self.accuracy, 2),
            "auroc": round(self.auroc, 2),
            "chance": round(self.chance, 4),
            "temperature": round(self.calibration.temperature, 2),
            "noise": round(self.calibration.noise, 2),
            "evidence": round(self.calibration.evidence, 1),
            "notes": list(self.notes),
        }


@dataclass(frozen=True, eq=False)
class Scores:
    """Per clip: the quality of its worst label, that label, and what would fit better."""

    quality: Floats  # (N,) in [0, 1]; NaN: nothing to judge
    given: NDArray[np.int64]  # (N,) presence column of the worst label; -1: none
    suggested: NDArray[np.int64]  # (N,) column of a better class (single) or the same (multi: flip it); -1: none
    limit: Floats  # (N,) the lowest cutoff of the clip's classes: no better clip goes


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
    """Fit the models of one corpus; a corpus that cannot be judged says why.

    Args:
        sample: its clips, or a sample of whole songs (`crossfit.sampled`); any order.
        source: for messages and the fixed cutoffs; "irmas+audioset" where corpora share the models.
        config: see there.
        seed: of the folds.
        kind: as `kind_of` says of the whole corpus; None: of the sample.
    """
    sample = bounded(sample, config.fit, seed)
    kind = kind or kind_of(sample.presence)
    if (songs := len(set(sample.groups))) < config.min_corpus_songs:
        return Skipped(source, f"{songs} songs; {config.min_corpus_songs} are needed")
    classes, notes = _usable_classes(sample, kind, config.min_songs)
    needed = 2 if kind == "single" else 1
    if len(classes) < needed:
        return Skipped(source, f"{len(classes)} classes with {config.min_songs} songs or more; {needed} are needed")
    questions = _questions(sample, classes, kind, config)
    first = _first_fit(config.fit, len(sample.ids)) if config.mode == "calibrated" else config.fit
    fits = [_cross_fit(question, first, seed) for question in questions]
    logits = [_two_sided(fitted.logits(question.table)) for fitted, question in zip(fits, questions, strict=True)]
    agreements = [_agreement(logit, question.labels) for logit, question in zip(logits, questions, strict=True)]
    accuracy, auroc = (float(np.mean([pair[index] for pair in agreements])) for index in (0, 1))
    if auroc < config.min_auroc:
        return Skipped(source, f"near chance: out-of-fold AUROC {auroc:.2f}; {config.min_auroc:.2f} is needed")
    calibration = UNCHANGED
    if config.mode == "calibrated":
        weights = _beliefs(questions, logits, _calibrate(questions, logits))
        fits = [_cross_fit(q, config.fit, seed, weight) for q, weight in zip(questions, weights, strict=True)]
        logits = [_two_sided(fitted.logits(q.table)) for fitted, q in zip(fits, questions, strict=True)]
        calibration = _calibrate(questions, logits)
    chance = 1 / len(classes) if kind == "single" else 0.5
    num_rows = len(questions[0].labels) if kind == "single" else len(sample.ids)
    models = FoldModels(source, kind, classes, tuple(fits), accuracy, auroc, chance, num_rows, notes, calibration)
    if config.mode == "fixed":
        return models
    scores = assess(models, sample, score(models, sample), config)
    members = {column: sample.presence[:, column] == PRESENT for column in classes}
    return replace(models, cutoffs=find_cutoffs(scores.quality, members, calibration.evidence, config.cutoffs))


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


@dataclass(frozen=True, eq=False)
class _Question:
    """Question to one set of models: which of the classes a clip has, or whether it has one."""

    table: Table
    labels: NDArray[np.int64]  # (n,)
    num_classes: int
    keys: list[Any]  # (n,): clips with the same are judged mostly by their mean
    weights: Floats  # (n,): those of a song sum to 1
    song_weight: float


def _questions(sample: Table, classes: tuple[int, ...], kind: Kind, config: OutlierConfig) -> list[_Question]:
    if kind == "single":
        return [_question(sample, _single_labels(sample.presence, classes), len(classes), config)]
    presence = [sample.presence[:, column].astype(np.int64) for column in classes]
    return [_question(sample, np.where(column == UNKNOWN, -1, column == PRESENT), 2, config) for column in presence]


def _question(sample: Table, labels: NDArray[np.int64], num_classes: int, config: OutlierConfig) -> _Question:
    rows = np.flatnonzero(labels >= 0)
    table, labels = sample.take(rows), labels[rows]
    sizes = Counter(table.songs)
    weights = np.array([1 / sizes[song] for song in table.songs])
    return _Question(table, labels, num_classes, _keys(table.songs, labels), weights, config.song_weight)


def _first_fit(config: FitConfig, num_rows: int) -> FitConfig:
    """Choose settings of the fit that only weighs clips: less exact, and of large samples on fewer folds."""
    folds = min(config.folds, FIRST_FOLDS) if num_rows > config.max_dealt else config.folds
    return replace(config, folds=folds, tolerance=FIRST_TOLERANCE * config.tolerance)


def _cross_fit(question: _Question, config: FitConfig, seed: int, weights: Floats | None = None) -> CrossFit:
    return cross_fit(
        question.table, question.labels, num_classes=question.num_classes, config=config, seed=seed, weights=weights
    )


def _two_sided(logits: Floats) -> Floats:
    """Write a single logit (N, 1) as those of two classes (N, 2)."""
    return np.hstack([-logits / 2, logits / 2]) if logits.shape[1] == 1 else logits


def _calibrate(questions: list[_Question], logits: list[Floats]) -> Calibration:
    # All questions together: labels that the same people gave are wrong alike.
    pooled = [_blend(logit, q.keys, q.song_weight) for logit, q in zip(logits, questions, strict=True)]
    labels, weights = np.concatenate([q.labels for q in questions]), np.concatenate([q.weights for q in questions])
    return calibrate(np.concatenate(pooled), labels, weights)


def _beliefs(questions: list[_Question], logits: list[Floats], calibration: Calibration) -> list[Floats]:
    """Compute the probability that each label is right."""
    result = []
    for question, logit in zip(questions, logits, strict=True):
        shares = posterior(_blend(logit, question.keys, question.song_weight), question.labels, calibration)
        result.append(shares[np.arange(len(shares)), question.labels])
    return result


def _agreement(logits: Floats, labels: NDArray[np.int64]) -> tuple[float, float]:
    """Compute balanced accuracy, and AUROC of each class against the rest, mean over classes."""
    from sklearn.metrics import roc_auc_score

    present = [k for k in range(logits.shape[1]) if 0 < (labels == k).sum() < len(labels)]
    best = logits.argmax(axis=1)
    shares = softmax(logits)
    hits = [float((best[labels == k] == k).mean()) for k in present]
    areas = [float(roc_auc_score(labels == k, shares[:, k])) for k in present]
    return float(np.mean(hits)), float(np.mean(areas))


def score(models: FoldModels, table: Table) -> Floats:
    """Compute out-of-fold logits (N, K) of any clips of the corpus; a row depends on its clip only, to the last bit."""
    num_logits = len(models.classes)
    if not table.ids:
        return np.zeros((0, num_logits))
    if models.kind == "multi":
        return np.hstack([crossfit.logits(table) for crossfit in models.fits])
    return _two_sided(models.fits[0].logits(table))


def assess(models: FoldModels, table: Table, logits: Floats, config: OutlierConfig) -> Scores:
    """Compute the quality of every clip.

    Args:
        models: of the corpus.
        table: whole songs: a clip's score takes in those of its song's clips that have the same label.
        logits: of `score`, in the order of the table.
        config: see there.
    """
    scores = _nothing(len(table.ids))
    assess_kind = _assess_single if models.kind == "single" else _assess_multi
    assess_kind(models, table, logits, config, scores)
    scores.quality[:] = in_hundredths(scores.quality)
    if config.mode == "calibrated":
        for column, cutoff in models.cutoffs.lower.items():
            rows = table.presence[:, column] == PRESENT
            scores.limit[rows] = np.minimum(scores.limit[rows], cutoff)
    return scores


def _assess_single(models: FoldModels, table: Table, logits: Floats, config: OutlierConfig, scores: Scores) -> None:
    from cleanlab.rank import get_label_quality_scores  # a second, which only one worker needs to spend

    labels = _single_labels(table.presence, models.classes)
    rows = np.flatnonzero(labels >= 0)
    if len(rows) == 0:
        return
    own, columns = labels[rows], np.array(models.classes, dtype=np.int64)
    shares = _shares(models, logits[rows], own, tuple(table.songs[row] for row in rows), config)
    scores.quality[rows] = get_label_quality_scores(own, shares, method=METHOD)
    others = shares.copy()
    others[np.arange(len(rows)), own] = -1
    scores.given[rows], scores.suggested[rows] = columns[own], columns[others.argmax(axis=1)]


def _assess_multi(models: FoldModels, table: Table, logits: Floats, config: OutlierConfig, scores: Scores) -> None:
    from cleanlab.multilabel_classification.rank import get_label_quality_scores_per_class

    presence = table.presence[:, list(models.classes)]
    share = np.zeros(presence.shape)  # of presence; an unknown label counts as a sure absence, and is left out below
    for k in range(len(models.classes)):
        rows = np.flatnonzero(presence[:, k] != UNKNOWN)
        if len(rows):
            own = (presence[rows, k] == PRESENT).astype(np.int64)
            songs = tuple(table.songs[row] for row in rows)
            share[rows, k] = _shares(models, _two_sided(logits[rows, k : k + 1]), own, songs, config)[:, 1]
    judged = np.flatnonzero((presence != UNKNOWN).any(axis=1))
    if len(judged) == 0:
        return
    present = [np.flatnonzero(row == PRESENT).tolist() for row in presence[judged]]
    quality = get_label_quality_scores_per_class(present, share[judged], method=METHOD)
    quality = np.where(presence[judged] == UNKNOWN, np.inf, in_hundredths(quality))
    worst = quality.argmin(axis=1)  # one wrong label spoils a clip; of equal ones the first, whatever the last bits say
    scores.quality[judged] = quality[np.arange(len(judged)), worst]
    scores.given[judged] = scores.suggested[judged] = np.array(models.classes, dtype=np.int64)[worst]


def _shares(
    models: FoldModels, logits: Floats, labels: NDArray[np.int64], songs: tuple[str, ...], config: OutlierConfig
) -> Floats:
    """Compute the probabilities (n, K) that cleanlab scores: the model's, or those of the true class."""
    if config.mode == "fixed":
        return softmax(logits)
    return posterior(_blend(logits, _keys(songs, labels), config.song_weight), labels, models.calibration)


def cutoff_of(models: FoldModels, config: OutlierConfig, source: str | None = None) -> float:
    """Return the quality below which a clip is dropped; `source` is its corpus, where several share the models."""
    if config.mode == "fixed":
        return config.fixed_cutoffs.get(source or models.source, config.other_fixed_cutoff)
    return models.cutoffs.cutoff


def judge(scores: Scores, row: int, cutoff: float) -> Verdict:
    """Keep or drop one clip; a dropped one says which label is doubted and which class fits better."""
    quality = float(scores.quality[row])
    if np.isnan(quality):
        return Verdict(keep=True, quality=None)
    given, suggested = int(scores.given[row]), int(scores.suggested[row])
    keep = quality >= min(cutoff, float(scores.limit[row]))
    return Verdict(keep, quality=quality, given=given, suggested=suggested)


def _single_labels(presence: NDArray[np.int8], classes: tuple[int, ...]) -> NDArray[np.int64]:
    present = presence[:, list(classes)] == PRESENT
    alone = ((presence == PRESENT).sum(axis=1) == 1) & present.any(axis=1)
    return np.where(alone, present.argmax(axis=1), -1).astype(np.int64)


def _keys(songs: tuple[str, ...], labels: NDArray[np.int64]) -> list[Any]:
    # Same song, same label: a clip whose song-mates are labelled otherwise stands alone.
    return list(zip(songs, labels.tolist(), strict=True))


def _blend(logits: Floats, keys: list[Any], weight: float) -> Floats:
    """Mix each row (N, K) with the mean of the rows that have its key."""
    if not keys:
        return logits
    codes: dict[Any, int] = {}
    code_N = np.array([codes.setdefault(key, len(codes)) for key in keys])
    counts = np.bincount(code_N)
    starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
    mixed = []
    for column in logits.T:
        ordered = column[np.lexsort((column, code_N))]  # a sum of floats depends on its order, rows come in any
        mean = np.add.reduceat(ordered, starts) / counts
        mixed.append((1 - weight) * column + weight * mean[code_N])
    return np.stack(mixed, axis=1)


def _nothing(num_rows: int) -> Scores:
    none = np.full(num_rows, -1, np.int64)
    return Scores(np.full(num_rows, np.nan), none, none.copy(), np.full(num_rows, np.inf))
