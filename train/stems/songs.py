"""Stems of a split, song by song and corpus by corpus, with the spans in which each sounds; no audio.

    stems = read_stems(split_table(manifest, "train"), manifest)
    stems.sounding(stem, first, last)           samples of that stretch in which it sounds

Shapes: S stems, C classes, K spans of all stems.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tutti.datasets.errors import IntegrityError, UsageError
from tutti.datasets.manifest import Manifest
from tutti.datasets.record import UNKNOWN
from tutti.datasets.shard import shard_table
from tutti.train.reading.shards import SplitTable

Indices = NDArray[np.int64]

_COLUMNS = ["source", "track", "sounding"]


@dataclass(frozen=True)
class Stems:
    """All stems of which something is known; songs are numbered over all corpora."""

    rows: Indices  # (S,): row of each in the split
    sizes: Indices  # (S,), samples
    presence: NDArray[np.int8]  # (S, C)
    corpora: tuple[str, ...]
    songs: tuple[str, ...]  # `corpus/song`
    songs_of_corpus: tuple[Indices, ...]
    stems_of_song: tuple[Indices, ...]
    first_span: Indices  # (S + 1,): where the spans of each stem begin
    onsets: Indices  # (K,), samples, rising within a stem
    ends: Indices  # (K,)
    sounded: Indices  # (K,): samples in which the stem sounded before the span

    def __len__(self) -> int:
        return len(self.rows)

    def sounding(self, stem: int, first: int, last: int) -> int:
        """Count the samples from `first` to before `last` in which a stem sounds."""
        return self._until(stem, last) - self._until(stem, first)

    def _until(self, stem: int, sample: int) -> int:
        begin, stop = self.first_span[stem], self.first_span[stem + 1]
        span = begin + int(self.onsets[begin:stop].searchsorted(sample, side="right")) - 1
        if span < begin:
            return 0
        return int(self.sounded[span]) + min(sample, int(self.ends[span])) - int(self.onsets[span])


def has_tracks(table: SplitTable) -> bool:
    """Whether clips of a split are stems and mixes of songs."""
    with table.groups[0].file.open() as shard:
        return {"track", "sounding"} <= set(shard.schema_arrow.names)


def tracks_of(table: SplitTable, manifest: Manifest) -> Iterator[dict[str, Any]]:
    """Read source, track and sounding spans of every clip of a split, in the order of its rows, shard by shard.

    Raises:
        UsageError: the dataset holds no songs of stems.
        IntegrityError: a shard is damaged.
    """
    for file in {group.shard: group.file for group in table.groups}.values():
        with file.open() as shard:
            if not {"track", "sounding"} <= set(shard.schema_arrow.names):
                raise UsageError(f"{manifest.folder}: holds no stems; build a dataset of songs of stems, such as slakh")
            yield from shard_table(shard, file.path, _COLUMNS).to_pylist()


def read_stems(table: SplitTable, manifest: Manifest) -> Stems:
    """Collect the stems of a split that anything is known of.

    Raises:
        UsageError: there are none.
        IntegrityError: a shard is damaged.
    """
    known = (table.presence != UNKNOWN).any(axis=1)
    chosen, songs, spans = [], [], []
    for row, item in enumerate(tracks_of(table, manifest)):
        if item["track"] and item["track"]["stem"] and known[row]:
            chosen.append(row)
            songs.append((item["source"], item["track"]["song"]))
            spans.append(_spans(table, row, item))
    if not chosen:
        raise UsageError(f"{manifest.folder}: no stem of this split has a known label; nothing to mix")
    return make_stems(
        np.array(chosen, np.int64),
        table.sizes[chosen],
        table.presence[chosen],
        songs,
        spans,
    )


def _spans(table: SplitTable, row: int, item: Mapping[str, Any]) -> list[tuple[int, int]]:
    """List the spans of a stem in samples of its own; all of it where its row names none."""
    size = int(table.sizes[row])
    if item["sounding"] is None:
        return [(0, size)]
    spans = sorted((span["start_s"], span["end_s"]) for part in item["sounding"] for span in part["spans"])
    merged: list[tuple[int, int]] = []
    for start_s, end_s in spans:
        if not 0 <= start_s <= end_s:
            raise IntegrityError(f"clip {table.ids[row]}: sounds from {start_s} to {end_s} s; run pipelines.verify")
        onset, end = min(size, round(start_s * table.sample_rate)), min(size, round(end_s * table.sample_rate))
        if merged and onset <= merged[-1][1]:
            merged[-1] = merged[-1][0], max(end, merged[-1][1])
        else:
            merged.append((onset, end))
    return merged


def make_stems(
    rows: Indices,
    sizes: Indices,
    presence: NDArray[np.int8],
    songs: Sequence[tuple[str, str]],
    spans: Sequence[Sequence[tuple[int, int]]],
) -> Stems:
    """Put stems together song by song.

    Args:
        rows: (S,) in the split.
        sizes: (S,), samples.
        presence: (S, C).
        songs: corpus and song of each stem.
        spans: of each stem, in samples, rising and apart from each other.
    """
    names = sorted(set(songs))
    corpora = sorted({corpus for corpus, _ in names})
    number = {name: index for index, name in enumerate(names)}
    song_S = np.array([number[name] for name in songs], np.int64)
    corpus_of_song = np.array([corpora.index(corpus) for corpus, _ in names], np.int64)
    flat = np.array([span for part in spans for span in part], np.int64).reshape(-1, 2)
    first_span = np.cumsum([0, *map(len, spans)]).astype(np.int64)
    lengths = flat[:, 1] - flat[:, 0]
    before = np.cumsum(lengths) - lengths
    of_stem = np.repeat(np.arange(len(rows)), np.diff(first_span))
    return Stems(
        rows=rows,
        sizes=sizes,
        presence=presence,
        corpora=tuple(corpora),
        songs=tuple(f"{corpus}/{song}" for corpus, song in names),
        songs_of_corpus=tuple(np.flatnonzero(corpus_of_song == index) for index in range(len(corpora))),
        stems_of_song=tuple(np.flatnonzero(song_S == index) for index in range(len(names))),
        first_span=first_span,
        onsets=flat[:, 0],
        ends=flat[:, 1],
        sounded=before - before[first_span[of_stem]] if len(flat) else before,
    )
