"""ESC-50: 2,000 recordings of five seconds, 50 classes of environmental sounds (Piczak 2015): noises behind music.

    ESC-50-master/audio/1-100032-A-0.wav     44.1 kHz, mono: <fold>-<Freesound id>-<take>-<target>.wav
    ESC-50-master/meta/esc50.csv             filename,fold,target,category,esc10,src_file,take

No instrument plays in them, so all are absent, but for what a category may hold: people make sounds with their voices,
church bells are struck. Recordings that were cut from one Freesound file are of one fold and one group. A clip of zeros
behind a short sound is upstream's padding.

    python -m pipelines.build --dataset esc50        then    python -m train.run --set noises=build/esc50
"""

import csv
import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from tutti.datasets.archive import Archive, open_archive
from tutti.datasets.errors import IntegrityError
from tutti.datasets.hierarchy import OUTPUTS
from tutti.datasets.record import ABSENT, Clip, Defect, Label, Media, Recording, clip_id
from tutti.datasets.source import Card, LocalFile, RemoteFile
from tutti.datasets.taxonomy import INSTRUMENTS as TAXONOMY

CARD = Card(
    title="ESC-50: environmental sound classification",
    homepage="https://github.com/karolpiczak/ESC-50",
    license="CC-BY-NC-3.0",
    license_url="https://creativecommons.org/licenses/by-nc/3.0/",
    license_note="Free for research, with attribution; not for commercial use. Its authors are named in its LICENSE.",
    citation="K. J. Piczak: ESC: Dataset for environmental sound classification. ACM Multimedia 2015, pp. 1015-1018.",
    num_clips=2_000,
    size_bytes=645_000_000,
)

# The archive is made anew for each download: no checksum holds for long.
REMOTES = (
    RemoteFile(
        "archive",
        "https://github.com/karolpiczak/ESC-50/archive/master.zip",
        mirrors=("https://github.com/karoldvl/ESC-50/archive/master.zip",),
        redirect_hosts=("codeload.github.com",),
    ),
)
INSTRUMENTS = tuple(TAXONOMY)
PARTITIONS = ("fold1", "fold2", "fold3", "fold4", "fold5")

_COLUMNS = ("filename", "fold", "category", "src_file")
_VOICES = frozenset(("breathing", "coughing", "crying_baby", "laughing", "sneezing", "snoring"))
# Classes of the taxonomy, and outputs of hierarchy.py, that a category may hold.
_POSSIBLE = dict.fromkeys(_VOICES, frozenset(("voice", "singer"))) | {
    "church_bells": frozenset(("mallet_percussion", "percussion")),
    "clock_alarm": frozenset(("mallet_percussion", "percussion", "synthesizer", "synth")),
    "clapping": frozenset(("percussion",)),
}
_REDO = "download the archive again"


@dataclass(frozen=True)
class Config:
    """Nothing to choose."""


def read(files: Mapping[str, LocalFile], config: Config) -> Iterator[Recording]:
    """Read all recordings that the table lists; one of which there is no file is a row that says so.

    Raises:
        IntegrityError: the table is missing, or cannot be understood.
    """
    del config
    file = files["archive"]
    name = file.remote.url.rpartition("/")[2]
    archive = open_archive(file.path, name)
    members = {_below_root(member): member for member in archive.names()}
    listed: set[str] = set()
    for line, fields in _rows(archive, members.get("meta/esc50.csv"), name):
        key = fields["filename"]
        where = f"{name}: esc50.csv:{line}"
        if fields["fold"] not in ("1", "2", "3", "4", "5") or "/" in key or not key:
            raise IntegrityError(f"{where}: {key[:60]!r} of fold {fields['fold'][:20]!r}; expected 1 to 5; {_REDO}")
        if key in listed:
            raise IntegrityError(f"{where}: {key!r} stands twice; {_REDO}")
        listed.add(key)
        member = members.get(f"audio/{key}")
        labels = _absent(TAXONOMY, fields["category"])
        clip = Clip(
            id=clip_id("esc50", key),
            source="esc50",
            recording=key,
            group=f"esc50/{fields['src_file'] or key}",
            partition=f"fold{fields['fold']}",
            labels=labels,
            hierarchy=_absent(OUTPUTS, fields["category"]),
            license=CARD.license,
            defect=None if member else Defect("missing_audio", detail=f"{where}: there is no audio/{key}"),
        )
        media = Media(file.remote.url, member, file.sha256) if member else Media(f"missing:esc50/{key}")
        yield Recording(media, (clip,))


def _below_root(member: str) -> str:
    """Cut the folder of the archive's name off: `ESC-50-master`, or of another branch."""
    return member.partition("/")[2]


def _rows(archive: Archive, member: str | None, name: str) -> Iterator[tuple[int, dict[str, str]]]:
    if member is None:
        raise IntegrityError(f"{name}: holds no meta/esc50.csv; {_REDO}")
    try:
        reader = csv.DictReader(io.StringIO(archive.read(member).decode("utf-8-sig"), newline=""), strict=True)
        if missing := [column for column in _COLUMNS if column not in (reader.fieldnames or ())]:
            raise IntegrityError(f"{name}: esc50.csv has no column {missing[0]!r}; {_REDO}")
        for row in reader:
            yield reader.line_num, {column: row[column] or "" for column in _COLUMNS}
    except (csv.Error, UnicodeDecodeError) as error:
        raise IntegrityError(f"{name}: esc50.csv cannot be read ({error}); {_REDO}") from error


def _absent(names: Mapping[str, object] | tuple[str, ...], category: str) -> dict[str, Label]:
    possible = _POSSIBLE.get(category, frozenset())
    return {name: Label(ABSENT, "weak") for name in names if name not in possible}
