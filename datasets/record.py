"""The typed rows that flow through a build. None of them holds samples.

`Recording` (one upstream audio file) -> `Clip` (an excerpt of it, with labels) -> the same clip
with its `StoredAudio` -> the same clip with its split; or, at any point, `Rejected`.
Rows are immutable: a stage answers a new one (`dataclasses.replace`).
"""

import operator
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, TypeAlias, TypeVar

from tutti.datasets.printable import in_unicode

Seconds: TypeAlias = float
Decibels: TypeAlias = float
Lufs: TypeAlias = float  # loudness units relative to full scale, ITU-R BS.1770

PRESENT, ABSENT, UNKNOWN = 1, 0, -1
SPLITS = ("train", "validation", "test")


Class = TypeVar("Class", bound=type)


def _travels_light(row_class: Class) -> Class:
    """Pickle rows as their values in order: a third of the time of what dataclasses do, which name all fields.

    A row is pickled some thirty times on its way through a build.
    """
    values_of = operator.attrgetter(*(field.name for field in fields(row_class)))

    def reduce(self: Any) -> tuple[type, tuple[Any, ...]]:
        return row_class, values_of(self)

    row_class.__reduce__ = reduce  # type: ignore[assignment]
    return row_class


@_travels_light
@dataclass(frozen=True, slots=True)
class Label:
    """One annotation of one instrument in one clip; no label means unknown."""

    presence: int  # PRESENT or ABSENT
    origin: str  # "human", "crowd", "weak", "score" (the notes of its score) or "pseudo:<digest of inputs>"
    confidence: float | None = None  # belief that the instrument is present, in [0, 1]


Labels: TypeAlias = Mapping[str, Label]  # instrument -> label; an instrument left out is unknown


DRUMS = 128  # program of notes on MIDI's percussion channel: one above the 128 of General MIDI


@_travels_light
@dataclass(frozen=True, slots=True)
class Note:
    """One note of a score."""

    onset_s: Seconds
    offset_s: Seconds  # > onset_s
    pitch: int  # MIDI note number, 69 = A4
    program: int  # General MIDI program, 0-based, or DRUMS
    instrument: str | None  # taxonomy name; None: a program that no class stands for
    velocity: int  # 1 .. 127


@_travels_light
@dataclass(frozen=True, slots=True)
class Track:
    """The place of a clip in a song of several tracks: one of its stems, or the mix of them."""

    song: str  # key of the song, unique in its source: all its stems and its mix have it
    stem: str | None  # name of the stem within the song; None: the mix
    instrument: str | None = None  # what plays, in the corpus's own words; None: a mix, or not said
    family: str | None = None  # of hierarchy.FAMILIES; None: a mix, several, or unknown
    artist: str | None = None  # as upstream writes it
    artist_group: str | None = None  # the artist folded by `hierarchy.fold_artist`: one for all spellings and corpora
    album: str | None = None
    bleed: bool = False  # other instruments of the song are heard too, faintly


@_travels_light
@dataclass(frozen=True, slots=True)
class Sounding:
    """The spans in which one stem sounds, and what is heard then; all other classes are absent from it."""

    stem: str
    spans: tuple[tuple[Seconds, Seconds], ...]  # onset and end in seconds of the clip, in order, without overlap
    present: tuple[str, ...] = ()  # classes, sorted
    unknown: tuple[str, ...] = ()  # classes of which nobody knows, sorted


@_travels_light
@dataclass(frozen=True, slots=True)
class Alignment:
    """The delay of a recording against its score."""

    delay_s: Seconds  # score time + delay_s = time in the recording
    score: float  # correlation of the two at that delay, in [-1, 1]; see pipelines/decoding/align.py


@_travels_light
@dataclass(frozen=True, slots=True)
class Defect:
    """A reader's finding against one clip; the others of its corpus are well."""

    reason: str  # one word of the vocabulary in manifests/README.md
    value: float | None = None  # the quantity that decided, where there is one
    detail: str = ""  # for people


@_travels_light
@dataclass(frozen=True, slots=True)
class Published:
    """A publisher's word on an archive that is streamed, never kept, and on one member of it."""

    member_sha256: str | None = None  # None: it lists none
    archive_sha256: str | None = None  # likewise
    mirrors: tuple[str, ...] = ()  # other addresses of the archive, asked where its own fails


@_travels_light
@dataclass(frozen=True, slots=True)
class Media:
    """A reference to the bytes of a recording: a remote file, or a member of a remote archive."""

    url: str  # canonical upstream URL, never a mirror's
    member: str | None = None  # repaired name inside the archive
    sha256: str | None = None  # of the remote file; None until it is in the cache
    offset_s: Seconds = 0.0  # where in the recording the file begins: 0 but for a ready-cut clip
    published: Published | None = None  # of a member of an archive that is streamed: only members get into the cache


@_travels_light
@dataclass(frozen=True, slots=True)
class StoredAudio:
    """Facts of a prepared clip; the samples lie in the cache as a mono FLAC named by `blob`."""

    blob: str  # sha256 of the FLAC file
    pcm_sha256: str  # of the stored PCM: mono int16, little-endian
    native_sha256: str  # of the decoded excerpt as mono int16, little-endian, at its native rate
    source_sha256: str  # of the upstream file that was decoded
    sample_rate: int
    num_samples: int
    native_sample_rate: int
    native_num_samples: int
    num_channels: int  # of the upstream file, before the mono mix
    codec: str  # "WAV/PCM_16", "OGG/VORBIS", "webm/opus", ...
    decoder: str  # "libsndfile" or "pyav"
    silence_share: float  # share of native mono samples within the silence amplitude of zero, or of a constant offset
    loudness_lufs: Lufs | None  # of the stored audio; None: not measurable
    gain_db: Decibels  # applied to reach the stored audio
    true_peak_dbtp: Decibels | None  # of the stored audio; None: digital silence
    complete: bool  # False: the container ends before its own end mark
    mean_amplitude: float | None = None  # of the native mono samples, of full scale; None: not measured
    sketch: str = "0" * 16  # coarse fingerprint of the stored samples, see datasets/sketch.py
    clipped_share: float | None = None  # of the native samples of all channels; None: not measured
    bit_rate: int | None = None  # bits of the upstream file per second, with its picture if it has one; None: lossless
    active: tuple[tuple[Seconds, Seconds], ...] | None = None  # when a stem sounds; None: no stem, not measured
    gap_s: Seconds = 0.0  # of silence within the clip, where its container has no sound: a hole, a late start
    damaged_s: Seconds = 0.0  # of the clip that its file lost or no decoder could read; silence stands there
    stored_silence_share: float = 0.0  # as silence_share, of the stored samples
    spike_db: Decibels | None = None  # of the peak above what the loudest 5 ms reach; None: less than 30
    cancelled_db: Decibels | None = None  # that the mean of the channels loses; None: one channel, or far from that
    flatness: float | None = None  # of a stem's mean spectrum, in [0, 1]: 1 is white noise; None: not measured


@_travels_light
@dataclass(frozen=True, slots=True)
class Clip:
    """An excerpt of a recording. `id` is stable for ever: `source/upstream-key@start_ms`."""

    id: str
    source: str
    recording: str  # upstream key: the path in the archive, or the video id
    group: str  # song, or what else must not straddle a split; prefixed with the source
    partition: str  # upstream's own division: "train", "test", "balanced_train", ...
    labels: Labels = field(default_factory=dict)
    license: str = "unknown"  # identifier or URL
    start_s: Seconds = 0.0
    end_s: Seconds | None = None  # None: the end of the recording
    declared_s: Seconds | None = None  # duration that upstream promises; None: no promise
    acquired: str | None = None  # how its audio was had: "archive", "mirror", "full", "section", "own", "rendered"
    audio: StoredAudio | None = None  # set by prepare
    embedding: str | None = None  # blob of its vector, set by embed
    fingerprint: str | None = None  # blob of its audio fingerprint, set by embed
    quality: float | None = None  # cleanlab label quality in [0, 1], set by curate
    notes: tuple[Note, ...] | None = None  # what sounds, in seconds of the clip; None: no corpus says
    track: Track | None = None  # its song, where it is a stem or the mix of stems
    sounding: tuple[Sounding, ...] | None = None  # by stem; of a reader: from files of activity; set by songs
    hierarchy: Labels | None = None  # labels of hierarchy.OUTPUTS, of a reader that knows more than the classes say
    score_repairs: int = 0  # what was amiss in the file of its score and cost no note
    alignment: Alignment | None = None  # set by prepare where the recording has a score; corrected already
    defect: Defect | None = None  # set by a reader; select rejects the clip for it
    split: str | None = None  # set by split
    shard: str | None = None  # path of its shard within the version folder, set by split


@_travels_light
@dataclass(frozen=True, slots=True)
class Recording:
    """One upstream audio file and the clips that are cut from it."""

    media: Media
    clips: tuple[Clip, ...]
    score: tuple[Note, ...] = ()  # of all of it, also where no clip is: times of clips are then the score's
    parts: tuple[Media, ...] = ()  # stems to add up to this recording, whose own media is then an address of nothing


@_travels_light
@dataclass(frozen=True, slots=True)
class Rejected:
    """A clip that does not enter the dataset, and why. It keeps its row in the manifest."""

    clip: Clip
    stage: str  # file name of the stage in pipelines/stages that rejected it
    reason: str  # one word of the vocabulary in manifests/README.md
    value: float | None = None  # the measured quantity that decided, where there is one
    detail: str = ""  # for people; never part of a digest
    status: str = "rejected"  # "rejected", or "gone" / "pending" where the audio was not to be had


def clip_id(source: str, key: str, start_s: Seconds = 0.0) -> str:
    """Compose an id, `source/key@start_ms`; the key in Unicode NFC, so that one name has one id everywhere.

    Bytes of a name that are no UTF-8 are written out.
    """
    return f"{source}/{unicodedata.normalize('NFC', in_unicode(key))}@{round(start_s * 1000)}"
