"""Curate: near-duplicates, pseudo-labels of guitars, label quality; one global step.

It works on summaries and embeddings, fits on bounded samples, and decides nothing silently: every
score, doubt and pseudo-label becomes part of a clip's row, and the report lies beside the manifest.
The order: copies are found, so that groups which share audio lie in one fold; guitars get their kind; labels are
scored, those of guitars among them.

Partitions with one instrument a clip (IRMAS train, AudioSet) ask the same question, so they share
their models (`pool`; the paper has a model per corpus); of the others (IRMAS test, OpenMIC) every
source is judged by itself. Only clips that can but train are dropped: an evaluation that loses its
hard clips would flatter every model. What a person corrected is never dropped.
"""

import importlib.metadata
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Literal

from tutti.datasets.record import ABSENT, PRESENT, UNKNOWN, Clip, Label, Rejected
from tutti.pipelines.cache.store import Cache
from tutti.pipelines.curation.duplicates import join_groups
from tutti.pipelines.curation.guitars import label_kinds
from tutti.pipelines.curation.judging import JudgingRules, judge_labels, without
from tutti.pipelines.curation.near_duplicates import NearDuplicateConfig, find_near_duplicates, links
from tutti.pipelines.curation.outliers import OutlierConfig
from tutti.pipelines.curation.overrides import Override, unmatched_ids
from tutti.pipelines.curation.pseudo_label import GuitarConfig
from tutti.pipelines.curation.report import write_report
from tutti.pipelines.rows import ClipSummary, Curation, Match
from tutti.pipelines.stages.embed import (
    EmbedConfig,
    embedder_of,
    facts_of,
    read_embedding,
    read_fingerprint,
    samples_of,
)
from tutti.pipelines.stages.select import SelectConfig


@dataclass(frozen=True)
class CurateConfig:
    """Switches of curation."""

    drop: Literal["train", "all", "none"] = "train"  # outliers of which clips go; all keep their score
    drop_sources: tuple[str, ...] = ()  # corpora that are cleaned; empty: all
    pool: bool = True  # one model for all corpora with one instrument a clip: with noise planted, both gained
    guitars: bool = True  # tell the kinds of generic guitars
    near_duplicates: bool = True  # join the groups of near-duplicates
    # But for those of these corpora: where a sampler plays, different songs have equal loops and notes.
    near_duplicates_except: tuple[str, ...] = ()


@dataclass(frozen=True)
class CurationRules:
    """Rules by which clips are judged: a recipe's settings, classes and seed."""

    instruments: tuple[str, ...]  # names for the presence vectors
    trains_only: Mapping[str, bool]  # "source/partition" -> whether its clips can only train
    config: CurateConfig = field(default_factory=CurateConfig)
    embed: EmbedConfig = field(default_factory=EmbedConfig)  # "none": nothing is judged
    outliers: OutlierConfig = field(default_factory=OutlierConfig)
    guitars: GuitarConfig = field(default_factory=GuitarConfig)
    near_duplicates: NearDuplicateConfig = field(default_factory=NearDuplicateConfig)
    overrides: tuple[Override, ...] = ()  # corrections by people; the clips have them already
    select: SelectConfig = field(default_factory=SelectConfig)  # which clips need a class
    seed: int = 0  # of folds

    @cached_property
    def settled(self) -> frozenset[str]:
        """The clips that a person corrected."""
        return frozenset(override.id for override in self.overrides)

    def cleans(self, clip: ClipSummary) -> bool:
        """Whether a label of the clip that is in doubt has consequences."""
        chosen = self.config.drop_sources
        return self.config.drop != "none" and clip.id not in self.settled and (not chosen or clip.source in chosen)

    def only_trains(self, clip: ClipSummary) -> bool:
        """Whether the clip can be in no other split than train."""
        return self.trains_only[f"{clip.source}/{clip.partition}"]

    def drops(self, clip: ClipSummary) -> bool:
        """Whether the clip goes where its label is in doubt."""
        if not self.cleans(clip):
            return False
        return self.config.drop == "all" or self.only_trains(clip)


def summarize(row: Clip | Rejected, instruments: Sequence[str]) -> Iterator[ClipSummary]:
    """Yield the summary of a clip that is still in, nothing for a rejected one."""
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
        artist="" if clip.track is None else clip.track.artist_group or "",
        generic_guitar=UNKNOWN if guitar is None else guitar.presence,
        embedding=clip.embedding,
        fingerprint=clip.fingerprint,
    )


def curate(clips: Sequence[ClipSummary], *, rules: CurationRules, cache: Cache, staging: Path) -> Curation:
    """Score labels, label guitars and find near-duplicates among all clips that survived cleaning.

    Args:
        clips: in any order.
        rules: see there.
        cache: holds embeddings, fingerprints and samples.
        staging: folder that becomes the version; the report goes to `report/`.
    """
    clips = sorted(clips, key=lambda clip: clip.id)
    unmatched = unmatched_ids(rules.overrides, (clip.id for clip in clips))
    corrected = {"overrides": {"labels": len(rules.overrides), "clips_not_there": list(unmatched)}}
    if rules.embed.embedder == "none" or not clips:
        no_class = clips_without_class(clips, {}, rules)
        return Curation(clips, report={"embedder": {"name": "none"}, **corrected}, no_class=no_class)
    embedding_of = partial(read_embedding, cache=cache)
    matches = _find_matches(clips, rules, cache)
    joined = audio_groups(clips, matches)
    labels, guitars = label_kinds(
        [replace(clip, group=joined[clip.group]) for clip in clips],
        instruments=rules.instruments,
        config=rules.guitars if rules.config.guitars else None,
        seed=rules.seed,
        embedder=embedder_of(rules.embed).digest,
        embedding_of=embedding_of,
        trains=rules.only_trains,
    )
    settings = rules.outliers, rules.config.pool, rules.drops, rules.seed, rules.cleans
    judging = JudgingRules(rules.instruments, *settings)
    judged = judge_labels(clips, labels, joined, judging, embedding_of)
    labels = without(labels, judged.withdrawn)
    report = {"embedder": facts_of(rules.embed), "outliers": judged.report, "guitars": guitars, **corrected}
    report["tools"] = judging_tools(rules.embed)
    no_class = clips_without_class(clips, labels, rules)
    curation = Curation(clips, judged.quality, judged.doubts, labels, matches, report, no_class)
    write_report(staging / "report", curation, judged.given, rules.instruments, embedding_of)
    return curation


def judging_tools(embed: EmbedConfig) -> dict[str, str]:
    """Collect versions of the libraries that judge labels, and of those that the embedder runs on."""
    names = ["cleanlab", "scikit-learn"]
    if embed.embedder != "logmel":
        names += ["torch"] if embed.embedder == "builtin" else ["torch", "transformers"]
    return {name: importlib.metadata.version(name) for name in names}


def clips_without_class(
    clips: Sequence[ClipSummary], labels: Mapping[str, Mapping[str, Label]], rules: CurationRules
) -> dict[str, str]:
    """Find the clips that `select` kept for a guitar which got no kind, so that they have no class after all.

    Args:
        clips: labels as given.
        labels: pseudo-labels that they gain.
        rules: what a person corrected stays.

    Returns:
        Clip id -> why it goes.
    """
    relabelled = Curation(clips, labels=labels).relabelled
    result = {}
    for clip in clips:
        if rules.select.asks_of(clip.source) and clip.id not in rules.settled:
            presence = relabelled(clip, rules.instruments).presence
            if PRESENT not in presence and (rules.select.keep == "present" or ABSENT not in presence):
                result[clip.id] = f"select.keep={rules.select.keep}, and its guitar got no kind"
    return result


def audio_groups(clips: Sequence[ClipSummary], matches: Sequence[Match]) -> dict[str, str]:
    """Join the groups that share audio: each group of the clips -> the lowest name of those that it is joined with.

    A copy in another group would teach the very label that it shares with the clip in question. It goes by equal PCM
    and by near-duplicates; folds keep such groups together. Songs stay what they were: a clip is judged with the clips
    of its own song, not with those of another that happens to hold a copy.
    """
    by_pcm: dict[str, set[str]] = defaultdict(set)
    for clip in clips:
        by_pcm[clip.pcm_sha256].add(clip.group)
    same = [sorted(groups) for groups in by_pcm.values()]
    return join_groups([*same, *links(matches, {clip.id: clip for clip in clips})])


def _find_matches(clips: Sequence[ClipSummary], rules: CurationRules, cache: Cache) -> tuple[Match, ...]:
    if not rules.config.near_duplicates:
        return ()
    clips = [clip for clip in clips if clip.source not in rules.config.near_duplicates_except]
    blobs = {clip.id: clip.blob for clip in clips}
    prints = {
        clip.id: read_fingerprint(_fingerprinted(clip), clip.num_samples, cache) for clip in clips
    }  # fmt: skip
    return tuple(find_near_duplicates(prints, rules.near_duplicates, lambda clip_id: samples_of(blobs[clip_id], cache)))


def _fingerprinted(clip: ClipSummary) -> str:
    if clip.fingerprint is None:
        raise ValueError(f"{clip.id}: has no fingerprint; run embed before curate")
    return clip.fingerprint
