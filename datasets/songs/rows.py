"""Rows of songs in folders of the user's own: one recording per stem, and one for the mix.

`Corpus` says what differs between MedleyDB and Mixing Secrets. What is wrong with one song costs that song:

| Reason | Row |
|---|---|
| `missing_stem` | a stem that the metadata name, and of which there is no file |
| `no_metadata` | a file of a song whose metadata are empty, broken or absent, or of which they say nothing |
| `undecodable` | a song in a zip that cannot be read |

An instrument that no table knows costs nothing but its labels, which are unknown.
"""

import hashlib
import logging
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from urllib.parse import quote

from tutti.datasets.errors import IntegrityError, UsageError
from tutti.datasets.hierarchy import UNKNOWN_SOUND, Sound, labels_of
from tutti.datasets.manifest import digest_of
from tutti.datasets.printable import in_unicode
from tutti.datasets.record import Clip, Defect, Media, Recording, Sounding, Track, clip_id
from tutti.datasets.songs.activations import MAX_BYTES, Spans, read_activations, read_source_ids
from tutti.datasets.songs.artists import artist_groups, artist_of
from tutti.datasets.songs.folders import Found, Place, SongFiles, find_songs
from tutti.datasets.songs.medley_format import Metadata, Song, read_place, read_song
from tutti.datasets.songs.medleydb_tracks import V1, V2
from tutti.datasets.songs.raw_tracks import hears_others, side_of
from tutti.datasets.source import Input

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Corpus:
    """A corpus of songs that the user has."""

    name: str  # of the source
    title: str
    license: str
    sound_of: Callable[[str], Sound | None]  # of an instrument's name; None: not known
    partition_of: Callable[[str], str]  # of a song's id
    bleeding: frozenset[tuple[str, str]] = frozenset()  # song and stem: bleed that the metadata deny


@dataclass(frozen=True)
class _Stem:
    name: str
    media: tuple[Media, ...]  # one, two sides of a pair, or none
    instruments: tuple[str, ...]
    bleed: bool
    defect: Defect | None = None


@dataclass(frozen=True)
class Songs:
    """The songs of one corpus, and what else was found."""

    songs: tuple[Song, ...]  # each id once, in order
    groups: Mapping[str, str]  # id -> group of its artist, over both corpora
    found: Found


def gather(corpus: Corpus, roots: tuple[str, ...]) -> Songs:
    """Find the songs of a corpus in folders of the user's own.

    Of a song that is there more than once one copy counts: in Medley format, else with most files.

    Raises:
        UsageError: no folder is given, or none holds a song of the corpus.
    """
    if not roots:
        raise UsageError(f"{corpus.name}: no folder; pass --data-from DIR, where DIR holds songs of {corpus.title}")
    found = find_songs(roots)
    every = [read_song(files, found, roots, V1 | V2) for files in found.songs]
    every.sort(key=_rank)
    names = [(song.files.key, _artist(song)) for song in every]  # of both corpora: they share artists
    songs = {song.files.key: song for song in reversed(every) if song.source == corpus.name}
    if not songs:
        raise UsageError(
            f"{corpus.name}: no song of {corpus.title} in {', '.join(map(repr, roots))}; "
            "pass the folder that holds its audio, unpacked; links to other folders are not followed"
        )
    return Songs(tuple(songs[key] for key in sorted(songs)), artist_groups(names), found)


def _rank(song: Song) -> tuple[str, str, int, str, int]:
    """Return the place of a song among those of its id: Medley format first, then the one with most files."""
    files = song.files
    return files.key, files.layout, -len(files.tracks), files.home.path, files.home.root


def recordings(corpus: Corpus, roots: tuple[str, ...]) -> Iterator[Recording]:
    """Read all songs of a corpus.

    Raises:
        UsageError: no folder is given, or none holds a song of the corpus.
    """
    gathered = gather(corpus, roots)
    titles = frozenset(song.files.key for song in gathered.songs)
    for song in gathered.songs:
        yield from _Reader(corpus, song, gathered, roots, song_group(song.files.key, titles)).recordings()


def song_group(key: str, keys: frozenset[str]) -> str:
    """Choose the group of a song: a remix is made of the stems of the song that its title begins with."""
    if "remix" in key.casefold():
        originals = [other for other in keys if key.startswith(other) and other != key and not other.endswith("_")]
        return min(originals, key=len, default=_KNOWN_REMIXES.get(key, key))
    return key


_KNOWN_REMIXES = {
    f"JPLantieri_Chardonnay{of}Remix": "JPLantieri_Chardonnay" for of in ("Lektrix", "MystikVibe", "Ornery")
}


def inputs(corpus: Corpus, roots: tuple[str, ...]) -> tuple[Input, ...]:
    """Hash the metadata and annotations of a corpus; count those without audio.

    Raises:
        UsageError: no folder is given, or none holds a song of the corpus.
    """
    gathered = gather(corpus, roots)
    read = [(song.place.name, song.data) for song in gathered.songs if song.place is not None]
    for places in (gathered.found.activations, gathered.found.source_ids):
        for song in gathered.songs:
            for place in places.get(song.files.key, ()):
                try:
                    read.append((place.name, read_place(roots, place, MAX_BYTES)))
                except IntegrityError:
                    continue
    by_digest = {(name, hashlib.sha256(data).hexdigest()): len(data) for name, data in read}  # folders may overlap
    listed = [list(key) for key in sorted(by_digest)]
    told = [Input("metadata", f"{len(gathered.songs)} songs", digest_of(listed), sum(by_digest.values()), len(listed))]
    if absent := _without_audio(corpus, gathered, roots):
        told.append(Input("passed_over", "metadata of songs without audio", digest_of(absent), 0, len(absent)))
    return tuple(told)


def _without_audio(corpus: Corpus, gathered: Songs, roots: tuple[str, ...]) -> list[str]:
    """List the ids of a corpus of which there are metadata only; of unreadable ones it is not known whose they are."""
    with_audio = {files.key for files in gathered.found.songs}
    absent = []
    for key, places in sorted(gathered.found.metadata.items()):
        if key not in with_audio:
            song = read_song(SongFiles(key, "medley", places[0], (), None), gathered.found, roots, V1 | V2)
            absent += [key] if song.metadata is not None and song.source == corpus.name else []
    return absent


def _artist(song: Song) -> str | None:
    metadata = song.metadata
    title, artist = (metadata.title, metadata.artist) if metadata is not None else ("", "")
    return artist_of(song.files.key, artist, title)


@dataclass(frozen=True)
class _Reader:
    """One song on its way to rows."""

    corpus: Corpus
    song: Song
    gathered: Songs
    roots: tuple[str, ...]
    group: str

    def recordings(self) -> Iterator[Recording]:
        files = self.song.files
        stems = self._unique(self._stems())
        spans = self._spans(stems)
        for stem in stems:
            yield self._recording(stem, spans.get(stem.name))
        mix = self._clip("MIX", self._track(None))
        if files.problem:
            yield Recording(self._absent("MIX"), (replace(mix, defect=Defect("undecodable", detail=files.problem)),))
        elif files.mix is not None:
            defect = self._no_metadata(files.mix.name) if self._lacks_metadata() else None
            yield Recording(self._media(files.mix), (replace(mix, defect=defect),))
        elif parts := tuple(media for stem in stems if stem.defect is None for media in stem.media):
            yield Recording(self._sum("MIX"), (mix,), parts=parts)

    def _lacks_metadata(self) -> bool:
        return self.song.metadata is None and self.song.files.layout == "medley"

    def _no_metadata(self, name: str) -> Defect:
        return Defect("no_metadata", detail=f"{self.song.files.key}, {name}: {self.song.problem}")

    def _stems(self) -> Iterator[_Stem]:
        if self.song.files.layout == "raw":
            yield from self._raw_tracks()
        elif (metadata := self.song.metadata) is not None:
            yield from self._named_stems(metadata)
        else:
            for place in self.song.files.tracks:
                name = self._stem_name(place)
                yield _Stem(name, (self._media(place),), (), False, self._no_metadata(place.name))

    def _stem_name(self, place: Place) -> str:
        """Return `S01` for `<id>_STEM_01.wav`, else the file's name without suffix."""
        stem = PurePosixPath(_shown(place.name)).stem
        number = stem.removeprefix(f"{self.song.files.key}_STEM_")
        return f"S{number}" if number.isascii() and number.isdigit() else stem

    def _named_stems(self, metadata: Metadata) -> Iterator[_Stem]:
        """Yield the stems that the metadata name, then the files of which they say nothing."""
        key = self.song.files.key
        left = {place.name: place for place in self.song.files.tracks}
        for entry in metadata.stems:
            bleed = metadata.has_bleed is not False or (key, entry.key) in self.corpus.bleeding
            names = [name for name in (entry.file, f"{key}_STEM_{entry.key[1:]}.wav") if name]
            place = next((one for name in names if (one := _take(name, left)) is not None), None)
            if place is not None:
                yield _Stem(entry.key, (self._media(place),), entry.instruments, bleed)
            else:
                detail = f"{key}, {entry.key}: {names[0]} is not there"
                yield _Stem(entry.key, (), entry.instruments, bleed, Defect("missing_stem", detail=detail))
        for place in left.values():
            detail = f"{key}, {place.name}: its metadata do not name this file"
            yield _Stem(self._stem_name(place), (self._media(place),), (), False, Defect("no_metadata", detail=detail))

    def _raw_tracks(self) -> Iterator[_Stem]:
        metadata = self.song.metadata
        named: dict[str, tuple[str, ...]] = {}
        for entry in metadata.stems if metadata is not None else ():
            named |= {entry.file: entry.instruments, **entry.raw}
        for name, places in _with_pairs(self.song.files.tracks):
            shown = _shown(places[0].name)
            bleed = hears_others(shown) if metadata is None else metadata.has_bleed is not False
            instruments = named.get(shown) or (PurePosixPath(shown).stem,)
            yield _Stem(name, tuple(map(self._media, places)), instruments, bleed)

    def _unique(self, stems: Iterable[_Stem]) -> list[_Stem]:
        """Append a number to the name of a stem that another has had."""
        listed, seen = [], Counter[str]()
        for stem in stems:
            seen[stem.name] += 1
            name = stem.name if seen[stem.name] == 1 and stem.name != "MIX" else f"{stem.name}~{seen[stem.name]}"
            listed.append(replace(stem, name=name))
        return listed

    def _recording(self, stem: _Stem, spans: Spans | None) -> Recording:
        sounds = [self.corpus.sound_of(name) or UNKNOWN_SOUND for name in stem.instruments] or [UNKNOWN_SOUND]
        complete = not stem.bleed
        families = {sound.family for sound in sounds}
        track = replace(
            self._track(stem.name),
            instrument=", ".join(stem.instruments) or None,
            family=next(iter(families)) if len(families) == 1 else None,
            bleed=stem.bleed,
        )
        clip = replace(
            self._clip(stem.name, track),
            labels=labels_of(sounds, "canonical", origin="human", complete=complete),
            hierarchy=labels_of(sounds, "hierarchy15", origin="human", complete=complete),
            sounding=None if spans is None else (Sounding(stem.name, spans),),
            defect=stem.defect,
        )
        if len(stem.media) == 1:
            return Recording(stem.media[0], (clip,))
        if not stem.media:
            return Recording(self._absent(stem.name), (clip,))
        return Recording(self._sum(stem.name), (clip,), parts=stem.media)

    def _track(self, stem: str | None) -> Track:
        key = self.song.files.key
        album = self.song.metadata.album if self.song.metadata is not None else ""
        return Track(
            song=key,
            stem=stem,
            artist=_artist(self.song),
            artist_group=self.gathered.groups[key],
            album=album or None,
        )

    def _clip(self, name: str, track: Track) -> Clip:
        key = f"{self.song.files.key}/{name}"
        return Clip(
            id=clip_id(self.corpus.name, key),
            source=self.corpus.name,
            recording=unicodedata.normalize("NFC", key),
            group=f"{self.corpus.name}/{self.group}",
            partition=self.corpus.partition_of(self.song.files.key),
            license=self.corpus.license,
            track=track,
        )

    def _media(self, place: Place) -> Media:
        path = quote(place.path, errors="surrogateescape")  # a name may be no Unicode
        return Media(f"{self.corpus.name}/{place.root}:{path}", member=place.member)

    def _absent(self, name: str) -> Media:
        return Media(f"absent:{self.corpus.name}/{self.song.files.key}/{name}")

    def _sum(self, name: str) -> Media:
        return Media(f"sum:{self.corpus.name}/{self.song.files.key}/{name}")

    def _spans(self, stems: Sequence[_Stem]) -> Mapping[str, Spans]:
        """Read when each stem sounds, where annotations say it: by stem, else by instruments of one stem only."""
        key, found = self.song.files.key, self.gathered.found
        by_stem = self._annotated(found.activations.get(key, ()), read_activations)
        if by_stem:
            return by_stem
        counted = Counter(name for stem in stems for name in set(stem.instruments))
        by_instrument = self._annotated(found.source_ids.get(key, ()), read_source_ids)
        alone = [stem for stem in stems if len(stem.instruments) == 1 and counted[stem.instruments[0]] == 1]
        return {stem.name: by_instrument[stem.instruments[0]] for stem in alone if stem.instruments[0] in by_instrument}

    def _annotated(
        self, places: Sequence[Place], read: Callable[[bytes, str], Mapping[str, Spans]]
    ) -> Mapping[str, Spans]:
        """Read the first sound annotation: of version 2, where there are two."""
        for place in sorted(places, key=lambda place: ("v2" not in PurePosixPath(place.path).parts, place.path)):
            try:
                return read(read_place(self.roots, place, MAX_BYTES), place.name)
            except IntegrityError as error:
                _log.warning("%s: %s; when its stems sound is measured instead", self.song.files.key, error)
        return {}


def _shown(name: str) -> str:
    return unicodedata.normalize("NFC", in_unicode(name))


def _take(name: str, left: dict[str, Place]) -> Place | None:
    """Take the file of a name, or of the same name with the suffix of another codec."""
    stem = PurePosixPath(name).stem
    alike = name if name in left else next((one for one in left if PurePosixPath(one).stem == stem), None)
    return None if alike is None else left.pop(alike)


def _with_pairs(tracks: Sequence[Place]) -> Iterator[tuple[str, tuple[Place, ...]]]:
    """Yield name and files of each raw track: `Piano.L.wav` and `Piano.R.wav` are one."""
    sides = {(sides, PurePosixPath(place.path).parent): place for place in tracks if (sides := side_of(place.name))}
    for place in tracks:
        side, folder = side_of(place.name), PurePosixPath(place.path).parent
        if side is None:
            yield PurePosixPath(_shown(place.name)).stem, (place,)
            continue
        other = sides.get(((side[0], "R" if side[1] == "L" else "L"), folder))
        if other is None:
            yield PurePosixPath(_shown(place.name)).stem, (place,)
        elif side[1] == "L":
            yield _shown(side[0]), (place, other)
