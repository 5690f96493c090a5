"""AudioSet: 2.1 million labelled segments of YouTube videos (Gemmeke et al. 2017), as far as they show an instrument.

    balanced_train_segments.csv, unbalanced_train_segments.csv, eval_segments.csv
        # three header lines
        --PJHxphWEs, 30.000, 40.000, "/m/09x0r,/t/dd00088"      id, start in s, end in s, classes (MIDs)
    class_labels_indices.csv    index,mid,display_name of the 527 classes in use
    ontology.json               632 nodes with child_ids

What bites: ids may start with "-" and differ in case only. 1.6 % of the segments are shorter than
10 s. Labels are positives only, and not closed upwards (of 60 balanced rows with male singing, 5
list singing too). The CSVs hold no audio: the download stage fetches the videos that still exist.
"""

import codecs
import csv
import io
import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from tutti.datasets.errors import IntegrityError, UsageError
from tutti.datasets.record import ABSENT, PRESENT, Clip, Label, Labels, Media, Recording, Seconds, clip_id
from tutti.datasets.source import Card, LocalFile, RemoteFile
from tutti.datasets.taxonomy import IRMAS_INSTRUMENTS

CARD = Card(
    title="AudioSet: an ontology and human-labeled dataset for audio events",
    homepage="https://research.google.com/audioset/",
    license="CC-BY-4.0",
    license_url="https://creativecommons.org/licenses/by/4.0/",
    license_note="Labels CC BY 4.0, ontology CC BY-SA 4.0; the audio belongs to its uploaders: never pass it on.",
    citation=(
        "J. F. Gemmeke, D. P. W. Ellis, D. Freedman, A. Jansen, W. Lawrence, R. C. Moore, M. Plakal, M. Ritter: "
        "Audio Set: an ontology and human-labeled dataset for audio events. ICASSP 2017, pp. 776-780."
    ),
    num_clips=2_084_320,
    size_bytes=105_000_000,  # label files; each ten-second video adds about 1 MB
)

_CSV = "https://storage.googleapis.com/us_audioset/youtube_corpus/v1/csv"
REMOTES = (
    RemoteFile(
        "balanced",
        f"{_CSV}/balanced_train_segments.csv",
        md5="0ec13c62ec25d1148b9bf3390dee8bd7",
        sha256="3b83e5ff9ed72cfda37d4e36ce08250e107c1ea70f109f6ab6668ac200db5e94",
    ),
    RemoteFile("unbalanced", f"{_CSV}/unbalanced_train_segments.csv"),  # nobody published a checksum
    RemoteFile(
        "eval",
        f"{_CSV}/eval_segments.csv",
        md5="85e796902a4e6a0898980a55f86b55f3",
        sha256="f7055f53935f70e74e39494a5c8c4c78f1700fce275028bd36e31186f33d45db",
    ),
    RemoteFile(
        "labels",
        f"{_CSV}/class_labels_indices.csv",
        md5="68c0b5c199d6cc789852b144cc3ab500",
        sha256="cdd1049833c4b86127c2773ac0d14a2754b6a6d0d1798002ed5c66e699708429",
    ),
    RemoteFile(
        "ontology",
        "https://raw.githubusercontent.com/audioset/ontology/master/ontology.json",
        md5="4880cd66e698acc00c5ee0757e23b993",
        sha256="9c685f4403eecc3ca9be37fd7285cf212feaaea6ff7229d3e7ca89e0d1f2d15d",
    ),
)
INSTRUMENTS = (*IRMAS_INSTRUMENTS, "guitar")
PARTITIONS = ("balanced_train", "unbalanced_train", "eval")

PARTITION_OF = {"balanced": "balanced_train", "unbalanced": "unbalanced_train", "eval": "eval"}
CLIP_LICENSE = "LicenseRef-YouTube-uploader"  # per video; not in the CSVs
CORE_MIDS = {
    "/m/01xqw": "cello",
    "/m/01wy6": "clarinet",
    "/m/0l14j_": "flute",
    "/m/042v_gx": "acoustic_guitar",
    "/m/02sgy": "electric_guitar",
    "/m/013y1f": "organ",
    "/m/05r5c": "piano",
    "/m/06ncr": "saxophone",
    "/m/07gql": "trumpet",
    "/m/07y_7": "violin",
    "/m/015lz1": "voice",  # singing
}
ADDED_MIDS = {
    "/m/06w87": "electric_guitar",  # steel or slide guitar
    "/m/03xq_f": "organ",  # electronic organ
    "/m/03gvt": "organ",  # Hammond organ
    "/m/01s0ps": "piano",  # electric piano
    "/m/0d8_n": "violin",  # pizzicato, which may be a cello's
    "/t/dd00003": "voice",  # male singing
    "/t/dd00004": "voice",  # female singing
    "/t/dd00005": "voice",  # child singing
    "/m/06bxc": "voice",  # rapping
    "/m/0l14jd": "voice",  # choir
    "/m/0y4f8": "voice",  # vocal music
}
GENERIC_GUITAR_MID = "/m/0342h"  # acoustic or electric: the CSV does not say

_YOUTUBE_ID = re.compile(r"[A-Za-z0-9_-]{11}")
_SECONDS = re.compile(r"\d{1,7}(\.\d{1,9})?", re.ASCII)
_REDO = "download the file again"

Selection = Literal["single", "any"]
Others = Literal["unknown", "absent"]


@dataclass(frozen=True)
class Config:
    """Selection of segments, and labels of the classes that they do not list."""

    selection: Selection = "single"  # exactly one of our classes, as in Lumen 2023; "any": one or more
    others: Others = "unknown"  # positives only; "absent": Lumen 2023's reading, of an unnamed guitar's kinds too
    ontology_closure: bool = False  # a class below one of ours in the ontology counts as ours
    added_mids: bool = False  # also the classes of ADDED_MIDS, some of them ambiguous
    generic_guitar: bool = False  # "Guitar" with neither kind named is the class `guitar`, to be told apart later

    def __post_init__(self) -> None:
        """Refuse a value that no branch would understand."""
        for name, known in (("selection", get_args(Selection)), ("others", get_args(Others))):
            if getattr(self, name) not in known:
                raise UsageError(f"audioset: {name}={getattr(self, name)!r}; choose one of {', '.join(known)}")


@dataclass(frozen=True, slots=True)
class Segment:
    """One row of a segments file."""

    youtube_id: str
    start_s: Seconds
    end_s: Seconds
    mids: tuple[str, ...]


def read(files: Mapping[str, LocalFile], config: Config) -> Iterator[Recording]:
    """Read the segments with an instrument of ours, row by row; two million rows are never held.

    Raises:
        IntegrityError: a row is damaged, names a class that is not in use, or is selected twice.
    """
    known_mids = parse_class_index(_text(files["labels"]), _name(files["labels"]))
    children = parse_ontology(_text(files["ontology"]), _name(files["ontology"])) if config.ontology_closure else {}
    table = mids_in_force(config, children)
    seen: set[str] = set()  # ids of selected segments only
    for remote_name, partition in PARTITION_OF.items():
        file = files[remote_name]
        for line, segment in _read_segments(file):
            unknown = [mid for mid in segment.mids if mid not in known_mids]
            if unknown:
                raise IntegrityError(
                    f"{_name(file)}:{line}: {', '.join(unknown)} is no class of {_name(files['labels'])}; {_REDO}"
                )
            present = instruments_of(segment.mids, table)
            if not present or (config.selection == "single" and len(present) > 1):
                continue
            clip = _clip(segment, partition, labels_of(present, config.others))
            if clip.id in seen:
                raise IntegrityError(f"{_name(file)}:{line}: {clip.id} is listed for the second time; {_REDO}")
            seen.add(clip.id)
            yield Recording(Media(f"https://www.youtube.com/watch?v={segment.youtube_id}"), (clip,))


def parse_segments(lines: Iterable[str], name: str) -> Iterator[tuple[int, Segment]]:
    """Parse rows of a segments file with their line numbers; header and empty lines are passed over.

    Raises:
        IntegrityError: a row is damaged; the message names file and line.
    """
    for number, line in enumerate(lines, start=1):
        if not line.startswith("#") and not line.isspace():
            yield number, parse_segment(line, f"{name}:{number}")


def parse_segment(line: str, where: str) -> Segment:
    """Read one row: id, start, end, quoted classes.

    Args:
        line: with or without its end of line.
        where: file and line, for errors.

    Raises:
        IntegrityError: not four fields, an impossible id or time, or no class.
    """
    try:  # row by row: an unclosed quote must not swallow the rows that follow
        fields = next(csv.reader([line.rstrip("\r\n")], skipinitialspace=True, strict=True), [])
    except csv.Error as error:
        raise IntegrityError(f"{where}: {error}; {_REDO}") from error
    if len(fields) != 4:
        raise IntegrityError(f"{where}: {len(fields)} fields instead of id, start, end, classes; {_REDO}")
    youtube_id, start, end, classes = fields
    if not _YOUTUBE_ID.fullmatch(youtube_id):
        raise IntegrityError(f"{where}: {youtube_id!r} is not an 11-character YouTube id; {_REDO}")
    if not _SECONDS.fullmatch(start) or not _SECONDS.fullmatch(end) or not float(start) < float(end):
        raise IntegrityError(f"{where}: {start!r} to {end!r} is no time span in seconds; {_REDO}")
    mids = tuple(classes.split(","))
    if not all(mids):
        raise IntegrityError(f"{where}: {classes!r} is no list of classes; {_REDO}")
    return Segment(youtube_id, float(start), float(end), mids)


def parse_class_index(text: str, name: str) -> frozenset[str]:
    """Parse the MIDs of the classes in use.

    Raises:
        IntegrityError: another header, or a row that is not index, MID, name.
    """
    reader = csv.reader(text.splitlines(), strict=True)
    try:
        header, *rows = list(reader) or [[]]
    except csv.Error as error:
        raise IntegrityError(f"{name}:{reader.line_num}: {error}; {_REDO}") from error
    if header != ["index", "mid", "display_name"]:
        raise IntegrityError(f"{name}:1: header is {','.join(header)!r}, not 'index,mid,display_name'; {_REDO}")
    for number, row in enumerate(rows, start=2):
        if len(row) != 3:
            raise IntegrityError(f"{name}:{number}: {len(row)} fields instead of 3; {_REDO}")
    return frozenset(mid for _, mid, _ in rows)


def parse_ontology(text: str, name: str) -> dict[str, tuple[str, ...]]:
    """Parse the children of every node.

    Raises:
        IntegrityError: not a JSON list of nodes with id and child_ids.
    """
    try:
        return {node["id"]: tuple(node["child_ids"]) for node in json.loads(text)}
    except (ValueError, KeyError, TypeError) as error:
        raise IntegrityError(f"{name}: is no list of nodes with id and child_ids ({error!r}); {_REDO}") from error


def mids_in_force(config: Config, children: Mapping[str, tuple[str, ...]]) -> dict[str, str]:
    """Map MIDs to instruments, as the switches select.

    Args:
        config: the switches.
        children: of every node of the ontology; read for `ontology_closure` only.
    """
    table = {**CORE_MIDS, **(ADDED_MIDS if config.added_mids else {})}
    if config.ontology_closure:
        # Only below the eleven: under "Guitar" the ontology also has the bass guitar.
        table = {below: name for mid, name in table.items() for below in _descendants(mid, children)} | table
    return {**table, GENERIC_GUITAR_MID: "guitar"} if config.generic_guitar else table


def instruments_of(mids: Iterable[str], table: Mapping[str, str]) -> tuple[str, ...]:
    """List the instruments of a row, in the order of INSTRUMENTS; `guitar` only where no kind is named."""
    found = {table[mid] for mid in mids if mid in table}
    if not found.isdisjoint({"acoustic_guitar", "electric_guitar"}):
        found.discard("guitar")
    return tuple(name for name in INSTRUMENTS if name in found)


def labels_of(present: Collection[str], others: Others) -> Labels:
    """Label a row's instruments as present and, with `others` absent, the rest of the eleven as absent."""
    labels = {name: Label(PRESENT, "weak") for name in present}
    if others == "unknown":
        return labels
    # Of a guitar whose kind nobody names, neither kind is absent.
    open_kinds = {"acoustic_guitar", "electric_guitar"} if "guitar" in present else set()
    assumed = {name: Label(ABSENT, "weak") for name in IRMAS_INSTRUMENTS if name not in open_kinds}
    return {**assumed, **labels}


def _clip(segment: Segment, partition: str, labels: Labels) -> Clip:
    return Clip(
        id=clip_id("audioset", segment.youtube_id, segment.start_s),
        source="audioset",
        recording=segment.youtube_id,
        group=f"audioset/{segment.youtube_id}",
        partition=partition,
        labels=labels,
        license=CLIP_LICENSE,
        start_s=segment.start_s,
        end_s=segment.end_s,
        declared_s=round(segment.end_s - segment.start_s, 6),
    )


def _descendants(mid: str, children: Mapping[str, tuple[str, ...]]) -> set[str]:
    found: set[str] = set()
    waiting = [mid]
    while waiting:
        new = set(children.get(waiting.pop(), ())) - found  # a node may have two parents
        found |= new
        waiting.extend(new)
    return found


def _read_segments(file: LocalFile) -> Iterator[tuple[int, Segment]]:
    with file.path.open("rb") as data, io.TextIOWrapper(data, encoding="ascii") as stream:
        if data.peek(3)[:3] == codecs.BOM_UTF8:  # an editor's
            data.seek(3)
        try:
            yield from parse_segments(stream, _name(file))
        except UnicodeDecodeError as error:
            raise IntegrityError(f"{_name(file)}: is not plain text ({error}); {_REDO}") from error


def _text(file: LocalFile) -> str:
    try:
        return file.path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise IntegrityError(f"{_name(file)}: is not UTF-8 text ({error}); {_REDO}") from error


def _name(file: LocalFile) -> str:
    return file.remote.url.rpartition("/")[2]
