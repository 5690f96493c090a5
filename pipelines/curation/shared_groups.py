"""Groups that upstream's own partitions share: taken apart where a recipe allows it, and named.

Slakh's original division has 146 MIDI files in two splits. Whoever wants figures beside published ones needs it as it
is; `SplitConfig.shared_groups` names the sources of which that is accepted. A group is then one song per split,
`slakh/<uuid>@test`, so that all else of the split is as strict as ever, equal audio included.
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace

from tutti.datasets.record import SPLITS
from tutti.pipelines.rows import ClipSummary


def taken_apart(
    clips: Iterable[ClipSummary], by_rule: Callable[[ClipSummary], Sequence[str]], sources: Collection[str]
) -> tuple[ClipSummary, ...]:
    """Assign a group per split to clips of a group that upstream has in several splits.

    Args:
        clips: all of them.
        by_rule: lists the splits that a clip may go to.
        sources: of which it is accepted; groups of others stay.
    """
    clips = tuple(clips)
    splits: dict[str, set[str]] = defaultdict(set)
    for clip in clips:
        if clip.source in sources and len(allowed := by_rule(clip)) == 1:
            splits[clip.group].add(allowed[0])
    shared = {group for group, found in splits.items() if len(found) > 1}

    def apart(clip: ClipSummary) -> ClipSummary:
        if clip.source not in sources or clip.group not in shared or len(allowed := by_rule(clip)) != 1:
            return clip
        return replace(clip, group=f"{clip.group}@{allowed[0]}")

    return tuple(map(apart, clips)) if shared else clips


def shared_groups(groups: Mapping[str, str], splits: Mapping[str, str]) -> dict[str, list[str]]:
    """List the groups that are in several splits, each with its splits.

    Args:
        groups: clip id -> group, before any was taken apart.
        splits: clip id -> split, of the clips that are kept.
    """
    found: dict[str, set[str]] = defaultdict(set)
    for clip_id, split in splits.items():
        found[groups[clip_id]].add(split)
    return {group: sorted(found[group], key=SPLITS.index) for group in sorted(found) if len(found[group]) > 1}
