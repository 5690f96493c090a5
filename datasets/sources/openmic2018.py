"""OpenMIC-2018: 20,000 clips of 10 s from the Free Music Archive, 20 instruments (Humphrey et al. 2018).

    openmic-2018/audio/<key[:3]>/<key>.ogg            key = <FMA track, 6 digits>_<start in ms>
    openmic-2018/openmic-2018-aggregated-labels.csv   sample_key,instrument,relevance,num_responses
    openmic-2018/openmic-2018-metadata.csv            41 columns; artist_id, license_url, sample_key; HTML, newlines
    openmic-2018/partitions/split01_{train,test}.csv  one key a line, no header; no artist on both sides

The crowd was asked about some two of the twenty classes per clip: what was not asked is unknown,
not absent. `openmic-2018.npz` holds the same labels but needs unpickling: it is never opened. Every
track keeps its own licence. "guitar" may be acoustic or electric.
"""

import csv
import io
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from tutti.datasets.archive import Archive, open_archive
from tutti.datasets.errors import IntegrityError, UsageError
from tutti.datasets.record import ABSENT, PRESENT, Clip, Label, Labels, Media, Recording, clip_id
from tutti.datasets.source import Card, LocalFile, RemoteFile

CARD = Card(
    title="OpenMIC-2018: an open dataset for multiple instrument recognition",
    homepage="https://github.com/cosmir/openmic-2018",
    license="CC-BY-4.0",
    license_url="https://creativecommons.org/licenses/by/4.0/",
    license_note="Labels CC BY 4.0; each track keeps its own Free Music Archive licence, carried per clip.",
    citation=(
        "E. J. Humphrey, S. Durand, B. McFee: OpenMIC-2018: an open dataset for multiple instrument "
        "recognition. ISMIR 2018, pp. 438-444."
    ),
    num_clips=20_000,
    size_bytes=2_500_000_000,
)

REMOTES = (
    RemoteFile(
        "archive",
        "https://zenodo.org/records/1432913/files/openmic-2018-v1.0.0.tgz",
        md5="e4ccf187e2bb5ab2e115416e8aafe7f4",
        mirrors=("https://zenodo.org/api/records/1432913/files/openmic-2018-v1.0.0.tgz/content",),
    ),
)
INSTRUMENTS = (  # in the order of class-map.json
    "accordion",
    "banjo",
    "bass",
    "cello",
    "clarinet",
    "cymbals",
    "drums",
    "flute",
    "guitar",
    "mallet_percussion",
    "mandolin",
    "organ",
    "piano",
    "saxophone",
    "synthesizer",
    "trombone",
    "trumpet",
    "ukulele",
    "violin",
    "voice",
)
PARTITIONS = ("train", "test")

CLIP_DURATION_S = 10.0
ROOT = "openmic-2018"
LABELS_CSV = "openmic-2018-aggregated-labels.csv"
METADATA_CSV = "openmic-2018-metadata.csv"
LABELS_HEADER = ["sample_key", "instrument", "relevance", "num_responses"]

_KEY = re.compile(r"\d{6}_\d+", re.ASCII)
_REDO = "download the archive again"

Mode = Literal["ternary", "lumen"]


@dataclass(frozen=True)
class Config:
    """Conversion of relevance, the crowd's belief in [0, 1] that an instrument plays, to presence."""

    mode: Mode = "ternary"  # "lumen": present or absent and nothing between, as in Lumen 2023
    min_relevance: float = 0.5  # ternary: present from here on; the data set's own baseline
    lumen_relevance: float = 0.8  # lumen: present above; all else, asked or not, is absent

    def __post_init__(self) -> None:
        """Refuse a mode that does not exist and thresholds outside [0, 1]."""
        if self.mode not in get_args(Mode):
            raise UsageError(f"openmic2018: mode={self.mode!r}; choose one of {', '.join(get_args(Mode))}")
        for name in ("min_relevance", "lumen_relevance"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise UsageError(f"openmic2018: {name}={getattr(self, name)}; a relevance lies in [0, 1]")


@dataclass(frozen=True)
class Track:
    """The metadata of a clip's track; empty where a field is missing."""

    artist_id: str
    license: str  # URL or, without one, title


def read(files: Mapping[str, LocalFile], config: Config) -> Iterator[Recording]:
    """Read all clips, in the order of the archive.

    Raises:
        IntegrityError: a table is damaged, or audio, labels and partitions do not fit together.
    """
    (remote,) = REMOTES
    file = files[remote.name]
    archive_name = remote.url.rpartition("/")[2]
    archive = open_archive(file.path, archive_name)
    partitions = merge_partitions(
        {name: parse_partition(*_text(archive, f"partitions/split01_{name}.csv")) for name in PARTITIONS}
    )
    relevances = parse_labels(*_text(archive, LABELS_CSV))
    for labelled, (_, line) in relevances.items():
        if labelled not in partitions:
            raise IntegrityError(f"{LABELS_CSV}:{line}: {labelled} is in neither partition; {_REDO}")
    tracks = parse_metadata(*_text(archive, METADATA_CSV))
    for member in archive.names():
        key = _audio_key(member)
        if key is None:
            continue
        if key not in partitions:
            raise IntegrityError(f"{archive_name}: member {member!r} is in neither partition; {_REDO}")
        relevance, _ = relevances.get(key, ({}, 0))
        clip = Clip(
            id=clip_id("openmic2018", key),
            source="openmic2018",
            recording=key,
            group=group_of(key, tracks.get(key)),
            partition=partitions[key],
            labels=labels_of(relevance, config),
            license=(tracks[key].license if key in tracks else "") or "unknown",
            declared_s=CLIP_DURATION_S,
        )
        yield Recording(Media(remote.url, member, file.sha256), (clip,))


def parse_partition(text: str, name: str) -> tuple[str, ...]:
    """Parse the keys of one partition file.

    Raises:
        IntegrityError: a line is no key, or a key stands twice.
    """
    keys: dict[str, None] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        key = line.strip()
        if not _KEY.fullmatch(key):
            raise IntegrityError(f"{name}:{number}: {key!r} is not a sample key such as 000046_3840; {_REDO}")
        if key in keys:
            raise IntegrityError(f"{name}:{number}: {key} stands twice; {_REDO}")
        keys[key] = None
    return tuple(keys)


def merge_partitions(keys: Mapping[str, tuple[str, ...]]) -> dict[str, str]:
    """Merge the partition files to the partition of every key.

    Raises:
        IntegrityError: a key is in two partitions.
    """
    partitions: dict[str, str] = {}
    for partition, members in keys.items():
        for key in members:
            if key in partitions:
                raise IntegrityError(f"split01: {key} is in both {partitions[key]} and {partition}; {_REDO}")
            partitions[key] = partition
    return partitions


def parse_labels(text: str, name: str) -> dict[str, tuple[dict[str, float], int]]:
    """Parse by key the relevance in [0, 1] of every annotated instrument, and the key's first line.

    Raises:
        IntegrityError: another header, or a row that is damaged or repeated.
    """
    labels: dict[str, tuple[dict[str, float], int]] = {}
    rows = _rows(text, name)
    _, header = next(rows, (0, []))
    if header != LABELS_HEADER:
        raise IntegrityError(f"{name}:1: header is {','.join(header)!r}, not {','.join(LABELS_HEADER)!r}; {_REDO}")
    for line, row in rows:
        if len(row) != len(LABELS_HEADER):
            raise IntegrityError(f"{name}:{line}: {len(row)} fields instead of {len(LABELS_HEADER)}; {_REDO}")
        key, instrument, relevance, _ = row
        if not _KEY.fullmatch(key):
            raise IntegrityError(f"{name}:{line}: {key!r} is not a sample key such as 000046_3840; {_REDO}")
        if instrument not in INSTRUMENTS:
            raise IntegrityError(f"{name}:{line}: unknown instrument {instrument!r}; {_REDO}")
        relevances, _ = labels.setdefault(key, ({}, line))
        if instrument in relevances:
            raise IntegrityError(f"{name}:{line}: {instrument} of {key} stands twice; {_REDO}")
        relevances[instrument] = _relevance(relevance, f"{name}:{line}")
    return labels


def parse_metadata(text: str, name: str) -> dict[str, Track]:
    """Parse artist and licence by sample key.

    Raises:
        IntegrityError: a needed column is missing, or a row is damaged or repeated.
    """
    tracks: dict[str, Track] = {}
    rows = _rows(text, name)
    _, header = next(rows, (0, []))
    missing = [column for column in ("sample_key", "artist_id", "license_url", "license_title") if column not in header]
    if missing:
        raise IntegrityError(f"{name}:1: lacks column {', '.join(missing)}; {_REDO}")
    for line, row in rows:
        if len(row) != len(header):
            raise IntegrityError(f"{name}:{line}: {len(row)} fields instead of {len(header)}; {_REDO}")
        fields = {column: value.strip() for column, value in zip(header, row, strict=True)}
        key = fields["sample_key"]
        if not _KEY.fullmatch(key):
            raise IntegrityError(f"{name}:{line}: {key!r} is not a sample key such as 000046_3840; {_REDO}")
        if key in tracks:
            raise IntegrityError(f"{name}:{line}: {key} stands twice; {_REDO}")
        tracks[key] = Track(fields["artist_id"], fields["license_url"] or fields["license_title"])
    return tracks


def labels_of(relevances: Mapping[str, float], config: Config) -> Labels:
    """Label one clip; `confidence` is the crowd's relevance, for instruments that were annotated."""
    if config.mode == "ternary":
        return {name: _label(value, value >= config.min_relevance) for name, value in relevances.items()}
    # Nobody was asked about the rest: an absence there is an assumption, hence "weak".
    assumed = {name: Label(ABSENT, "weak") for name in INSTRUMENTS}
    return {**assumed, **{name: _label(value, value > config.lumen_relevance) for name, value in relevances.items()}}


def group_of(key: str, track: Track | None) -> str:
    """Group a clip by artist where known, for official splits are disjoint by artist; else by track."""
    if track is not None and track.artist_id:
        return f"openmic2018/artist:{track.artist_id}"
    return f"openmic2018/track:{int(key.partition('_')[0])}"


def _label(relevance: float, present: bool) -> Label:
    return Label(PRESENT if present else ABSENT, "crowd", round(relevance, 6))


def _relevance(text: str, where: str) -> float:
    try:
        relevance = float(text)
    except ValueError:
        relevance = math.nan
    if not 0.0 <= relevance <= 1.0:
        raise IntegrityError(f"{where}: relevance {text!r} is no number in [0, 1]; {_REDO}")
    return relevance


def _audio_key(member: str) -> str | None:
    if not member.startswith(f"{ROOT}/audio/") or not member.endswith(".ogg"):
        return None
    folder, _, name = member.removeprefix(f"{ROOT}/audio/").rpartition("/")
    if name.startswith("._"):  # what macOS puts beside a file
        return None
    key = name.removesuffix(".ogg")
    if not _KEY.fullmatch(key) or folder != key[:3]:
        raise IntegrityError(f"{member}: audio is named audio/<first three digits>/<sample key>.ogg; {_REDO}")
    return key


def _text(archive: Archive, name: str) -> tuple[str, str]:
    try:
        return archive.read(f"{ROOT}/{name}").decode("utf-8"), name
    except UnicodeDecodeError as error:
        raise IntegrityError(f"{name}: is not UTF-8 text ({error}); {_REDO}") from error


def _rows(text: str, name: str) -> Iterator[tuple[int, list[str]]]:
    """Parse CSV rows with the line of the file that they end in: a quoted field may span several lines."""
    csv.field_size_limit(1 << 24)  # process-wide, only ever raised: liner notes may pass the default 128 KiB
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        for row in reader:
            if row:
                yield reader.line_num, row
    except csv.Error as error:
        raise IntegrityError(f"{name}:{reader.line_num}: {error}; {_REDO}") from error
