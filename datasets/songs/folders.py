"""Songs of several tracks in folders of the user's own: found by layout, read by nothing but their names.

    MedleyDB/Audio/<id>/<id>_STEMS/<id>_STEM_01.wav      MedleyDB; Mixing Secrets in Medley format
    MedleyDB/Metadata/<id>_METADATA.yaml                 or beside the audio
    <Artist>_<Title>_Full.zip                            tracks as the Mixing Secrets library serves them
    <Artist>_<Title>_Full/01_Kick.wav                    the same, unpacked
    <Title>_Full_Preview.mp3                             the mix of such a song

No link is followed out of a folder, and none to another folder: a folder within is found anyway. Names in metadata
are compared with the names that were found here; none is ever opened as it stands.
"""

import logging
import os
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Literal

from tutti.datasets.archive import open_archive
from tutti.datasets.audio_files import is_audio_name
from tutti.datasets.errors import IntegrityError, UsageError
from tutti.datasets.files import is_file_entry
from tutti.datasets.printable import in_unicode
from tutti.datasets.songs.raw_tracks import is_mix_name, is_numbered, sound_of_name

MAX_TRACKS = 500  # of a folder of raw tracks: the library's largest session has 136
MIN_TRACKS = 3  # of one that is only known by its tracks' names
METADATA, ACTIVATION, SOURCE_ID = "_METADATA.yaml", "_ACTIVATION_CONF.lab", "_SOURCEID.lab"

_FULL = re.compile(r"(.+?)[ _-]full", re.IGNORECASE)
_PREVIEW = re.compile(r"(.+?)(?:[ _-]full)?[ _-]preview", re.IGNORECASE)

_log = logging.getLogger(__name__)

Layout = Literal["medley", "raw"]


@dataclass(frozen=True, slots=True)
class Place:
    """A file below one of the roots, or a member of a zip there."""

    root: int  # number of the root
    path: str  # relative to it, POSIX
    member: str | None = None

    @property
    def name(self) -> str:
        """The name of the file, in Unicode NFC."""
        return file_name(self.member or self.path)


@dataclass(frozen=True, slots=True)
class SongFiles:
    """The files of one song."""

    key: str  # id, `Artist_Title`
    layout: Layout
    home: Place  # its folder, or zip
    tracks: tuple[Place, ...]  # stems, or raw tracks, in the order of their names
    mix: Place | None
    problem: str = ""  # of a zip that cannot be read


@dataclass(frozen=True)
class Found:
    """All that the roots hold of songs."""

    songs: tuple[SongFiles, ...]  # of one id there may be several
    metadata: Mapping[str, tuple[Place, ...]]  # by id
    activations: Mapping[str, tuple[Place, ...]]
    source_ids: Mapping[str, tuple[Place, ...]]


@dataclass
class _Tree:
    """Folders and files while a root is walked."""

    files: dict[str, list[str]] = field(default_factory=dict)  # folder -> names of its files
    folders: dict[str, list[str]] = field(default_factory=dict)  # folder -> names of its folders


def file_name(path: str) -> str:
    """Return the last part of a path, in Unicode NFC, as names are compared; bytes that are no UTF-8 written out."""
    return _key(path.rpartition("/")[2])


def find_songs(roots: Sequence[str]) -> Found:
    """Search all roots.

    Raises:
        UsageError: a root is no folder.
    """
    songs: list[SongFiles] = []
    previews: list[Place] = []
    tables: dict[str, dict[str, list[Place]]] = {
        suffix: defaultdict(list) for suffix in (METADATA, ACTIVATION, SOURCE_ID)
    }
    for number, root in enumerate(roots):
        tree = _walk(root)
        for folder, names in sorted(tree.files.items()):
            for name in names:
                place = Place(number, os.path.join(folder, name))
                for suffix, by_key in tables.items():
                    if key := _key_before(name, suffix):
                        by_key[key].append(place)
                if is_audio_name(name) and _is_preview(name):
                    previews.append(place)
        songs += _songs_of(number, root, tree)
    shown = {suffix: {key: tuple(places) for key, places in found.items()} for suffix, found in tables.items()}
    return Found(tuple(_with_previews(songs, previews)), shown[METADATA], shown[ACTIVATION], shown[SOURCE_ID])


def _key_before(name: str, suffix: str) -> str:
    name = file_name(name).replace(".yml", ".yaml")
    return _key(name.removesuffix(suffix)) if name.endswith(suffix) else ""


def _walk(root: str) -> _Tree:
    if not os.path.isdir(root):
        raise UsageError(f"--data-from {root}: no such folder; pass the folder that holds your songs")
    tree, waiting, real_root = _Tree(), [""], Path(root).resolve()
    while waiting:
        folder = waiting.pop()
        try:
            with os.scandir(os.path.join(root, folder)) as listing:
                entries = sorted(listing, key=lambda entry: entry.name)
        except OSError as error:  # not readable, or gone since
            _log.warning("--data-from: %s is left out: %s", os.path.join(root, folder), error.strerror)
            continue
        for entry in entries:
            if entry.name.startswith(".") or entry.name == "__MACOSX":  # what a Mac leaves beside files
                continue
            if entry.is_dir(follow_symlinks=False):
                tree.folders.setdefault(folder, []).append(entry.name)
                waiting.append(os.path.join(folder, entry.name))
            elif is_file_entry(entry) and (not entry.is_symlink() or _is_inside(Path(entry.path), real_root)):
                tree.files.setdefault(folder, []).append(entry.name)
    return tree


def _is_inside(link: Path, real_root: Path) -> bool:
    try:
        return link.resolve().is_relative_to(real_root)
    except (OSError, RuntimeError):  # a circle of links
        return False


def _songs_of(number: int, root: str, tree: _Tree) -> Iterator[SongFiles]:
    taken: list[str] = []  # folders of songs in Medley format: nothing below them is a song of another layout
    for folder in sorted({*tree.files, *tree.folders}):
        for song in _medley_songs(number, root, folder, tree):
            taken.append(folder)
            yield song
    within = tuple(f"{folder}/" for folder in taken if folder)
    sessions: dict[str, list[str]] = defaultdict(list)  # home of a song of raw tracks -> paths of them
    for folder, names in sorted(tree.files.items()):
        yield from _zips(number, root, folder, names)
        inside_medley = any(part.endswith(("_STEMS", "_RAW")) for part in PurePosixPath(folder).parts)
        if folder not in taken and not f"{folder}/".startswith(within) and not inside_medley:
            paths = [os.path.join(folder, name) for name in names if is_audio_name(name) and not _is_preview(name)]
            if paths:
                sessions[_session_of(root, folder)] += paths
    for home, paths in sorted(sessions.items()):
        name = PurePosixPath(home).name or _root_name(root)
        full = _FULL.fullmatch(name)
        if len(paths) <= MAX_TRACKS and (full or _are_tracks(paths)):
            yield _raw_song(
                _key(full[1] if full else name), Place(number, home), [Place(number, path) for path in paths]
            )


def _session_of(root: str, folder: str) -> str:
    """Return the folder of a song that a folder of tracks belongs to: `X_Full` of `X_Full/Drums`, else itself."""
    parts = PurePosixPath(folder).parts
    if _FULL.fullmatch(_root_name(root)):
        return ""
    return next((os.path.join(*parts[: end + 1]) for end, part in enumerate(parts) if _FULL.fullmatch(part)), folder)


def _root_name(root: str) -> str:
    return PurePosixPath(os.path.abspath(root)).name


def _is_preview(name: str) -> bool:
    return _PREVIEW.fullmatch(PurePosixPath(name).stem) is not None


def _medley_songs(number: int, root: str, folder: str, tree: _Tree) -> Iterator[SongFiles]:
    names = tree.files.get(folder, [])
    audio = [name for name in names if is_audio_name(name)]
    keys = {name.removesuffix("_STEMS") for name in tree.folders.get(folder, []) if name.endswith("_STEMS")}
    # Without stems a mix alone is a song only where something else says so.
    mixed = {stem.removesuffix("_MIX") for name in audio if (stem := PurePosixPath(name).stem).endswith("_MIX")}
    home_name = PurePosixPath(folder).name or _root_name(root)
    keys |= {key for key in mixed if f"{key}{METADATA}" in names or (key == home_name and len(audio) == 1)}
    for key in sorted(filter(None, keys)):
        stems = os.path.join(folder, f"{key}_STEMS")
        tracks = [Place(number, os.path.join(stems, name)) for name in tree.files.get(stems, []) if is_audio_name(name)]
        mixes = [
            Place(number, os.path.join(folder, name)) for name in audio if PurePosixPath(name).stem == f"{key}_MIX"
        ]
        if tracks or mixes:
            home = Place(number, folder)
            yield SongFiles(_key(key), "medley", home, tuple(tracks), next(iter(mixes), None))


def _zips(number: int, root: str, folder: str, names: list[str]) -> Iterator[SongFiles]:
    for name in names:
        stem = PurePosixPath(name).stem
        if not name.lower().endswith(".zip"):
            continue
        home, full = Place(number, os.path.join(folder, name)), _FULL.fullmatch(stem)
        try:
            members = sorted(open_archive(Path(root) / home.path, name).names())
        except (IntegrityError, OSError) as error:
            if full:
                yield SongFiles(_key(full[1]), "raw", home, (), None, problem=str(error).partition("(")[0].strip())
            continue
        audio = [member for member in members if is_audio_name(member) and not _is_mac(member)]
        if full and not audio:
            yield SongFiles(_key(full[1]), "raw", home, (), None, problem=f"{name}: holds no audio")
        elif full or _are_tracks(audio):
            yield _raw_song(_key(full[1] if full else stem), home, [Place(number, home.path, one) for one in audio])


def _is_mac(member: str) -> bool:
    return any(part.startswith(".") or part == "__MACOSX" for part in member.split("/"))


def _are_tracks(names: Sequence[str]) -> bool:
    """Whether files are the tracks of one song, by their names: numbered and a third known, or more than half known."""
    if not 1 < len(names) <= MAX_TRACKS or len({os.path.dirname(name) for name in names}) > 1:
        return False
    numbered = sum(map(is_numbered, map(file_name, names)))
    known = sum(sound_of_name(file_name(name)) is not None for name in names)
    if 2 * numbered > len(names):
        return 3 * known >= len(names)  # titles of an album are numbered too
    return len(names) >= MIN_TRACKS and 2 * known > len(names)


def _key(name: str) -> str:
    return unicodedata.normalize("NFC", in_unicode(name))


def _raw_song(key: str, home: Place, tracks: Iterable[Place]) -> SongFiles:
    listed = sorted(tracks, key=lambda place: (place.name, place.path, place.member or ""))
    mix = next((place for place in listed if is_mix_name(place.name)), None)
    return SongFiles(key, "raw", home, tuple(place for place in listed if not is_mix_name(place.name)), mix)


def _with_previews(songs: Iterable[SongFiles], previews: Iterable[Place]) -> Iterator[SongFiles]:
    """Add the mixes of the library to its songs: named by id, or by a title that no other song has."""
    listed = list(songs)
    by_name: dict[str, Place] = {}
    for place in previews:
        match = _PREVIEW.fullmatch(PurePosixPath(place.name).stem)
        by_name.setdefault(match[1] if match else "", place)
    titles = defaultdict(set)
    for song in listed:
        titles[_title(song.key)].add(song.key)
    for song in listed:
        title = _title(song.key)
        by_title = by_name.get(title) if song.layout == "raw" and len(titles[title]) == 1 else None
        yield song if song.mix is not None else replace(song, mix=by_name.get(song.key) or by_title)


def _title(key: str) -> str:
    return key.partition("_")[2]
