"""Labels of a build under judgement: which clips are judged together, what goes, and what is taken back.

    judged = judge_labels(clips, pseudo_labels, groups, rules, embedding_of)

The models are those of `outliers.py`; here they meet the summaries that `curate` works on. Pseudo-labels are judged
as any other label. One in doubt is taken back, and its clip stays: nothing but our own guess was wrong.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tutti.datasets.record import PRESENT, Label
from tutti.pipelines.curation import outliers
from tutti.pipelines.curation.crossfit import Floats, Table
from tutti.pipelines.curation.outliers import OutlierConfig
from tutti.pipelines.rows import ClipSummary, Curation

Pseudo = Mapping[str, Mapping[str, Label]]  # clip id -> the labels that it gains
EmbeddingOf = Callable[[str], NDArray[np.float32]]  # blob of a vector -> the vector (D,)


@dataclass(frozen=True)
class JudgingRules:
    """Rules by which labels are judged."""

    instruments: Sequence[str]  # names for the presence vectors
    config: OutlierConfig
    pool: bool  # one model for all corpora with one instrument a clip
    drops: Callable[[ClipSummary], bool]  # whether a clip goes where its label is in doubt
    seed: int  # of the folds
    cleans: Callable[[ClipSummary], bool] = lambda clip: True  # whether a pseudo-label in doubt is taken back


@dataclass(frozen=True)
class Judged:
    """All that was found, by clip id."""

    quality: dict[str, float]
    doubts: dict[str, str]  # clips to be dropped -> the label in doubt
    given: dict[str, tuple[str, str]]  # the label in question, what would fit better
    withdrawn: dict[str, str]  # a pseudo-label that is taken back
    report: dict[str, Any]


def judge_labels(
    clips: Sequence[ClipSummary],
    pseudo: Pseudo,
    groups: Mapping[str, str],
    rules: JudgingRules,
    embedding_of: EmbeddingOf,
) -> Judged:
    """Score all labels, corpus by corpus.

    Args:
        clips: of the build, sorted by id, labels as given.
        pseudo: labels that they gain.
        groups: group of a clip -> what folds keep together.
        rules: see there.
        embedding_of: reads the vector of a clip from its blob.
    """
    result = Judged({}, {}, {}, {}, {})
    given_as = {clip.id: clip for clip in clips}
    everyone = relabelled(clips, pseudo, rules.instruments)
    for corpus, members in sorted(corpora(everyone, pool=rules.pool).items()):
        table = table_of(members, groups, embedding_of)
        models = outliers.fit(table, source=corpus.name, config=rules.config, seed=rules.seed, kind=corpus.kind)
        if isinstance(models, outliers.Skipped):
            result.report[corpus.title] = {"skipped": models.note}
            continue
        logits = outliers.score(models, table)
        withdrawn = _doubted_pseudo_labels(models, table, logits, members, pseudo, rules)
        result.withdrawn.update(withdrawn)
        members = relabelled([given_as[clip.id] for clip in members], without(pseudo, withdrawn), rules.instruments)
        counts = _judge_members(models, replace(table, presence=presence_of(members)), logits, members, rules, result)
        result.report[corpus.title] = _models_report(models, rules, counts) | {
            "pseudo_labels_withdrawn": len(withdrawn)
        }
    return result


def _judge_members(
    models: outliers.FoldModels,
    table: Table,
    logits: Floats,
    members: Sequence[ClipSummary],
    rules: JudgingRules,
    result: Judged,
) -> dict[str, Counter[str]]:
    """Add the verdicts on one corpus to `result`; count them by source."""
    scores = outliers.assess(models, table, logits, rules.config)
    counts = {clip.source: Counter(doubted=0, held=0, judged=0) for clip in members}
    highest = rules.config.cutoffs.highest if rules.config.mode == "calibrated" else 0.0
    for row, clip in enumerate(members):
        verdict = outliers.judge(scores, row, outliers.cutoff_of(models, rules.config, clip.source))
        if verdict.quality is None or verdict.given is None or verdict.suggested is None:
            continue
        result.quality[clip.id] = verdict.quality
        given, suggested = _describe_disagreement(clip, verdict.given, verdict.suggested, rules.instruments)
        result.given[clip.id] = given, suggested
        counts[clip.source]["judged"] += 1
        if verdict.keep and verdict.quality < highest and rules.drops(clip):
            counts[clip.source]["held"] += (
                1  # as bad as others that went, but too many good ones would have gone with it
            )
        if not verdict.keep and rules.drops(clip):
            result.doubts[clip.id] = f"given {given}, suggested {suggested}"
            counts[clip.source]["doubted"] += 1
    return counts


def _doubted_pseudo_labels(
    models: outliers.FoldModels,
    table: Table,
    logits: Floats,
    members: Sequence[ClipSummary],
    pseudo: Pseudo,
    rules: JudgingRules,
) -> dict[str, str]:
    """Find pseudo-labels that disagree with the audio, as id -> name."""
    if not any(clip.id in pseudo for clip in members):
        return {}
    scores = outliers.assess(models, table, logits, rules.config)
    doubted = {}
    for row, clip in enumerate(members):
        verdict = outliers.judge(scores, row, outliers.cutoff_of(models, rules.config, clip.source))
        if verdict.given is None or verdict.keep or not rules.cleans(clip):
            continue
        if (name := rules.instruments[verdict.given]) in pseudo.get(clip.id, {}):
            doubted[clip.id] = name
    return doubted


def _models_report(
    models: outliers.FoldModels, rules: JudgingRules, counts: Mapping[str, Counter[str]]
) -> dict[str, Any]:
    report = models.report()
    report["classes"] = [rules.instruments[column] for column in report["classes"]]
    sources = {
        source: {"cutoff": round(outliers.cutoff_of(models, rules.config, source), 6), **dict(sorted(count.items()))}
        for source, count in sorted(counts.items())
    }
    lower = {rules.instruments[column]: cutoff for column, cutoff in sorted(models.cutoffs.lower.items())}
    scored = {"mode": rules.config.mode, "score": f"cleanlab {outliers.METHOD}", "lower_cutoffs": lower}
    return report | scored | {"sources": sources}


def _describe_disagreement(
    clip: ClipSummary, given: int, suggested: int, instruments: Sequence[str]
) -> tuple[str, str]:
    if given != suggested:
        return instruments[given], instruments[suggested]
    name = instruments[given]  # one label of several: the doubt is whether it holds
    return (name, f"no {name}") if clip.presence[given] == PRESENT else (f"no {name}", name)


def without(pseudo: Pseudo, withdrawn: Mapping[str, str]) -> dict[str, Mapping[str, Label]]:
    """Take pseudo-labels back; `withdrawn` is clip id -> the name of one, with which the other's absence falls."""
    left = {
        clip_id: {name: label for name, label in added.items() if name != withdrawn.get(clip_id)}
        for clip_id, added in pseudo.items()
    }
    return {clip_id: added for clip_id, added in left.items() if any(one.presence == PRESENT for one in added.values())}


def relabelled(clips: Sequence[ClipSummary], pseudo: Pseudo, instruments: Sequence[str]) -> list[ClipSummary]:
    """Add pseudo-labels to summaries."""
    added = Curation(clips, labels=pseudo)
    return [added.relabelled(clip, instruments) for clip in clips]


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
    kinds = {key: outliers.kind_of(presence_of(members)) for key, members in sorted(partitions.items())}
    single = tuple(sorted({source for (source, _), kind in kinds.items() if kind == "single"}))
    result: dict[Corpus, list[ClipSummary]] = defaultdict(list)
    for (source, partition), kind in kinds.items():
        sources = single if pool and kind == "single" else (source,)
        result[Corpus(sources, kind)].extend(partitions[source, partition])
    return {corpus: sorted(members, key=lambda clip: clip.id) for corpus, members in result.items()}


def table_of(clips: Sequence[ClipSummary], groups: Mapping[str, str], embedding_of: EmbeddingOf) -> Table:
    """Stack embeddings and labels of clips; `groups` as of `judge_labels`."""
    vectors = [embedding_of(embedding_blob(clip)) for clip in clips]
    ids, songs = tuple(clip.id for clip in clips), tuple(clip.group for clip in clips)
    return Table(ids, tuple(groups[song] for song in songs), np.stack(vectors), presence_of(clips), songs)


def presence_of(clips: Sequence[ClipSummary]) -> NDArray[np.int8]:
    """Stack the labels of clips (N, C)."""
    return np.array([clip.presence for clip in clips], np.int8)


def embedding_blob(clip: ClipSummary) -> str:
    """Return the blob of a clip's embedding.

    Raises:
        ValueError: it has none.
    """
    if clip.embedding is None:
        raise ValueError(f"{clip.id}: is not embedded; run embed before curate")
    return clip.embedding
