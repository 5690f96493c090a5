"""Metadata of songs in Medley format: one YAML a song, of MedleyDB (version 1) or of Mixing Secrets (version 3).

    artist: Liz Nelson
    has_bleed: 'no'                    quoted or not
    origin: Independent Artist         or Mixing Secrets
    stems:
      S01: {filename: LizNelson_Rainfall_STEM_01.wav, instrument: piano, raw: {R01: {filename: ..., instrument: ...}}}

`instrument` may be a list. A file name is but a name to compare with those that are there: nothing is opened by it.
Bittner et al.: MedleyDB, ISMIR 2014, section 2.3; Gururani, Lerch: Mixing Secrets, ISMIR 2017 (late-breaking).
"""

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from tutti.datasets.errors import IntegrityError
from tutti.datasets.songs.folders import METADATA, Found, Place, SongFiles
from tutti.datasets.yaml_text import MAX_BYTES, read_mapping

MAX_STEMS = 1000  # the largest session has 136 tracks
MAX_CHARS = 300  # of a name or a title

_NULL = ("", "null", "Null", "NULL", "~")
_YES, _NO = frozenset({"yes", "true", "y", "on", "1"}), frozenset({"no", "false", "n", "off", "0"})
_STEM_KEY = re.compile(r"[A-Za-z][A-Za-z0-9]{0,15}")
_NUMBERED_STEM = re.compile(r"_STEM_\d+")


@dataclass(frozen=True, slots=True)
class StemEntry:
    """One stem, as the metadata name it."""

    key: str  # "S01"
    file: str  # name of its file, or empty: not named, or more than a name
    instruments: tuple[str, ...]  # as upstream writes them; empty: not named
    raw: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # file -> instruments of its raw tracks


@dataclass(frozen=True, slots=True)
class Metadata:
    """Metadata of one song."""

    artist: str
    title: str
    album: str
    origin: str
    version: str
    has_bleed: bool | None  # None: neither yes nor no
    mix_file: str
    stems: tuple[StemEntry, ...]

    @property
    def is_mixing_secrets(self) -> bool:
        """Whether the song is of Mixing Secrets rather than of MedleyDB."""
        return self.origin.casefold().replace(" ", "") == "mixingsecrets" or self.version.startswith("3")


def parse_metadata(data: bytes, name: str) -> Metadata:
    """Parse the YAML of a song.

    Raises:
        IntegrityError: it is empty, broken, or names no stems; the message names it.
    """
    content = read_mapping(data, name)
    stems = content.get("stems")
    if not isinstance(stems, dict) or not stems:
        raise IntegrityError(f"{name}: names no stems")
    if len(stems) > MAX_STEMS:
        raise IntegrityError(f"{name}: names {len(stems):,} stems; at most {MAX_STEMS:,} are read")
    said = _text(content.get("has_bleed")).casefold()
    return Metadata(
        artist=_text(content.get("artist")),
        title=_text(content.get("title")),
        album=_text(content.get("album")),
        origin=_text(content.get("origin")),
        version=_text(content.get("version")),
        has_bleed=True if said in _YES else False if said in _NO else None,
        mix_file=_plain_name(content.get("mix_filename")),
        stems=tuple(_stem(number, key, value) for number, (key, value) in enumerate(stems.items(), start=1)),
    )


def _stem(number: int, key: Any, value: Any) -> StemEntry:
    fields = value if isinstance(value, dict) else {}
    raw = fields.get("raw")
    tracks = [track for track in raw.values() if isinstance(track, dict)] if isinstance(raw, dict) else []
    return StemEntry(
        key if _is_key(key) else f"stem{number}",
        _plain_name(fields.get("filename")),
        _names(fields.get("instrument")),
        {_plain_name(track.get("filename")): _names(track.get("instrument")) for track in tracks},
    )


def _is_key(key: Any) -> bool:
    return isinstance(key, str) and _STEM_KEY.fullmatch(key) is not None and key[0] == "S"


def _names(value: Any) -> tuple[str, ...]:
    listed = value if isinstance(value, list) else [value]
    return tuple(filter(None, (_text(one) for one in listed)))


def _text(value: Any) -> str:
    """Read a scalar, or a list of them, as one line; null is empty."""
    if isinstance(value, list):
        return ", ".join(filter(None, map(_text, value)))[:MAX_CHARS]
    if not isinstance(value, str) or value in _NULL:
        return ""
    plain = "".join(" " if unicodedata.category(character) in ("Cc", "Cs") else character for character in value)
    return unicodedata.normalize("NFC", " ".join(plain.split())[:MAX_CHARS])


def _plain_name(value: Any) -> str:
    """Return the name of a file, or nothing where it is a path: absolute, or with folders."""
    name = unicodedata.normalize("NFC", value) if isinstance(value, str) and value not in _NULL else ""
    return "" if "/" in name or "\\" in name or "\0" in name or name in (".", "..") else name


@dataclass(frozen=True)
class Song:
    """A song with what was read of it."""

    files: SongFiles
    source: str  # "medleydb" or "mixing_secrets"
    metadata: Metadata | None
    problem: str = ""  # why there are no metadata, where there should be some
    place: Place | None = None  # of the metadata
    data: bytes = field(default=b"", repr=False)


def read_song(files: SongFiles, found: Found, roots: tuple[str, ...], medleydb_ids: frozenset[str]) -> Song:
    """Read the metadata of a song, and decide to which corpus it belongs.

    The nearest file counts: the one beside the audio, else the one that shares most folders with it. Of Mixing Secrets
    the authors' copy with normalized names (`metadata/`) comes first. Raw tracks need none.

    Args:
        files: of the song.
        found: all metadata there are.
        roots: folders of the user.
        medleydb_ids: songs of MedleyDB, for those without metadata.
    """
    places = sorted(found.metadata.get(files.key, ()), key=lambda place: _distance(place, files))
    problem = f"{files.key}{METADATA}: is not there" if files.layout == "medley" else ""
    for place in places:
        try:
            song = _song(files, place, roots)
        except IntegrityError as error:
            if files.layout == "medley":
                problem = str(error)
                break
            continue
        if song.source == "mixing_secrets":
            return _with_normalized_names(song, places, roots)
        if files.layout == "medley":
            return song
    return Song(files, _source_by_names(files, medleydb_ids), None, problem)


def _song(files: SongFiles, place: Place, roots: tuple[str, ...]) -> Song:
    data = read_place(roots, place, MAX_BYTES)
    metadata = parse_metadata(data, place.name)
    source = "mixing_secrets" if metadata.is_mixing_secrets else "medleydb"
    return Song(files, source, metadata, "", place, data)


def _with_normalized_names(song: Song, places: list[Place], roots: tuple[str, ...]) -> Song:
    for place in places:
        if PurePosixPath(place.path).parent.name == "metadata" and place != song.place:
            try:
                other = _song(song.files, place, roots)
            except IntegrityError:
                continue
            if other.source == song.source:
                return other
    return song


def read_place(roots: tuple[str, ...], place: Place, max_bytes: int) -> bytes:
    """Read a small file of one of the roots.

    Raises:
        IntegrityError: it is too large, or cannot be read; the message names it without the user's folders.
    """
    try:
        with (Path(roots[place.root]) / place.path).open("rb") as stream:
            data = stream.read(max_bytes + 1)
    except OSError as error:
        raise IntegrityError(f"{place.name}: cannot be read ({error.strerror})") from error
    if len(data) > max_bytes:
        raise IntegrityError(f"{place.name}: is larger than the {max_bytes:,} bytes that are read of such a file")
    return data


def _distance(place: Place, files: SongFiles) -> tuple[bool, bool, int, int, str]:
    parent, home = PurePosixPath(place.path).parent, PurePosixPath(files.home.path)
    shared = 0
    for one, other in zip(parent.parts, home.parts, strict=False):
        if one != other:
            break
        shared += 1
    other_root = place.root != files.home.root
    return other_root or parent != home, other_root, -shared, place.root, place.path


def _source_by_names(files: SongFiles, medleydb_ids: frozenset[str]) -> str:
    """Decide by the names of stems alone: `<id>_STEM_01.wav` is MedleyDB's, `08_Bass.wav` and raw tracks are not."""
    if files.layout == "raw":
        return "mixing_secrets"
    numbered = sum(_NUMBERED_STEM.search(place.name) is not None for place in files.tracks)
    return "medleydb" if files.key in medleydb_ids or 2 * numbered >= len(files.tracks) else "mixing_secrets"
