"""IRMAS: music in which one of eleven instruments predominates (Bosch et al. 2012).

    IRMAS-TrainingData/<code>/[NNN__][<code>][<drums>][<genre>]<song>__<part>.wav   6,705 x 3 s, one label
    IRMAS-TestingData-Part1/Part1/<title>-<n>.wav + .txt                            2,874 x 5-20 s in three
    IRMAS-TestingData-Part2/IRTestingData-Part2/<title>-<n>.wav + .txt              archives, 1-5 labels
    IRMAS-TestingData-Part3/Part3/<title>-<n>.wav + .txt

What bites: `[cla]` is clarinet in the first bracket and classical in the last, so position decides.
`<song>__<part>` alone is not unique (45 files would be lost): the key is the whole path. Titles hold
dots, brackets and accents: only the final `-<n>` is ours to cut. A test annotation is one
`<code><TAB>` per line. Bass, drums and synthesizers are never annotated.
"""

import re
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Literal, get_args

from tutti.datasets.archive import Archive, open_archive
from tutti.datasets.errors import IntegrityError, UsageError
from tutti.datasets.record import ABSENT, PRESENT, Clip, Label, Labels, Media, Recording, clip_id
from tutti.datasets.source import Card, LocalFile, RemoteFile
from tutti.datasets.taxonomy import IRMAS_INSTRUMENTS

CARD = Card(
    title="IRMAS: a dataset for instrument recognition in musical audio signals",
    homepage="https://www.upf.edu/web/mtg/irmas",
    license="CC-BY-NC-SA-3.0",
    license_url="https://creativecommons.org/licenses/by-nc-sa/3.0/",
    license_note="Non-commercial research; its distributors ask not to pass on or modify the audio: share manifests.",
    citation=(
        "J. J. Bosch, J. Janer, F. Fuhrmann, P. Herrera: A comparison of sound segregation techniques for "
        "predominant instrument recognition in musical audio signals. ISMIR 2012, pp. 559-564."
    ),
    num_clips=9_579,
    size_bytes=11_000_000_000,
)

_RECORD = "https://zenodo.org/records/1290750/files"
_API = "https://zenodo.org/api/records/1290750/files"  # the same bytes, where the page's address is refused


def _archive(name: str, file: str, md5: str) -> RemoteFile:
    return RemoteFile(name, f"{_RECORD}/{file}", md5=md5, mirrors=(f"{_API}/{file}/content",))


REMOTES = (
    _archive("train", "IRMAS-TrainingData.zip", md5="4fd9f5ed5a18d8e2687e6360b5f60afe"),
    _archive("test1", "IRMAS-TestingData-Part1.zip", md5="5a2e65520dcedada565dff2050bb2a56"),
    _archive("test2", "IRMAS-TestingData-Part2.zip", md5="afb0c8ea92f34ee653693106be95c895"),
    _archive("test3", "IRMAS-TestingData-Part3.zip", md5="9b3fb2d0c89cdc98037121c25bd5b556"),
)
INSTRUMENTS = IRMAS_INSTRUMENTS
PARTITIONS = ("train", "test")

CODES = {
    "cel": "cello",
    "cla": "clarinet",
    "flu": "flute",
    "gac": "acoustic_guitar",
    "gel": "electric_guitar",
    "org": "organ",
    "pia": "piano",
    "sax": "saxophone",
    "tru": "trumpet",
    "vio": "violin",
    "voi": "voice",
}
GENRES = {
    "cou_fol": "country_folk",
    "cla": "classical",
    "pop_roc": "pop_rock",
    "lat_sou": "latin_soul",
    "jaz_blu": "jazz_blues",
}
DRUMS = {"dru": True, "nod": False, None: None}

_TRAIN_NAME = re.compile(
    rf"(?:(?P<number>\d{{3}})__)?\[(?P<code>{'|'.join(CODES)})\](?:\[(?P<drums>dru|nod)\])?"
    rf"\[(?P<genre>{'|'.join(GENRES)})\](?P<song>\d{{4}})__(?P<part>[123])\.wav",
    re.ASCII,
)
_TEST_NAME = re.compile(r"(?P<song>.+)-\d+\.wav", re.ASCII | re.DOTALL)

Others = Literal["unknown", "absent"]


@dataclass(frozen=True)
class Config:
    """Labels of the ten instruments that do not predominate in a training clip."""

    others: Others = "unknown"  # predominant is not only; "absent" is Lumen 2023's reading

    def __post_init__(self) -> None:
        """Refuse a value that no branch would understand."""
        if self.others not in get_args(Others):
            raise UsageError(f"irmas: others={self.others!r}; choose one of {', '.join(get_args(Others))}")


@dataclass(frozen=True)
class TrainName:
    """The parsed name of a training file."""

    number: str | None  # three digits; so far exactly where drums are annotated
    instrument: str  # taxonomy name of the predominant instrument
    drums: bool | None  # None: not annotated
    genre: str  # one of GENRES' names
    song: str  # four digits
    part: int  # 1, 2 or 3

    @property
    def stem(self) -> str:
        """File name without part and extension: equal for all parts of one song."""
        code = _code_of(CODES, self.instrument)
        drums = {True: "[dru]", False: "[nod]", None: ""}[self.drums]
        number = "" if self.number is None else f"{self.number}__"
        return f"{number}[{code}]{drums}[{_code_of(GENRES, self.genre)}]{self.song}"


def read(files: Mapping[str, LocalFile], config: Config) -> Iterator[Recording]:
    """Read all clips: training archive first, then the three test archives.

    Raises:
        IntegrityError: a wav file's name or a test annotation cannot be understood.
    """
    for remote in REMOTES:
        file = files[remote.name]
        archive_name = remote.url.rpartition("/")[2]
        archive = open_archive(file.path, archive_name)
        clips = _train_clips(archive, archive_name, config) if remote.name == "train" else _test_clips(archive)
        seen: set[str] = set()
        for member, clip in clips:
            if clip.id in seen:
                raise IntegrityError(
                    f"{archive_name}: member {member!r} differs from another in Unicode form only; "
                    "download the archive again, or remove one of them from your copy"
                )
            seen.add(clip.id)
            yield Recording(Media(remote.url, member, file.sha256), (clip,))


def parse_train_name(path: str, archive_name: str = "IRMAS-TrainingData.zip") -> TrainName:
    """Read the brackets of a training file's path; position decides what `cla` means.

    Raises:
        IntegrityError: the name has another form, or its instrument is not that of its folder.
    """
    path_parts = PurePosixPath(path)
    match = _TRAIN_NAME.fullmatch(path_parts.name)
    if match is None:
        raise IntegrityError(
            f"{archive_name}: member {path!r} is not named [NNN__][instrument][dru|nod][genre]NNNN__P.wav; "
            "download the archive again, or remove the file from your copy"
        )
    if match["code"] != path_parts.parent.name:
        raise IntegrityError(
            f"{archive_name}: member {path!r} is named {match['code']} but lies in folder "
            f"{path_parts.parent.name!r}; download the archive again, or move the file in your copy"
        )
    return TrainName(
        number=match["number"],
        instrument=CODES[match["code"]],
        drums=DRUMS[match["drums"]],
        genre=GENRES[match["genre"]],
        song=match["song"],
        part=int(match["part"]),
    )


def parse_test_song(path: str) -> str:
    """Parse the title of a test file's song: its file name without the final `-<n>.wav`.

    Raises:
        IntegrityError: the name does not end in `-<n>.wav`.
    """
    match = _TEST_NAME.fullmatch(PurePosixPath(path).name)
    if match is None:
        raise IntegrityError(
            f"{path}: a test file's name ends in -<number>.wav; "
            "download the archive again, or remove the file from your copy"
        )
    return match["song"]


def parse_annotation(text: str, name: str) -> tuple[str, ...]:
    """Parse the instruments (taxonomy names) of a test annotation, in its order.

    Args:
        text: one code per line, each followed by a tab.
        name: of the file, for errors.

    Raises:
        IntegrityError: an unknown or repeated code, or no code at all.
    """
    instruments: list[str] = []
    for number, line in enumerate(text.splitlines(), start=1):
        code = line.strip()
        if not code:
            continue
        if code not in CODES:
            raise IntegrityError(f"{name}:{number}: unknown instrument {code!r}; known: {', '.join(CODES)}")
        if CODES[code] in instruments:
            raise IntegrityError(f"{name}:{number}: {code} is listed twice; remove one of the lines")
        instruments.append(CODES[code])
    if not instruments:
        raise IntegrityError(f"{name}:1: lists no instrument, but every test clip has one; download the archive again")
    return tuple(instruments)


def predominant_labels(instrument: str, others: Others) -> Labels:
    """Label the predominant instrument as present; the others are unknown, or assumed absent."""
    # Nobody listened for the others: an absence among them is an assumption, hence "weak".
    rest = {name: Label(ABSENT, "weak") for name in INSTRUMENTS} if others == "absent" else {}
    return {**rest, instrument: Label(PRESENT, "human")}


def complete_labels(instruments: tuple[str, ...]) -> Labels:
    """Label all eleven by a test annotation: an instrument that it does not list is absent."""
    return {name: Label(PRESENT if name in instruments else ABSENT, "human") for name in INSTRUMENTS}


def _train_clips(archive: Archive, archive_name: str, config: Config) -> Iterator[tuple[str, Clip]]:
    for member in filter(_is_audio, archive.names()):
        name = parse_train_name(member, archive_name)
        yield member, _clip(member, name.stem, "train", predominant_labels(name.instrument, config.others))


def _test_clips(archive: Archive) -> Iterator[tuple[str, Clip]]:
    members = list(archive.names())
    annotations = {_nfc(member): member for member in members if member.endswith(".txt")}
    for member in filter(_is_audio, members):
        song = parse_test_song(member)
        annotation = annotations.get(_nfc(member.removesuffix(".wav") + ".txt"))
        if annotation is None:
            raise IntegrityError(f"{member}: has no annotation of the same name (.txt); download the archive again")
        try:
            text = archive.read(annotation).decode("ascii")
        except UnicodeDecodeError as error:
            raise IntegrityError(f"{annotation}: is not plain text ({error}); download the archive again") from error
        yield member, _clip(member, song, "test", complete_labels(parse_annotation(text, annotation)))


def _clip(member: str, song: str, partition: str, labels: Labels) -> Clip:
    return Clip(
        id=clip_id("irmas", member),
        source="irmas",
        recording=_nfc(member),
        group=f"irmas/{_nfc(song)}",
        partition=partition,
        labels=labels,
        license=CARD.license,
    )


def _is_audio(member: str) -> bool:
    path = PurePosixPath(member)  # macOS leaves "__MACOSX/._x.wav" beside x.wav: no audio
    return path.suffix.lower() == ".wav" and "__MACOSX" not in path.parts and not path.name.startswith("._")


def _code_of(table: Mapping[str, str], name: str) -> str:
    return next(code for code, known in table.items() if known == name)


def _nfc(text: str) -> str:
    return unicodedata.normalize("NFC", text)
