"""Stage 7, split: which clip trains, which validates, which tests.

Official partitions win. What has none is divided song by song: a pool of groups under one rule
is stratified by `stratify.py`. Groups joined by duplicates stay together; where that would pull
an official training clip and an evaluation clip into one group, the training clip goes.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from datasets.errors import IntegrityError, UsageError
from datasets.record import PRESENT, SPLITS, Label
from pipelines.curation.near_duplicates import leak_report, links
from pipelines.curation.stratify import label_deviation, stratify_groups, stratify_groups_skmultilearn
from pipelines.lineage import known_splits
from pipelines.rows import ClipSummary
from pipelines.stages.curate import Curation
from pipelines.stages.duplicates import find_duplicates

Ratios: TypeAlias = Mapping[str, float]
Rule: TypeAlias = str | Ratios  # the name of a split, or shares of several


@dataclass(frozen=True)
class SplitConfig:
    """Where each partition of each source goes."""

    rules: Mapping[str, Rule] = field(default_factory=dict)  # "source/partition", "source/*" or "*"
    splitter: Literal["counts", "skmultilearn"] = "counts"  # skmultilearn: Lumen's, approximate

    def __post_init__(self) -> None:
        """Refuse a rule that names no split of ours."""
        for name, rule in self.rules.items():
            splits = [rule] if isinstance(rule, str) else list(rule)
            if not splits or not set(splits) <= set(SPLITS):
                raise ValueError(f"split rule {name!r} gives {splits}; splits are {', '.join(SPLITS)}")


def grouped(train: float, validation: float, test: float) -> dict[str, Rule]:
    """Rules that divide everything by song: `grouped(65, 17.5, 17.5)`."""
    return {"*": {"train": train, "validation": validation, "test": test}}


@dataclass(frozen=True, slots=True)
class Assignment:
    """What the global steps decided about one clip."""

    id: str
    group: str  # after joining
    split: str | None = None
    shard: str | None = None
    reason: str | None = None  # set where the clip is rejected
    detail: str = ""
    quality: float | None = None
    labels: tuple[tuple[str, Label], ...] = ()  # pseudo-labels that it gains


@dataclass(frozen=True)
class SplitPlan:
    """The decision for every clip, and the proof that it is sound."""

    assignments: tuple[Assignment, ...]  # sorted by id
    certificate: dict[str, Any]
    curation: Mapping[str, Any] = field(default_factory=dict)  # report


def rule_for(source: str, partition: str, config: SplitConfig) -> tuple[str, Rule]:
    """The rule that a partition falls under, with its name.

    Raises:
        UsageError: no rule covers it.
    """
    for name in (f"{source}/{partition}", f"{source}/*", "*"):
        if name in config.rules:
            return name, config.rules[name]
    raise UsageError(f"the recipe's split has no rule for {source}/{partition}; add one to SplitConfig.rules")


def plan_split(
    curated: tuple[Sequence[ClipSummary], Curation],
    *,
    config: SplitConfig,
    instruments: Sequence[str],
    seed: int,
    parent: Path | None = None,
) -> SplitPlan:
    """Find duplicates, join their groups, and give every surviving clip its split.

    Args:
        curated: all clips that survived cleaning, in any order, and what curation found.
        config: the rules.
        instruments: names for the presence vectors.
        seed: of the stratifier.
        parent: folder of an earlier version: its songs keep their split, its evaluation clips never move.

    Raises:
        IntegrityError: upstream's own partitions share a group, or a clip id occurs twice.
    """
    clips, curation = curated
    rules = {(clip.source, clip.partition): rule_for(clip.source, clip.partition, config) for clip in clips}
    known = known_splits(parent)

    def ruled(clip: ClipSummary) -> tuple[str, ...]:
        rule = rules[clip.source, clip.partition][1]
        return (rule,) if isinstance(rule, str) else tuple(name for name in SPLITS if name in rule)

    def allowed(clip: ClipSummary) -> tuple[str, ...]:
        before = known.clips.get(clip.id)
        return (before,) if before in ruled(clip) else ruled(clip)

    def need(clip: ClipSummary) -> int:
        # Among equals the clip that was there before survives, of an evaluation before one of train.
        before = known.clips.get(clip.id)
        return claim(ruled(clip)) * (len(SPLITS) + 1) + (0 if before is None else SPLITS.index(before) + 1)

    check_partitions(clips, ruled)
    by_id = {clip.id: clip for clip in clips}
    duplicates = find_duplicates(clips, need, links(curation.matches, by_id))
    rejected = {clip_id: ("label_outlier", detail) for clip_id, detail in curation.doubts.items()} | duplicates.rejected
    clips = [curation.relabelled(clip, instruments) for clip in clips]
    by_group: dict[str, list[ClipSummary]] = defaultdict(list)
    for clip in sorted((clip for clip in clips if clip.id not in rejected), key=lambda clip: clip.id):
        by_group[duplicates.joined[clip.group]].append(clip)

    target: dict[str, str] = {}
    pools: dict[str, list[str]] = defaultdict(list)
    for group, members in by_group.items():
        fixed = {allowed(clip)[0] for clip in members if len(allowed(clip)) == 1}
        if not fixed:
            fixed = known.of((clip.id, clip.group) for clip in members) & set(allowed(members[0]))
        if fixed:
            target[group] = max(fixed, key=SPLITS.index)
        if not any(len(ruled(clip)) == 1 for clip in members):
            pools[min(rules[clip.source, clip.partition][0] for clip in members)].append(group)
    for rule_name, groups in sorted(pools.items()):
        settled = {group: target[group] for group in groups if group in target}
        target |= _stratify(rule_name, groups, by_group, config, seed, settled)

    def assign(clip: ClipSummary) -> Assignment:
        group = duplicates.joined[clip.group]
        reason, detail = rejected.get(clip.id, (None, ""))
        if reason is None and target[group] not in allowed(clip):
            reason, detail = "duplicate", f"its group {group} shares audio with split {target[group]}"
        return Assignment(
            clip.id,
            group,
            split=None if reason else target[group],
            reason=reason,
            detail=detail,
            quality=curation.quality.get(clip.id),
            labels=tuple(sorted(curation.labels.get(clip.id, {}).items())),
        )

    assignments = sorted(map(assign, clips), key=lambda assignment: assignment.id)
    splits = {assignment.id: assignment.split for assignment in assignments}
    report = dict(curation.report) | {"near_duplicates": leak_report(curation.matches, by_id, splits)}
    return SplitPlan(tuple(assignments), certify(clips, assignments, config, instruments), report)


def trains_only(partitions: Iterable[tuple[str, str]], config: SplitConfig) -> dict[str, bool]:
    """Whether the clips of each partition, as `source/partition`, can be in no other split than train."""
    return {f"{source}/{part}": rule_for(source, part, config)[1] == "train" for source, part in partitions}


def claim(allowed: Sequence[str]) -> int:
    """How much an evaluation needs a clip: one that is sure to be in it before one that may be."""
    ranks = [SPLITS.index(name) for name in allowed]
    return min(ranks) * len(SPLITS) + max(ranks)


def check_partitions(clips: Iterable[ClipSummary], allowed: Callable[[ClipSummary], Sequence[str]]) -> None:
    """Upstream's own partitions must not share a song; ids must be unique.

    Raises:
        IntegrityError: naming the group and one clip on each side, or the id.
    """
    seen: dict[str, ClipSummary] = {}
    ids: set[str] = set()
    for clip in sorted(clips, key=lambda clip: clip.id):
        if clip.id in ids:
            raise IntegrityError(f"{clip.id}: occurs twice; the reader of {clip.source} must give unique ids")
        ids.add(clip.id)
        if len(allowed(clip)) > 1:
            continue
        other = seen.setdefault(clip.group, clip)
        if allowed(other) != allowed(clip):
            raise IntegrityError(
                f"group {clip.group} is in two splits upstream: {other.id} in {other.partition}, "
                f"{clip.id} in {clip.partition}; exclude one of them or change the split rule"
            )


def _stratify(
    rule_name: str,
    groups: Sequence[str],
    by_group: Mapping[str, list[ClipSummary]],
    config: SplitConfig,
    seed: int,
    settled: Mapping[str, str],
) -> dict[str, str]:
    ratios = _shares(config.rules[rule_name])
    counts = {group: _present_counts(by_group[group]) for group in groups}
    sizes = {group: len(by_group[group]) for group in groups}
    if config.splitter == "counts":
        return stratify_groups(counts, sizes, ratios, seed=seed, settled=settled)
    # It cannot start from what is there: new groups are dealt by themselves.
    for group in settled:
        del counts[group], sizes[group]
    return dict(settled) | stratify_groups_skmultilearn(counts, sizes, ratios, seed=seed)


def _present_counts(clips: Sequence[ClipSummary]) -> NDArray[np.unsignedinteger]:
    """Per class, how many of the clips have it, in as few bytes as their number needs."""
    presence = np.array([clip.presence for clip in clips], np.int8)
    counts: NDArray[np.unsignedinteger] = (presence == PRESENT).sum(axis=0, dtype=np.min_scalar_type(len(clips)))
    return counts


def certify(
    clips: Sequence[ClipSummary], assignments: Sequence[Assignment], config: SplitConfig, instruments: Sequence[str]
) -> dict[str, Any]:
    """The split certificate: computed from the outcome alone, not from how it was reached.

    Raises:
        IntegrityError: a group is in two splits.
    """
    kept = [assignment for assignment in assignments if assignment.split is not None]
    splits_of: dict[str, set[str]] = defaultdict(set)
    for assignment in kept:
        splits_of[assignment.group].add(str(assignment.split))
    shared = sorted(group for group, splits in splits_of.items() if len(splits) > 1)
    if shared:
        raise IntegrityError(f"{len(shared)} groups are in two splits, first {shared[0]}; this is a bug: report it")
    by_id = {clip.id: clip for clip in clips}
    pools: dict[str, list[Assignment]] = defaultdict(list)
    for assignment in kept:
        clip = by_id[assignment.id]
        name, rule = rule_for(clip.source, clip.partition, config)
        if not isinstance(rule, str):
            pools[name].append(assignment)
    return {
        "groups": len(splits_of),
        "groups_in_two_splits": len(shared),
        "splitter": config.splitter,
        "pools": {name: _pool_report(pools[name], by_id, config.rules[name], instruments) for name in sorted(pools)},
    }


def _pool_report(
    pool: Sequence[Assignment], by_id: Mapping[str, ClipSummary], rule: Rule, instruments: Sequence[str]
) -> dict[str, Any]:
    ratios = _shares(rule)
    members: dict[str, list[ClipSummary]] = defaultdict(list)
    for assignment in pool:
        members[assignment.group].append(by_id[assignment.id])
    counts = {group: _present_counts(clips) for group, clips in members.items()}
    worst = label_deviation(counts, {a.group: str(a.split) for a in pool}, ratios)
    total = sum(ratios.values())
    return {
        "wanted": {split: round(share / total, 6) for split, share in ratios.items()},
        "clips": dict(sorted(Counter(str(a.split) for a in pool).items())),
        "worst_label_deviation": {
            instrument: round(float(value), 6) for instrument, value in zip(instruments, worst, strict=True)
        },
    }


def _shares(rule: Rule) -> Ratios:
    if isinstance(rule, str):
        raise TypeError(f"a pool needs shares, got the split {rule!r}")
    return rule


def assignments_of(plan: SplitPlan) -> tuple[Assignment, ...]:
    """The decisions, to be joined with their clips."""
    return plan.assignments


def certificate_of(plan: SplitPlan) -> dict[str, Any]:
    """What the manifest says of the global steps."""
    return {"split_certificate": plan.certificate, "curation": dict(plan.curation)}
