"""Rows that travel between stages, beside those of datasets/record.py, in the order of the flow."""

from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from tutti.datasets.manifest import ClipRow
from tutti.datasets.record import ABSENT, PRESENT, UNKNOWN, Clip, Label, Recording, Rejected, Seconds
from tutti.datasets.source import Input, LocalFile


@dataclass(frozen=True)
class SourceFiles:
    """A source whose remote files are all in the cache, and what else it reads here."""

    source: str
    files: tuple[LocalFile, ...]
    inputs: tuple[Input, ...] = ()


@dataclass(frozen=True)
class Song:
    """All rows of one song: what `songs` works on."""

    name: str  # source/song
    clips: tuple[Clip, ...]  # by id
    lost: tuple[Rejected, ...]


@dataclass(frozen=True, slots=True)
class TarJob:
    """A tar on its way, and what is wanted of it: recordings that name it and a member."""

    url: str
    recordings: tuple[Recording, ...]

    @property
    def id(self) -> str:
        """Name for people."""
        return self.url.rpartition("/")[2]


@dataclass(frozen=True, slots=True, order=True)
class Sound:
    """The samples of one clip or more, by reference: what `embed` works on."""

    pcm_sha256: str
    blob: str  # of the stored audio
    num_samples: int
    num_clips: int = 1  # that have these samples


@dataclass(frozen=True, slots=True)
class Embedded:
    """The results of `embed` for samples: blobs."""

    pcm_sha256: str
    embedding: str
    fingerprint: str
    num_clips: int


@dataclass(frozen=True, slots=True)
class ClipSummary:
    """The facts of a clip that the global steps need: one small row."""

    id: str
    source: str
    partition: str
    group: str
    pcm_sha256: str
    presence: Sequence[int]  # (num_instruments,): PRESENT, ABSENT or UNKNOWN; kept as int8, as NSynth has 1,006
    blob: str = ""  # of the stored audio
    num_samples: int = 0
    artist: str = ""  # folded; empty: not known
    generic_guitar: int = UNKNOWN  # a guitar whose kind is not named
    embedding: str | None = None  # blobs, set by embed
    fingerprint: str | None = None

    def __post_init__(self) -> None:
        """Pack the labels: a byte each, where a tuple takes eight."""
        if not isinstance(self.presence, array):
            object.__setattr__(self, "presence", array("b", self.presence))


@dataclass(frozen=True, slots=True, order=True)
class Match:
    """Two clips that hold the same audio; `id_a` < `id_b`."""

    id_a: str
    id_b: str
    offset_s: Seconds  # where b begins in a's time; negative: before a
    overlap_s: Seconds
    overlap_share: float  # of the shorter clip
    score: float  # share of equal bits along the overlap, in (0.5, 1]
    correlation: float | None = None  # of the waveforms, in [0, 1]; None: not looked at


@dataclass(frozen=True)
class Curation:
    """All clips that survived cleaning, and what curation found of them, by id."""

    clips: Sequence[ClipSummary]
    quality: Mapping[str, float] = field(default_factory=dict)
    doubts: Mapping[str, str] = field(default_factory=dict)  # clips to be dropped -> the label in doubt
    labels: Mapping[str, Mapping[str, Label]] = field(default_factory=dict)  # pseudo-labels to add
    matches: tuple[Match, ...] = ()
    report: Mapping[str, Any] = field(default_factory=dict)
    no_class: Mapping[str, str] = field(default_factory=dict)  # clips without a class after all -> why

    def relabelled(self, clip: ClipSummary, instruments: Sequence[str]) -> ClipSummary:
        """Add the pseudo-labels to a summary."""
        added = self.labels.get(clip.id)
        if not added:
            return clip
        given = zip(instruments, clip.presence, strict=True)
        return replace(clip, presence=tuple(added[name].presence if name in added else value for name, value in given))


LABEL_OUTLIER = "label_outlier"  # `curate` doubts a label of the clip
NO_CLASS = "no_class"  # the clip has none of the recipe's classes: `select` leaves it out, or `curate` at last
ON_PURPOSE = frozenset({"excluded", NO_CLASS})  # reasons for which a recipe leaves clips out


@dataclass(frozen=True, slots=True)
class Assignment:
    """Decision of the global steps about one clip."""

    id: str
    group: str  # after joining
    split: str | None = None
    shard: str | None = None
    reason: str | None = None  # set where the clip is rejected
    detail: str = ""
    quality: float | None = None
    labels: tuple[tuple[str, Label], ...] = ()  # pseudo-labels that it gains


@dataclass(frozen=True)
class Certificate:
    """Proof and report of the global steps, for the manifest."""

    split: Mapping[str, Any]
    curation: Mapping[str, Any] | None  # None: a version that is rebuilt says nothing of it


@dataclass(frozen=True)
class SplitPlan:
    """The decision for every clip, and the proof that it is sound."""

    assignments: tuple[Assignment, ...]  # sorted by id
    certificate: dict[str, Any]
    curation: Mapping[str, Any] = field(default_factory=dict)  # report


@dataclass(frozen=True, slots=True)
class Bucket:
    """All rows whose ids fall into one bucket of the manifest."""

    name: str
    rows: tuple[Clip | Rejected | ClipRow, ...]  # a ClipRow is copied as it is


@dataclass(frozen=True)
class BucketInfo:
    """One written file of clip rows."""

    path: str
    num_rows: int
    sha256: str


@dataclass(frozen=True)
class ShardJob:
    """A shard to be written; it may have no clips."""

    path: str
    clips: tuple[Clip, ...]


def reject_line(row: ClipRow) -> str:
    """Format a row that was not kept: `id: reason value, detail`."""
    value = row.get("value")
    measured = "" if value is None else f" {value:.6g}"
    detail = f", {row['detail']}" if row.get("detail") else ""
    return f"{row['id']}: {row['reason']}{measured}{detail}"


def conflict(a: Sequence[int], b: Sequence[int]) -> bool:
    """Whether two label vectors cannot both be right.

    They conflict where one says present and the other absent, and where neither set of present
    instruments contains the other (two "predominant" instruments of one recording).
    """
    if any({x, y} == {PRESENT, ABSENT} for x, y in zip(a, b, strict=True)):
        return True
    present_a = {index for index, value in enumerate(a) if value == PRESENT}
    present_b = {index for index, value in enumerate(b) if value == PRESENT}
    return not (present_a <= present_b or present_b <= present_a)
