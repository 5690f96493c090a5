"""Guitars of unknown kind among the clips of a build: which clips teach the kinds, which are labelled, the report.

The models are those of `pseudo_label.py`; here they meet the summaries that `curate` works on.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tutti.datasets.manifest import digest_of
from tutti.datasets.record import PRESENT, UNKNOWN, Label
from tutti.datasets.typed_json import as_json
from tutti.pipelines.curation import pseudo_label
from tutti.pipelines.curation.judging import embedding_blob, presence_of, table_of
from tutti.pipelines.curation.outliers import kind_of
from tutti.pipelines.curation.pseudo_label import ACOUSTIC, ELECTRIC, GuitarConfig
from tutti.pipelines.rows import ClipSummary

KINDS = (ACOUSTIC, ELECTRIC)
EmbeddingOf = Callable[[str], NDArray[np.float32]]  # blob of a vector -> the vector (D,)


def label_kinds(
    clips: Sequence[ClipSummary],
    *,
    instruments: Sequence[str],
    config: GuitarConfig | None,
    seed: int,
    embedder: str,
    embedding_of: EmbeddingOf,
    trains: Callable[[ClipSummary], bool] = lambda clip: True,
) -> tuple[dict[str, Mapping[str, Label]], dict[str, Any]]:
    """Label guitars of unknown kind; a build that cannot keeps them as they are, and its report says why.

    Args:
        clips: all of the build, sorted by id.
        instruments: names for the presence vectors.
        config: of the models; None: switched off.
        seed: of the folds.
        embedder: its digest.
        embedding_of: reads the vector of a clip from its blob.
        trains: whether a clip can only train, so that it may teach.

    Returns:
        What each clip gets, by id, and the report on the models.
    """
    if config is None or not set(KINDS) <= set(instruments):
        return {}, {"skipped": "switched off, or the recipe lacks a kind of guitar"}
    columns = [instruments.index(name) for name in KINDS]
    open_guitars = [
        clip for clip in clips
        if clip.generic_guitar == PRESENT and all(clip.presence[column] == UNKNOWN for column in columns)
    ]  # fmt: skip
    if not open_guitars:
        return {}, {"skipped": "no guitar of unknown kind"}
    teachers = teaching_clips(clips, trains)
    if not any(clip.presence[column] == PRESENT for clip in teachers for column in columns):
        return {}, {"skipped": f"{len(open_guitars)} guitars of unknown kind, and none of a known one: add IRMAS"}
    splitter, report = pseudo_label.fit(
        table_of(teachers, {clip.group: clip.group for clip in teachers}, embedding_of),
        acoustic=columns[0],
        electric=columns[1],
        config=config,
        seed=seed,
    )
    report["guitars"] = len(open_guitars)
    if splitter is None:
        return {}, report
    origin = origin_of(teachers, columns, config, seed, embedder)
    labels: dict[str, Mapping[str, Label]] = {}
    for clip in open_guitars:
        verdict = pseudo_label.label(splitter, clip.group, embedding_of(embedding_blob(clip)), config)
        if added := pseudo_label.labels_of(verdict, origin, config):
            labels[clip.id] = added
    return labels, report | {"told": len(labels), "origin": origin}


def teaching_clips(clips: Sequence[ClipSummary], trains: Callable[[ClipSummary], bool]) -> list[ClipSummary]:
    """Choose the clips that teach the kinds: of partitions with one instrument a clip, IRMAS and what can only train.

    An evaluation must not teach what is then trained on. IRMAS train validates in some recipes, and is all there is.
    """
    partitions: dict[tuple[str, str], list[ClipSummary]] = defaultdict(list)
    for clip in clips:
        if clip.source == "irmas" or trains(clip):
            partitions[clip.source, clip.partition].append(clip)
    single = [members for _, members in sorted(partitions.items()) if kind_of(presence_of(members)) == "single"]
    return sorted((clip for members in single for clip in members), key=lambda clip: clip.id)


def origin_of(
    teachers: Sequence[ClipSummary], columns: Sequence[int], config: GuitarConfig, seed: int, embedder: str
) -> str:
    """Name the labels' origin by what they were made from, the same on every machine: `pseudo:` and twelve digits.

    Args:
        teachers: sorted by id; of each, id, samples, group and its two labels count.
        columns: of the two kinds in the presence vectors.
        config: of the models.
        seed: of the folds.
        embedder: its digest.
    """
    taught = [[c.id, c.pcm_sha256, c.group, *(c.presence[column] for column in columns)] for c in teachers]
    made_from = {
        "embedder": embedder,
        "clips": taught,
        "settings": as_json(config),
        "seed": seed,
        "code": pseudo_label.CODE_VERSION,
    }
    return f"pseudo:{digest_of(made_from)[:12]}"
