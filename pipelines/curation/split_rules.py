"""Rules that say to which split the clips of each partition may go: upstream's own, or shares of several splits."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from tutti.datasets.errors import UsageError
from tutti.datasets.record import SPLITS
from tutti.datasets.settings import nearest
from tutti.pipelines.lineage import KnownSplits
from tutti.pipelines.rows import ClipSummary

Ratios: TypeAlias = Mapping[str, float]
Rule: TypeAlias = str | Ratios  # the name of a split, or shares of several


@dataclass(frozen=True)
class SplitConfig:
    """Rules that send each partition of each source to a split."""

    rules: Mapping[str, Rule] = field(default_factory=dict)  # "source/partition", "source/*" or "*"
    splitter: Literal["counts", "skmultilearn"] = "counts"  # skmultilearn: Lumen's, approximate
    near_duplicates: Literal["keep", "remove"] = "keep"  # remove: of re-uploads one stays, as of equal clips
    group_by: Literal["song", "artist"] = "song"  # artist: of those that are known, where we divide
    removed_share: float = 0.5  # of the shorter clip: what near-duplicates that are removed share at least
    # Sources whose partitions may share groups: such a group stays in both splits, and the certificate names it.
    shared_groups: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse a rule that names no split of ours, or gives one no share; shares in the order of the splits."""
        if not 0 < self.removed_share <= 1:
            raise ValueError(f"removed_share {self.removed_share} is outside 0 to 1")
        ordered: dict[str, Rule] = {}
        for name, rule in self.rules.items():
            shares = {} if isinstance(rule, str) else rule
            splits = [rule] if isinstance(rule, str) else list(shares)
            if not splits or (unknown := sorted(set(splits) - set(SPLITS))):
                hint = nearest(unknown[0], SPLITS) if splits else ""
                raise ValueError(f"split rule {name!r} gives {splits}{hint}; splits are {', '.join(SPLITS)}")
            for split, share in shares.items():
                if not (math.isfinite(share) and share > 0):
                    raise ValueError(f"split rule {name!r} gives {split} {share}; expected a positive share")
            ordered[name] = rule if isinstance(rule, str) else {s: rule[s] for s in SPLITS if s in rule}
        object.__setattr__(self, "rules", ordered)


def grouped(train: float, validation: float, test: float) -> dict[str, Rule]:
    """Make rules that divide everything by song: `grouped(65, 17.5, 17.5)`."""
    return {"*": {"train": train, "validation": validation, "test": test}}


def rule_for(source: str, partition: str, config: SplitConfig) -> tuple[str, Rule]:
    """Find the rule that a partition falls under, with its name.

    Raises:
        UsageError: no rule covers it.
    """
    for name in (f"{source}/{partition}", f"{source}/*", "*"):
        if name in config.rules:
            return name, config.rules[name]
    raise UsageError(
        f"the recipe's split has no rule for {source}/{partition}; --set split.rules.{source}/*=train, or another"
    )


@dataclass(frozen=True)
class AllowedSplits:
    """The splits in which clips may be: by the recipe's rules, and by an earlier version."""

    rules: Mapping[tuple[str, str], tuple[str, Rule]]  # (source, partition) -> name of its rule, the rule
    known: KnownSplits

    def by_rule(self, clip: ClipSummary) -> tuple[str, ...]:
        """List the splits that the clip's partition may go to."""
        _, rule = self.rules[clip.source, clip.partition]
        return (rule,) if isinstance(rule, str) else tuple(name for name in SPLITS if name in rule)

    def of(self, clip: ClipSummary) -> tuple[str, ...]:
        """List likewise; only the one where the clip was before, if the rule still allows it."""
        before, ruled = self.known.clips.get(clip.id), self.by_rule(clip)
        return ruled if before is None or before not in ruled else (before,)

    def priority(self, clip: ClipSummary) -> int:
        """Score a clip among its duplicates: the highest survives; of equals the one that was there before."""
        before = self.known.clips.get(clip.id)
        known = 0 if before is None else SPLITS.index(before) + 1
        return evaluation_priority(self.by_rule(clip)) * (len(SPLITS) + 1) + known


def trains_only(partitions: Iterable[tuple[str, str]], config: SplitConfig) -> dict[str, bool]:
    """Decide whether the clips of each partition, as `source/partition`, can be in no other split than train."""
    return {f"{source}/{part}": rule_for(source, part, config)[1] == "train" for source, part in partitions}


def evaluation_priority(splits: Sequence[str]) -> int:
    """Score the splits that a clip may go to: higher, the more surely it is for evaluation."""
    ranks = [SPLITS.index(name) for name in splits]
    return min(ranks) * len(SPLITS) + max(ranks)


def shares_of(rule: Rule) -> Ratios:
    """Return the shares of a rule that divides a pool."""
    if isinstance(rule, str):
        raise TypeError(f"a pool needs shares, got the split {rule!r}")
    return rule
