"""Songs of stems as shards, for the tests of mixing: made-up timbres that start and stop at known times."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from dataset_fixture import INSTRUMENTS, SAMPLE_RATE, Example, _clip, timbre, write_manifest
from numpy.typing import NDArray

from tutti.datasets.audio import encode, to_int16
from tutti.datasets.manifest import file_sha256
from tutti.datasets.record import ABSENT, PRESENT, UNKNOWN, Clip, Sounding, Track
from tutti.datasets.shard import shard_path, write_shard
from tutti.datasets.shard_info import ShardInfo

Spans = tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Stem:
    """One stem of a song: what plays, when, and of what nothing is known (bleed)."""

    instrument: str
    spans: Spans
    unknown: tuple[str, ...] = ()
    duration_s: float | None = None  # None: the song's


@dataclass(frozen=True)
class Song:
    """A song of a corpus: its stems, and the mix of them."""

    corpus: str
    name: str
    split: str
    stems: tuple[Stem, ...]
    duration_s: float = 6.0


def samples_of(stem: Stem, duration_s: float, seed: int) -> NDArray[np.int16]:
    """The instrument's timbre within the spans, silence elsewhere."""
    duration_s = duration_s if stem.duration_s is None else stem.duration_s
    sound = timbre(stem.instrument, duration_s, np.random.default_rng(seed))[0]
    mask = np.zeros(len(sound), np.float32)
    for onset_s, end_s in stem.spans:
        mask[round(onset_s * SAMPLE_RATE) : round(end_s * SAMPLE_RATE)] = 1
    return to_int16(sound * mask)


def _sounding(name: str, stem: Stem) -> Sounding:
    return Sounding(name, stem.spans, (stem.instrument,), tuple(sorted(stem.unknown)))


def _presence(stem: Stem, instruments: Sequence[str]) -> dict[str, int]:
    values = dict.fromkeys(instruments, ABSENT) | dict.fromkeys(stem.unknown, UNKNOWN) | {stem.instrument: PRESENT}
    return {name: value for name, value in values.items() if value != UNKNOWN}


def rows_of(song: Song, seed: int, instruments: Sequence[str]) -> list[tuple[Clip, bytes]]:
    """Make the rows of a song: its mix and its stems."""
    names = [f"S{number:02d}" for number in range(len(song.stems))]
    parts = [samples_of(stem, song.duration_s, seed + number) for number, stem in enumerate(song.stems)]
    mix = np.zeros(max(map(len, parts)), np.float64)
    for part in parts:
        mix[: len(part)] += part
    mixed = np.clip(mix, -32768, 32767).astype(np.int16)
    soundings = tuple(_sounding(name, stem) for name, stem in zip(names, song.stems, strict=True))
    playing = {stem.instrument: PRESENT for stem in song.stems}
    rows = [(None, mixed, playing, soundings)]
    for name, part, stem, sounding in zip(names, parts, song.stems, soundings, strict=True):
        rows.append((name, part, _presence(stem, instruments), (sounding,)))  # type: ignore[arg-type]
    made = []
    for name, samples, presence, sounding in rows:
        key = f"{song.corpus}/{song.name}/{name or 'mix'}@0"
        clip = replace(
            _clip(Example(key, song.split, samples, presence), SAMPLE_RATE),
            source=song.corpus,
            group=f"{song.corpus}/{song.name}",
            track=Track(song.name, name, song.stems[int(name[1:])].instrument if name else None),
            sounding=sounding,
        )
        made.append((clip, encode(samples, SAMPLE_RATE, "flac")))
    return made


def write_songs(
    folder: Path, songs: Sequence[Song], instruments: Sequence[str] = INSTRUMENTS, *, rows_per_group: int = 4
) -> Path:
    """Write a version folder of songs: a shard per split, and a manifest."""
    infos = []
    for split in sorted({song.split for song in songs}):
        rows = [
            row
            for number, song in enumerate(songs)
            if song.split == split
            for row in rows_of(song, 100 * number, instruments)
        ]
        path = folder / shard_path(split, 0, 1)
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as stream:
            count, content = write_shard(
                stream, sorted(rows, key=lambda row: row[0].id), instruments,
                sample_rate=SAMPLE_RATE, rows_per_group=rows_per_group, tracks=True,
            )  # fmt: skip
        facts = (split, count, path.stat().st_size, file_sha256(path), content)
        infos.append(ShardInfo(str(path.relative_to(folder)), *facts))
    write_manifest(folder, infos, instruments)
    return folder


def learnable_songs(folder: Path, *, num_train: int = 6, num_others: int = 3) -> Path:
    """Songs of two corpora whose instruments a small network tells apart within seconds."""
    generator = np.random.default_rng(0)
    songs = []
    for split, number in (("train", num_train), ("validation", num_others), ("test", num_others)):
        for corpus in ("first", "second"):
            for index in range(number):
                playing = [str(name) for name in generator.permutation(INSTRUMENTS)]
                halves: tuple[Spans, ...] = (((0.0, 6.0),), ((0.0, 2.5),), ((3.0, 6.0),), ((1.0, 2.0), (4.0, 5.0)))
                stems = tuple(Stem(name, spans) for name, spans in zip(playing, halves, strict=True))
                songs.append(Song(corpus, f"{split}{index}", split, stems))
    return write_songs(folder, songs)
