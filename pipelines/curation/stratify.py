"""Split groups of clips so that every split holds its share of every label.

    counts = {"song a": (3, 0), "song b": (0, 2), ...}  # per label: how many clips have it
    sizes = {"song a": 3, "song b": 2, ...}  # clips
    splits = stratify_groups(counts, sizes, {"train": 0.65, "validation": 0.175, "test": 0.175}, seed=0)

Iterative stratification (Sechidis, Tsoumakas & Vlahavas, "On the Stratification of Multi-Label
Data", ECML PKDD 2011), on the number of clips per label that a group (a song, an artist, a video)
brings along instead of on single examples: no group straddles two splits, and the shares come out
right in clips, however long the songs are. Needs numpy only; `stratify_groups_skmultilearn` is the
reference that the Lumen project used, and needs scikit-multilearn.

Shape suffixes: G groups, C labels, S splits.
"""

import contextlib
import hashlib
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Row: TypeAlias = Sequence[int] | NDArray[np.integer]  # per label, how many clips have it
Counts: TypeAlias = Mapping[str, Row]  # group -> of its clips
Sizes: TypeAlias = Mapping[str, int]  # group -> clips, at least 1
Ratios: TypeAlias = Mapping[str, float]  # split -> wanted share of the clips; positive, in any unit


def stratify_groups(
    counts: Counts, sizes: Sizes, ratios: Ratios, *, seed: int, settled: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Choose the split of every group.

    The label with the fewest groups left is dealt first, the groups with most clips of it ahead.
    Each goes to the split that lacks, relative to its ratio, most of the label; in a tie, most
    clips; in a tie, to the first split. Groups without labels then fill up what lacks most clips.
    Where groups are equal, a digest of seed and name decides: their order in `counts` never does.

    Args:
        counts: all groups list the same labels in the same order.
        sizes: of the same groups.
        ratios: {"train": 65, "test": 35} is the same as {"train": 0.65, "test": 0.35}.
        seed: of the order among equal groups.
        settled: groups whose split is known already: they stay there, and the others fill up what is missing.

    Raises:
        ValueError: no ratios, one that is not positive, or counts and sizes that contradict.
    """
    names, shares = _splits(ratios)
    groups = _in_digest_order(counts, seed)
    sizes_G, counts_GC = _arrays(groups, counts, sizes)
    choice_G = np.zeros(len(groups), np.intp)
    is_left_G = np.ones(len(groups), np.bool_)
    dealt_SC = np.zeros((len(names), counts_GC.shape[1]), np.int64)
    filled_S = [0] * len(names)
    for index, group in enumerate(groups):
        if settled and group in settled:
            split = names.index(settled[group])
            choice_G[index], is_left_G[index] = split, False
            dealt_SC[split] += counts_GC[index]
            filled_S[split] += int(sizes_G[index])
    has_GC = np.asfortranarray((counts_GC > 0) & is_left_G[:, None])  # read by column
    groups_left_C = has_GC.sum(axis=0)
    while groups_left_C.any():
        label = int(np.where(groups_left_C > 0, groups_left_C, len(groups) + 1).argmin())
        picked = np.flatnonzero(has_GC[:, label] & is_left_G)
        picked = picked[np.lexsort((-sizes_G[picked], -counts_GC[picked, label]))]
        choice = _deal(counts_GC[picked, label], sizes_G[picked], dealt_SC[:, label].tolist(), filled_S, shares)
        for split in range(len(names)):
            dealt_SC[split] += counts_GC[picked[choice == split]].sum(axis=0)
        choice_G[picked] = choice
        is_left_G[picked] = False
        groups_left_C -= has_GC[picked].sum(axis=0)
    picked = np.flatnonzero(is_left_G)
    picked = picked[np.argsort(-sizes_G[picked], kind="stable")]
    choice_G[picked] = _deal(sizes_G[picked], sizes_G[picked], list(filled_S), filled_S, shares)
    return {group: names[split] for group, split in zip(groups, choice_G.tolist(), strict=True)}


def stratify_groups_skmultilearn(
    counts: Counts, sizes: Sizes, ratios: Ratios, *, seed: int, settled: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Choose the split of every group by scikit-multilearn's IterativeStratification, as Lumen 2023 did.

    It sees one row per group with the union of its labels, not how many clips have them, nor how
    many there are; nor what is settled, so that the others are dealt among themselves. Fewer of them than splits,
    which it cannot deal, go where `stratify_groups` says: one new song to the split that lacks it most. Quadratic
    in the groups. Global `np.random` is left as it was.

    Args:
        counts: as of `stratify_groups`, and so are the others.
        sizes: likewise.
        ratios: likewise.
        seed: likewise.
        settled: likewise.

    Raises:
        ValueError: as `stratify_groups`.
    """
    names, shares = _splits(ratios)
    settled = settled or {}
    groups = [group for group in _in_digest_order(counts, seed) if group not in settled]
    if len(names) == 1 or len(groups) < len(names):
        return stratify_groups(counts, sizes, ratios, seed=seed, settled=settled)
    from skmultilearn.model_selection import IterativeStratification  # a second, which few builds need to spend

    _, counts_GC = _arrays(groups, {name: counts[name] for name in groups}, {name: sizes[name] for name in groups})
    # Order 2 is that of its `iterative_train_test_split`, the paper's. Its random_state must stay None: 0 raises, and
    # any other is not used.
    folds = IterativeStratification(n_splits=len(names), order=2, sample_distribution_per_fold=shares)
    with _numpy_seeded(seed):
        parts = [part.tolist() for _, part in folds.split(np.zeros((len(groups), 1)), (counts_GC > 0).astype(np.int8))]
    dealt = {groups[index]: name for name, part in zip(names, parts, strict=True) for index in part}
    return {group: settled.get(group) or dealt[group] for group in counts}


def label_deviation(counts: Counts, assignment: Mapping[str, str], ratios: Ratios) -> list[float]:
    """Compute, per label, the worst |share of its clips - wanted share| over the splits, in [0, 1].

    A label without clips deviates by 0.

    Raises:
        ValueError: a group has no split in `assignment`, or one that `ratios` lacks.
    """
    names, shares = _splits(ratios)
    counts_SC = _totals(counts, assignment, names)
    totals_C = counts_SC.sum(axis=0)
    shares_SC = counts_SC / np.maximum(totals_C, 1)
    deviation_C = np.abs(shares_SC - np.array(shares)[:, None]).max(axis=0)
    return [float(value) for value in np.where(totals_C > 0, deviation_C, 0.0)]


def _deal(
    amounts: NDArray[np.integer], sizes: NDArray[np.int64], dealt: list[int], filled: list[int], shares: list[float]
) -> NDArray[np.intp]:
    """Choose the split of each group in turn; counts up `dealt` (of the amount) and `filled` (clips) per split.

    With want = share * total - dealt, the split with the greatest want / share is the one with the
    least dealt / share: in this form equal needs are equal floats.
    """
    need = [(d / share, f / share) for d, f, share in zip(dealt, filled, shares, strict=True)]
    choice = []
    for amount, size in zip(amounts.tolist(), sizes.tolist(), strict=True):
        split = need.index(min(need))
        choice.append(split)
        dealt[split] += amount
        filled[split] += size
        need[split] = (dealt[split] / shares[split], filled[split] / shares[split])
    return np.array(choice, np.intp)


def _splits(ratios: Ratios) -> tuple[list[str], list[float]]:
    for name, ratio in ratios.items():
        if not (math.isfinite(ratio) and ratio > 0):
            raise ValueError(f"split {name!r}: expected a positive ratio, got {ratio}; leave the split out?")
    if not ratios:
        raise ValueError('no splits; expected ratios such as {"train": 0.8, "test": 0.2}')
    total = math.fsum(ratios.values())
    return list(ratios), [ratio / total for ratio in ratios.values()]


def _in_digest_order(groups: Iterable[str], seed: int) -> list[str]:
    return sorted(groups, key=lambda group: hashlib.sha256(f"{seed}|{group}".encode()).digest())


def _arrays(groups: Sequence[str], counts: Counts, sizes: Sizes) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """Count clips (G,) and clips per label (G, C)."""
    if counts.keys() != sizes.keys():
        group = min(counts.keys() ^ sizes.keys())
        raise ValueError(f"group {group!r}: expected counts and a size, got only one of them")
    counts_GC = _matrix(groups, counts)
    sizes_G = np.array([sizes[group] for group in groups], np.int64)
    is_wrong_G = (sizes_G < 1) | ((counts_GC < 0) | (counts_GC > sizes_G[:, None])).any(axis=1)
    if is_wrong_G.any():
        group = groups[int(is_wrong_G.argmax())]
        raise ValueError(
            f"group {group!r}: expected at least 1 clip and label counts up to that, "
            f"got {sizes[group]} with {[int(count) for count in counts[group]]}"
        )
    return sizes_G, counts_GC


def _matrix(groups: Sequence[str], counts: Counts) -> NDArray[np.int32]:
    """Count clips per label (G, C); of NSynth's 300,000 groups and 1,006 labels 1.2 GB."""
    num_labels = len(counts[groups[0]]) if groups else 0
    for group in groups:
        if len(counts[group]) != num_labels:
            raise ValueError(
                f"group {group!r}: expected {num_labels} label counts, as group {groups[0]!r} has, "
                f"got {len(counts[group])}"
            )
    return np.array([counts[group] for group in groups], np.int32).reshape(len(groups), num_labels)


def _totals(counts: Counts, assignment: Mapping[str, str], names: Sequence[str]) -> NDArray[np.int64]:
    """Sum clips per label (S, C) of each split."""
    groups = list(counts)
    for group in groups:
        if assignment.get(group) not in names:
            raise ValueError(f"group {group!r}: expected a split of {list(names)}, got {assignment.get(group)!r}")
    counts_GC = _matrix(groups, counts)
    split_G = np.array([names.index(assignment[group]) for group in groups], np.intp)
    return np.stack([counts_GC[split_G == split].sum(axis=0) for split in range(len(names))])


@contextlib.contextmanager
def _numpy_seeded(seed: int) -> Iterator[None]:
    """Set the seed of the global legacy generator, and put it back as it was."""
    state = np.random.get_state()
    np.random.seed(int.from_bytes(hashlib.sha256(str(seed).encode()).digest()[:4], "big"))
    try:
        yield
    finally:
        np.random.set_state(state)
