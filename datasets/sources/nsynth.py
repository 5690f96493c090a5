"""NSynth: 305,979 single notes of 1,006 instruments, four seconds each (Engel et al. 2017).

    nsynth-train/examples.json            one object: note_str -> its fields; hundreds of megabytes, on one line
    nsynth-train/audio/<note_str>.wav     16 kHz, mono, 16 bit, 64,000 samples; held for 3 s, 1 s to decay
    nsynth-valid/..., nsynth-test/...     one archive each: train 289,205 notes, valid 12,678, test 4,096

    note_str = <family>_<source>_<3 digits>-<pitch>-<velocity>     synth_lead_synthetic_001-060-127

What bites: the family `synth_lead` holds the separator, so a name is read from the right. No
instrument of train is in valid or test, but valid and test share theirs: a model that tells all
1,006 apart has to learn from train and valid together. Single-velocity instruments are meant so
(magenta issue 646); the defects that are not are in `KNOWN_DEFECTS`.

An archive is a gzipped tar. The download stage stores it as a plain tar, whose members are found
through one pass over its headers: nothing is read twice, in whatever order the notes are asked for.
"""

import io
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Literal, get_args

import ijson

from tutti.datasets.archive import Archive, open_archive
from tutti.datasets.errors import IntegrityError, UsageError
from tutti.datasets.hierarchy import labels_of as outputs_alone
from tutti.datasets.hierarchy import sounds_of
from tutti.datasets.record import ABSENT, PRESENT, Clip, Label, Labels, Media, Recording, Seconds, clip_id
from tutti.datasets.source import Card, LocalFile, RemoteFile

CARD = Card(
    title="NSynth: a dataset of musical notes",
    homepage="https://magenta.tensorflow.org/datasets/nsynth",
    license="CC-BY-4.0",
    license_url="https://creativecommons.org/licenses/by/4.0/",
    license_note="Free to use, change and pass on, also commercially, with attribution to Google Inc.",
    citation=(
        "J. Engel, C. Resnick, A. Roberts, S. Dieleman, D. Eck, K. Simonyan, M. Norouzi: Neural audio synthesis of "
        "musical notes with WaveNet autoencoders. ICML 2017, pp. 1068-1077."
    ),
    num_clips=305_979,
    size_bytes=25_200_000_000,
)

_FOLDER = "http://download.magenta.tensorflow.org/datasets/nsynth"
_PARTS = ("train", "valid", "test")

# Nobody published a checksum: trusted on first use.
REMOTES = tuple(RemoteFile(part, f"{_FOLDER}/nsynth-{part}.jsonwav.tar.gz") for part in _PARTS)
INSTRUMENTS: tuple[str, ...] = ()  # depends on `labels`: `instruments(config)`
PARTITIONS = ("merged", *_PARTS)

FAMILIES = ("bass", "brass", "flute", "guitar", "keyboard", "mallet", "organ", "reed", "string", "synth_lead", "vocal")
SOURCES = ("acoustic", "electronic", "synthetic")
NUM_INSTRUMENTS = 1_006  # numbered from 0; their names have gaps (bass_synthetic_033 is number 417)
SAMPLE_RATE = 16_000  # Hz
DURATION_S: Seconds = 4.0

# Patterns of recordings, for `select.exclude`: what goes leaves a row in the manifest.
KNOWN_DEFECTS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        # magenta issue 2092: one noise under many pitches and velocities, 71 notes of test
        "noise": tuple(f"brass_acoustic_046-{pitch:03}-*" for pitch in range(84, 109)),
        # magenta issue 1143: a piano has no such key, and the description promises 21 to 108; .8 % of test
        "pitch": ("*-00?-*", "*-01?-*", "*-020-*", "*-109-*", "*-11?-*", "*-12?-*"),
    }
)

# Classes of the taxonomy that a family, played on such a source, surely holds, or may hold. A synthetic
# one is a synthesizer that imitates: whether a flute plays there is a matter of opinion.
_SURE: Mapping[tuple[str, str], str] = {
    ("bass", "acoustic"): "bass",
    ("bass", "electronic"): "bass",
    ("flute", "acoustic"): "flute",
    ("guitar", "acoustic"): "acoustic_guitar",
    ("guitar", "electronic"): "electric_guitar",
    ("mallet", "acoustic"): "mallet_percussion",
    ("organ", "acoustic"): "organ",
    ("organ", "electronic"): "organ",
    ("synth_lead", "acoustic"): "synthesizer",
    ("synth_lead", "electronic"): "synthesizer",
    ("vocal", "acoustic"): "voice",
}
_POSSIBLE: Mapping[str, tuple[str, ...]] = {
    "bass": ("bass",),
    "brass": ("trombone", "trumpet"),  # and horns, tubas: no class of ours
    "flute": ("flute",),
    "guitar": ("acoustic_guitar", "electric_guitar"),
    "keyboard": ("accordion", "piano", "synthesizer"),  # pianos and electric pianos, clavinets, ...
    "mallet": ("mallet_percussion",),
    "organ": ("organ",),
    "reed": ("accordion", "clarinet", "saxophone"),
    "string": ("bass", "cello", "violin"),  # bowed; also violas and ensembles
    "synth_lead": ("synthesizer",),
    "vocal": ("voice",),
}
# The same for families and instruments of hierarchy.py. A note of a synthesizer is one, whatever it imitates.
_SOUNDS = sounds_of("""
    ~ plucked_string, bowed_string, electric_bass: bass acoustic
    plucked_string/electric_bass ~ synth: bass electronic
    brass: brass acoustic
    brass ~ synth: brass electronic
    woodwind: flute acoustic
    woodwind ~ key: reed acoustic
    woodwind ~ synth: flute electronic
    woodwind ~ key, synth: reed electronic
    plucked_string/acoustic_guitar: guitar acoustic
    plucked_string/electric_guitar: guitar electronic
    key ~ piano: keyboard acoustic
    key ~ piano, synth: keyboard electronic
    percussion: mallet acoustic
    percussion ~ synth: mallet electronic
    key: organ acoustic, organ electronic
    bowed_string ~ violin: string acoustic
    bowed_string ~ violin, synth: string electronic
    synth: synth_lead acoustic, synth_lead electronic
    voice ~ singer: vocal acoustic
    voice ~ singer, synth: vocal electronic
    synth ~ all: synthetic
""")
CANONICAL = (
    "accordion", "acoustic_guitar", "bass", "cello", "clarinet", "electric_guitar", "flute", "mallet_percussion",
    "organ", "piano", "saxophone", "synthesizer", "trombone", "trumpet", "violin", "voice",
)  # fmt: skip

_NOTE = re.compile(
    rf"(?P<instrument>(?P<family>{'|'.join(FAMILIES)})_(?P<source>{'|'.join(SOURCES)})_\d{{3}})"
    r"-(?P<pitch>\d{3})-(?P<velocity>\d{3})",
    re.ASCII,
)
_REDO = "download the archive again"
_MAX_MIDI = 127  # pitches and velocities

LabelSpace = Literal["families", "instruments", "canonical"]
Split = Literal["merged", "official"]
Others = Literal["absent", "unknown"]


@dataclass(frozen=True)
class Config:
    """Label space of a note, and which division of the notes holds."""

    # families: upstream's eleven. instruments: `instrument_0000` to `instrument_1005`, upstream's numbers
    # (NSynth pre-training). canonical: classes of the taxonomy, unknown where a family holds several.
    labels: LabelSpace = "families"
    # merged: train and valid are one partition, to be divided note by note, so that every instrument is
    # in both parts (NSynth pre-training): validation then hears known instruments at other pitches and
    # velocities, and says nothing of unknown ones. official: valid and test hold no instrument of train.
    split: Split = "merged"
    # What a note says of the other families or instruments: a note is played alone, so they are absent.
    # unknown leaves them out of the rows: of 1,006 instruments that is some 20 kB a note.
    others: Others = "absent"

    def __post_init__(self) -> None:
        """Refuse a value that no branch would understand."""
        for name, kind in (("labels", LabelSpace), ("split", Split), ("others", Others)):
            if getattr(self, name) not in get_args(kind):
                raise UsageError(f"nsynth: {name}={getattr(self, name)!r}; choose one of {', '.join(get_args(kind))}")


@dataclass(frozen=True, slots=True)
class NoteName:
    """The parsed name of a note."""

    instrument: str  # bass_synthetic_033
    family: str  # one of FAMILIES
    source: str  # one of SOURCES
    pitch: int  # MIDI note number
    velocity: int  # MIDI, 1 to 127


def read(files: Mapping[str, LocalFile], config: Config) -> Iterator[Recording]:
    """Read all notes, in the order of the three descriptions.

    Raises:
        IntegrityError: a description is damaged, or audio and descriptions do not fit together.
    """
    numbers: dict[str, int] = {}
    for remote in REMOTES:
        file = files[remote.name]
        archive_name = remote.url.rpartition("/")[2]
        archive = open_archive(file.path, archive_name)
        folder = f"nsynth-{remote.name}"
        partition = "merged" if config.split == "merged" and remote.name != "test" else remote.name
        waiting = {member for member in archive.names() if _is_audio(member, folder)}
        for note_str, fields in _descriptions(archive, f"{folder}/examples.json"):
            where = f"{archive_name}: {folder}/examples.json: {note_str!r}"
            note = check_note(note_str, fields, where)
            number = fields["instrument"]
            if numbers.setdefault(note.instrument, number) != number:
                raise IntegrityError(
                    f"{where}: {note.instrument} is number {number} here and {numbers[note.instrument]} elsewhere; "
                    f"{_REDO}"
                )
            member = f"{folder}/audio/{note_str}.wav"
            if member not in waiting:
                raise IntegrityError(f"{where}: stands twice, or has no {member}; {_REDO}")
            waiting.remove(member)
            clip = Clip(
                id=clip_id("nsynth", note_str),
                source="nsynth",
                recording=note_str,
                group=f"nsynth/{note_str}",
                partition=partition,
                labels=labels_of(note, number, config),
                hierarchy=_hierarchy(note.family, note.source),
                license=CARD.license,
                declared_s=DURATION_S,
            )
            yield Recording(Media(remote.url, member, file.sha256), (clip,))
        if waiting:
            raise IntegrityError(f"{archive_name}: {folder}/examples.json says nothing of {min(waiting)!r}; {_REDO}")


def instruments(config: Config) -> tuple[str, ...]:
    """List the classes of a label space."""
    if config.labels == "instruments":
        return _numbered()
    return FAMILIES if config.labels == "families" else CANONICAL


def parse_note(note_str: str, where: str = "note_str") -> NoteName:
    """Read a note's name, from the right: a family may hold the separator.

    Raises:
        IntegrityError: the name has another form, or a number that is no MIDI number.
    """
    match = _NOTE.fullmatch(note_str)
    if match is None or not (int(match["pitch"]) <= _MAX_MIDI and 1 <= int(match["velocity"]) <= _MAX_MIDI):
        raise IntegrityError(f"{where}: {note_str!r} is not named <family>_<source>_NNN-<pitch>-<velocity>; {_REDO}")
    return NoteName(match["instrument"], match["family"], match["source"], int(match["pitch"]), int(match["velocity"]))


def check_note(note_str: str, fields: Any, where: str) -> NoteName:
    """Compare a note's fields with its name.

    Args:
        note_str: its key in examples.json.
        fields: the value there.
        where: archive, file and key, for errors.

    Raises:
        IntegrityError: names the field that is missing or says something else.
    """
    note = parse_note(note_str, where)
    if not isinstance(fields, dict):
        raise IntegrityError(f"{where}: is {type(fields).__name__}, not an object of fields; {_REDO}")
    expected = {
        "note_str": note_str,
        "instrument_str": note.instrument,
        "instrument_family": FAMILIES.index(note.family),
        "instrument_family_str": note.family,
        "pitch": note.pitch,
        "velocity": note.velocity,
        "sample_rate": SAMPLE_RATE,
    }
    for name, value in expected.items():
        if name not in fields:
            raise IntegrityError(f"{where}: lacks the field {name!r}; {_REDO}")
        if type(fields[name]) is not type(value) or fields[name] != value:
            raise IntegrityError(f"{where}: {name} is {fields[name]!r}, its name says {value!r}; {_REDO}")
    source, word = fields.get("instrument_source"), fields.get("instrument_source_str")
    if word not in SOURCES or type(source) is not int or source != SOURCES.index(word):  # the name is what counts
        raise IntegrityError(f"{where}: instrument_source is {source!r}, instrument_source_str {word!r}; {_REDO}")
    number = fields.get("instrument")
    if type(number) is not int or not 0 <= number < NUM_INSTRUMENTS:
        raise IntegrityError(
            f"{where}: instrument is {number!r}, not a number from 0 to {NUM_INSTRUMENTS - 1}; {_REDO}"
        )
    return note


def labels_of(note: NoteName, number: int, config: Config) -> Labels:
    """Label one note in the configured space."""
    if config.labels == "canonical":
        return _canonical(note.family, note.source, config.others)
    present = note.family if config.labels == "families" else instrument_name(number)
    return OneOf(present, config)


def instrument_name(number: int) -> str:
    """Name the class of an instrument, by upstream's number."""
    return f"instrument_{number:04}"


_PRESENT, _ABSENT = Label(PRESENT, "human"), Label(ABSENT, "human")  # the makers of the sample libraries say so


class OneOf(Mapping[str, Label]):
    """One class present, all others of the space absent, or unknown: what it says is written out when asked.

    A row of 1,006 labels weighs as much as one of a single label on its way through a build.
    """

    __slots__ = ("_config", "_present")

    def __init__(self, present: str, config: Config) -> None:
        self._present, self._config = present, config

    def __getitem__(self, name: str) -> Label:
        if name == self._present:
            return _PRESENT
        if self._config.others == "absent" and name in _names(self._config):
            return _ABSENT
        raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        return iter(instruments(self._config) if self._config.others == "absent" else (self._present,))

    def __len__(self) -> int:
        return len(instruments(self._config)) if self._config.others == "absent" else 1

    def __repr__(self) -> str:
        return f"OneOf({self._present!r}, {self._config})"


@lru_cache(maxsize=1)
def _numbered() -> tuple[str, ...]:
    return tuple(map(instrument_name, range(NUM_INSTRUMENTS)))


@lru_cache(maxsize=8)
def _names(config: Config) -> frozenset[str]:
    return frozenset(instruments(config))


@lru_cache(maxsize=64)
def _canonical(family: str, source: str, others: Others) -> Labels:
    # Our reading of a family's name, hence "weak".
    sure = _SURE.get((family, source), "synthesizer" if source == "synthetic" else None)
    open_classes = () if (family, source) in _SURE else _POSSIBLE[family]
    labels = {}
    for name in CANONICAL:
        if name == sure:
            labels[name] = Label(PRESENT, "weak")
        elif name not in open_classes and others == "absent":
            labels[name] = Label(ABSENT, "weak")
    return labels


@lru_cache(maxsize=64)
def _hierarchy(family: str, source: str) -> Labels:
    sound = _SOUNDS["synthetic" if source == "synthetic" else f"{family} {source}"]
    return outputs_alone([sound], "hierarchy15", origin="weak", complete=True)


def _descriptions(archive: Archive, name: str) -> Iterator[tuple[str, Any]]:
    """Parse names and fields of all notes, one at a time: only the bytes of the file are in memory as a whole."""
    stream = io.BytesIO(archive.read(name))
    count = 0
    try:
        for note_str, fields in ijson.kvitems(stream, ""):
            count += 1
            yield note_str, fields
    except (ijson.JSONError, UnicodeDecodeError) as error:
        raise IntegrityError(f"{name}: is no JSON after {count} notes ({_one_line(error)}); {_REDO}") from error
    if not count:
        raise IntegrityError(f"{name}: describes no note; it must be one object, note_str -> fields; {_REDO}")


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]


def _is_audio(member: str, folder: str) -> bool:
    if not member.startswith(f"{folder}/audio/") or not member.endswith(".wav"):
        return False
    return not member.rpartition("/")[2].startswith("._")  # what macOS puts beside a file
