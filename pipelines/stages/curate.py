"""Curate: pseudo-labels of guitars, label quality, near-duplicates; one global step.

It works on summaries and embeddings, fits on bounded samples, and decides nothing silently: every
score, doubt and pseudo-label becomes part of a clip's row, and the report lies beside the manifest.

Partitions with one instrument a clip (IRMAS train, AudioSet) ask the same question, so they share
their models (`pool`; the paper has a model per corpus); of the others (IRMAS test, OpenMIC) every
source is judged by itself. Only clips that can but train are dropped: an evaluation that loses its
hard clips would flatter every model. What a person corrected is never dropped.
"""

import importlib.metadata
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from tutti.datasets.record import PRESENT, UNKNOWN, Clip, Rejected
from tutti.pipelines.cache.store import Cache
from tutti.pipelines.curation import outliers
from tutti.pipelines.curation.crossfit import Table
from tutti.pipelines.curation.guitars import label_kinds
from tutti.pipelines.curation.near_duplicates import NearDuplicateConfig, find_near_duplicates
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


@dataclass(frozen=True)
class CurateConfig:
    """Switches of curation."""

    drop: Literal["train", "all", "none"] = "train"  # outliers of which clips go; all keep their score
    pool: bool = True  # one model for all corpora with one instrument a clip: with noise planted, both gained
    guitars: bool = True  # tell the kinds of generic guitars
    near_duplicates: bool = True  # join the groups of near-duplicates


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
    seed: int = 0  # of folds

    def drops(self, clip: ClipSummary) -> bool:
        """Whether the clip goes where its label is in doubt."""
        trains = self.trains_only[f"{clip.source}/{clip.partition}"]
        return self.config.drop == "all" or (self.config.drop == "train" and trains)


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

    Raises:
        YieldError: a corpus's models are no better than chance.
    """
    clips = sorted(clips, key=lambda clip: clip.id)
    unmatched = unmatched_ids(rules.overrides, (clip.id for clip in clips))
    corrected = {"overrides": {"labels": len(rules.overrides), "clips_not_there": list(unmatched)}}
    if rules.embed.embedder == "none" or not clips:
        return Curation(clips, report={"embedder": {"name": "none"}, **corrected})
    judged = _score_labels(clips, rules, cache)
    labels, guitars = label_kinds(
        clips,
        instruments=rules.instruments,
        config=rules.guitars if rules.config.guitars else None,
        seed=rules.seed,
        embedder=embedder_of(rules.embed).digest,
        embedding_of=partial(read_embedding, cache=cache),
    )
    matches = _find_matches(clips, rules, cache)
    report = {"embedder": facts_of(rules.embed), "outliers": judged.report, "guitars": guitars, **corrected}
    report["tools"] = judging_tools(rules.embed)
    curation = Curation(clips, judged.quality, judged.doubts, labels, matches, report)
    write_report(staging / "report", curation, judged.given, rules.instruments, partial(read_embedding, cache=cache))
    return curation


def judging_tools(embed: EmbedConfig) -> dict[str, str]:
    """Collect versions of the libraries that judge labels, and of those that the embedder runs on."""
    names = ["cleanlab", "scikit-learn"]
    if embed.embedder != "logmel":
        names += ["torch"] if embed.embedder == "builtin" else ["torch", "transformers"]
    return {name: importlib.metadata.version(name) for name in names}


@dataclass(frozen=True)
class _Judged:
    quality: dict[str, float]
    doubts: dict[str, str]
    given: dict[str, tuple[str, str]]  # id -> the label in question, what would fit better
    report: dict[str, Any]


def _score_labels(clips: Sequence[ClipSummary], rules: CurationRules, cache: Cache) -> _Judged:
    judged, settings = _Judged({}, {}, {}, {}), rules.outliers
    settled = {override.id for override in rules.overrides}
    for corpus, members in sorted(corpora(clips, pool=rules.config.pool).items()):
        table = table_of(members, cache)
        models = outliers.fit(table, source=corpus.name, config=settings, seed=rules.seed, kind=corpus.kind)
        if isinstance(models, outliers.Skipped):
            judged.report[corpus.title] = {"skipped": models.note}
            continue
        scores = outliers.assess(models, table, outliers.score(models, table), settings)
        counts = {source: Counter(doubted=0, judged=0) for source in corpus.sources}
        for row, clip in enumerate(members):
            verdict = outliers.judge(scores, row, outliers.cutoff_of(models, settings, clip.source))
            if verdict.quality is None or verdict.given is None or verdict.suggested is None:
                continue
            judged.quality[clip.id] = verdict.quality
            given, suggested = _describe_disagreement(clip, verdict.given, verdict.suggested, rules.instruments)
            judged.given[clip.id] = given, suggested
            counts[clip.source]["judged"] += 1
            if not verdict.keep and clip.id not in settled and rules.drops(clip):
                judged.doubts[clip.id] = f"given {given}, suggested {suggested}"
                counts[clip.source]["doubted"] += 1
        judged.report[corpus.title] = _models_report(models, rules, counts)
    return judged


def _models_report(
    models: outliers.FoldModels, rules: CurationRules, counts: Mapping[str, Counter[str]]
) -> dict[str, Any]:
    report = models.report()
    report["classes"] = [rules.instruments[column] for column in report["classes"]]
    sources = {
        source: {"cutoff": round(outliers.cutoff_of(models, rules.outliers, source), 6), **dict(sorted(count.items()))}
        for source, count in counts.items()
    }
    return report | {"mode": rules.outliers.mode, "sources": sources}


def _describe_disagreement(
    clip: ClipSummary, given: int, suggested: int, instruments: Sequence[str]
) -> tuple[str, str]:
    if given != suggested:
        return instruments[given], instruments[suggested]
    name = instruments[given]  # one label of several: the doubt is whether it holds
    return (name, f"no {name}") if clip.presence[given] == PRESENT else (f"no {name}", name)


class Corpus(NamedTuple):
    """Clips that are judged by one set of models."""

    sources: tuple[str, ...]
    kind: outliers.Kind

    @property
    def name(self) -> str:
        """Name for messages."""
        return "+".join(self.sources)

    @property
    def title(self) -> str:
        """Name for the report."""
        return f"{self.name}/{self.kind}"


def corpora(clips: Iterable[ClipSummary], *, pool: bool) -> dict[Corpus, list[ClipSummary]]:
    """Group clips that are judged together, sorted by id: all with one instrument a clip, and each source's others."""
    partitions: dict[tuple[str, str], list[ClipSummary]] = defaultdict(list)
    for clip in clips:
        partitions[clip.source, clip.partition].append(clip)
    kinds = {key: outliers.kind_of(_presence(members)) for key, members in sorted(partitions.items())}
    single = tuple(sorted({source for (source, _), kind in kinds.items() if kind == "single"}))
    result: dict[Corpus, list[ClipSummary]] = defaultdict(list)
    for (source, partition), kind in kinds.items():
        sources = single if pool and kind == "single" else (source,)
        result[Corpus(sources, kind)].extend(partitions[source, partition])
    return {corpus: sorted(members, key=lambda clip: clip.id) for corpus, members in result.items()}


def table_of(clips: Sequence[ClipSummary], cache: Cache) -> Table:
    """Stack embeddings and labels of clips."""
    vectors = [read_embedding(_required(clip.embedding, clip), cache) for clip in clips]
    ids, groups = tuple(clip.id for clip in clips), tuple(clip.group for clip in clips)
    return Table(ids, groups, np.stack(vectors), _presence(clips))


def _presence(clips: Sequence[ClipSummary]) -> np.ndarray[Any, np.dtype[np.int8]]:
    return np.array([clip.presence for clip in clips], np.int8)


def _required(blob: str | None, clip: ClipSummary) -> str:
    if blob is None:
        raise ValueError(f"{clip.id}: is not embedded; run embed before curate")
    return blob


def _find_matches(clips: Sequence[ClipSummary], rules: CurationRules, cache: Cache) -> tuple[Match, ...]:
    if not rules.config.near_duplicates:
        return ()
    blobs = {clip.id: clip.blob for clip in clips}
    prints = {
        clip.id: read_fingerprint(_required(clip.fingerprint, clip), clip.num_samples, cache) for clip in clips
    }  # fmt: skip
    return tuple(find_near_duplicates(prints, rules.near_duplicates, lambda clip_id: samples_of(blobs[clip_id], cache)))
