"""Artists in splits: one who is heard in training and evaluation makes a model look better than it is.

"Musical mixtures and transfer learning", section on data, divides songs at random and warns of it; so does the study of
the album effect (Flexer and Schnitzer 2010). Both divisions can be had, and each certificate says what either leaks.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from tutti.pipelines.curation.split_rules import SplitConfig, rule_for
from tutti.pipelines.rows import ClipSummary


def grouped_by(clips: Iterable[ClipSummary], config: SplitConfig) -> list[ClipSummary]:
    """Group clips as the rules say: by song, or those that we divide by artist; official partitions stay."""
    if config.group_by == "song":
        return list(clips)
    return [
        replace(clip, group=f"artist:{clip.artist}") if clip.artist and _is_dealt(clip, config) else clip
        for clip in clips
    ]


def _is_dealt(clip: ClipSummary, config: SplitConfig) -> bool:
    return not isinstance(rule_for(clip.source, clip.partition, config)[1], str)


def artist_leak(clips: Sequence[ClipSummary], splits: Mapping[str, str | None]) -> dict[str, Any]:
    """Count artists in several splits, and the clips for evaluation whose artist is heard in training.

    Args:
        clips: with the artists that are known.
        splits: of the clips that were kept, by id.
    """
    found: dict[str, set[str]] = defaultdict(set)
    for clip in clips:
        if clip.artist and (split := splits.get(clip.id)) is not None:
            found[clip.artist].add(split)
    evaluated = [clip for clip in clips if clip.artist and splits.get(clip.id) in ("validation", "test")]
    heard = sum("train" in found[clip.artist] for clip in evaluated)
    return {
        "artists": len(found),
        "artists_in_two_splits": sum(len(where) > 1 for where in found.values()),
        "evaluation_clips": len(evaluated),
        "evaluation_clips_of_trained_artists": heard,
    }
