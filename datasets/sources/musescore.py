"""MuseScore: pairs of a MIDI file and a recording of the same score, which you have on disk.

    my-pairs/mid/<id>.mid        the score; the folders of the authors' crawler
    my-pairs/mp3/<id>.mp3        its audio; or audio/<id>.{mp3,wav,flac,ogg}

Audio may be of any kind that is read, scores .mid, .midi, .kar, .smf, .rmi or .rmid; what systems leave in folders
(`._x`, .DS_Store, Thumbs.db) is passed over.

The site no longer serves either in bulk and nobody may redistribute it, so there is nothing to
download. Notes come from the MIDI file, and labels from the notes. Audio begins a little later than
its score: the prepare stage measures by how much, moves the cut, and rejects audio of another piece,
so times here are those of the score. What is wrong with one score costs that score, and says why:

| Reason | Clips |
|---|---|
| `orphan` | a MIDI file without audio, or audio without a MIDI file; files of its name that are no audio are named |
| `bad_score` | a MIDI file that cannot be read; an excerpt with a note of an impossible program |
| `no_notes` | a MIDI file without notes |
| `pitch_range` | an excerpt with pitched notes outside a piano's range: no frame label has a place for them |
"""

import os
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from tutti.datasets.audio_files import AUDIO_SUFFIXES
from tutti.datasets.errors import UsageError
from tutti.datasets.litter import is_litter, litter_note
from tutti.datasets.printable import in_unicode
from tutti.datasets.record import DRUMS, Clip, Defect, Media, Note, Recording, Seconds, clip_id
from tutti.datasets.scores import general_midi
from tutti.datasets.scores.families import families_of
from tutti.datasets.scores.labels import labels_of
from tutti.datasets.scores.playing import RELEASE_S
from tutti.datasets.scores.score import SCORE_SUFFIXES, Score, ScoreError, excerpt, load_midi
from tutti.datasets.source import Card, Input, LocalFile, RemoteFile, many

CARD = Card(
    title="MuseScore pairs of MIDI and audio (you bring the files)",
    homepage="https://github.com/biboamy/instrument-streaming",
    license="unknown",
    license_url="",
    license_note="Every score has its author's licence, and there is no archive: state what holds for your files.",
    citation="Hung, Chen, Yang: Multitask Learning for Frame-level Instrument Recognition, ICASSP 2019",
    num_clips=0,
    size_bytes=0,
)

REMOTES: tuple[RemoteFile, ...] = ()
INSTRUMENTS: tuple[str, ...] = tuple(sorted({*general_midi.instruments(), "guitar"}))
PARTITIONS = ("all",)
NOTES = True  # shards have a column of notes

PIANO_RANGE = (21, 108)  # MIDI note numbers A0 to C8: the 88 rows of the pianoroll (Hung 2019)
SCORE_FOLDERS, AUDIO_FOLDERS = ("mid",), ("mp3", "audio")  # in any case
MAX_NAMED = 3  # files that are named in a detail


@dataclass(frozen=True)
class Config:
    """Folder of the pairs, and the lengths of their excerpts."""

    root: str = field(default="", metadata={"local": True})  # the folder; never part of a digest or a manifest
    segment_s: Seconds = 10.0  # Hung 2019 and AudioSet
    min_segment_s: Seconds = 1.0  # the last one may be shorter: Lumen 2023's shortest clip
    license: str = "unknown"  # of all scores: an SPDX identifier or a URL

    def __post_init__(self) -> None:
        """Refuse segments that cannot be."""
        if not 0 < self.min_segment_s <= self.segment_s:
            raise ValueError(f"min_segment_s {self.min_segment_s}: expected 0 < min_segment_s <= segment_s")


def read(files: Mapping[str, LocalFile], config: Config) -> Iterator[Recording]:
    """Read one recording per score, in the order of their ids.

    Raises:
        UsageError: there is no such folder, it holds no score, or two files have one id.
    """
    del files  # nothing was downloaded
    root = _root(config)
    folders = _listed(root)
    scores = _by_id(root, folders, SCORE_FOLDERS, SCORE_SUFFIXES)
    audio = _by_id(root, folders, AUDIO_FOLDERS, AUDIO_SUFFIXES)
    if not scores:
        raise UsageError(
            f"musescore: {config.root!r} has no mid/<id>.mid; pass --data-from DIR that holds mid/ and mp3/"
        )
    others = _others(folders, (*scores.values(), *audio.values()))
    for key in sorted(scores.keys() | audio.keys()):
        if key not in audio:
            detail = f"{scores[key]}: has no audio{_named(others[key], AUDIO_FOLDERS, AUDIO_SUFFIXES)}"
            yield _defective(key, scores[key], Defect("orphan", detail=detail), config)
        elif key not in scores:
            detail = f"{audio[key]}: has no MIDI file{_named(others[key], SCORE_FOLDERS, SCORE_SUFFIXES)}"
            yield _defective(key, audio[key], Defect("orphan", detail=detail), config)
        else:
            yield _pair(key, root, scores[key], audio[key], config)


def remarks(config: Config) -> Iterator[str]:
    """Yield a remark on files of systems that are passed over.

    Raises:
        UsageError: there is no such folder.
    """
    litter = [
        f"{folder}/{name}"
        for folder, names in _listed(_root(config)).items()
        for name in names
        if folder.lower() in (*SCORE_FOLDERS, *AUDIO_FOLDERS) and is_litter(name)
    ]
    yield from litter_note(litter)


def inputs(config: Config) -> tuple[Input, ...]:
    """Hash all scores to one digest.

    Raises:
        UsageError: there is no such folder, or two files have one id.
    """
    root = _root(config)
    scores = _by_id(root, _listed(root), SCORE_FOLDERS, SCORE_SUFFIXES)
    return (many("scores", "MIDI files", root, scores.values()),)


def segments(score: Score, segment_s: Seconds, min_segment_s: Seconds) -> list[tuple[Seconds, Seconds]]:
    """List start and end of the excerpts, from the score's beginning to its last note's end."""
    end_s = max(note.offset_s for note in score.notes)
    starts = (round(index * segment_s, 6) for index in range(int(end_s / segment_s) + 1))
    return [
        (start_s, round(min(start_s + segment_s, end_s), 6))
        for start_s in starts
        if min(end_s - start_s, segment_s) >= min_segment_s
    ]


def pitch_defect(notes: tuple[Note, ...]) -> Defect | None:
    """Check the pitches of an excerpt against the piano's range, percussion aside; None: all are inside."""
    low, high = PIANO_RANGE
    outside = [note for note in notes if note.program != DRUMS and not low <= note.pitch <= high]
    if not outside:
        return None
    first = outside[0]
    detail = (
        f"{len(outside)} notes outside {low} to {high}, first {first.pitch} at {first.onset_s:.3f} s of the excerpt"
    )
    return Defect("pitch_range", float(first.pitch), detail)


def _pair(key: str, root: Path, score_path: PurePosixPath, audio_path: PurePosixPath, config: Config) -> Recording:
    try:
        score = load_midi(root / score_path, str(score_path))
    except OSError as error:
        raise UsageError(
            f"musescore: {score_path} cannot be read ({error.strerror}); correct its permissions"
        ) from error
    except ScoreError as error:
        return _defective(key, audio_path, Defect(error.reason, detail=str(error)), config)
    spans = segments(score, config.segment_s, config.min_segment_s)
    if not spans:
        short = Defect("too_short", score.notes[-1].offset_s, f"{score_path}: shorter than {config.min_segment_s} s")
        return _defective(key, audio_path, short, config)
    nearby = _by_segment(score.notes, config.segment_s)
    clips = tuple(_clip(key, score, tuple(nearby[index]), *span, config) for index, span in enumerate(spans))
    return Recording(Media(f"musescore:{audio_path}"), clips, score.notes)


def _by_segment(notes: tuple[Note, ...], segment_s: Seconds) -> dict[int, list[Note]]:
    """Group notes by the segments in which they may sound, so that no segment searches a whole score."""
    nearby: dict[int, list[Note]] = defaultdict(list)
    for note in notes:
        for index in range(int(note.onset_s / segment_s), int((note.offset_s + RELEASE_S) / segment_s) + 1):
            nearby[index].append(note)
    return nearby


def _clip(key: str, score: Score, nearby: tuple[Note, ...], start_s: Seconds, end_s: Seconds, config: Config) -> Clip:
    notes = excerpt(Score(nearby, end_s), start_s, end_s)
    return Clip(
        id=clip_id("musescore", key, start_s),
        source="musescore",
        recording=key,
        group=f"musescore/{key}",
        partition="all",
        labels=labels_of(nearby, start_s, end_s),
        hierarchy=families_of(nearby, start_s, end_s),
        license=config.license,
        start_s=start_s,
        end_s=end_s,
        declared_s=round(end_s - start_s, 6),
        notes=notes,
        score_repairs=score.repairs,
        defect=_unread(score, start_s, end_s) or pitch_defect(notes),
    )


def _unread(score: Score, start_s: Seconds, end_s: Seconds) -> Defect | None:
    """Find the first note that cannot be read and may be heard in an excerpt; None: there is none."""
    return next(
        (note.defect for note in score.unread if note.onset_s < end_s and note.offset_s + RELEASE_S > start_s),
        None,
    )


def _defective(key: str, path: PurePosixPath, defect: Defect, config: Config) -> Recording:
    """Make a recording of one row that will be rejected."""
    clip = Clip(
        id=clip_id("musescore", key),
        source="musescore",
        recording=key,
        group=f"musescore/{key}",
        partition="all",
        license=config.license,
        defect=defect,
    )
    return Recording(Media(f"musescore:{path}"), (clip,))


def _listed(root: Path) -> dict[str, list[str]]:
    """List the names in the folder itself, under "", and in each folder within it, both sorted."""
    names = sorted(os.listdir(root))
    return {"": names} | {name: sorted(os.listdir(root / name)) for name in names if (root / name).is_dir()}


def _by_id(
    root: Path, folders: Mapping[str, list[str]], wanted: tuple[str, ...], suffixes: tuple[str, ...]
) -> dict[str, PurePosixPath]:
    """Find files of a kind by their id, the name without its suffix; paths relative to root."""
    found: dict[str, PurePosixPath] = {}
    for folder in sorted((name for name in folders if name.lower() in wanted), key=_rank(wanted)):
        for name in folders[folder]:
            path = PurePosixPath(folder, name)
            if path.suffix.lower() not in suffixes or is_litter(name) or not (root / path).is_file():
                continue
            key = _key(path)
            if key in found:
                raise UsageError(f"musescore: {found[key]} and {path} have one id; remove one of them")
            found[key] = path
    return found


def _rank(wanted: tuple[str, ...]) -> Callable[[str], tuple[int, str]]:
    return lambda folder: (wanted.index(folder.lower()), folder)


def _key(path: PurePosixPath) -> str:
    return unicodedata.normalize("NFC", in_unicode(path.stem))


def _others(folders: Mapping[str, list[str]], taken: Iterable[PurePosixPath]) -> Mapping[str, list[PurePosixPath]]:
    """Group the files that are no part of a pair by their ids."""
    known = set(taken)
    others: dict[str, list[PurePosixPath]] = defaultdict(list)
    for folder, names in folders.items():
        for name in names:
            path = PurePosixPath(folder, name)
            if path not in known and not is_litter(name) and name not in folders:
                others[_key(path)].append(path)
    return others


def _named(others: list[PurePosixPath], folders: tuple[str, ...], suffixes: tuple[str, ...]) -> str:
    """Describe files of the same id that are not looked for; empty where there is none."""
    if not others:
        return ""
    more = f" and {len(others) - MAX_NAMED} more" if len(others) > MAX_NAMED else ""
    kinds, places = ", ".join(suffixes), " or ".join(f"{folder}/" for folder in folders)
    shown = ", ".join(map(str, others[:MAX_NAMED]))
    return f"; {shown}{more}: not looked for, which is {kinds} in {places}"


def _root(config: Config) -> Path:
    if not config.root:
        raise UsageError("musescore: no root; pass --data-from DIR, where DIR holds mid/<id>.mid and mp3/<id>.mp3")
    root = Path(config.root)
    if not root.is_dir():
        raise UsageError(f"musescore: root {config.root!r} is not a folder; pass --data-from DIR")
    return root
