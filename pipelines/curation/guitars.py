"""Guitars of unknown kind among the clips of a build: which clips teach the kinds, which are labelled, the report.

The models are those of `pseudo_label.py`; here they meet the summaries that `curate` works on.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tutti.datasets.record import PRESENT, UNKNOWN, Label
from tutti.pipelines.curation import pseudo_label
from tutti.pipelines.curation.crossfit import Table
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
) -> tuple[dict[str, Mapping[str, Label]], dict[str, Any]]:
    """Label guitars of unknown kind.

    Args:
        clips: all of the build, sorted by id.
        instruments: names for the presence vectors.
        config: of the models; None: switched off.
        seed: of the folds.
        embedder: its digest.
        embedding_of: reads the vector of a clip from its blob.

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
    known = _teachers(clips)
    songs = [len({clip.group for clip in known if clip.presence[column] == PRESENT}) for column in columns]
    if not open_guitars or min(songs) < config.min_songs:
        taught = f"IRMAS teaches with {songs[0]} acoustic and {songs[1]} electric songs"
        unknown = f"{len(open_guitars)} guitars of unknown kind"
        return {}, {"skipped": f"{unknown}; {taught}, {config.min_songs} are needed"}
    table = _table(known, embedding_of)
    splitter, report = pseudo_label.fit(
        table, acoustic=columns[0], electric=columns[1], config=config, seed=seed, embedder=embedder
    )
    labels: dict[str, Mapping[str, Label]] = {}
    for clip in open_guitars:
        verdict = pseudo_label.label(splitter, clip.group, embedding_of(_embedded(clip)), config)
        if added := pseudo_label.labels_of(verdict, splitter, config):
            labels[clip.id] = added
    return labels, report | {"guitars": len(open_guitars), "told": len(labels)}


def _teachers(clips: Sequence[ClipSummary]) -> list[ClipSummary]:
    """Choose the clips of IRMAS whose partition names one instrument a clip."""
    partitions: dict[str, list[ClipSummary]] = defaultdict(list)
    for clip in clips:
        if clip.source == "irmas":
            partitions[clip.partition].append(clip)
    single = [members for members in partitions.values() if kind_of(_presence(members)) == "single"]
    return [clip for members in single for clip in members]


def _table(clips: Sequence[ClipSummary], embedding_of: EmbeddingOf) -> Table:
    vectors = np.stack([embedding_of(_embedded(clip)) for clip in clips])
    return Table(tuple(clip.id for clip in clips), tuple(clip.group for clip in clips), vectors, _presence(clips))


def _presence(clips: Sequence[ClipSummary]) -> NDArray[np.int8]:
    return np.array([clip.presence for clip in clips], np.int8)


def _embedded(clip: ClipSummary) -> str:
    if clip.embedding is None:
        raise ValueError(f"{clip.id}: is not embedded; run embed before curate")
    return clip.embedding
