"""Cross-fitted linear models: no clip is judged by a model that was fitted on the same song.

Groups (songs) are dealt into folds; model i is fitted without fold i and judges fold i. A group that was in no
fit is judged by the model that its digest names. Models are plain arrays with the scaling folded in, so they are
small and travel to any worker. Shapes: N rows, D dimensions, C classes.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from tutti.datasets.heartbeat import beat
from tutti.datasets.record import PRESENT

Floats = NDArray[np.float64]
MIN_SPREAD = 1e-6  # a feature that varies less is constant, and counts for nothing


@dataclass(frozen=True, eq=False)
class Table:
    """Clips with their embeddings and labels, in any order."""

    ids: tuple[str, ...]
    groups: tuple[str, ...]  # of each clip: what folds keep together, songs and all that share audio with them
    embeddings: NDArray[np.float32]  # (N, D)
    presence: NDArray[np.int8]  # (N, C): PRESENT, ABSENT or UNKNOWN
    songs: tuple[str, ...] = ()  # of each clip: whose clips are judged together; none given: the groups

    def __post_init__(self) -> None:
        """Refuse columns of different lengths."""
        if not self.songs:
            object.__setattr__(self, "songs", self.groups)
        lengths = {len(self.ids), len(self.groups), len(self.songs), len(self.embeddings), len(self.presence)}
        if len(lengths) > 1 or self.embeddings.ndim != 2 or self.presence.ndim != 2:
            shapes = f"{len(self.ids)} ids, {len(self.groups)} groups"
            raise ValueError(
                f"{shapes}, embeddings {self.embeddings.shape}, presence {self.presence.shape}; align them"
            )

    def take(self, rows: Sequence[int] | NDArray[np.intp]) -> "Table":
        """Take the rows with these indices, in their order."""
        ids, groups, songs = (tuple(column[row] for row in rows) for column in (self.ids, self.groups, self.songs))
        index = np.asarray(rows, dtype=np.intp)
        return Table(ids, groups, self.embeddings[index], self.presence[index], songs)

    def sorted(self) -> "Table":
        """Sort by id, so that no sum depends on the order of arrival."""
        return self.take(sorted(range(len(self.ids)), key=self.ids.__getitem__))


@dataclass(frozen=True)
class FitConfig:
    """Settings of the logistic regressions."""

    folds: int = 10  # Lumen 2023
    deals: int = 4  # of songs into folds, averaged: with few songs, who sits with whom is luck
    max_dealt: int = 2_000  # clips; in larger samples one deal does
    penalty_scale: float = 7.68  # C x D: Lumen's C = 0.01 at AST's 768 dimensions; so no embedding is favored
    tolerance: float = 1e-4  # of the gradient; Lumen's 0.1 stops at once
    max_iterations: int = 1_000  # reached by none that we saw
    max_sample: int = 20_000  # clips in a fit: more change the models little, and cost memory

    def __post_init__(self) -> None:
        """Refuse what cannot be fitted."""
        if self.folds < 2 or self.deals < 1 or self.penalty_scale <= 0 or self.max_sample < 1:
            raise ValueError(f"{self}: folds must be 2 or more, the others positive")


@dataclass(frozen=True, eq=False)
class LinearModel:
    """`logits = weight @ embedding + bias`; the standardization is folded in."""

    weight: Floats  # (C, D)
    bias: Floats  # (C,)

    def logits(self, embedding: NDArray[np.float32]) -> Floats:
        """Compute logits (C,) of one embedding (D,), so that no bit depends on what else is in a batch."""
        result: Floats = self.weight @ embedding.astype(np.float64) + self.bias
        return result


@dataclass(frozen=True, eq=False)
class FoldAssignment:
    """One way to deal the groups: a model per fold, and who belongs where."""

    models: tuple[LinearModel, ...]
    fold_of: Mapping[str, int]  # of the groups that were in the fit
    seed: int

    def model_for(self, group: str) -> LinearModel:
        """Return the model that was not fitted on a group."""
        fold = self.fold_of.get(group)
        return self.models[fold_by_digest(group, len(self.models), self.seed) if fold is None else fold]


@dataclass(frozen=True, eq=False)
class CrossFit:
    """Fitted models of one question."""

    deals: tuple[FoldAssignment, ...]

    def logits(self, table: Table) -> Floats:
        """Compute out-of-fold logits (N, C), mean over the deals, of any clips, in the fit or not."""
        rows = [
            sum(deal.model_for(group).logits(embedding) for deal in self.deals) / len(self.deals)
            for group, embedding in zip(table.groups, table.embeddings, strict=True)
        ]
        return np.array(rows, dtype=np.float64).reshape(len(rows), len(self.deals[0].models[0].bias))


def digest_number(text: str, seed: int) -> int:
    """Hash text and seed to a number below 2**64."""
    return int.from_bytes(hashlib.sha256(f"{seed}|{text}".encode()).digest()[:8], "big")


def fold_by_digest(group: str, folds: int, seed: int) -> int:
    """Choose the fold of a group that no fit has seen."""
    return digest_number(group, seed) % folds


def sampled(group: str, *, num_rows: int, config: FitConfig, seed: int) -> bool:
    """Whether a group is in the sample of a corpus of `num_rows` clips: whole songs, about `max_sample` clips."""
    return digest_number(group, seed) < 2**64 * min(1.0, config.max_sample / max(1, num_rows))


def bounded(table: Table, config: FitConfig, seed: int) -> Table:
    """Sample at most `max_sample` clips, whole songs in the order of their digests; sorted by id."""
    if len(table.ids) <= config.max_sample:
        return table.sorted()
    rank = {group: (digest_number(group, seed), group) for group in set(table.groups)}
    order = sorted(range(len(table.ids)), key=lambda row: (rank[table.groups[row]], table.ids[row]))
    last = table.groups[order[config.max_sample]]  # its song would be cut: leave it out, unless it is all there is
    whole = [row for row in order[: config.max_sample] if table.groups[row] != last]
    return table.take(whole or order[: config.max_sample]).sorted()


def assign_folds(groups: Sequence[str], labels: NDArray[np.int8], folds: int, seed: int) -> dict[str, int]:
    """Assign groups to folds so that every label is spread; the order of rows does not matter.

    Largest groups first, ties by digest; each goes to the fold that has the fewest clips of its own labels,
    then the fewest clips.

    Args:
        groups: of each row (N,).
        labels: (N, C); what is PRESENT counts.
        folds: how many.
        seed: of the digests.
    """
    counts: dict[str, NDArray[np.int64]] = {}
    for group, row_C in zip(groups, labels, strict=True):
        present_C = np.append(row_C == PRESENT, True).astype(np.int64)  # the last counts clips
        counts[group] = counts.get(group, 0) + present_C
    fold_counts = np.zeros((folds, labels.shape[1] + 1), np.int64)
    result: dict[str, int] = {}
    for group in sorted(counts, key=lambda name: (-counts[name][-1], digest_number(name, seed), name)):
        clashes = fold_counts[:, :-1] @ counts[group][:-1]
        fold = min(range(folds), key=lambda index: (clashes[index], fold_counts[index, -1], index))
        fold_counts[fold] += counts[group]
        result[group] = fold
    return result


def fit_linear(
    embeddings: NDArray[np.float32],
    classes: NDArray[np.int64],
    *,
    num_classes: int,
    config: FitConfig,
    balanced: bool = False,
    weights: Floats | None = None,
) -> LinearModel:
    """Fit a regularized logistic regression on standardized features: softmax, or one logit for two classes.

    Args:
        embeddings: (N, D).
        classes: of each row, below `num_classes`; a class that does not occur gets a logit of -50.
        num_classes: C; for 2 the model has one logit, that of class 1.
        config: regularization.
        balanced: weigh rare classes up.
        weights: of each row (N,): how much it counts; None: all the same.
    """
    from sklearn.linear_model import LogisticRegression  # a second, which only one worker needs to spend

    features = embeddings.astype(np.float64)
    center, spread = features.mean(0), features.std(0)
    scale = np.where(spread > MIN_SPREAD, 1 / np.maximum(spread, MIN_SPREAD), 0.0)
    num_logits = 1 if num_classes == 2 else num_classes
    weight, bias = np.zeros((num_logits, features.shape[1])), np.full(num_logits, -50.0)  # e^-50: never
    seen = np.unique(classes)
    if len(seen) == 1:
        bias[:] = np.where(np.arange(num_logits) == (0 if num_classes == 2 else seen[0]), 0.0, -50.0)
        return LinearModel(weight, bias)
    regression = LogisticRegression(
        C=config.penalty_scale / features.shape[1],
        tol=config.tolerance,
        max_iter=config.max_iterations,
        class_weight="balanced" if balanced else None,
    )
    features -= center
    features *= scale
    with threadpool_limits(1):  # the order of sums, and with it the last bits, must not depend on the machine's cores
        regression.fit(features, classes, sample_weight=weights)
    coefficients, intercept = regression.coef_, regression.intercept_
    if len(seen) == 2 and num_classes > 2:  # scikit-learn answers one logit; as softmax it is one of two
        coefficients, intercept = np.vstack([-coefficients, coefficients]) / 2, np.append(-intercept, intercept) / 2
    rows = [0] if num_classes == 2 else seen
    weight[rows] = coefficients * scale
    bias[rows] = intercept - (coefficients * scale) @ center
    return LinearModel(weight, bias)


def cross_fit(
    table: Table,
    classes: NDArray[np.int64],
    *,
    num_classes: int,
    config: FitConfig,
    seed: int,
    balanced: bool = False,
    weights: Floats | None = None,
) -> CrossFit:
    """Fit one model per fold on the other folds, for every deal; with fewer groups than folds, one fold per group.

    Args:
        table: the sample; its order does not matter.
        classes: of each row.
        num_classes: as in `fit_linear`.
        config: folds and regularization.
        seed: of the folds.
        balanced: weigh rare classes up.
        weights: of each row, as in `fit_linear`.
    """
    order = sorted(range(len(table.ids)), key=table.ids.__getitem__)
    table, classes = table.take(order), classes[order]
    weights = np.ones(len(order)) if weights is None else weights[order]
    labels = (classes[:, None] == np.arange(num_classes)).astype(np.int8)
    folds = max(2, min(config.folds, len(set(table.groups))))
    num_deals = config.deals if len(order) <= config.max_dealt else 1
    deals = []
    for deal in range(num_deals):
        deal_seed = digest_number(f"deal {deal}", seed)
        fold_of = assign_folds(table.groups, labels, folds, deal_seed)
        fold_N = np.array([fold_of[group] for group in table.groups])
        models = []
        for fold in range(folds):
            beat()
            others = fold_N != fold
            models.append(
                fit_linear(
                    table.embeddings[others],
                    classes[others],
                    num_classes=num_classes,
                    config=config,
                    balanced=balanced,
                    weights=weights[others],
                )
            )
        deals.append(FoldAssignment(tuple(models), fold_of, deal_seed))
    return CrossFit(tuple(deals))


def softmax(logits: Floats) -> Floats:
    """Compute probabilities (N, C) of logits (N, C)."""
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares: Floats = powers / powers.sum(axis=1, keepdims=True)
    return shares


def sigmoid(logits: Floats) -> Floats:
    """Compute probabilities of logits of any shape."""
    result: Floats = 1 / (1 + np.exp(-np.clip(logits, -500, 500)))
    return result
