"""Split: which clip trains, which validates, which tests.

Official partitions win. What has none is divided song by song: a pool of groups under one rule
is stratified by `stratify.py`. Songs that share audio stay together as far as their rules let them; where
those keep them in two splits, a clip that is itself linked to one further from training goes, and the rest
of its song stays: `linked_songs.py` has the rules.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tutti.datasets.errors import IntegrityError
from tutti.datasets.record import PRESENT, SPLITS
from tutti.pipelines.curation.artists import artist_leak, grouped_by
from tutti.pipelines.curation.duplicates import find_duplicates
from tutti.pipelines.curation.linked_songs import (
    Pair,
    audio_links,
    leaking_clips,
    place_songs,
    repeated_clips,
    song_links,
    songs_apart,
    units_of,
)
from tutti.pipelines.curation.near_duplicates import leak_report
from tutti.pipelines.curation.shared_groups import shared_groups, taken_apart
from tutti.pipelines.curation.split_rules import AllowedSplits, shares_of
from tutti.pipelines.curation.split_rules import Rule as Rule
from tutti.pipelines.curation.split_rules import SplitConfig as SplitConfig
from tutti.pipelines.curation.split_rules import grouped as grouped
from tutti.pipelines.curation.split_rules import rule_for as rule_for
from tutti.pipelines.curation.split_rules import trains_only as trains_only
from tutti.pipelines.curation.stratify import label_deviation, stratify_groups, stratify_groups_skmultilearn
from tutti.pipelines.lineage import known_splits
from tutti.pipelines.rows import (
    LABEL_OUTLIER,
    NO_CLASS,
    Assignment,
    Certificate,
    ClipSummary,
    Curation,
    Match,
    SplitPlan,
)


def plan_by_groups(
    curation: Curation, *, config: SplitConfig, instruments: Sequence[str], seed: int, version: Path | None = None
) -> SplitPlan:
    """Plan the split by song or by artist, as the rules say; see `plan_split`.

    Where artists are known, the certificate says how many are in two splits, and how many would be the other way.
    """

    def planned(group_by: Literal["song", "artist"]) -> tuple[SplitPlan, dict[str, Any]]:
        rules = replace(config, group_by=group_by)
        clips = replace(curation, clips=grouped_by(curation.clips, rules))
        plan = plan_split(clips, config=rules, instruments=instruments, seed=seed, version=version)
        return plan, artist_leak(curation.clips, {assigned.id: assigned.split for assigned in plan.assignments})

    plan, leak = planned(config.group_by)
    if not leak["artists"]:
        return plan
    other: Literal["song", "artist"] = "song" if config.group_by == "artist" else "artist"
    artists = {"group_by": config.group_by, config.group_by: leak, other: planned(other)[1]}
    return replace(plan, certificate=plan.certificate | {"artists": artists})


def plan_split(
    curation: Curation, *, config: SplitConfig, instruments: Sequence[str], seed: int, version: Path | None = None
) -> SplitPlan:
    """Find duplicates, join their groups, and give every surviving clip its split.

    Args:
        curation: all clips that survived cleaning, in any order, and what curation found.
        config: the rules.
        instruments: names for the presence vectors.
        seed: of the stratifier.
        version: folder of an earlier version: its songs keep their split, its evaluation clips never move.

    Raises:
        IntegrityError: upstream's own partitions share a group, and `shared_groups` does not accept it, or a clip id
            occurs twice.
    """
    partitions = {(clip.source, clip.partition) for clip in curation.clips}
    allowed = AllowedSplits({key: rule_for(*key, config) for key in partitions}, known_splits(version))
    groups = {clip.id: clip.group for clip in curation.clips} if config.shared_groups else {}
    curation = replace(curation, clips=taken_apart(curation.clips, allowed.by_rule, config.shared_groups))
    check_partitions(curation.clips, allowed.by_rule)
    by_id = {clip.id: clip for clip in curation.clips}
    doubts = {clip_id: (LABEL_OUTLIER, detail) for clip_id, detail in curation.doubts.items()}
    rejected = {clip_id: (NO_CLASS, detail) for clip_id, detail in curation.no_class.items()}
    rejected |= doubts | find_duplicates(curation.clips, allowed.priority)
    clips = sorted((curation.relabelled(clip, instruments) for clip in curation.clips), key=lambda clip: clip.id)
    if config.near_duplicates == "remove":
        kept = [clip for clip in clips if clip.id not in rejected]
        repeated = repeated_clips(kept, curation.matches, allowed.priority, config.removed_share)
        rejected |= {
            clip_id: ("near_duplicate", f"nearly the same audio as {other}") for clip_id, other in repeated.items()
        }
    kept = [clip for clip in clips if clip.id not in rejected]
    pairs = song_links(clips, curation.matches)
    places = _places_of_songs(clips, kept, pairs, allowed, config, seed)
    for clip in kept:
        if places[clip.group] not in allowed.of(clip):
            rejected[clip.id] = "duplicate", f"its song {clip.group} is in {places[clip.group]}, where it may not be"
    kept = [clip for clip in kept if clip.id not in rejected]
    for clip_id, (other, split) in leaking_clips(kept, places, audio_links(clips, curation.matches)).items():
        rejected[clip_id] = "duplicate", f"shares audio with {other} in {split}"
    units = units_of(places, {clip.group for clip in clips}, pairs)

    def assign(clip: ClipSummary) -> Assignment:
        reason, detail = rejected.get(clip.id, (None, ""))
        return Assignment(
            clip.id,
            units[clip.group],
            split=None if reason else places[clip.group],
            reason=reason,
            detail=detail,
            quality=curation.quality.get(clip.id),
            labels=tuple(sorted(curation.labels.get(clip.id, {}).items())),
        )

    assignments = list(map(assign, clips))
    splits = {assignment.id: assignment.split for assignment in assignments}
    report = dict(curation.report) | {"near_duplicates": leak_report(curation.matches, by_id, splits)}
    certificate = certify(clips, assignments, config, instruments, curation.matches)
    if config.shared_groups:
        kept_splits = {clip_id: split for clip_id, split in splits.items() if split is not None}
        certificate["groups_shared_upstream"] = shared_groups(groups, kept_splits)
    return SplitPlan(tuple(assignments), certificate, report)


def _places_of_songs(
    clips: Sequence[ClipSummary],
    kept: Sequence[ClipSummary],
    pairs: Sequence[Pair],
    allowed: AllowedSplits,
    config: SplitConfig,
    seed: int,
) -> dict[str, str]:
    """Choose the split of every song: where it must be or was, where it shares audio, or by its pool."""
    by_song: dict[str, list[ClipSummary]] = defaultdict(list)
    for clip in kept:
        by_song[clip.group].append(clip)
    fixed: dict[str, str] = {}
    # A song that lost all of its clips still holds together those that share audio with it.
    free: dict[str, Sequence[str]] = {clip.group: SPLITS for clip in clips if clip.group not in by_song}
    pools: dict[str, list[str]] = defaultdict(list)
    for song, members in by_song.items():
        only = {splits[0] for splits in map(allowed.of, members) if len(splits) == 1}
        if not only:
            only = allowed.known.of((clip.id, clip.group) for clip in members) & set(allowed.of(members[0]))
        if only:
            fixed[song] = max(only, key=SPLITS.index)
        else:
            free[song] = [split for split in SPLITS if all(split in allowed.of(clip) for clip in members)]
        if all(len(allowed.by_rule(clip)) > 1 for clip in members):
            pools[min(allowed.rules[clip.source, clip.partition][0] for clip in members)].append(song)

    def deal(rule_name: str, settled: Mapping[str, str], units: Mapping[str, str]) -> Mapping[str, str]:
        members: dict[str, list[ClipSummary]] = defaultdict(list)
        settled = {song: split for song, split in settled.items() if split in shares_of(config.rules[rule_name])}
        for song in (*settled, *units):
            members[units.get(song, song)].extend(by_song[song])
        return _stratify(rule_name, sorted(members), members, config, seed, settled)

    return place_songs(fixed, free, pools, pairs, deal)


def check_partitions(clips: Iterable[ClipSummary], allowed: Callable[[ClipSummary], Sequence[str]]) -> None:
    """Check that upstream's own partitions share no song, and that ids are unique.

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
                f"{clip.id} in {clip.partition}; exclude one of them, change the split rule, or accept it: "
                f"--set split.shared_groups={clip.source}"
            )


def _stratify(
    rule_name: str,
    groups: Sequence[str],
    by_group: Mapping[str, list[ClipSummary]],
    config: SplitConfig,
    seed: int,
    settled: Mapping[str, str],
) -> dict[str, str]:
    ratios = shares_of(config.rules[rule_name])
    counts = {group: _present_counts(by_group[group]) for group in groups}
    sizes = {group: len(by_group[group]) for group in groups}
    stratify = stratify_groups if config.splitter == "counts" else stratify_groups_skmultilearn
    return stratify(counts, sizes, ratios, seed=seed, settled=settled)


def _present_counts(clips: Sequence[ClipSummary]) -> NDArray[np.unsignedinteger]:
    """Count, per class, the clips that have it, in as few bytes as their number needs."""
    presence = np.array([clip.presence for clip in clips], np.int8)
    counts: NDArray[np.unsignedinteger] = (presence == PRESENT).sum(axis=0, dtype=np.min_scalar_type(len(clips)))
    return counts


def certify(
    clips: Sequence[ClipSummary],
    assignments: Sequence[Assignment],
    config: SplitConfig,
    instruments: Sequence[str],
    matches: Sequence[Match] = (),
) -> dict[str, Any]:
    """Compute the split certificate: from the outcome alone, not from how it was reached.

    Args:
        clips: all of them.
        assignments: what was decided of each.
        config: the rules.
        instruments: names for the presence vectors.
        matches: pairs of clips that share audio nearly.

    Raises:
        IntegrityError: a group, a song or audio is in two splits.
    """
    by_id = {clip.id: clip for clip in clips}
    kept = [assignment for assignment in assignments if assignment.split is not None]
    splits = {assignment.id: str(assignment.split) for assignment in kept}
    splits_of = _splits_by((a.group, splits[a.id]) for a in kept)
    songs = _splits_by((by_id[a.id].group, splits[a.id]) for a in kept)
    audio = _splits_by((by_id[a.id].pcm_sha256, splits[a.id]) for a in kept)
    _refuse_shared(splits_of, "groups")
    _refuse_shared(songs, "songs")
    _refuse_shared(audio, "audio files")
    linked = audio_links(clips, matches)
    across = {
        f"{pcm} and {other}": audio[pcm] | audio[other]
        for pcm in audio for other in linked.get(pcm, ()) if pcm < other and other in audio
    }  # fmt: skip
    _refuse_shared(across, "near-duplicates")
    pools: dict[str, list[Assignment]] = defaultdict(list)
    for assignment in kept:
        clip = by_id[assignment.id]
        name, rule = rule_for(clip.source, clip.partition, config)
        if not isinstance(rule, str):
            pools[name].append(assignment)
    return {
        "groups": len(splits_of),
        "groups_in_two_splits": 0,
        "audio_in_two_splits": 0,
        "linked_songs_in_two_splits": songs_apart(clips, splits, song_links(clips, matches)),
        "splitter": config.splitter,
        "pools": {name: _pool_report(pools[name], by_id, config.rules[name], instruments) for name in sorted(pools)},
    }


def _splits_by(pairs: Iterable[tuple[str, str]]) -> dict[str, set[str]]:
    found: dict[str, set[str]] = defaultdict(set)
    for name, split in pairs:
        found[name].add(split)
    return found


def _refuse_shared(splits_of: Mapping[str, set[str]], things: str) -> None:
    shared = sorted(name for name, splits in splits_of.items() if len(splits) > 1)
    if shared:
        raise IntegrityError(f"{len(shared)} {things} are in two splits, first {shared[0]}; this is a bug: report it")


def _pool_report(
    pool: Sequence[Assignment], by_id: Mapping[str, ClipSummary], rule: Rule, instruments: Sequence[str]
) -> dict[str, Any]:
    ratios = shares_of(rule)
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


def assignments_of(plan: SplitPlan) -> tuple[Assignment, ...]:
    """Return the decisions, to be joined with their clips."""
    return plan.assignments


def certificate_of(plan: SplitPlan) -> Certificate:
    """Return what the manifest says of the global steps."""
    return Certificate(plan.certificate, plan.curation)
