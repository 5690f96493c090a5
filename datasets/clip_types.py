"""Checks of a clip row's types and bounds by hand: a few microseconds, where the schema takes a thousand.

`manifest_schema.json` is the contract, and what `row_problems` of the same row says in words; this is the same by hand,
because every row of hundreds of thousands is asked when it is read. A test holds the two against each other.
"""

import functools
import re
from collections.abc import Mapping
from typing import Any, NotRequired, TypeAlias, TypedDict, TypeGuard

from tutti.datasets.record import SPLITS, Decibels, Lufs, Seconds

LabelEntry: TypeAlias = list[Any]  # [presence, confidence, origin]


class AudioEntry(TypedDict):
    """Facts of a clip's audio; see manifests/README.md."""

    pcm_sha256: str
    native_sha256: str
    source_sha256: str
    sketch: NotRequired[str]  # earlier versions have none
    sample_rate: int
    num_samples: int
    native_sample_rate: int
    codec: str
    decoder: str
    loudness_lufs: Lufs | None
    gain_db: Decibels
    true_peak_dbtp: Decibels | None
    silence_share: float


class AlignmentEntry(TypedDict):
    """Delay of a recording against its score."""

    delay_s: Seconds
    score: float


class TrackEntry(TypedDict):
    """Place of a clip in a song; what is not known is left out."""

    song: str
    stem: NotRequired[str]  # not of a mix
    instrument: NotRequired[str]
    family: NotRequired[str]
    artist: NotRequired[str]
    artist_group: NotRequired[str]
    album: NotRequired[str]
    bleed: NotRequired[bool]


class ClipRow(TypedDict):
    """One clip, kept or not, as a manifest says; see manifests/README.md."""

    id: str
    source: str
    recording: str
    group: str
    partition: str
    start_s: Seconds
    end_s: NotRequired[Seconds]
    license: str
    acquired: NotRequired[str]
    quality: NotRequired[float]
    labels: dict[str, LabelEntry]  # by instrument
    audio: NotRequired[AudioEntry]  # of every kept clip
    gap_s: NotRequired[Seconds]  # of silence where the container has no sound; left out: none
    num_notes: NotRequired[int]
    score_repairs: NotRequired[int]  # left out: none
    notes_sha256: NotRequired[str]
    track: NotRequired[TrackEntry]
    track_sha256: NotRequired[str]
    alignment: NotRequired[AlignmentEntry]
    status: str  # "kept", "rejected", "gone", "pending"
    split: NotRequired[str]  # of kept clips
    stage: NotRequired[str]  # of the others, as all that follows
    reason: NotRequired[str]
    value: NotRequired[float]
    detail: NotRequired[str]


MAX_TEXT = 1 << 16  # characters of an id, a name in a corpus, a licence, an explanation
MAX_LABELS = 10_000
_MAX_NUMBER, _MAX_COUNT, _MAX_SECONDS, _MAX_DECIBELS, _MAX_RATE = 10**15, 10**15, 10**9, 1_000, 10**7
_MAX_SAMPLES, _MAX_CODEC = 1 << 32, 100

_is_id = re.compile(r"[a-z0-9_]{1,100}/.+@[0-9]{1,15}", re.DOTALL).fullmatch
_is_word = re.compile(r"[a-z][a-z0-9_]{0,99}(:[a-z][a-z0-9_ ]{0,99})?").fullmatch
_is_stage = re.compile(r"[a-z][a-z0-9_ ]{0,99}").fullmatch
_is_digest, _is_short, _is_sketch = (re.compile(f"[0-9a-f]{{{digits}}}").fullmatch for digits in (64, 32, 16))

_ALWAYS = frozenset(("id", "source", "recording", "group", "partition", "start_s", "license", "labels", "status"))
_ANY = _ALWAYS | {
    "end_s",
    "acquired",
    "quality",
    "audio",
    "gap_s",
    "num_notes",
    "score_repairs",
    "notes_sha256",
    "alignment",
    "track",
    "track_sha256",
}
_KEPT = _ALWAYS | {"split", "audio"}
_KEPT_ANY = _ANY | {"split"}
_OTHER = _ALWAYS | {"stage", "reason"}
_OTHER_ANY = _ANY | {"stage", "reason", "value", "detail"}
_LOST = ("rejected", "gone", "pending")
_ACQUIRED = ("archive", "mirror", "full", "section", "own", "rendered", "sum")
_AUDIO = frozenset((
    "pcm_sha256", "native_sha256", "source_sha256", "sample_rate", "num_samples", "native_sample_rate", "codec",
    "decoder", "loudness_lufs", "gain_db", "true_peak_dbtp", "silence_share",
))  # fmt: skip
_AUDIO_ANY = _AUDIO | {"sketch"}
_TRACK = frozenset(TrackEntry.__annotations__)
_NO_SKETCH = "0" * 16
_DECODERS = ("libsndfile", "pyav")


def fits(row: Mapping[str, Any]) -> TypeGuard[ClipRow]:
    """Whether a row keeps to the schema; whatever JSON it holds."""
    keys = row.keys()
    if row.get("status") == "kept":
        if not _KEPT <= keys <= _KEPT_ANY or row["split"] not in SPLITS:
            return False
    elif not (
        row.get("status") in _LOST
        and _OTHER <= keys <= _OTHER_ANY
        and type(row["stage"]) is str
        and type(row["reason"]) is str
        and _is_stage(row["stage"])
        and _is_word(row["reason"])
        and ("value" not in row or _number(row["value"], -_MAX_NUMBER, _MAX_NUMBER))
        and ("detail" not in row or _text(row["detail"]))
    ):
        return False
    return (
        _text(row["id"])
        and _is_id(row["id"]) is not None
        and _name(row["source"])
        and _text(row["recording"])
        and _text(row["group"])
        and _text(row["partition"])
        and _text(row["license"])
        and _number(row["start_s"], 0, _MAX_SECONDS)
        and ("end_s" not in row or _number(row["end_s"], 0, _MAX_SECONDS))
        and ("quality" not in row or _number(row["quality"], 0, 1))
        and ("acquired" not in row or row["acquired"] in _ACQUIRED)
        and ("audio" not in row or _fits_audio(row["audio"]))
        and ("notes_sha256" not in row or _digest(row["notes_sha256"]))
        and ("gap_s" not in row or _number(row["gap_s"], 0, _MAX_SECONDS))
        and ("num_notes" not in row or _count(row["num_notes"], 0, _MAX_COUNT))
        and ("score_repairs" not in row or _count(row["score_repairs"], 0, _MAX_COUNT))
        and ("track_sha256" not in row or _digest(row["track_sha256"]))
        and ("track" not in row or _fits_track(row["track"]))
        and ("alignment" not in row or _fits_alignment(row["alignment"]))
        and _fit_labels(row["labels"])
    )


def _fits_audio(audio: Any) -> bool:
    if type(audio) is not dict or not _AUDIO <= audio.keys() <= _AUDIO_ANY:
        return False
    pcm, native, source, sketch = (
        audio["pcm_sha256"], audio["native_sha256"], audio["source_sha256"], audio.get("sketch", _NO_SKETCH)
    )  # fmt: skip
    codec, loudness, peak = audio["codec"], audio["loudness_lufs"], audio["true_peak_dbtp"]
    return (
        type(pcm) is type(native) is type(source) is type(sketch) is type(codec) is str
        and _is_digest(pcm) is not None
        and _is_short(native) is not None
        and _is_short(source) is not None
        and _is_sketch(sketch) is not None
        and 0 < len(codec) <= _MAX_CODEC
        and audio["decoder"] in _DECODERS
        and type(audio["sample_rate"]) is type(audio["num_samples"]) is type(audio["native_sample_rate"]) is int
        and 0 < audio["sample_rate"] <= _MAX_RATE
        and 0 <= audio["num_samples"] <= _MAX_SAMPLES
        and 0 < audio["native_sample_rate"] <= _MAX_RATE
        and _number(audio["gain_db"], -_MAX_DECIBELS, _MAX_DECIBELS)
        and (loudness is None or _number(loudness, -_MAX_DECIBELS, _MAX_DECIBELS))
        and (peak is None or _number(peak, -_MAX_DECIBELS, _MAX_DECIBELS))
        and _number(audio["silence_share"], 0, 1)
    )


def _fits_track(track: Any) -> bool:
    return (
        type(track) is dict
        and "song" in track
        and track.keys() <= _TRACK
        and all(value is True if name == "bleed" else _text(value) for name, value in track.items())
    )


def _fits_alignment(alignment: Any) -> bool:
    return (
        type(alignment) is dict
        and alignment.keys() == {"delay_s", "score"}
        and _number(alignment["delay_s"], -_MAX_NUMBER, _MAX_NUMBER)
        and _number(alignment["score"], -1, 1)
    )


def _fit_labels(labels: Any) -> bool:
    if type(labels) is not dict or len(labels) > MAX_LABELS:
        return False
    for name, label in labels.items():
        if type(label) is not list or len(label) != 3:
            return False
        presence, confidence, origin = label
        if type(presence) is not int or not 0 <= presence <= 1 or type(origin) is not str:
            return False
        if not _is_name(name) or not _is_origin(origin):
            return False
        if confidence is not None and not _number(confidence, 0, 1):
            return False
    return True


def _number(value: Any, least: float, most: float) -> bool:
    return (type(value) is float or type(value) is int) and least <= value <= most  # NaN and infinities fail


def _count(value: Any, least: int, most: int) -> bool:
    return type(value) is int and least <= value <= most


def _text(value: Any) -> bool:
    return type(value) is str and 0 < len(value) <= MAX_TEXT


def _digest(value: Any) -> bool:
    return type(value) is str and _is_digest(value) is not None


def _name(value: Any) -> bool:
    return type(value) is str and _is_name(value) is not None


# The same few come again and again: a regular expression costs five times the look-up.
_is_name = functools.lru_cache(1 << 14)(re.compile(r"[a-z0-9_]{1,100}").fullmatch)
_is_origin = functools.lru_cache(1 << 10)(re.compile(r"human|crowd|weak|score|pseudo:[A-Za-z0-9._-]{1,100}").fullmatch)
