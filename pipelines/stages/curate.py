"""Stages 5 and 6, curate: pseudo-labels of guitars, label quality, near-duplicates; one global step.

It works on summaries and embeddings, fits on bounded samples, and decides nothing silently: every
score, doubt and pseudo-label becomes part of a clip's row, and the report lies beside the manifest.

Partitions with one instrument a clip (IRMAS train, AudioSet) ask the same question, so they share
their models (`pool`; the paper has a model per corpus); of the others (IRMAS test, OpenMIC) every
source is judged by itself. Only clips that can but train are dropped: an evaluation that loses its
hard clips would flatter every model. What a person corrected is never dropped.
"""

import importlib.metadata
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from datasets.record import PRESENT, UNKNOWN, Label
from pipelines.cache.store import Cache
from pipelines.curation import outliers, pseudo_label
from pipelines.curation.crossfit import Table
from pipelines.curation.near_duplicates import Match, NearDuplicateConfig, find_near_duplicates
from pipelines.curation.outliers import OutlierConfig
from pipelines.curation.overrides import Override, unmatched_ids
from pipelines.curation.pseudo_label import GuitarConfig
from pipelines.curation.report import write_report
from pipelines.rows import ClipSummary
from pipelines.stages.embed import EmbedConfig, embedder_of, facts_of, read_embedding, read_fingerprint, samples_of

KINDS = ("acoustic_guitar", "electric_guitar")


@dataclass(frozen=True)
class CurateConfig:
    """What curation may do."""

    drop: Literal["train", "all", "none"] = "train"  # outliers of which clips go; all keep their score
    pool: bool = True  # one model for all corpora with one instrument a clip: with noise planted, both gained
    guitars: bool = True  # tell the kinds of generic guitars
    near_duplicates: bool = True  # join the groups of near-duplicates


@dataclass(frozen=True)
class Curation:
    """What curation found, by clip id."""

    quality: Mapping[str, float] = field(default_factory=dict)
    doubts: Mapping[str, str] = field(default_factory=dict)  # clips to be dropped -> the label in doubt
    labels: Mapping[str, Mapping[str, Label]] = field(default_factory=dict)  # pseudo-labels to add
    matches: tuple[Match, ...] = ()
    report: Mapping[str, Any] = field(default_factory=dict)

    def relabelled(self, clip: ClipSummary, instruments: Sequence[str]) -> ClipSummary:
        """A summary with its pseudo-labels."""
        added = self.labels.get(clip.id)
        if not added:
            return clip
        given = zip(instruments, clip.presence, strict=True)
        return replace(clip, presence=tuple(added[name].presence if name in added else value for name, value in given))


def curate(
    clips: Sequence[ClipSummary],
    *,
    config: CurateConfig,
    embed: EmbedConfig,
    outlier: OutlierConfig,
    guitar: GuitarConfig,
    near_duplicate: NearDuplicateConfig,
    trains_only: Mapping[str, bool],
    overrides: Sequence[Override],
    instruments: Sequence[str],
    seed: int,
    cache: Cache,
    folder: Path,
) -> tuple[list[ClipSummary], Curation]:
    """Judge all clips that survived cleaning.

    Args:
        clips: in any order.
        config: what may be done.
        embed: the embedder; "none": nothing is judged.
        outlier: how labels are judged.
        guitar: how guitars are told apart.
        near_duplicate: when two clips hold the same audio.
        trains_only: "source/partition" -> whether its clips can only train.
        overrides: corrections by people; the clips have them already.
        instruments: names for the presence vectors.
        seed: of folds.
        cache: holds embeddings, fingerprints and samples.
        folder: the version folder; the report goes to `report/`.

    Raises:
        YieldError: a corpus's models are no better than chance.
    """
    clips = sorted(clips, key=lambda clip: clip.id)
    unmatched = unmatched_ids(overrides, (clip.id for clip in clips))
    corrected = {"overrides": {"labels": len(overrides), "clips_not_there": list(unmatched)}}
    if embed.embedder == "none" or not clips:
        return clips, Curation(report={"embedder": {"name": "none"}, **corrected})
    settled = frozenset(override.id for override in overrides)
    judged = _score_labels(clips, config, outlier, trains_only, settled, instruments, seed, cache)
    labels, guitars = _label_guitar_kinds(clips, config, guitar, embed, instruments, seed, cache)
    matches = _find_matches(clips, config, near_duplicate, cache)
    report = {"embedder": facts_of(embed), "outliers": judged.report, "guitars": guitars, **corrected}
    report["tools"] = judging_tools(embed)
    curation = Curation(judged.quality, judged.doubts, labels, matches, report)
    write_report(folder / "report", clips, curation, judged.given, instruments, partial(read_embedding, cache=cache))
    return list(clips), curation


def judging_tools(embed: EmbedConfig) -> dict[str, str]:
    """Versions of the libraries that judge labels, and of those that the embedder runs on."""
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


def _score_labels(
    clips: Sequence[ClipSummary],
    config: CurateConfig,
    outlier: OutlierConfig,
    trains_only: Mapping[str, bool],
    settled: Collection[str],
    instruments: Sequence[str],
    seed: int,
    cache: Cache,
) -> _Judged:
    judged = _Judged({}, {}, {}, {})
    for corpus, members in sorted(corpora(clips, pool=config.pool).items()):
        table = table_of(members, cache)
        models = outliers.fit(table, source=corpus.name, config=outlier, seed=seed, kind=corpus.kind)
        if isinstance(models, outliers.Skipped):
            judged.report[corpus.title] = {"skipped": models.note}
            continue
        scores = outliers.assess(models, table, outliers.score(models, table), outlier)
        counts = {source: Counter(doubted=0, judged=0) for source in corpus.sources}
        for row, clip in enumerate(members):
            verdict = outliers.judge(scores, row, outliers.cutoff_of(models, outlier, clip.source))
            if verdict.quality is None or verdict.given is None or verdict.suggested is None:
                continue
            judged.quality[clip.id] = verdict.quality
            given, suggested = _describe_disagreement(clip, verdict.given, verdict.suggested, instruments)
            judged.given[clip.id] = given, suggested
            counts[clip.source]["judged"] += 1
            trains = trains_only[f"{clip.source}/{clip.partition}"]
            goes = config.drop == "all" or (config.drop == "train" and trains)
            if not verdict.keep and goes and clip.id not in settled:
                judged.doubts[clip.id] = f"given {given}, suggested {suggested}"
                counts[clip.source]["doubted"] += 1
        judged.report[corpus.title] = _models_report(models, outlier, counts, instruments)
    return judged


def _models_report(
    models: outliers.FoldModels, config: OutlierConfig, counts: Mapping[str, Counter[str]], instruments: Sequence[str]
) -> dict[str, Any]:
    report = models.report()
    report["classes"] = [instruments[column] for column in report["classes"]]
    sources = {
        source: {"cutoff": round(outliers.cutoff_of(models, config, source), 6), **dict(sorted(count.items()))}
        for source, count in counts.items()
    }
    return report | {"mode": config.mode, "sources": sources}


def _describe_disagreement(
    clip: ClipSummary, given: int, suggested: int, instruments: Sequence[str]
) -> tuple[str, str]:
    if given != suggested:
        return instruments[given], instruments[suggested]
    name = instruments[given]  # one label of several: the doubt is whether it holds
    return (name, f"no {name}") if clip.presence[given] == PRESENT else (f"no {name}", name)


class Corpus(NamedTuple):
    """What is judged by one set of models."""

    sources: tuple[str, ...]
    kind: outliers.Kind

    @property
    def name(self) -> str:
        """For messages."""
        return "+".join(self.sources)

    @property
    def title(self) -> str:
        """For the report."""
        return f"{self.name}/{self.kind}"


def corpora(clips: Iterable[ClipSummary], *, pool: bool) -> dict[Corpus, list[ClipSummary]]:
    """Clips that are judged together, sorted by id: all with one instrument a clip, and each source's others."""
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
    """Embeddings and labels of clips, aligned."""
    vectors = [read_embedding(_required(clip.embedding, clip), cache) for clip in clips]
    ids, groups = tuple(clip.id for clip in clips), tuple(clip.group for clip in clips)
    return Table(ids, groups, np.stack(vectors), _presence(clips))


def _presence(clips: Sequence[ClipSummary]) -> np.ndarray[Any, np.dtype[np.int8]]:
    return np.array([clip.presence for clip in clips], np.int8)


def _required(blob: str | None, clip: ClipSummary) -> str:
    if blob is None:
        raise ValueError(f"{clip.id}: is not embedded; run embed before curate")
    return blob


def _label_guitar_kinds(
    clips: Sequence[ClipSummary],
    config: CurateConfig,
    guitar: GuitarConfig,
    embed: EmbedConfig,
    instruments: Sequence[str],
    seed: int,
    cache: Cache,
) -> tuple[dict[str, Mapping[str, Label]], dict[str, Any]]:
    """Pseudo-labels of guitars whose kind nobody names, and the report on who gave them."""
    if not config.guitars or not set(KINDS) <= set(instruments):
        return {}, {"skipped": "switched off, or the recipe lacks a kind of guitar"}
    columns = [instruments.index(name) for name in KINDS]
    open_guitars = [
        clip for clip in clips
        if clip.generic_guitar == PRESENT and all(clip.presence[column] == UNKNOWN for column in columns)
    ]  # fmt: skip
    known = corpora(clips, pool=False).get(Corpus(("irmas",), "single"), [])
    songs = [len({clip.group for clip in known if clip.presence[column] == PRESENT}) for column in columns]
    if not open_guitars or min(songs) < guitar.min_songs:
        needed = f"IRMAS teaches with {songs[0]} acoustic and {songs[1]} electric songs, {guitar.min_songs} are needed"
        return {}, {"skipped": f"{len(open_guitars)} guitars of unknown kind; {needed}"}
    splitter, report = pseudo_label.fit(
        table_of(known, cache),
        acoustic=columns[0],
        electric=columns[1],
        config=guitar,
        seed=seed,
        embedder=embedder_of(embed).digest,
    )
    labels: dict[str, Mapping[str, Label]] = {}
    for clip in open_guitars:
        vector = read_embedding(_required(clip.embedding, clip), cache)
        verdict = pseudo_label.label(splitter, clip.group, vector, guitar)
        if added := pseudo_label.labels_of(verdict, splitter, guitar):
            labels[clip.id] = added
    return labels, report | {"guitars": len(open_guitars), "told": len(labels)}


def _find_matches(
    clips: Sequence[ClipSummary], config: CurateConfig, near_duplicate: NearDuplicateConfig, cache: Cache
) -> tuple[Match, ...]:
    if not config.near_duplicates:
        return ()
    blobs = {clip.id: clip.blob for clip in clips}
    prints = {
        clip.id: read_fingerprint(_required(clip.fingerprint, clip), clip.num_samples, cache) for clip in clips
    }  # fmt: skip
    return tuple(find_near_duplicates(prints, near_duplicate, lambda clip_id: samples_of(blobs[clip_id], cache)))
