"""Slakh2100: 2,100 songs of Lakh MIDI, each stem rendered by a sampler (Manilow et al. 2019).

    slakh2100_flac_redux/{train,validation,test,omitted}/Track00001/metadata.yaml    44.1 kHz, mono, FLAC
                                                        .../Track00001/mix.flac
                                                        .../Track00001/stems/S00.flac
    babyslakh_16k/Track00001/...                        the first 20 tracks, .wav of 16 kHz

What bites: the General MIDI program is the composer's wish, the patch what is heard
(`datasets/songs/slakh_facts.py`). Many stems in metadata.yaml were never rendered (`audio_rendered: false`), seven
are missing although it says they were, and a copy is known whose flags are all false though every stem is there: a
file that exists is read, the flag only says why one does not. Its paths lead to its author's disk; all places here
follow from the folder. `plugin_name: None` is text.

Every track is a song: a row for its mix, one for each stem. Its group is the MIDI file's UUID, for 308 MIDI files make
two to six tracks each. A song whose metadata cannot be read is passed over, with a row for each of its files.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from tutti.datasets.archive import Archive, open_archive
from tutti.datasets.errors import IntegrityError, UsageError
from tutti.datasets.hierarchy import Sound, labels_of
from tutti.datasets.printable import printable
from tutti.datasets.record import DRUMS, Clip, Defect, Media, Recording, Track, clip_id
from tutti.datasets.songs.slakh_facts import BAD_STEMS, WITHOUT_S00, official_split, sound_of
from tutti.datasets.source import Card, LocalFile, RemoteFile
from tutti.datasets.yaml_text import MAX_BYTES, read_mapping

CARD = Card(
    title="Slakh2100: the synthesized Lakh dataset",
    homepage="https://www.slakh.com",
    license="CC-BY-4.0",
    license_url="https://creativecommons.org/licenses/by/4.0/",
    license_note="Audio CC BY 4.0; its MIDI files were found on the web, and the songs have owners.",
    citation=(
        "E. Manilow, G. Wichern, P. Seetharaman, J. Le Roux: Cutting music source separation some Slakh: a dataset "
        "to study the impact of training data quality and quantity. WASPAA 2019, pp. 45-49."
    ),
    num_clips=2_100,  # mixes; each has 4 to 48 stems besides
    size_bytes=100_000_000_000,
)

REMOTES = (
    RemoteFile(
        "redux",
        "https://zenodo.org/records/4599666/files/slakh2100_flac_redux.tar.gz",
        md5="f4b71b6c45ac9b506f59788456b3f0c4",
        mirrors=("https://zenodo.org/api/records/4599666/files/slakh2100_flac_redux.tar.gz/content",),
    ),
    RemoteFile(
        "baby",
        "https://zenodo.org/records/4603870/files/babyslakh_16k.tar.gz",
        md5="311096dc2bde7d61c97e930edbfc7f78",
        mirrors=("https://zenodo.org/api/records/4603870/files/babyslakh_16k.tar.gz/content",),
    ),
)
INSTRUMENTS = (
    "acoustic_guitar", "bass", "cello", "clarinet", "drums", "electric_guitar", "flute", "mallet_percussion", "organ",
    "piano", "saxophone", "synthesizer", "trombone", "trumpet", "violin",
)  # fmt: skip
PARTITIONS = ("train", "validation", "test", "omitted")
TRACKS = True

ORIGIN = "score"  # of all labels
NO_PATCH = "None"  # plugin_name of a program without one: a text, not null

_FILE = re.compile(
    rf"[^/]+/(?:(?P<folder>{'|'.join(PARTITIONS)})/)?Track(?P<number>\d{{5}})/"
    r"(?P<place>metadata\.yaml|mix\.(?:flac|wav)|stems/(?P<stem>S\d{2,3})\.(?:flac|wav))",
    re.ASCII,
)
_STEM = re.compile(r"S\d{2,3}", re.ASCII)
_UUID = re.compile(r"[0-9a-f]{32}", re.ASCII)
_MAX_WORDS = 80  # characters of an instrument's name

ArchiveName = Literal["redux", "baby"]
Splits = Literal["orig", "redux", "split2"]


@dataclass(frozen=True)
class Config:
    """The archive that is read, and the division of its tracks."""

    archive: ArchiveName = "redux"  # baby: the first 20 tracks at 16 kHz
    # redux: 1,710 tracks, no MIDI file twice; the others are rows with the reason `omitted`. split2: all 2,100, no MIDI
    # file in two splits. orig: all 2,100 by their numbers; 146 MIDI files are in two splits.
    splits: Splits = "redux"

    def __post_init__(self) -> None:
        """Refuse a value that no branch would understand."""
        for name, kind in (("archive", ArchiveName), ("splits", Splits)):
            if getattr(self, name) not in get_args(kind):
                raise UsageError(f"slakh: {name}={getattr(self, name)!r}; choose one of {', '.join(get_args(kind))}")


@dataclass
class _Files:
    """The members of one track."""

    number: int
    folder: str | None  # of PARTITIONS; None: the archive has no such folders
    metadata: str | None = None
    mix: str | None = None
    stems: dict[str, str] = field(default_factory=dict)  # name -> member

    @property
    def song(self) -> str:
        return f"Track{self.number:05}"


def remotes(config: Config) -> tuple[RemoteFile, ...]:
    """List the one archive that is read."""
    return tuple(remote for remote in REMOTES if remote.name == config.archive)


def read(files: Mapping[str, LocalFile], config: Config) -> Iterator[Recording]:
    """Read all tracks: of each its mix and its stems, in the order of their numbers.

    Raises:
        IntegrityError: the archive holds no track, or one in two folders.
    """
    file = files[config.archive]
    name = file.remote.url.rpartition("/")[2]
    archive = open_archive(file.path, name)
    tracks = _find_tracks(archive, name)
    for number in sorted(tracks):
        yield from _Song(tracks[number], file, config).recordings(archive)


def _find_tracks(archive: Archive, name: str) -> dict[int, _Files]:
    found: dict[int, _Files] = {}
    for member in archive.names():
        match = _FILE.fullmatch(member)
        if match is None:
            continue
        number = int(match["number"])
        track = found.setdefault(number, _Files(number, match["folder"]))
        if track.folder != match["folder"]:
            raise IntegrityError(
                f"{name}: {track.song} is in {track.folder or 'no folder'} and in {match['folder'] or 'no folder'}; "
                "download the archive again"
            )
        if match["stem"]:
            track.stems[match["stem"]] = member
        elif match["place"] == "metadata.yaml":
            track.metadata = member
        else:
            track.mix = member
    if not found:
        raise IntegrityError(f"{name}: holds no folder TrackNNNNN of Slakh; download the archive again")
    return found


class _Song:
    """One track on its way to rows."""

    def __init__(self, files: _Files, file: LocalFile, config: Config) -> None:
        self._files, self._file = files, file
        official = official_split(files.number, config.splits)
        by_folder = files.folder if config.splits == "redux" or official is None else None
        self._partition = by_folder or official or "train"
        self._group = f"slakh/{files.song}"

    def recordings(self, archive: Archive) -> Iterator[Recording]:
        """Make the rows of the mix and of all stems, those that are there and those that metadata names."""
        files = self._files
        try:
            metadata = self._metadata(archive)
            stems = _stems_in(metadata, f"{files.song}: metadata.yaml")
        except IntegrityError as error:
            defect = Defect("no_metadata", detail=str(error))
            for stem in (None, *sorted(files.stems)):
                if stem is not None or files.mix is not None:
                    yield self._recording(stem, defect)
            return
        uuid = str(metadata.get("UUID", "")).strip().replace("-", "").casefold()
        self._group = f"slakh/{uuid}" if _UUID.fullmatch(uuid) else self._group
        found = {stem: self._stem(stem, stems.get(stem)) for stem in sorted({*files.stems, *stems})}
        good = [recording.media for recording in found.values() if recording.clips[0].defect is None]
        if files.mix is not None or good:
            yield self._recording(None, self._omitted(None), parts=() if files.mix else tuple(good))
        yield from found.values()

    def _metadata(self, archive: Archive) -> Mapping[str, Any]:
        if self._files.metadata is None:
            raise IntegrityError(f"{self._files.song}: has no metadata.yaml")
        if (size := archive.size(self._files.metadata)) > MAX_BYTES:
            raise IntegrityError(f"{self._files.metadata}: has {size:,} bytes; at most {MAX_BYTES:,} are read")
        return read_mapping(archive.read(self._files.metadata), self._files.metadata)

    def _stem(self, stem: str, fields: Mapping[str, str] | None) -> Recording:
        song, number = self._files.song, self._files.number
        defect = self._omitted(stem)
        if defect is not None:
            pass
        elif stem not in self._files.stems:
            defect = _why_missing(song, number, stem, fields or {})
        elif (number, stem) in BAD_STEMS:
            defect = Defect("known_bad", detail=f"{song}/{stem}: {BAD_STEMS[number, stem]}, upstream says")
        elif not fields:
            defect = Defect("no_metadata", detail=f"{song}/{stem}: metadata.yaml says nothing of it")
        return self._recording(stem, defect, fields)

    def _omitted(self, stem: str | None) -> Defect | None:
        if self._partition != "omitted":
            return None
        what = f"{self._files.song}/{stem or 'mix'}"
        return Defect("omitted", detail=f"{what}: redux leaves the track out, its MIDI file makes another one too")

    def _recording(
        self,
        stem: str | None,
        defect: Defect | None,
        fields: Mapping[str, str] | None = None,
        parts: tuple[Media, ...] = (),
    ) -> Recording:
        key = f"{self._files.song}/{stem or 'mix'}"
        sound = None if stem is None or not fields else _sound(fields)
        clip = Clip(
            id=clip_id("slakh", key),
            source="slakh",
            recording=key,
            group=self._group,
            partition=self._partition,
            labels={} if sound is None else _classes(sound),
            license=CARD.license,
            track=Track(self._files.song, stem, _words(fields), None if sound is None else sound.family),
            hierarchy=None if sound is None else labels_of([sound], "hierarchy15", origin=ORIGIN, complete=True),
            defect=defect,
        )
        member = self._files.mix if stem is None else self._files.stems.get(stem)
        if member is not None:
            return Recording(Media(self._file.remote.url, member, self._file.sha256), (clip,))
        nowhere = f"sum:slakh/{self._files.song}" if stem is None else f"missing:slakh/{key}"
        return Recording(Media(nowhere), (clip,), parts=parts)


def _stems_in(metadata: Mapping[str, Any], where: str) -> dict[str, Mapping[str, str]]:
    """Take the stems out of metadata.yaml: name to fields; those that are no fields are empty.

    Raises:
        IntegrityError: it names none, or one as no stem is named.
    """
    stems = metadata.get("stems")
    if not isinstance(stems, dict) or not stems:
        raise IntegrityError(f"{where}: names no stems")
    for name in stems:
        if not isinstance(name, str) or not _STEM.fullmatch(name):
            raise IntegrityError(f"{where}: names a stem {printable(str(name)[:_MAX_WORDS])!r}; expected S00, S01, ...")
    return {name: _texts(fields) for name, fields in stems.items()}


def _texts(fields: Any) -> dict[str, str]:
    pairs = fields.items() if isinstance(fields, dict) else ()
    return {name: value for name, value in pairs if isinstance(name, str) and isinstance(value, str)}


def _why_missing(song: str, number: int, stem: str, fields: Mapping[str, str]) -> Defect:
    """Decide why a stem of metadata.yaml has no file: it was never rendered, or is missing."""
    plugin = fields.get("plugin_name", "")
    known = stem == "S00" and number in WITHOUT_S00
    if not known and (plugin == NO_PATCH or not _is_true(fields.get("audio_rendered", "true"))):
        why = "there is no patch for its program" if plugin == NO_PATCH else "audio_rendered is false"
        return Defect("not_rendered", detail=f"{song}/{stem}: {why}")
    also = ", as upstream says" if known else ""
    return Defect("missing_stem", detail=f"{song}/{stem}: metadata.yaml names it, but there is no file{also}")


def _is_true(text: str) -> bool:
    return text.strip().casefold() in ("true", "yes", "on")


def _sound(fields: Mapping[str, str]) -> Sound:
    text = fields.get("program_num", "").strip()
    program = int(text) if text.isascii() and text.isdecimal() and len(text) <= len(str(DRUMS)) else None
    is_drum = _is_true(fields.get("is_drum", "")) or program == DRUMS
    return sound_of(program, fields.get("plugin_name", ""), is_drum=is_drum)


def _classes(sound: Sound) -> dict[str, Any]:
    labels = labels_of([sound], "canonical", origin=ORIGIN, complete=True)
    return {name: labels[name] for name in INSTRUMENTS if name in labels}


def _words(fields: Mapping[str, str] | None) -> str | None:
    """Name what plays as upstream does: by its General MIDI program."""
    name = (fields or {}).get("midi_program_name", "").strip()[:_MAX_WORDS]
    return printable(name) or None
