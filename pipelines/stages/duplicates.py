"""Stage 3b, exact duplicates: clips whose stored PCM is equal, within and across corpora.

Of equal clips one survives: the one with the highest claim (an evaluation clip before a training
clip), then the lowest id. Where their labels conflict nobody knows who is right: all are lost.
Their songs are joined into one group either way, so that no split can separate them.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

from datasets.record import UNKNOWN, Clip, Rejected
from pipelines.rows import ClipSummary, conflict


@dataclass(frozen=True, slots=True)
class Duplicates:
    """The verdict on all clips."""

    rejected: dict[str, tuple[str, str]]  # clip id -> (reason, detail)
    joined: dict[str, str]  # group -> the lowest of the groups that it was joined with


def summarize(row: Clip | Rejected, instruments: Sequence[str]) -> Iterator[ClipSummary]:
    """The summary of a clip that is still in, nothing for a rejected one."""
    if isinstance(row, Rejected):
        return
    clip = row
    if clip.audio is None:
        raise ValueError(f"{clip.id}: has no stored audio; run prepare first")
    labels = [clip.labels.get(name) for name in instruments]
    presence = [UNKNOWN if label is None else label.presence for label in labels]
    guitar = clip.labels.get("guitar")
    yield ClipSummary(
        id=clip.id,
        source=clip.source,
        partition=clip.partition,
        group=clip.group,
        pcm_sha256=clip.audio.pcm_sha256,
        presence=presence,
        blob=clip.audio.blob,
        num_samples=clip.audio.num_samples,
        generic_guitar=UNKNOWN if guitar is None else guitar.presence,
        embedding=clip.embedding,
        fingerprint=clip.fingerprint,
    )


def find_duplicates(
    clips: Iterable[ClipSummary], claim: Callable[[ClipSummary], int], links: Iterable[Sequence[str]] = ()
) -> Duplicates:
    """Judge all sets of clips with equal PCM.

    Args:
        clips: in any order.
        claim: how much the clip is needed where it is; the highest survives.
        links: groups that share audio otherwise, and are joined too.
    """
    by_pcm: dict[str, list[ClipSummary]] = defaultdict(list)
    for clip in clips:
        by_pcm[clip.pcm_sha256].append(clip)
    rejected: dict[str, tuple[str, str]] = {}
    joined: list[Sequence[str]] = list(links)
    for equal in by_pcm.values():
        joined.append(sorted({clip.group for clip in equal}))
        if len(equal) == 1:
            continue
        equal.sort(key=lambda clip: (-claim(clip), clip.id))
        if any(conflict(a.presence, b.presence) for a, b in combinations(equal, 2)):
            for clip in equal:
                others = ", ".join(other.id for other in equal if other is not clip)
                rejected[clip.id] = ("duplicate_conflict", f"same audio, other labels: {others}")
        else:
            for clip in equal[1:]:
                rejected[clip.id] = ("duplicate", f"same audio as {equal[0].id}")
    return Duplicates(rejected, join_groups(joined))


def join_groups(links: Iterable[Sequence[str]]) -> dict[str, str]:
    """Connected components of groups: each group -> the lowest name of its component."""
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
