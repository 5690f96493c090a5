"""Exact duplicates: clips whose stored PCM is equal, within and across corpora.

Of equal clips one survives: the one with the highest priority (an evaluation clip before a
training clip), then the lowest id. Where their labels conflict nobody knows who is right: all are lost.
Their songs share audio either way: see `linked_songs.py`.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from itertools import combinations

from tutti.pipelines.rows import ClipSummary, conflict


def find_duplicates(clips: Iterable[ClipSummary], priority: Callable[[ClipSummary], int]) -> dict[str, tuple[str, str]]:
    """Find all sets of clips with equal PCM; decide which clip of each survives.

    Args:
        clips: in any order.
        priority: of a clip; the highest survives.

    Returns:
        Clip id -> (reason, detail) of those that do not.
    """
    by_pcm: dict[str, list[ClipSummary]] = defaultdict(list)
    for clip in clips:
        by_pcm[clip.pcm_sha256].append(clip)
    rejected: dict[str, tuple[str, str]] = {}
    for equal in by_pcm.values():
        if len(equal) == 1:
            continue
        equal.sort(key=lambda clip: (-priority(clip), clip.id))
        if any(conflict(a.presence, b.presence) for a, b in combinations(equal, 2)):
            for clip in equal:
                others = ", ".join(other.id for other in equal if other is not clip)
                rejected[clip.id] = ("duplicate_conflict", f"same audio, other labels: {others}")
        else:
            for clip in equal[1:]:
                rejected[clip.id] = ("duplicate", f"same audio as {equal[0].id}")
    return rejected


def join_groups(links: Iterable[Sequence[str]]) -> dict[str, str]:
    """Compute connected components of groups: each group -> the lowest name of its component."""
    parent: dict[str, str] = {}

    def find(name: str) -> str:
        parent.setdefault(name, name)
        while parent[name] != name:
            parent[name] = parent[parent[name]]  # path halving
            name = parent[name]
        return name

    for linked in links:
        roots = sorted({find(name) for name in linked})
        for root in roots[1:]:
            parent[root] = roots[0]
    return {name: find(name) for name in sorted(parent)}
